"""How sure a linker is: the probability that the first candidate is right, and the threshold below which there is none.

A logistic regression on what the candidates look like (Platt 1999), fitted on development mentions whose concept is
known or known to be missing. It is a few numbers, saved with the linker.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loaders.errors import MedgraftError
from loaders.records import Candidate

FEATURES = ("one", "score", "equal", "margin", "letters", "symbol")
_RIDGE = 1e-2
_STEPS = 50


def features(text: str, candidates: Sequence[Candidate]) -> list[float]:
    """What a mention's candidates look like, in the order of `FEATURES`; all but the first are between 0 and 1."""
    if not candidates:
        return [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    score = candidates[0].score
    second = candidates[1].score if len(candidates) > 1 else 0.0
    return [
        1.0,
        score,
        float(score >= 1.0),
        max(score - second, 0.0),
        min(len(text), 20) / 20,
        float(text.isupper()),
    ]


@dataclass(frozen=True, slots=True)
class Confidence:
    """Weights of `FEATURES`, and the probability from which a link is given.

    Attributes:
        weights: One a feature; empty if never fitted: the probability is then the score of the first candidate.
        threshold: Mentions below it are NIL.
    """

    weights: tuple[float, ...] = ()
    threshold: float = 0.0

    def probability(self, text: str, candidates: Sequence[Candidate]) -> float:
        """The probability that the first candidate is right; 0.0 if there is none."""
        if not candidates:
            return 0.0
        if not self.weights:
            return candidates[0].score
        return float(_sigmoid(np.dot(features(text, candidates), self.weights)))


def fit(texts: Sequence[str], found: Sequence[Sequence[Candidate]], gold: Sequence[str | None]) -> Confidence:
    """Calibrate on mentions with their candidates and right concepts (None: not in the graph; `A|B`: either).

    The threshold is the one of the best F1 of linking, counting a NIL mention that is linked as a false link.

    Raises:
        MedgraftError: there are no mentions, or all first candidates are right, or none is.
    """
    right = np.array([is_right(c, g) for c, g in zip(found, gold, strict=True)], bool)
    if not len(right) or right.all() or not right.any():
        raise MedgraftError("calibration needs mentions that are linked rightly and some that are not; give more")
    x = np.array([features(text, candidates) for text, candidates in zip(texts, found, strict=True)])
    weights = _logistic(x, right)
    confidence = Confidence(tuple(float(w) for w in weights))
    p = np.array([confidence.probability(text, c) for text, c in zip(texts, found, strict=True)])
    return Confidence(confidence.weights, _best_threshold(p, right, sum(g is not None for g in gold)))


def is_right(candidates: Sequence[Candidate], gold: str | None) -> bool:
    """Whether the first candidate is the concept, or one of them where there are several (`A|B`)."""
    return bool(candidates) and gold is not None and candidates[0].concept_id in gold.split("|")


def calibration_error(probabilities: Sequence[float], right: Sequence[bool], bins: int = 10) -> float:
    """Expected calibration error over bins of equal width (Guo et al. 2017): 0 is perfect."""
    p, y = np.asarray(probabilities, float), np.asarray(right, float)
    place = np.minimum((p * bins).astype(int), bins - 1)
    gaps = [
        abs(p[place == b].mean() - y[place == b].mean()) * (place == b).mean()
        for b in range(bins)
        if (place == b).any()
    ]
    return float(sum(gaps))


def _sigmoid(z: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-np.clip(z, -30, 30)))


def _logistic(x: NDArray[np.float64], y: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Newton's method with a little ridge."""
    weights = np.zeros(x.shape[1])
    for _ in range(_STEPS):
        p = _sigmoid(x @ weights)
        gradient = x.T @ (p - y) + _RIDGE * weights
        hessian = (x * (p * (1 - p))[:, None]).T @ x + _RIDGE * np.eye(x.shape[1])
        step = np.linalg.solve(hessian, gradient)
        weights -= step
        if np.abs(step).max() < 1e-9:
            break
    return weights


def _best_threshold(p: NDArray[np.float64], right: NDArray[np.bool_], wanted: int) -> float:
    order = np.argsort(-p, kind="stable")
    correct = np.cumsum(right[order])
    f1 = 2 * correct / (np.arange(1, len(p) + 1) + wanted)
    last = np.append(p[order][1:] < p[order][:-1], True)  # a threshold cannot part equal probabilities
    best = int(np.argmax(np.where(last, f1, -1)))
    return float(p[order][best])
