"""The questions one asks a graph, the same on a file and on a Neo4j server.

All Cypher here is in the subset that both engines understand, and in the form
that is fast on both: by key, one step at a time (`UNWIND $ids .. MATCH .. OPTIONAL MATCH ..`; without OPTIONAL,
LadybugDB 0.22 scans every relationship for each batch). Walks of several steps are made in `kg.walks`.
"""

import difflib
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from kg.joining import SAME
from kg.layout import lower_case, table_of
from kg.results import Picture, RankedPath, Records, concept_records, triple_records
from kg.snapshot import HIERARCHY, SCHEMAS
from kg.walks import Neighbours, edges_between, reachable, shortest_path
from loaders.errors import MedgraftError
from loaders.identifiers import normal_id
from loaders.records import Concept, Triple
from loaders.tables import SCHEMAS as READ

if TYPE_CHECKING:
    from kg.networks import Network
    from kg.similarity import Hierarchy

Direction = Literal["both", "out", "in"]
Measure = Literal["lin", "resnik"]
T = TypeVar("T")

_BATCH = 1_000  # ids in one query
_SUGGESTIONS = 3
_NAMESAKES = 100  # concepts that are looked at for a name; those that are called exactly so come first
_USUAL_DIGITS = 7  # of the number in the ids of OBO ontologies
_EVIDENCE = READ["sources"].append(pa.field("evidence", pa.string()))
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
_ALONG = """
UNWIND $ids AS id MATCH (n:Concept {id: id}) OPTIONAL MATCH (n)-[r]-(m:Concept) WHERE r.relation IN $relations
RETURN id, collect(DISTINCT m.id) AS others"""
_DEGREES = """
UNWIND $ids AS id MATCH (n:Concept {id: id}) OPTIONAL MATCH (n)-[r]-(m:Concept)
RETURN id, count(m.id) AS degree"""
_FROM = """
UNWIND $ids AS id MATCH (n:Concept {id: id}) OPTIONAL MATCH (n)-[r]->(m:Concept)
RETURN id AS head, collect(m.id) AS tails, collect(r.relation) AS relations, collect(r.sources) AS sources"""
_STARTING = "MATCH (n:Concept) WHERE n.id STARTS WITH $prefix RETURN n.id AS id ORDER BY id LIMIT 1000"


class Store(Protocol):
    """What a store has to offer; `kg.store_embedded` and `kg.store_neo4j` do."""

    manifest: dict[str, Any]

    def run(self, cypher: str, **parameters: Any) -> list[dict[str, Any]]: ...

    def table(self, name: str) -> pa.Table: ...

    def batches(self, name: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]: ...

    def rows(self, name: str, column: str, values: Sequence[str]) -> pa.Table: ...

    def search(self, words: Sequence[str], text: str, k: int) -> list[str]: ...

    def close(self) -> None: ...


def connect(where: str | Path) -> "Graph":
    """Open a graph: a folder that `build` made, or a Neo4j server (`neo4j://host:7687`, `bolt://host:7687`).

    An ontology dump will do, too (a file, a folder or a zip archive of a format that `build` reads): its graph is built
    with the usual options at the first use and kept in the user's cache, see `kg.kept`.

    Credentials for Neo4j are read from NEO4J_USERNAME and NEO4J_PASSWORD.

    Raises:
        MedgraftError: if there is no graph, no server, or no access; or a dump is malformed.
    """
    if "://" in str(where):
        from kg.store_neo4j import Neo4jStore

        return Graph(Neo4jStore(str(where)))
    from kg.kept import graph_folder
    from kg.store_embedded import EmbeddedStore

    return Graph(EmbeddedStore(graph_folder(Path(where))))


