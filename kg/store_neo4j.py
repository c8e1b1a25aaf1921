"""The graph in a Neo4j database that `kg.neo4j_load` has filled: reading it."""

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import pyarrow as pa

from kg.layout import SEARCH, table_of
from kg.neo4j_server import Server
from kg.snapshot import SCHEMAS
from loaders.errors import MedgraftError

_BATCH = 10_000  # rows made into a table at once
_FACT = "n.head AS head, n.relation AS relation, n.tail AS tail, n.sources AS sources, n.evidence AS evidence"
_TABLES = {
    "concepts": "MATCH (n:Concept) RETURN n.id AS id, n.name AS name, n.aliases AS aliases, n.types AS types, "
    "n.definition AS definition, n.sources AS sources",
    "names": "MATCH (n:Name) RETURN n.concept_id AS concept_id, n.name AS name, n.kind AS kind, "
    "n.language AS language, n.source AS source, n.suppressed AS suppressed",
    "triples": "MATCH (a:Concept)-[r]->(b:Concept) RETURN a.id AS head, r.relation AS relation, b.id AS tail, "
    "r.sources AS sources, r.evidence AS evidence",
    "exclusions": f"MATCH (n:Exclusion) RETURN {_FACT}",
    "retired": "MATCH (n:Retired) RETURN n.id AS id, n.successor AS successor, n.reason AS reason",
    "mappings": "MATCH (n:Mapping) RETURN n.concept_id AS concept_id, n.predicate AS predicate, n.object AS object, "
    "n.sources AS sources, n.evidence AS evidence",
    "attributes": "MATCH (n:Attribute) RETURN n.concept_id AS concept_id, n.attribute AS attribute, "
    "n.value AS value, n.sources AS sources",
}


class Neo4jStore:
    """A database that `load_database` has filled. Reads only."""

    def __init__(self, uri: str, *, updating: bool = False) -> None:
        """Open a database; with `updating` also one whose update was cut off, as it is."""
        self._tables: dict[str, pa.Table] = {}
        self._server = Server(uri)
        try:
            meta = self._meta(uri, updating)
        except BaseException:
            self._server.close()
            raise
        self.manifest: dict[str, Any] = json.loads(meta["manifest"])
        if meta["state"] == "updating":
            self.manifest["fingerprint"] = ""  # it holds a bit of both graphs

    def run(self, cypher: str, **parameters: Any) -> list[dict[str, Any]]:
        """The rows of a query, as dictionaries.

        Raises:
            MedgraftError: if the server refuses the query, or is gone.
        """
        return self._server.read(cypher, **parameters)

    def table(self, name: str) -> pa.Table:
        """One of the tables of the snapshot, streamed from the server; kept in memory once read."""
        if name not in self._tables:
            self._tables[name] = self._read(name)
        return self._tables[name]

    def batches(self, name: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Some columns of a table of the snapshot, in the order of the server, batch after batch."""
        pattern, returned = _TABLES[name].split(" RETURN ", 1)
        asked = ", ".join(item for item in returned.split(", ") if item.rpartition(" AS ")[2] in columns)
        schema = pa.schema([SCHEMAS[name].field(column) for column in columns])
        stream = self._server.stream(f"{pattern} RETURN {asked}")
        while rows := list(islice(stream, _BATCH)):
            yield from table_of(rows, schema).combine_chunks().to_batches()

    def rows(self, name: str, column: str, values: Sequence[str]) -> pa.Table:
        """The rows of a table whose column is one of the values, in the order of the snapshot."""
        if not (name in SCHEMAS and column in SCHEMAS[name].names):
            raise MedgraftError(f"no column {column!r} in a table {name!r}")
        pattern, returned = _TABLES[name].removeprefix("MATCH ").split(" RETURN ", 1)
        query = f"UNWIND $values AS value MATCH {pattern} WHERE n.{column} = value RETURN {returned}"
        found = self.run(query, values=sorted(set(values)))
        return table_of(found, SCHEMAS[name]).sort_by([(column, "ascending") for column in _order(name)])

    def search(self, words: Sequence[str], text: str, k: int) -> list[str]:
        """Ids of concepts with a name that holds all the words, best first; see `kg.graph.Graph.search`."""
        condition = " AND ".join(f"m.lower CONTAINS $word{i}" for i in range(len(words)))
        parameters = {f"word{i}": word for i, word in enumerate(words)}
        rows = self.run(SEARCH.format(words=condition), text=text, k=k, **parameters)
        return [row["id"] for row in rows]

    def close(self) -> None:
        self._server.close()
        self._tables.clear()

    def _meta(self, uri: str, updating: bool) -> dict[str, Any]:
        rows = self.run("MATCH (g:MedgraftGraph {key: 'graph'}) RETURN g.state AS state, g.manifest AS manifest")
        if not rows:
            raise MedgraftError(f"{uri} holds no graph of medgraft; load one with `medgraft build SOURCE --to {uri}`")
        if rows[0]["state"] == "imported":
            raise MedgraftError(
                f"{uri} was imported offline and has no indexes yet; run `medgraft build GRAPH --to {uri}` "
                "with the same graph folder to add them and to check it"
            )
        if rows[0]["state"] == "updating" and not updating:
            raise MedgraftError(f"the update of {uri} is not finished; run the same `medgraft update` again")
        if rows[0]["state"] not in ("complete", "updating"):
            raise MedgraftError(
                f"the load into {uri} is not finished; run the same `medgraft build` again to continue it"
            )
        return rows[0]

    def _read(self, name: str) -> pa.Table:
        table = pa.Table.from_batches(self.batches(name, SCHEMAS[name].names), SCHEMAS[name])
        return table.sort_by([(column, "ascending") for column in _order(name)])


def _order(name: str) -> list[str]:
    """The columns that a table of the snapshot is sorted by."""
    keys = {"concepts": ["id"], "names": SCHEMAS["names"].names, "retired": ["id"]}
    return keys.get(name, SCHEMAS[name].names[:3])
