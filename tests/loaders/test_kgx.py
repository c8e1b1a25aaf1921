"""KGX nodes and edges, as tables and as JSON lines, invented and real."""

import json

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import kg
from loaders import InputError
from loaders.kgx import _json_frame, _json_frame_slowly, is_kgx, read_kgx
from loaders.options import Options
from loaders.tables import Account

NODES = (
    "id\tname\tcategory\tsynonym\txref\tdescription\tprovided_by\tcolour\tdeprecated\n"
    'X:1\tNA\tbiolink:Drug|biolink:ChemicalEntity\tan "odd" one||two\u2028lines\t'
    "MSH:D1|UMLS:C0000005\twhat it is\tus\tred\t\n"
    "X:2\t\t\t\t\t\t\t\t\n"
    "X:9\told\tbiolink:Drug\t\t\t\tus\t\tTrue\n"
)


def test_nodes(tables, write):
    rows, account = tables(read_kgx, write(NODES))
    assert (account.read, account.kept) == (3, 3)
    first, second = rows["concepts"]
    assert first == {
        "id": "X:1",
        "name": "NA",
        "types": ["Drug", "ChemicalEntity"],
        "definition": "what it is",
        "source": "us",
    }
    assert (second["name"], second["types"], second["definition"], second["source"]) == ("X:2", [], None, "input")
    assert [(n["name"], n["kind"]) for n in rows["names"]] == [
        ("NA", "preferred"),
        ('an "odd" one', "exact"),
        ("two\u2028lines", "exact"),
    ]
    assert [(m["predicate"], m["object"]) for m in rows["mappings"]] == [("xref", "MESH:D1"), ("xref", "C0000005")]
    assert [(a["attribute"], a["value"]) for a in rows["attributes"]] == [("colour", "red")]
    assert rows["retired"] == [{"id": "X:9", "successor": None, "reason": "deprecated"}]


def test_edges_negated_ones_are_no_facts(tables, mini):
    rows, account = tables(read_kgx, mini / "mini_kgx.tsv")
    assert account.kept == 3
    assert [tuple(row.values()) for row in rows["triples"]] == [
        ("X:1", "treats", "X:2", "labels", '{"relation": "RO:1"}'),
        ("X:2", "subclass_of", "X:3", "mini_kgx", ""),
    ]
    assert [(r["head"], r["relation"], r["tail"]) for r in rows["exclusions"]] == [("X:1", "treats", "X:3")]


def test_json_lines_say_the_same(tables, write, mini):
    table = tables(read_kgx, mini / "mini_kgx.tsv")[0]
    header, *lines = (mini / "mini_kgx.tsv").read_text().splitlines()
    rows = [dict(zip(header.split("\t"), line.split("\t"), strict=True)) for line in lines]
    rows[1]["negated"] = True
    rows[2]["primary_knowledge_source"] = "infores:mini_kgx"
    assert tables(read_kgx, write("\n".join(map(json.dumps, rows)) + "\n"))[0] == table
    nodes = [{"id": "X:1", "name": "one", "category": ["biolink:Drug"], "synonym": ["uno", "eins"], "size": 3}]
    found, _ = tables(read_kgx, write("\n".join(map(json.dumps, nodes))))
    assert found["concepts"][0]["types"] == ["Drug"] and len(found["names"]) == 3
    assert found["attributes"][0]["value"] == "3"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id\tcategory\tname\n", "holds a header and no rows"),
        ("subject\tobject\nX:1\tX:2\n", "line 1: no KGX header .missing: predicate"),
        ("id\tcategory\tid\nX:1\ta\tb\n", "the column 'id' is there twice"),
        ("id\tcategory\nX:1\ta\n\ta\n", "line 3: a node without an id"),
        ("id\tcategory\nX:1\ta\tb\n", "line 2: 3 fields where the header has 2"),
        ("subject\tpredicate\tobject\nX:1\t \tX:2\n", "line 2: an edge without predicate"),
        ('{"id": "X:1", "category": []}\n{"id"\n', "line 2: no JSON object"),
        ('{"id": "X:1", "category": []}\n[1]\n', "line 2: no JSON object"),
        ('{"subject": "X:1", "predicate": "p"}\n', "line 1: an edge without object"),
    ],
)
def test_bad_input_names_its_line(content, message, tables, write):
    with pytest.raises(InputError, match=message):
        tables(read_kgx, write(content))


def test_bad_rows_can_be_skipped(tables, write):
    path = write("id\tcategory\nX:1\ta\n\ta\nX:2\ta\tb\n")
    rows, account = tables(read_kgx, path, Options(skip_bad=True))
    assert len(rows["concepts"]) == 1
    assert account.dropped == {"malformed: a node without an id": 1, "malformed: wrong number of fields": 1}
    _, account = tables(read_kgx, write('{"id": "X:1", "category": []}\n[1]\n'), Options(skip_bad=True))
    assert account.dropped == {"malformed: no JSON object": 1}


def test_commas_and_quotes(tables, write):
    path = write('id,category,name\nX:1,biolink:Drug,"one, ""two""\nthree"\n')
    assert is_kgx(path.read_text().split("\n"))
    rows, _ = tables(read_kgx, path)
    assert rows["concepts"][0]["name"] == 'one, "two"\nthree'


