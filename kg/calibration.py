"""From scores to probabilities: how often is an answer with such a score a fact?

A logistic function of the score (Platt, 1999), one for each side, fitted on held-out triples. Each held-out triple is a
question with one right answer; all other concepts that no known triple states as an answer count as wrong. The best
wrong answers are taken whole, the rest as a weighted sample, so that the share of right answers is the true one. What
is true but in no source counts as wrong: the probability is that of being held out, and so errs on the low side.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from kg.geometry import Side
from kg.triples import Triples
from loaders.errors import MedgraftError

if TYPE_CHECKING:
    from kg.vectors import Embeddings

_SIDES: tuple[Side, Side] = ("head", "tail")
_BEST, _SAMPLED = 50, 50  # wrong answers of a question: the best, and some of the rest
_BATCH = 64


@dataclass(frozen=True)
class Calibration:
    """probability = 1 / (1 + exp(-(slope * score + intercept))), for each side asked for."""

    slope: dict[str, float]
    intercept: dict[str, float]
    triples: int

    def probabilities(self, side: Side, scores: NDArray[np.float32]) -> NDArray[np.float64]:
        """Probabilities of answers by their scores, in the same shape."""
        raised = np.exp(-np.clip(self.slope[side] * scores.astype(np.float64) + self.intercept[side], -500, 500))
        return np.asarray(1 / (1 + raised))


def calibrate(
    embeddings: "Embeddings", dev: Triples, known: Sequence[Triples] = (), *, limit: int = 2000, seed: int = 0
) -> "Embeddings":
    """The same embeddings, with a calibration fitted on development triples.

    Args:
        embeddings: which have not seen the development triples.
        dev: an Arrow table with head, relation, tail, or integer rows of these, as the embeddings number them.
        known: further true triples, which do not count as wrong answers.
        limit: use a seeded sample of this many development triples.
        seed: of all samples.

    Raises:
        MedgraftError: if there are no development triples.
    """
    from sklearn.linear_model import LogisticRegression

    if len(dev) == 0:
        raise MedgraftError("no development triples to calibrate on; hold some out with split_triples(table, dev=1000)")
    slope: dict[str, float] = {}
    intercept: dict[str, float] = {}
    for side in _SIDES:
        scores, right, weights = answers(embeddings, side, dev, known, limit=limit, seed=seed)
        center, scale = float(scores.mean()), float(scores.std()) or 1.0
        fitted = LogisticRegression(C=1e6, max_iter=1000).fit((scores[:, None] - center) / scale, right, weights)
        slope[side] = float(fitted.coef_[0, 0]) / scale
        intercept[side] = float(fitted.intercept_[0]) - slope[side] * center
    return replace(embeddings, calibration=Calibration(slope, intercept, min(limit, len(dev))))


def answers(
    embeddings: "Embeddings", side: Side, dev: Triples, known: Sequence[Triples], *, limit: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.float64]]:
    """Scores of answers to the questions of held-out triples, whether each is right, and how many it stands for."""
    from kg.ranking import FactIndex

    rng = np.random.default_rng(seed)
    truth = embeddings.rows_of(dev)
    index = FactIndex(np.concatenate([truth, *(embeddings.rows_of(table) for table in known)]), side)
    asked = truth[rng.permutation(len(truth))[:limit]]
    given, answer = (0, 2) if side == "tail" else (2, 0)
    scores: list[NDArray[np.float32]] = []
    right: list[bool] = []
    weights: list[float] = []
    for start in range(0, len(asked), _BATCH):
        batch = asked[start : start + _BATCH]
        all_scores = embeddings.score_all(side, batch[:, given], batch[:, 1])
        of_right = all_scores[torch.arange(len(batch)), torch.from_numpy(batch[:, answer].copy())].numpy()
        questions, facts = index.answers(batch[:, given], batch[:, 1])
        all_scores[torch.from_numpy(questions), torch.from_numpy(facts)] = -torch.inf
        for row, true_score in zip(all_scores.numpy(), of_right, strict=True):
            wrong = row[np.isfinite(row)]
            best = min(_BEST, len(wrong))
            if len(wrong) > best:
                wrong.partition(len(wrong) - best)
            rest = wrong[: len(wrong) - best]
            drawn = rng.choice(rest, min(_SAMPLED, len(rest)), replace=False)
            # A copy: a view would keep the scores of all concepts in memory.
            scores += [true_score[None], wrong[len(rest) :].copy(), drawn]
            right += [True] + [False] * (best + len(drawn))
            weights += [1.0] * (1 + best) + [len(rest) / max(len(drawn), 1)] * len(drawn)
    return np.concatenate(scores).astype(np.float64), np.array(right), np.array(weights)
