"""What a difference between two arms is worth: paired test over documents, intervals over seeds and documents, Holm.

Counts are arrays (S, D, 3): for each of S seeds and D documents how many answers are gold, predicted and correct.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
_CHUNK = 1000  # draws at once


@dataclass(frozen=True)
class Difference:
    """Mean F1 of the one minus mean F1 of the other, its 95 % interval, and the p of there being none."""

    value: float
    low: float
    high: float
    p: float


def f1(counts: Counts | NDArray[np.float64]) -> NDArray[np.float64]:
    """F1 from counts (..., 3)."""
    gold, predicted, correct = np.moveaxis(counts, -1, 0)
    scores: NDArray[np.float64] = 2 * correct / np.maximum(gold + predicted, 1)
    return scores


def difference(ours: Counts, theirs: Counts, *, draws: int = 10_000) -> Difference:
    """Compare two arms of the same seeds and documents."""
    low, high = bootstrap_interval(ours, theirs, draws=max(draws // 5, 1))
    value = float((f1(ours.sum(axis=1)) - f1(theirs.sum(axis=1))).mean())
    return Difference(value, low, high, randomisation_p(ours, theirs, draws=draws))


def randomisation_p(ours: Counts, theirs: Counts, *, draws: int = 10_000) -> float:
    """Two-sided p by approximate randomisation paired by document (Noreen, 1989).

    The two arms' counts of a document change sides with probability one half, for all seeds together; p is the share
    of draws, the observed one among them, whose difference is at least as large.
    """
    observed = abs((f1(ours.sum(axis=1)) - f1(theirs.sum(axis=1))).mean())
    generator = np.random.default_rng(0)
    seeds, documents, _ = ours.shape
    gap = (ours - theirs).transpose(1, 0, 2).reshape(documents, -1).astype(np.float64)
    total, base = ours.sum(axis=1), theirs.sum(axis=1)
    extreme = 0
    for start in range(0, draws, _CHUNK):
        swap = generator.integers(0, 2, (min(_CHUNK, draws - start), documents)).astype(np.float64)
        moved = (swap @ gap).reshape(-1, seeds, 3)
        found = abs((f1(total - moved) - f1(base + moved)).mean(axis=1))
        extreme += int((found >= observed - 1e-12).sum())
    return (extreme + 1) / (draws + 1)


def bootstrap_interval(ours: Counts, theirs: Counts, *, draws: int = 2000) -> tuple[float, float]:
    """95 % interval of the difference by a hierarchical bootstrap: seeds are drawn anew, and documents within them."""
    generator = np.random.default_rng(0)
    seeds, documents, _ = ours.shape
    both = np.concatenate([ours, theirs], axis=2).transpose(1, 0, 2).reshape(documents, -1).astype(np.float64)
    found = []
    for start in range(0, draws, _CHUNK):
        count = min(_CHUNK, draws - start)
        weights = generator.multinomial(documents, np.full(documents, 1 / documents), count).astype(np.float64)
        sums = (weights @ both).reshape(count, seeds, 2, 3)
        gaps = f1(sums[:, :, 0]) - f1(sums[:, :, 1])
        chosen = generator.integers(0, seeds, (count, seeds))
        found.append(np.take_along_axis(gaps, chosen, axis=1).mean(axis=1))
    low, high = np.quantile(np.concatenate(found), [0.025, 0.975])
    return float(low), float(high)


def holm(ps: Sequence[float]) -> list[float]:
    """The p values of several tests, corrected by Holm's step-down procedure (Holm, 1979), in their order."""
    corrected = [1.0] * len(ps)
    highest = 0.0
    for rank, place in enumerate(np.argsort(ps, kind="stable").tolist()):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[place]))
        corrected[place] = highest
    return corrected
