"""Which of a graph's names mean most like a text: vectors of their spellings by an encoder, exact inner products.

The encoder is passed in (`fusion.NameVectors` is one), so that this package knows no language model. Vectors are kept
as float16 and mapped from disk; a search reads them once for all texts that are asked together.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kg.nearest import MappedIndex
from loaders.errors import MedgraftError

Names = NDArray[np.int32]
Floats = NDArray[np.float32]


class NameEncoder(Protocol):
    """Makes vectors of names.

    Attributes:
        fingerprint: Differs between encoders that make different vectors.
    """

    @property
    def fingerprint(self) -> str: ...

    def __call__(self, names: Sequence[str], *, bulk: bool = False) -> Floats:
        """Vectors (N, d) of length 1, or 0 for a text without any; `bulk` for an index: speed before the last digit."""
        ...


@dataclass(frozen=True, slots=True)
class AliasVectors:
    """Vectors of spellings at rest.

    Attributes:
        encoder: Fingerprint of the encoder that made them.
        types: Of the concepts whose names have vectors; None for all.
        spellings: The spellings that have one, ascending, (N,).
        vectors: (N, d) float16.
    """

    encoder: str
    types: list[str] | None
    spellings: Names
    vectors: NDArray[np.float16]


def encode_spellings(
    names: pa.Array,
    wanted: Names,
    encode: NameEncoder,
    types: list[str] | None,
    known: tuple[pa.Array, AliasVectors] | None = None,
) -> AliasVectors:
    """Vectors of the wanted ones among the spellings.

    Args:
        names: All spellings.
        wanted: Places in `names`, ascending.
        encode: The encoder.
        types: Kept with the vectors.
        known: Vectors that the same encoder made before, and the spellings that they are of: these are not made anew.

    Raises:
        MedgraftError: the known vectors are another encoder's.
    """
    import pyarrow.compute as pc

    spellings = names.take(pa.array(wanted))
    old = np.full(len(wanted), -1, np.int64)
    if known is not None:
        check_encoder(encode, known[1].encoder)
        old = pc.index_in(spellings, known[0]).fill_null(-1).to_numpy().astype(np.int64)
    new = np.flatnonzero(old < 0)
    made = encode(spellings.take(pa.array(new)).to_pylist(), bulk=True).astype(np.float16)
    if known is None:
        return AliasVectors(encode.fingerprint, types, wanted, made)
    vectors = np.empty((len(wanted), known[1].vectors.shape[1]), np.float16)
    vectors[new] = made
    vectors[old >= 0] = known[1].vectors[old[old >= 0]]
    return AliasVectors(encode.fingerprint, types, wanted, vectors)


def check_encoder(encode: NameEncoder, fingerprint: str) -> None:
    """Raises a MedgraftError if it is another encoder than the one of that fingerprint."""
    if encode.fingerprint != fingerprint:
        raise MedgraftError(
            f"the linker's vectors are of encoder {fingerprint[:12]}, this is encoder {encode.fingerprint[:12]}; give "
            "that one, or build the linker again with Linker.build(graph, vectors=...)"
        )


class VectorIndex:
    """Exact nearest spellings by vectors."""

    def __init__(self, arrays: AliasVectors, encode: NameEncoder) -> None:
        check_encoder(encode, arrays.encoder)
        self._arrays, self.encode = arrays, encode
        self._index = MappedIndex(arrays.vectors)

    def nearest(self, texts: Sequence[str], k: int) -> list[tuple[Names, Floats]]:
        """For each text its best `k` spellings, best first, and their cosines in (0, 1]."""
        if not texts:
            return []
        # Rounded like the names, so that the last bits, which depend on what is encoded beside, leave no trace.
        asked = self.encode([text.casefold() for text in texts]).astype(np.float16).astype(np.float32)
        rows, scores = self._index.search(asked, k)
        scores = np.minimum(np.round(scores, 5), np.float32(1))
        return [
            (self._arrays.spellings[found[good]], of[good])
            for found, of in zip(rows, scores, strict=True)
            for good in (of > 0,)
        ]


def merged(
    spelled: tuple[Names, Floats], meant: tuple[Names, Floats] | None
) -> Iterator[tuple[int, float, tuple[tuple[str, float], ...]]]:
    """Spellings, each with its score and the signals of the sides that found it: the greater cosine is the score."""
    both: dict[int, list[tuple[str, float]]] = {}
    for signal, found in (("spelling", spelled), ("vectors", meant)):
        if found is not None:
            for name, score in zip(found[0].tolist(), found[1].tolist(), strict=True):
                both.setdefault(name, []).append((signal, round(score, 5)))
    for name, signals in both.items():
        yield name, max(score for _, score in signals), tuple(signals)
