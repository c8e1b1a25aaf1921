"""What a memory is filled with: facts and definitions of a graph, and the training examples of each task."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa

from fusion.corpora import Corpus
from fusion.knowledge import GraphTables
from fusion.leaks import check_leaks
from fusion.memory import KINDS, Entry, Memory
from fusion.question_corpora import QuestionCorpus
from lm.encoder import Encoder
from lm.sentences import sentence_starts
from loaders.errors import MedgraftError
from loaders.records import Document, Question

_ALIASES = 3  # of a concept, in its definition
MOST = 20_000  # entries of a kind from a graph


def build_memory(
    kinds: Sequence[str],
    encoder: str | Path | Encoder,
    *,
    graph: GraphTables | None = None,
    task: str = "ner",
    corpus: Corpus | QuestionCorpus | None = None,
    most: int = MOST,
    depth: int | None = None,
    progress: bool = False,
) -> Memory:
    """A memory for `fusion.train(..., memory=...)`.

    Args:
        kinds: of "facts", "definitions" and "examples".
        encoder: that the model will be trained from.
        graph: for facts and definitions.
        task: what the corpus is annotated for.
        corpus: for examples: its training part, sentence by sentence, word for word.
        most: facts, and definitions, of a larger graph.
        depth: blocks that read, two thirds by default: where the memory goes into the model, too.
        progress: show a bar on stderr if it is a terminal.

    Raises:
        MedgraftError: an unknown kind, no graph or no examples for a kind that wants them, a graph that the corpus was
            labelled from (`fusion.leaks`).
    """
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise MedgraftError(f"no memory of {unknown[0] if unknown else 'nothing'!r}; choose from {', '.join(KINDS)}")
    if graph is not None and isinstance(corpus, Corpus) and task == "relations":
        check_leaks(corpus, graph)
    entries: list[Entry] = []
    for kind, make in (("facts", fact_entries), ("definitions", definition_entries)):
        if kind in kinds:
            if graph is None:
                raise MedgraftError(f"a memory of {kind} needs a graph; give --graph, or ask for examples alone")
            entries += make(graph, most)
    if "examples" in kinds:
        if corpus is None or not corpus.train:
            raise MedgraftError("a memory of examples needs a corpus with a training part")
        entries += example_entries(task, corpus.train)
    fingerprint = graph.fingerprint if graph is not None and {"facts", "definitions"} & set(kinds) else ""
    return Memory.build(entries, encoder, graph=fingerprint, depth=depth, progress=progress)


def fact_entries(graph: GraphTables, most: int = MOST) -> list[Entry]:
    """Facts as short sentences, with head and tail as slots that are labelled with the types of their concepts.

    Of more than `most` facts the relations take turns, so that a frequent one does not crowd out the others, and within
    a relation the facts of the best connected concepts come first: texts are mostly about these.
    """
    concepts = _frame(graph.table("concepts"), ["id", "name", "types"])
    triples = _frame(graph.table("triples"), ["head", "relation", "tail"])
    degree = _degrees(triples)
    ends = concepts.with_columns(type=pl.col("types").list.first().fill_null("")).drop("types")
    chosen = (
        triples.join(degree.rename({"id": "head", "degree": "of_head"}), on="head")
        .join(degree.rename({"id": "tail", "degree": "of_tail"}), on="tail")
        .with_columns(weight=pl.col("of_head").cast(pl.Float64).log() + pl.col("of_tail").cast(pl.Float64).log())
        .sort(["weight", "head", "relation", "tail"], descending=[True, False, False, False])
        .with_columns(turn=pl.int_range(pl.len()).over("relation"))
        .sort("turn", "relation")
        .head(most)
        .join(ends.rename({"id": "head", "name": "head_name", "type": "head_type"}), on="head", maintain_order="left")
        .join(ends.rename({"id": "tail", "name": "tail_name", "type": "tail_type"}), on="tail", maintain_order="left")
    )
    columns = ("head", "relation", "tail", "head_name", "tail_name", "head_type", "tail_type")
    return [_fact(*row) for row in chosen.select(columns).iter_rows()]


def _fact(head: str, relation: str, tail: str, head_name: str, tail_name: str, of_head: str, of_tail: str) -> Entry:
    before = f"{head_name} {relation.replace('_', ' ')} "
    slots = ((0, len(head_name), of_head), (len(before), len(before) + len(tail_name), of_tail))
    return Entry("facts", before + tail_name, slots, f"{head} {relation} {tail}")


def definition_entries(graph: GraphTables, most: int = MOST) -> list[Entry]:
    """Names of concepts with their definition, or else their type; of more than `most` the best connected ones.

    The name and some aliases are slots, labelled with the concept's type.
    """
    table = graph.table("concepts")
    columns = [name for name in ("id", "name", "types", "definition", "aliases") if name in table.column_names]
    concepts = _frame(table, columns)
    degree = _degrees(_frame(graph.table("triples"), ["head", "tail"]))
    chosen = (
        concepts.join(degree, on="id", how="left")
        .sort(["degree", "id"], descending=[True, False], nulls_last=True)
        .head(most)
    )
    return [_definition(row) for row in chosen.iter_rows(named=True)]


def _definition(row: dict[str, Any]) -> Entry:
    kind = (row["types"] or [""])[0]
    text, slots = "", []
    for n, name in enumerate([row["name"], *(row.get("aliases") or [])[:_ALIASES]]):
        text += ("", ", also called ", ", ", ", ")[n]
        slots.append((len(text), len(text) + len(name), kind))
        text += name
    text += f": {row['definition']}" if row["definition"] else f" ({kind})"
    return Entry("definitions", text, tuple(slots), row["id"])


def example_entries(task: str, items: Sequence[Any]) -> list[Entry]:
    """Annotated items, a sentence or a question each, with what people said of them as labels of the slots.

    Mentions have their type, and for relations also the relations of their concept; a text to be classified has its
    labels, a question its answer, an option whether it is right, and a context the place of the answer.
    """
    of_task: dict[str, Callable[[Any], Iterator[Entry]]] = {
        "ner": _of_mentions,
        "relations": _of_mentions,
        "classification": _of_labels,
        "qa": _of_question,
    }
    return [entry for item in items for entry in of_task[task](item)]


def _sentences(text: str) -> Iterator[tuple[int, int]]:
    """Characters [start, end) of the sentences, without space around them."""
    starts = [*sentence_starts(text), len(text)]
    for start, end in zip(starts, starts[1:], strict=False):
        if words := text[start:end].strip():
            first = start + text[start:end].index(words)
            yield first, first + len(words)


def _of_mentions(document: Document) -> Iterator[Entry]:
    roles: dict[str, set[str]] = {}
    for relation in document.relations:
        for concept in (relation.head, relation.tail):
            roles.setdefault(concept, set()).add(relation.relation)
    for start, end in _sentences(document.text):
        slots = []
        for m in document.mentions:
            if start <= m.start and m.end <= end:
                found = sorted({role for id in (m.concept_id or "").split("|") for role in roles.get(id, ())})
                slots.append((m.start - start, m.end - start, " ".join([m.type, *found])))
        if slots:
            yield Entry("examples", document.text[start:end], tuple(slots), document.id, (document.text,))


def _of_labels(document: Document) -> Iterator[Entry]:
    for start, end in _sentences(document.text):
        slots = tuple((0, end - start, label.name) for label in document.labels)
        if slots:
            yield Entry("examples", document.text[start:end], slots, document.id, (document.text,))


def _of_question(question: Question) -> Iterator[Entry]:
    if question.options:
        readings = tuple("\n".join((question.text, option, question.context)) for option in question.options)
        for option in question.options:
            text = f"{question.text} {option}"
            slot = (len(question.text) + 1, len(text), "right" if option == question.answer else "wrong")
            yield Entry("examples", text, (slot,), question.id, readings)
        return
    readings = (f"{question.text}\n{question.context}",)
    if question.spans:
        first, last = question.spans[0]
        for start, end in _sentences(question.context):
            if start <= first and last <= end:
                slot = (first - start, last - start, "answer")
                yield Entry("examples", question.context[start:end], (slot,), question.id, readings)
    elif question.answer:
        slot = (0, len(question.text), question.answer)
        yield Entry("examples", question.text, (slot,), question.id, readings)


def _frame(table: pa.Table, columns: list[str]) -> pl.DataFrame:
    return pl.DataFrame(pl.from_arrow(table.select(columns)))


def _degrees(triples: pl.DataFrame) -> pl.DataFrame:
    """The number of facts of each concept that has any: columns id and degree."""
    ends = pl.concat([triples.select(id="head"), triples.select(id="tail")])
    return ends.group_by("id").len("degree")
