"""`medgraft query`, as a user calls them."""

import json

import pytest
import typer
from typer.testing import CliRunner

from kg.cli_query import app_query

app = typer.Typer(pretty_exceptions_enable=False)
app.add_typer(app_query, name="query")


def _run(*arguments, code=0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.stdout


def _json(*arguments):
    return json.loads(_run(*arguments, "--json"))


def test_concept_and_search(tiny_graph):
    text = _run("query", "concept", tiny_graph, "TINY:0000092")
    assert "Fever" in text and "Pyrexia; Raised temperature" in text and "TINY:0000001 Finding" in text
    found = _json("query", "concept", tiny_graph, "TINY:0000002")
    assert (found["name"], [child["id"] for child in found["children"]]) == ("Fever", ["TINY:0000003", "TINY:0000007"])
    assert [row["id"] for row in _json("query", "search", tiny_graph, "cough", "-k", "2")] == [
        "TINY:0000004",
        "TINY:0000005",
    ]
    assert "Nightly dry cough" in _run("query", "search", tiny_graph, "night")


def test_relations_paths_ancestors(tiny_graph):
    rows = _json("query", "relations", tiny_graph, "TINY:0000002", "--relation", "is_a", "--direction", "out")
    assert [(row["head"], row["tail_name"]) for row in rows] == [("TINY:0000002", "Finding")]
    assert "Dry cough" in _run("query", "relations", tiny_graph, "OMIM:900001", "--excluded")
    assert "part_of" in _run("query", "path", tiny_graph, "TINY:0000006", "TINY:0000003")
    assert _json("query", "path", tiny_graph, "TINY:0000006", "TINY:0000003", "--max-length", "1") is None
    assert "no path of at most 1 steps" in _run(
        "query", "path", tiny_graph, "TINY:0000006", "TINY:0000003", "--max-length", "1"
    )
    assert [row["id"] for row in _json("query", "ancestors", tiny_graph, "TINY:0000003")] == [
        "TINY:0000002",
        "TINY:0000001",
    ]


def test_cypher_and_stats(tiny_graph):
    query = "MATCH (n:Concept {id: $id}) RETURN n.name AS name, $n AS n"
    assert _json("query", "cypher", tiny_graph, query, "-p", "id=TINY:0000002", "-p", "n=3") == [
        {"name": "Fever", "n": 3}
    ]
    assert "no rows" in _run("query", "cypher", tiny_graph, query, "-p", "id=none", "-p", "n=1")
    _run("query", "cypher", tiny_graph, query, "-p", "id", code=2)
    assert _json("query", "stats", tiny_graph)["relations"]["is_a"] == 7
    assert "relation is_a" in _run("query", "stats", tiny_graph)


@pytest.mark.parametrize(
    "command", [[], ["concept"], ["search"], ["relations"], ["path"], ["ancestors"], ["cypher"], ["stats"]]
)
def test_help_shows_an_example(command):
    text = _run("query", *command, "--help")
    assert "Example" in text or not command


def test_paths_and_pictures(tiny_graph, tmp_path):
    assert "part_of" in _run("query", "paths", tiny_graph, "TINY:0000006", "TINY:0000003")
    ranked = _json("query", "paths", tiny_graph, "TINY:0000006", "TINY:0000003", "-k", "1")
    assert len(ranked) == 1 and 0 < ranked[0]["score"] <= 1
    text = _run("query", "paths", tiny_graph, "TINY:0000006", "TINY:0000003", "--relation", "is_a", "--max-length", 1)
    assert "no path" in text
    assert str(tmp_path / "a.svg") in _run("query", "picture", tiny_graph, "TINY:0000002", "--out", tmp_path / "a.svg")
    assert (tmp_path / "a.svg").read_text().startswith("<svg")
