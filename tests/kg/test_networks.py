"""Pictures and networks."""

import xml.etree.ElementTree as ElementTree

import pytest

import kg
from kg.networks import informative_paths
from tests.kg.slow_graph import tables_of, write_folder


def test_a_picture_names_what_it_shows(tiny_graph):
    with kg.connect(tiny_graph) as graph:
        drawn = graph.picture("TINY:0000002")
        assert drawn == graph.picture(["Fever"])
        texts = [node.text for node in ElementTree.fromstring(drawn.svg).iter() if node.tag.endswith("text")]
        assert "Fever" in texts and "is_a" in texts and drawn.left_out == 0
        small = graph.picture("TINY:0000002", hops=2, limit=3)
        assert small.left_out > 0 and "not shown" in small._repr_html_()
        assert small.svg.count("<circle") == 3 + len(
            {concept.types for concept in graph.concepts() if concept.id in small.svg}
        )


def test_names_cannot_break_out_of_a_picture_or_a_card(tmp_path):
    bad = "<script>alert(1)</script>&\x00"
    folder = write_folder(tmp_path / "graph", *tables_of([("A:1", bad, [bad]), "A:2"], [("A:1", bad, "A:2")]))
    with kg.connect(folder) as graph:
        for shown in (graph.picture("A:1").svg, graph.concept("A:1")._repr_html_(), graph.concepts()._repr_html_()):
            assert "<script" not in shown and "&lt;script" in shown
        ElementTree.fromstring(graph.picture("A:1").svg)


def test_hubs_make_a_path_less_informative():
    edges = [("a", "hub"), ("hub", "b"), ("a", "x"), ("x", "y"), ("y", "b")]
    degrees = {"a": 2, "b": 2, "hub": 1000, "x": 2, "y": 2}
    found = informative_paths(edges, degrees, "a", "b", 3, 5)
    assert [path for path, _ in found] == [["a", "x", "y", "b"], ["a", "hub", "b"]]
    assert [score for _, score in found] == pytest.approx([2**-0.8, 1000**-0.4])
    assert [path for path, _ in informative_paths(edges, degrees, "a", "b", 2, 5)] == [["a", "hub", "b"]]
    assert informative_paths(edges, degrees, "a", "nowhere", 3, 5) == []
