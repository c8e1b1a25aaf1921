"""Early stopping: train until held-out triples no longer rank better, and keep the best vectors.

PyKEEN's own stopper sweeps the whole evaluation at every check, judges by a relative change that can stop a training
that still improves, and keeps its best model in a file that can run code; so it is not used.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


class EarlyStopping:
    """Judge the vectors every few epochs; stop when `patience` checks in a row bring nothing better.

    Args:
        patience: checks without a better score that are put up with; 0: never judge, never stop.
        every: epochs between two checks.
        judge: the score of vectors of concepts and relations on held-out triples; higher is better.
    """

    def __init__(self, patience: int, every: int, judge: Callable[[Vectors, Vectors], float] | None) -> None:
        self._judge = judge if patience else None
        self._patience, self._every = patience, every
        self.checks: list[tuple[int, float]] = []
        self.best: list[NDArray[Any]] = []

    def due(self, epoch: int, last: bool) -> bool:
        """Whether it is time to judge."""
        return self._judge is not None and (last or epoch % self._every == 0)

    def check(self, epoch: int, tables: list[NDArray[Any]]) -> None:
        """Judge the vectors after an epoch, and keep them if they are the best so far."""
        if self._judge is None:
            return
        score = self._judge(*tables)
        if not self.checks or score > max(other for _, other in self.checks):
            self.best = [table.copy() for table in tables]
        self.checks.append((epoch, score))

    @property
    def stopped(self) -> bool:
        """Whether the last `patience` checks were all no better than one before them."""
        scores = [score for _, score in self.checks]
        return bool(self._patience and scores) and len(scores) - 1 - scores.index(max(scores)) >= self._patience
