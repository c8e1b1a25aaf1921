"""More training documents from those at hand and from the graph, with labels that stay exactly right.

Word by word (Wei and Zou, EMNLP 2019): words outside of mentions are inserted, deleted, swapped or replaced by words
of the same corpus. By the graph: a mention becomes another alias of its concept, or a sibling of its concept (same
parent and type), whose id it then carries, throughout the document and its relations. By a parse: active and passive,
phrases at the front or at the end of their sentence (`fusion.syntax`). `generated` makes sentences from facts; `mixed`
adds as many generated documents as asked for to the real ones. `augment` does all of it for a corpus.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from fusion.corpora import Corpus
from fusion.edits import Edit, edited, free_words
from fusion.knowledge import GraphTables
from fusion.syntax import Parse, Parts, replaced, rewritings
from loaders.errors import MedgraftError
from loaders.records import Document, Mention, Relation

WORD_METHODS = ("insertion", "deletion", "swap", "replacement")
GRAPH_METHODS = ("alias", "sibling")
METHODS = (*WORD_METHODS, *GRAPH_METHODS, "syntax", "facts")
TEMPLATES = (
    "{head} {relation} {tail} .",
    "It is known that {head} {relation} {tail} .",
    "{head} , which {relation} {tail} , was noted .",
    "In this report {head} {relation} {tail} .",
)
_PARENTS = ("is_a", "subclass_of")
_CODE = re.compile(r"[^\w\s]*\w{0,3}\d[\w.-]*|.*[\[\](){}<>].*")

Random = np.random.Generator


@dataclass(frozen=True)
class Aliases:
    """What is needed of a graph: the names of each concept, its type, and its siblings."""

    graph: GraphTables

    @cached_property
    def names(self) -> dict[str, list[str]]:
        """The names of each concept that can stand in a text: no codes, no brackets, none turned round by a comma."""
        table = self.graph.table("names")
        columns = (table[name].to_pylist() for name in ("concept_id", "name", "kind", "suppressed"))
        found: dict[str, dict[str, None]] = {}
        for concept, name, kind, suppressed in zip(*columns, strict=True):
            if not suppressed and kind in ("preferred", "exact") and ", " not in name and not _CODE.fullmatch(name):
                found.setdefault(concept, {})[name] = None
        return {concept: list(names) for concept, names in found.items()}

    @cached_property
    def types(self) -> dict[str, str]:
        table = self.graph.table("concepts")
        lists = table["types"].to_pylist()
        return {id: types[0] if types else "" for id, types in zip(table["id"].to_pylist(), lists, strict=True)}

    @cached_property
    def _family(self) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        parents: dict[str, list[str]] = {}
        children: dict[str, list[str]] = {}
        for head, relation, tail in self.triples:
            if relation in _PARENTS:
                parents.setdefault(head, []).append(tail)
                children.setdefault(tail, []).append(head)
        return parents, children

    @cached_property
    def triples(self) -> list[tuple[str, str, str]]:
        table = self.graph.table("triples")
        return list(zip(*(table[name].to_pylist() for name in ("head", "relation", "tail")), strict=True))

    def siblings(self, concept: str) -> list[str]:
        """Other children of the concept's parents that have its type and a name, in the order of the graph."""
        parents, children = self._family
        around = dict.fromkeys(child for parent in parents.get(concept, ()) for child in children.get(parent, ()))
        type = self.types.get(concept)
        return [id for id in around if id != concept and self.types.get(id) == type and self.names.get(id)]


def augment(
    corpus: Corpus,
    methods: str | Sequence[str] = "alias",
    graph: GraphTables | None = None,
    *,
    ratio: float = 1.0,
    rate: float = 0.1,
    types: Mapping[str, str] | None = None,
    parse: Parse | None = None,
    seed: int = 0,
) -> Corpus:
    """The corpus with made documents among those to train on; its development and test part stay.

    Args:
        corpus: annotated.
        methods: one or several of `METHODS`; each makes as many, of which those that are kept are drawn.
        graph: for `alias`, `sibling` and `facts`: whose ids the mentions carry.
        ratio: made documents for each real one; fewer where a method cannot change enough of them.
        rate: share of the words outside of mentions that a word method changes.
        types: for `facts`: from types of concepts in the graph to types of mentions in the corpus.
        parse: for `syntax`: see `augmented`.
        seed: of everything random.

    Raises:
        MedgraftError: as `augmented` and `generated` do.
    """
    real, names = corpus.train, [methods] if isinstance(methods, str) else list(methods)
    if not real:
        raise MedgraftError(f"there is nothing to augment: {corpus.name} has no document to train on")
    wanted = round(ratio * len(real))
    made: list[Document] = []
    for name in names:
        if name == "facts":
            made += generated(_given(graph, name), types or {}, wanted, seed=seed)
        else:
            # More copies than asked for: not every document can be changed each time.
            copies = 2 * math.ceil(ratio) + 1
            made += augmented(real, name, copies=copies, rate=rate, graph=graph, parse=parse, seed=seed)
    together = mixed(real, made, min(ratio, len(made) / len(real)), seed=seed)
    name = f"{corpus.name}, {len(together) - len(real)} more by {', '.join(names)}"
    return replace(corpus, name=name, train=tuple(together))


