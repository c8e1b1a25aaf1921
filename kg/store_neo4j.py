"""The graph on a Neo4j server (5.x, Community is enough): loading it from a snapshot, and reading it.

The only module that imports neo4j. A database belongs to one graph; the node `(:MedgraftGraph {key: 'graph'})` says
which, and how far its load has come. A database that holds anything else is never touched.
"""

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import neo4j
import pyarrow as pa
import pyarrow.compute as pc
from neo4j.exceptions import AuthError, ConfigurationError, DriverError, Neo4jError
from tqdm import tqdm

from kg.differences import Diff
from kg.layout import LOADER, PLACES, SEARCH, relationship_type, stored_rows, table_of, type_labels
from kg.snapshot import SCHEMAS, read_table
from loaders.errors import MedgraftError

logging.getLogger("neo4j").addHandler(logging.NullHandler())

_BATCH = 10_000  # rows in one transaction
_CONNECT_SECONDS = 15
_INDEX_SECONDS = 600
_SCHEMES = ("neo4j", "neo4j+s", "neo4j+ssc", "bolt", "bolt+s", "bolt+ssc")
_LABELS = tuple(place for place in PLACES.values() if place != "Relation")
_CONSTRAINTS = (
    "CREATE CONSTRAINT medgraft_graph IF NOT EXISTS FOR (n:MedgraftGraph) REQUIRE n.key IS UNIQUE",
    "CREATE CONSTRAINT medgraft_concept IF NOT EXISTS FOR (n:Concept) REQUIRE n.id IS UNIQUE",
    "CREATE CONSTRAINT medgraft_name IF NOT EXISTS FOR (n:Name) REQUIRE n.row IS UNIQUE",
    "CREATE CONSTRAINT medgraft_exclusion IF NOT EXISTS FOR (n:Exclusion) REQUIRE n.row IS UNIQUE",
    "CREATE CONSTRAINT medgraft_retired IF NOT EXISTS FOR (n:Retired) REQUIRE n.id IS UNIQUE",
    "CREATE CONSTRAINT medgraft_mapping IF NOT EXISTS FOR (n:Mapping) REQUIRE n.row IS UNIQUE",
    "CREATE CONSTRAINT medgraft_attribute IF NOT EXISTS FOR (n:Attribute) REQUIRE n.row IS UNIQUE",
)
# Made when all rows are there: kept up to date row by row they made a load take a quarter longer.
_INDEXES = (
    "CREATE INDEX medgraft_name_name IF NOT EXISTS FOR (n:Name) ON (n.lower)",
    "CREATE INDEX medgraft_name_concept IF NOT EXISTS FOR (n:Name) ON (n.concept_id)",
    "CREATE TEXT INDEX medgraft_name_lower IF NOT EXISTS FOR (n:Name) ON (n.lower)",
    "CREATE INDEX medgraft_exclusion_head IF NOT EXISTS FOR (n:Exclusion) ON (n.head)",
    "CREATE INDEX medgraft_exclusion_tail IF NOT EXISTS FOR (n:Exclusion) ON (n.tail)",
    "CREATE INDEX medgraft_mapping_concept IF NOT EXISTS FOR (n:Mapping) ON (n.concept_id)",
    "CREATE INDEX medgraft_mapping_object IF NOT EXISTS FOR (n:Mapping) ON (n.object)",
    "CREATE INDEX medgraft_attribute_concept IF NOT EXISTS FOR (n:Attribute) ON (n.concept_id)",
    "CREATE FULLTEXT INDEX medgraft_names IF NOT EXISTS FOR (n:Name) ON EACH [n.name]",
)
# MERGE, not CREATE: when the answer to a commit is lost, the driver sends the batch once more.
_MERGE_NODES = "UNWIND $rows AS row MERGE (n:{label} {{{key}: row.{key}}}) SET n += row"
_MERGE_TRIPLES = """
UNWIND $rows AS row
MATCH (a:Concept {{id: row.head}}) MATCH (b:Concept {{id: row.tail}})
MERGE (a)-[r:`{type}` {{relation: row.relation}}]->(b)
SET r.sources = row.sources, r.evidence = row.evidence"""
_PROGRESS = "MATCH (g:MedgraftGraph {key: 'graph'}) SET g.batches = $batches"
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
        self._driver, self._database = _open(uri)
        try:
            meta = self._meta(uri, updating)
        except BaseException:
            self._driver.close()
            raise
        self.manifest: dict[str, Any] = json.loads(meta["manifest"])
        if meta["state"] == "updating":
            self.manifest["fingerprint"] = ""  # it holds a bit of both graphs

    def run(self, cypher: str, **parameters: Any) -> list[dict[str, Any]]:
        """The rows of a query, as dictionaries.

        Raises:
            MedgraftError: if the server refuses the query, or is gone.
        """
        with _plain_errors():
            records, _, _ = self._driver.execute_query(
                cypher,
                parameters_=parameters,
                database_=self._database,
                routing_=neo4j.RoutingControl.READ,
            )
        return [record.data() for record in records]

    def table(self, name: str) -> pa.Table:
        """One of the tables of the snapshot, streamed from the server; kept in memory once read."""
        if name not in self._tables:
            self._tables[name] = self._read(name)
        return self._tables[name]

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
        self._driver.close()
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
        schema = SCHEMAS[name]
        tables: list[pa.Table] = []
        rows: list[dict[str, Any]] = []
        with (
            _plain_errors(),
            self._driver.session(database=self._database, default_access_mode=neo4j.READ_ACCESS) as session,
        ):
            for record in session.run(_TABLES[name]):
                rows.append(record.data())
                if len(rows) == _BATCH:
                    tables.append(table_of(rows, schema))
                    rows = []
        table = pa.concat_tables([*tables, table_of(rows, schema)])
        return table.sort_by([(column, "ascending") for column in _order(name)])


