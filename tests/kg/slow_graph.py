"""A slow and obvious graph in memory that judges the stores, and small graphs to try them on."""

import math
import tempfile
from collections import Counter, deque
from pathlib import Path

import pytest

from kg.building import describe
from kg.graph import Graph
from kg.merging import merge
from kg.snapshot import HIERARCHY, SCHEMAS, read_table, write_manifest, write_table
from loaders.tables import Rows

FACT = ("head", "relation", "tail")


def tables_of(concepts, triples=(), exclusions=(), retired=(), names=(), mappings=(), inverses=()):
    """Tables and manifest of a small graph. `concepts` are ids, or (id, name, types); `names` are (id, name, kind)."""
    rows = Rows()
    for concept in concepts:
        id, name, types = (concept, f"Name of {concept}", ["Thing"]) if isinstance(concept, str) else concept
        rows.add("concepts", id, name, types, None, "test")
        rows.add("names", id, name, "preferred", "en", "test", False)
    for id, name, kind in names:
        rows.add("names", id, name, kind.removeprefix("suppressed "), "en", "test", kind.startswith("suppressed"))
    for fact in triples:
        rows.add("triples", *fact[:3], "test", fact[3] if len(fact) > 3 else "")
    for fact in exclusions:
        rows.add("exclusions", *fact, "test", "")
    for row in retired:
        rows.add("retired", *row)
    for mapping in mappings:
        rows.add("mappings", *mapping, "test", "")
    for pair in inverses:
        rows.add("inverses", *pair)
    tables, content = merged(rows.rest())
    return tables, describe(content, [])


def merged(batches, mappings="keep"):
    """The tables that merging writes, and its account."""
    with tempfile.TemporaryDirectory() as folder:
        content = merge(batches, Path(folder), mappings)
        return {name: read_table(Path(folder), name) for name in SCHEMAS}, content


def write_snapshot_folder(folder: Path, tables, manifest) -> Path:
    """A folder with the snapshot alone, as `load_database` reads it."""
    folder.mkdir(parents=True)
    for name, table in tables.items():
        write_table(folder, name, table)
    write_manifest(folder, manifest)
    return folder


def write_folder(folder: Path, tables, manifest) -> Path:
    """A graph folder, with the embedded database."""
    from kg.store_embedded import write_database

    write_snapshot_folder(folder, tables, manifest)
    write_database(folder, manifest)
    return folder


class SlowGraph:
    def __init__(self, tables) -> None:
        self.concepts = {row["id"]: row for row in tables["concepts"].to_pylist()}
        self.names = tables["names"].to_pylist()
        self.triples = tables["triples"].to_pylist()
        self.excluded = tables["exclusions"].to_pylist()
        self.successors = {row["id"]: row["successor"] for row in tables["retired"].to_pylist()}

    def resolve(self, id):
        return self.successors.get(id, id)

    def search(self, text, k=10):
        words = text.lower().split()
        text = " ".join(words)
        best = {}
        for row in self.names:
            name = row["name"].lower()
            if row["suppressed"] or not words or not all(word in name for word in words):
                continue
            preferred = row["kind"] == "preferred"
            rank = (
                0
                if name == text and preferred
                else 1
                if name == text
                else 2
                if preferred and name.startswith(text)
                else 3
            )
            old = best.get(row["concept_id"], (9, 10**9))
            best[row["concept_id"]] = (min(rank, old[0]), min(len(name), old[1]))
        return sorted(best, key=lambda id: (*best[id], id))[:k]

    def relations(self, id, relation=None, direction="both"):
        id = self.resolve(id)
        facts = [tuple(row[part] for part in FACT) for row in self.triples]
        found = [
            fact
            for fact in facts
            if ((fact[0] == id and direction != "in") or (fact[2] == id and direction != "out"))
            and relation in (None, fact[1])
        ]
        return sorted(found, key=lambda fact: (fact[1], fact[0], fact[2]))

    def exclusions(self, id):
        found = [tuple(row[part] for part in FACT) for row in self.excluded if id in (row["head"], row["tail"])]
        return sorted(found, key=lambda fact: (fact[1], fact[0], fact[2]))

    def distances(self, start, step, limit=10**9):
        distance, queue = {start: 0}, deque([start])
        while queue:
            id = queue.popleft()
            for row in self.triples:
                for one, other, hierarchy in ((row["head"], row["tail"], "up"), (row["tail"], row["head"], "down")):
                    allowed = step == "around" or (step == hierarchy and row["relation"] in HIERARCHY)
                    if allowed and one == id and other not in distance and distance[id] < limit:
                        distance[other] = distance[id] + 1
                        queue.append(other)
        return distance

    def walk(self, id, step, limit=10**9):
        distance = self.distances(self.resolve(id), step, limit)
        return sorted(distance.keys() - {self.resolve(id)}, key=lambda id: (distance[id], id))

    def common(self, a, b):
        above_a, above_b = self.distances(self.resolve(a), "up"), self.distances(self.resolve(b), "up")
        return sorted(above_a.keys() & above_b.keys(), key=lambda id: (above_a[id] + above_b[id], id))

    def path(self, a, b, max_length=6):
        to_goal = self.distances(b, "around")
        if to_goal.get(a, max_length + 1) > max_length:
            return None
        steps = []
        while a != b:
            edges = self.relations(a)
            other = min(t if h == a else h for h, _, t in edges if to_goal[t if h == a else h] == to_goal[a] - 1)
            steps.append(
                min((edge for edge in edges if {edge[0], edge[2]} == {a, other}), key=lambda e: (e[1], e[0], e[2]))
            )
            a = other
        return steps

    def paths(self, a, b, max_length, relations=None):
        """All simple paths, best first, as (ids, score)."""
        around = {}
        degree = Counter()
        for row in self.triples:
            degree.update((row["head"], row["tail"]))
            if relations is None or row["relation"] in relations:
                around.setdefault(row["head"], set()).add(row["tail"])
                around.setdefault(row["tail"], set()).add(row["head"])
        found, waiting = [], [[a]]
        while waiting:
            path = waiting.pop()
            if path[-1] == b:
                found.append((path, math.prod(degree[id] ** -0.4 for id in path[1:-1])))
            elif len(path) <= max_length:
                waiting += [[*path, other] for other in around.get(path[-1], ()) if other not in path]
        return sorted(found, key=lambda item: (round(-math.log(item[1]), 9), len(item[0]), item[0]))

    def subgraph(self, ids, hops):
        near = {other for id in ids for other in self.distances(self.resolve(id), "around", hops)}
        facts = [tuple(row[part] for part in FACT) for row in self.triples]
        return near, sorted(fact for fact in facts if fact[0] in near and fact[2] in near)