def augmented(
    documents: Sequence[Document],
    method: str,
    *,
    copies: int = 1,
    rate: float = 0.1,
    graph: GraphTables | None = None,
    parse: Parse | None = None,
    seed: int = 0,
) -> list[Document]:
    """New documents, `copies` of each one that the method can change; the given ones are not among them.

    Args:
        documents: annotated.
        method: one of `WORD_METHODS`, or `alias` or `sibling` with a graph, or `syntax` with a parse.
        copies: of each document.
        rate: share of the words outside of mentions that a word method changes; of the mentions half are replaced.
        graph: whose ids the mentions carry.
        parse: a spaCy pipeline with tagger and parser, see `kg.linking_pipe.load_parser`.
        seed: of everything random.

    Raises:
        MedgraftError: an unknown method, no graph, no mention of a concept of the graph, or `sibling` for labelled
            texts, whose labels might not hold of the sibling.
    """
    if method not in METHODS or method == "facts":
        raise MedgraftError(f"unknown method {method!r}; choose {', '.join(METHODS)}")
    if not documents:
        raise MedgraftError("there is nothing to augment: no documents; check the corpus")
    generator = np.random.default_rng(seed)
    if method == "syntax":
        change = _said_again(parse)
    else:
        change = _words(method, documents, rate) if method in WORD_METHODS else _concepts(method, documents, graph)
    made = []
    for copy in range(copies):
        for document in documents:
            found = change(document, generator)
            if found is not None:
                made.append(replace(found, id=f"{document.id}+{method}{copy}"))
    return made


def generated(
    graph: GraphTables,
    types: Mapping[str, str],
    count: int,
    *,
    relations: Mapping[str, str] | None = None,
    seed: int = 0,
) -> list[Document]:
    """Sentences that state facts of the graph, with both ends as mentions and the fact as a relation.

    Args:
        graph: what `kg.connect` gives.
        types: from types of concepts in the graph to types of mentions in the corpus; other concepts are not used.
        count: how many sentences.
        relations: from relations of the graph to those of the corpus; without it every relation is stated as it is
            called, in words, and the documents have no relations (NER).
        seed: of everything random.

    Raises:
        MedgraftError: no fact between concepts of these types.
    """
    known = Aliases(graph)
    usable = [
        (head, relation, tail)
        for head, relation, tail in known.triples
        if (relations is None or relation in relations)
        and all(known.types.get(end) in types and known.names.get(end) for end in (head, tail))
    ]
    if not usable:
        raise MedgraftError(
            f"the graph has no fact between concepts of the types {', '.join(types) or 'none'}; check the types"
        )
    generator = np.random.default_rng(seed)
    made = []
    for number in range(count):
        head, relation, tail = usable[int(generator.integers(len(usable)))]
        template = TEMPLATES[int(generator.integers(len(TEMPLATES)))]
        text, mentions = "", []
        for part in re.split(r"(\{\w+\})", template):
            concept = {"{head}": head, "{tail}": tail}.get(part)
            if concept is None:
                text += relation.replace("_", " ") if part == "{relation}" else part
                continue
            name = _drawn(known.names[concept], generator)
            mentions.append(Mention(len(text), len(text) + len(name), types[known.types[concept]], concept))
            text += name
        stated = () if relations is None else (Relation(head, relations[relation], tail),)
        made.append(Document(f"fact{number}", text, tuple(mentions), stated))
    return made


def mixed(real: Sequence[Document], made: Sequence[Document], ratio: float, *, seed: int = 0) -> list[Document]:
    """The real documents and `ratio` times as many of the made ones, drawn without replacement, in a random order.

    Raises:
        MedgraftError: there are not that many.
    """
    wanted = round(ratio * len(real))
    if wanted > len(made):
        raise MedgraftError(
            f"a ratio of {ratio:g} wants {wanted} documents beside {len(real)} real ones, but there are {len(made)}; "
            "make more copies, or lower the ratio"
        )
    generator = np.random.default_rng(seed)
    chosen = [made[n] for n in sorted(generator.permutation(len(made))[:wanted])]
    together = [*real, *chosen]
    return [together[n] for n in generator.permutation(len(together))]


Change = Callable[[Document, Random], Document | None]


