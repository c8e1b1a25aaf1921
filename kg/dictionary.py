"""Names by key, looked up and found in text.

A name's key is the sum of its words' codes, so that the order of the words does not count. Keys lie in sorted arrays,
which a saved linker maps from disk; one byte for each of eight slots a key says quickly that there is no such key.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from kg.matching import FUNCTION_WORDS, MAX_LETTERS, MAX_WORDS, WORD, base, stem, word_code

MAX_SKIPPED = 3  # function words that may stand between two content words of one mention
MAX_GAPPED = 6  # content words of a mention from which one is left out
GAP = 10  # what a word that is left out of a mention costs, where a word instead of another costs one
_FUNCTION = -1
_BREAK = re.compile(r"[.,;:!?()\[\]{}]|\n\s*\n")
_MODIFIER = re.compile(
    r".{3,}(?:al|ic|ous|ive|ar|ary)|left|right|both|mild|severe|moderate|marked|distal|proximal|first|second|third|fourth"
    r"|fifth|\d+(?:st|nd|rd|th)"
)
_ADJECTIVE = re.compile(r".{3,}(?:al|ic|ous|ive|ar|ary|ed|oid)$")
_CLOSE = frozenset(("a", "an", "in", "of", "the"))  # words that a mention which is not literal may span
CONJUNCTIONS = frozenset(("and", "or", "nor", "but", "versus", "vs"))


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a text, and its codes: by stem, as a name of one word, as written; 0 where no name has them.

    `breaks`: whether punctuation parts it from the word before.
    """

    start: int
    end: int
    text: str
    code: int
    short: int
    exact: int
    breaks: bool

    @property
    def content(self) -> bool:
        return self.code != _FUNCTION

    @property
    def joins(self) -> bool:
        """Whether it joins conjuncts."""
        return self.text.lower() in CONJUNCTIONS

    @property
    def ends(self) -> bool:
        """Whether a mention may end with it: an adjective waits for its noun."""
        return not _ADJECTIVE.fullmatch(self.text.lower())


@dataclass(frozen=True, slots=True, order=True)
class Hit:
    """A name found: its row, and in how many words it differs from the text."""

    cost: int
    row: int


Found = dict[tuple[int, int], list[Hit]]


