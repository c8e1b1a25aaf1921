"""From the scores of windows to answers with probabilities: means for labels and options, the best span for spans.

Spans are sought in the whole context: every word has the scores of the one window that owns it, each taken against
"no answer" in that window, so that windows can be compared and no border cuts a span.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lm.alignment import words_of
from lm.answer_scores import token_f1
from lm.encoder import Array
from lm.questions import QuestionScheme, QuestionWindows, context_words
from loaders.records import Question

LONGEST = 100
"""Words of an answer."""
ALWAYS = -1e6
"""A threshold under which every question gets an answer."""


@dataclass(frozen=True)
class Votes:
    """What the windows of a question say together.

    `logits` are (L,) of the labels or (O,) of the options; for spans (W, 2) of beginning and end at the W words that
    the windows hold, against no answer, whose logit is 0. `words` (W,) are these words' numbers in the context,
    ascending, and `spans` (W, 2) their characters in it.
    """

    logits: Array
    words: Array
    spans: Array


def votes_of(scheme: QuestionScheme, read: QuestionWindows, number: int, scores: Sequence[Array]) -> Votes:
    """The votes on question `number`, from the raw scores of the windows of its passage, in their order."""
    windows = read.passages[number].windows
    none = np.zeros(0, dtype=np.int64), np.zeros((0, 2), dtype=np.int64)
    if scheme.kind == "label":
        return Votes(np.mean(np.stack(scores), axis=0), *none)
    if scheme.kind == "choice":
        readings = range(read.first[number], read.first[number] + read.count[number])
        means = [np.mean([s[0] for s, w in zip(scores, windows, strict=True) if w.document == r]) for r in readings]
        return Votes(np.array(means), *none)
    moved = len(read.texts[read.first[number]][0]) + 1
    owned = [np.flatnonzero(window.owned_first & context_words(window, moved - 1)) for window in windows]
    # Against no answer, which is what the first piece stands for.
    logits = [(s[places] - s[0]).astype(np.float64) for s, places in zip(scores, owned, strict=True)]
    words = np.concatenate([window.words[places] for window, places in zip(windows, owned, strict=True)])
    return Votes(np.concatenate(logits), words, windows[0].word_spans[words] - moved)


def answer_of(
    scheme: QuestionScheme, question: Question, votes: Votes, *, temperature: float = 1.0, threshold: float = ALWAYS
) -> Question:
    """The question with the answer that the votes give, and its probability as `score`.

    A span is answered if its logit is at least `threshold`; `score` is else the probability that there is no answer.
    """
    bare = replace(question, answer=None, spans=(), score=None)
    if scheme.kind != "span":
        probabilities = softmax(votes.logits / temperature)
        best = int(probabilities.argmax())
        names = scheme.labels if scheme.kind == "label" else question.options
        return replace(bare, answer=names[best], score=float(probabilities[best]))
    logit, (i, j), total = best_span(votes, temperature)
    if logit < threshold or i == j:
        return replace(bare, answer="", score=float(np.exp(-total)))
    start, end = int(votes.spans[i, 0]), int(votes.spans[j - 1, 1])
    score = float(np.exp(logit / temperature - total))
    return replace(bare, answer=question.context[start:end], spans=((start, end),), score=score)


def probability_of(scheme: QuestionScheme, answered: Question, votes: Votes, temperature: float = 1.0) -> float:
    """The probability that the votes give to the answer of a question."""
    if scheme.kind != "span":
        names = scheme.labels if scheme.kind == "label" else answered.options
        return float(softmax(votes.logits / temperature)[names.index(answered.answer or "")])
    logit = _logit_of(answered, votes)
    return 0.0 if logit is None else float(np.exp(logit / temperature - best_span(votes, temperature)[2]))


def best_span(votes: Votes, temperature: float = 1.0, longest: int = LONGEST) -> tuple[float, tuple[int, int], float]:
    """Logit and words [i, j) of the best span of up to `longest` words, and the logarithm of the sum over all spans.

    The sum is of exp(logit / temperature) over every span, and 1 for no answer. Exact, in W * longest steps. The
    windows may leave gaps: a span never runs over one.
    """
    begin, end = votes.logits[:, 0], votes.logits[:, 1]
    best, found, sums = -np.inf, (0, 0), [0.0]
    for length in range(1, min(longest, len(begin)) + 1):
        last = len(begin) - length + 1
        whole = votes.words[length - 1 :] - votes.words[:last] == length - 1
        logits = np.where(whole, begin[:last] + end[length - 1 :], -np.inf)
        n = int(logits.argmax())
        if logits[n] > best:
            best, found = float(logits[n]), (n, n + length)
        sums.append(_log_sum(logits / temperature))
    return best, found, _log_sum(np.array(sums))


def best_answer_threshold(gold: Sequence[Question], votes: Sequence[Votes]) -> float:
    """The logit at and above which answering gives the best token F1; `ALWAYS` if every question has an answer."""
    if all(q.spans for q in gold):
        return ALWAYS
    scheme = QuestionScheme("span")
    logits = np.array([best_span(some)[0] for some in votes])
    answered = np.array([token_f1(q, answer_of(scheme, q, some)) for q, some in zip(gold, votes, strict=True)])
    unanswered = np.array([float(not q.spans) for q in gold])
    order = np.argsort(-logits, kind="stable")
    totals = unanswered.sum() + np.cumsum(np.concatenate([[0.0], (answered - unanswered)[order]]))
    # Equal logits are answered together: only the last of them can be the border.
    borders = np.concatenate([[np.inf], logits[order], [-np.inf]])
    possible = borders[:-1] != borders[1:]
    count = int(np.argmax(np.where(possible, totals, -1)))
    if count == len(order):
        return ALWAYS
    above = borders[count] if count else borders[1] + 2
    return float((above + borders[count + 1]) / 2)


def span_loss(gold: Sequence[Question], votes: Sequence[Votes]) -> Callable[[float], float]:
    """The mean negative log probability of the first gold answers, or of none, as a function of the temperature.

    A question whose answer the votes cannot give (its words are not in the windows, or too many) does not count.
    """
    wanted = [(some, _logit_of(question, some)) for question, some in zip(gold, votes, strict=True)]
    possible = [(some, logit) for some, logit in wanted if logit is not None]

    def loss(temperature: float) -> float:
        totals = [best_span(some, temperature)[2] - logit / temperature for some, logit in possible]
        return sum(totals) / max(len(totals), 1)

    return loss


def _logit_of(question: Question, votes: Votes) -> float | None:
    if not question.spans:
        return 0.0
    i, j = words_of(votes.spans, *question.spans[0])
    if not 0 < j - i <= LONGEST or votes.words[j - 1] - votes.words[i] != j - 1 - i:
        return None
    return float(votes.logits[i, 0] + votes.logits[j - 1, 1])


def softmax(logits: Array) -> Array:
    """Probabilities of logits (N,)."""
    powers = np.exp(logits - logits.max())
    probabilities: Array = powers / powers.sum()
    return probabilities


def _log_sum(logits: Array) -> float:
    top = logits.max()
    return float(top + np.log(np.exp(logits - top).sum())) if np.isfinite(top) else -np.inf
