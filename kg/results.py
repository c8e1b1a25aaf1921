"""Answers: sequences of records that are made only when looked at, ranked paths, pictures."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, TypeVar, overload

import pyarrow as pa
import pyarrow.compute as pc

from loaders.records import Concept, Triple

T = TypeVar("T", Concept, Triple)

_SHOWN = 10  # records in the repr
_WIDTH = 80  # characters of a cell in a notebook
_CHUNK = 10_000  # rows turned into Python objects at a time


class Records(Sequence[T]):
    """A sequence of `Concept`s or `Triple`s over an Arrow table.

    Has a length, can be iterated, indexed and sliced; `in` takes a record, or the id of a concept. `to_pandas()` and
    `to_arrow()` give the table itself, one column for each field.
    """

    def __init__(self, table: pa.Table, make: Callable[[dict[str, Any]], T]) -> None:
        self._table = table
        self._make: Callable[[dict[str, Any]], T] = make

    @property
    def ids(self) -> list[str]:
        """The ids of the concepts, in order; of triples, the ids of both ends, sorted and without repetition."""
        if "id" in self._table.column_names:
            return list(self._table.column("id").to_pylist())
        ends = pa.chunked_array([*self._table.column("head").chunks, *self._table.column("tail").chunks], pa.string())
        return sorted(ends.unique().to_pylist())

    def to_arrow(self) -> pa.Table:
        """The records as an Arrow table."""
        return self._table

    def to_pandas(self) -> Any:
        """The records as a pandas DataFrame."""
        return self._table.to_pandas()

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __iter__(self) -> Iterator[T]:
        for batch in self._table.to_batches(max_chunksize=_CHUNK):
            yield from map(self._make, batch.to_pylist())

    @overload
    def __getitem__(self, index: int) -> T: ...

    @overload
    def __getitem__(self, index: slice) -> "Records[T]": ...

    def __getitem__(self, index: int | slice) -> "T | Records[T]":
        if isinstance(index, slice):
            return Records(self._table.take(pa.array(range(*index.indices(len(self))), pa.int64())), self._make)
        row = range(len(self))[index]
        return self._make(self._table.slice(row, 1).to_pylist()[0])

    def __contains__(self, item: object) -> bool:
        if isinstance(item, Triple) or "head" in self._table.column_names:
            if not isinstance(item, Triple) or "head" not in self._table.column_names:
                return False
            return self._any({"head": item.head, "relation": item.relation, "tail": item.tail})
        if isinstance(item, str):
            return self._any({"id": item})
        return isinstance(item, Concept) and any(record == item for record in self._having({"id": item.id}))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Records) and self._table.equals(other._table)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        lines: list[str] = [f"  {_line(record)}" for record in self[:_SHOWN]]
        if len(self) > _SHOWN:
            lines.append(f"  ... {len(self) - _SHOWN:,} more")
        return "\n".join([f"{len(self):,} records" + (":" if lines else ""), *lines])

    def _repr_html_(self) -> str:
        """The first records as a table, for notebooks."""
        shown = [column for column in self._table.column_names if column not in ("evidence", "definition")]
        head = "".join(f"<th>{escape(column)}</th>" for column in shown)
        rows = self._table.select(shown).slice(0, _SHOWN).to_pylist()
        body = "".join("<tr>" + "".join(f"<td>{_cell(row[c])}</td>" for c in shown) + "</tr>" for row in rows)
        more = f"<p>{len(self) - _SHOWN:,} more</p>" if len(self) > _SHOWN else ""
        return f"<table><tr>{head}</tr>{body}</table>{more}"

    def _any(self, values: dict[str, str]) -> bool:
        return len(self._having(values)) > 0

    def _having(self, values: dict[str, str]) -> "Records[T]":
        table = self._table
        for column, value in values.items():
            table = table.filter(pc.equal(table.column(column), value))
        return Records(table, self._make)


@dataclass(frozen=True)
class RankedPath:
    """A way from one concept to another; the score is at most 1, higher is better."""

    triples: Records[Triple]
    score: float

    def __len__(self) -> int:
        return len(self.triples)

    def __str__(self) -> str:
        return f"{self.score:.3f}  " + "; ".join(map(str, self.triples))


@dataclass(frozen=True)
class Picture:
    """An SVG that notebooks show; `left_out` concepts did not fit into it."""

    svg: str
    left_out: int = 0

    def _repr_html_(self) -> str:
        return self.svg + (f"<p>{self.left_out:,} more concepts are not shown.</p>" if self.left_out else "")


def concept_records(table: pa.Table) -> Records[Concept]:
    """The rows of a table with the columns of `Concept`, as records."""
    return Records(table, _concept)


def triple_records(table: pa.Table) -> Records[Triple]:
    """The rows of a table with the columns of `Triple`, as records."""
    return Records(table, _triple)


def _concept(row: dict[str, Any]) -> Concept:
    lists = {column: tuple(row[column] or ()) for column in ("aliases", "types", "sources")}
    return Concept(id=row["id"], name=row["name"], definition=row["definition"], **lists)


def _triple(row: dict[str, Any]) -> Triple:
    return Triple(
        head=row["head"],
        relation=row["relation"],
        tail=row["tail"],
        sources=tuple(row["sources"] or ()),
        evidence=tuple(row["evidence"] or ()),
        head_name=row.get("head_name"),
        tail_name=row.get("tail_name"),
    )


def _cell(value: Any) -> str:
    text = "; ".join(value) if isinstance(value, list) else "" if value is None else str(value)
    return escape(text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}\u2026")


def _line(record: Concept | Triple) -> str:
    return f"{record.id}  {record.name}" if isinstance(record, Concept) else str(record)
