"""The questions one asks a graph, the same on a file and on a Neo4j server.

The only module that imports networkx. All Cypher here is in the subset that both engines understand, and in the form
that is fast on both: by key, one step at a time (`UNWIND $ids .. MATCH .. OPTIONAL MATCH ..`; without OPTIONAL,
LadybugDB 0.22 scans every relationship for each batch). Walks of several steps are made in `kg.walks`.
"""

import difflib
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, TypeVar

import networkx as nx
import pyarrow as pa

from kg.layout import lower_case
from kg.results import Records, concept_records, triple_records
from kg.snapshot import HIERARCHY, SCHEMAS
from kg.walks import Neighbours, reachable, shortest_path
from loaders.errors import MedgraftError
from loaders.records import Concept, Triple

Direction = Literal["both", "out", "in"]
T = TypeVar("T")

_BATCH = 1_000  # ids in one query
_SUGGESTIONS = 3
_USUAL_DIGITS = 7  # of the number in the ids of OBO ontologies
_FACTS = SCHEMAS["triples"].append(pa.field("head_name", pa.string())).append(pa.field("tail_name", pa.string()))

_CONCEPTS = """
UNWIND $ids AS id MATCH (n:Concept {id: id})
RETURN n.id AS id, n.name AS name, n.aliases AS aliases, n.types AS types, n.definition AS definition,
       n.sources AS sources"""
_RETIRED = "UNWIND $ids AS id MATCH (n:Retired {id: id}) RETURN n.successor AS successor, n.reason AS reason"
_OUT = """
MATCH (n:Concept {id: $id})-[r]->(m:Concept)
RETURN n.id AS head, r.relation AS relation, m.id AS tail, r.sources AS sources, r.evidence AS evidence,
       n.name AS head_name, m.name AS tail_name"""
_IN = """
MATCH (n:Concept {id: $id})<-[r]-(m:Concept)
RETURN m.id AS head, r.relation AS relation, n.id AS tail, r.sources AS sources, r.evidence AS evidence,
       m.name AS head_name, n.name AS tail_name"""
_EXCLUSIONS = """
MATCH (n:Exclusion) WHERE n.head = $id OR n.tail = $id
RETURN n.head AS head, n.relation AS relation, n.tail AS tail, n.sources AS sources, n.evidence AS evidence"""
_AROUND = """
UNWIND $ids AS id MATCH (n:Concept {id: id}) OPTIONAL MATCH (n)-[r]-(m:Concept)
RETURN id, collect(DISTINCT m.id) AS others"""
_UP = """
UNWIND $ids AS id MATCH (n:Concept {id: id}) OPTIONAL MATCH (n)-[r]->(m:Concept) WHERE r.relation IN $relations
RETURN id, collect(DISTINCT m.id) AS others"""
_DOWN = """
UNWIND $ids AS id MATCH (n:Concept {id: id}) OPTIONAL MATCH (n)<-[r]-(m:Concept) WHERE r.relation IN $relations
RETURN id, collect(DISTINCT m.id) AS others"""
_FROM = """
UNWIND $ids AS id MATCH (n:Concept {id: id}) OPTIONAL MATCH (n)-[r]->(m:Concept)
RETURN id AS head, collect(m.id) AS tails, collect(r.relation) AS relations, collect(r.sources) AS sources"""
_STARTING = "MATCH (n:Concept) WHERE n.id STARTS WITH $prefix RETURN n.id AS id ORDER BY id LIMIT 1000"
# Each word is a parameter of its own, so that Neo4j can use its text index; only their number enters the query.
_SEARCH = """
MATCH (m:Name) WHERE {words} AND m.suppressed = false
WITH m.concept_id AS id, min(m.length) AS length,
     min(CASE WHEN m.lower = $text AND m.kind = 'preferred' THEN 0 WHEN m.lower = $text THEN 1
              WHEN m.lower STARTS WITH $text AND m.kind = 'preferred' THEN 2 ELSE 3 END) AS rank
RETURN id ORDER BY rank, length, id LIMIT $k"""


class Store(Protocol):
    """What a store has to offer; `kg.store_embedded` and `kg.store_neo4j` do."""

    manifest: dict[str, Any]

    def run(self, cypher: str, **parameters: Any) -> list[dict[str, Any]]: ...

    def table(self, name: str) -> pa.Table: ...

    def close(self) -> None: ...


def connect(where: str | Path) -> "Graph":
    """Open a graph: a folder that `build` made, or a Neo4j server (`neo4j://host:7687`, `bolt://host:7687`).

    Credentials for Neo4j are read from NEO4J_USERNAME and NEO4J_PASSWORD.

    Raises:
        MedgraftError: if there is no graph, no server, or no access.
    """
    if "://" in str(where):
        from kg.store_neo4j import Neo4jStore

        return Graph(Neo4jStore(str(where)))
    from kg.store_embedded import EmbeddedStore

    return Graph(EmbeddedStore(Path(where)))


