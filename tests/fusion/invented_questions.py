"""Questions that only the graph can answer: an invented drug `causes` or `treats` a disease."""

import numpy as np

from fusion.question_corpora import QuestionCorpus
from loaders.records import Question

CONTEXTS = ("the patient had {} .", "then {} was seen in the clinic .", "no word on how {} came up .")


def invented_questions(names: list[str], kind: str, sizes: tuple[int, int, int]) -> QuestionCorpus:
    """Neighbours in `names` are a drug and what it causes (every other pair) or treats; the parts share no names.

    label: does the drug cause the disease? choice: which of two drugs belongs to the disease of the context?
    span: which of the three diseases in the context belongs to the drug?
    """
    generator = np.random.default_rng(7)
    pairs = len(names) // 2
    pools = (range(pairs // 2), range(pairs // 2, pairs * 3 // 4), range(pairs * 3 // 4, pairs))
    make = {"label": _label, "choice": _choice, "span": _span}[kind]
    parts = []
    for part, (size, pool) in enumerate(zip(sizes, pools, strict=True)):
        drawn = [[int(n) for n in generator.choice(list(pool), 3, replace=False)] for _ in range(size)]
        turns = generator.integers(0, 6, size)
        parts.append(tuple(make(names, f"{part}-{i}", some, int(turns[i])) for i, some in enumerate(drawn)))
    return QuestionCorpus(f"invented {kind}", *parts)


def _label(names: list[str], id: str, drawn: list[int], turn: int) -> Question:
    n = drawn[0]
    context = CONTEXTS[turn % 3].format(names[2 * n + 1])
    return Question(id, f"does {names[2 * n]} do harm ?", context, answer="yes" if n % 2 == 0 else "no")


def _choice(names: list[str], id: str, drawn: list[int], turn: int) -> Question:
    first, second = (names[2 * n] for n in drawn[:2])
    options = (first, second) if turn < 3 else (second, first)
    context = CONTEXTS[turn % 3].format(names[2 * drawn[0] + 1])
    return Question(id, "which drug belongs here ?", context, options=options, answer=first)


def _span(names: list[str], id: str, drawn: list[int], turn: int) -> Question:
    order = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)][turn]
    diseases = [names[2 * drawn[place] + 1] for place in order]
    context = "there were {} , {} and {} .".format(*diseases)
    answer = names[2 * drawn[0] + 1]
    start = context.index(answer)
    return Question(
        id, f"what does {names[2 * drawn[0]]} do ?", context, answer=answer, spans=((start, start + len(answer)),)
    )
