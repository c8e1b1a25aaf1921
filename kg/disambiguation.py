"""Which of several concepts a mention means: spelling first, then prior, context and coherence.

Candidates whose spelling is within `MARGIN` of the best are ordered by spelling + CONTEXT * context + COHERENCE *
coherence + CORPUS * the share of a corpus's mentions of that name which mean it + SAID for a name that the text has as
it is, or its plural: *morphine* is not one of the *Morphines*. Ties keep their order: the better kind of name, then the
lower id.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kg.matching import is_said
from loaders.records import Candidate

MARGIN = 0.1
CONTEXT = 0.2
COHERENCE = 0.1
CORPUS = 0.2
SAID = 0.1
# Text, the spans of its mentions, the concept ids of the candidates of each -> a number in [0, 1] for each of these.
ContextScorer = Callable[[str, Sequence[tuple[int, int]], Sequence[Sequence[str]]], Sequence[Sequence[float]]]


class Hierarchy:
    """Which concept is a kind of which, among the concepts of a linker.

    Args:
        parents: Rows of the parents of all concepts, those of one after those of the other.
        starts: Where the parents of each concept begin, (n_concepts + 1,).
    """

    def __init__(self, parents: NDArray[np.int32], starts: NDArray[np.int64]) -> None:
        self.parents, self.starts = parents, starts
        self._above: dict[int, frozenset[int]] = {}

    @classmethod
    def of(cls, triples: pa.Table | None, ids: pa.ChunkedArray, relations: Collection[str]) -> "Hierarchy":
        """From the triples of a graph (None: no hierarchy) and the sorted ids of a linker's concepts."""
        import pyarrow.compute as pc

        if triples is None:
            return cls(np.zeros(0, np.int32), np.zeros(len(ids) + 1, np.int64))
        up = triples.filter(pc.is_in(triples.column("relation"), pa.array(list(relations))))
        head, tail = (pc.index_in(up.column(c), ids).combine_chunks() for c in ("head", "tail"))
        known = pc.and_(head.is_valid(), tail.is_valid())
        heads = head.filter(known).to_numpy(zero_copy_only=False).astype(np.int64)
        tails = tail.filter(known).to_numpy(zero_copy_only=False).astype(np.int32)
        order = np.lexsort((tails, heads))
        starts = np.searchsorted(heads[order], np.arange(len(ids) + 1)).astype(np.int64)
        return cls(tails[order], starts)

    def above(self, concept: int) -> frozenset[int]:
        """All concepts that this one is a kind of, without itself."""
        known = self._above.get(concept)
        if known is None:
            seen: set[int] = set()
            todo = [concept]
            while todo:
                row = todo.pop()
                for parent in self.parents[self.starts[row] : self.starts[row + 1]].tolist():
                    if parent not in seen:
                        seen.add(parent)
                        todo.append(parent)
            known = frozenset(seen - {concept})
            if len(self._above) > 200_000:  # a bound for endless streams of text
                self._above.clear()
            self._above[concept] = known
        return known

    def near(self, a: int, b: int) -> float:
        """Jaccard similarity of what both are and are kinds of; 1 for one concept."""
        of_a, of_b = self.above(a) | {a}, self.above(b) | {b}
        return len(of_a & of_b) / len(of_a | of_b)


def collapse(candidates: Sequence[Candidate], rows: Sequence[int], hierarchy: Hierarchy) -> tuple[Candidate, ...]:
    """Candidates without those that are above a better one: what is a seizure need not be called a finding too."""
    kept: list[Candidate] = []
    above: set[int] = set()
    for candidate, row in zip(candidates, rows, strict=True):
        if row not in above:
            kept.append(candidate)
            above |= hierarchy.above(row)
    return tuple(kept)


def weigh(
    name: str,
    candidates: Sequence[Candidate],
    rows: Sequence[int],
    context: Sequence[float] | None,
    others: Collection[int],
    hierarchy: Hierarchy | None,
) -> tuple[Candidate, ...]:
    """Candidates in the order of their scores, with the signals of context and coherence added.

    Args:
        name: Of the mention, as the text has it.
        candidates: By spelling, the best first.
        rows: Their concepts.
        context: How well each fits the text, in [0, 1]; None for no such signal.
        others: Concepts of the other mentions of the document, each certain.
        hierarchy: For the coherence with the others; None for no such signal.
    """
    if len(candidates) < 2 or (context is None and (hierarchy is None or not others)):
        return tuple(candidates)
    best = candidates[0].score
    weighed = []
    for n, (candidate, row) in enumerate(zip(candidates, rows, strict=True)):
        score, signals = candidate.score, list(candidate.signals)
        if best - score <= MARGIN:
            if context is not None:
                signals.append(("context", round(float(context[n]), 5)))
                score += CONTEXT * (float(context[n]) - 1)
            if hierarchy is not None and others:
                coherence = max((hierarchy.near(row, other) for other in others if other != row), default=0.0)
                signals.append(("coherence", round(coherence, 5)))
                score += COHERENCE * (coherence - 1)
            score += SAID * is_said(candidate.alias, name)
            score += CORPUS * next((share for name, share in candidate.signals if name == "corpus"), 0.0)
        weighed.append((-score, n, replace(candidate, signals=tuple(signals))))
    order = sorted(weighed, key=lambda item: item[:2])
    # The score stays the spelling's, which other texts can be compared by; the order is that of the sum.
    return tuple(candidate for _, _, candidate in order)
