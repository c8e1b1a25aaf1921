"""Differences between graphs, judged by sets of rows."""

import json

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kg
from kg.differences import KEYS, _compare, diff
from kg.snapshot import SCHEMAS
from loaders import MedgraftError
from tests.conftest import TINY_SOURCES

WORDS = st.sampled_from(["a", "b", "c", "ä", "", "a b"])
LISTS = st.lists(WORDS, max_size=3)
VALUES = {"definition": st.none() | WORDS, "successor": st.none() | WORDS, "suppressed": st.booleans()}


def _row(name):
    return st.fixed_dictionaries(
        {
            field.name: LISTS if pa.types.is_list(field.type) else VALUES.get(field.name, WORDS)
            for field in SCHEMAS[name]
        }
    )


def _sorted_table(rows, name):
    unique = {tuple(row[column] for column in KEYS[name]): row for row in rows}
    ordered = [unique[key] for key in sorted(unique, key=lambda key: [str(part).encode() for part in key])]
    return pa.Table.from_pylist(ordered, schema=SCHEMAS[name])


def _hashable(table):
    return [json.dumps(row, sort_keys=True) for row in table.to_pylist()]


@pytest.mark.parametrize("name", SCHEMAS)
@pytest.mark.parametrize("piece", [1, 3, 1000])
@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_changes_are_the_differences_of_sets(name, piece, data):
    old, new = (_sorted_table(data.draw(st.lists(_row(name), max_size=12)), name) for _ in range(2))
    removed, added, changed = _compare(old.to_batches(piece), new.to_batches(piece), name)
    assert removed.schema == added.schema == SCHEMAS[name]
    columns = SCHEMAS[name].names
    before = changed.select([f"old_{column}" for column in columns]).rename_columns(columns)
    removed, added = pa.concat_tables([removed, before]), pa.concat_tables([added, changed.select(columns)])
    assert sorted(_hashable(removed)) == sorted(set(_hashable(old)) - set(_hashable(new)))
    assert sorted(_hashable(added)) == sorted(set(_hashable(new)) - set(_hashable(old)))


@pytest.fixture(scope="module")
def newer(tmp_path_factory):
    """The tiny graph after an update: one concept new, one merged, one obsolete, one simply gone, others changed."""
    folder = tmp_path_factory.mktemp("newer")
    text = TINY_SOURCES[0].read_text()
    text = text.replace("name: Fever\n", "name: High temperature\n", 1)
    (folder / "tiny.obo").write_text(text + "\n[Term]\nid: TINY:0000099\nname: New\nis_a: TINY:0000001 ! Finding\n")
    kg.build([folder / "tiny.obo", *TINY_SOURCES[1:]], folder / "graph")
    return folder / "graph"


def test_diff_of_two_graphs(tiny_graph, newer):
    found = diff(tiny_graph, newer)
    assert found and found.counts["concepts"] == {"added": 1, "removed": 0, "merged": 0, "deleted": 0, "changed": 1}
    (changed,) = found.concepts("changed").to_pylist()
    assert (changed["id"], changed["old_name"], changed["name"]) == ("TINY:0000002", "Fever", "High temperature")
    assert "name" in changed["changed"] and found.fields["name"] == 1
    assert found.concepts("added").column("id").to_pylist() == ["TINY:0000099"]
    assert found.relations["is_a"] == {"added": 1, "removed": 0, "changed": 0}
    assert found.counts["names"]["added"] == 2 and found.counts["names"]["removed"] == 1
    text = found.report(limit=5)
    assert "TINY:0000099 New" in text and "TINY:0000099 is_a TINY:0000001" in text and "other name" in str(found)
    assert json.loads(json.dumps(found.to_dict(limit=3)))["concepts"]["added"][0]["id"] == "TINY:0000099"
    back = diff(newer, tiny_graph)
    assert back.counts["concepts"]["removed"] == 1 and back.relations["is_a"]["removed"] == 1


def test_a_graph_does_not_differ_from_itself(tiny_graph):
    found = diff(tiny_graph, tiny_graph)
    assert not found and "no difference" in str(found) and found.concepts("merged").num_rows == 0


def test_merged_and_deleted_concepts_say_why(tmp_path):
    term = "[Term]\nid: X:{0}\nname: {0}\n{1}\n"
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    (tmp_path / "a" / "x.obo").write_text("format-version: 1.2\n\n" + "".join(term.format(n, "") for n in range(1, 5)))
    later = [term.format(1, "alt_id: X:2\n"), term.format(4, "")]
    gone = term.format(3, "is_obsolete: true\n")
    (tmp_path / "b" / "x.obo").write_text("format-version: 1.2\n\n" + "".join([*later, gone]))
    for name in ("a", "b"):
        kg.build(tmp_path / name / "x.obo", tmp_path / f"graph {name}")
    found = diff(tmp_path / "graph a", tmp_path / "graph b")
    assert found.counts["concepts"] == {"added": 0, "removed": 0, "merged": 1, "deleted": 1, "changed": 0}
    assert found.concepts("merged").to_pylist()[0]["successor"] == "X:1"
    assert found.concepts("deleted").column("id").to_pylist() == ["X:3"]
    assert "X:2 2 -> X:1" in found.report(limit=2)


def test_questions_that_make_no_sense(tiny_graph, tmp_path):
    found = diff(tiny_graph, tiny_graph)
    with pytest.raises(MedgraftError, match="choose one of added, removed, merged"):
        found.concepts("retired")
    with pytest.raises(MedgraftError, match="no table 'concepts' to compare by rows"):
        found.rows("concepts", "added")
    with pytest.raises(MedgraftError, match="does not exist"):
        diff(tiny_graph, tmp_path / "nothing")