def check_everything(graph: Graph, slow: SlowGraph, ids, texts=()) -> None:
    """Every call of the API on every id (and neighbouring pair), against the slow graph."""
    for id in ids:
        assert graph.concept(id).id == slow.resolve(id)
        assert graph.concept(id).name == slow.concepts[slow.resolve(id)]["name"]
        for direction in ("both", "in", "out"):
            assert [tuple(t) for t in graph.relations(id, direction=direction)] == slow.relations(id, None, direction)
        for relation in graph.stats()["relations"]:
            assert [tuple(t) for t in graph.relations(id, relation)] == slow.relations(id, relation)
        assert [tuple(t) for t in graph.exclusions(id)] == slow.exclusions(slow.resolve(id))
        assert graph.parents(id).ids == slow.walk(id, "up", 1)
        assert graph.children(id).ids == slow.walk(id, "down", 1)
        assert graph.ancestors(id).ids == slow.walk(id, "up")
        assert graph.descendants(id).ids == slow.walk(id, "down")
        sub = graph.subgraph([id], hops=1)
        assert (set(sub), sorted((h, r, t) for h, t, r in sub.edges(keys=True))) == slow.subgraph([id], 1)
    for a, b in zip(ids, [*ids[1:], ids[0]], strict=True):
        assert graph.common_ancestors(a, b).ids == slow.common(a, b)
        for length in (1, 3, 50):
            found = graph.path(a, b, max_length=length)
            expected = slow.path(slow.resolve(a), slow.resolve(b), length)
            assert (None if found is None else [tuple(t) for t in found]) == expected
        check_paths(graph, slow, slow.resolve(a), slow.resolve(b))
    for text in texts:
        for k in (1, 3, 100):
            assert graph.search(text, k).ids == slow.search(text, k)
    assert graph.concepts().ids == sorted(slow.concepts)
    assert [tuple(t) for t in graph.triples()] == [tuple(row[part] for part in FACT) for row in slow.triples]


def check_paths(graph: Graph, slow: SlowGraph, a, b) -> None:
    for k, length, relations in ((1, 1, None), (3, 3, None), (2, 4, sorted(graph.stats()["relations"])[:1])):
        if a == b or relations == [] or len(slow.triples) > 100:
            continue
        expected = slow.paths(a, b, length, relations)[:k]
        found = graph.paths(a, b, max_length=length, k=k, relations=relations)
        assert [_ids(path.triples, a) for path in found] == [ids for ids, _ in expected]
        assert [path.score for path in found] == pytest.approx([score for _, score in expected])


def _ids(triples, start):
    ids = [start]
    for head, _, tail in triples:
        ids.append(tail if head == ids[-1] else head)
    return ids
