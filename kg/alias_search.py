"""The loops of `kg.alias_index` and of the order of candidates, compiled by numba when they are first called.

Names are searched a window at a time, so that the sums of a window stay in the processor's cache: each list of a 3-gram
of the text adds to the sums of the names in it, then one look at all sums finds those names that may be among the best
so far. Reading every list costs less than the bounds that were tried to save some of it, for the loop takes about half
a nanosecond an entry. The sums are of single precision and say only which names to look at; the scores that are
returned are summed anew for each name in the order of its own 3-grams, so that they depend on nothing else.

Compiling takes a few seconds. The result is kept in `__pycache__` beside this file, or where that cannot be written in
the user's folder for caches (NUMBA_CACHE_DIR names another); where nothing can be written, each process compiles anew.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

from kg.alias_index import Arrays, Floats, Found, Ints, Names

WINDOW = 65_536  # names whose sums are in the cache together
_FIRST = 256  # names of the first window; small, so that a fair score to beat is soon known
_BLOCK = 64  # sums that are looked at together
_BITS = 21  # of a Unicode character
_SLACK = np.float32(2e-4)  # more than twice what the sum of 1,500 numbers of single precision can be off a score
_DIGITS = np.float32(100_000)  # scores have five digits
_BLANK = ord(" ")
_Function = TypeVar("_Function", bound=Callable[..., Any])


class _Room(NamedTuple):
    """Memory for the search of one text after the other.

    Attributes:
        sums: Of the names of a window; all zero between windows.
        hopeful: Names of a window that may be among the best, (WINDOW + 1,).
        weights: What each 3-gram adds to the sum of a name; all zero between texts.
        grams: The 3-grams of a text.
        places: How far the list of each was read.
        best: The best scores so far, as a heap, the least first, (k,).
    """

    sums: Floats
    hopeful: Names
    weights: Floats
    grams: Ints
    places: Ints
    best: Floats


def _compiled(function: _Function) -> _Function:
    try:
        compiled = numba.njit(cache=True)(function)
    except RuntimeError:  # there is no folder that can be written
        compiled = numba.njit(function)
    return cast(_Function, compiled)


@_compiled
def search(arrays: Arrays, letters: NDArray[np.uint32], bounds: Ints, k: int) -> Found:
    """The best `k` names of each text, unordered, with all that tie with the last.

    Args:
        arrays: The index.
        letters: Of all texts, one after the other; each begins and ends with a blank.
        bounds: Where the letters of each text begin, (n_texts + 1,).
        k: At least 1.

    """
    longest = 1
    for text in range(len(bounds) - 1):
        longest = max(longest, bounds[text + 1] - bounds[text])
    window = min(WINDOW, max(_FIRST, len(arrays.scale)))
    room = _Room(
        np.zeros(window, np.float32),
        np.empty(window + 1, np.int32),
        np.zeros(len(arrays.grams), np.float32),
        np.empty(longest, np.int64),
        np.empty(longest, np.int64),
        np.empty(k, np.float32),
    )
    names, scores = np.empty(1024, np.int32), np.empty(1024, np.float32)
    starts = np.zeros(len(bounds), np.int64)
    for text in range(len(bounds) - 1):
        n = _weigh(arrays, letters[bounds[text] : bounds[text + 1]], room)
        found, of_found = _nearest(arrays, n, room)
        first, last = starts[text], starts[text] + len(found)
        while last > len(names):
            names, scores = np.append(names, np.empty_like(names)), np.append(scores, np.empty_like(scores))
        names[first:last], scores[first:last] = found, of_found
        starts[text + 1] = last
        for i in range(n):
            room.weights[room.grams[i]] = 0
    return Found(names[: starts[-1]], scores[: starts[-1]], starts)


@_compiled
def rank(
    found: Found, rows: Names, row_starts: Ints, concept: Names, kind: NDArray[np.int8], k: int
) -> tuple[Ints, Ints, Ints]:
    """The best `k` concepts that each text's names have, each by the best of its names, in the order of candidates.

    Args:
        found: Spellings for each text, with scores between 0 and 1 of five digits.
        rows: The aliases of all spellings.
        row_starts: Where those of each begin, (n_spellings + 1,).
        concept: Of each alias; ascending.
        kind: Of each alias; 0 is the preferred name.
        k: At least 1.

    Returns:
        Rows of aliases, where in `found` each comes from, and where those of each text begin, (n_texts + 1,).
    """
    names, scores, starts = found
    best, sources = np.empty(k * (len(starts) - 1), np.int64), np.empty(k * (len(starts) - 1), np.int64)
    best_starts = np.zeros(len(starts), np.int64)
    for text in range(len(starts) - 1):
        size = 0
        for i in range(starts[text], starts[text + 1]):
            size += row_starts[names[i] + 1] - row_starts[names[i]]
        keys, places = np.empty(size, np.int64), np.empty(size, np.int64)
        size = 0
        for i in range(starts[text], starts[text + 1]):
            short = np.int64(_DIGITS) - np.int64(np.rint(scores[i] * _DIGITS))
            for row in rows[row_starts[names[i]] : row_starts[names[i] + 1]]:
                keys[size] = (short << 33) | (np.int64(kind[row] != 0) << 32) | np.int64(row)  # rows ascend by concept
                places[size] = i
                size += 1
        first = last = best_starts[text]
        for place in np.argsort(keys):
            row = keys[place] & 0xFFFFFFFF
            known = False
            for other in best[first:last]:
                known = known or concept[other] == concept[row]
            if not known:
                best[last], sources[last] = row, places[place]
                last += 1
                if last == first + k:
                    break
        best_starts[text + 1] = last
    return best[: best_starts[-1]], sources[: best_starts[-1]], best_starts


@_compiled
def _weigh(arrays: Arrays, letters: NDArray[np.uint32], room: _Room) -> int:
    """Set the weights of a text's 3-grams, and say how many it has; none lies across a blank."""
    n = 0
    squares = np.float64(0)
    for i in range(len(letters) - 2):
        if letters[i + 1] == _BLANK:
            continue
        packed = (np.int64(letters[i]) << 2 * _BITS) | (np.int64(letters[i + 1]) << _BITS) | np.int64(letters[i + 2])
        gram = np.searchsorted(arrays.grams, packed)
        if gram == len(arrays.grams) or arrays.grams[gram] != packed or room.weights[gram] != 0:
            continue
        room.weights[gram] = arrays.idf[gram]
        room.grams[n] = gram
        room.places[n] = arrays.starts[gram]
        squares += np.float64(arrays.idf[gram]) ** 2
        n += 1
    length = np.float32(np.sqrt(squares))
    for gram in room.grams[:n]:
        room.weights[gram] = arrays.idf[gram] / length * arrays.idf[gram]
    return n


