"""Mentions that share words: "short and broad thumbs", "type 1 and 2 diabetes", "cleft lip and palate".

A stretch of text without hard punctuation is cut into conjuncts at commas, slashes, *and* and *or*. What a conjunct
lacks is borrowed from another: the end of the last ("*renal* and otic *anomalies*") or the beginning of the first
("*cleft* lip and *palate*"). A mention so found is discontinuous: its own words and the borrowed ones are its parts.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from kg.dictionary import Dictionary, Found, Hit, Word

MAX_OWN = 3  # words of its own that a conjunct may have
MAX_SHARED = 3  # words that it borrows
MAX_CONJUNCTS = 6
_AND = frozenset(("and", "or", "nor", "and/or", "&"))
Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Shared:
    """A mention of two parts: the names that match them together."""

    parts: tuple[Span, Span]
    hits: tuple[Hit, ...]


def coordinated(text: str, words: list[Word], found: Found, dictionary: Dictionary) -> list[Shared]:
    """Mentions that borrow words from a neighbour, by position.

    Args:
        text: The text.
        words: Its words.
        found: The names found without borrowing; a conjunct that is one by itself borrows nothing.
        dictionary: The names.
    """
    starts = {start for start, _ in found}
    ends = {end for _, end in found}
    shared: dict[tuple[Span, Span], tuple[Hit, ...]] = {}
    for conjuncts in _lists(text, words):
        for j in range(1, len(conjuncts)):
            for i in range(j - 1, max(-1, j - MAX_CONJUNCTS), -1):
                if any(len(between) > MAX_OWN for between in conjuncts[i + 1 : j]):
                    break
                own = _borrow_end(conjuncts[i], conjuncts[j], ends, dictionary)
                for pair in own, _borrow_start(conjuncts[i], conjuncts[j], found, starts, dictionary, own is not None):
                    if pair is not None:
                        shared.setdefault(pair.parts, pair.hits)
    return [Shared(parts, hits) for parts, hits in sorted(shared.items())]


def _borrow_end(first: list[Word], last: list[Word], ends: set[int], dictionary: Dictionary) -> Shared | None:
    """The end of the first conjunct with the end of the last, where a name ends there: "renal and otic anomalies"."""
    if first[-1].end in ends:
        return None
    counted = _is_number(first[-1].text) and _is_number(last[0].text)  # "type 1 and 2 diabetes"
    for n in range(min(MAX_OWN, len(first)), 0, -1):
        own = first[-n:]
        if not all(word.code for word in own):
            continue
        key = sum(word.code for word in own)
        for skipped in range(1, min(MAX_OWN, len(last) - 1) + 1):
            for m in range(min(MAX_SHARED, len(last) - skipped), 0, -1):
                head = last[skipped : skipped + m]
                if (counted or head[-1].end in ends) and all(word.code for word in head):
                    hits = dictionary.hits(key + sum(word.code for word in head))
                    if hits:
                        return Shared(((own[0].start, own[-1].end), (head[0].start, head[-1].end)), tuple(hits))
    return None


def _borrow_start(
    first: list[Word], last: list[Word], found: Found, starts: set[int], dictionary: Dictionary, paired: bool
) -> Shared | None:
    """The beginning of the first conjunct, itself a name, with the last one: "cleft lip and palate"."""
    if last[0].start in starts and not paired:
        return None
    for n in range(min(MAX_OWN, len(last)), 0, -1):
        own = last[:n]
        if not all(word.code for word in own):
            continue
        key = sum(word.code for word in own)
        for begin in range(max(0, len(first) - MAX_SHARED - MAX_OWN), len(first) - 1):
            if not paired and (first[begin].start, first[-1].end) not in found:
                continue
            for m in range(min(MAX_SHARED, len(first) - 1 - begin), 0, -1):
                head = first[begin : begin + m]
                if all(word.code for word in head):
                    hits = dictionary.hits(key + sum(word.code for word in head))
                    if hits:
                        return Shared(((head[0].start, head[-1].end), (own[0].start, own[-1].end)), tuple(hits))
    return None


def _is_number(word: str) -> bool:
    return len(word) < 3 and (word.isdigit() or word.isupper())


def _lists(text: str, words: list[Word]) -> Iterator[list[list[Word]]]:
    """The conjuncts, as content words, of each stretch that holds an *and*, an *or* or a slash."""
    conjuncts: list[list[Word]] = [[]]
    joined = False
    previous = 0
    for word in words:
        gap = text[previous : word.start]
        previous = word.end
        slash = "/" in gap or "&" in gap
        if word.breaks and gap.strip() != ",":
            if joined:
                yield [c for c in conjuncts if c]
            conjuncts, joined = [[]], False
        elif word.breaks or slash:
            conjuncts.append([])
            joined |= slash
        if word.text.lower() in _AND:
            conjuncts.append([])
            joined = True
        elif word.content:
            conjuncts[-1].append(word)
    if joined:
        yield [c for c in conjuncts if c]
