"""Whether a text says of a mention that it is absent, possible, hypothetical, of the past or of the family.

ConText (Harkema et al., "ConText: an algorithm for determining negation, experiencer, and temporal status from clinical
reports", J Biomed Inform 2009; for negation NegEx, Chapman et al. 2001): a trigger phrase speaks of what follows it,
precedes it, or both, within its sentence, up to a phrase that ends its scope or a trigger of the same kind. Phrases
that only look like triggers ("no increase", "not only") are found first and say nothing. The phrases are our own
(`kg.assertion_phrases`); a mention is only marked, never removed.

Beyond the paper: a heading of a section ("Family history:", "Past medical history:") speaks of its lines up to the
next heading; a list after one trigger ("no fever, chills or cough") is all in its scope.
"""

import re
from bisect import bisect
from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from kg.assertion_phrases import AFTER, BEFORE, ENDS, HEADINGS, PSEUDO
from loaders.records import Mention

MAX_WORDS = 12  # words that a trigger reaches, beside those of lists
_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*|[?:;]")
_SENTENCE = re.compile(
    r"[.!?][\"')\]]*\s+(?=[^a-z\s])|\n\s*\n|\n(?=\s*(?:[-*\u2022]|\d+[.)])\s|[A-Z][\w ]{0,30}:)|\r\n\r\n"
)
_HEADING = re.compile(r"(?m)^[ \t]*([A-Za-z][A-Za-z /&-]{2,50}?)[ \t]*:")
_FOLLOWING = re.compile(r"[ \t\r\n]+([^\W_]+)")
_LINKS = frozenset(
    "after again also although and as at based because before but by completely currently due during entirely for from "
    "given if in is now of on only or per previously recently since so than that then though to today was when while "
    "with yet".split()
)
_LIST = re.compile(r"(?:,|/|\bor\b|\band\b|\bnor\b)", re.IGNORECASE)

Scope = tuple[int, int, str]  # characters [start, end) and their assertion


class Trigger(NamedTuple):
    """A phrase that was found: characters [start, end) of the text, its kind, and the assertion that it makes."""

    start: int
    end: int
    kind: str  # before, after, end or pseudo: where the phrase stands to what it speaks of
    assertion: str  # of an end: all those whose scope it ends, parted by spaces


def mark_assertions(text: str, mentions: Iterable[Mention]) -> tuple[Mention, ...]:
    """The mentions, each with the words of `ASSERTIONS` that the text says of it; those it has already stay."""
    mentions = tuple(mentions)
    if not mentions:
        return ()
    sentences, sections = _sentences(text), _sections(text)
    by_sentence: dict[int, list[Mention]] = {}
    for mention in mentions:
        by_sentence.setdefault(bisect(sentences, mention.start) - 1, []).append(mention)
    marked: dict[tuple[int, int], set[str]] = {}
    for n, inside in by_sentence.items():
        end = sentences[n + 1] if n + 1 < len(sentences) else len(text)
        scopes = _scopes(text, sentences[n], end, inside)
        for mention in inside:
            near = sections[max(0, bisect(sections, (mention.start,)) - 1) :][:1]
            marked[mention.start, mention.end] = {
                said for start, end, said in (*scopes, *near) if start <= mention.start and mention.end <= end and said
            }
    return tuple(_marked(mention, marked[mention.start, mention.end]) for mention in mentions)


def triggers(text: str, start: int, end: int) -> list[Trigger]:
    """The phrases in characters [start, end) of a text; of those that overlap the longest, of these the first."""
    words = _WORD.findall(text, start, end)
    lower = " ".join(words).lower().replace("\u2019", "'").split(" ")
    found: list[tuple[int, int]] = []  # words [first, after) of each phrase
    after = 0
    for i, word in enumerate(lower[: len(words)]):
        if i < after or word not in _LENGTHS:
            continue
        for length in _LENGTHS[word]:
            if tuple(lower[i : i + length]) in _MEANINGS:
                after = min(i + length, len(lower))
                found.append((i, after))
                break
    if not found:
        return []
    spans = [match.span() for match in _WORD.finditer(text, start, end)]
    return [
        Trigger(spans[first][0], spans[after - 1][1], kind, assertion)
        for first, after in found
        for kind, assertion in _MEANINGS[tuple(lower[first:after])]
    ]


