"""Another graph for a trained model, without training: new concepts, new and removed facts, and a gate before release.

What the layer has learnt stays valid because the vectors of the concepts that it knows stay as they are. A new concept
gets the mean over its facts of what TransE expects it to be, `tail - relation` or `head + relation`, or of its
neighbours where the relation vectors are not given. A text whose links, concepts and facts are the same is predicted
the same.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from fusion.knowledge import GraphTables, KnowledgeTable
from fusion.memory import Memory
from fusion.memory_entries import definition_entries, example_entries, fact_entries
from fusion.model import FusedModel
from kg import Embeddings, Linker
from loaders.errors import MedgraftError
from loaders.records import Document, Question


@dataclass(frozen=True)
class SwapReport:
    """What became of the concepts and facts, by count.

    `placed` of the new concepts got a vector from their facts, the others have none; `unknown_relations` and
    `unknown_types` are words that the layer was not trained on, with the facts left out and concepts affected.
    """

    kept: int
    new: int
    placed: int
    gone: int
    unknown_relations: dict[str, int]
    unknown_types: dict[str, int]

    def __str__(self) -> str:
        lines = [
            f"{self.kept:,} concepts kept, {self.new:,} new ({self.placed:,} placed by their facts), {self.gone:,} gone"
        ]
        for what, words in (("relation", self.unknown_relations), ("type", self.unknown_types)):
            if words:
                shown = ", ".join(f"{word} ({count:,})" for word, count in sorted(words.items()))
                lines.append(f"not known to the model, by {what}: {shown}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Gate:
    """Predictions before and after: how many documents or questions, and the ids of those predicted otherwise."""

    documents: int
    changed: tuple[str, ...]

    def __str__(self) -> str:
        shown = ", ".join(self.changed[:10]) + (", ..." if len(self.changed) > 10 else "")
        return f"predictions changed in {len(self.changed)} of {self.documents}" + (f": {shown}" if shown else "")

    def check(self, most: int = 0) -> None:
        """Raise a MedgraftError if more documents changed than may."""
        if len(self.changed) > most:
            raise MedgraftError(
                f"predictions changed in {len(self.changed)} of {self.documents} documents, {self.changed[0]} first, "
                f"and {most} may change; look at them, then raise the limit or keep the old graph"
            )


def swap_graph(
    model: FusedModel[Any], graph: GraphTables, linker: Linker, embeddings: Embeddings | None = None
) -> tuple[FusedModel[Any], SwapReport]:
    """The same model over another graph; the given one stays as it is.

    Args:
        model: fused.
        graph: what `kg.connect` gives for the new graph.
        linker: built from the new graph. Its scores of names that are merely alike hang on all names of the graph, so
            they may differ a little everywhere; those of names that match are 1.0 in any graph.
        embeddings: those that the model was trained with, for their relation vectors.

    Raises:
        MedgraftError: a plain model, a linker of another graph, no concept in common.
    """
    old = model.table
    if old is None:
        raise MedgraftError("a plain model has no graph to exchange; train one with a graph")
    if linker.fingerprint != graph.fingerprint:
        raise MedgraftError("the linker is of another graph than the one given; build it with Linker.build(graph)")
    ids = graph.table("concepts")["id"].to_pylist()
    kept = [id in old.id_to_row for id in ids]
    if not any(kept):
        raise MedgraftError("the new graph has no concept of the old one; train the model on it instead")
    vectors, placed = _vectors(old, ids, graph.table("triples"), embeddings)
    table = KnowledgeTable.build(
        graph,
        _Vectors(ids, vectors, graph.fingerprint),
        num_facts=old.neighbours.shape[1],
        pairs=old.facts is not None,
        words=(old.type_names, old.relation_names),
    )
    # Not scaled anew, so that they are the same to the last bit.
    rows = [(new, old.id_to_row[id]) for new, id in enumerate(ids) if id in old.id_to_row]
    there, from_old = (list(side) for side in zip(*rows, strict=True))
    table.vectors[there] = old.vectors[from_old]
    types = [types[0] if types else "" for types in graph.table("concepts")["types"].to_pylist()]
    report = SwapReport(
        kept=sum(kept),
        new=len(ids) - sum(kept),
        placed=placed,
        gone=len(set(old.ids) - set(ids)),
        unknown_relations=_unknown(graph.table("triples")["relation"].to_pylist(), old.relation_names),
        unknown_types=_unknown(types, [*old.type_names, ""]),
    )
    memory = None if model.memory is None else _of_graph(model.memory, graph)
    return replace(model, table=table, linker=linker, memory=memory, leaks={}), report


def swap_memory(model: FusedModel[Any], memory: Memory, *, other_graph: bool = False) -> FusedModel[Any]:
    """The same model with another memory; the given one stays as it is. Labels that it did not learn say nothing.

    Args:
        model: trained with a memory.
        memory: read by the same encoder.
        other_graph: whether its facts may come from another graph than before, for a model without knowledge attention.

    Raises:
        MedgraftError: a model without memory, a memory of another encoder or of another graph.
    """
    old = model.memory
    if old is None:
        raise MedgraftError("the model was trained without a memory; train one with --memory")
    if (memory.encoder, memory.depth) != (old.encoder, old.depth):
        raise MedgraftError("the memory was read by another encoder than the model's memory; make it with that one")
    memory.check(model.encoder, "" if model.table is None else model.table.fingerprint)
    if not other_graph:
        memory.check(model.encoder, old.graph)
    moved = replace(memory.relabelled(old.label_names), centre=old.centre, reader=old.reader)
    return replace(model, memory=moved)


def remember(model: FusedModel[Any], items: Sequence[Any]) -> FusedModel[Any]:
    """The same model, whose memory has these annotated items as examples too; nothing is trained.

    Raises:
        MedgraftError: a model without memory, or items without an annotation.
    """
    if model.memory is None:
        raise MedgraftError("the model was trained without a memory; train one with --memory")
    entries = example_entries(model.settings.task, items)
    if not entries:
        raise MedgraftError("nothing is annotated in these items, so there is nothing to remember")
    return replace(model, memory=model.memory.with_entries(entries))


def forget(model: FusedModel[Any], sources: Iterable[str]) -> FusedModel[Any]:
    """The same model, whose memory lacks what comes from these documents, questions, concepts or facts.

    Raises:
        MedgraftError: a model without memory, or a source that is not in it.
    """
    if model.memory is None:
        raise MedgraftError("the model was trained without a memory, so there is nothing to forget")
    gone = set(sources)
    absent = sorted(gone - set(model.memory.entries["source"].to_pylist()))
    if absent:
        raise MedgraftError(f"nothing in the memory comes from {absent[0]!r}; check the id")
    return replace(model, memory=model.memory.only(lambda _kind, source: source not in gone))


def _of_graph(memory: Memory, graph: GraphTables) -> Memory:
    """The examples of a memory, with facts and definitions of this graph in the place of the old ones."""
    counts = memory.counts
    entries = [
        entry
        for kind, make in (("facts", fact_entries), ("definitions", definition_entries))
        if kind in counts
        for entry in make(graph)
    ]
    if not entries:
        return memory
    kept = memory.only(lambda kind, _source: kind == "examples")
    return replace(kept.with_entries(entries), graph=graph.fingerprint)


def gate(before: FusedModel[Any], after: FusedModel[Any], items: Sequence[Document] | Sequence[Question]) -> Gate:
    """Predict with both models and compare mentions, concepts, relations, labels or answers; scores may differ."""
    pairs = zip(before.pipe(items), after.pipe(items), strict=True)
    return Gate(len(items), tuple(a.id for a, b in pairs if _said(a) != _said(b)))


def _said(item: Document | Question) -> tuple[Any, ...]:
    if isinstance(item, Question):
        return item.answer, item.spans
    mentions = tuple((m.start, m.end, m.type, m.concept_id) for m in item.mentions)
    return (
        mentions,
        frozenset((r.head, r.relation, r.tail) for r in item.relations),
        {label.name for label in item.labels},
    )


@dataclass
class _Vectors:
    ids: list[str]
    vectors: NDArray[np.float32]
    fingerprint: str


def _vectors(
    old: KnowledgeTable, ids: list[str], triples: pa.Table, embeddings: Embeddings | None
) -> tuple[NDArray[np.float32], int]:
    """Vectors of all concepts, and how many of the new ones could be placed."""
    dim = old.dim
    # Columns: rows of the new graph, then the position of the known end, and what has to be added to its vector.
    frame = pl.DataFrame(pl.from_arrow(triples.select(["head", "relation", "tail"])))
    new = {id: row for row, id in enumerate(ids) if id not in old.id_to_row}
    vectors = np.zeros((len(ids), dim), dtype=np.float32)
    counts = np.zeros(len(ids), dtype=np.int64)
    touching = frame.filter(pl.col("head").is_in(list(new)) != pl.col("tail").is_in(list(new)))
    for head, relation, tail in touching.iter_rows():
        ours, other, sign = (head, tail, -1.0) if head in new else (tail, head, 1.0)
        place = _place(old, embeddings, other, relation, sign)
        if place is not None:
            vectors[new[ours]] += place
            counts[new[ours]] += 1
    found = counts > 0
    vectors[found] /= counts[found, None]
    return vectors, int(found.sum())


def _place(
    old: KnowledgeTable, embeddings: Embeddings | None, known: str, relation: str, sign: float
) -> NDArray[np.float32] | None:
    """Where the fact wants the new concept, given its known end."""
    if known not in old.id_to_row:
        return None
    if embeddings is not None and known in embeddings.id_to_row and relation in embeddings.relation_to_row:
        moved = embeddings.vector(known) + sign * embeddings.relation_vectors[embeddings.relation_to_row[relation]]
        return np.asarray(moved, dtype=np.float32)
    vector: NDArray[np.float32] = old.vectors[old.id_to_row[known]].numpy()
    return vector


def _unknown(words: Iterable[str], known: Sequence[str]) -> dict[str, int]:
    counted: dict[str, int] = {}
    for word in words:
        if word not in known:
            counted[word] = counted.get(word, 0) + 1
    return counted
