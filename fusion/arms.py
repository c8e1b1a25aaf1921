"""Control arms: knowledge tables that lack one thing, to tell what a gain is due to.

Each arm changes the table and nothing else; encoder, data, order, seeds and steps of the training are the same.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from fusion.corpora import Corpus
from fusion.knowledge import KnowledgeTable
from fusion.model import ModelSettings
from fusion.question_corpora import QuestionCorpus
from fusion.relations import concept_rows
from kg import Linker
from lm.encoder import Encoder
from lm.relations import RelationScheme, pairs_of
from lm.vectors import text_vectors
from loaders.errors import MedgraftError
from loaders.records import Candidate, Document, Question

_EMBEDDING_SETTINGS = (
    *("model", "dim", "norm", "loss", "margin", "negative_sampler", "num_negatives"),
    *("epochs", "batch_size", "learning_rate", "unit_norm", "seed"),
)


@dataclass
class Material:
    """What arms are made of: the true table, and what is made of it only if an arm asks."""

    graph: Any
    embeddings: Any
    linker: Linker
    corpus: Corpus | QuestionCorpus
    encoder: str | Path
    folder: Path | None = None
    """Where the embeddings of the rewired graph are kept."""
    pairs: bool = False
    """Whether the task is about pairs of concepts."""
    progress: bool = field(default=False, kw_only=True)

    @cached_property
    def table(self) -> KnowledgeTable:
        return KnowledgeTable.build(self.graph, self.embeddings, pairs=self.pairs)

    @cached_property
    def rewired(self) -> KnowledgeTable:
        """The table of the graph with its facts rewired, with embeddings trained on it as the true ones were."""
        return self._with_triples(rewired_triples(self.graph.table("triples"), 0), "rewired")

    @cached_property
    def names(self) -> torch.Tensor:
        """(C, D) the names of the concepts that the corpus can bring up, by the untrained encoder; length 1.

        Reduced to the length of the embeddings by principal components, so that the arms have the same parameters.
        """
        table = self.table
        items: tuple[Document | Question, ...] = (*self.corpus.train, *self.corpus.dev, *self.corpus.test)
        rows = {
            table.id_to_row[candidate.concept_id]
            for linked in self.linker.pipe(text for item in items for text in texts_of(item))
            for mention in linked.mentions
            for candidate in mention.candidates
            if candidate.concept_id in table.id_to_row
        }
        asked = torch.tensor(sorted(rows), dtype=torch.long)
        around = table.neighbours[asked].long()
        needed = torch.cat([asked, around[around >= 0]]).unique()
        found = torch.from_numpy(
            text_vectors(Encoder.load(self.encoder), [table.names[row] for row in needed.tolist()], self.progress)
        )
        centred = found - found.mean(dim=0)
        if centred.shape[1] > table.dim:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                _, _, axes = torch.pca_lowrank(centred, q=min(table.dim, len(centred)), center=False)
            centred = centred @ axes
        vectors = torch.zeros(len(table.ids), table.dim)
        vectors[needed, : centred.shape[1]] = torch.nn.functional.normalize(centred, dim=1)
        return vectors

    def _with_triples(self, triples: pa.Table, name: str) -> KnowledgeTable:
        import kg

        settings = {k: v for k, v in getattr(self.embeddings, "settings", {}).items() if k in _EMBEDDING_SETTINGS}
        settings.setdefault("dim", int(self.embeddings.vectors.shape[1]))
        out = None if self.folder is None else self.folder / f"embeddings-{name}-{self.graph.fingerprint[:12]}"
        if out is not None and out.is_dir():
            embeddings = kg.Embeddings.load(out, self.graph)
        else:
            embeddings = kg.train_embeddings(self.graph, out=out, triples=triples, progress=self.progress, **settings)
        other = _OtherTriples(self.graph, triples)
        return KnowledgeTable.build(other, embeddings, pairs=self.pairs)


@dataclass(frozen=True)
class _OtherTriples:
    graph: Any
    triples: pa.Table

    @property
    def fingerprint(self) -> str:
        fingerprint: str = self.graph.fingerprint
        return fingerprint

    def table(self, name: str) -> pa.Table:
        return self.triples if name == "triples" else self.graph.table(name)


Arm = Callable[[Material, int], KnowledgeTable | None]


def rewired_triples(triples: pa.Table, seed: int) -> pa.Table:
    """The tails of each relation's triples change places: every concept keeps its number of facts of each relation."""
    generator = np.random.default_rng(seed)
    relations = triples["relation"].to_numpy(zero_copy_only=False)
    order = np.arange(len(triples))
    for relation in np.unique(relations):
        rows = np.flatnonzero(relations == relation)
        order[rows] = generator.permutation(rows)
    return triples.set_column(triples.schema.get_field_index("tail"), "tail", triples["tail"].take(pa.array(order)))


def _plain(_material: Material, _seed: int) -> None:
    return None


def _nil(material: Material, _seed: int) -> KnowledgeTable:
    """No concept can be looked up, so every mention is NIL, in training and in the test."""
    return replace(material.table, ids=["" for _ in material.table.ids])


def _same(material: Material, _seed: int) -> KnowledgeTable:
    """One vector and one type for every concept, no facts: the same parameters and span marks, no knowledge."""
    table = material.table
    return replace(
        table,
        vectors=torch.full_like(table.vectors, table.dim**-0.5),
        types=torch.zeros_like(table.types),
        neighbours=torch.full_like(table.neighbours, -1),
        facts=None if table.facts is None else table.facts.empty(),
    )


