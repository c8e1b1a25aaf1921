"""Records, and opening a graph folder in whatever state it is."""

import json
import logging
import shutil
import stat
import subprocess
import sys

import pytest

import kg
from kg.walks import reachable, shortest_path
from loaders import Concept, MedgraftError, Triple


@pytest.fixture
def graph(tiny_graph):
    with kg.connect(tiny_graph) as graph:
        yield graph


def test_records_are_a_sequence(graph):
    concepts = graph.concepts()
    assert len(concepts) == 11 and len(list(concepts)) == 11
    assert concepts[0] == concepts[-11] == next(iter(concepts)) and isinstance(concepts[0], Concept)
    assert [c.id for c in concepts[2:4]] == concepts.ids[2:4]
    with pytest.raises(IndexError):
        concepts[11]
    assert "TINY:0000002" in concepts and "TINY:0000092" not in concepts
    assert graph.concept("TINY:0000002") in concepts and Concept("TINY:0000002", "other") not in concepts
    assert concepts == graph.concepts() and concepts != concepts[1:] and concepts != 3
    assert "11 records:" in repr(concepts) and "TINY:0000002  Fever" in repr(concepts) and "1 more" in repr(concepts)
    assert repr(graph.search("nothing")) == "0 records"


def test_records_of_triples(graph):
    triples = graph.triples()
    assert Triple("TINY:0000003", "is_a", "TINY:0000002") in triples
    assert Triple("TINY:0000002", "is_a", "TINY:0000003") not in triples
    assert "TINY:0000003" not in triples and graph.concept("TINY:0000003") not in triples
    assert triples.ids == [id for id in graph.concepts().ids]
    assert list(triples.to_pandas()["head"]) == triples.to_arrow().column("head").to_pylist()
    assert "High fever --is_a--> Fever" in repr(graph.relations("TINY:0000003"))


def test_empty_answers_are_empty_records(graph):
    for nothing in (graph.search("xyzzy"), graph.parents("TINY:0000001"), graph.exclusions("TINY:0000007")):
        assert len(nothing) == 0 and list(nothing) == [] and nothing.ids == [] and not nothing
    assert list(graph.path("TINY:0000002", "TINY:0000002")) == []


def test_subgraph(graph):
    sub = graph.subgraph(["TINY:0000006", "TINY:0000092"], hops=0)
    assert list(sub.edges(keys=True, data="sources")) == [("TINY:0000006", "TINY:0000002", "part_of", ("tiny",))]
    assert sub.nodes["TINY:0000002"] == {"name": "Fever", "types": ("TINY",)}
    assert len(graph.subgraph([])) == 0


def test_connect_without_a_graph(tmp_path):
    for where in (tmp_path, tmp_path / "absent", str(tmp_path)):
        with pytest.raises(MedgraftError, match="medgraft build"):
            kg.connect(where)


@pytest.mark.parametrize("damage", ["no database", "no note", "another engine", "another graph", "database cut short"])
def test_the_database_is_rebuilt_from_the_snapshot(tiny_graph, tmp_path, damage, caplog):
    folder = shutil.copytree(tiny_graph, tmp_path / "graph")
    note = json.loads((folder / "graph.lbug.json").read_text())
    if damage in ("no database", "database cut short"):
        (folder / "graph.lbug").unlink()
    if damage == "no note":
        (folder / "graph.lbug.json").unlink()
    if damage.startswith("another"):
        (folder / "graph.lbug").write_bytes(b"of another version")
        note["ladybug" if damage == "another engine" else "fingerprint"] = "0.1.0"
        (folder / "graph.lbug.json").write_text(json.dumps(note))
    with caplog.at_level(logging.WARNING), kg.connect(folder) as graph:
        assert graph.concept("TINY:0000092").name == "Fever"
    assert len(caplog.records) == 1 and "rebuilding" in caplog.text
    caplog.clear()
    with kg.connect(folder) as graph, kg.connect(folder) as second:
        assert graph.parents("TINY:0000007") == second.parents("TINY:0000007")
    assert not caplog.records
    assert {path.name for path in folder.iterdir()} - {".graph.lbug.lock"} == {
        path.name for path in tiny_graph.iterdir()
    }


def test_a_damaged_database_says_how_to_mend_it(tiny_graph, tmp_path):
    folder = shutil.copytree(tiny_graph, tmp_path / "graph")
    (folder / "graph.lbug").write_bytes(b"noise" * 1000)
    with pytest.raises(MedgraftError, match="cannot be opened .* delete it, the next use rebuilds it"):
        kg.connect(folder)
    (folder / "graph.lbug").unlink()
    kg.connect(folder).close()


def test_a_folder_that_cannot_be_written_is_read(tiny_graph, tmp_path):
    folder = shutil.copytree(tiny_graph, tmp_path / "graph")
    for path in [folder, *folder.iterdir()]:
        path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    with kg.connect(folder) as graph:
        assert len(graph.concepts()) == 11
    folder.chmod(0o755)


def test_importing_kg_costs_nothing():
    heavy = "{'torch', 'pykeen', 'ladybug', 'neo4j', 'networkx', 'pyarrow', 'polars', 'spacy', 'faiss'}"
    code = f"import sys, kg, kg.cli_query; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
    assert kg.__all__ == sorted(kg.__all__)
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        kg.absent  # noqa: B018


def test_building_stays_callable_whatever_is_imported_first():
    code = "import kg.building, kg.graph, kg; assert callable(kg.build) and callable(kg.connect)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_walks_of_a_symmetric_toy():
    edges = {"a": ["b", "c"], "b": ["a", "d"], "c": ["a", "d"], "d": ["b", "c", "e"], "e": ["d"], "x": []}

    def neighbours(ids):
        return {id: edges[id] for id in ids}

    assert reachable(["a"], neighbours) == {"a": 0, "b": 1, "c": 1, "d": 2, "e": 3}
    assert list(reachable(["e"], neighbours, max_steps=2)) == ["e", "d", "b", "c"]
    assert shortest_path("a", "e", neighbours, 3) == ["a", "b", "d", "e"]
    assert shortest_path("a", "e", neighbours, 2) is None
    assert shortest_path("a", "x", neighbours, 9) is None
    assert shortest_path("a", "a", neighbours, 0) == ["a"]
