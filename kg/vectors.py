"""Trained vectors of concepts and relations: use them, store them, load them. No PyKEEN is needed for any of it."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from kg.nearest import NearestIndex
from loaders.errors import MedgraftError
from loaders.folders import new_folder, restore_folder
from loaders.records import Candidate

Vectors = NDArray[np.float32]
Rows = NDArray[np.int64]
Side = Literal["head", "tail"]

_FILES = ("vectors.safetensors", "concepts.parquet", "settings.json")


class Fingerprinted(Protocol):
    """A graph, as far as loading needs it."""

    @property
    def fingerprint(self) -> str: ...


@dataclass(eq=False)
class Embeddings:
    """Row i of `vectors` belongs to `ids[i]`, row j of `relation_vectors` to `relations[j]`; both lists are sorted.

    score(h, r, t) = -||h + r - t||, by the norm `p` (1 or 2); higher is better, 0 is perfect.

    Args:
        ids: concept ids, as the graph orders them.
        vectors: float32, shape (concepts, dim).
        relations: names of relations.
        relation_vectors: float32, shape (relations, dim).
        p: the norm.
        fingerprint: of the graph that these vectors were trained on.
        settings: how they were trained; JSON values.
        metrics: what was measured; JSON values.
    """

    ids: list[str]
    vectors: Vectors
    relations: list[str]
    relation_vectors: Vectors
    p: int = 2
    fingerprint: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def __contains__(self, concept_id: object) -> bool:
        return concept_id in self.id_to_row

    def __repr__(self) -> str:
        concepts, dim = self.vectors.shape
        return f"<Embeddings {concepts} concepts, {len(self.relations)} relations, {dim} dimensions>"

    @property
    def dim(self) -> int:
        return int(self.vectors.shape[1])

    @cached_property
    def id_to_row(self) -> dict[str, int]:
        return {concept_id: row for row, concept_id in enumerate(self.ids)}

    @cached_property
    def relation_to_row(self) -> dict[str, int]:
        return {relation: row for row, relation in enumerate(self.relations)}

    @cached_property
    def _nearest(self) -> NearestIndex:
        return NearestIndex(self.vectors)

    def vector(self, concept_id: str) -> Vectors:
        """The vector of a concept, shape (dim,)."""
        return self.vectors[self._row(concept_id)]

    def similar(self, concept_id: str, k: int = 10) -> list[Candidate]:
        """The k concepts nearest by cosine, the concept itself left out; ties in the order of ids."""
        row = self._row(concept_id)
        rows, scores = self._nearest.search(self.vectors[row], k + 1)
        pairs = zip(rows[0].tolist(), scores[0].tolist(), strict=True)
        return [Candidate(self.ids[other], score) for other, score in pairs if other != row][:k]

    def score(self, head: str, relation: str, tail: str) -> float:
        """How plausible a fact is: minus the distance from head + relation to tail."""
        question = self._question("tail", np.array([self._row(head)]), np.array([self._relation_row(relation)]))
        return -float(torch.dist(question[0], self._concepts[self._row(tail)], p=self.p))

    def predict_tails(
        self, head: str, relation: str, k: int = 10, *, known: Iterable[pa.Table] | pa.Table | None = None
    ) -> list[Candidate]:
        """The k best tails; the head itself, and the tails that the tables in `known` state already, are left out."""
        return self._predict("tail", head, relation, k, known)

    def predict_heads(
        self, relation: str, tail: str, k: int = 10, *, known: Iterable[pa.Table] | pa.Table | None = None
    ) -> list[Candidate]:
        """The k best heads; the tail itself, and the heads that the tables in `known` state already, are left out."""
        return self._predict("head", tail, relation, k, known)

    def score_all(self, side: Side, given: Rows, relations: Rows) -> torch.Tensor:
        """Scores of every concept as the answer to questions.

        Args:
            side: "tail" if the tail is asked for and heads are given, "head" for the other way round.
            given: rows of the given concepts, shape (questions,).
            relations: rows of the relations, shape (questions,).

        Returns:
            A tensor of shape (questions, concepts), exact to float32 rounding: the faster way to Euclidean distances,
            by a matrix product, would lose digits and with them ties.
        """
        question = self._question(side, given, relations)
        return torch.cdist(question, self._concepts, p=self.p, compute_mode="donot_use_mm_for_euclid_dist").neg_()

    def rows_of(self, triples: pa.Table) -> Rows:
        """Integer rows (head, relation, tail) of a table of triples, shape (triples, 3)."""
        return integer_triples(triples, self.ids, self.relations)

    def save(self, folder: str | Path) -> None:
        """Write a folder of safetensors, Parquet and JSON, whole or not at all."""
        with new_folder(folder) as aside:
            tensors = {"concepts": self.vectors, "relations": self.relation_vectors}
            save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, aside / _FILES[0])
            pq.write_table(pa.table({"id": pa.array(self.ids, pa.string())}), aside / _FILES[1])
            content = {
                "fingerprint": self.fingerprint,
                "p": self.p,
                "relations": self.relations,
                "settings": self.settings,
                "metrics": self.metrics,
            }
            (aside / _FILES[2]).write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
            (aside / "README.md").write_text(self._card(), encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path, graph: Fingerprinted | None = None) -> "Embeddings":
        """Read what `save` wrote; with a graph, check that the vectors were trained on it.

        Raises:
            MedgraftError: if a file is missing or damaged, or the graph is another one.
        """
        folder = Path(folder)
        restore_folder(folder)
        for name in _FILES:
            if not (folder / name).is_file():
                raise MedgraftError(f"no embeddings in {folder}: {name} is missing; train them with medgraft embed")
        try:
            tensors = load_file(folder / _FILES[0])
            ids = pq.read_table(folder / _FILES[1])["id"].to_pylist()
            content = json.loads((folder / _FILES[2]).read_text(encoding="utf-8"))
            embeddings = cls(ids, tensors["concepts"], content.pop("relations"), tensors["relations"], **content)
        except (SafetensorError, pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
            raise MedgraftError(f"the embeddings in {folder} are damaged ({error}); train them again") from error
        if len(ids) != len(embeddings.vectors) or len(embeddings.relations) != len(embeddings.relation_vectors):
            raise MedgraftError(f"the embeddings in {folder} have more or fewer vectors than ids; train them again")
        if graph is not None and graph.fingerprint != embeddings.fingerprint:
            raise MedgraftError(
                f"the embeddings in {folder} belong to the graph {embeddings.fingerprint}, not to {graph.fingerprint}; "
                "train them again on this graph, or connect to the graph they were made from"
            )
        return embeddings

    @cached_property
    def _concepts(self) -> torch.Tensor:
        return torch.from_numpy(self.vectors)

    def _question(self, side: Side, given: Rows, relations: Rows) -> torch.Tensor:
        """The point near which the answers should lie, shape (questions, dim)."""
        shift = self.relation_vectors[relations]
        return torch.from_numpy(self.vectors[given] + (shift if side == "tail" else -shift))

    def _predict(
        self, side: Side, given: str, relation: str, k: int, known: Iterable[pa.Table] | pa.Table | None
    ) -> list[Candidate]:
        row, relation_row = self._row(given), self._relation_row(relation)
        scores = self.score_all(side, np.array([row]), np.array([relation_row]))[0].numpy()
        out = {row}
        for table in [known] if isinstance(known, pa.Table) else known or []:
            here, there = ("head", "tail") if side == "tail" else ("tail", "head")
            stated = table.filter(pc.and_(pc.equal(table[here], given), pc.equal(table["relation"], relation)))
            out.update(self.id_to_row[other] for other in stated[there].to_pylist() if other in self.id_to_row)
        best = np.argsort(-scores, kind="stable")[: max(k, 0) + len(out)].tolist()
        return [Candidate(self.ids[other], float(scores[other])) for other in best if other not in out][: max(k, 0)]

    def _row(self, concept_id: str) -> int:
        try:
            return self.id_to_row[concept_id]
        except KeyError:
            raise MedgraftError(
                f"no vector for the concept {concept_id!r} among {len(self)}; graph.search(text) finds ids"
            ) from None

    def _relation_row(self, relation: str) -> int:
        try:
            return self.relation_to_row[relation]
        except KeyError:
            raise MedgraftError(f"no relation {relation!r}; there are {', '.join(self.relations)}") from None

    def _card(self) -> str:
        """What these vectors are, in Markdown, for who finds the folder."""
        lines = [
            "# Embeddings of a medical knowledge graph",
            "",
            f"{len(self)} concepts and {len(self.relations)} relations, {self.dim} dimensions, made by medgraft.",
            f"Fingerprint of the graph: `{self.fingerprint}`.",
            f"score(h, r, t) = -||h + r - t||, L{self.p} norm; higher is better.",
            "",
            "```python",
            "from kg import Embeddings",
            'embeddings = Embeddings.load("this folder")',
            "```",
        ]
        for title, content in (("Settings", self.settings), ("Metrics", self.metrics)):
            if content:
                lines += ["", f"## {title}", "", "```json", json.dumps(content, indent=2, sort_keys=True), "```"]
        return "\n".join([*lines, "", "Relations: " + ", ".join(f"`{name}`" for name in self.relations) + ".", ""])


def integer_triples(triples: pa.Table, ids: list[str], relations: list[str]) -> Rows:
    """Rows (head, relation, tail) as positions in `ids` and `relations`, shape (triples, 3).

    Raises:
        MedgraftError: if a triple names a concept or relation that is not listed.
    """
    columns = []
    for name, values in (("head", ids), ("relation", relations), ("tail", ids)):
        column = pc.index_in(triples[name], pa.array(values, pa.string()))
        if column.null_count:
            stranger = triples[name].filter(pc.is_null(column))[0].as_py()
            what = "relation" if name == "relation" else "concept"
            raise MedgraftError(
                f"{column.null_count} of {len(triples)} triples name a {what} that is not in the graph, {stranger!r} "
                "first; take the triples from the same graph"
            )
        columns.append(column.to_numpy().astype(np.int64))
    return np.stack(columns, axis=1)