def _types(material: Material, _seed: int) -> KnowledgeTable:
    """Semantic types alone."""
    return replace(_same(material, 0), types=material.table.types)


def _random(material: Material, seed: int) -> KnowledgeTable:
    """Random vectors of the same lengths, no types, no facts: identity without meaning."""
    vectors = material.table.vectors
    drawn = torch.randn(vectors.shape, generator=torch.Generator().manual_seed(seed))
    lengths = vectors.norm(dim=1, keepdim=True)
    return replace(_same(material, 0), vectors=drawn / drawn.norm(dim=1, keepdim=True) * lengths)


def _permuted_within_type(material: Material, seed: int) -> KnowledgeTable:
    """Every concept gets the vector and the facts of another one of its type."""
    generator = np.random.default_rng(seed)
    order = np.arange(len(material.table.ids))
    types = material.table.types.numpy()
    for type_row in np.unique(types):
        rows = np.flatnonzero(types == type_row)
        order[rows] = generator.permutation(rows)
    return _renamed(material.table, order)


def _permuted(material: Material, seed: int) -> KnowledgeTable:
    """Every concept gets the vector, the type and the facts of another one."""
    return _renamed(material.table, np.random.default_rng(seed).permutation(len(material.table.ids)))


def _renamed(table: KnowledgeTable, order: NDArray[np.int64]) -> KnowledgeTable:
    return replace(table, ids=[table.ids[row] for row in order], names=[table.names[row] for row in order])


def _rewired(material: Material, _seed: int) -> KnowledgeTable:
    """The graph with its facts rewired, and embeddings trained on it: degrees and types without the true facts."""
    return material.rewired


def _names(material: Material, _seed: int) -> KnowledgeTable:
    """The concept's name, read by the untrained encoder, in place of its embedding."""
    return replace(material.table, vectors=material.names)


def _true_and_names(material: Material, _seed: int) -> KnowledgeTable:
    """Embedding and name side by side; the one arm with more parameters (of the concept projection)."""
    return replace(material.table, vectors=torch.cat([material.table.vectors, material.names], dim=1))


def _without_pair_facts(material: Material, _seed: int) -> KnowledgeTable:
    """Concepts with their neighbours, but no fact between the two concepts of a pair."""
    facts = material.table.facts
    return replace(material.table, facts=None if facts is None else facts.empty())


def _unstated(material: Material, _seed: int) -> KnowledgeTable:
    assert isinstance(material.corpus, Corpus)
    return without_stated(material.table, material.corpus, material.linker)


def _true(material: Material, _seed: int) -> KnowledgeTable:
    return material.table


ARMS: dict[str, Arm] = {
    "plain": _plain,
    "nil": _nil,
    "same-parameters": _same,
    "types": _types,
    "random": _random,
    "permuted-within-type": _permuted_within_type,
    "permuted": _permuted,
    "rewired": _rewired,
    "names": _names,
    "true+names": _true_and_names,
    "without-pair-facts": _without_pair_facts,
    "unstated": _unstated,
    "true": _true,
}
PAIRS_ONLY = {"without-pair-facts": ("relations", "qa"), "unstated": ("relations",)}
"""Arms that mean something only to these tasks."""


def texts_of(item: Document | Question) -> tuple[str, ...]:
    """What is linked of a document or a question."""
    return (item.text,) if isinstance(item, Document) else (item.text, item.context, *item.options)


def without_stated(table: KnowledgeTable, corpus: Corpus, linker: Linker) -> KnowledgeTable:
    """Without any fact between the concepts of any pair of the development and test documents, related or not.

    To drop the facts of the related pairs alone would tell them apart by their absence.
    """
    assert table.facts is not None
    scheme = RelationScheme.of(corpus.train)
    documents = (*corpus.dev, *corpus.test)
    looked_up: dict[str, tuple[Candidate, ...]] = {}
    gone: set[tuple[int, int]] = set()
    for document, linked in zip(documents, linker.pipe(document.text for document in documents), strict=True):
        rows = concept_rows(document, linked, table, linker, ModelSettings.link_threshold, looked_up)
        for pair in pairs_of(document, scheme):
            gone |= {
                (a, b) for head in rows[pair.head] for tail in rows[pair.tail] for a, b in ((head, tail), (tail, head))
            }
    size = len(table.ids)
    keys = torch.arange(size)[:, None] * size + table.neighbours.long()
    hidden = torch.isin(keys, torch.tensor([a * size + b for a, b in gone], dtype=torch.long))
    neighbours = table.neighbours.masked_fill(hidden & (table.neighbours >= 0), -1)
    return replace(table, neighbours=neighbours, facts=table.facts.without(sorted(gone)))


def with_wrong_links(linked: Sequence[Document], share: float, ids: Sequence[str], seed: int) -> list[Document]:
    """Linked documents in which this share of the mentions got the concepts of nothing in particular, scores kept.

    Raises:
        MedgraftError: there is no concept to take.
    """
    if not ids:
        raise MedgraftError("the knowledge table has no concept; build it from a graph that has some")
    generator = np.random.default_rng(seed)

    def wrong(candidates: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
        drawn = generator.integers(0, len(ids), len(candidates)).tolist()
        return tuple(replace(c, concept_id=ids[n]) for c, n in zip(candidates, drawn, strict=True))

    return [
        replace(
            document,
            mentions=tuple(
                replace(m, candidates=wrong(m.candidates)) if generator.random() < share else m
                for m in document.mentions
            ),
        )
        for document in linked
    ]
