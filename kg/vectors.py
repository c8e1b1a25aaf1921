"""Trained vectors of concepts and relations: use them, store them, load them. No PyKEEN is needed for any of it."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from kg.calibration import Calibration
from kg.geometry import MODELS, Side, expected, scores_of_all, scores_of_pairs
from kg.nearest import NearestIndex
from kg.triples import Rows, Triples, integer_triples
from loaders.errors import MedgraftError
from loaders.folders import new_folder, restore_folder
from loaders.records import Candidate, Triple

Vectors = NDArray[np.float32]

_FILES = ("vectors.safetensors", "concepts.parquet", "settings.json")


class Fingerprinted(Protocol):
    """A graph, as far as loading needs it."""

    @property
    def fingerprint(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Prediction:
    """A concept or relation that may complete a fact. Higher scores are better.

    `probability` is None for embeddings that are not calibrated, see `kg.calibrate`. `because` are the known facts
    nearest to the predicted one: with the same relation, one of its ends, and a concept similar to the other.
    """

    concept_id: str
    score: float
    probability: float | None = None
    because: tuple[Triple, ...] = ()


@dataclass(eq=False)
class Embeddings:
    """Row i of `vectors` belongs to `ids[i]`, row j of `relation_vectors` to `relations[j]`; both lists are sorted.

    Scores are those of the model, see `kg.geometry`: for TransE, score(h, r, t) = -||h + r - t||, by the norm `p`
    (1 or 2). Higher is better.

    Args:
        ids: concept ids, as the graph orders them.
        vectors: float32, shape (concepts, dim); for RotatE and ComplEx real and imaginary parts in turn.
        relations: names of relations.
        relation_vectors: float32, shape (relations, dim).
        p: the norm.
        fingerprint: of the graph that these vectors were trained on.
        settings: how they were trained; JSON values.
        metrics: what was measured; JSON values.
        model: "TransE", "RotatE", "DistMult" or "ComplEx".
        calibration: turns scores into probabilities.
    """

    ids: list[str]
    vectors: Vectors
    relations: list[str]
    relation_vectors: Vectors
    p: int = 2
    fingerprint: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    model: str = "TransE"
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise MedgraftError(f"unknown model {self.model!r}; there is {', '.join(MODELS)}")

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
        """How plausible a fact is, by the score of the model."""
        places = self.places("tail", np.array([self._row(head)]), np.array([self._relation_row(relation)]))
        return float(scores_of_pairs(self.model, self.p, places, self._concepts[self._row(tail)][None])[0])

    def probability(self, head: str, relation: str, tail: str) -> float:
        """How likely a fact is, given its score as an answer to (head, relation, ?); see `kg.calibrate`.

        Raises:
            MedgraftError: if the embeddings are not calibrated.
        """
        if self.calibration is None:
            raise MedgraftError("these embeddings are not calibrated; run kg.calibrate(embeddings, dev, known=[train])")
        return float(self.calibration.probabilities("tail", np.array([self.score(head, relation, tail)]))[0])

    def predict_tails(
        self, head: str, relation: str, k: int = 10, *, known: Iterable[pa.Table] | pa.Table | None = None
    ) -> list[Prediction]:
        """The k best tails; the head itself, and the tails that the tables in `known` state already, are left out."""
        return self._predict("tail", head, relation, k, known)

    def predict_heads(
        self, relation: str, tail: str, k: int = 10, *, known: Iterable[pa.Table] | pa.Table | None = None
    ) -> list[Prediction]:
        """The k best heads; the tail itself, and the heads that the tables in `known` state already, are left out."""
        return self._predict("head", tail, relation, k, known)

    def predict_relations(
        self, head: str, tail: str, k: int = 10, *, known: Iterable[pa.Table] | pa.Table | None = None
    ) -> list[Candidate]:
        """The k best relations from head to tail as candidates; those that `known` states already are left out.

        Scores of different relations lie on different scales (a frequent relation has larger distances), so that each
        is measured against the scores of all concepts: 1 minus the share of concepts that would fit better as tail.
        """
        row, other = self._row(head), self._row(tail)
        if len(self.relations) == 1:
            raise MedgraftError(
                f"there is one relation only, {self.relations[0]!r}, so none to choose from; use predict_tails or score"
            )
        relations = np.arange(len(self.relations))
        out = {
            relation
            for table in _tables(known)
            for relation in table.filter(pc.and_(pc.equal(table["head"], head), pc.equal(table["tail"], tail)))[
                "relation"
            ].to_pylist()
        }
        scores = self.score_all("tail", np.full(len(relations), row), relations)
        better = torch.count_nonzero(scores > scores[:, other : other + 1], dim=1).numpy() / len(self)
        best = np.argsort(better, kind="stable").tolist()
        found = [Candidate(self.relations[i], 1 - float(better[i])) for i in best if self.relations[i] not in out]
        return found[: max(k, 0)]

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
        return scores_of_all(self.model, self.p, self.places(side, given, relations), self._concepts, exact=True)

    def rows_of(self, triples: Triples) -> Rows:
        """Integer rows (head, relation, tail) of a table of triples, shape (triples, 3); rows are given back."""
        return integer_triples(triples, self.ids, self.relations) if isinstance(triples, pa.Table) else triples

    def save(self, folder: str | Path) -> None:
        """Write a folder of safetensors, Parquet and JSON, whole or not at all."""
        with new_folder(folder) as aside:
            tensors = {"concepts": self.vectors, "relations": self.relation_vectors}
            save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, aside / _FILES[0])
            pq.write_table(pa.table({"id": pa.array(self.ids, pa.string())}), aside / _FILES[1])
            content = {
                "fingerprint": self.fingerprint,
                "model": self.model,
                "p": self.p,
                "calibration": None if self.calibration is None else asdict(self.calibration),
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
            fitted = content.pop("calibration", None)
            content["calibration"] = None if fitted is None else Calibration(**fitted)
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

    def places(self, side: Side, given: Rows, relations: Rows) -> torch.Tensor:
        """Where the answers to questions are expected, shape (questions, dim); arguments as for `score_all`."""
        vectors, shifts = (torch.from_numpy(table) for table in (self.vectors[given], self.relation_vectors[relations]))
        return expected(self.model, side, vectors, shifts)

    def _predict(
        self, side: Side, given: str, relation: str, k: int, known: Iterable[pa.Table] | pa.Table | None
    ) -> list[Prediction]:
        row, relation_row = self._row(given), self._relation_row(relation)
        scores = self.score_all(side, np.array([row]), np.array([relation_row]))[0].numpy()
        here, there = ("head", "tail") if side == "tail" else ("tail", "head")
        of_relation = [table.filter(pc.equal(table["relation"], relation)) for table in _tables(known)]
        stated = [table.filter(pc.equal(table[here], given))[there].to_pylist() for table in of_relation]
        out = {row} | {self.id_to_row[other] for others in stated for other in others if other in self.id_to_row}
        best = np.argsort(-scores, kind="stable")[: max(k, 0) + len(out)].tolist()
        best = [other for other in best if other not in out][: max(k, 0)]
        sure = None if self.calibration is None else self.calibration.probabilities(side, scores[best]).tolist()
        return [
            Prediction(
                self.ids[other],
                float(scores[other]),
                None if sure is None else sure[i],
                self._nearest_facts(side, row, relation, other, of_relation),
            )
            for i, other in enumerate(best)
        ]

    def _nearest_facts(
        self, side: Side, given: int, relation: str, answer: int, of_relation: list[pa.Table], number: int = 2
    ) -> tuple[Triple, ...]:
        """Known facts with the relation that share one end with the predicted fact, the other ends most alike."""
        here, there = ("head", "tail") if side == "tail" else ("tail", "head")
        found: list[tuple[float, Triple]] = []
        for shared, column, like, other in ((given, here, answer, there), (answer, there, given, here)):
            for table in of_relation:
                ends = table.filter(pc.equal(table[column], self.ids[shared]))[other].to_pylist()
                rows = [self.id_to_row[end] for end in ends if end in self.id_to_row]
                for row, likeness in zip(rows, self._cosines(like, rows), strict=True):
                    fact = {column: self.ids[shared], other: self.ids[row]}
                    found.append((likeness, Triple(fact["head"], relation, fact["tail"])))
        found.sort(key=lambda pair: (-pair[0], pair[1].head, pair[1].tail))
        return tuple(dict.fromkeys(fact for _, fact in found[: 2 * number]))[:number]

    def _cosines(self, row: int, others: list[int]) -> list[float]:
        mine, theirs = self.vectors[row].astype(np.float64), self.vectors[others].astype(np.float64)
        lengths = np.linalg.norm(theirs, axis=1) * np.linalg.norm(mine)
        return (theirs @ mine / np.where(lengths == 0, 1, lengths)).tolist()

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
            f"Model: {self.model}{f', L{self.p} norm' if self.model == 'TransE' else ''}; scores as in PyKEEN.",
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


def _tables(known: Iterable[pa.Table] | pa.Table | None) -> list[pa.Table]:
    return [known] if isinstance(known, pa.Table) else list(known or [])
