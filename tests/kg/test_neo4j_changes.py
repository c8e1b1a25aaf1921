"""Updates of a Neo4j database: only what changes is written, and the result is as if loaded anew."""

import contextlib
import os
from pathlib import Path

import neo4j
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import kg
from kg import neo4j_load
from kg.neo4j_load import load_database
from kg.snapshot import SCHEMAS, fingerprint
from loaders import MedgraftError
from tests.kg.slow_graph import tables_of, write_snapshot_folder

pytestmark = pytest.mark.neo4j

OLD = tables_of(
    [("A:1", "one", ["T", "U"]), ("A:2", "two", ["T"]), "A:3", "A:4"],
    [("A:1", "is_a", "A:2"), ("A:2", "treats", "A:3", '{"note": 1}'), ("A:3", "is_a", "A:4")],
    [("A:1", "treats", "A:4")],
    [("A:9", "A:1", "merged")],
    [("A:1", "uno", "exact"), ("A:4", "quattro", "exact")],
    [("A:1", "xref", "B:1"), ("A:2", "xref", "B:2")],
)
NEW = tables_of(
    [("A:1", "the one", ["U", "V"]), ("A:2", "two", ["T"]), "A:3", "A:5"],
    [("A:1", "is_a", "A:2"), ("A:2", "treats", "A:3", '{"note": 2}'), ("A:5", "is_a", "A:3"), ("A:2", "is_a", "A:5")],
    [("A:1", "treats", "A:5")],
    [("A:8", "A:5", "merged"), ("A:9", "A:1", "merged")],
    [("A:1", "uno", "exact"), ("A:5", "cinque", "exact")],
    [("A:1", "xref", "B:1"), ("A:2", "xref", "B:3")],
)


@pytest.fixture
def server(neo4j_server):
    _cypher(neo4j_server, "MATCH (n) DETACH DELETE n")
    return neo4j_server


def _cypher(server, query):
    with neo4j.GraphDatabase.driver(server.uri, auth=(server.username, server.password)) as driver:
        return [record.data() for record in driver.execute_query(query)[0]]


def _folder(path: Path, graph):
    return write_snapshot_folder(path, *graph)


def _content(server):
    with kg.connect(server.uri) as graph:
        content = fingerprint({name: graph.table(name) for name in SCHEMAS})
        assert content == graph.fingerprint
        return content


def test_what_stays_is_not_touched(server, tmp_path):
    load_database(server.uri, _folder(tmp_path / "old", OLD), OLD[1])
    kept = "MATCH (n:Concept {id: 'A:2'}) RETURN elementId(n) AS id"
    before = _cypher(server, kept)
    _cypher(server, "MATCH (c:Concept {id: 'A:2'}) CREATE (:Patient)-[:HAS]->(c)")
    report = kg.update(server.uri, _folder(tmp_path / "new", NEW))
    assert _content(server) == NEW[1]["fingerprint"]
    assert _cypher(server, kept) == before and report.changes.counts["concepts"]["added"] == 1
    assert _cypher(server, "MATCH (:Patient)-[:HAS]->(c) RETURN c.id AS id") == [{"id": "A:2"}]
    labels = _cypher(server, "MATCH (n:Concept {id: 'A:1'}) RETURN labels(n) AS labels")[0]["labels"]
    assert sorted(labels) == ["Concept", "U", "V"]
    assert not kg.update(server.uri, tmp_path / "new").changes


@pytest.mark.parametrize("survived", [0, 1, 4, 8, 11])
def test_an_update_that_was_cut_off_goes_on(server, tmp_path, monkeypatch, survived):
    load_database(server.uri, _folder(tmp_path / "old", OLD), OLD[1])
    new, run, done = _folder(tmp_path / "new", NEW), neo4j_load._change, []

    def fail_later(server, query, rows):
        if len(done) == survived:
            raise KeyboardInterrupt
        done.append(query)
        return run(server, query, rows)

    with monkeypatch.context() as patch:
        patch.setattr(neo4j_load, "_change", fail_later)
        with contextlib.suppress(KeyboardInterrupt):
            kg.update(server.uri, new)
    with pytest.raises(MedgraftError, match="run the same `medgraft update` again"):
        kg.connect(server.uri)
    kg.update(server.uri, new)
    assert _content(server) == NEW[1]["fingerprint"]


def test_an_update_of_what_was_changed_meanwhile_is_refused(server, tmp_path, monkeypatch):
    old, new = _folder(tmp_path / "old", OLD), _folder(tmp_path / "new", NEW)
    load_database(server.uri, old, OLD[1])
    apply = neo4j_load.update_database

    def late(uri, changes, manifest):
        monkeypatch.undo()
        kg.update(uri, new)  # another process, between the comparison and the writing
        apply(uri, changes, manifest)

    monkeypatch.setattr(neo4j_load, "update_database", late)
    with pytest.raises(MedgraftError, match="was changed by another process meanwhile; run the update again"):
        kg.update(server.uri, new)
    assert _content(server) == NEW[1]["fingerprint"]


def test_an_update_that_was_cut_off_can_go_back(server, tmp_path, monkeypatch):
    old, new = _folder(tmp_path / "old", OLD), _folder(tmp_path / "new", NEW)
    load_database(server.uri, old, OLD[1])
    with monkeypatch.context() as patch, pytest.raises(MedgraftError, match="does not hold what was sent"):
        patch.setattr(neo4j_load._Loader, "differences", lambda *_: "Concept: 3 of 4")
        kg.update(server.uri, new)
    kg.update(server.uri, old)
    assert _content(server) == OLD[1]["fingerprint"]


IDS = [f"N:{i}" for i in range(6)]


@st.composite
def graphs(draw):
    ids = draw(st.lists(st.sampled_from(IDS), min_size=1, unique=True))
    end = st.sampled_from(ids)
    facts = st.lists(
        st.tuples(end, st.sampled_from(["is_a", "treats"]), end, st.sampled_from(["", '{"a": 1}'])), max_size=8
    )
    excluded = st.lists(st.tuples(end, st.sampled_from(["is_a", "treats"]), end), max_size=3)
    types = st.lists(st.sampled_from(["T", "U"]), max_size=2)
    concepts = [(id, draw(st.sampled_from(["a", "b"])), draw(types)) for id in ids]
    names = st.lists(
        st.tuples(end, st.sampled_from(["x", ""]), st.sampled_from(["exact", "suppressed exact"])), max_size=4
    )
    retired = [
        (id, draw(st.sampled_from([None, ids[0]])), draw(st.sampled_from(["", "merged"]))) for id in set(IDS) - {*ids}
    ]
    mappings = st.lists(st.tuples(end, st.just("xref"), st.sampled_from(["M:1", "M:2"])), max_size=3)
    return tables_of(concepts, draw(facts), draw(excluded), sorted(retired, key=str), draw(names), draw(mappings))


@settings(
    max_examples=int(os.environ.get("MEDGRAFT_EXAMPLES", "6")),
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(graphs(), graphs())
def test_any_graph_becomes_any_other(neo4j_server, tmp_path_factory, old, new):
    folder = tmp_path_factory.mktemp("graphs")
    load_database(neo4j_server.uri, _folder(folder / "old", old), old[1])
    kg.update(neo4j_server.uri, _folder(folder / "new", new))
    assert _content(neo4j_server) == new[1]["fingerprint"]
