"""Score predicted mentions and relations against gold ones."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from loaders.errors import MedgraftError
from loaders.records import Document


class HasId(Protocol):
    """A document or a question."""

    @property
    def id(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Scores:
    """Counts of distinct mentions or relations, and scores from 0 to 1 that follow; 0 where nothing was counted."""

    gold: int
    predicted: int
    correct: int
    by_type: dict[str, "Scores"] = field(default_factory=dict)

    @property
    def precision(self) -> float:
        return self.correct / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        return self.correct / self.gold if self.gold else 0.0

    @property
    def f1(self) -> float:
        return 2 * self.correct / (self.gold + self.predicted) if self.gold + self.predicted else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Counts and scores as plain numbers, by type too."""
        counts = {"gold": self.gold, "predicted": self.predicted, "correct": self.correct}
        scores = {"precision": self.precision, "recall": self.recall, "f1": self.f1}
        by_type = {type: score.as_dict() for type, score in self.by_type.items()}
        return {**counts, **scores, **({"by_type": by_type} if by_type else {})}

    def __str__(self) -> str:
        rows = {**self.by_type, "all": self} if len(self.by_type) > 1 else {"all": self}
        width = max(map(len, rows))
        lines = [f"{'':{width}}  precision  recall      F1    gold  predicted  correct"]
        for name, score in rows.items():
            lines.append(
                f"{name:{width}}  {score.precision:9.2%}  {score.recall:6.2%}  {score.f1:6.2%}"
                f"  {score.gold:6}  {score.predicted:9}  {score.correct:7}"
            )
        return "\n".join(lines)


def evaluate_mentions(gold: Sequence[Document], predicted: Sequence[Document]) -> Scores:
    """Strict micro scores: a mention is correct when document, start, end and type agree; repeats count once.

    Raises:
        MedgraftError: the two sides are not the same documents, or an id occurs twice.
    """
    check_same(gold, predicted)
    wanted, found = _mentions(gold), _mentions(predicted)
    types = sorted({mention[3] for mention in wanted | found})
    return _score(wanted, found, {type: _score(_of(wanted, type), _of(found, type)) for type in types})


def evaluate_relations(gold: Sequence[Document], predicted: Sequence[Document]) -> Scores:
    """Micro scores of relations: correct when document, head, relation and tail agree; repeats count once.

    Raises:
        MedgraftError: the two sides are not the same documents, or an id occurs twice.
    """
    check_same(gold, predicted)
    wanted, found = _relations(gold), _relations(predicted)
    types = sorted({relation[3] for relation in wanted | found})
    return _score(wanted, found, {type: _score(_of(wanted, type), _of(found, type)) for type in types})


def check_same(gold: Sequence[HasId], predicted: Sequence[HasId]) -> None:
    """Raise a MedgraftError if the two sides are not the same documents or questions, or an id occurs twice."""
    for side, documents in (("gold", gold), ("predicted", predicted)):
        repeated = [id for id, count in Counter(document.id for document in documents).items() if count > 1]
        if repeated:
            raise MedgraftError(
                f"{len(repeated)} document ids occur twice among the {side} ones; make the ids distinct"
            )
    if {document.id for document in gold} != {document.id for document in predicted}:
        raise MedgraftError("gold and predicted are not the same documents; predict on the texts of the gold documents")


_Keys = set[tuple[str, int | str, int | str, str]]


def _score(wanted: _Keys, found: _Keys, by_type: dict[str, Scores] | None = None) -> Scores:
    return Scores(len(wanted), len(found), len(wanted & found), by_type or {})


def _of(keys: _Keys, type: str) -> _Keys:
    return {key for key in keys if key[3] == type}


def _relations(documents: Sequence[Document]) -> _Keys:
    return {(document.id, r.head, r.tail, r.relation) for document in documents for r in document.relations}


def _mentions(documents: Sequence[Document]) -> _Keys:
    return {(document.id, m.start, m.end, m.type) for document in documents for m in document.mentions}
