"""How the tables of a snapshot lie in a store, the same in both: nodes of four labels, and relationships.

(:Concept)-[r {relation}]->(:Concept)     the triples, and nothing else, are relationships
(:Name) (:Exclusion) (:Retired) (:Mapping) (:Attribute)     stand alone
"""

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl
import pyarrow as pa

# Each word is a parameter of its own, so that Neo4j can use its text index; only their number enters the query.
SEARCH = """
MATCH (m:Name) WHERE {words} AND m.suppressed = false
WITH m.concept_id AS id, min(m.length) AS length,
     min(CASE WHEN m.lower = $text AND m.kind = 'preferred' THEN 0 WHEN m.lower = $text THEN 1
              WHEN m.lower STARTS WITH $text AND m.kind = 'preferred' THEN 2 ELSE 3 END) AS rank
RETURN id ORDER BY rank, length, id LIMIT $k"""


def stored_rows(tables: Mapping[str, pa.Table]) -> Iterator[tuple[str, pa.Table]]:
    """The rows of the tables, as both stores hold them, nodes first.

    Rows without an id of their own are numbered in their order; a name also carries its lower-case form and its
    length, which `search` goes by.
    """
    yield "Concept", tables["concepts"]
    lower = lower_case(tables["names"].column("name"))
    yield (
        "Name",
        _numbered(tables["names"])
        .append_column("lower", lower.to_arrow().cast(pa.string()))
        .append_column("length", lower.str.len_chars().cast(pl.Int64).to_arrow()),
    )
    yield "Exclusion", _numbered(tables["exclusions"])
    yield "Retired", tables["retired"]
    yield "Mapping", _numbered(tables["mappings"])
    yield "Attribute", _numbered(tables["attributes"])
    yield "Relation", tables["triples"].select(["head", "tail", "relation", "sources", "evidence"])


def lower_case(texts: Any) -> pl.Series:
    """Text in lower case, by one rule for what is stored and what is looked for."""
    return pl.Series(texts, dtype=pl.String).str.to_lowercase()


def _numbered(table: pa.Table) -> pa.Table:
    return table.add_column(0, "row", pa.array(range(table.num_rows), pa.int64()))