def check_loadable(uri: str) -> None:
    """Whether a load may begin: the server answers, and its database is empty or one of ours.

    Raises:
        MedgraftError: otherwise.
    """
    driver, database = _open(uri)
    with driver, _plain_errors():
        _check_owner(_Loader(driver, database, uri))


def load_database(uri: str, folder: Path, manifest: Mapping[str, Any]) -> None:
    """Make a database hold exactly the snapshot in a folder.

    Rows are written in batches, each with a mark of progress in the same transaction: a load that was cut off goes on
    where it stopped. A graph that was imported offline (`kg.neo4j_import`) gets its constraints and indexes. Another
    graph of medgraft in the database is removed first, with its relationships; nodes with labels of the user's own
    stay. Counts are checked at the end, and only then the graph can be opened.

    Raises:
        MedgraftError: no access, or the database holds something that medgraft has not written.
    """
    tables = {name: read_table(folder, name) for name in SCHEMAS}
    driver, database = _open(uri)
    with driver, _plain_errors():
        loader = _Loader(driver, database, uri)
        meta = _check_owner(loader)
        fingerprint = manifest["fingerprint"]
        loader.make(_CONSTRAINTS)
        if meta is not None and meta["state"] in ("complete", "imported"):
            if meta == {**meta, "fingerprint": fingerprint, "loader": LOADER} and not loader.differences(manifest):
                loader.make(_INDEXES)
                loader.set_meta(state="complete")
                return
            meta = None
        begun = {"fingerprint": fingerprint, "state": "loading", "loader": LOADER}
        if meta is None or meta != {**meta, **begun}:
            loader.set_meta(**{**begun, "state": "clearing"}, manifest=json.dumps(manifest), batches=0)
            loader.clear()
            loader.set_meta(**begun)
            meta = {"batches": 0}
        loader.load(tables, done=meta["batches"])
        loader.make(_INDEXES)
        different = loader.differences(manifest)
        if different:
            raise MedgraftError(f"{uri} does not hold what was sent ({different}); is something else writing to it?")
        loader.set_meta(state="complete")


def update_database(uri: str, changes: Diff, manifest: Mapping[str, Any]) -> None:
    """Make a database hold the graph of the manifest, writing only what changes from the graph that it holds.

    An update that was cut off leaves the database as one that only another update opens; it goes on from there.

    Raises:
        MedgraftError: no access, or the database does not hold afterwards what the manifest counts.
    """
    from kg.neo4j_changes import statements

    driver, database = _open(uri)
    with driver, _plain_errors():
        loader = _Loader(driver, database, uri)
        loader.set_meta(state="updating")
        with (
            tqdm(desc="updating Neo4j", unit=" rows", unit_scale=True, disable=None) as bar,
            driver.session(database=database) as session,
        ):
            for query, rows in statements(changes, loader.next_rows()):
                for start in range(0, rows.num_rows, _BATCH):
                    batch = rows.slice(start, _BATCH)
                    session.execute_write(_run, query, batch.to_pylist())
                    bar.update(batch.num_rows)
        different = loader.differences(manifest)
        if different:
            raise MedgraftError(
                f"{uri} does not hold what was sent ({different}); load it anew with `medgraft build GRAPH --to {uri}`"
            )
        loader.set_meta(
            state="complete", fingerprint=manifest["fingerprint"], manifest=json.dumps(manifest), loader=LOADER
        )


