"""Where a text names concepts: the dictionary's names, what coordination leaves out, and abbreviations it defines."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from kg.abbreviations import abbreviations
from kg.coordination import coordinated
from kg.dictionary import GAP, Dictionary, Found, Hit, keep_spans, nearest

Span = tuple[int, int]
MIN_SYMBOL = 3  # letters of a symbol that is found without being defined in the text


@dataclass(frozen=True, slots=True)
class Settings:
    """What counts as a mention; each rule can be switched off.

    Attributes:
        nested: Mentions inside longer mentions are reported too; with "kinds" only those of which the longer one is a
            kind, as the graph's hierarchy has it: *colitis* in *ulcerative colitis*.
        variants: Words may be exchanged for others that the graph's synonyms license (`kg.variants`).
        gaps: A modifier inside a mention may be left out.
        coordination: Words that conjuncts share are given to each.
        abbreviations: Short forms mean what the text defines.
    """

    nested: bool | Literal["kinds"] = False
    variants: bool = True
    gaps: bool = True
    coordination: bool = True
    abbreviations: bool = True


class Place(NamedTuple):
    """A mention before it is linked: where it lies, the text to find candidates for, and the names that match.

    `parts` is empty for a mention of one stretch. `hits` are in the order of their cost.
    """

    start: int
    end: int
    name: str
    hits: tuple[Hit, ...]
    parts: tuple[Span, ...] = ()


def find_mentions(text: str, dictionary: Dictionary, settings: Settings) -> list[Place]:
    """The mentions of a text, by position."""
    words = dictionary.words(text)
    found = dictionary.find(words, gaps=settings.gaps)
    long_forms = abbreviations(text) if settings.abbreviations else {}
    defined = {text[start:end].removesuffix("s") for start, end in long_forms}
    for span in [
        s for s in found if s[1] - s[0] < MIN_SYMBOL or (defined and _is_hidden(text, s, defined, long_forms))
    ]:
        del found[span]
    _prefer_plain(found)
    places = []
    for start, end in keep_spans(found, words, nested=bool(settings.nested)):
        places.append(Place(start, end, text[start:end], tuple(nearest(found[start, end]))))
    if settings.coordination:
        for shared in coordinated(words, found, dictionary):
            (a, b), (c, d) = shared.parts
            if (a, d) not in found:
                places.append(Place(a, d, f"{text[a:b]} {text[c:d]}", shared.hits, shared.parts))
    for (start, end), long in long_forms.items():
        hits = tuple(dictionary.lookup(text[slice(*long)]))
        inside = any(place.start <= start and end <= place.end and not place.parts for place in places)
        if hits and (settings.nested or not inside):
            places.append(Place(start, end, text[slice(*long)], hits))
    return sorted(places, key=lambda place: (place.start, place.end, place.name))


def _is_hidden(text: str, span: Span, defined: set[str], long_forms: dict[Span, Span]) -> bool:
    """Whether a span is an abbreviation, which means what the text says, not what the graph has under these letters."""
    start, end = span
    name = text[start:end]
    if name in defined or name.removesuffix("s") in defined:
        return True
    return any(s <= start and end <= e for s, e in long_forms)


def _prefer_plain(found: Found) -> None:
    """Drop names that match only by leaving a word out where the same name matches inside without."""
    gapped = [span for span, hits in found.items() if min(hits).cost >= GAP]
    if not gapped:
        return
    plain: dict[int, list[Span]] = {}
    for span, hits in found.items():
        for hit in hits:
            if hit.cost == 0:
                plain.setdefault(hit.row, []).append(span)
    for start, end in gapped:
        rows = {hit.row for hit in found[start, end]}
        if any(start <= s and e <= end for row in rows for s, e in plain.get(row, ())):
            del found[start, end]