def test_each_of_several_sources_states_the_fact(tables, write):
    edges = 'subject\tpredicate\tobject\tprovided_by\tsource\tan "odd" one\n'
    edges += "X:1\tp\tX:2\tinfores:a|b\tq\tr\nX:1\tp\tX:3\t|\t\t\nX:1\tp\tX:4\tinfores:\t\t\n"
    rows, account = tables(read_kgx, write(edges))
    assert account.kept == 3
    assert [(t["tail"], t["source"]) for t in rows["triples"]] == [
        ("X:2", "a"),
        ("X:2", "b"),
        ("X:3", "input"),
        ("X:4", "input"),
    ]
    assert json.loads(rows["triples"][0]["evidence"]) == {"source": "q", 'an "odd" one': "r"}
    rows, _ = tables(read_kgx, write("id\tcategory\tsource\tfault\told\tprovided_by\nX:1\tD\ts\tf\to\ta|b\n"))
    assert [c["source"] for c in rows["concepts"]] == ["a", "b"]
    assert {(a["attribute"], a["value"]) for a in rows["attributes"]} == {("source", "s"), ("fault", "f"), ("old", "o")}


TEXT = st.text(st.sampled_from('a|"\\\n\u2028\0é '), max_size=4) | st.sampled_from(["2020-01-01", "NA", "1", "\ud800"])
SCALAR = TEXT | st.integers(-(10**20), 10**20) | st.integers(0, 9) | st.booleans() | st.none() | st.floats()
VALUE = SCALAR | st.lists(TEXT, max_size=3) | st.lists(SCALAR, max_size=2) | st.dictionaries(TEXT, SCALAR, max_size=1)
KEYS = st.sampled_from(
    ["id", "subject", "object", "predicate", "category", "name", "source", "fault", "line number", "x"]
)
SLOW = [HealthCheck.function_scoped_fixture]


@settings(max_examples=400, deadline=None, suppress_health_check=SLOW)
@given(st.lists(st.dictionaries(KEYS, VALUE, max_size=4) | st.dictionaries(KEYS, TEXT, max_size=4), max_size=4))
@example([{"id": "X:1", "x": ["a", "b"], "name": "n"}, {"id": "X:2", "x": [], "name": None}])
@example([{}, {}])
def test_json_read_fast_is_as_read_slowly(write, rows):
    block = "".join(json.dumps(row) + "\n" for row in rows).encode()
    fast = _json_frame(1, block)
    if fast is None:
        return
    path = write(block)
    slow = _json_frame_slowly(path, 1, block, Account(path), False)
    texts = [[{k: v for k, v in row.items() if v not in (None, "")} for row in f.to_dicts()] for f in (fast, slow)]
    assert texts[0] == texts[1]


def test_plain_json_is_read_fast():
    nodes = [{"id": f"X:{i}", "category": ["biolink:Drug"], "name": None, "size": 3, "old one": True} for i in range(3)]
    assert _json_frame(1, "".join(json.dumps(node) + "\n" for node in nodes).encode()) is not None
    assert _json_frame(1, b'{"id": "X:1"}{"id": "X:2"}\n\n') is None


EDGES = "subject\tpredicate\tobject\tnegated\tprovided_by\nX:1\tp\tX:2\tTrue\ta|b\nX:1\tp\tX:3\t\t\n"
LINES = '{"subject": "X:1", "predicate": "p", "object": "X:2", "n": [1]}\n{"subject": "X:1", "predicate": "p"}\n'
RAWS = [text.encode() for text in (NODES, EDGES, EDGES.replace("\t", ","), LINES)]
EDITS = st.sampled_from([b"", b'"', b",", b"\t", b"\n", b"\xff", b"\0", b"|", b"{", b"["])


@settings(max_examples=300, deadline=None, suppress_health_check=SLOW)
@given(
    st.sampled_from(RAWS),
    st.lists(st.tuples(st.integers(0, 500), st.integers(0, 9), EDITS), min_size=1, max_size=3),
    st.booleans(),
)
def test_any_mutation_is_read_or_refused(tables, write, raw, edits, skip_bad):
    for at, length, new in edits:
        at %= len(raw) + 1
        raw = raw[:at] + new + raw[at + length :]
    try:
        tables(read_kgx, write(raw), Options(skip_bad=skip_bad))
    except InputError as error:
        assert "\n" not in str(error)


def test_nested_json_is_no_reason_to_fall(tables, write):
    line = '{"id": "X:1", "category": ' + "[" * 50_000 + "\n"
    assert not is_kgx([line])
    with pytest.raises(InputError, match="line 1: no JSON object"):
        tables(read_kgx, write(line))


def test_the_published_counts_of_mesh(data, tmp_path):
    folder = data("graph/mesh_kgx")
    report = kg.build([folder, data("graph/drug_facts_kgx/edges.tsv.gz")], tmp_path / "mesh")
    counts = report.counts
    assert counts["concepts"] == 354_068 and counts["names"] == 354_068 + 429_909 and counts["mappings"] == 74_844
    assert counts["relations"] == {
        "has_adverse_event": 52_200,
        "related_to": 435_430,
        "subclass_of": 42_021,
        "treats": 8_588,
    }
    assert counts["types"]["Disease"] == 11_601 and counts["types"]["ChemicalEntity"] == 259_574
    assert {entry["format"]: entry["dropped"] for entry in report.inputs}[""] == {"a file of no known format": 1}
    with kg.connect(tmp_path / "mesh") as graph:
        assert "MESH:D015835" in graph.ancestors("MESH:D013285").ids  # the one cycle of the hierarchy
        assert "MESH:D013285" not in graph.ancestors("MESH:D013285").ids