class _Loader:
    """One load into one database."""

    def __init__(self, driver: neo4j.Driver, database: str | None, uri: str) -> None:
        self.driver = driver
        self.database = database
        self.uri = uri

    def write(self, query: str, **parameters: Any) -> list[dict[str, Any]]:
        records, _, _ = self.driver.execute_query(query, parameters_=parameters, database_=self.database)
        return [record.data() for record in records]

    def make(self, statements: Sequence[str]) -> None:
        """Constraints or indexes, those that are not there yet; they are complete on return."""
        for statement in statements:
            self.write(statement)
        self.write("CALL db.awaitIndexes($seconds)", seconds=_INDEX_SECONDS)

    def meta(self) -> dict[str, Any] | None:
        rows = self.write(
            "MATCH (g:MedgraftGraph {key: 'graph'}) RETURN g.fingerprint AS fingerprint, g.state AS state, "
            "g.loader AS loader, g.batches AS batches"
        )
        return rows[0] if rows else None

    def set_meta(self, **values: Any) -> None:
        self.write("MERGE (g:MedgraftGraph {key: 'graph'}) SET g += $values", values=values)

    def next_rows(self) -> dict[str, int]:
        """The first free number for each label whose nodes are numbered."""
        query = "MATCH (n:{label}) RETURN coalesce(max(n.row), -1) + 1 AS row"
        numbered = ("Name", "Exclusion", "Mapping", "Attribute")
        return {label: self.write(query.format(label=label))[0]["row"] for label in numbered}

    def clear(self) -> None:
        """Remove the earlier graph, in transactions of bounded size."""
        statements = ["MATCH (:Concept)-[r]->(:Concept) CALL { WITH r DELETE r } IN TRANSACTIONS OF 50000 ROWS"]
        statements += [
            f"MATCH (n:{label}) CALL {{ WITH n DETACH DELETE n }} IN TRANSACTIONS OF 20000 ROWS" for label in _LABELS
        ]
        with self.driver.session(database=self.database) as session:
            for statement in statements:
                session.run(statement).consume()

    def load(self, tables: Mapping[str, pa.Table], done: int) -> None:
        """Write all batches after the first `done`, in an order that depends on the tables alone."""
        total = sum(table.num_rows for table in tables.values())
        with (
            tqdm(desc="loading Neo4j", total=total, unit=" rows", unit_scale=True, disable=None) as bar,
            self.driver.session(database=self.database) as session,
        ):
            for number, (query, rows) in enumerate(_batches(tables), start=1):
                if number > done:
                    session.execute_write(_write_batch, query, rows.to_pylist(), number)
                bar.update(rows.num_rows)

    def differences(self, manifest: Mapping[str, Any]) -> str:
        """Where the database does not hold what the manifest counts; empty if it does."""
        counts = manifest["counts"]
        expected = {"Concept": counts["concepts"], "Name": counts["names"]}
        expected |= {"Exclusion": counts["exclusions"], "Retired": counts["retired"]}
        expected |= {"Mapping": counts["mappings"], "Attribute": counts["attributes"]}
        held = {label: self.write(f"MATCH (n:{label}) RETURN count(n) AS count")[0]["count"] for label in _LABELS}
        rows = self.write("MATCH (:Concept)-[r]->(:Concept) RETURN r.relation AS relation, count(*) AS count")
        held |= {f"relation {row['relation']}": row["count"] for row in rows}
        expected |= {f"relation {relation}": count for relation, count in counts["relations"].items()}
        names = sorted(held.keys() | expected.keys())
        return ", ".join(
            f"{name}: {held.get(name, 0)} of {expected.get(name, 0)}"
            for name in names
            if held.get(name, 0) != expected.get(name, 0)
        )


