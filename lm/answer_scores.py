"""Score predicted answers against gold ones: accuracy and macro F1, or exact match and F1 over words.

Exact match and token F1 are those of SQuAD (Rajpurkar et al., 2016): both sides in lower case, without punctuation,
articles and surplus space, against whichever gold answer fits best. Without a gold answer only "no answer" is right.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sklearn.metrics import f1_score

from lm.evaluation import check_same
from lm.tallies import Tally, class_tally, mean_tally
from loaders.errors import MedgraftError
from loaders.records import Question

_ARTICLE = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True)
class AnswerScores:
    """Scores from 0 to 1 over `questions`; `measures` has accuracy and macro_f1, or exact_match and token_f1."""

    questions: int
    measures: dict[str, float]

    @property
    def f1(self) -> float:
        """What counts: macro F1 of labels, accuracy of choices, token F1 of spans."""
        return next(self.measures[name] for name in ("token_f1", "macro_f1", "accuracy") if name in self.measures)

    def as_dict(self) -> dict[str, Any]:
        return {"questions": self.questions, **self.measures}

    def __str__(self) -> str:
        return "\n".join(f"{name:12} {value:7.2%}" for name, value in self.measures.items()) + (
            f"\n{'questions':12} {self.questions:7}"
        )


def evaluate_answers(gold: Sequence[Question], predicted: Sequence[Question]) -> AnswerScores:
    """Accuracy and, for labels, macro F1 over the gold labels; exact match and token F1 for spans.

    Raises:
        MedgraftError: the two sides are not the same questions, or a gold question has no answer to compare with.
    """
    check_same(gold, predicted)
    unknown = next((q.id for q in gold if q.answer is None and not q.spans), None)
    if unknown is not None:
        raise MedgraftError(f"question {unknown!r} has no gold answer to score against; annotate it or leave it out")
    by_id = {q.id: q for q in predicted}
    pairs = [(q, by_id[q.id]) for q in gold]
    if any(q.spans or q.answer == "" for q in gold):
        measures = {"exact_match": _mean([exact_match(*p) for p in pairs])}
        return AnswerScores(len(pairs), measures | {"token_f1": _mean([token_f1(*p) for p in pairs])})
    measures = {"accuracy": _mean([float(q.answer == p.answer) for q, p in pairs])}
    if pairs and not any(q.options for q in gold):
        labels = sorted({q.answer or "" for q in gold})
        wanted, found = [q.answer for q, _ in pairs], [p.answer for _, p in pairs]
        score = f1_score(wanted, found, labels=labels, average="macro", zero_division=0.0)
        measures["macro_f1"] = float(score)
    return AnswerScores(len(pairs), measures)


def answer_tally(gold: Sequence[Question], predicted: Sequence[Question]) -> Tally:
    """The same measures as sums over the questions, whose order is that of both sides."""
    pairs = list(zip(gold, predicted, strict=True))
    if any(q.spans or q.answer == "" for q in gold):
        return mean_tally({"exact_match": [exact_match(*p) for p in pairs], "token_f1": [token_f1(*p) for p in pairs]})
    if any(q.options for q in gold):
        return mean_tally({"accuracy": [float(q.answer == p.answer) for q, p in pairs]})
    wanted, found = [q.answer or "" for q, _ in pairs], [p.answer or "" for _, p in pairs]
    return class_tally(wanted, found, sorted({*wanted, *found}))


def correct(gold: Question, predicted: Question) -> bool:
    """Whether an answer is right: the same label or option, for spans an exact match."""
    if gold.spans or gold.answer == "":
        return bool(exact_match(gold, predicted))
    return gold.answer == predicted.answer


def exact_match(gold: Question, predicted: Question) -> float:
    """1 if the normalised answers are equal."""
    words = normalised(predicted.answer or "")
    return float(any(words == normalised(text) for text in _texts(gold)))


def token_f1(gold: Question, predicted: Question) -> float:
    """F1 of the normalised answers as bags of words, with the gold answer that fits best."""
    return max(_overlap(normalised(text), normalised(predicted.answer or "")) for text in _texts(gold))


def answer_keys(question: Question) -> list[tuple[str, int]]:
    """The answer as things to be counted: its label or option; of a span its words, each with its occurrence."""
    if not question.spans:
        return [(question.answer or "", 0)]
    seen: Counter[str] = Counter()
    keys = []
    for word in normalised(question.answer or ""):
        keys.append((word, seen[word]))
        seen[word] += 1
    return keys


def normalised(text: str) -> list[str]:
    """The words that count."""
    return _ARTICLE.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def _texts(gold: Question) -> list[str]:
    return [gold.context[start:end] for start, end in gold.spans] or [gold.answer or ""]


def _overlap(wanted: list[str], found: list[str]) -> float:
    if not wanted or not found:
        return float(wanted == found)
    common = sum((Counter(wanted) & Counter(found)).values())
    return 2 * common / (len(wanted) + len(found))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
