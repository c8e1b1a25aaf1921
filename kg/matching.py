"""Finding the graph's names in text: how words are made comparable, and a dictionary that is quick to scan for.

A *word* is a run of letters and digits; hyphens, slashes and white space part words, a possessive 's falls away. Words
become comparable through `stem`: case, accents, Greek letters, British spelling, Roman numerals, plural and derivation
(Snowball's English stemmer and a few Latin and Greek endings). Function words ("of the") are skipped and the order of
the words does not count, so that "abnormality of the heart", "heart abnormalities" and "abnormal heart" are one.

What may match how (`alias_key`):

- case-sensitively only: names of concepts of case-sensitive types (genes), names that look like an abbreviation or a
  symbol (one word, no lower-case letter, at most six characters or with a digit), names of two characters;
- one short word (fewer than six letters): case, plural and spelling may differ, but not the derivation;
- everything else: by stems, in any order.
- Names of one character, two-character names with a lower-case letter, names without a letter and names that consist
  of function words only are never looked for.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import snowballstemmer

MAX_WORDS = 12  # the longest window of content words that is looked up
MAX_LETTERS = 100  # no longer word is looked up
MAX_SKIPPED = 3  # function words that may stand between two content words of one mention
FUNCTION_WORDS = frozenset(
    "a an are as at be by due for from has have her his in into is it its of on or s that the their these this to "
    "was were which with".split()
)
_FUNCTION = -1
_WORD = re.compile(r"([^\W_]+)(?:['\u2019]s\b)?")
_BREAK = re.compile(r"[.,;:!?()\[\]{}]|\n\s*\n")
_GREEK = str.maketrans(
    {
        letter: name
        for name, letters in {
            "alpha": "αΑ", "beta": "βϐΒ", "gamma": "γΓ", "delta": "δΔ", "epsilon": "εϵΕ", "zeta": "ζΖ", "eta": "ηΗ",
            "theta": "θϑΘ", "iota": "ιΙ", "kappa": "κΚ", "lambda": "λΛ", "mu": "μµΜ", "nu": "νΝ", "xi": "ξΞ",
            "pi": "πΠ", "rho": "ρΡ", "sigma": "σςΣ", "tau": "τΤ", "upsilon": "υΥ", "phi": "φϕΦ", "chi": "χΧ",
            "psi": "ψΨ", "omega": "ωΩ",
        }.items()
        for letter in letters
    }
)  # fmt: skip
_ROMAN = {
    "i": "1",
    "ii": "2",
    "iii": "3",
    "iv": "4",
    "vi": "6",
    "vii": "7",
    "viii": "8",
    "ix": "9",
    "xi": "11",
    "xii": "12",
}
# One spelling for British and American; what a rule does to a word outside its intention it does to both sides alike.
_SPELLING: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), instead)
    for pattern, instead in (
        (r"(?<=..)[ao]e(?=[a-z])|^[ao]e(?=[a-z]{3})|(?<=^.)[ao]e(?=[a-z]{3})", "e"),  # haem, oedema, foetal
        (r"(?<=[a-z]{3})our", "or"),
        (r"(?<=[a-z]{2})is(?=e$|ed$|es$|ing$|ation)", "iz"),
        (r"(?<=[a-z]{2})([tb])re$", r"\1er"),
        (r"sulph", "sulf"),
        (r"leuc(?=[aeo])", "leuk"),
        (r"ys(?=e$|ed$|es$|ing$)", "yz"),
        (r"grey", "gray"),
        (r"(?<=[a-z]{2})ll(?=ed$|ing$)", "l"),
    )
)
# Endings that turn one stem into another part of speech: hypotonia, hypotonic; microcephaly, microcephalic.
_ENDING = re.compile(r"(?:ia|ic|i|y|ism|al|a|us|um|ous|ae|is|e)$")
_KEPT = ("itis", "itides", "osis", "oses", "oma", "omas", "omata")
_stemmer = snowballstemmer.stemmer("english")


@lru_cache(maxsize=200_000)
def spelling(word: str) -> str:
    """A word in lower case, with plain letters and in one spelling, its plural ending included."""
    plain = word.translate(_GREEK).lower()
    if not plain.isascii():
        plain = "".join(c for c in unicodedata.normalize("NFKD", plain) if not unicodedata.combining(c))
    plain = _ROMAN.get(plain, plain)
    for pattern, instead in _SPELLING:
        plain = pattern.sub(instead, plain)
    return plain


def singular(word: str) -> str:
    """`spelling` without the plural ending."""
    plain = spelling(word)
    for ending, instead in (("omata", "oma"), ("oses", "osis"), ("itides", "itis")):
        if plain.endswith(ending):
            return plain.removesuffix(ending) + instead
    if len(plain) > 4 and plain.endswith("ies"):
        return plain[:-3] + "y"
    if len(plain) > 4 and re.search(r"(?:s|x|z|ch|sh)es$", plain):
        return plain[:-2]
    return plain[:-1] if len(plain) > 3 and plain.endswith("s") and plain[-2] not in "sui" else plain


def base(word: str) -> str:
    """The form by which a name of one word is known: singular, and for a long word its noun and adjective as one."""
    plain = singular(word)
    short = re.sub(r"(?:ia|ic|y)$", "", plain)
    return short if len(short) >= 6 else plain


@lru_cache(maxsize=200_000)
def stem(word: str) -> str:
    """What is left of a word when spelling, plural and derivation no longer tell."""
    plain = spelling(word)
    if len(plain) > 64 or not plain.isalpha():  # nothing to inflect; the stemmer is quadratic on very long words
        return plain
    if plain.endswith(_KEPT):  # gingivitis is not gingival
        return singular(plain)
    stemmed = _stemmer.stemWord(plain)
    short = _ENDING.sub("", stemmed)
    return short if len(short) >= 5 else str(stemmed)


class Span(NamedTuple):
    """Characters [start, end) of a text and the rows of the dictionary's names that match there."""

    start: int
    end: int
    rows: tuple[int, ...]


