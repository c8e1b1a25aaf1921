"""A snapshot into a Neo4j database: all of it, or what an update changes.

A database belongs to one graph; the node `(:MedgraftGraph {key: 'graph'})` says which, and how far its load has come. A
database that holds anything else is never touched, and only one process writes at a time.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from kg.differences import Diff
from kg.layout import LOADER, PLACES, relationship_type, stored_rows, type_labels
from kg.neo4j_changes import statements
from kg.neo4j_server import Row, Run, Server
from kg.snapshot import read_table
from loaders.errors import MedgraftError

_BATCH = 10_000  # rows in one transaction
_INDEX_SECONDS = 600
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
    "CREATE INDEX medgraft_name_concept IF NOT EXISTS FOR (n:Name) ON (n.concept_id)",
    "CREATE TEXT INDEX medgraft_name_lower IF NOT EXISTS FOR (n:Name) ON (n.lower)",
    "CREATE INDEX medgraft_exclusion_head IF NOT EXISTS FOR (n:Exclusion) ON (n.head)",
    "CREATE INDEX medgraft_exclusion_tail IF NOT EXISTS FOR (n:Exclusion) ON (n.tail)",
    "CREATE INDEX medgraft_mapping_concept IF NOT EXISTS FOR (n:Mapping) ON (n.concept_id)",
    "CREATE INDEX medgraft_mapping_object IF NOT EXISTS FOR (n:Mapping) ON (n.object)",
    "CREATE INDEX medgraft_attribute_concept IF NOT EXISTS FOR (n:Attribute) ON (n.concept_id)",
    "CREATE FULLTEXT INDEX medgraft_names IF NOT EXISTS FOR (n:Name) ON EACH [n.name]",
)
# CREATE, which looks for nothing, since the mark of progress keeps a batch from being written twice.
_NODES = "UNWIND $rows AS row CREATE (n:{labels}) SET n = row RETURN count(*) AS written"
_TRIPLES = """
UNWIND $rows AS row
MATCH (a:Concept {{id: row.head}}) MATCH (b:Concept {{id: row.tail}})
CREATE (a)-[:`{type}` {{relation: row.relation, sources: row.sources, evidence: row.evidence}}]->(b)
RETURN count(*) AS written"""
_PROGRESS = """
MATCH (g:MedgraftGraph {key: 'graph'})
WITH g, g.batches AS before SET g.batches = $number RETURN before"""


def check_loadable(uri: str) -> None:
    """Whether a load may begin: the server answers, and its database is empty or one of ours.

    Raises:
        MedgraftError: otherwise.
    """
    with Server(uri) as server:
        _check_owner(_Loader(server))


def load_database(uri: str, folder: Path, manifest: Mapping[str, Any]) -> None:
    """Make a database hold exactly the snapshot in a folder.

    Rows are written in batches, each with a mark of progress in the same transaction: a load that was cut off goes on
    where it stopped. A graph that was imported offline (`kg.neo4j_import`) gets its constraints and indexes. Another
    graph of medgraft in the database is removed first, with its relationships; nodes with labels of the user's own
    stay. Rows are counted after each batch and all again at the end, and only then the graph can be opened.

    Raises:
        MedgraftError: no access, another process is writing, or the database holds something that medgraft has not
            written.
    """
    with Server(uri) as server:
        loader = _Loader(server)
        _check_owner(loader)
        with server.only_writer():
            meta = loader.meta()
            loader.make(_CONSTRAINTS)
            if meta is not None and meta["state"] in ("complete", "imported"):
                whole = {"fingerprint": manifest["fingerprint"], "loader": LOADER}
                if meta == {**meta, **whole} and not loader.differences(manifest):
                    loader.make(_INDEXES)
                    loader.set_meta(state="complete")
                    return
                meta = None
            loader.load(folder, loader.begin(meta, manifest))
            loader.make(_INDEXES)
            if different := loader.differences(manifest):
                raise MedgraftError(
                    f"{uri} does not hold what was sent ({different}); is something else writing to it?"
                )
            loader.set_meta(state="complete")


def update_database(uri: str, changes: Diff, manifest: Mapping[str, Any]) -> None:
    """Make a database hold the graph of the manifest, writing only what changes from the graph that it holds.

    An update that was cut off leaves the database as one that only another update opens; it goes on from there.

    Raises:
        MedgraftError: no access, another process is writing or has written meanwhile, or the database does not hold
            afterwards what the manifest counts.
    """
    with Server(uri) as server, server.only_writer():
        loader = _Loader(server)
        loader.check_still(changes.fingerprints[0])
        loader.set_meta(state="updating")
        with tqdm(desc="updating Neo4j", unit=" rows", unit_scale=True, disable=None) as bar:
            for query, rows in statements(changes, loader.next_rows()):
                for start in range(0, rows.num_rows, _BATCH):
                    batch = rows.slice(start, _BATCH)
                    _change(server, query, batch.to_pylist())
                    bar.update(batch.num_rows)
        if different := loader.differences(manifest):
            raise MedgraftError(
                f"{uri} does not hold what was sent ({different}); load it anew with `medgraft build GRAPH --to {uri}`"
            )
        loader.set_meta(
            state="complete", fingerprint=manifest["fingerprint"], manifest=json.dumps(manifest), loader=LOADER
        )


class _Loader:
    """One load into one database."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def make(self, schema: Sequence[str]) -> None:
        """Constraints or indexes, those that are not there yet; they are complete on return."""
        for statement in schema:
            self.server.write(statement)
        self.server.write("CALL db.awaitIndexes($seconds)", seconds=_INDEX_SECONDS)

    def meta(self) -> Row | None:
        rows = self.server.write(
            "MATCH (g:MedgraftGraph {key: 'graph'}) RETURN g.fingerprint AS fingerprint, g.state AS state, "
            "g.loader AS loader, g.batches AS batches"
        )
        return rows[0] if rows else None

    def set_meta(self, **values: Any) -> None:
        self.server.write("MERGE (g:MedgraftGraph {key: 'graph'}) SET g += $values", values=values)

    def begin(self, meta: Row | None, manifest: Mapping[str, Any]) -> int:
        """The number of batches that are there already; none after the earlier graph is removed."""
        begun = {"fingerprint": manifest["fingerprint"], "state": "loading", "loader": LOADER}
        if meta is not None and meta == {**meta, **begun}:
            return int(meta["batches"])
        self.set_meta(**{**begun, "state": "clearing"}, manifest=json.dumps(manifest), batches=0)
        self.clear()
        self.set_meta(**begun)
        return 0

    def check_still(self, fingerprint: str) -> None:
        """An update is of the graph that it was made for; that of an update that was cut off has no fingerprint."""
        meta = self.meta()
        held = "" if meta is None or meta["state"] == "updating" else meta["fingerprint"]
        if held != fingerprint:
            raise MedgraftError(f"{self.server.uri} was changed by another process meanwhile; run the update again")

    def next_rows(self) -> dict[str, int]:
        """The first free number for each label whose nodes are numbered."""
        query = "MATCH (n:{label}) RETURN coalesce(max(n.row), -1) + 1 AS row"
        numbered = ("Name", "Exclusion", "Mapping", "Attribute")
        return {label: self.server.write(query.format(label=label))[0]["row"] for label in numbered}

    def clear(self) -> None:
        """Remove the earlier graph, in transactions of bounded size."""
        self.server.alone("MATCH (:Concept)-[r]->(:Concept) CALL { WITH r DELETE r } IN TRANSACTIONS OF 50000 ROWS")
        for label in _LABELS:
            self.server.alone(f"MATCH (n:{label}) CALL {{ WITH n DETACH DELETE n }} IN TRANSACTIONS OF 20000 ROWS")

    def load(self, folder: Path, done: int) -> None:
        """Write all batches after the first `done`, in an order that depends on the tables alone."""
        batches = ((number, *batch) for number, batch in enumerate(_batches(folder), start=1))
        with tqdm(desc="loading Neo4j", unit=" rows", unit_scale=True, disable=None) as bar:
            for number, query, rows in _ahead(batch for batch in batches if batch[0] > done):
                _write_batch(self.server, query, rows, number)
                bar.update(len(rows))

    def differences(self, manifest: Mapping[str, Any]) -> str:
        """Where the database does not hold what the manifest counts; empty if it does."""
        counts, count = manifest["counts"], self.server.write
        expected = {label: counts[name] for name, label in PLACES.items() if label in _LABELS}
        held = {label: count(f"MATCH (n:{label}) RETURN count(n) AS count")[0]["count"] for label in _LABELS}
        rows = count("MATCH (:Concept)-[r]->(:Concept) RETURN r.relation AS relation, count(*) AS count")
        held |= {f"relation {row['relation']}": row["count"] for row in rows}
        expected |= {f"relation {relation}": count for relation, count in counts["relations"].items()}
        names = sorted(held.keys() | expected.keys())
        return ", ".join(
            f"{name}: {held.get(name, 0)} of {expected.get(name, 0)}"
            for name in names
            if held.get(name, 0) != expected.get(name, 0)
        )


