"""What decides the result of training, checked before the work begins."""

import math
from dataclasses import dataclass

from kg.geometry import COMPLEX, MODELS
from loaders.errors import MedgraftError

# PyKEEN's names of its losses
LOSSES = ("marginranking", "nssa", "softplus", "bcewithlogits", "infonce")
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
    mixed_precision: bool = False
    patience: int = 0
    check_every: int = 1
    unit_norm: bool = False

    def check(self) -> None:
        """Refuse what cannot be trained.

        Raises:
            MedgraftError: which argument, and what it may be.
        """
        for name, value, known in (
            ("model", self.model, MODELS),
            ("loss", self.loss, LOSSES),
            ("negative sampler", self.negative_sampler, SAMPLERS),
            ("norm", self.p, (2,) if self.model in COMPLEX else (1, 2)),
        ):
            if value not in known:
                of_model = f" for {self.model}" if name == "norm" else ""
                raise MedgraftError(f"unknown {name} {value!r}{of_model}; there is {', '.join(map(str, known))}")
        for name in ("dim", "num_negatives", "epochs", "batch_size", "check_every"):
            if getattr(self, name) < 1:
                raise MedgraftError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.unit_norm and self.model in COMPLEX:
            raise MedgraftError(
                f"{self.model} has no unit_norm, which would tie its real and imaginary parts; leave it"
            )
        if self.patience < 0:
            raise MedgraftError(f"patience is {self.patience}; it must be 0 (no early stopping) or more")
        for name in ("learning_rate", "margin"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise MedgraftError(f"{name} is {getattr(self, name)}; it must be a positive number")