def _words(method: str, documents: Sequence[Document], rate: float) -> Change:
    if not 0 < rate <= 1:
        raise MedgraftError(f"a rate is a share of the words, between 0 and 1, not {rate:g}")
    vocabulary = [d.text[a:b].lower() for d in documents for a, b in free_words(d)]

    def change(document: Document, generator: Random) -> Document | None:
        words = free_words(document)
        if len(words) < 2:
            return None
        count = max(1, round(rate * len(words)))
        places = sorted(int(n) for n in generator.permutation(len(words))[:count])
        edits: list[Edit] = []
        for place in places:
            start, end = words[place]
            if method == "insertion":
                edits.append(Edit(start, start, _drawn(vocabulary, generator) + " "))
            elif method == "replacement":
                edits.append(Edit(start, end, _drawn(vocabulary, generator)))
            elif method == "deletion":
                space = document.text[end : end + 1] == " " and not _mention_at(document, end)
                edits.append(Edit(start, end + space, ""))
        if method == "swap":
            edits = _swaps(document, words, count, generator)
        return edited(document, edits)

    return change


def _said_again(parse: Parse | None) -> Change:
    """Half of the sentences that can be said in another way, and at least one."""
    if parse is None:
        raise MedgraftError("the method syntax wants a parse; give a spaCy pipeline with a parser")
    parses: dict[str, list[list[tuple[int, int, Parts]]]] = {}

    def change(document: Document, generator: Random) -> Document | None:
        if document.id not in parses:
            parses[document.id] = rewritings(document, parse(document.text))
        found = parses[document.id]
        if not found:
            return None
        taken = [n for n in range(len(found)) if generator.random() < 0.5] or [int(generator.integers(len(found)))]
        return replaced(document, [found[n][int(generator.integers(len(found[n])))] for n in taken])

    return change


def _swaps(document: Document, words: list[tuple[int, int]], count: int, generator: Random) -> list[Edit]:
    """Pairs of words that change places, each word in one pair at most."""
    order = [words[int(n)] for n in generator.permutation(len(words))[: 2 * min(count, len(words) // 2)]]
    edits = []
    for (a, b), (c, d) in zip(order[::2], order[1::2], strict=True):
        edits += [Edit(a, b, document.text[c:d]), Edit(c, d, document.text[a:b])]
    return edits


def _concepts(method: str, documents: Sequence[Document], graph: GraphTables | None) -> Change:
    known = Aliases(_given(graph, method))
    if method == "sibling" and any(document.labels for document in documents):
        raise MedgraftError("a sibling may not deserve the label of the text; use alias for classification")
    if not any(m.concept_id in known.types for document in documents for m in document.mentions):
        raise MedgraftError("no mention carries the id of a concept of this graph; use the graph of the corpus's ids")

    def change(document: Document, generator: Random) -> Document | None:
        new: dict[str, str] = {}
        edits: dict[tuple[int, int], tuple[Edit, str]] = {}
        for concept in dict.fromkeys(m.concept_id for m in document.mentions if m.concept_id in known.types):
            if concept is None or generator.random() < 0.5 or _entangled(document, concept):
                continue
            other = concept if method == "alias" else _drawn_or_none(known.siblings(concept), generator)
            # A sibling that the text names already would make one concept of two.
            if other is None or (other != concept and any(m.concept_id == other for m in document.mentions)):
                continue
            if other != concept and other in new.values():
                continue
            new[concept] = other
            for m in document.mentions:
                if m.concept_id == concept:
                    old = document.text[m.start : m.end]
                    names = [n for n in known.names.get(other, ()) if n.lower() != old.lower()]
                    if names:
                        edits[m.start, m.end] = (Edit(m.start, m.end, _cased(_drawn(names, generator), old)), other)
        if not edits:
            return None
        changed = edited(document, [edit for edit, _ in edits.values()])
        mentions = tuple(replace(m, concept_id=new.get(m.concept_id or "", m.concept_id)) for m in changed.mentions)
        relations = tuple(
            replace(r, head=new.get(r.head, r.head), tail=new.get(r.tail, r.tail)) for r in changed.relations
        )
        return replace(changed, mentions=mentions, relations=relations)

    return change


def _given(graph: GraphTables | None, method: str) -> GraphTables:
    if graph is None:
        raise MedgraftError(f"the method {method} takes its words from a graph; give one")
    return graph


def _entangled(document: Document, concept: str) -> bool:
    """Whether the concept is also part of a composite mention, or a mention of it overlaps another one."""
    for m in document.mentions:
        if concept in (m.concept_id or "").split("|"):
            if m.concept_id != concept:
                return True
            others = (o for o in document.mentions if o is not m)
            if any(o.start < m.end and m.start < o.end for o in others):
                return True
    return False


def _mention_at(document: Document, place: int) -> bool:
    return any(m.start <= place < m.end for m in document.mentions)


def _cased(name: str, old: str) -> str:
    """Words in lower case where the text is, but not abbreviations; capital at the start where the text has."""
    if old[:1].islower():
        name = re.sub(r"\b[A-Z](?=[a-z])", lambda match: match[0].lower(), name)
    return name[0].upper() + name[1:] if old[:1].isupper() and not old.isupper() else name


def _drawn(values: Sequence[str], generator: Random) -> str:
    return values[int(generator.integers(len(values)))]


def _drawn_or_none(values: Sequence[str], generator: Random) -> str | None:
    return _drawn(values, generator) if values else None
