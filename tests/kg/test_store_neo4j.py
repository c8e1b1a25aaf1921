"""Loading and refusing, on a real server."""

import contextlib
import tempfile
from pathlib import Path

import neo4j
import pytest

import kg
from kg import neo4j_load
from kg.layout import relationship_type
from kg.neo4j_load import load_database
from kg.neo4j_server import Server
from kg.snapshot import SCHEMAS, fingerprint
from loaders import MedgraftError
from tests.kg.slow_graph import tables_of, write_snapshot_folder

IDS = [f"A:{i:03}" for i in range(60)]
SMALL = tables_of(
    IDS,
    [(a, "is_a", b) for a, b in zip(IDS, IDS[1:], strict=False)] + [(IDS[0], "treats", id) for id in IDS[1:]],
    [(IDS[1], "treats", IDS[2])],
    [("A:old", IDS[0], "merged")],
)


def test_relationship_types_are_harmless():
    assert relationship_type("has_phenotype") == "HAS_PHENOTYPE"
    assert relationship_type("may treat`]-() DELETE r //") == "MAY_TREAT_DELETE_R"
    assert relationship_type("é") == "UNNAMED"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("bolt://127.0.0.1:1", "does not answer"),
        ("neo4j://127.0.0.1:1", "does not answer"),
        ("http://127.0.0.1:1", "no address of a graph"),
        ("bolt://neo4j:secret@127.0.0.1:1", "credentials do not belong into the address"),
    ],
)
def test_no_server(uri, message, tmp_path):
    source = tmp_path / "a.obo"
    source.write_text("format-version: 1.4\n\n[Term]\nid: A:1\nname: a\n")
    for attempt in (lambda: kg.connect(uri), lambda: kg.build(source, uri)):
        with pytest.raises(MedgraftError, match=message) as error:
            attempt()
        assert "\n" not in str(error.value) and "secret" not in str(error.value)


@pytest.fixture
def server(neo4j_server):
    """The server with an empty database."""
    _cypher(neo4j_server, "MATCH (n) DETACH DELETE n")
    return neo4j_server


def _load(uri, tables, manifest):
    with tempfile.TemporaryDirectory() as folder:
        load_database(uri, write_snapshot_folder(Path(folder) / "graph", tables, manifest), manifest)


def _cypher(server, query):
    with neo4j.GraphDatabase.driver(server.uri, auth=(server.username, server.password)) as driver:
        return [record.data() for record in driver.execute_query(query)[0]]


def _content(server):
    with kg.connect(server.uri) as graph:
        return fingerprint({name: graph.table(name) for name in SCHEMAS})


@pytest.mark.neo4j
def test_wrong_password(server, monkeypatch):
    for password in ("wrong-password", ""):
        monkeypatch.setenv("NEO4J_PASSWORD", password)
        with pytest.raises(MedgraftError, match="refuses the credentials; set NEO4J_USERNAME and NEO4J_PASSWORD"):
            kg.connect(server.uri)


@pytest.mark.neo4j
def test_an_empty_or_unknown_database_is_no_graph(server):
    with pytest.raises(MedgraftError, match="holds no graph of medgraft"):
        kg.connect(server.uri)
    with pytest.raises(MedgraftError, match="nowhere"):
        kg.connect(server.uri + "/nowhere")


@pytest.mark.neo4j
def test_the_data_of_others_is_never_touched(server, tiny_graph):
    _cypher(server, "CREATE (:Patient {id: 1})-[:HAS]->(:Concept {id: 'A:001'})")
    for attempt in (lambda: kg.build(tiny_graph, server.uri), lambda: _load(server.uri, *SMALL)):
        with pytest.raises(MedgraftError, match="not written; give the graph a database of its own"):
            attempt()
    assert _cypher(server, "MATCH (n) RETURN count(n) AS n") == [{"n": 2}]


@pytest.mark.neo4j
def test_labels_and_types(server):
    _load(server.uri, *tables_of([("A:1", "a", ["Disease or Syndrome", "Name"]), "A:2"], [("A:1", "has part", "A:2")]))
    rows = _cypher(
        server, "MATCH (a:Disease_or_Syndrome:Name_)-[r:HAS_PART {relation: 'has part'}]->(:Thing) RETURN a.id AS id"
    )
    assert rows == [{"id": "A:1"}]
    assert _cypher(server, "MATCH (n:Name) RETURN count(n) AS n") == [{"n": 2}]


