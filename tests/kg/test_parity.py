"""The same questions to both stores, judged by a slow graph in memory."""

import itertools
import os

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import kg
from kg.snapshot import SCHEMAS, fingerprint, read_manifest, read_table
from kg.triples import integer_triples, read_integer_graph
from loaders import MedgraftError
from tests.kg.slow_graph import SlowGraph, check_everything, tables_of, write_folder, write_snapshot_folder

ENGINES = ["embedded", pytest.param("neo4j", marks=pytest.mark.neo4j)]
_number = itertools.count()


@pytest.fixture(params=ENGINES, scope="module")
def open_graph(request, tmp_path_factory):
    """A function that puts tables into the store and opens it."""
    base = tmp_path_factory.mktemp("graphs")
    if request.param == "embedded":
        return lambda tables, manifest: kg.connect(write_folder(base / str(next(_number)), tables, manifest))
    server = request.getfixturevalue("neo4j_server")

    def load(tables, manifest):
        from kg.neo4j_load import load_database

        load_database(server.uri, write_snapshot_folder(base / str(next(_number)), tables, manifest), manifest)
        return kg.connect(server.uri)

    return load


@pytest.fixture(scope="module")
def tiny(open_graph, tiny_graph):
    tables = {name: read_table(tiny_graph, name) for name in SCHEMAS}
    with open_graph(tables, read_manifest(tiny_graph)) as graph:
        yield graph, SlowGraph(tables), tables


def test_every_call_on_the_tiny_graph(tiny):
    graph, slow, _ = tiny
    texts = ["fever", "FEVER", "cough dry", "pyrexia", "high", "e", "nothing like it", " ", "TINY", "gh f"]
    check_everything(graph, slow, [*slow.concepts, "TINY:0000092", "TINY:0000008"], texts)


def test_tables_come_back_as_they_went_in(tiny):
    graph, _, tables = tiny
    for name, table in tables.items():
        assert graph.table(name).equals(table), name
    assert fingerprint({name: graph.table(name) for name in SCHEMAS}) == graph.fingerprint


def test_columns_come_in_batches_and_triples_as_the_same_integers(tiny):
    graph, _, tables = tiny
    for name, columns in (("triples", ["tail", "relation"]), ("concepts", ["id", "types"])):
        read = pa.Table.from_batches(graph.batches(name, columns))
        order = [(column, "ascending") for column in columns if column != "types"]
        assert read.sort_by(order).equals(tables[name].select(columns).sort_by(order))
    whole = read_integer_graph(graph)
    assert whole.ids == tables["concepts"]["id"].to_pylist()
    np.testing.assert_array_equal(whole.rows, integer_triples(tables["triples"], whole.ids, whole.relations))
    with pytest.raises(MedgraftError, match="no columns colour in a table 'triples'"):
        graph.batches("triples", ["colour"])


def test_a_negated_finding_is_no_relation(tiny):
    graph, _, _ = tiny
    query = "MATCH (d:Concept {id: 'OMIM:900001'})-[r]-(p:Concept) RETURN p.id AS id ORDER BY id"
    assert [row["id"] for row in graph.cypher(query)] == ["NCBIGene:901", "TINY:0000002"]
    assert [t.tail for t in graph.exclusions("OMIM:900001")] == ["TINY:0000004", "TINY:0000005"]
    assert graph.exclusions("OMIM:900001")[0].tail_name == "Cough"


def test_records_carry_names_sources_and_evidence(tiny):
    graph, _, _ = tiny
    triple = graph.relations("OMIM:900001", "has_phenotype")[0]
    assert (triple.head_name, triple.tail_name, triple.sources) == ("Tiny fever", "Fever", ("hpoa",))
    assert len(triple.evidence) == 2 and '"frequency": "3/4"' in triple.evidence[1]
    fever = graph.concept("TINY:0000092")
    assert (fever.id, fever.aliases, fever.types) == ("TINY:0000002", ("Pyrexia", "Raised temperature"), ("TINY",))
    assert fever.definition == "A body temperature above the usual." and fever.sources == ("tiny",)