def _check_owner(loader: _Loader) -> dict[str, Any] | None:
    """The meta node; None if the database is empty; an error if it is somebody else's."""
    meta = loader.meta()
    if meta is None and loader.write("MATCH (n) RETURN count(n) AS count")[0]["count"]:
        raise MedgraftError(
            f"{loader.uri} holds data that medgraft has not written; give the graph a database of its own"
        )
    return meta


def _run(transaction: neo4j.ManagedTransaction, query: str, rows: list[dict[str, Any]]) -> None:
    transaction.run(query, rows=rows).consume()


def _write_batch(transaction: neo4j.ManagedTransaction, query: str, rows: list[dict[str, Any]], number: int) -> None:
    transaction.run(query, rows=rows).consume()
    transaction.run(_PROGRESS, batches=number).consume()


def _batches(tables: Mapping[str, pa.Table]) -> Iterator[tuple[str, pa.Table]]:
    """Queries with the rows for each, at most `_BATCH`: concepts by their labels, triples by their type."""
    for name, place in PLACES.items():
        for query, chosen in _queries(place, stored_rows(name, tables[name])):
            for start in range(0, chosen.num_rows, _BATCH):
                yield query, chosen.slice(start, _BATCH)


def _queries(name: str, rows: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    if name == "Concept":
        kinds = pc.binary_join(rows.column("types"), "\x1f")
        for kind in sorted(kinds.unique().to_pylist()):
            chosen = rows.filter(pc.equal(kinds, kind))
            labels = "".join(f":`{label}`" for label in type_labels(chosen.column("types")[0].as_py()))
            yield _MERGE_NODES.format(label="Concept", key="id") + (f" SET n{labels}" if labels else ""), chosen
    elif name == "Relation":
        for relation in sorted(rows.column("relation").unique().to_pylist()):
            query = _MERGE_TRIPLES.format(type=relationship_type(relation))
            yield query, rows.filter(pc.equal(rows.column("relation"), relation))
    else:
        yield _MERGE_NODES.format(label=name, key="id" if name == "Retired" else "row"), rows


def _open(uri: str) -> tuple[neo4j.Driver, str | None]:
    """A driver whose server has answered, and the name of the database if the address has one."""
    parts = urlsplit(uri)
    if parts.scheme not in _SCHEMES:
        raise MedgraftError(
            f"{parts.scheme}:// is no address of a graph; use a folder or one of {'://, '.join(_SCHEMES)}://"
        )
    if parts.username or parts.password:
        raise MedgraftError("credentials do not belong into the address; set NEO4J_USERNAME and NEO4J_PASSWORD")
    database = parts.path.strip("/") or None
    password = os.environ.get("NEO4J_PASSWORD")
    auth = (os.environ.get("NEO4J_USERNAME", "neo4j"), password) if password else None
    with _plain_errors(f"{parts.scheme}://{parts.netloc}"):
        driver = neo4j.GraphDatabase.driver(
            f"{parts.scheme}://{parts.netloc}",
            auth=auth,
            connection_timeout=_CONNECT_SECONDS,
            max_transaction_retry_time=_CONNECT_SECONDS,
            notifications_min_severity="OFF",
        )
        try:
            driver.verify_connectivity()
        except BaseException:
            driver.close()
            raise
    return driver, database


@contextmanager
def _plain_errors(server: str = "the Neo4j server") -> Iterator[None]:
    """Turn what the driver raises into one line that says what to do."""
    try:
        yield
    except AuthError as error:
        raise MedgraftError(
            f"{server} refuses the credentials; set NEO4J_USERNAME and NEO4J_PASSWORD to those of the server"
        ) from error
    except ConfigurationError as error:
        raise MedgraftError(f"{server}: {_first_line(error)}") from error
    except Neo4jError as error:
        raise MedgraftError(f"the query was refused: {_first_line(error)}") from error
    except (DriverError, OSError, ValueError) as error:
        raise MedgraftError(
            f"{server} does not answer ({_first_line(error)}); check the address and that the server runs"
        ) from error


def _order(name: str) -> list[str]:
    """The columns that a table of the snapshot is sorted by."""
    keys = {"concepts": ["id"], "names": SCHEMAS["names"].names, "retired": ["id"]}
    return keys.get(name, SCHEMAS[name].names[:3])


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