class Graph:
    """A graph of medical concepts. Close it, or use it in a `with` block.

    Wherever an id is asked for, a retired one stands for its successor; an unknown one raises MedgraftError.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def manifest(self) -> dict[str, Any]:
        """Inputs with their hashes and accounts, counts, versions: `manifest.json` of the snapshot."""
        return self._store.manifest

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the content; what is made from the graph carries it."""
        return str(self.manifest["fingerprint"])

    def concept(self, id: str) -> Concept:
        """One concept, by its id.

        Raises:
            MedgraftError: if there is none; the message suggests ids.
        """
        return self._concepts([self._resolve(id)])[0]

    def search(self, text: str, k: int = 10) -> Records[Concept]:
        """The concepts that have a name with every word of the text in it, as parts of words too, in any case.

        In order: those called exactly so, those with an alias exactly so, those whose name starts so, the rest; among
        equals the one with the shorter matching name, then the smaller id. Suppressed names are not searched.
        """
        words = lower_case([text])[0].split()
        if not words or k < 1:
            return self._concepts([])
        condition = " AND ".join(f"m.lower CONTAINS $word{i}" for i in range(len(words)))
        parameters = {f"word{i}": word for i, word in enumerate(words)}
        rows = self._store.run(_SEARCH.format(words=condition), text=" ".join(words), k=k, **parameters)
        return self._concepts([row["id"] for row in rows])

    def relations(self, id: str, relation: str | None = None, direction: Direction = "both") -> Records[Triple]:
        """The triples with this concept as head (`out`), as tail (`in`), or either, sorted by relation, head, tail."""
        if direction not in ("both", "out", "in"):
            raise MedgraftError(f"direction {direction!r} is not one of both, out, in")
        known = self.manifest["counts"]["relations"]
        if relation is not None and relation not in known:
            raise MedgraftError(f"no relation {relation!r} in this graph; it has {', '.join(sorted(known)) or 'none'}")
        id = self._resolve(id)
        rows = []
        if direction != "in":
            rows += self._store.run(_OUT, id=id)
        if direction != "out":
            rows += self._store.run(_IN, id=id)
        return _triples(row for row in rows if relation in (None, row["relation"]))

    def exclusions(self, id: str) -> Records[Triple]:
        """The facts about this concept that a source states NOT to hold, such as a sign that a disease lacks."""
        rows = self._store.run(_EXCLUSIONS, id=self._resolve(id))
        names = {
            concept.id: concept.name
            for concept in self._concepts({row[end] for row in rows for end in ("head", "tail")})
        }
        return _triples({**row, "head_name": names[row["head"]], "tail_name": names[row["tail"]]} for row in rows)

    def parents(self, id: str) -> Records[Concept]:
        """The concepts one step up the hierarchy, sorted by id."""
        return self._walk(id, self._up, max_steps=1)

    def children(self, id: str) -> Records[Concept]:
        """The concepts one step down the hierarchy, sorted by id."""
        return self._walk(id, self._down, max_steps=1)

    def ancestors(self, id: str) -> Records[Concept]:
        """All concepts above this one in the hierarchy, without itself: nearest first, then by id."""
        return self._walk(id, self._up)

    def descendants(self, id: str) -> Records[Concept]:
        """All concepts below this one in the hierarchy, without itself: nearest first, then by id."""
        return self._walk(id, self._down)

    def common_ancestors(self, a: str, b: str) -> Records[Concept]:
        """The concepts that both are, or are below of: the sum of the two distances smallest first, then by id."""
        above_a, above_b = (reachable([self._resolve(id)], self._up) for id in (a, b))
        shared = above_a.keys() & above_b.keys()
        return self._concepts(sorted(shared, key=lambda id: (above_a[id] + above_b[id], id)))

    def path(self, a: str, b: str, max_length: int = 6) -> Records[Triple] | None:
        """The triples along a shortest path from a to b, their direction ignored; None if it has over `max_length`.

        Of several shortest paths the one whose ids, read from a, come first in the alphabet; where two concepts have
        several triples, the first by relation, head, tail. From a concept to itself the path is empty.
        """
        ids = shortest_path(self._resolve(a), self._resolve(b), self._around, max_length)
        if ids is None:
            return None
        return _triples((self._between(one, next_) for one, next_ in zip(ids, ids[1:], strict=False)), sort=False)

    def subgraph(self, ids: Iterable[str], hops: int = 1) -> "nx.MultiDiGraph":
        """The concepts within so many steps of the given ones, and all triples among them, as a networkx graph.

        Nodes have `name` and `types`, edges are keyed by their relation and have `relation` and `sources`.
        """
        near = list(reachable({self._resolve(id) for id in ids}, self._around, max_steps=hops))
        inside = set(near)
        result: nx.MultiDiGraph = nx.MultiDiGraph()
        for concept in self._concepts(near):
            result.add_node(concept.id, name=concept.name, types=concept.types)
        for row in self._batched(_FROM, sorted(near)):
            for tail, relation, sources in zip(row["tails"], row["relations"], row["sources"], strict=True):
                if tail in inside:
                    result.add_edge(row["head"], tail, key=relation, relation=relation, sources=tuple(sources))
        return result

    def cypher(self, query: str, **parameters: Any) -> list[dict[str, Any]]:
        """Run a query of your own, for reading; values go in as parameters.

        The graph is `(:Concept {id, name, aliases, types, definition, sources})-[r {relation, sources, evidence}]->
        (:Concept)`. To run on both stores alike, return scalars with aliases and ask for the relation by its property.
        """
        return self._store.run(query, **parameters)

    def stats(self) -> dict[str, Any]:
        """Counts of all tables, and of concepts by type and triples by relation."""
        return dict(self.manifest["counts"])

    def concepts(self) -> Records[Concept]:
        """All concepts, sorted by id."""
        return concept_records(self.table("concepts"))

    def triples(self) -> Records[Triple]:
        """All triples, sorted by head, relation, tail."""
        return triple_records(self.table("triples"))

    def table(self, name: str) -> pa.Table:
        """One table of the snapshot: concepts, names, triples, exclusions or retired."""
        if name not in SCHEMAS:
            raise MedgraftError(f"no table {name!r}; there are {', '.join(SCHEMAS)}")
        return self._store.table(name)

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    def __enter__(self) -> "Graph":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        counts = self.manifest["counts"]
        return f"<Graph {counts['concepts']:,} concepts, {counts['triples']:,} triples, {self.fingerprint[:12]}>"

    def _resolve(self, id: str) -> str:
        """The id, or its successor, of a concept that is in the graph."""
        if self._store.run("MATCH (n:Concept {id: $id}) RETURN n.id AS id", id=id):
            return id
        for row in self._store.run(_RETIRED, ids=[id]):
            if row["successor"] is not None:
                return str(row["successor"])
            raise MedgraftError(f"{id} is retired without successor ({row['reason']})")
        close = self._suggestions(id)
        hint = f"did you mean {' or '.join(close)}?" if close else f"look for names with search({id!r})"
        raise MedgraftError(f"no concept {id!r} in this graph; {hint}")

    def _suggestions(self, id: str) -> list[str]:
        prefix, _, local = id.upper().replace("_", ":").partition(":")
        spellings = [id, f"{prefix}:{local}", f"{prefix}:{local.zfill(_USUAL_DIGITS)}"]
        known = {row["id"] for row in self._batched(_CONCEPTS, spellings)}
        if known:
            return sorted(known)
        for length in range(len(id), 1, -1):
            rows = self._store.run(_STARTING, prefix=id[:length])
            if rows:
                return difflib.get_close_matches(id, [row["id"] for row in rows], n=_SUGGESTIONS, cutoff=0.5)
        return [f"{found.id} ({found.name})" for found in self.search(id, k=_SUGGESTIONS)]

    def _concepts(self, ids: Collection[str]) -> Records[Concept]:
        """The concepts with these ids, in this order."""
        rows = {row["id"]: row for row in self._batched(_CONCEPTS, list(ids))}
        return concept_records(pa.Table.from_pylist([rows[id] for id in ids], schema=SCHEMAS["concepts"]))

    def _walk(self, id: str, neighbours: Neighbours, max_steps: int | None = None) -> Records[Concept]:
        start = self._resolve(id)
        return self._concepts([found for found in reachable([start], neighbours, max_steps) if found != start])

    def _up(self, ids: Collection[str]) -> dict[str, list[str]]:
        return self._neighbours(_UP, ids, relations=list(HIERARCHY))

    def _down(self, ids: Collection[str]) -> dict[str, list[str]]:
        return self._neighbours(_DOWN, ids, relations=list(HIERARCHY))

    def _around(self, ids: Collection[str]) -> dict[str, list[str]]:
        return self._neighbours(_AROUND, ids)

    def _neighbours(self, query: str, ids: Collection[str], **parameters: Any) -> dict[str, list[str]]:
        return {row["id"]: row["others"] for row in self._batched(query, list(ids), **parameters)}

    def _batched(self, query: str, ids: Sequence[str], **parameters: Any) -> Iterator[dict[str, Any]]:
        for start in range(0, len(ids), _BATCH):
            yield from self._store.run(query, ids=ids[start : start + _BATCH], **parameters)

    def _between(self, one: str, other: str) -> dict[str, Any]:
        """The first triple between two neighbours."""
        rows = [row for row in self._store.run(_OUT, id=one) if row["tail"] == other]
        rows += [row for row in self._store.run(_OUT, id=other) if row["tail"] == one]
        return min(rows, key=_order)


def _triples(rows: Iterable[dict[str, Any]], sort: bool = True) -> Records[Triple]:
    ordered = sorted(rows, key=_order) if sort else list(rows)
    return triple_records(pa.Table.from_pylist(ordered, schema=_FACTS))


def _order(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["relation"], row["head"], row["tail"]