def test_cypher_takes_parameters_and_cannot_write(tiny):
    graph, _, _ = tiny
    query = "MATCH (n:Concept) WHERE n.name = $name RETURN n.id AS id"
    assert graph.cypher(query, name="Fever") == [{"id": "TINY:0000002"}]
    assert graph.cypher(query, name="' OR 1=1 //") == []
    for refused in ("MATCH (n:Concept {id: 'TINY:0000002'}) SET n.name = 'x'", "MATCH (n:Concept"):
        with pytest.raises(MedgraftError, match="refused") as error:
            graph.cypher(refused)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda g: g.concept("TINY:2"), "did you mean TINY:0000002"),
        (lambda g: g.concept("tiny_0000002"), "did you mean TINY:0000002"),
        (lambda g: g.concept("feve"), "TINY:0000002 .Fever."),
        (lambda g: g.similarity("TINY:0000002", "TINY:0000002", "cosine"), "no measure 'cosine'; choose lin or"),
        (lambda g: g.evidence("TINY:0000002", "is_a", "TINY:0000002"), "is no fact of this graph"),
        (lambda g: g.relations("zzz"), "no concept 'zzz'"),
        (lambda g: g.concept("TINY:0000009"), "retired without successor"),
        (lambda g: g.relations("TINY:0000002", "isnt_a"), "no relation 'isnt_a' in this graph; it has .*is_a"),
        (lambda g: g.relations("TINY:0000002", direction="up"), "not one of both, out, in"),
        (lambda g: g.path("TINY:0000002", "TINY:777"), "no concept 'TINY:777'"),
        (lambda g: g.table("nodes"), "no table 'nodes'"),
    ],
)
def test_questions_without_an_answer_say_so(tiny, call, message):
    with pytest.raises(MedgraftError, match=message):
        call(tiny[0])


def test_a_chain_of_more_than_thirty_steps(open_graph):
    ids = [f"C:{i:03}" for i in range(70)]
    tables, manifest = tables_of(ids, [(a, "is_a", b) for a, b in itertools.pairwise(ids)])
    with open_graph(tables, manifest) as graph:
        assert graph.ancestors(ids[0]).ids == ids[1:]
        assert graph.descendants(ids[-1]).ids == ids[-2::-1]
        assert len(graph.path(ids[0], ids[-1], max_length=69)) == 69
        assert graph.path(ids[0], ids[-1], max_length=68) is None


def test_a_hub_and_a_dense_hierarchy(open_graph):
    layers = [[f"L:{depth:02}{i}" for i in range(3)] for depth in range(25)]
    triples = [(a, "isa", b) for low, high in itertools.pairwise(layers) for a in low for b in high]
    leaves = [f"P:{i:04}" for i in range(1500)]
    triples += [(leaf, "has", "H:1") for leaf in leaves] + [(leaf, "has", "H:2") for leaf in leaves[::-1]]
    tables, manifest = tables_of([*itertools.chain(*layers), *leaves, "H:1", "H:2"], triples)
    with open_graph(tables, manifest) as graph:
        assert len(graph.ancestors(layers[0][0])) == 72
        assert [tuple(t) for t in graph.path("H:1", "H:2")] == [("P:0000", "has", "H:1"), ("P:0000", "has", "H:2")]
        assert [t.tail for t in graph.path(layers[0][1], layers[3][2])] == ["L:010", "L:020", "L:032"]
        assert len(graph.relations("H:1", direction="in")) == 1500
        assert graph.path("H:1", layers[0][0], max_length=50) is None
        assert len(graph.subgraph(["P:0001"], hops=2)) == 1502


def test_odd_names_and_relations(open_graph):
    concepts = [
        ("X:ä'1", 'Quote " and \\ and `tick`', ["Name", "Disease or Syndrome", "'); DROP"]),
        ("X:2", "ÉCOLE %s ΣΑΣ İ 𝔘nicode", []),
        ("X:3", "tab\tand\nline", ["MedgraftGraph", "", "123"]),
    ]
    triples = [
        ("X:ä'1", "may treat`]-() DELETE r //", "X:2", '{"a": "\\u00e9"}'),
        ("X:2", "é", "X:3"),
        ("X:3", "É", "X:2"),
        ("X:3", "excluded", "X:2"),
    ]
    names = [("X:2", "école", "exact"), ("X:2", "secret", "suppressed exact"), ("X:3", "école primaire", "related")]
    tables, manifest = tables_of(concepts, triples, exclusions=[("X:2", "é", "X:ä'1")], names=names)
    with open_graph(tables, manifest) as graph:
        texts = ["école", "ÉCOLE", "secret", "%", "and", 'quote "', "σας", "𝔘NICODE", "\\", "`", "line tab"]
        check_everything(graph, SlowGraph(tables), [concept[0] for concept in concepts], texts)
        assert fingerprint({name: graph.table(name) for name in SCHEMAS}) == graph.fingerprint


def test_a_graph_without_triples(open_graph):
    tables, manifest = tables_of(["A:1", "A:2"])
    with open_graph(tables, manifest) as graph:
        check_everything(graph, SlowGraph(tables), ["A:1", "A:2"], ["name"])
        assert graph.stats()["relations"] == {} and not graph.table("triples").num_rows


