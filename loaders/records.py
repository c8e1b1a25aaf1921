"""The vocabulary that everything in medgraft speaks: small frozen records.

Standard library only, so that any package can import it at no cost. Gold annotation and prediction are the same
thing, a `Document`; an evaluator compares the one with the other. Bulk data never takes this form: millions of rows
move as Arrow tables with the same field names (`loaders.tables`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape


@dataclass(frozen=True, slots=True)
class Concept:
    """A node of the graph. `id` is a CURIE (`HP:0001250`), or the CUI for UMLS."""

    id: str
    name: str
    aliases: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    definition: str | None = None
    sources: tuple[str, ...] = ()

    def _repr_html_(self) -> str:
        """A small card, for notebooks."""
        rows = {"also": self.aliases, "type": self.types, "definition": (self.definition or "",), "from": self.sources}
        lines = [f"<tr><td>{name}</td><td>{escape('; '.join(v))}</td></tr>" for name, v in rows.items() if any(v)]
        title = f"<b>{escape(self.name)}</b> <code>{escape(self.id)}</code>"
        return f"<div>{title}<table>{''.join(lines)}</table></div>"


@dataclass(frozen=True, slots=True)
class Triple:
    """A fact: head, relation, tail. Unpacks into these three; the rest says where the fact comes from.

    `sources` names the vocabularies or files that state the fact, `evidence` holds one JSON object for each statement
    that carries qualifiers (frequency, onset, reference, ...). Two triples are equal when the facts are.
    """

    head: str
    relation: str
    tail: str
    sources: tuple[str, ...] = field(default=(), compare=False)
    evidence: tuple[str, ...] = field(default=(), compare=False)
    head_name: str | None = field(default=None, compare=False)
    tail_name: str | None = field(default=None, compare=False)

    def __iter__(self) -> Iterator[str]:
        return iter((self.head, self.relation, self.tail))

    def __str__(self) -> str:
        return f"{self.head_name or self.head} --{self.relation}--> {self.tail_name or self.tail}"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A scored concept for a mention; `alias` is the name through which it was found. A higher score is better.

    `signals` says what the score is made of, by name: how the name was found, and what context and coherence added.
    """

    concept_id: str
    score: float
    alias: str = ""
    signals: tuple[tuple[str, float], ...] = field(default=(), compare=False)


ASSERTIONS = ("family", "historical", "hypothetical", "negated", "possible")


@dataclass(frozen=True, slots=True)
class Mention:
    """A span of text that names a concept: characters [start, end) of the document's text.

    The text itself is `document.text[start:end]`, never stored twice. `concept_id` is None for NIL. A composite gold
    mention, which names several concepts at once, joins their ids with `|`.

    `parts` holds the stretches of a discontinuous mention ("short ... thumbs" in "short and broad thumbs"), ascending,
    the first from `start`, the last to `end`; it is empty where the mention is one stretch. `assertion` holds the
    words of `ASSERTIONS` that apply, sorted; it is empty for what the text affirms of the patient now.
    """

    start: int
    end: int
    type: str = ""
    concept_id: str | None = None
    score: float | None = field(default=None, compare=False)
    candidates: tuple[Candidate, ...] = field(default=(), compare=False)
    parts: tuple[tuple[int, int], ...] = ()
    assertion: tuple[str, ...] = ()

    def text_in(self, text: str) -> str:
        """What the mention covers of its document's text, its parts joined by spaces."""
        return " ".join(text[start:end] for start, end in self.parts or ((self.start, self.end),))


@dataclass(frozen=True, slots=True)
class Relation:
    """A relation between two concepts that a document states; `head` and `tail` are concept ids.

    An end that has none, in a corpus that relates mentions, is the mention's place: `@12:20`.
    `evidence` holds the characters [start, end) of the sentences it was found in, where these are known.
    """

    head: str
    relation: str
    tail: str
    score: float | None = field(default=None, compare=False)
    evidence: tuple[tuple[int, int], ...] = field(default=(), compare=False)


@dataclass(frozen=True, slots=True)
class Label:
    """What a text as a whole is about, or is: a class, a section, a category."""

    name: str
    score: float | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Document:
    """A text with its annotation, gold or predicted. Iterating gives the mentions, in their order in the text."""

    id: str
    text: str
    mentions: tuple[Mention, ...] = ()
    relations: tuple[Relation, ...] = ()
    labels: tuple[Label, ...] = ()

    def __iter__(self) -> Iterator[Mention]:
        return iter(self.mentions)


@dataclass(frozen=True, slots=True)
class Question:
    """A question over a context, gold or predicted.

    There are three kinds. With `options`, the answer is one of them. With `spans`, it stands in the context at any of
    these characters [start, end), and `answer` is the text of the first; an answer of "" says that the context has
    none. With neither, the answer is a label, such as yes, no or maybe. `answer` is None where it is not known.

    `group` names what must not be torn apart by a split, the article as a rule.
    """

    id: str
    text: str
    context: str
    options: tuple[str, ...] = ()
    answer: str | None = None
    spans: tuple[tuple[int, int], ...] = ()
    group: str = ""
    score: float | None = field(default=None, compare=False)
