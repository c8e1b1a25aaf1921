"""What has changed between two graphs: concepts, facts and names, table by table.

The tables of a snapshot are sorted by concept, so both graphs are read side by side, one range of concepts after the
other: memory is needed for a range and for what differs, not for the graphs.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import polars as pl
import pyarrow as pa

from kg.kept import graph_folder
from kg.snapshot import SCHEMAS, read_batches, read_manifest
from loaders.errors import MedgraftError

# The columns by which rows of both graphs are the same row; the other columns may have changed.
KEYS = {
    "concepts": ["id"],
    "names": SCHEMAS["names"].names,
    "triples": ["head", "relation", "tail"],
    "exclusions": ["head", "relation", "tail"],
    "retired": ["id"],
    "mappings": ["concept_id", "predicate", "object"],
    "attributes": ["concept_id", "attribute", "value"],
}
CONCEPTS = ("added", "removed", "merged", "deleted", "changed")
ROWS = ("added", "removed", "changed")
_FIELDS = ("name", "definition", "types", "aliases", "sources")
_READ = 250_000  # rows of each graph that are compared at once

_TEXT, _TEXTS = pa.string(), pa.list_(pa.string())
_RETIRED = pa.schema([("id", _TEXT), ("name", _TEXT), ("successor", _TEXT), ("reason", _TEXT)])
_CHANGED = pa.schema(
    [("id", _TEXT), ("changed", _TEXTS)]
    + [(f"{prefix}{name}", SCHEMAS["concepts"].field(name).type) for name in _FIELDS for prefix in ("", "old_")]
)


@dataclass(frozen=True)
class Diff:
    """What graph `b` has that graph `a` has not, and the other way round; `str()` shows it as a report.

    `counts` maps each table to the numbers of rows added, removed and changed (same key, other contents); for concepts
    also `merged` (retired in b, with a successor), `deleted` (retired in b, without one); `removed` are then those that
    are not even retired. `fields` tells how many concepts changed in each column, `types` and `relations` how many
    concepts and triples were added, removed and changed for each. `bytes` of the graphs do not matter, only contents.
    """

    a: str
    b: str
    fingerprints: tuple[str, str]
    counts: dict[str, dict[str, int]]
    fields: dict[str, int]
    types: dict[str, dict[str, int]]
    relations: dict[str, dict[str, int]]
    _tables: dict[tuple[str, str], pa.Table] = field(repr=False, compare=False)

    def __bool__(self) -> bool:
        """Whether anything differs."""
        return any(number for table in self.counts.values() for number in table.values())

    def concepts(self, kind: str) -> pa.Table:
        """The concepts that were `added`, `removed` (not even retired), `merged`, `deleted` or `changed`, by id.

        Added and removed ones have the columns of the graph; merged and deleted ones id, name, successor, reason;
        changed ones `changed` (which columns) and each column beside its earlier value, `old_name` and so on.
        """
        return self._table("concepts", kind, CONCEPTS)

    def rows(self, table: str, kind: str) -> pa.Table:
        """The rows of another table that were `added`, `removed`, or `changed` (as they are in b), in their order."""
        if table not in SCHEMAS or table == "concepts":
            others = ", ".join(name for name in SCHEMAS if name != "concepts")
            raise MedgraftError(f"no table {table!r} to compare by rows; there are {others}")
        return self._table(table, kind, ROWS)

    def to_dict(self, limit: int = 0) -> dict[str, Any]:
        """The counts, for JSON; with a limit also so many concepts and facts of each kind."""
        found: dict[str, Any] = {
            "a": self.a,
            "b": self.b,
            "fingerprints": list(self.fingerprints),
            "counts": self.counts,
            "fields": self.fields,
            "types": self.types,
            "relations": self.relations,
        }
        if limit:
            found["concepts"] = {kind: self.concepts(kind).slice(0, limit).to_pylist() for kind in CONCEPTS}
            found["triples"] = {kind: self.rows("triples", kind).slice(0, limit).to_pylist() for kind in ROWS}
        return found

    def report(self, limit: int = 0) -> str:
        """The report that `str` gives, with up to `limit` concepts and facts of each kind as examples."""
        lines = [f"{self.a} ({self.fingerprints[0][:12]}) -> {self.b} ({self.fingerprints[1][:12]})"]
        if not self:
            return f"{lines[0]}: no difference"
        lines += ["", _line("concepts"), *(_line(kind, self.counts["concepts"][kind]) for kind in CONCEPTS)]
        lines += [_line(f"  other {name}", number) for name, number in self.fields.items() if number]
        lines += ["", _columns("rows", *ROWS)]
        lines += [_columns(name, *_numbers(self.counts[name])) for name in SCHEMAS if name != "concepts"]
        for title, groups in (("concepts by type", self.types), ("triples by relation", self.relations)):
            if groups:
                lines += ["", _columns(title, *ROWS)]
                lines += [_columns(name, *_numbers(numbers)) for name, numbers in groups.items()]
        for kind in CONCEPTS if limit else ():
            table = self.concepts(kind)
            lines += [f"\n{kind} concepts"] * bool(table.num_rows)
            lines += [_concept_line(row) for row in table.slice(0, limit).to_pylist()]
            lines += _more(table.num_rows - limit)
        for kind in ROWS if limit else ():
            table = self.rows("triples", kind)
            lines += [f"\n{kind} triples"] * bool(table.num_rows)
            rows = table.slice(0, limit).to_pylist()
            lines += [f"  {row['head']} {row['relation']} {row['tail']}  ({', '.join(row['sources'])})" for row in rows]
            lines += _more(table.num_rows - limit)
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.report()

    def _table(self, name: str, kind: str, kinds: tuple[str, ...]) -> pa.Table:
        if kind not in kinds:
            raise MedgraftError(f"no kind of difference {kind!r} of {name}; choose one of {', '.join(kinds)}")
        return self._tables[name, kind]


class GraphTables:
    """The manifest and the tables of a graph, to be read from end to end; a folder's store is not opened for it.

    Raises:
        MedgraftError: there is no graph, no server, or no access.
    """

    def __init__(self, where: str | Path, *, updating: bool = False) -> None:
        """`updating`: also a database whose update was cut off, as it is."""
        self.where = str(where)
        self._store: Any = None
        if "://" in self.where:
            from kg.store_neo4j import Neo4jStore

            self._store = Neo4jStore(self.where, updating=updating)
            self.manifest: dict[str, Any] = self._store.manifest
        else:
            self._folder = graph_folder(Path(where))
            self.manifest = read_manifest(self._folder)

    def batches(self, name: str, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The rows of a table of the snapshot, in its order."""
        if self._store is None:
            return read_batches(self._folder, name, _READ, columns)
        table = self._store.table(name)
        return iter(table.select(columns or table.column_names).to_batches(_READ))

    def close(self) -> None:
        """Close the connection to a server."""
        if self._store is not None:
            self._store.close()


