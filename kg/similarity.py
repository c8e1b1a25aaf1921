"""How much two concepts have in common, by the information content of what is above both.

The information content of a concept is intrinsic: IC(c) = 1 - log(d + 1) / log(n), with d the number of its descendants
and n the number of concepts in the hierarchy, so 0 for a root above everything and 1 for a leaf (Seco, Veale and Hayes,
ECAI 2004). Resnik's similarity is the greatest IC of a common ancestor, Lin's twice that over the sum of both ICs.
"""

import math
from dataclasses import dataclass, field

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import csr_matrix


@dataclass
class Hierarchy:
    """Who is above whom, as index arrays: `up[i]` and `down[i]` have the neighbours of the concept `ids[i]`."""

    ids: list[str]
    up: csr_matrix
    down: csr_matrix
    row: dict[str, int]
    descendants: dict[int, int] = field(default_factory=dict)

    def information(self, concept: int) -> float:
        """IC of a concept, from 0 to 1."""
        if concept not in self.descendants:
            self.descendants[concept] = len(_reached(self.down, concept)) - 1
        return 1 - math.log(self.descendants[concept] + 1) / math.log(max(len(self.ids), 2))

    def similarity(self, a: str, b: str, measure: str) -> tuple[float, str | None]:
        """The similarity, from 0 to 1, and the common ancestor that it comes from; (0, None) if there is none.

        Of ancestors with the same information the first by id. Concepts outside the hierarchy resemble only themselves.
        """
        if a not in self.row or b not in self.row:
            return (1.0, a) if a == b else (0.0, None)
        one, other = self.row[a], self.row[b]
        common = np.intersect1d(_reached(self.up, one), _reached(self.up, other))
        if not len(common):
            return 0.0, None
        best = max(common.tolist(), key=lambda concept: (self.information(concept), -concept))
        shared = self.information(best)
        if measure == "resnik":
            return shared, self.ids[best]
        total = self.information(one) + self.information(other)
        return (2 * shared / total if total else 1.0), self.ids[best]


def hierarchy(triples: pa.Table) -> Hierarchy:
    """From the triples of the hierarchy: columns `head` (the child) and `tail` (the parent)."""
    frame = pl.from_arrow(triples.select(["head", "tail"]))
    assert isinstance(frame, pl.DataFrame)
    ids = pl.concat([frame["head"], frame["tail"]]).unique().sort()
    index = pl.DataFrame({"id": ids}).with_row_index("row")
    ends = [
        frame.select(id=end).join(index, on="id", how="left", maintain_order="left")["row"].to_numpy()
        for end in ("head", "tail")
    ]
    size = (len(ids), len(ids))
    up = csr_matrix((np.ones(len(frame), np.int8), tuple(ends)), shape=size)
    return Hierarchy(ids.to_list(), up, up.T.tocsr(), {id: row for row, id in enumerate(ids)})


def _reached(steps: csr_matrix, start: int) -> NDArray[np.int64]:
    """The start and all that can be reached from it, sorted."""
    seen = np.zeros(steps.shape[0], bool)
    seen[start] = True
    frontier = np.array([start])
    while len(frontier):
        pieces = [steps.indices[steps.indptr[node] : steps.indptr[node + 1]] for node in frontier]
        found = np.unique(np.concatenate(pieces))
        frontier = found[~seen[found]]
        seen[frontier] = True
    return np.flatnonzero(seen)
