"""Sentences said in another way by their parse: active and passive, clauses and phrases at the front or at the end.

A parse is what a spaCy pipeline with a tagger and a parser makes of a text (English, with the labels of spaCy's own
models). Only what needs no lexicon is said again: regular verbs in the past tense, subjects that are no pronouns, and
phrases that hang on the sentence's verb. Mentions move with their words; the first letter of a sentence changes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from loaders.records import Document, Mention

Parse = Callable[[str], Any]
"""Text to a spaCy `Doc`."""

_PASSIVE_SUBJECT, _OBJECT = ("nsubjpass", "nsubj:pass"), ("dobj", "obj")
_PHRASES = ("advcl", "prep", "npadvmod")
_MOVABLE = ("DT", "IN", "PRP$", "RB", "EX", "CD", "TO", "VBG")
"""Tags of words that begin with a small letter inside of a sentence; others may be names."""


@dataclass(frozen=True)
class Part:
    """Characters [start, end) of the old text; `first` is what becomes of the first letter: "", "upper", "lower"."""

    start: int
    end: int
    first: str = ""


Parts = list[Part | str]


def rearranged(document: Document, parts: Parts) -> Document | None:
    """The text put together anew from parts of it and other words; None where a mention is not whole in one part.

    Evidence of relations, which is about the old text, is dropped.
    """
    text, places = "", []
    for part in parts:
        if isinstance(part, str):
            text += part
            continue
        places.append((part.start, part.end, len(text)))
        words = document.text[part.start : part.end]
        first = {"upper": words[:1].upper(), "lower": words[:1].lower()}.get(part.first, words[:1])
        text += (first if len(first) == 1 else words[:1]) + words[1:]
    mentions: list[Mention] = []
    for m in document.mentions:
        shifts = [new - start for start, end, new in places if start <= m.start and m.end <= end]
        if len(shifts) != 1:
            return None
        (by,) = shifts
        cut = tuple((a + by, b + by) for a, b in m.parts)
        mentions.append(replace(m, start=m.start + by, end=m.end + by, parts=cut))
    mentions.sort(key=lambda m: (m.start, m.end))
    relations = tuple(replace(relation, evidence=()) for relation in document.relations)
    return replace(document, text=text, mentions=tuple(mentions), relations=relations)


def rewritings(document: Document, parsed: Any) -> list[list[tuple[int, int, Parts]]]:
    """For each sentence of a parse that can be said in another way, its characters and the parts of each way."""
    found = []
    for sentence in parsed.sents:
        ways = [(start, end, parts) for start, end, parts in _ways(sentence) if _whole(document, start, end, parts)]
        if ways:
            found.append(ways)
    return found


def replaced(document: Document, chosen: list[tuple[int, int, Parts]]) -> Document | None:
    """The document with these sentences, in order, said in these other ways."""
    parts: Parts = []
    at = 0
    for start, end, others in chosen:
        parts += [Part(at, start), *others]
        at = end
    return rearranged(document, [*parts, Part(at, len(document.text))])


def _whole(document: Document, start: int, end: int, parts: Parts) -> bool:
    """Whether every mention that touches these characters lies in one of the parts."""
    return all(
        any(isinstance(p, Part) and p.start <= m.start and m.end <= p.end for p in parts)
        for m in document.mentions
        if m.start < end and start < m.end
    )


def _ways(sentence: Any) -> Iterator[tuple[int, int, Parts]]:
    verb = sentence.root
    last = sentence[-1]
    words = sentence[:-1] if last.is_punct else sentence
    if verb.dep_ != "ROOT" or not len(words) or not sentence[0].text[:1].isupper():
        return
    start, end = sentence[0].idx, words[-1].idx + len(words[-1])
    for make in (_passive, _active, _fronted, _postponed):
        parts = make(verb, words, start, end)
        if parts is not None:
            yield start, end, parts


def _passive(verb: Any, words: Any, start: int, end: int) -> Parts | None:
    """A was treated by B from B treated A."""
    subject, thing = _child(verb, ("nsubj",)), _child(verb, _OBJECT)
    helped = any(t.dep_ in ("aux", "auxpass", "aux:pass", "neg", "expl", "dative") for t in verb.children)
    if subject is None or thing is None or helped or verb.tag_ != "VBD" or not _regular(verb):
        return None
    order = (subject.left_edge.i, subject.right_edge.i + 1, verb.i, verb.i + 1, thing.left_edge.i)
    if order != (words[0].i, verb.i, verb.i, thing.left_edge.i, thing.left_edge.i) or _pronoun(subject, thing):
        return None
    several = thing.tag_ in ("NNS", "NNPS") or any(t.dep_ == "conj" for t in thing.children)
    be, after = " were " if several else " was ", _end(thing)
    return [_first(thing), be, Part(verb.idx, _end(verb)), " by ", _inside(subject), Part(after, end)]


def _active(verb: Any, words: Any, start: int, end: int) -> Parts | None:
    """B treated A from A was treated by B."""
    subject, by = _child(verb, _PASSIVE_SUBJECT), _child(verb, ("agent",))
    actor = None if by is None else _child(by, ("pobj",))
    helpers = [t for t in verb.children if t.dep_ in ("aux", "auxpass", "aux:pass", "neg")]
    if subject is None or by is None or actor is None or len(helpers) != 1 or not _regular(verb):
        return None
    if helpers[0].lower_ not in ("was", "were") or verb.tag_ != "VBN" or _pronoun(subject, actor):
        return None
    order = (subject.left_edge.i, subject.right_edge.i + 1, helpers[0].i + 1, verb.i + 1, by.i + 1)
    if order != (words[0].i, helpers[0].i, verb.i, by.i, actor.left_edge.i):
        return None
    return [_first(actor), " ", Part(verb.idx, _end(verb)), " ", _inside(subject), Part(_end(actor), end)]


def _fronted(verb: Any, words: Any, start: int, end: int) -> Parts | None:
    """After the dose, A fell from A fell after the dose."""
    for token in verb.children:
        if token.dep_ in _PHRASES and token.i > verb.i and token.right_edge.i == words[-1].i:
            head, before = token.left_edge, token.left_edge.nbor(-1)
            before = before.nbor(-1) if before.text == "," else before
            first = words[0]
            if head.i > verb.i and first.dep_ not in _PHRASES and not before.is_punct and head.tag_ in _MOVABLE:
                return [Part(head.idx, end, "upper"), ", ", Part(start, _stop(before), _small(first))]
    return None


def _postponed(verb: Any, words: Any, start: int, end: int) -> Parts | None:
    """A fell after the dose from After the dose, A fell."""
    for token in verb.children:
        if token.dep_ in _PHRASES and token.left_edge.i == words[0].i and token.right_edge.i + 2 < verb.i + 1:
            comma = token.right_edge.nbor(1)
            if comma.text == "," and words[0].tag_ in _MOVABLE:
                rest = comma.nbor(1)
                return [Part(rest.idx, end, "upper"), " ", Part(start, _stop(token.right_edge), "lower")]
    return None


def _child(token: Any, names: tuple[str, ...]) -> Any:
    found = [t for t in token.children if t.dep_ in names]
    return found[0] if len(found) == 1 else None


def _regular(verb: Any) -> bool:
    """Whether past tense and participle are the same by the look of it."""
    return bool(verb.lower_.endswith("ed") and len(verb) > 4)


def _pronoun(*tokens: Any) -> bool:
    return any(t.tag_ in ("PRP", "WP", "WDT", "EX", "DT") for t in tokens)


def _stop(token: Any) -> int:
    return int(token.idx + len(token))


def _end(token: Any) -> int:
    """Where the words that hang on a token end."""
    return _stop(token.right_edge) if token.dep_ != "ROOT" else _stop(token)


def _first(token: Any) -> Part:
    return Part(token.left_edge.idx, _end(token), "upper")


def _inside(token: Any) -> Part:
    return Part(token.left_edge.idx, _end(token), _small(token.left_edge))


def _small(token: Any) -> str:
    return "lower" if token.tag_ in _MOVABLE else ""
