"""The triples of a graph as integers, streamed from the store: no table of strings is ever whole in memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from loaders.errors import MedgraftError

Rows = NDArray[np.int64]
Triples = pa.Table | Rows
"""A table with the columns head, relation, tail; or integer rows of these, shape (triples, 3)."""


class TripleGraph(Protocol):
    """A graph, as far as this needs it."""

    @property
    def fingerprint(self) -> str: ...

    def batches(self, name: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]: ...


@dataclass(frozen=True)
class IntegerGraph:
    """All triples of a graph; the numbers are positions in the two lists.

    Numbers are fixed by the graph: both lists are sorted, and so are the rows, whatever store they come from.
    """

    ids: list[str]
    relations: list[str]
    rows: Rows
    """Head, relation, tail: shape (triples, 3)."""


def read_integer_graph(graph: TripleGraph) -> IntegerGraph:
    """Stream the ids and triples of a graph into 24 bytes a triple (half as many more while it reads)."""
    columns = [batch.column(0) for batch in graph.batches("concepts", ["id"])]
    ids = pa.chunked_array(columns, type=pa.string()).combine_chunks()
    ids = ids.take(pc.sort_indices(ids))
    met: list[str] = []  # relations in the order of their first triple
    parts = [np.empty((0, 3), np.int32)]
    for batch in graph.batches("triples", ["head", "relation", "tail"]):
        known = set(met)
        met += [name for name in pc.unique(batch.column("relation")).to_pylist() if name not in known]
        parts.append(_positions(batch, ids, pa.array(met, pa.string())))
    rows = np.concatenate(parts).astype(np.int64)
    relations = sorted(met)
    renumbered = {name: number for number, name in enumerate(relations)}
    rows[:, 1] = np.array([renumbered[name] for name in met], np.int64)[rows[:, 1]]
    return IntegerGraph(ids.to_pylist(), relations, _sorted(rows, len(ids), len(relations)))


def integer_triples(triples: pa.Table, ids: list[str], relations: list[str]) -> Rows:
    """Rows (head, relation, tail) as positions in `ids` and `relations`, shape (triples, 3).

    Raises:
        MedgraftError: if a triple names a concept or relation that is not listed.
    """
    return _positions(triples, pa.array(ids, pa.string()), pa.array(relations, pa.string())).astype(np.int64)


def triple_codes(rows: Rows, concepts: int, relations: int) -> Rows:
    """One number for each triple, in the order of (head, relation, tail); shape (triples,)."""
    return (rows[:, 0] * relations + rows[:, 1]) * concepts + rows[:, 2]


def _positions(triples: pa.Table | pa.RecordBatch, ids: pa.Array, relations: pa.Array) -> NDArray[np.int32]:
    rows = np.empty((triples.num_rows, 3), np.int32)
    for place, (name, values) in enumerate((("head", ids), ("relation", relations), ("tail", ids))):
        column = pc.index_in(triples.column(name), values)
        if column.null_count:
            stranger = triples.column(name).filter(pc.is_null(column))[0].as_py()
            what = "relation" if name == "relation" else "concept"
            raise MedgraftError(
                f"{column.null_count} of {triples.num_rows} triples name a {what} that is not in the graph, "
                f"{stranger!r} first; take the triples from the same graph"
            )
        rows[:, place] = column.to_numpy(zero_copy_only=False)
    return rows


def _sorted(rows: Rows, concepts: int, relations: int) -> Rows:
    """The rows by head, relation, tail, as the snapshot has them; a server gives them in an order of its own."""
    codes = triple_codes(rows, concepts, relations)
    return rows if (codes[1:] >= codes[:-1]).all() else rows[np.argsort(codes, kind="stable")]
