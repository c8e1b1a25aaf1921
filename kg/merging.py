"""The rows of several readers become one consistent set of snapshot tables.

One row a concept, one a fact: what several sources or several lines state is gathered in `sources` and `evidence`,
never overwritten. Every row that does not survive is counted by its reason. All work is done on whole columns.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import polars as pl
import pyarrow as pa

from kg.snapshot import SCHEMAS
from loaders.tables import NAME_KINDS, Batch
from loaders.tables import SCHEMAS as READER_SCHEMAS

FACT = ["head", "relation", "tail"]
_SUCCESSION_DOUBLINGS = 32  # follows 2 ** 32 successors, more than there are ids
_SLICE = 1_000_000  # rows turned into Arrow at once: the text of one chunk must stay below 2 GiB


@dataclass
class Merged:
    """What became of the rows of one table: `read == kept + merged + sum(dropped.values())`.

    `merged` counts rows that repeat or add to one that was kept.
    """

    read: int = 0
    kept: int = 0
    merged: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


def merge(batches: Iterable[Batch]) -> tuple[dict[str, pa.Table], dict[str, Merged]]:
    """Merge the batches of all readers, in the order of the inputs, into the tables of a snapshot.

    - A concept takes its name and its definition from the first input that gives one, and all types and sources.
    - Facts and names that use a retired id are moved to its successor; a chain of successors is followed to its end.
    - Facts with an end that is no concept, or with the same concept at both ends, are dropped and counted.
    - An id that one input retires and another one uses is in use.
    """
    rows = _collect(batches)
    accounts = {table: Merged(read=frame.height) for table, frame in rows.items()}
    concepts = _concepts(rows["concepts"], accounts["concepts"])
    retired = _retired(rows["retired"], concepts, accounts["retired"])
    names = _names(rows["names"], concepts, retired, accounts["names"])
    tables = {
        "concepts": _with_aliases(concepts, names),
        "names": names,
        "triples": _facts(rows["triples"], concepts, retired, accounts["triples"]),
        "exclusions": _facts(rows["exclusions"], concepts, retired, accounts["exclusions"]),
        "retired": retired,
    }
    for name, account in accounts.items():
        account.kept = tables[name].height
        account.merged = account.read - account.kept - sum(account.dropped.values())
    return {name: _to_arrow(frame, SCHEMAS[name]) for name, frame in tables.items()}, accounts


def _collect(batches: Iterable[Batch]) -> dict[str, pl.DataFrame]:
    collected: dict[str, list[pa.RecordBatch]] = {table: [] for table in READER_SCHEMAS}
    for batch in batches:
        collected[batch.table].append(batch.rows)
    frames = {}
    for table, schema in READER_SCHEMAS.items():
        frame = pl.from_arrow(pa.Table.from_batches(collected.pop(table), schema=schema))
        assert isinstance(frame, pl.DataFrame)
        frames[table] = frame
    return frames


def _concepts(rows: pl.DataFrame, account: Merged) -> pl.DataFrame:
    rows = _drop(rows, account, "concept without id", _blank("id"))
    named = pl.col("name").filter(~_blank("name")).first()
    return (
        rows.group_by("id", maintain_order=True)
        .agg(
            pl.coalesce(named, pl.col("id").first()).alias("name"),
            pl.col("types").list.explode(keep_nulls=False, empty_as_null=False).unique().sort(),
            pl.col("definition").drop_nulls().first(),
            pl.col("source").drop_nulls().unique().sort().alias("sources"),
        )
        .sort("id")
    )


def _retired(rows: pl.DataFrame, concepts: pl.DataFrame, account: Merged) -> pl.DataFrame:
    """One row a retired id, its successor a concept of the graph or null."""
    rows = _drop(rows, account, "retired id is in use", _one_of("id", concepts))
    rows = (
        rows.sort("id", "successor", "reason", nulls_last=True)
        .group_by("id", maintain_order=True)
        .agg(pl.col("successor").drop_nulls().unique().sort(), pl.col("reason").drop_nulls().first())
    )
    several = pl.col("successor").list.len() > 1
    rows = rows.with_columns(
        pl.when(several)
        .then(pl.concat_str(pl.col("reason").fill_null(""), pl.lit("; several successors: "), _joined("successor")))
        .otherwise("reason")
        .alias("reason"),
        pl.when(~several).then(pl.col("successor").list.first()).alias("successor"),
    )
    for _ in range(_SUCCESSION_DOUBLINGS):
        onward = _successors(rows, "successor")
        if onward.equals(rows["successor"]):
            break
        rows = rows.with_columns(onward)
    return rows.with_columns(pl.when(_one_of("successor", concepts)).then("successor").alias("successor")).sort("id")


def _names(rows: pl.DataFrame, concepts: pl.DataFrame, retired: pl.DataFrame, account: Merged) -> pl.DataFrame:
    rows = rows.with_columns(_successors(retired, "concept_id", rows))
    rows = _drop(rows, account, "empty name", _blank("name"))
    rows = _drop(rows, account, "name of an unknown concept", ~_one_of("concept_id", concepts))
    return rows.unique().sort(READER_SCHEMAS["names"].names)


def _with_aliases(concepts: pl.DataFrame, names: pl.DataFrame) -> pl.DataFrame:
    """Concepts with their other names that are not suppressed: preferred and exact ones first, then by alphabet."""
    rank = pl.col("kind").replace_strict({kind: i for i, kind in enumerate(NAME_KINDS)}, default=len(NAME_KINDS))
    aliases = (
        names.filter(~pl.col("suppressed"))
        .join(concepts.select("id", preferred="name"), left_on="concept_id", right_on="id")
        .filter(pl.col("name") != pl.col("preferred"))
        .group_by("concept_id", "name")
        .agg(rank.min().alias("rank"))
        .sort("concept_id", "rank", "name")
        .group_by("concept_id", maintain_order=True)
        .agg(pl.col("name").alias("aliases"))
    )
    joined = concepts.join(aliases, left_on="id", right_on="concept_id", how="left", maintain_order="left")
    return joined.with_columns(pl.col("aliases").fill_null([])).select(SCHEMAS["concepts"].names)


def _facts(rows: pl.DataFrame, concepts: pl.DataFrame, retired: pl.DataFrame, account: Merged) -> pl.DataFrame:
    rows = rows.with_columns(_successors(retired, "head", rows), _successors(retired, "tail", rows))
    for end in ("head", "tail"):
        rows = _drop(rows, account, f"{end} is retired without successor", _one_of(end, retired))
        rows = _drop(rows, account, f"{end} is not a concept", ~_one_of(end, concepts))
    rows = _drop(rows, account, "no relation", _blank("relation"))
    rows = _drop(rows, account, "head and tail are the same concept", pl.col("head") == pl.col("tail"))
    # Sorted and unique first, so that each group is a run of rows and its lists need no more than a pass.
    rows = rows.unique().sort(*FACT, "source", "evidence")
    return rows.group_by(FACT, maintain_order=True).agg(
        pl.col("source").drop_nulls().unique(maintain_order=True).alias("sources"),
        pl.col("evidence").filter(~_blank("evidence")).unique().sort(),
    )


def _successors(retired: pl.DataFrame, column: str, rows: pl.DataFrame | None = None) -> pl.Series:
    """The ids of a column, those that are retired replaced by their successors where there is one."""
    ids = (retired if rows is None else rows).select(pl.col(column).alias("id"))
    onward = retired.select("id", onward="successor")
    joined = ids.join(onward, on="id", how="left", maintain_order="left")
    return joined.select(pl.coalesce("onward", "id").alias(column)).to_series()


def _drop(rows: pl.DataFrame, account: Merged, reason: str, which: pl.Expr) -> pl.DataFrame:
    """The rows for which `which` is not true; the others are counted under the reason."""
    kept = rows.filter(~which.fill_null(False))
    if kept.height < rows.height:
        account.dropped[reason] += rows.height - kept.height
    return kept


def _one_of(column: str, concepts: pl.DataFrame) -> pl.Expr:
    return pl.col(column).is_in(concepts["id"].implode()).fill_null(False)


def _blank(column: str) -> pl.Expr:
    return pl.col(column).is_null() | (pl.col(column).str.strip_chars() == "")


def _joined(column: str) -> pl.Expr:
    return pl.col(column).list.join(", ")


def _to_arrow(frame: pl.DataFrame, schema: pa.Schema) -> pa.Table:
    slices = [frame.slice(start, _SLICE).to_arrow().cast(schema) for start in range(0, max(frame.height, 1), _SLICE)]
    return pa.concat_tables(slices)
