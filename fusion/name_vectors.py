"""Vectors of names by an encoder, for a linker's second index: `kg.Linker.build(graph, vectors=NameVectors(...))`."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from kg.nearest import unit
from lm.encoder import Array, Encoder, resolve_device
from lm.vectors import fast_precision, text_vectors

_CHUNK = 50_000  # names that are cut into pieces at a time
_PIECES = 32  # of a name that are read


class NameVectors:
    """Makes vectors of names, of length 1: the mean of the encoder's last hidden states.

    It wants an encoder whose vectors can be compared: a sentence encoder, or better one that `fusion.train_names` made.

    Args:
        encoder: Hugging Face model folder or name in the local cache, or a loaded encoder.
        precision: in which an index is encoded: "no" for float32, "bf16", or "auto" for bf16 where the device has
            matrix units for it. The texts that are looked for are always encoded in float32.
        device: "auto", "cpu", "cuda" or "mps".
        progress: show a bar on stderr, if it is a terminal, while an index is encoded.
    """

    def __init__(
        self, encoder: str | Path | Encoder, *, precision: str = "auto", device: str = "auto", progress: bool = True
    ) -> None:
        self.encoder = encoder if isinstance(encoder, Encoder) else Encoder.load(encoder)
        self.encoder.to(resolve_device(device))
        self.precision = fast_precision(self.encoder.device) if precision == "auto" else precision
        self.progress = progress

    @cached_property
    def fingerprint(self) -> str:
        """Equal for encoders that make the same vectors."""
        return self.encoder.digest(self.encoder.num_blocks)

    def __call__(self, names: Sequence[str], *, bulk: bool = False) -> Array:
        """Vectors (N, d), float32, of names; 0 for an empty one. `bulk` for an index of many."""
        found = np.zeros((len(names), self.encoder.hidden_size), np.float32)
        for start in range(0, len(names), _CHUNK):
            some = names[start : start + _CHUNK]
            made = text_vectors(
                self.encoder, some, bulk and self.progress, max_pieces=_PIECES,
                precision=self.precision if bulk else "no",
            )  # fmt: skip
            found[start : start + _CHUNK] = unit(made)
        return found
