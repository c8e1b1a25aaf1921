"""The knowledge table: what the fused model knows of every concept, as arrays that a batch is gathered from.

It is made from the graph and its embeddings, travels inside the model folder, and needs no graph store afterwards.
The arrays stay on the CPU (memory-mapped where they come from a file); a batch takes only the rows it needs.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from fusion.attention import Knowledge
from fusion.facts import FactIndex
from loaders.errors import MedgraftError
from loaders.records import Concept, Document, Triple


class GraphTables(Protocol):
    """What is needed of a graph: its tables and its fingerprint."""

    @property
    def fingerprint(self) -> str: ...

    def table(self, name: str) -> pa.Table: ...


class ConceptVectors(Protocol):
    """What is needed of embeddings: row i of `vectors` belongs to `ids[i]`."""

    ids: list[str]
    vectors: NDArray[np.float32]
    fingerprint: str


@dataclass(frozen=True)
class LinkedMention:
    """A mention on its pieces [start, end) of one row of a batch, with its candidates as rows of the table."""

    sentence: int
    start: int
    end: int
    rows: tuple[int, ...]
    scores: tuple[float, ...]
    target: int = -1
    """What is right: 0 for NIL, 1 + the place of the candidate, -1 if that is not known."""


@dataclass(frozen=True)
class KnowledgeTable:
    """C concepts with vectors of D numbers and up to N facts each.

    Shapes:
        vectors: (C, D) float32, rows of length 1 (or 0 for a concept that has no embedding)
        types: (C,) index into `type_names`
        neighbours: (C, N) row at the other end of each fact, -1 where there is none
        relations: (C, N) twice the index into `relation_names`, plus 1 where the concept is the tail of the fact

    `facts` has all triples, by both ends, where the task is about pairs of concepts.
    """

    ids: list[str]
    names: list[str]
    type_names: list[str]
    relation_names: list[str]
    vectors: torch.Tensor
    types: torch.Tensor
    neighbours: torch.Tensor
    relations: torch.Tensor
    fingerprint: str
    facts: FactIndex | None = None

    @classmethod
    def build(
        cls,
        graph: GraphTables,
        embeddings: ConceptVectors,
        *,
        num_facts: int = 8,
        max_degree: int = 2000,
        pairs: bool = False,
        words: "tuple[list[str], list[str]] | None" = None,
    ) -> "KnowledgeTable":
        """From a graph and its embeddings.

        Of a concept's facts those with the least connected neighbours are kept, `num_facts` in all and two a relation
        and direction; neighbours with more than `max_degree` facts say too little of any one of them. With `pairs` all
        triples are kept in `facts` too. `words` are the names of types and relations in the order that a trained layer
        knows them; facts of other relations are then left out, and a concept of another type counts as the first one.
        """
        concepts = graph.table("concepts")
        ids = concepts["id"].to_pylist()
        if list(embeddings.ids) != ids:
            raise MedgraftError(
                "the embeddings do not have the concepts of this graph; train them on it with 'medgraft embed'"
            )
        vectors = np.asarray(embeddings.vectors, dtype=np.float32)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        type_lists = concepts["types"].to_pylist()
        type_names = words[0] if words else sorted({types[0] for types in type_lists if types}) or [""]
        relation_names = words[1] if words else sorted(graph.table("triples")["relation"].unique().to_pylist())
        row_of_type = {name: row for row, name in enumerate(type_names)}
        neighbours, relations = _choose_facts(graph.table("triples"), ids, relation_names, num_facts, max_degree)
        return cls(
            ids=ids,
            names=concepts["name"].to_pylist(),
            type_names=type_names,
            relation_names=relation_names,
            vectors=torch.from_numpy(vectors / np.maximum(lengths, 1e-12)),
            types=torch.tensor(
                [row_of_type.get(types[0], 0) if types else 0 for types in type_lists], dtype=torch.int32
            ),
            neighbours=torch.from_numpy(neighbours),
            relations=torch.from_numpy(relations),
            fingerprint=graph.fingerprint,
            facts=FactIndex.build(graph.table("triples"), ids, relation_names) if pairs else None,
        )

    @cached_property
    def id_to_row(self) -> dict[str, int]:
        return {concept_id: row for row, concept_id in enumerate(self.ids)}

    def concept(self, id: str) -> Concept:
        """What the table knows of a concept.

        Raises:
            MedgraftError: it is not in the table.
        """
        if id not in self.id_to_row:
            raise MedgraftError(f"no concept {id!r} in the model's knowledge; check the id")
        row = self.id_to_row[id]
        return Concept(id, self.names[row], types=(self.type_names[int(self.types[row])],))

    @property
    def dim(self) -> int:
        return self.vectors.shape[1]

    def digest(self) -> str:
        """SHA-256 of everything in the table, so that two tables can be told apart."""
        words = [self.ids, self.names, self.type_names, self.relation_names, self.fingerprint]
        total = hashlib.sha256(json.dumps(words).encode())
        for array in (self.vectors, self.types, self.neighbours, self.relations):
            total.update(np.ascontiguousarray(array.numpy()).data)
        for array in () if self.facts is None else self.facts.arrays().values():
            total.update(np.ascontiguousarray(array.numpy()).data)
        return total.hexdigest()

    def candidates(self, document: Document, k: int) -> list[tuple[int, int, tuple[int, ...], tuple[float, ...]]]:
        """Character span, rows and scores of each mention that has a candidate in the table."""
        found = []
        for mention in document.mentions:
            known = [c for c in mention.candidates if c.concept_id in self.id_to_row][:k]
            if known:
                rows = tuple(self.id_to_row[c.concept_id] for c in known)
                found.append((mention.start, mention.end, rows, tuple(max(c.score, 1e-6) for c in known)))
        return found

    def gather(self, mentions: Sequence[LinkedMention]) -> Knowledge:
        """The knowledge of one batch: each distinct concept once, however often it is a candidate or a neighbour."""
        width = max((len(m.rows) for m in mentions), default=1)
        rows = torch.tensor([[*m.rows, *[-1] * (width - len(m.rows))] for m in mentions], dtype=torch.long)
        rows = rows.reshape(len(mentions), width)
        there = rows >= 0
        asked = rows[there].unique()
        around = self.neighbours[asked].long()
        distinct = torch.cat([asked, around[around >= 0]]).unique()
        facts = self.neighbours[distinct].long()
        known = torch.isin(distinct, asked)
        facts[~known] = -1
        fact_there = facts >= 0
        candidates = torch.searchsorted(distinct, rows.clamp(min=0)).where(there, 0)
        scores = [[*m.scores, *[1.0] * (width - len(m.scores))] for m in mentions]
        return Knowledge(
            sentence=torch.tensor([m.sentence for m in mentions], dtype=torch.long),
            slot=torch.tensor(_slots([m.sentence for m in mentions]), dtype=torch.long),
            start=torch.tensor([m.start for m in mentions], dtype=torch.long),
            end=torch.tensor([m.end for m in mentions], dtype=torch.long),
            candidates=candidates,
            candidate_mask=there,
            priors=torch.tensor(scores, dtype=torch.float32).reshape(len(mentions), width).log(),
            neighbours=torch.searchsorted(distinct, facts.clamp(min=0)).where(fact_there, 0),
            relations=self.relations[distinct].long().where(fact_there, 0),
            fact_mask=fact_there[candidates],
            vectors=self.vectors[distinct],
            types=self.types[distinct].long(),
            rows=distinct,
            target=torch.tensor([m.target for m in mentions], dtype=torch.long),
        )

    def fact(self, row: int, number: int) -> Triple:
        """The fact in slot `number` of a concept, as the graph states it."""
        other, relation = int(self.neighbours[row, number]), int(self.relations[row, number])
        head, tail = (row, other) if relation % 2 == 0 else (other, row)
        return Triple(
            self.ids[head],
            self.relation_names[relation // 2],
            self.ids[tail],
            head_name=self.names[head],
            tail_name=self.names[tail],
        )

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {"vectors": self.vectors, "types": self.types, "neighbours": self.neighbours}
        save_file({**arrays, "relations": self.relations}, folder / "knowledge.safetensors")
        if self.facts is not None:
            save_file(self.facts.arrays(), folder / "facts.safetensors")
        pq.write_table(pa.table({"id": self.ids, "name": self.names}), folder / "concepts.parquet")
        words = {"types": self.type_names, "relations": self.relation_names, "fingerprint": self.fingerprint}
        (folder / "knowledge.json").write_text(json.dumps(words, indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, folder: Path) -> "KnowledgeTable":
        for name in ("knowledge.safetensors", "concepts.parquet", "knowledge.json"):
            if not (folder / name).is_file():
                raise MedgraftError(f"{folder / name} is missing; copy the whole model folder, or train it again")
        words = json.loads((folder / "knowledge.json").read_text())
        concepts = pq.read_table(folder / "concepts.parquet")
        facts = None
        if (folder / "facts.safetensors").is_file():
            facts = FactIndex(**load_file(folder / "facts.safetensors"), num_relations=len(words["relations"]))
        return cls(
            ids=concepts["id"].to_pylist(),
            names=concepts["name"].to_pylist(),
            type_names=words["types"],
            relation_names=words["relations"],
            fingerprint=words["fingerprint"],
            facts=facts,
            **load_file(folder / "knowledge.safetensors"),
        )


def _choose_facts(
    triples: pa.Table, ids: list[str], names: list[str], num_facts: int, max_degree: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The neighbours and relations (C, num_facts) that `KnowledgeTable` describes; `names` numbers the relations."""
    frame = pl.DataFrame(pl.from_arrow(triples.select(["head", "relation", "tail"])))
    row = pl.DataFrame({"id": ids, "row": np.arange(len(ids), dtype=np.int32)})
    number = pl.DataFrame(
        {"relation": names, "number": np.arange(len(names), dtype=np.int32)}, schema_overrides={"relation": pl.String}
    )
    numbered = (
        frame.join(row.rename({"id": "head", "row": "h"}), on="head")
        .join(row.rename({"id": "tail", "row": "t"}), on="tail")
        .join(number, on="relation")
    )
    out = numbered.select(concept="h", other="t", relation=2 * pl.col("number"))
    back = numbered.select(concept="t", other="h", relation=2 * pl.col("number") + 1)
    facts = pl.concat([out, back])
    degree = facts.group_by("concept").len("degree").rename({"concept": "other"})
    chosen = (
        facts.join(degree, on="other")
        .filter(pl.col("degree") <= max_degree)
        .sort("concept", "degree", "other", "relation")
        .filter(pl.int_range(pl.len()).over("concept", "relation") < 2)
        .with_columns(slot=pl.int_range(pl.len()).over("concept"))
        .filter(pl.col("slot") < num_facts)
    )
    neighbours = np.full((len(ids), num_facts), -1, dtype=np.int32)
    relations = np.zeros((len(ids), num_facts), dtype=np.int32)
    at = chosen["concept"].to_numpy(), chosen["slot"].to_numpy()
    neighbours[at] = chosen["other"].to_numpy()
    relations[at] = chosen["relation"].to_numpy()
    return neighbours, relations


def _slots(sentences: list[int]) -> list[int]:
    """The number of each mention within its sentence."""
    seen: dict[int, int] = {}
    slots = []
    for sentence in sentences:
        slots.append(seen.get(sentence, 0))
        seen[sentence] = slots[-1] + 1
    return slots
