"""Which of a graph's names mean most like a text: vectors of their spellings by an encoder, exact inner products.

The encoder is passed in (`fusion.NameVectors` is one), so that this package knows no language model. Vectors are kept
as float16 and mapped from disk; a search reads them once for all texts that are asked together.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kg.alias_index import Floats, Found, Names
from kg.nearest import MappedIndex
from loaders.errors import MedgraftError

Signals = tuple[tuple[str, float], ...]  # how a name was found, and how near it is


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


@dataclass(frozen=True, slots=True)
class Meant:
    """The spellings that mean most like a text, best first, and their cosines in (0, 1]."""

    names: Names
    scores: Floats
    cosines: Callable[[Names], Floats]
    """Of any spellings with the text; -2 where one has no vector."""


class VectorIndex:
    """Exact nearest spellings by vectors."""

    def __init__(self, arrays: AliasVectors, encode: NameEncoder) -> None:
        check_encoder(encode, arrays.encoder)
        self._spellings, self.encode = arrays.spellings, encode
        self._index = MappedIndex(arrays.vectors)

    def nearest(self, texts: Sequence[str], k: int) -> list[Meant]:
        """For each text its best `k` spellings."""
        if not texts:
            return []
        # Rounded like the names, so that the last bits, which depend on what is encoded beside, leave no trace.
        asked = self.encode([text.casefold() for text in texts]).astype(np.float16).astype(np.float32)
        rows, scores = self._index.search(asked, k)
        scores = _rounded(scores)
        return [
            Meant(self._spellings[found[of > 0]], of[of > 0], partial(self._cosines, vector))
            for vector, found, of in zip(asked, rows, scores, strict=True)
        ]

    def _cosines(self, vector: Floats, names: Names) -> Floats:
        rows = np.minimum(np.searchsorted(self._spellings, names), len(self._spellings) - 1)
        scores = _rounded(self._index.scores(vector[None], rows[None])[0])
        return np.where(self._spellings[rows] == names, scores, np.float32(-2))


def merged(spelled: Found, meant: Sequence[Meant]) -> tuple[Found, list[Signals]]:
    """Spellings that either side found for each text, and the signals of each.

    The score is the cosine of the vectors; of a spelling that has none, that of the 3-grams.
    """
    names: list[int] = []
    scores: list[float] = []
    starts = [0]
    signals: list[Signals] = []
    for (first, last), of_text in zip(pairwise(spelled.starts.tolist()), meant, strict=True):
        by_spelling = dict(zip(spelled.names[first:last].tolist(), spelled.scores[first:last].tolist(), strict=True))
        known = zip(by_spelling, of_text.cosines(spelled.names[first:last]).tolist(), strict=True)
        by_vector = {name: max(cosine, 0.0) for name, cosine in known if cosine > -2}
        by_vector |= zip(of_text.names.tolist(), of_text.scores.tolist(), strict=True)
        for name in by_spelling | by_vector:
            both = (("spelling", by_spelling.get(name)), ("vectors", by_vector.get(name)))
            signals.append(tuple((signal, round(score, 5)) for signal, score in both if score is not None))
            names.append(name)
            scores.append(signals[-1][-1][1])
        starts.append(len(names))
    return Found(np.array(names, np.int32), np.array(scores, np.float32), np.array(starts, np.int64)), signals


def _rounded(scores: Floats) -> Floats:
    return np.minimum(np.round(scores, 5), np.float32(1))