@lru_cache(maxsize=200_000)
def _code(word: str) -> int:
    """A number below 2**56 for a word; the sum over the words of a name is its key, whatever their order.

    Two names of different words share a key with a chance of about 2**-56 for each pair, so keys are not verified.
    """
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=7).digest(), "big")


def is_symbol(name: str) -> bool:
    """Whether a name looks like an abbreviation or a symbol: BRCA1, ASD, HLA-DRB1."""
    return (
        " " not in name
        and not any(c.islower() for c in name)
        and any(c.isupper() for c in name)
        and (len(name) <= 6 or any(c.isdigit() for c in name))
    )


def content_words(text: str) -> list[str]:
    """The words of a text that are not function words, as written."""
    return [word for word in _WORD.findall(text) if word.lower() not in FUNCTION_WORDS]


def alias_codes(name: str, case_sensitive: bool) -> list[int]:
    """The codes of a name's words in the way it may match; empty for a name that is never looked for."""
    if not any(c.isalpha() for c in name) or len(name) < 2:
        return []
    if case_sensitive or is_symbol(name) or len(name) < 3:
        exact = _WORD.findall(name)
        return [_code("!" + word) for word in exact] if not (len(name) < 3 and not name.isupper()) else []
    words = content_words(name)
    if len(words) > MAX_WORDS or any(len(word) > MAX_LETTERS for word in words):
        return []
    if len(words) == 1:
        return [_code("=" + base(words[0]))]
    return [_code(stem(word)) for word in words]


class Dictionary:
    """Names by key, ready to be looked up and found in text.

    Args:
        keys: Key of each name (the sum of its `alias_codes`), ascending, so that names that share one are neighbours.
        codes: Every word code that occurs in a name; a text is cut at words outside them.
    """

    def __init__(self, keys: Sequence[int], codes: Iterable[int]) -> None:
        self._keys = keys
        self._first = {key: row for row, key in reversed(list(enumerate(keys)))}
        self._codes = frozenset(codes)
        self._known: dict[str, tuple[int, int, int]] = {}

    def lookup(self, text: str) -> tuple[int, ...]:
        """Rows of the names that equal the whole text after normalisation."""
        words = _WORD.findall(text)
        if len(words) > 2 * MAX_WORDS:
            return ()
        codes = [self._word_codes(word) for word in words]
        stems = [code for code, _, _ in codes if code != _FUNCTION]
        keys = [sum(stems)] if all(stems) else []
        if len(stems) == 1:
            keys.append(sum(short for _, short, _ in codes))
        if all(exact for _, _, exact in codes):
            keys.append(sum(exact for _, _, exact in codes))
        return tuple(row for key in keys for row in self._rows(key))

    def find(self, text: str, *, nested: bool = False) -> list[Span]:
        """Names in a text, by position.

        Of names that overlap, the one of more words stays, then the longer, then the leftmost. With `nested`, names
        inside one that stays are reported too.
        """
        rows: dict[tuple[int, int], list[int]] = {}
        words: dict[tuple[int, int], int] = {}
        for run in self._runs(text):
            for i, (start, _, _) in enumerate(run):
                key = 0
                for n, (_, end, code) in enumerate(run[i : i + MAX_WORDS], 1):
                    key += code
                    if key in self._first:
                        rows.setdefault((start, end), []).extend(self._rows(key))
                        words[start, end] = max(n, words.get((start, end), 0))
        taken = bytearray(len(text))
        kept: list[Span] = []
        for start, end in sorted(rows, key=lambda span: (-words[span], span[0] - span[1], span[0])):
            free = not any(taken[start:end])
            inside = nested and not free and all(taken[start:end]) and 2 not in taken[start + 1 : end]
            if free or inside:
                kept.append(Span(start, end, tuple(rows[start, end])))
            if free:
                taken[start:end] = b"\x02" + b"\x01" * (end - start - 1)
        return sorted(kept)

    def _rows(self, key: int) -> range:
        first = self._first.get(key, len(self._keys))
        last = first
        while last < len(self._keys) and self._keys[last] == key:
            last += 1
        return range(first, last)

    def _runs(self, text: str) -> Iterator[list[tuple[int, int, int]]]:
        """Runs of words (start, end, code) in which names can lie: by stem, exactly as written, and short words."""
        stems: list[tuple[int, int, int]] = []
        exacts: list[tuple[int, int, int]] = []
        skipped = previous = 0
        for match in _WORD.finditer(text):
            start, end = match.span(1)
            gap = text[previous:start]
            previous = match.end()
            cut = gap != " " and _BREAK.search(gap) is not None
            code, short, exact = self._word_codes(match[1])
            skipped = skipped + 1 if code == _FUNCTION else 0
            if stems and (cut or not code or skipped > MAX_SKIPPED):
                yield stems
                stems = []
            if exacts and (cut or not exact):
                yield exacts
                exacts = []
            if code and code != _FUNCTION:
                stems.append((start, end, code))
            if exact:
                exacts.append((start, end, exact))
            if short:
                yield [(start, end, short)]
        yield stems
        yield exacts

    def _word_codes(self, word: str) -> tuple[int, int, int]:
        """Codes by stem, as a short word, and as written; 0 where no name has them, `_FUNCTION` for a function word."""
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
        code = _code(form)
        return code if code in self._codes else 0