def _meanings() -> dict[tuple[str, ...], list[tuple[str, str]]]:
    """All phrases, each with where it stands to what it speaks of, and what it says."""
    meanings: dict[tuple[str, ...], list[tuple[str, str]]] = {}
    groups = [("before", BEFORE), ("after", AFTER), ("end", ENDS), ("pseudo", {"": PSEUDO})]
    for kind, by_assertion in groups:
        for assertion, listed in by_assertion.items():
            for phrase in filter(None, (line.strip() for line in listed.split("|"))):
                meanings.setdefault(tuple(phrase.split()), []).append((kind, assertion))
    return meanings


def _lengths(phrases: Iterable[tuple[str, ...]]) -> dict[str, list[int]]:
    """How many words the phrases have that begin with a word, the most first."""
    lengths: dict[str, set[int]] = {}
    for phrase in phrases:
        lengths.setdefault(phrase[0], set()).add(len(phrase))
    return {first: sorted(of, reverse=True) for first, of in lengths.items()}


_MEANINGS = _meanings()
_LENGTHS = _lengths(_MEANINGS)


def _scopes(text: str, start: int, end: int, mentions: list[Mention]) -> list[Scope]:
    """The stretches of a sentence that its triggers speak of."""
    # A phrase inside a longer mention ("absence seizure") is part of a name; "father" may be a concept and tell of one.
    found = [
        t
        for t in triggers(text, start, end)
        if not any(m.start <= t.start and t.end <= m.end and m.end - m.start > t.end - t.start for m in mentions)
    ]
    ahead = {t._replace(kind="after") for t in found if t.kind == "before" and t.assertion in ("possible", "negated")}
    scopes = []
    for n, trigger in enumerate(found):
        if trigger.kind == "before":
            limit = min([*(t.start for t in found[n + 1 :] if _cuts(t, trigger)), end])
            scopes.append((trigger.end, _reach(text, trigger.end, limit, mentions), trigger.assertion))
        elif trigger.kind == "after" and not (trigger in ahead and _goes_on(text, trigger.end)):
            limit = max([*(t.end for t in found[:n] if _cuts(t, trigger)), start])
            scopes.append((_reach_back(text, trigger.start, limit), trigger.start, trigger.assertion))
    return scopes


def _goes_on(text: str, end: int) -> bool:
    """Whether what a word qualifies may follow it: "a rash, possible measles", but "measles possible by the rash"."""
    following = _FOLLOWING.match(text, end)
    if following is None or not text[end - 1].isalpha():
        return False
    return following[1].lower() not in _LINKS and not following[1].endswith("ally")


def _cuts(end: Trigger, trigger: Trigger) -> bool:
    """Whether a phrase ends the scope of a trigger."""
    return end.kind == "end" and trigger.assertion in end.assertion


def _sentences(text: str) -> list[int]:
    """Where sentences begin."""
    return [0, *(m.end() for m in _SENTENCE.finditer(text))]


def _reach(text: str, start: int, limit: int, mentions: list[Mention]) -> int:
    """Where the scope of a trigger before it ends: `MAX_WORDS` on, and on again behind each mention of a list."""
    reached = _forward(text, start, limit)
    for mention in sorted(mentions, key=lambda m: m.start):
        if start <= mention.start < reached < limit and _LIST.search(text, mention.end, min(limit, mention.end + 6)):
            reached = max(reached, _forward(text, mention.end, limit))
    return reached


def _forward(text: str, start: int, limit: int) -> int:
    for n, word in enumerate(_WORD.finditer(text, start, limit), 1):
        if n > MAX_WORDS:
            return word.start()
    return limit


def _reach_back(text: str, end: int, limit: int) -> int:
    words = list(_WORD.finditer(text, limit, end))
    return words[-MAX_WORDS].start() if len(words) > MAX_WORDS else limit


def _sections(text: str) -> list[Scope]:
    """The lines below each heading, to the next one, and what the heading says of them: "" for most."""
    if ":" not in text:
        return []
    headings = list(_HEADING.finditer(text))
    ends = [*(heading.start() for heading in headings[1:]), len(text)]
    names = (" ".join(heading[1].lower().split()) for heading in headings)
    return [
        (heading.end(), end, HEADINGS.get(name, ""))
        for heading, end, name in zip(headings, ends[: len(headings)], names, strict=True)
    ]


def _marked(mention: Mention, said: set[str]) -> Mention:
    if not said.difference(mention.assertion):
        return mention
    return replace(mention, assertion=tuple(sorted(said.union(mention.assertion))))
