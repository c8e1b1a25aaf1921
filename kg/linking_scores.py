"""How well predicted mentions agree with gold ones: strict, overlap and document scores, each micro-averaged."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from loaders.errors import MedgraftError
from loaders.records import Document

Span = tuple[int, int, str]


@dataclass(frozen=True, slots=True)
class Score:
    """Counts of one way of comparing; the rates follow from them and are 0.0 where nothing could be counted."""

    correct: int = 0
    predicted: int = 0
    gold: int = 0

    @property
    def precision(self) -> float:
        return self.correct / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        return self.correct / self.gold if self.gold else 0.0

    @property
    def f1(self) -> float:
        return 2 * self.correct / (self.predicted + self.gold) if self.predicted + self.gold else 0.0

    def __add__(self, other: "Score") -> "Score":
        return Score(self.correct + other.correct, self.predicted + other.predicted, self.gold + other.gold)

    def __str__(self) -> str:
        return f"P {self.precision:.3f}  R {self.recall:.3f}  F1 {self.f1:.3f}"


@dataclass(frozen=True, slots=True)
class LinkingScores:
    """`strict`: same document, start, end and id. `overlap`: same id, spans that share a character, one to one.

    `document`: the sets of ids of each document. Prints as three lines.
    """

    strict: Score
    overlap: Score
    document: Score

    def __str__(self) -> str:
        return f"strict    {self.strict}\noverlap   {self.overlap}\ndocument  {self.document}"


def evaluate_linking(
    gold: Iterable[Document],
    predicted: Iterable[Document],
    *,
    keep: Collection[str] | None = None,
    retired: Mapping[str, str | None] | None = None,
) -> LinkingScores:
    """Compare predicted with gold mentions, as sets of (document, start, end, id); NIL mentions do not count.

    Args:
        gold: The annotated documents.
        predicted: The same documents by `id`, in any order; one that is missing counts as predicted without mentions.
        keep: Only these ids count, on both sides; None keeps all of them.
        retired: Successor (or None) of each id no longer in use; applied to both sides before `keep`. An id without a
            successor stays as it is.

    Raises:
        MedgraftError: a document id occurs twice on one side, or was predicted but is not in the gold.
    """
    kept = None if keep is None else frozenset(keep)
    gold_spans = _spans_by_document(gold, kept, retired or {}, "gold")
    predicted_spans = _spans_by_document(predicted, kept, retired or {}, "predicted")
    unknown = [name for name in predicted_spans if name not in gold_spans]
    if unknown:
        raise MedgraftError(f"document {unknown[0]!r} was predicted but has no gold; compare the same documents")
    strict = overlap = document = Score()
    for name, wanted in gold_spans.items():
        found = predicted_spans.get(name, set())
        wanted_ids, found_ids = {s[2] for s in wanted}, {s[2] for s in found}
        strict += Score(len(wanted & found), len(found), len(wanted))
        overlap += Score(_paired(wanted, found), len(found), len(wanted))
        document += Score(len(wanted_ids & found_ids), len(found_ids), len(wanted_ids))
    return LinkingScores(strict, overlap, document)


def _spans_by_document(
    documents: Iterable[Document], keep: frozenset[str] | None, retired: Mapping[str, str | None], side: str
) -> dict[str, set[Span]]:
    spans: dict[str, set[Span]] = {}
    for document in documents:
        if document.id in spans:
            raise MedgraftError(
                f"document {document.id!r} occurs twice among the {side} documents; give each its own id"
            )
        spans[document.id] = set()
        for mention in document:
            concept_id = _primary(mention.concept_id, retired)
            if concept_id is not None and (keep is None or concept_id in keep):
                spans[document.id].add((mention.start, mention.end, concept_id))
    return spans


def _primary(concept_id: str | None, retired: Mapping[str, str | None]) -> str | None:
    """Follow the successors to the id in use, each id at most once."""
    seen: set[str | None] = set()
    while concept_id is not None and concept_id not in seen:
        seen.add(concept_id)
        concept_id = retired.get(concept_id) or concept_id
    return concept_id


def _paired(gold: set[Span], predicted: set[Span]) -> int:
    """Number of one-to-one pairs of overlapping spans with the same id, the longest shared stretch paired first."""
    by_id: dict[str, list[Span]] = {}
    for span in gold:
        by_id.setdefault(span[2], []).append(span)
    pairs = sorted(
        (max(a[0], b[0]) - min(a[1], b[1]), a, b)  # minus the shared stretch, so that the longest sorts first
        for b in predicted
        for a in by_id.get(b[2], ())
        if max(a[0], b[0]) < min(a[1], b[1])
    )
    used_gold: set[Span] = set()
    used_predicted: set[Span] = set()
    for _, a, b in pairs:
        if a not in used_gold and b not in used_predicted:
            used_gold.add(a)
            used_predicted.add(b)
    return len(used_gold)