@pytest.mark.neo4j
def test_loading_twice_changes_nothing_and_another_graph_replaces_it(server):
    _load(server.uri, *SMALL)
    before = _cypher(server, "MATCH (n) RETURN collect(elementId(n)) AS ids")
    _load(server.uri, *SMALL)
    assert _cypher(server, "MATCH (n) RETURN collect(elementId(n)) AS ids") == before
    assert _content(server) == SMALL[1]["fingerprint"]

    _cypher(server, "MATCH (c:Concept {id: 'A:000'}) CREATE (:Patient)-[:HAS]->(c)")
    other = tables_of(["B:1", "A:000"], [("B:1", "is_a", "A:000")])
    _load(server.uri, *other)
    assert _content(server) == other[1]["fingerprint"]
    assert _cypher(server, "MATCH (n:Patient) RETURN count(n) AS n") == [{"n": 1}]
    assert _cypher(server, "MATCH (n) RETURN count(n) AS n") == [{"n": 2 + 2 + 1 + 1}]


@pytest.mark.neo4j
@pytest.mark.parametrize("survived", [0, 3, 9, 20])
def test_a_load_that_was_cut_off_goes_on(server, monkeypatch, survived):
    """A crash after some batches: the graph cannot be opened, and the next load writes only what is missing."""
    monkeypatch.setattr(neo4j_load, "_BATCH", 10)
    write, written = neo4j_load._write_batch, []

    def fail_later(server, query, rows, number):
        if len(written) == survived:
            raise KeyboardInterrupt
        written.append(number)
        return write(server, query, rows, number)

    monkeypatch.setattr(neo4j_load, "_write_batch", fail_later)
    with contextlib.suppress(KeyboardInterrupt):
        _load(server.uri, *SMALL)
    with pytest.raises(MedgraftError, match="not finished; run the same `medgraft build` again"):
        kg.connect(server.uri)
    survived = 10**9
    _load(server.uri, *SMALL)
    assert written == list(range(1, len(written) + 1)) and len(written) > 20
    assert _content(server) == SMALL[1]["fingerprint"]


@pytest.mark.neo4j
def test_the_second_of_two_writers_is_told_so(server, tiny_graph):
    _load(server.uri, *SMALL)
    with Server(server.uri) as other, other.only_writer():
        for attempt in (lambda: kg.build(tiny_graph, server.uri), lambda: kg.update(server.uri, tiny_graph)):
            with pytest.raises(MedgraftError, match="another process is writing to bolt.*; wait until it is done"):
                attempt()
        assert _content(server) == SMALL[1]["fingerprint"]  # readers do not care
    kg.build(tiny_graph, server.uri)
    assert _cypher(server, "MATCH (n:MedgraftGraph) RETURN n.key AS key") == [{"key": "graph"}]


@pytest.mark.neo4j
def test_a_batch_is_written_once_even_if_its_answer_is_lost(server):
    with Server(server.uri) as writer:
        writer.write("CREATE (:MedgraftGraph {key: 'graph', batches: 0})")
        query = "UNWIND $rows AS row CREATE (n:Concept) SET n = row RETURN count(*) AS written"
        for _ in range(2):
            neo4j_load._write_batch(writer, query, [{"id": "A:1"}], 1)
        assert _cypher(server, "MATCH (n:Concept) RETURN n.id AS id") == [{"id": "A:1"}]
        missing = "UNWIND $rows AS row MATCH (n:Concept {id: row.id}) SET n.x = 1 RETURN count(*) AS written"
        for rows, number in (([{"id": "A:1"}, {"id": "A:2"}], 2), ([{"id": "A:1"}], 3)):
            with pytest.raises(MedgraftError, match="is something else writing to it"):
                neo4j_load._write_batch(writer, missing, rows, number)
        assert _cypher(server, "MATCH (g:MedgraftGraph) RETURN g.batches AS n") == [{"n": 1}]


@pytest.mark.neo4j
def test_a_damaged_graph_is_loaded_anew(server):
    _load(server.uri, *SMALL)
    _cypher(server, "MATCH (c:Concept {id: 'A:030'}) DETACH DELETE c")
    _load(server.uri, *SMALL)
    assert _content(server) == SMALL[1]["fingerprint"]


@pytest.mark.neo4j
def test_building_straight_into_the_server(server, tiny_graph):
    from tests.conftest import TINY_SOURCES

    report = kg.build(TINY_SOURCES, server.uri)
    assert _content(server) == report.fingerprint == kg.connect(tiny_graph).fingerprint
    report = kg.build(tiny_graph, server.uri)
    assert report.counts["triples"] == 14 and report.where == server.uri