def diff(a: str | Path, b: str | Path) -> Diff:
    """Compare two graphs: folders, ontology dumps, or databases on a Neo4j server (`neo4j://host:7687`).

    Raises:
        MedgraftError: one of them is no graph, or cannot be read.
    """
    with closing(GraphTables(a)) as old, closing(GraphTables(b)) as new:
        return compare(old, new)


def compare(old: GraphTables, new: GraphTables) -> Diff:
    """The same as `diff`, of graphs whose tables are open."""
    prints = (str(old.manifest["fingerprint"]), str(new.manifest["fingerprint"]))
    same = prints[0] == prints[1]
    tables = {}
    for name in SCHEMAS:
        removed, added, changed = _empty(name) if same else _compare(old.batches(name), new.batches(name), name)
        if name == "concepts":
            for kind, rows in _concepts(removed, added, changed, new).items():
                tables[name, kind] = rows
        else:
            tables |= {(name, "added"): added, (name, "removed"): removed}
            tables[name, "changed"] = changed.select(SCHEMAS[name].names)
    counts = {
        name: {kind: tables[name, kind].num_rows for kind in (CONCEPTS if name == "concepts" else ROWS)}
        for name in SCHEMAS
    }
    types = {kind: _by_type(tables["concepts", kind]) for kind in ("added", "removed", "changed")}
    relations = {kind: _by_value(tables["triples", kind], "relation") for kind in ROWS}
    fields = Counter(tables["concepts", "changed"].column("changed").combine_chunks().flatten().to_pylist())
    return Diff(
        a=old.where,
        b=new.where,
        fingerprints=prints,
        counts=counts,
        fields={name: fields[name] for name in _FIELDS},
        types=_grouped(types),
        relations=_grouped(relations),
        _tables=tables,
    )


def _compare(
    old: Iterable[pa.RecordBatch], new: Iterable[pa.RecordBatch], name: str
) -> tuple[pa.Table, pa.Table, pa.Table]:
    """Rows removed, added, and changed; those have the columns as they are, and again as they were (`old_...`)."""
    key, columns = KEYS[name], SCHEMAS[name].names
    values = [column for column in columns if column not in key]
    parts: list[tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]] = []
    for before, after in _side_by_side(old, new, name):
        removed = before.join(after, on=key, how="anti", nulls_equal=True, maintain_order="left")
        added = after.join(before, on=key, how="anti", nulls_equal=True, maintain_order="left")
        if values:
            suffixed = before.select(key + values).rename({column: f"old_{column}" for column in values})
            both = after.join(suffixed, on=key, nulls_equal=True, maintain_order="left")
            changed = both.filter(pl.any_horizontal(_differs(both, column) for column in values))
            changed = changed.with_columns(pl.col(column).alias(f"old_{column}") for column in key)
        else:
            changed = after.clear().with_columns(pl.col(column).alias(f"old_{column}") for column in key)
        parts.append((removed, added, changed))
    schema = SCHEMAS[name]
    doubled = pa.schema([*schema, *(field.with_name(f"old_{field.name}") for field in schema)])
    return (
        _table([part[0] for part in parts], schema),
        _table([part[1] for part in parts], schema),
        _table([part[2] for part in parts], doubled),
    )


