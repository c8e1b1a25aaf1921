"""What an update writes to a Neo4j database: the statements that turn one graph into another, and nothing else.

Each statement can be repeated without harm. What a later try needs to know of the earlier graph, its retired ids, is
written first and removed last; so an update that was cut off is finished by comparing once more and going on.
"""

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from kg.differences import KEYS, Diff
from kg.layout import PLACES, relationship_type, stored_rows, type_labels
from kg.snapshot import SCHEMAS

Statement = tuple[str, pa.Table]  # Cypher over $rows, and these

_LISTED = ("names", "exclusions", "mappings", "attributes")  # tables whose rows are nodes without an id of their own
_ANCHOR = {"names": "concept_id", "exclusions": "head", "mappings": "concept_id", "attributes": "concept_id"}  # indexed
_UPSERT = "UNWIND $rows AS row MERGE (n:{label} {{{key}: row.{key}}}) SET n += row"
_FIND = "UNWIND $rows AS row MATCH (n:{label} {{{anchor}: row.{anchor}}}) WHERE {same} "
_FACT = """
UNWIND $rows AS row MATCH (a:Concept {{id: row.head}}) MATCH (b:Concept {{id: row.tail}})
"""


def statements(changes: Diff, next_row: dict[str, int]) -> Iterator[Statement]:
    """The statements of an update, in their order.

    Args:
        changes: from the database's graph to the new one.
        next_row: for each label of nodes that are numbered, the first number that is free.
    """
    for kind in ("added", "changed"):
        yield _UPSERT.format(label="Retired", key="id"), changes.rows("retired", kind)
    yield from _by_relation(
        changes.rows("triples", "removed"), "MATCH (a)-[r:`{type}` {{relation: row.relation}}]->(b) DELETE r"
    )
    for name in _LISTED:
        yield _find(name) + "DELETE n", changes.rows(name, "removed")
    for kind in ("removed", "merged", "deleted"):
        yield (
            "UNWIND $rows AS row MATCH (n:Concept {id: row.id}) DETACH DELETE n",
            changes.concepts(kind).select(["id"]),
        )
    yield from _concepts(changes)
    for name in _LISTED:
        place, columns = PLACES[name], SCHEMAS[name].names
        yield _UPSERT.format(label=place, key="row"), stored_rows(name, changes.rows(name, "added"), next_row[place])
        values = [column for column in columns if column not in KEYS[name]]
        if values:
            sets = ", ".join(f"n.{column} = row.{column}" for column in values)
            yield f"{_find(name)}SET {sets}", changes.rows(name, "changed")
    merge = (
        "MERGE (a)-[r:`{type}` {{relation: row.relation}}]->(b) SET r.sources = row.sources, r.evidence = row.evidence"
    )
    for kind in ("added", "changed"):
        yield from _by_relation(changes.rows("triples", kind), merge)
    yield "UNWIND $rows AS row MATCH (n:Retired {id: row.id}) DELETE n", changes.rows("retired", "removed")


def _concepts(changes: Diff) -> Iterator[Statement]:
    """Concepts that are new or changed, with their labels; a label that no type gives any more is taken off."""
    changed = changes.concepts("changed")
    for kind, rows in _by_labels(changed, "old_types"):
        if kind:
            ids = rows.select(["id"])
            yield f"UNWIND $rows AS row MATCH (n:Concept {{id: row.id}}) REMOVE n{_labels(kind)}", ids
    names = SCHEMAS["concepts"].names
    for some in (changes.concepts("added"), changed):
        for kind, rows in _by_labels(some.select(names), "types"):
            setting = f" SET n{_labels(kind)}" if kind else ""
            yield _UPSERT.format(label="Concept", key="id") + setting, rows


def _by_labels(concepts: pa.Table, column: str) -> Iterator[tuple[list[str], pa.Table]]:
    """The concepts of each kind, with the labels that its semantic types give."""
    kinds = pc.binary_join(concepts.column(column), "\x1f")
    for kind in sorted(kinds.unique().to_pylist()):
        yield type_labels(kind.split("\x1f") if kind else []), concepts.filter(pc.equal(kinds, kind))


def _labels(labels: list[str]) -> str:
    return "".join(f":`{label}`" for label in labels)


def _by_relation(triples: pa.Table, action: str) -> Iterator[Statement]:
    for relation in sorted(triples.column("relation").unique().to_pylist()):
        query = _FACT.format() + action.format(type=relationship_type(relation))
        yield query, triples.filter(pc.equal(triples.column("relation"), relation))


def _find(name: str) -> str:
    """MATCH of the nodes that say the same as a row, a null being like a null."""
    same = " AND ".join(
        f"(n.{column} = row.{column} OR (n.{column} IS NULL AND row.{column} IS NULL))" for column in KEYS[name]
    )
    return _FIND.format(label=PLACES[name], anchor=_ANCHOR[name], same=same)
