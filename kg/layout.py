"""How the tables of a snapshot lie in a store, the same in both: nodes of four labels, and relationships.

(:Concept)-[r {relation}]->(:Concept)     the triples, and nothing else, are relationships
(:Name) (:Exclusion) (:Retired) (:Mapping) (:Attribute)     stand alone
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl
import pyarrow as pa

LOADER = "2"  # of a Neo4j database; raised when its layout or its batches change, so that an older load starts over
# Table of the snapshot -> the label of its nodes, or the name for what are relationships; nodes first.
PLACES = {
    "concepts": "Concept",
    "names": "Name",
    "exclusions": "Exclusion",
    "retired": "Retired",
    "mappings": "Mapping",
    "attributes": "Attribute",
    "triples": "Relation",
}
# Each word is a parameter of its own, so that Neo4j can use its text index; only their number enters the query.
SEARCH = """
MATCH (m:Name) WHERE {words} AND m.suppressed = false
WITH m.concept_id AS id, min(m.length) AS length,
     min(CASE WHEN m.lower = $text AND m.kind = 'preferred' THEN 0 WHEN m.lower = $text THEN 1
              WHEN m.lower STARTS WITH $text AND m.kind = 'preferred' THEN 2 ELSE 3 END) AS rank
RETURN id ORDER BY rank, length, id LIMIT $k"""


def stored_rows(name: str, rows: pa.Table, first: int = 0) -> pa.Table:
    """Rows of a table of the snapshot as both stores hold them.

    Those without an id of their own are numbered in their order from `first`; a name also carries its lower-case form
    and its length, which `search` goes by.
    """
    if name == "triples":
        return rows.select(["head", "tail", "relation", "sources", "evidence"])
    if name in ("concepts", "retired"):
        return rows
    rows = rows.add_column(0, "row", pa.array(range(first, first + rows.num_rows), pa.int64()))
    if name == "names":
        lower = lower_case(rows.column("name"))
        rows = rows.append_column("lower", lower.to_arrow().cast(pa.string()))
        rows = rows.append_column("length", lower.str.len_chars().cast(pl.Int64).to_arrow())
    return rows


def relationship_type(relation: str) -> str:
    """The relationship type for a relation: upper case, and nothing but letters, digits and `_`."""
    return _identifier(relation).upper()


def type_labels(types: list[str]) -> list[str]:
    """The labels for semantic types; one that would be taken for a label of ours gets a `_`."""
    labels = {_identifier(type_) for type_ in types}
    return sorted(f"{label}_" if label in (*PLACES.values(), "MedgraftGraph") else label for label in labels)


def table_of(rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows that a store returned as a table; an empty list, which an offline import leaves out, is there again."""
    lists = [column.name for column in schema if pa.types.is_list(column.type)]
    filled = [{**row, **{name: row[name] or [] for name in lists}} for row in rows]
    return pa.Table.from_pylist(filled, schema=schema)


def lower_case(texts: Any) -> pl.Series:
    """Text in lower case, by one rule for what is stored and what is looked for."""
    return pl.Series(texts, dtype=pl.String).str.to_lowercase()


def _identifier(name: str) -> str:
    """Identifiers cannot be parameters of a query, so only harmless characters get into one."""
    return re.sub(r"[^A-Za-z0-9]+", "_", name).strip("_") or "unnamed"
