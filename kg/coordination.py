"""Mentions that share words: "short and broad thumbs", "type 1 and 2 diabetes", "cleft lip and palate".

A stretch of text without hard punctuation is cut into conjuncts at commas, slashes, *and* and *or*. What a conjunct
lacks is borrowed from another: the end of the last ("*renal* and otic *anomalies*") or the beginning of the first
("*cleft* lip and *palate*"). A mention so found is discontinuous: its own words and the borrowed ones are its parts.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from kg.dictionary import Dictionary, Found, Hit, Words, nearest

MAX_OWN = 3  # words of its own that a conjunct may have
MAX_SHARED = 3  # words that it borrows
MAX_CONJUNCTS = 6
Span = tuple[int, int]
Conjunct = list[int]  # places of its content words


@dataclass(frozen=True, slots=True)
class Shared:
    """A mention of two parts: the names that match them together."""

    parts: tuple[Span, Span]
    hits: tuple[Hit, ...]


def coordinated(words: Words, found: Found, dictionary: Dictionary) -> list[Shared]:
    """Mentions that borrow words from a neighbour, by position.

    Args:
        words: The words of the text.
        found: The names found without borrowing; a conjunct that is one by itself borrows nothing.
        dictionary: The names.
    """
    reach = dict(sorted(found))  # from where names begin, how far the longest of each goes
    ends = {end for _, end in found}
    shared: dict[tuple[Span, Span], tuple[Hit, ...]] = {}
    for conjuncts in _lists(words):
        ended: set[int] = set()  # conjuncts that have the end that they lacked
        named = [not ends.isdisjoint([words.ends[place] for place in conjunct]) for conjunct in conjuncts]
        for j in range(1, len(conjuncts)):
            for i in range(j - 1, max(-1, j - MAX_CONJUNCTS), -1):
                if i + 1 < j and len(conjuncts[i + 1]) > MAX_OWN:  # what lies between is too long for a conjunct
                    break
                first, last = conjuncts[i], conjuncts[j]
                pairs = []
                if words.ends[first[-1]] in ends:
                    past = reach.get(words.starts[last[0]], 0)
                    pairs.append(_borrow_start(words, first, last, found, dictionary, past))
                elif i not in ended and (named[j] or _counted(words, first, last)):
                    pairs.append(_borrow_end(words, first, last, ends, dictionary))
                    if pairs[0] is not None:
                        ended.add(i)
                        pairs.append(_borrow_start(words, first, last, None, dictionary))
                for pair in filter(None, pairs):
                    shared.setdefault(pair.parts, pair.hits)
    return [Shared(parts, tuple(nearest(list(hits)))) for parts, hits in sorted(shared.items())]


def _borrow_end(words: Words, first: Conjunct, last: Conjunct, ends: set[int], dictionary: Dictionary) -> Shared | None:
    """The end of the first conjunct with the end of the last, where a name ends there: "renal and otic anomalies"."""
    before = words.forms[last[0] - 1]
    if not before.content and not before.joins:  # a new phrase: "a vitreous anomaly and *a* flat face"
        return None
    counted = _counted(words, first, last)
    heads = [
        last[skipped : skipped + m]
        for skipped in range(1, min(MAX_OWN, len(last) - 1) + 1)
        for m in range(min(MAX_SHARED, len(last) - skipped), 0, -1)
        if (counted or words.ends[last[skipped + m - 1]] in ends)
        and last[skipped + m - 1] - last[0] == skipped + m - 1  # no "broad nail *with* a thumb"
    ]
    return _together(words, [first[-n:] for n in range(min(MAX_OWN, len(first)), 0, -1)], heads, dictionary)


def _borrow_start(
    words: Words, first: Conjunct, last: Conjunct, found: Found | None, dictionary: Dictionary, past: int = 0
) -> Shared | None:
    """The beginning of the first conjunct with the last one: "cleft lip and palate"; of `found`, one of its names.

    Of the last one there must be more than a name by itself, which ends at `past`.
    """
    heads = [
        first[begin : begin + m]
        for begin in range(max(0, len(first) - MAX_SHARED - MAX_OWN), len(first) - 1)
        if found is None or (words.starts[first[begin]], words.ends[first[-1]]) in found
        for m in range(min(MAX_SHARED, len(first) - 1 - begin), 0, -1)
        if len(first) - begin - m <= MAX_OWN
    ]
    owns = [last[:n] for n in range(min(MAX_OWN, len(last)), 0, -1) if words.ends[last[n - 1]] > past]
    return _together(words, owns, heads, dictionary)


def _counted(words: Words, first: Conjunct, last: Conjunct) -> bool:
    """Whether the conjuncts count something: "type 1 and 2 diabetes"."""
    return words.forms[first[-1]].number and words.forms[last[0]].number


def _together(words: Words, owns: list[Conjunct], heads: list[Conjunct], dictionary: Dictionary) -> Shared | None:
    """The first words of one's own that are a name with the first of the borrowed ones."""
    if not heads:
        return None
    borrowed = [(key, head) for head in heads if (key := _key(words, head))]
    for own in owns:
        key = _key(words, own)
        for other, head in borrowed if key else ():
            hits = dictionary.hits(key + other)
            if hits:
                one, two = sorted((own, head))
                parts = (words.starts[one[0]], words.ends[one[-1]]), (words.starts[two[0]], words.ends[two[-1]])
                return Shared(parts, hits)
    return None


def _key(words: Words, places: Conjunct) -> int:
    """0 if no name has one of the words."""
    codes = [words.forms[place].code for place in places]
    return sum(codes) if all(codes) else 0


def _lists(words: Words) -> Iterator[list[Conjunct]]:
    """The conjuncts of each stretch that holds an *and*, an *or* or a slash."""
    stop = 0
    for place, (form, gap) in enumerate(zip(words.forms, words.gaps, strict=True)):
        if place >= stop and (form.lists or gap.slash):
            start = next((n for n in range(place, stop, -1) if words.gaps[n].hard), stop)
            stop = next((n for n in range(place + 1, len(words.forms)) if words.gaps[n].hard), len(words.forms))
            yield _conjuncts(words, start, stop)


def _conjuncts(words: Words, start: int, stop: int) -> list[Conjunct]:
    conjuncts: list[Conjunct] = [[]]
    for place in range(start, stop):
        form, gap = words.forms[place], words.gaps[place]
        if form.lists or gap.breaks or gap.slash:
            conjuncts.append([])
        if form.content and not form.lists:
            conjuncts[-1].append(place)
    return [conjunct for conjunct in conjuncts if conjunct]