class Dictionary:
    """Names by key.

    Args:
        keys: int64 (n_keys,), ascending.
        rows: int32 (n_keys,), row of the name of each key.
        costs: int8 (n_keys,), words in which the key differs from the name.
        codes: int64, every word code that occurs in a key, ascending.
    """

    def __init__(
        self,
        keys: NDArray[np.int64],
        rows: NDArray[np.int32],
        costs: NDArray[np.int8],
        codes: NDArray[np.int64],
    ) -> None:
        self.keys, self.rows, self.costs, self.codes = keys, rows, costs, codes
        self._slots = (1 << max(10, (8 * len(keys)).bit_length())) - 1
        flags = np.zeros(self._slots + 1, np.uint8)
        flags[np.asarray(keys) & self._slots] = 1
        self._flags = flags.tobytes()
        self._known: dict[str, tuple[int, int, int]] = {}

    def lookup(self, text: str) -> list[Hit]:
        """Names that equal the whole text after normalisation, the nearest first."""
        words = WORD.findall(text)
        if len(words) > 2 * MAX_WORDS:
            return []
        codes = [self._word_codes(word) for word in words]
        stems = [code for code, _, _ in codes if code != _FUNCTION]
        keys = [sum(stems)] if all(stems) and stems else []
        if len(stems) == 1:
            keys.append(sum(short for code, short, _ in codes if code != _FUNCTION))
        if codes and all(exact for _, _, exact in codes):
            keys.append(sum(exact for _, _, exact in codes))
        best: dict[int, int] = {}
        for hit in (hit for key in keys if key for hit in self.hits(key)):
            best[hit.row] = min(hit.cost, best.get(hit.row, hit.cost))
        return sorted(Hit(cost, row) for row, cost in best.items())

    def words(self, text: str) -> list[Word]:
        """The words of a text with their codes."""
        found = []
        previous = 0
        for match in WORD.finditer(text):
            start, end = match.span(1)
            gap = text[previous:start]
            previous = match.end()
            breaks = gap != " " and _BREAK.search(gap) is not None
            found.append(Word(start, end, match[1], *self._word_codes(match[1]), breaks))
        return found

    def find(self, words: list[Word], *, gaps: bool = True) -> Found:
        """All names in a text by (start, end), nested and overlapping ones too.

        Args:
            words: The words of the text.
            gaps: Whether a modifier inside a mention may be left out: "hypoplasia of the *left* thumb".
        """
        found: Found = {}
        for run, close in _runs(words):
            for i, first in enumerate(run):
                if first.code:
                    self._windows(run, close, i, found, gaps)
        for exact in _exact_runs(words):
            for i, first in enumerate(exact):
                key = 0
                for last in exact[i : i + MAX_WORDS]:
                    key += last.exact
                    self._add(found, first.start, last.end, key, 0)
        for word in words:
            if word.short:
                self._add(found, word.start, word.end, word.short, 0)
        return found

    def has(self, key: int) -> bool:
        """Whether some name has the key."""
        return bool(self._flags[key & self._slots]) and bool(self.hits(key))

    def hits(self, key: int) -> list[Hit]:
        """The names with a key."""
        if not self._flags[key & self._slots]:
            return []
        first = int(np.searchsorted(self.keys, key))
        hits = []
        while first < len(self.keys) and self.keys[first] == key:
            hits.append(Hit(int(self.costs[first]), int(self.rows[first])))
            first += 1
        return hits

    def _windows(self, run: list[Word], close: list[bool], i: int, found: Found, gaps: bool) -> None:
        """Names that begin with word `i` of a run; loose ones, with another word or a gap, span no conjunction."""
        flags, slots, start = self._flags, self._slots, run[i].start
        whole = 0  # key of the window without a gap; None once a word is unknown
        known = True
        joined = False
        gapped: list[int] = []
        for n, word in enumerate(run[i : i + MAX_WORDS]):
            before, was_known = whole, known
            if word.code:
                whole += word.code
                if known and flags[whole & slots]:
                    self._add(found, start, word.end, whole, 0, literal=joined or not word.ends)
                gapped = [key + word.code for key in gapped]
                for key in gapped:
                    if flags[key & slots] and word.ends:
                        self._add(found, start, word.end, key, GAP, literal=True)
            else:
                known = False
                gapped = []
            if n and (word.joins or not close[i + n]):
                gapped, joined = [], True
            if gaps and not joined and 0 < n < MAX_GAPPED - 1 and was_known and is_modifier(word.text):
                gapped.append(before)
            if not known and not gapped:
                break
            if n >= MAX_GAPPED - 1:
                gapped = []

    def _add(self, found: Found, start: int, end: int, key: int, cost: int, literal: bool = False) -> None:
        hits = [hit for hit in self.hits(key) if not (literal and hit.cost)]
        if hits:
            found.setdefault((start, end), []).extend(Hit(hit.cost + cost, hit.row) for hit in hits)

    def _word_codes(self, word: str) -> tuple[int, int, int]:
        known = self._known.get(word)
        if known is not None:
            return known
        if len(word) > MAX_LETTERS:
            return 0, 0, 0
        by_stem = _FUNCTION if word.lower() in FUNCTION_WORDS else self._if_known(stem(word))
        codes = by_stem, self._if_known("=" + base(word)), self._if_known("!" + word)
        if len(self._known) > 500_000:  # a bound for endless streams of text
            self._known.clear()
        self._known[word] = codes
        return codes

    def _if_known(self, form: str) -> int:
        code = word_code(form)
        place = int(np.searchsorted(self.codes, code))
        return code if place < len(self.codes) and self.codes[place] == code else 0


def keep_spans(found: Mapping[tuple[int, int], object], words: list[Word], *, nested: bool) -> list[tuple[int, int]]:
    """The spans that stay, ascending.

    Of spans that overlap, the one of more words stays, then the longer, then the leftmost. With `nested`, spans inside
    one that stays are kept too.
    """
    if not found:
        return []
    starts = np.array([word.start for word in words if word.content])
    length = {span: int(np.searchsorted(starts, span[1]) - np.searchsorted(starts, span[0])) for span in found}
    taken = bytearray(max(end for _, end in found))  # 2 where a span that stays begins, 1 in the rest of it
    kept: list[tuple[int, int]] = []
    for start, end in sorted(found, key=lambda span: (-length[span], span[0] - span[1], span[0])):
        free = not any(taken[start:end])
        if free or (nested and all(taken[start:end]) and 2 not in taken[start + 1 : end]):
            kept.append((start, end))
        if free:
            taken[start:end] = b"\x02" + b"\x01" * (end - start - 1)
    return sorted(kept)


def _runs(words: list[Word]) -> Iterator[tuple[list[Word], list[bool]]]:
    """Content words that no punctuation and not too many function words part.

    With each, whether only such words as "of the" stand between it and the one before.
    """
    run: list[Word] = []
    close: list[bool] = []
    skipped: list[str] = []
    for word in words:
        if run and (word.breaks or (len(skipped) > MAX_SKIPPED and word.content)):
            yield run, close
            run, close = [], []
        if word.content:
            run.append(word)
            close.append(_CLOSE.issuperset(skipped))
            skipped = []
        else:
            skipped.append(word.text.lower())
    if run:
        yield run, close


def _exact_runs(words: list[Word]) -> Iterator[list[Word]]:
    run: list[Word] = []
    for word in words:
        if run and (word.breaks or not word.exact):
            yield run
            run = []
        if word.exact:
            run.append(word)
    if run:
        yield run


@lru_cache(maxsize=100_000)
def is_modifier(word: str) -> bool:
    """Whether a word may be left out of a mention: an adjective by its ending, a side, a degree, a number."""
    return _MODIFIER.fullmatch(word.lower()) is not None