@st.composite
def graphs(draw):
    ids = [f"N:{i:02}" for i in range(draw(st.integers(1, 12)))]
    end, relation = (
        st.sampled_from([*ids, "N:old", "N:gone"]),
        st.sampled_from(["is_a", "child_of", "treats", "Treats"]),
    )
    facts = st.lists(st.tuples(end, relation, end), max_size=40)
    words = st.lists(st.sampled_from(["Cough", "dry", "FEVER", "a", "-b"]), min_size=1, max_size=3).map(" ".join)
    name = st.tuples(st.sampled_from(ids), words, st.sampled_from(["preferred", "exact", "suppressed exact"]))
    retired = [("N:old", ids[0], "merged"), ("N:gone", None, "obsolete")]
    return ids, draw(facts), draw(facts), retired, draw(st.lists(name, max_size=15))


@settings(
    max_examples=int(os.environ.get("MEDGRAFT_EXAMPLES", "8")),
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(graphs())
def test_any_small_graph(open_graph, parts):
    ids, triples, exclusions, retired, names = parts
    tables, manifest = tables_of(ids, triples, exclusions, retired, names)
    with open_graph(tables, manifest) as graph:
        check_everything(graph, SlowGraph(tables), [*ids, "N:old"], ["cough", "dry a", "a", "-b", "cough dry fever"])


def test_ids_names_and_codes_stand_for_their_concept(open_graph):
    concepts = [("X:1", "Kidney stone", []), ("X:2", "Stone", []), ("X:3", "Stone", [])]
    names = [("X:1", "Nephrolith", "exact"), ("X:1", "calculus", "suppressed exact"), ("X:2", "calculi", "exact")]
    mappings = [("X:1", "xref", "MESH:D1"), ("X:2", "skos:broadMatch", "MESH:D2"), ("X:2", "xref", "A:1")]
    tables, manifest = tables_of(
        concepts, names=names, retired=[("X:9", "X:1", "merged")], mappings=[*mappings, ("X:3", "xref", "A:1")]
    )
    with open_graph(tables, manifest) as graph:
        for id in ("X:1", "X:9", "MESH:D1", "MSH:D1", "kidney STONE", "nephrolith"):
            assert graph.concept(id).id == "X:1", id
        for id, message in (
            ("stone", "'stone' is a name of several concepts: X:2, X:3"),
            ("A:1", "'A:1' is mapped to several concepts: X:2, X:3"),
            ("MESH:D2", "no concept 'MESH:D2'"),
            ("calculus", "no concept 'calculus'"),
        ):
            with pytest.raises(MedgraftError, match=message):
                graph.concept(id)
        assert graph.names("X:1").column("name").to_pylist() == ["Kidney stone", "Nephrolith", "calculus"]
        assert graph.mappings("X:2").column("object").to_pylist() == ["MESH:D2", "A:1"]
        assert graph.attributes("X:1").num_rows == 0


def test_inverse_relations_and_evidence(open_graph):
    triples = [
        ("D:1", "may_treat", "D:2", '{"rank": 1}'),
        ("D:2", "may_be_treated_by", "D:3", ""),
        ("D:3", "near", "D:1", ""),
        ("D:1", "near", "D:3", ""),
    ]
    inverses = [("may_treat", "may_be_treated_by"), ("near", "near")]
    tables, manifest = tables_of(
        ["D:1", "D:2", "D:3"], triples, exclusions=[("D:1", "may_treat", "D:3")], inverses=inverses
    )
    with open_graph(tables, manifest) as graph:
        facts = [("D:1", "may_treat", "D:2"), ("D:3", "may_treat", "D:2"), ("D:1", "near", "D:3")]
        assert [tuple(triple) for triple in graph.triples()] == sorted(facts)
        for relation, direction in (("may_be_treated_by", "out"), ("may_treat", "in")):
            found = graph.relations("D:2", relation, direction)
            assert [triple.head for triple in found] == ["D:1", "D:3"]
        assert not graph.relations("D:2", "may_be_treated_by", "in")
        found = graph.evidence("D:2", "may_be_treated_by", "D:1")
        assert found["source"].to_pylist() == ["test", None]
        assert found["evidence"].to_pylist() == [None, '{"rank": 1}']
        assert graph.evidence("D:3", "near", "D:1")["source"].to_pylist() == ["test"]
        with pytest.raises(MedgraftError, match="a source states that it does not hold"):
            graph.evidence("D:1", "may_treat", "D:3")
        with pytest.raises(MedgraftError, match="is no fact of this graph"):
            graph.evidence("D:2", "may_treat", "D:1")