def _check_owner(loader: _Loader) -> None:
    """Refuse a database that is not empty and not ours."""
    if loader.meta() is None and loader.server.write("MATCH (n) RETURN count(n) AS count")[0]["count"]:
        raise MedgraftError(
            f"{loader.server.uri} holds data that medgraft has not written; give the graph a database of its own"
        )


def _change(server: Server, query: str, rows: list[Row]) -> None:
    server.write(query, rows=rows)


def _write_batch(server: Server, query: str, rows: list[Row], number: int) -> None:
    """Write the batch with this number, once: the same transaction says that it is there."""

    def work(run: Run) -> None:
        before = [row["before"] for row in run(_PROGRESS, number=number)]
        if before == [number]:  # the answer to its commit was lost
            return
        written = run(query, rows=rows)[0]["written"]
        if before != [number - 1] or written != len(rows):
            raise MedgraftError(
                f"{server.uri} took {written} of {len(rows)} rows of batch {number}; is something else writing to it?"
            )

    server.transaction(work)


def _batches(folder: Path) -> Iterator[tuple[str, pa.Table]]:
    """Queries with the rows for each, at most `_BATCH`: concepts by their labels, triples by their type."""
    for name, place in PLACES.items():
        for query, chosen in _queries(place, stored_rows(name, read_table(folder, name))):
            for start in range(0, chosen.num_rows, _BATCH):
                yield query, chosen.slice(start, _BATCH)


def _queries(place: str, rows: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    if place == "Concept":
        kinds = pc.binary_join(rows.column("types"), "\x1f")
        for kind in sorted(kinds.unique().to_pylist()):
            chosen = rows.filter(pc.equal(kinds, kind))
            labels = type_labels(chosen.column("types")[0].as_py())
            yield _NODES.format(labels=":".join(["Concept", *(f"`{label}`" for label in labels)])), chosen
    elif place == "Relation":
        for relation in sorted(rows.column("relation").unique().to_pylist()):
            query = _TRIPLES.format(type=relationship_type(relation))
            yield query, rows.filter(pc.equal(rows.column("relation"), relation))
    else:
        yield _NODES.format(labels=place), rows


def _ahead(batches: Iterable[tuple[int, str, pa.Table]]) -> Iterator[tuple[int, str, list[Row]]]:
    """The batches as rows, each made while the server is busy with the one before."""
    with ThreadPoolExecutor(1) as pool:
        waiting = None
        for number, query, table in batches:
            coming = number, query, pool.submit(table.to_pylist)
            if waiting is not None:
                yield (*waiting[:2], waiting[2].result())
            waiting = coming
        if waiting is not None:
            yield (*waiting[:2], waiting[2].result())
