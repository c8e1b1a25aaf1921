"""Exports, read back by our own reader and by networkx."""

import json

import networkx as nx
import pytest

import kg
from loaders import MedgraftError
from tests.kg.slow_graph import tables_of, write_folder


def test_kgx_comes_back(tiny_graph, tmp_path):
    report = kg.export_kgx(tiny_graph, tmp_path / "kgx")
    assert report.rows["nodes.tsv"] == 14 and "left out" in str(report)
    kg.build(tmp_path / "kgx", tmp_path / "again")
    with kg.connect(tiny_graph) as was, kg.connect(tmp_path / "again") as again:
        assert _facts(again, "triples") == _facts(was, "triples")
        assert _facts(again, "exclusions") == _facts(was, "exclusions")
        assert again.concepts().ids == was.concepts().ids
        assert again.table("retired")["id"] == was.table("retired")["id"]
        for ours, theirs in zip(was.concepts(), again.concepts(), strict=True):
            assert (ours.name, set(ours.aliases), ours.types) == (theirs.name, set(theirs.aliases), theirs.types)


def _facts(graph, table):
    """Facts with their sources and evidence; a number in the evidence is text in KGX."""
    return [
        (row["head"], row["relation"], row["tail"], row["sources"], sorted(map(_said, row["evidence"])))
        for row in graph.table(table).to_pylist()
    ]


def _said(evidence):
    return sorted(
        (key, value if isinstance(value, str) else json.dumps(value)) for key, value in json.loads(evidence).items()
    )


def test_what_kgx_cannot_hold_is_counted(tmp_path):
    names = [("A:1", "a\tb", "exact"), ("A:1", "c|d", "exact"), ("A:1", "old", "suppressed exact")]
    folder = write_folder(
        tmp_path / "graph", *tables_of(["A:1"], names=names, mappings=[("A:1", "skos:broadMatch", "B:1")])
    )
    report = kg.export_kgx(folder, tmp_path / "kgx")
    assert sum(report.lost.values()) == 4
    assert "a b|c d" in (tmp_path / "kgx" / "nodes.tsv").read_text()
    assert (tmp_path / "kgx" / "edges.tsv").read_text().count("\n") == 1


def test_graphml(tiny_graph, tmp_path):
    report = kg.export_graphml(tiny_graph, tmp_path / "ml")
    read = nx.read_graphml(tmp_path / "ml" / "graph.graphml")
    with kg.connect(tiny_graph) as graph:
        assert sorted(read) == graph.concepts().ids
        edges = sorted((head, data["relation"], tail) for head, tail, data in read.edges(data=True))
        assert edges == sorted(tuple(triple) for triple in graph.triples())
    assert report.rows == {"nodes": read.number_of_nodes(), "edges": read.number_of_edges()}


def test_graphml_of_characters_that_xml_has_not(tmp_path):
    folder = write_folder(tmp_path / "graph", *tables_of([("A:1", "bell \x07", ["T\x00"])]))
    kg.export_graphml(folder, tmp_path / "ml")
    assert nx.read_graphml(tmp_path / "ml" / "graph.graphml").nodes["A:1"]["name"] == "bell ?"


@pytest.mark.parametrize("export", [kg.export_kgx, kg.export_graphml])
def test_nothing_of_value_is_replaced(export, tiny_graph, tmp_path):
    with pytest.raises(MedgraftError, match="would replace"):
        export(tiny_graph, tiny_graph)
    with pytest.raises(MedgraftError, match="would replace"):
        export(tiny_graph, tiny_graph.parent)
    with pytest.raises(MedgraftError, match="not a graph folder|does not exist"):
        export(tmp_path / "nothing", tmp_path / "out")
    assert not (tmp_path / "out").exists()
