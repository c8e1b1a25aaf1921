"""What decides the result of training, checked before the work begins."""

import math
from dataclasses import dataclass

from loaders.errors import MedgraftError

MODELS = ("TransE",)
LOSSES = ("margin", "nssa")
SAMPLERS = ("shared", "basic", "bernoulli")


@dataclass(frozen=True)
class Settings:
    """What decides the result of training, beside the triples."""

    model: str
    dim: int
    p: int
    loss: str
    margin: float
    negative_sampler: str
    num_negatives: int
    epochs: int
    batch_size: int
    learning_rate: float
    seed: int

    def check(self) -> None:
        """Refuse what cannot be trained.

        Raises:
            MedgraftError: which argument, and what it may be.
        """
        for name, value, known in (
            ("model", self.model, MODELS),
            ("loss", self.loss, LOSSES),
            ("negative sampler", self.negative_sampler, SAMPLERS),
            ("norm", self.p, (1, 2)),
        ):
            if value not in known:
                raise MedgraftError(f"unknown {name} {value!r}; there is {', '.join(map(str, known))}")
        for name in ("dim", "num_negatives", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise MedgraftError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("learning_rate", "margin"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise MedgraftError(f"{name} is {getattr(self, name)}; it must be a positive number")