class Graph:
    """A graph of medical concepts. Close it, or use it in a `with` block.

    Wherever an id is asked for, these will do, in this order: the id of a concept; a retired id, for its successor; an
    id or code of another vocabulary that is mapped to one concept; a name or alias, in any case, of one concept.
    Anything else raises MedgraftError, and so does what stands for several concepts.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._hierarchy: Hierarchy | None = None

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
        return self._concepts(self._store.search(words, " ".join(words), k))

    def relations(self, id: str, relation: str | None = None, direction: Direction = "both") -> Records[Triple]:
        """The triples with this concept as head (`out`), as tail (`in`), or either, sorted by relation, head, tail.

        The name of an inverse relation will do as well: the heads of `may_be_treated_by` are the tails of `may_treat`.
        """
        if direction not in ("both", "out", "in"):
            raise MedgraftError(f"direction {direction!r} is not one of both, out, in")
        relation, turned = self._relation(relation)
        if turned and direction != "both":
            direction = "in" if direction == "out" else "out"
        # Most ids are those of concepts with triples: what the id means is asked only where nothing is found.
        rows = self._touching(id, direction) or self._touching(self._resolve(id), direction)
        return _triples(row for row in rows if relation in (None, row["relation"]))

    def evidence(self, head: str, relation: str, tail: str) -> pa.Table:
        """Where a fact comes from: a row for each source, with what is known of it, and one for each evidence.

        Columns source, release, restriction, licence, and evidence, a JSON object as text; null where a row has none.

        Raises:
            MedgraftError: the graph does not state the fact; the message says so if a source denies it.
        """
        name, turned = self._relation(relation)
        a, b = self._resolve(head), self._resolve(tail)
        if turned:
            a, b = b, a
        symmetric = self.inverses.get(str(name)) == name
        for triple in self.relations(a, name, "both" if symmetric else "out"):
            if {triple.head, triple.tail} == {a, b}:
                known = self.manifest["sources"]
                rows: list[dict[str, Any]] = [{"source": one, **known.get(one, {})} for one in triple.sources]
                return pa.Table.from_pylist(rows + [{"evidence": text} for text in triple.evidence], schema=_EVIDENCE)
        if any((t.head, t.relation, t.tail) == (a, name, b) for t in self.exclusions(a)):
            raise MedgraftError(f"{a} {name} {b} is no fact: a source states that it does not hold")
        raise MedgraftError(f"{a} {name} {b} is no fact of this graph; see relations({a!r})")

    @property
    def inverses(self) -> dict[str, str]:
        """The inverse of each relation that has one; a symmetric relation is its own."""
        return dict(self.manifest["inverses"])

    def names(self, id: str) -> pa.Table:
        """All names of a concept, suppressed ones too: concept_id, name, kind, language, source, suppressed."""
        return self._store.rows("names", "concept_id", [self._resolve(id)])

    def mappings(self, id: str) -> pa.Table:
        """What a concept is called elsewhere: concept_id, predicate, object, sources, evidence."""
        return self._store.rows("mappings", "concept_id", [self._resolve(id)])

    def attributes(self, id: str) -> pa.Table:
        """What else the sources say of a concept: concept_id, attribute, value, sources."""
        return self._store.rows("attributes", "concept_id", [self._resolve(id)])

    def similarity(self, a: str, b: str, measure: Measure = "lin") -> float:
        """How much two concepts have in common in the hierarchy, from 0 to 1; see `kg.similarity`.

        Args:
            a: a concept.
            b: another one.
            measure: `lin`, or `resnik`, the information content of what both have in common.
        """
        return self._similarity(a, b, measure)[0]

    def most_informative_ancestor(self, a: str, b: str) -> Concept | None:
        """The common ancestor, or one of the two themselves, with the greatest information content."""
        id = self._similarity(a, b, "resnik")[1]
        return None if id is None else self.concept(id)

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
        return self._triples_along(ids, None)

    def subgraph(self, ids: Iterable[str], hops: int = 1) -> "Network":
        """The concepts within so many steps of the given ones, and all triples among them, as a networkx graph.

        Nodes have `name` and `types`, edges are keyed by their relation and have `relation` and `sources`.
        """
        from kg.networks import network

        near = list(reachable({self._resolve(id) for id in ids}, self._around, max_steps=hops))
        return network(self._concepts(near), self._leaving(near))

    def to_networkx(self) -> "Network":
        """All of the graph as a networkx graph, like `subgraph`; takes about 2 kB of memory a triple."""
        from kg.networks import network

        return network(self.concepts(), self.triples())

    def picture(self, ids: str | Iterable[str], hops: int = 1, limit: int = 40) -> Picture:
        """The neighbourhood of some concepts as a picture (SVG), which a notebook shows.

        Args:
            ids: one concept or several, which are drawn larger.
            hops: how far the neighbourhood goes.
            limit: concepts drawn at most: the nearest, among these parents and children, then by id; the picture says
                how many are left out.
        """
        from kg.networks import network, picture

        centre = sorted({self._resolve(id) for id in ([ids] if isinstance(ids, str) else ids)})
        steps = reachable(centre, self._around, max_steps=hops)
        kin = {other for walk in (self._up, self._down) for others in walk(centre).values() for other in others}
        near = sorted(steps, key=lambda id: (steps[id], id not in kin, id))
        shown = near[: max(limit, len(centre))]
        part = network(self._concepts(shown), self._leaving(shown))
        return Picture(picture(part, centre), len(near) - len(shown))

    def paths(
        self,
        a: str,
        b: str,
        *,
        max_length: int = 4,
        k: int = 5,
        relations: Collection[str] | None = None,
    ) -> list[RankedPath]:
        """The most informative paths from a to b, their direction ignored: what leads over hubs comes last.

        Args:
            a: a concept.
            b: another one.
            max_length: triples in a path at most.
            k: paths at most.
            relations: only over these relations, or their inverses; None for all.

        Returns:
            Paths, best first; see `kg.networks.informative_paths` for the score. Where two concepts have several
            triples, the first by relation, head, tail.
        """
        from kg.networks import informative_paths

        names = None if relations is None else sorted({str(self._relation(name)[0]) for name in relations})
        start, goal = self._resolve(a), self._resolve(b)
        if start == goal:
            return []
        edges = edges_between(start, goal, lambda ids: self._along(ids, names), max_length)
        ids = sorted({end for edge in edges for end in edge})
        degrees = {row["id"]: row["degree"] for row in self._batched(_DEGREES, ids)}
        best = informative_paths(edges, degrees, start, goal, max_length, k)
        return [RankedPath(self._triples_along(path, names), score) for path, score in best]

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

    def batches(self, name: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Some columns of a table of the snapshot, batch after batch, for what would not fit into memory at once.

        A folder gives the rows in their order; a server gives them as they come.
        """
        if name not in SCHEMAS or not set(columns) <= set(SCHEMAS[name].names):
            raise MedgraftError(f"no columns {', '.join(columns)} in a table {name!r}")
        return self._store.batches(name, columns)

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

    def _relation(self, relation: str | None) -> tuple[str | None, bool]:
        """The relation as the graph has it, and whether its ends change places because its inverse was named."""
        known = self.manifest["counts"]["relations"]
        if relation is None or relation in known:
            return relation, False
        kept = {inverse: name for name, inverse in self.inverses.items()}.get(relation)
        if kept in known:
            return kept, True
        raise MedgraftError(f"no relation {relation!r} in this graph; it has {', '.join(sorted(known)) or 'none'}")

    def _similarity(self, a: str, b: str, measure: str) -> tuple[float, str | None]:
        if measure not in ("lin", "resnik"):
            raise MedgraftError(f"no measure {measure!r}; choose lin or resnik")
        if self._hierarchy is None:
            from kg.similarity import hierarchy

            triples = self.table("triples")
            upward = pc.is_in(triples.column("relation"), pa.array(HIERARCHY))
            self._hierarchy = hierarchy(triples.filter(upward))
        return self._hierarchy.similarity(self._resolve(a), self._resolve(b), measure)

    def _resolve(self, id: str) -> str:
        """The id of the one concept in the graph that this id or name stands for."""
        if self._store.run("MATCH (n:Concept {id: $id}) RETURN n.id AS id", id=id):
            return id
        for row in self._store.run(_RETIRED, ids=[id]):
            if row["successor"] is not None:
                return str(row["successor"])
            raise MedgraftError(f"{id} is retired without successor ({row['reason']})")
        for found, what in ((self._mapped(id), "is mapped to"), (self._called(id), "is a name of")):
            if len(found) == 1:
                return found[0]
            if found:
                raise MedgraftError(f"{id!r} {what} several concepts: {', '.join(found[:10])}; give the id of one")
        close = self._suggestions(id)
        hint = f"did you mean {' or '.join(close)}?" if close else f"look for names with search({id!r})"
        raise MedgraftError(f"no concept {id!r} in this graph; {hint}")

    def _mapped(self, id: str) -> list[str]:
        """The concepts that another vocabulary knows by this id."""
        rows = self._store.rows("mappings", "object", sorted({id, normal_id(id)}))
        same = rows.filter(pc.is_in(rows.column("predicate"), pa.array(SAME)))
        return sorted(set(same.column("concept_id").to_pylist()))

    def _called(self, name: str) -> list[str]:
        """The concepts with exactly this name, in any case."""
        text = " ".join(lower_case([name])[0].split())
        if not text:
            return []
        rows = self._store.rows("names", "concept_id", self._store.search(text.split(), text, _NAMESAKES))
        exact = (lower_case(rows.column("name")) == text) & ~pl.Series(rows.column("suppressed"))
        return sorted(set(rows.filter(exact.to_arrow()).column("concept_id").to_pylist()))

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
        return concept_records(table_of((rows[id] for id in ids), SCHEMAS["concepts"]))

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

    def _touching(self, id: str, direction: Direction) -> list[dict[str, Any]]:
        """The triples of the concept with exactly this id."""
        rows = [] if direction == "in" else self._store.run(_OUT, id=id)
        return rows if direction == "out" else rows + self._store.run(_IN, id=id)

    def _along(self, ids: Collection[str], relations: list[str] | None) -> dict[str, list[str]]:
        """Neighbours over the relations, in either direction."""
        if relations is None:
            return self._around(ids)
        return self._neighbours(_ALONG, ids, relations=relations)

    def _leaving(self, ids: Collection[str]) -> Iterator[Triple]:
        """The triples that lead from these concepts to anywhere."""
        for row in self._batched(_FROM, sorted(ids)):
            for tail, relation, sources in zip(row["tails"], row["relations"], row["sources"], strict=True):
                yield Triple(row["head"], relation, tail, tuple(sources))

    def _triples_along(self, ids: Sequence[str], relations: list[str] | None) -> Records[Triple]:
        """The first triple between each concept and the next."""
        steps = zip(ids, ids[1:], strict=False)
        return _triples((self._between(one, other, relations) for one, other in steps), sort=False)

    def _between(self, one: str, other: str, relations: list[str] | None) -> dict[str, Any]:
        """The first triple between two neighbours."""
        rows = [row for row in self._store.run(_OUT, id=one) if row["tail"] == other]
        rows += [row for row in self._store.run(_OUT, id=other) if row["tail"] == one]
        return min((row for row in rows if relations is None or row["relation"] in relations), key=_order)


def _triples(rows: Iterable[dict[str, Any]], sort: bool = True) -> Records[Triple]:
    ordered = sorted(rows, key=_order) if sort else list(rows)
    return triple_records(table_of(ordered, _FACTS))


def _order(row: dict[str, Any]) -> tuple[str, str, str]:
    return row["relation"], row["head"], row["tail"]
