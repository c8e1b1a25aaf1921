"""Which of a graph's names are spelled most like a text: character 3-grams, inverse document frequency, exact top k.

The vectors are scispaCy's (3-grams within words, TF-IDF, unit length), except that every 3-gram is kept, however rare,
and counts once a name. Search is MaxScore (Turtle and Flood 1995) with a Cauchy-Schwarz bound: the rare 3-grams of the
text come first; a name that shares none of them scores at most the length of what is left of the text's vector, so the
common 3-grams, whose lists are long, are seldom read. What is found is exact, and does not depend on a batch.

All arrays may be mapped from disk; there is no Python object for a name.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

MAX_LETTERS = 500  # letters of a text that are compared
CHUNK = 200_000  # names that are cut into 3-grams at a time
FIRST = 5_000  # entries of the lists that are read before the first names are scored
_BITS = 21  # of a Unicode character
_LENGTH = 40  # entries of a list that are read in the time in which one name is scored
_EPSILON = 2e-5  # scores are rounded to five digits

Ints = NDArray[np.int64]
Names = NDArray[np.int32]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Arrays:
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


class AliasIndex:
    """Exact nearest names by 3-grams."""

    def __init__(self, arrays: Arrays) -> None:
        self.arrays = arrays
        self._grams = np.asarray(arrays.grams)
        self._idf = np.asarray(arrays.idf)
        self._starts = np.asarray(arrays.starts)
        self._sums = np.zeros(len(arrays.scale), np.float32)  # all zero between texts
        self._seen = np.zeros(len(arrays.scale), np.int32)
        self._weights = np.zeros(len(arrays.grams), np.float32)  # all zero between texts

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

    def nearest(self, texts: Sequence[str], k: int) -> Iterator[tuple[Names, Floats]]:
        """For each text its best `k` rows and their cosines in (0, 1], unordered, with all that tie with the last."""
        for text in texts:
            yield self._nearest(text, k)

    def _nearest(self, text: str, k: int) -> tuple[Names, Floats]:
        grams = self._known_grams(text)
        if not len(grams) or k < 1:
            return np.zeros(0, np.int32), np.zeros(0, np.float32)
        sizes = self._starts[grams + 1] - self._starts[grams]
        order = np.lexsort((grams, sizes))
        grams, sizes = grams[order], sizes[order]
        weights = self._idf[grams]
        weights = weights / np.sqrt(np.square(weights, dtype=np.float64).sum()).astype(np.float32)
        # What the 3-grams from the n-th on can add to the score of a name.
        rest = np.sqrt(np.append(np.cumsum(np.square(weights[::-1], dtype=np.float64))[::-1], 0.0))
        self._weights[grams] = weights * self._idf[grams]
        try:
            return self._search(grams, sizes, weights * self._idf[grams], rest, k)
        finally:
            self._weights[grams] = 0

    def _search(
        self, grams: Ints, sizes: Ints, worth: Floats, rest: NDArray[np.float64], k: int
    ) -> tuple[Names, Floats]:
        """Best rows for 3-grams, rarest first, each with what it adds to the sum of a name that has it."""
        lists: list[Names] = []  # all that was read, to be undone
        read = n = 0
        least = 0.0  # the k-th best score so far: nothing below it is wanted
        names, partial = np.zeros(0, np.int32), np.zeros(0, np.float32)
        target = FIRST
        while n < len(grams) and rest[n] + _EPSILON >= least:  # a name that was not met yet may be among the best
            while n < len(grams) and (read <= target or not lists) and rest[n] + _EPSILON >= least:
                lists.append(self._add(grams[n], worth[n]))
                read += int(sizes[n])
                n += 1
            names = self._distinct(lists)
            partial = self._sums[names] * self.arrays.scale[names]
            least = max(least, self._least(names, partial, k))
            target = 4 * max(read, FIRST)
        hopeful = names[partial + rest[n] + _EPSILON >= least]
        while n < len(grams) and sizes[n] < _LENGTH * len(hopeful):  # reading on is cheaper than scoring them all
            lists.append(self._add(grams[n], worth[n]))
            n += 1
            partial = self._sums[hopeful] * self.arrays.scale[hopeful]
            hopeful = hopeful[partial + rest[n] + _EPSILON >= least]
        for names in lists:
            self._sums[names] = 0
        scores = np.minimum(np.round(self._exact(hopeful), 5), np.float32(1))
        if len(scores) > k:
            best = scores >= np.partition(scores, len(scores) - k)[len(scores) - k]
            return hopeful[best], scores[best]
        return hopeful, scores

    def _add(self, gram: int, worth: float) -> Names:
        names: Names = self.arrays.postings[self._starts[gram] : self._starts[gram + 1]]
        self._sums[names] += worth
        return names

    def _least(self, names: Names, partial: Floats, k: int) -> float:
        """A score that k names reach for sure."""
        if len(names) <= k:
            return 0.0
        top = np.argpartition(partial, len(names) - k)[len(names) - k :]
        return float(self._exact(names[top]).min())

    def _distinct(self, lists: list[Names]) -> Names:
        names = np.concatenate(lists)
        if len(lists) == 1:
            return names
        places = np.arange(len(names), dtype=np.int32)
        self._seen[names] = places
        return names[self._seen[names] == places]

    def _exact(self, names: Names) -> Floats:
        """The cosines of names with the text whose weights are set, each summed in the order of its own 3-grams."""
        arrays = self.arrays
        starts = arrays.name_starts[names]
        lengths = arrays.name_starts[names + 1] - starts
        ends = np.cumsum(lengths)
        if not len(names):
            return np.zeros(0, np.float32)
        places = np.arange(ends[-1]) + np.repeat(starts - (ends - lengths), lengths)
        sums = np.add.reduceat(self._weights[arrays.name_grams[places]].astype(np.float64), ends - lengths)
        return (sums * arrays.scale[names]).astype(np.float32)

    def _known_grams(self, text: str) -> Ints:
        grams = np.unique(_grams(f" {' '.join(text[:MAX_LETTERS].casefold().split())} "))
        if not len(self._grams):
            return np.zeros(0, np.int64)
        places = np.minimum(np.searchsorted(self._grams, grams), len(self._grams) - 1)
        return places[self._grams[places] == grams]


def _grams(text: str) -> Ints:
    """The 3-grams of a text of words parted by single blanks, packed; none lies across a blank."""
    letters = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.int64)
    if len(letters) < 3:
        return np.zeros(0, np.int64)
    packed = (letters[:-2] << 2 * _BITS) | (letters[1:-1] << _BITS) | letters[2:]
    return packed[letters[1:-1] != ord(" ")]


def _chunk(names: Sequence[str] | pa.Array, first: int) -> tuple[Ints, Ints, Names]:
    """The 3-grams of some names, how many names have each, and these names, by 3-gram and ascending."""
    plain = names.to_pylist() if isinstance(names, pa.Array) else names
    texts = [f" {' '.join(name.casefold().split())} " for name in plain]
    letters = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.int64)
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
