"""Rewriting the text of a document while its mentions stay exactly on their words."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from loaders.records import Document, Mention


@dataclass(frozen=True)
class Edit:
    """Characters [start, end) of the text become `text`; start == end inserts."""

    start: int
    end: int
    text: str


def edited(document: Document, edits: Sequence[Edit], id: str | None = None) -> Document:
    """The document with its text changed and every mention moved along.

    An edit either covers whole mentions, which then take its new text, or lies outside of all of them. Evidence of
    relations, which is about the old text, is dropped.

    Raises:
        ValueError: edits overlap, or one cuts a mention.
    """
    ordered = sorted(edits, key=lambda e: (e.start, e.end))
    pieces: list[str] = []
    at = 0
    for edit in ordered:
        if edit.start < at:
            raise ValueError(f"edits overlap at character {edit.start}")
        pieces += [document.text[at : edit.start], edit.text]
        at = edit.end
    text = "".join([*pieces, document.text[at:]])
    mentions = tuple(_moved(mention, ordered) for mention in document.mentions)
    relations = tuple(replace(relation, evidence=()) for relation in document.relations)
    return replace(document, id=document.id if id is None else id, text=text, mentions=mentions, relations=relations)


def _moved(mention: Mention, edits: Sequence[Edit]) -> Mention:
    shift, grown = 0, 0
    for edit in edits:
        change = len(edit.text) - (edit.end - edit.start)
        if edit.end <= mention.start:
            shift += change
        elif edit.start == mention.start and edit.end == mention.end:
            grown = change
        elif edit.start < mention.end:
            raise ValueError(f"an edit at character {edit.start} cuts the mention at {mention.start}")
    start, end = mention.start + shift, mention.end + shift + grown
    if grown or not mention.parts:
        return replace(mention, start=start, end=end, parts=())
    return replace(mention, start=start, end=end, parts=tuple((a + shift, b + shift) for a, b in mention.parts))


def free_words(document: Document) -> list[tuple[int, int]]:
    """Characters of the words (letters only) that lie in no mention."""
    taken = bytearray(len(document.text) + 1)
    for mention in document.mentions:
        taken[mention.start : mention.end] = b"\1" * (mention.end - mention.start)
    words = []
    start = None
    for place, character in enumerate(document.text + " "):
        if character.isalpha():
            start = place if start is None else start
        elif start is not None:
            if not any(taken[start:place]):
                words.append((start, place))
            start = None
    return words
