"""Names by key, looked up and found in text.

A name's key is the sum of its words' codes, so that the order of the words does not count. Keys lie in sorted arrays,
which a saved linker maps from disk; one byte for each of eight slots a key says quickly that there is no such key.

What can be said of a word wherever it stands is worked out once a word (`Form`), and a text becomes columns of what is
known of its words (`Words`): there is no object for each word of each text, and most words begin no name.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from kg.matching import FUNCTION_WORDS, MAX_LETTERS, MAX_WORDS, WORD, absences, base, letters, stem, unnamed, word_code

MAX_SKIPPED = 3  # function words that may stand between two content words of one mention
MAX_GAPPED = 6  # content words of a mention from which one is left out
GAP = 10  # what a word that is left out of a mention costs, where a word instead of another costs one
_REMEMBERED = 200_000  # words, and keys, of which the answer is kept: a bound for endless streams of text
_TOKEN = re.compile(r"([^\W_]+)((?:['\u2019][sS]\b)?)")  # `WORD`, and the possessive that falls away
_BREAK = re.compile(r"[.,;:!?()\[\]{}]|\n\s*\n")
_ADJECTIVAL = ("al", "ic", "ous", "ive", "ar", "ary", "ed", "oid")  # endings behind three letters or more
_PARTICIPLE = ("ed", "oid")
_MODIFIERS = frozenset(
    "left right both mild severe moderate marked distal proximal first second third fourth fifth".split()
)
_ORDINAL = re.compile(r"\d+(?:st|nd|rd|th)")
_CLOSE = frozenset(("a", "an", "in", "of", "the"))  # words that a mention which is not literal may span
_LETTERS = frozenset(("a", "s"))  # function words that may be a letter though they are not in capitals
CONJUNCTIONS = frozenset(("and", "or", "nor", "but", "versus", "vs"))
Value = TypeVar("Value")


@dataclass(slots=True)  # not frozen, nor a tuple: read all the time, and new for each new word
class Form:
    """A word, wherever it stands.

    Attributes:
        code: Its code by stem, 0 where no name has it; `short`, as a name of one word; `exact`, as written; `letter`,
            if it is no function word but a letter, as in "hepatitis a virus".
        content: Whether it is no function word.
        close: Whether it is a function word that a mention which is not literal may span.
        joins: Whether it joins conjuncts, or sentences.
        lists: Whether it joins conjuncts that may share words.
        ends: Whether a mention may end with it: an adjective waits for its noun.
        modifier: Whether it may be left out of a mention: an adjective by its ending, a side, a degree, a number.
        inside: Whether it may stand inside a name's mention: it is known, or may be left out.
        participle: Whether it ends as one: no name begins with it behind a hyphen, as in *drug-induced*.
        number: Whether it counts something: 2, II, A.
    """

    code: int
    short: int
    exact: int
    letter: int
    content: bool
    close: bool
    joins: bool
    lists: bool
    ends: bool
    modifier: bool
    inside: bool
    participle: bool
    number: bool


_NO_NAME = Form(
    *(0, 0, 0, 0), content=True, close=False, joins=False, lists=False, ends=False, modifier=False, inside=False,
    participle=False, number=False,
)  # fmt: skip


@dataclass(slots=True)
class Gap:
    """What stands between two words.

    Attributes:
        breaks: Whether punctuation parts them.
        hard: Whether it is more than a comma.
        slash: Whether it joins conjuncts.
        hyphen: Whether it makes one word of both.
    """

    breaks: bool
    hard: bool
    slash: bool
    hyphen: bool


@dataclass(frozen=True, slots=True)
class Words:
    """The words of a text: characters [start, end) of each, its form, and the gap before it."""

    starts: list[int]
    ends: list[int]
    forms: list[Form]
    gaps: list[Gap]

    def runs(self) -> Iterator[tuple[list[int], list[bool]]]:
        """Words that may belong to one name, as places: no punctuation and not too many function words part them.

        With each, whether only such words as "of the" stand between it and the one before. A word that no name has and
        that may not be left out ends a run.
        """
        run: list[int] = []
        close: list[bool] = []
        skipped, near = 0, True
        for place, (form, gap) in enumerate(zip(self.forms, self.gaps, strict=True)):
            if run and (gap.breaks or (form.content and (skipped > MAX_SKIPPED or not form.inside))):
                if len(run) > 1:
                    yield run, close
                run, close = [], []
            if not form.content:
                skipped += 1
                near = near and form.close
            elif form.code or run:  # a name begins with a word that is known
                run.append(place)
                close.append(near)
                skipped, near = 0, True
        if len(run) > 1:
            yield run, close


class Hit(NamedTuple):
    """A name found: in how many words it differs from the text, and its row."""

    cost: int
    row: int


Found = dict[tuple[int, int], list[Hit]]


class _Remembered(dict[str, Value], Generic[Value]):
    """What a function says of short texts, worked out once each."""

    def __init__(self, function: Callable[[str], Value]) -> None:
        self._function = function

    def __missing__(self, text: str) -> Value:
        value = self._function(text)
        if len(text) <= MAX_LETTERS:
            if len(self) >= _REMEMBERED:
                self.clear()
            self[text] = value
        return value


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
        self._flags, self._slots = _flags(self.keys)
        self._code_flags, self._code_slots = _flags(self.codes)
        self._forms = _Remembered(self._form)
        self._letters = _Remembered(self._letter)
        self._hits: dict[int, tuple[Hit, ...]] = {}

    def lookup(self, text: str) -> list[Hit]:
        """Names that equal the whole text after normalisation, the nearest first."""
        words = WORD.findall(text)
        if not 0 < len(words) <= 2 * MAX_WORDS:
            return []
        forms = self._forms_of(words, [])
        found = list(self.hits(sum(form.exact for form in forms))) if all(form.exact for form in forms) else []
        spelt = letters(words)
        for read in ([self._forms_of(words, spelt)] if spelt else []) + [forms]:
            content = [form for form in read if form.content]
            if content and all(form.code for form in content):
                found += self.hits(sum(form.code for form in content))
            if len(content) == 1:
                found += self.hits(content[0].short)
            if found:
                break
        return nearest(found)

    def words(self, text: str) -> Words:
        """The words of a text with what is known of them."""
        parts = _TOKEN.split(text)  # gap, word, possessive, gap, ..., gap
        bounds = list(accumulate(map(len, parts)))
        words, gaps = parts[1::3], list(map(_GAPS.__getitem__, parts[:-1:3]))
        # "A fever" begins a sentence, "A-fib" with a letter. In "hepatitis a, b" no word follows the article.
        spelt = [n for n in letters(words) if words[n] != "A" or (n and not gaps[n].hard) or parts[3 * n + 3] == "-"]
        spelt += [n for n, gap in enumerate(gaps[1:]) if gap.breaks and words[n] == "a"]
        return Words(bounds[:-1:3], bounds[1::3], self._forms_of(words, spelt), gaps)

    def find(self, words: Words, *, gaps: bool = True) -> Found:
        """All names in a text by (start, end), nested and overlapping ones too.

        Args:
            words: The words of the text.
            gaps: Whether a modifier inside a mention may be left out: "hypoplasia of the *left* thumb".
        """
        found: Found = {}
        forms = words.forms
        for run, close in words.runs():
            for i in range(len(run) - 1):
                place = run[i]
                if forms[place].code and not (forms[place].participle and words.gaps[place].hyphen):
                    self._windows(words, run, close, i, found, gaps)
        for place, form in enumerate(forms):
            if form.short and not (form.participle and words.gaps[place].hyphen):
                self._add(found, words.starts[place], words.ends[place], form.short, 0)
            if form.exact:
                self._exact(words, place, found)
        return found

    def hits(self, key: int) -> tuple[Hit, ...]:
        """The names with a key."""
        if not self._flags[key & self._slots]:
            return ()
        known = self._hits.get(key)
        if known is None:
            first, last = self.keys.searchsorted((key, key + 1)).tolist()
            known = tuple(map(Hit, self.costs[first:last].tolist(), self.rows[first:last].tolist()))
            if len(self._hits) >= _REMEMBERED:
                self._hits.clear()
            self._hits[key] = known
        return known

    def _windows(self, words: Words, run: list[int], close: list[bool], i: int, found: Found, gaps: bool) -> None:
        """Names of two words or more that begin with word `i` of a run.

        Loose ones, with another word or a gap, span no conjunction.
        """
        flags, slots, forms, ends = self._flags, self._slots, words.forms, words.ends
        start = words.starts[run[i]]
        whole = forms[run[i]].code  # key of the window without a gap
        known = True  # whether all words of it are
        joined = False
        gapped: list[int] = []  # keys of the window with a gap
        spelt = 0  # what letters between its words add to its key, if they are letters
        last = run[i]
        for n, place in enumerate(run[i + 1 : i + MAX_WORDS], 1):
            form = forms[place]
            before, was_known = whole, known
            if place - last > 1:
                spelt += sum([between.letter for between in forms[last + 1 : place]])
            last = place
            if form.code:
                whole += form.code
                key = whole + spelt if spelt and known and self.hits(whole + spelt) else whole
                if known and flags[key & slots]:
                    self._add(found, start, ends[place], key, 0, literal=joined or not form.ends)
                if gapped:
                    gapped = [key + form.code for key in gapped]
                    for key in gapped:
                        if flags[key & slots] and form.ends:
                            self._add(found, start, ends[place], key, GAP, literal=True)
            else:
                known = False
                gapped = []
            if form.joins or not close[i + n]:
                gapped, joined = [], True
            if gaps and not joined and n < MAX_GAPPED - 1 and was_known and form.modifier:
                gapped.append(before)
            if not known and not gapped:
                break
            if n >= MAX_GAPPED - 1:
                gapped = []

    def _exact(self, words: Words, first: int, found: Found) -> None:
        """Names that match as written and begin with a word."""
        key = 0
        for place in range(first, min(first + MAX_WORDS, len(words.forms))):
            form = words.forms[place]
            if not form.exact or (place > first and words.gaps[place].breaks):
                break
            key += form.exact
            self._add(found, words.starts[first], words.ends[place], key, 0)

    def _add(self, found: Found, start: int, end: int, key: int, cost: int, literal: bool = False) -> None:
        hits = self.hits(key)
        if literal:
            hits = tuple(hit for hit in hits if not hit.cost)
        if hits:
            found.setdefault((start, end), []).extend([Hit(hit.cost + cost, hit.row) for hit in hits] if cost else hits)

    def _forms_of(self, words: list[str], spelt: Sequence[int]) -> list[Form]:
        """The forms of words; `spelt` are places of letters."""
        forms = list(map(self._forms.__getitem__, words))
        for place in spelt:
            forms[place] = self._letters[words[place]]
        lower = [word.lower() for word in words]
        for place in unnamed(words, lower):
            forms[place] = _NO_NAME
        for place in absences(lower):
            code = self._forms["absent"].code
            forms[place] = replace(forms[place], code=code, inside=code != 0 or forms[place].modifier)
        return forms

    def _form(self, word: str) -> Form:
        lower = word.lower()
        adjectival = lower[3:].endswith(_ADJECTIVAL)
        modifier = (adjectival and not lower.endswith(_PARTICIPLE)) or lower in _MODIFIERS
        modifier = modifier or (lower[0].isdigit() and _ORDINAL.fullmatch(lower) is not None)
        content = lower not in FUNCTION_WORDS
        code = short = exact = 0
        if len(word) <= MAX_LETTERS:
            if content:
                code, short = self._if_known(stem(word)), self._if_known("=" + base(word))
            exact = self._if_known("!" + word)
        return Form(
            code,
            short,
            exact,
            letter=self._if_known(stem(word)) if lower in _LETTERS else 0,
            content=content,
            close=lower in _CLOSE,
            joins=lower in CONJUNCTIONS,
            lists=lower in ("and", "or", "nor"),
            ends=not adjectival,
            modifier=modifier,
            inside=code != 0 or modifier,
            participle=len(lower) > 4 and lower.endswith("ed"),
            number=len(word) < 3 and (word.isdigit() or word.isupper()),
        )

    def _letter(self, word: str) -> Form:
        """Of a function word that is a letter or a symbol."""
        code = self._if_known(stem(word))
        plain = replace(self._forms[word], code=code, short=self._if_known("=" + base(word)), inside=code != 0)
        return replace(plain, letter=0, content=True, close=False, joins=False, lists=False, number=True)

    def _if_known(self, form: str) -> int:
        code = word_code(form)
        if not self._code_flags[code & self._code_slots]:
            return 0
        place = int(self.codes.searchsorted(code))
        return code if place < len(self.codes) and self.codes[place] == code else 0


def nearest(hits: list[Hit]) -> list[Hit]:
    """Each name once, by what it costs at least."""
    if len(hits) < 2:
        return hits
    best: dict[int, int] = {}
    for cost, row in hits:
        best[row] = min(cost, best.get(row, cost))
    return sorted(Hit(cost, row) for row, cost in best.items())


def keep_spans(found: Mapping[tuple[int, int], object], words: Words, *, nested: bool) -> list[tuple[int, int]]:
    """The spans that stay, ascending.

    Of spans that overlap, the one of more words stays, then the longer, then the leftmost. With `nested`, spans inside
    one that stays are kept too.
    """
    if not found:
        return []
    starts = [start for start, form in zip(words.starts, words.forms, strict=True) if form.content]
    length = {span: bisect_left(starts, span[1]) - bisect_left(starts, span[0]) for span in found}
    taken = bytearray(max(end for _, end in found))  # 2 where a span that stays begins, 1 in the rest of it
    kept: list[tuple[int, int]] = []
    for start, end in sorted(found, key=lambda span: (-length[span], span[0] - span[1], span[0])):
        free = not any(taken[start:end])
        if free or (nested and all(taken[start:end]) and 2 not in taken[start + 1 : end]):
            kept.append((start, end))
        if free:
            taken[start:end] = b"\x02" + b"\x01" * (end - start - 1)
    return sorted(kept)


def _gap(text: str) -> Gap:
    breaks = text != " " and _BREAK.search(text) is not None
    hard = breaks and text.strip() != ","
    return Gap(breaks, hard, not hard and ("/" in text or "&" in text), hyphen=text == "-")


_GAPS = _Remembered(_gap)


def _flags(numbers: NDArray[np.int64]) -> tuple[bytes, int]:
    """A byte that is set for the slot of each number, eight slots a number, and what masks a number to its slot."""
    slots = (1 << max(10, (8 * len(numbers)).bit_length())) - 1
    flags = np.zeros(slots + 1, np.uint8)
    flags[numbers & slots] = 1
    return flags.tobytes(), slots
