"""Which of a graph's names are spelled most like a text: character 3-grams, inverse document frequency, exact top k.

The vectors are scispaCy's (3-grams within words, TF-IDF, unit length), except that every 3-gram is kept, however rare,
and counts once a name. What is found is exact, and does not depend on a batch; `kg.alias_search` has the loop.

All arrays may be mapped from disk; there is no Python object for a name.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

MAX_LETTERS = 500  # letters of a text that are compared
CHUNK = 200_000  # names that are cut into 3-grams at a time
BATCH = 64  # texts that are searched in one call, which nothing interrupts
_BITS = 21  # of a Unicode character

Ints = NDArray[np.int64]
Names = NDArray[np.int32]
Floats = NDArray[np.float32]


class Arrays(NamedTuple):
    """An index at rest.

    Attributes:
        grams: The 3-grams, packed as numbers, ascending, (n_grams,).
        idf: Inverse document frequency of each, (n_grams,).
        starts: Where the names of each begin in `postings`, (n_grams + 1,).
        postings: The names of each 3-gram, ascending.
        name_starts: Where the 3-grams of each name begin in `name_grams`, (n_names + 1,).
        name_grams: The 3-grams of each name, by row.
        scale: One over the length of each name's vector, (n_names,).
    """

    grams: Ints
    idf: Floats
    starts: Ints
    postings: Names
    name_starts: Ints
    name_grams: Names
    scale: Floats


class Found(NamedTuple):
    """Names found for some texts, unordered.

    Attributes:
        names: Their rows, those for one text after those for the other.
        scores: Of each.
        starts: Where those for each text begin, (n_texts + 1,).
    """

    names: Names
    scores: Floats
    starts: Ints


class AliasIndex:
    """Exact nearest names by 3-grams."""

    def __init__(self, arrays: Arrays) -> None:
        self.arrays = arrays
        self._arrays = Arrays(*(read_only(array) for array in arrays))

    def __len__(self) -> int:
        return len(self.arrays.scale)

    @classmethod
    def build(cls, names: Sequence[str] | pa.Array) -> "AliasIndex":
        """Index names; the position of a name is its row in what `nearest` finds."""
        chunks = [_chunk(names[i : i + CHUNK], i) for i in range(0, len(names), CHUNK)]
        grams = np.unique(np.concatenate([np.zeros(0, np.int64), *(chunk[0] for chunk in chunks)]))
        counts = np.zeros(len(grams), np.int64)
        for chunk_grams, chunk_counts, _ in chunks:
            counts[np.searchsorted(grams, chunk_grams)] += chunk_counts
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        idf = (np.log((1 + len(names)) / (1 + counts)) + 1).astype(np.float32)  # scikit-learn's, smooth
        postings = np.empty(starts[-1], np.int32)
        name_grams = np.empty(starts[-1], np.int32)
        lengths = np.zeros(len(names), np.int64)
        scale = np.zeros(len(names), np.float32)
        cursor = starts[:-1].copy()
        filled = 0
        for first in range(0, len(names), CHUNK):
            chunk_grams, chunk_counts, chunk_names = chunks[first // CHUNK]
            rows = np.searchsorted(grams, chunk_grams)
            of_entry = np.repeat(rows, chunk_counts).astype(np.int32)
            within = np.arange(len(chunk_names)) - np.repeat(np.cumsum(chunk_counts) - chunk_counts, chunk_counts)
            postings[np.repeat(cursor[rows], chunk_counts) + within] = chunk_names
            cursor[rows] += chunk_counts
            by_name = np.argsort(chunk_names, kind="stable")
            name_grams[filled : filled + len(by_name)] = of_entry[by_name]
            filled += len(by_name)
            last = min(first + CHUNK, len(names))
            lengths[first:last] = np.bincount(chunk_names - first, minlength=last - first)
            squares = np.bincount(
                chunk_names - first, weights=idf[of_entry].astype(np.float64) ** 2, minlength=last - first
            )
            scale[first:last] = np.divide(1, np.sqrt(squares), out=np.zeros_like(squares), where=squares > 0)
            chunks[first // CHUNK] = (chunk_grams, chunk_counts, np.zeros(0, np.int32))  # let go
        name_starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        return cls(Arrays(grams, idf, starts, postings, name_starts, name_grams, scale))

    def nearest(self, texts: Sequence[str], k: int) -> Found:
        """For each text its best `k` names and their cosines in (0, 1], with all that tie with the last."""
        found = [self._nearest(texts[first : first + BATCH], k) for first in range(0, len(texts), BATCH)]
        if len(found) == 1:
            return found[0]
        sizes = np.concatenate([np.zeros(1, np.int64), *(np.diff(some.starts) for some in found)])
        names = np.concatenate([np.zeros(0, np.int32), *(some.names for some in found)])
        return Found(names, np.concatenate([np.zeros(0, np.float32), *(some.scores for some in found)]), sizes.cumsum())

    def _nearest(self, texts: Sequence[str], k: int) -> Found:
        from kg.alias_search import search

        if k < 1:
            return Found(np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(len(texts) + 1, np.int64))
        plain = [f" {' '.join(text[:MAX_LETTERS].casefold().split())} " for text in texts]
        bounds = np.zeros(len(plain) + 1, np.int64)
        np.cumsum([len(text) for text in plain], out=bounds[1:])
        return search(self._arrays, _letters("".join(plain)), bounds, k)


def _letters(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """A view that cannot be written, as an array mapped from disk: the compiled loops are then compiled once."""
    view = np.asarray(array).view()
    view.flags.writeable = False
    return view


def _chunk(names: Sequence[str] | pa.Array, first: int) -> tuple[Ints, Ints, Names]:
    """The 3-grams of some names, how many names have each, and these names, by 3-gram and ascending."""
    plain = names.to_pylist() if isinstance(names, pa.Array) else names
    texts = [f" {' '.join(name.casefold().split())} " for name in plain]
    letters = _letters("".join(texts)).astype(np.int64)
    if len(letters) < 3:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int32)
    packed = (letters[:-2] << 2 * _BITS) | (letters[1:-1] << _BITS) | letters[2:]
    owner = np.repeat(np.arange(len(texts), dtype=np.int32), [len(text) for text in texts])[1:-1]
    inside = letters[1:-1] != ord(" ")
    packed, owner = packed[inside], owner[inside]
    order = np.argsort(packed, kind="stable")  # owners ascend already
    packed, owner = packed[order], owner[order]
    new = np.ones(len(packed), bool)
    new[1:] = (packed[1:] != packed[:-1]) | (owner[1:] != owner[:-1])
    packed, owner = packed[new], owner[new]
    grams, counts = np.unique(packed, return_counts=True)
    return grams, counts, owner + np.int32(first)