@_compiled
def _nearest(arrays: Arrays, n: int, room: _Room) -> tuple[Names, Floats]:
    """The best names for the text of `n` 3-grams whose weights are set."""
    found, sums = np.empty(256, np.int32), np.empty(256, np.float32)  # that were among the best when met
    size = filled = 0
    least = np.float32(0)  # the k-th best sum so far
    first = 0
    while n and first < len(arrays.scale):
        last = min(len(arrays.scale), first + min(len(room.sums), max(_FIRST, first)))
        window = room.sums[: last - first]
        for i in range(n):
            gram = room.grams[i]
            room.places[i] = (
                _add(window, arrays.postings[room.places[i] : arrays.starts[gram + 1]], first, room.weights[gram])
                + room.places[i]
            )
        scale = arrays.scale[first:last]
        for place in room.hopeful[: _hopeful(window, scale, least - _SLACK, room.hopeful)]:
            score = window[place] * scale[place]
            if filled < len(room.best) or score >= least - _SLACK:
                if size == len(found):
                    found, sums = np.append(found, np.empty_like(found)), np.append(sums, np.empty_like(sums))
                found[size], sums[size] = first + place, score
                size += 1
                filled = _push(room.best, filled, score)
                least = room.best[0] if filled == len(room.best) else least
        window[:] = 0
        first = last
    return _best(arrays, found[:size], sums[:size], least - _SLACK, room)


@_compiled
def _best(arrays: Arrays, found: Names, sums: Floats, least: np.float32, room: _Room) -> tuple[Names, Floats]:
    """Of the names found those with the best scores, by their exact scores; none has a sum below `least`."""
    names, scores = np.empty(len(found), np.int32), np.empty(len(found), np.float32)
    size = filled = 0
    for i in range(len(found)):
        if sums[i] >= least:
            names[size], scores[size] = found[i], _exact(arrays, found[i], room.weights)
            filled = _push(room.best, filled, scores[size])
            size += 1
    kept = 0
    for i in range(size):
        if filled < len(room.best) or scores[i] >= room.best[0]:
            names[kept], scores[kept] = names[i], scores[i]
            kept += 1
    return names[:kept], scores[:kept]


@_compiled
def _add(sums: Floats, names: Names, first: int, weight: np.float32) -> int:
    """Add to the sums of a window that begins with the name `first`; says how many names of the list lie in it."""
    stop = np.int32(first + len(sums))
    if not len(names) or names[0] >= stop:
        return 0
    inside = names[: np.searchsorted(names, stop)]
    for i in range(len(inside)):
        sums[np.uint32(inside[i] - first)] += weight  # unsigned: an index that cannot be negative is not checked
    return len(inside)


@_compiled
def _hopeful(sums: Floats, scale: Floats, least: np.float32, places: Names) -> int:
    """Where the sums, scaled, are above zero and not below `least`; says how many places those are."""
    least = least if least > 0 else np.float32(1e-9)
    size = 0
    for first in range(0, len(sums), _BLOCK):
        some, of_some = sums[first : first + _BLOCK], scale[first : first + _BLOCK]
        count = np.int32(0)
        for i in range(len(some)):  # in this form the processor does many at once
            count += np.int32(some[i] * of_some[i] >= least)
        if count:
            for i in range(len(some)):
                places[size] = first + i
                size += some[i] * of_some[i] >= least
    return size


@_compiled
def _exact(arrays: Arrays, name: int, weights: Floats) -> np.float32:
    """The cosine of a name with the text whose weights are set, of five digits."""
    total = 0.0
    grams = arrays.name_grams[arrays.name_starts[name] : arrays.name_starts[name + 1]]
    for i in range(len(grams)):
        total += weights[np.uint32(grams[i])]
    cosine = np.float32(total * arrays.scale[name])
    return min(np.float32(np.rint(cosine * _DIGITS)) / _DIGITS, np.float32(1))


@_compiled
def _push(best: Floats, filled: int, score: np.float32) -> int:
    """Add to a heap of the greatest scores, of which `filled` are there; says how many are there then."""
    size = len(best)
    if filled == size and score <= best[0]:
        return filled
    if filled < size:  # from the end upwards
        place = filled
        while place > 0 and best[(place - 1) >> 1] > score:
            best[place] = best[(place - 1) >> 1]
            place = (place - 1) >> 1
        best[place] = score
        return filled + 1
    place, below = 0, 1  # instead of the least, downwards
    while below < size:
        if below + 1 < size and best[below + 1] < best[below]:
            below += 1
        if best[below] >= score:
            break
        best[place] = best[below]
        place, below = below, 2 * below + 1
    best[place] = score
    return filled