def _differs(rows: pl.DataFrame, column: str) -> pl.Expr:
    return pl.col(column).ne_missing(pl.col(f"old_{column}"))


def _side_by_side(
    old: Iterable[pa.RecordBatch], new: Iterable[pa.RecordBatch], name: str
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Both tables in pieces that hold the same range of concepts."""
    first = SCHEMAS[name].names[0]
    empty = cast(pl.DataFrame, pl.from_arrow(SCHEMAS[name].empty_table()))
    feeds = [_frames(batches, name) for batches in (old, new)]
    held, goes_on = [empty, empty], [True, True]
    while True:
        for side, feed in enumerate(feeds):
            while goes_on[side] and (held[side].is_empty() or held[side][0, first] == held[side][-1, first]):
                piece = next(feed, None)
                goes_on[side] = piece is not None
                held[side] = held[side] if piece is None else pl.concat([held[side], piece])
        # The last concept of a piece may go on in the next one; what comes before it is complete.
        ends = [held[side][-1, first] for side in (0, 1) if goes_on[side]]
        if not ends:
            break
        cuts = [frame[first].search_sorted(min(ends), "left") if frame.height else 0 for frame in held]
        yield held[0][: cuts[0]], held[1][: cuts[1]]
        held = [held[0][cuts[0] :], held[1][cuts[1] :]]
    yield held[0], held[1]


def _frames(batches: Iterable[pa.RecordBatch], name: str) -> Iterator[pl.DataFrame]:
    for batch in batches:
        if batch.num_rows:
            yield cast(pl.DataFrame, pl.from_arrow(pa.Table.from_batches([batch], schema=SCHEMAS[name])))


def _concepts(removed: pa.Table, added: pa.Table, changed: pa.Table, new: GraphTables) -> dict[str, pa.Table]:
    """Which of the concepts that are gone are retired, and in what the others changed."""
    gone = cast(pl.DataFrame, pl.from_arrow(removed))
    retired = [
        frame.join(gone.select("id"), on="id", how="semi") for frame in _frames(new.batches("retired"), "retired")
    ]
    empty = cast(pl.DataFrame, pl.from_arrow(SCHEMAS["retired"].empty_table()))
    why = pl.concat([empty, *retired])
    found = gone.select("id", "name").join(why, on="id", maintain_order="left")
    frame = cast(pl.DataFrame, pl.from_arrow(changed))
    which = [pl.when(_differs(frame, name)).then(pl.lit(name)) for name in _FIELDS]
    frame = frame.with_columns(pl.concat_list(which).list.drop_nulls().alias("changed"))
    return {
        "added": added,
        "removed": _table([gone.join(why.select("id"), on="id", how="anti", maintain_order="left")], added.schema),
        "merged": _table([found.filter(pl.col("successor").is_not_null())], _RETIRED),
        "deleted": _table([found.filter(pl.col("successor").is_null())], _RETIRED),
        "changed": _table([frame.select(_CHANGED.names)], _CHANGED),
    }


def _empty(name: str) -> tuple[pa.Table, pa.Table, pa.Table]:
    return _compare([], [], name)


def _table(frames: list[pl.DataFrame], schema: pa.Schema) -> pa.Table:
    tables = [frame.select(schema.names).to_arrow().cast(schema) for frame in frames if frame.height]
    return pa.concat_tables([schema.empty_table(), *tables])


def _by_type(concepts: pa.Table) -> Counter[str]:
    types = pl.Series(concepts.column("types"), dtype=pl.List(pl.String)).explode().drop_nulls()
    return _counted(types)


def _by_value(rows: pa.Table, column: str) -> Counter[str]:
    return _counted(pl.Series(rows.column(column), dtype=pl.String))


def _counted(words: pl.Series) -> Counter[str]:
    return Counter(dict(words.alias("word").value_counts().iter_rows()))


def _grouped(kinds: dict[str, Counter[str]]) -> dict[str, dict[str, int]]:
    """Counts by kind and word as counts by word and kind."""
    words = sorted(set().union(*kinds.values()))
    return {word: {kind: counts[word] for kind, counts in kinds.items()} for word in words}


def _numbers(counts: dict[str, int]) -> list[int]:
    return [counts[kind] for kind in ROWS]


def _concept_line(row: dict[str, Any]) -> str:
    text = f"  {row['id']} {row['name']}"
    if "changed" in row:
        return f"{text}: {', '.join(row['changed'])}"
    if "successor" in row:
        onward = f" -> {row['successor']}" if row["successor"] else ""
        return f"{text}{onward} ({row['reason'] or 'no reason given'})"
    return text


def _more(rows: int) -> list[str]:
    return [f"  ... and {rows:,} more"] if rows > 0 else []


def _line(title: str, number: int | None = None) -> str:
    return title if number is None else f"{number:>12,}  {title}"


def _columns(title: str, *cells: object) -> str:
    return "".join(f"{cell:>12,}" if isinstance(cell, int) else f"{cell:>12}" for cell in cells) + f"  {title}"
