"""`medgraft build`, `update`, `diff` and `export`, as a user calls them."""

import json

import pytest
import typer
from typer.testing import CliRunner

import kg
from kg.cli import build, diff, export, update
from loaders import MedgraftError
from tests.conftest import TINY_SOURCES

app = typer.Typer(pretty_exceptions_enable=False)
app.command("build")(build)
app.command("update")(update)
app.command("diff")(diff)
app.command("export")(export)


def _run(*arguments, code=0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.stdout


def _json(*arguments):
    return json.loads(_run(*arguments, "--json"))


def test_build(tmp_path):
    text = _run("build", *TINY_SOURCES, "--to", tmp_path / "graph")
    assert "tiny.obo (tiny/releases/2024-01-01)" in text and "obsolete term" in text
    report = _json("build", *TINY_SOURCES, "--to", tmp_path / "graph")
    assert report["counts"]["triples"] == 14 and report["fingerprint"] == kg.connect(tmp_path / "graph").fingerprint


def test_build_with_a_bad_row(tmp_path):
    bad = tmp_path / "bad.obo"
    bad.write_text(TINY_SOURCES[0].read_text() + "\n[Term]\nname: without id\n")
    with pytest.raises(MedgraftError, match="bad.obo, line"):
        CliRunner().invoke(app, ["build", str(bad), "--to", str(tmp_path / "graph")], catch_exceptions=False)
    assert not (tmp_path / "graph").exists()
    report = _json("build", bad, "--to", tmp_path / "graph", "--skip-bad")
    assert sum(report["inputs"][0]["dropped"].values()) == 4


@pytest.fixture
def newer(tmp_path):
    """The sources of the tiny graph, one concept renamed and one new."""
    text = TINY_SOURCES[0].read_text().replace("name: Fever\n", "name: High temperature\n", 1)
    path = tmp_path / "new" / "tiny.obo"
    path.parent.mkdir()
    path.write_text(f"{text}\n[Term]\nid: TINY:0000099\nname: New\nis_a: TINY:0000001 ! Finding\n")
    return [path, *TINY_SOURCES[1:]]


def test_update(tmp_path, newer):
    _run("build", *TINY_SOURCES, "--to", tmp_path / "graph")
    text = _run("update", tmp_path / "graph", *newer, "--limit", 3)
    assert "TINY:0000099 New" in text and "TINY:0000002 High temperature: name" in text and "tiny.obo" in text
    again = _json("update", tmp_path / "graph", *newer)
    assert again["counts"]["concepts"]["added"] == 0 and "concepts" not in again
    with pytest.raises(MedgraftError, match="built from tiny_genes.txt"):
        CliRunner().invoke(app, ["update", str(tmp_path / "graph"), *map(str, newer[:2])], catch_exceptions=False)
    report = _json("update", tmp_path / "graph", *newer[:2], "--partial", "--forget-gone")
    assert report["gone"] == 0 and report["counts"]["concepts"]["removed"] > 0


def test_diff(tmp_path, tiny_graph, newer):
    _run("build", *newer, "--to", tmp_path / "graph")
    text = _run("diff", tiny_graph, tmp_path / "graph")
    assert "added concepts\n  TINY:0000099 New" in text and "TINY:0000099 is_a TINY:0000001" in text
    assert "TINY:0000099" not in _run("diff", tiny_graph, tmp_path / "graph", "--limit", 0)
    found = _json("diff", tiny_graph, tmp_path / "graph")
    assert found["counts"]["concepts"]["changed"] == 1 and found["triples"]["added"][0]["head"] == "TINY:0000099"
    _run("diff", tiny_graph, tmp_path / "graph", "--exit-code", code=1)
    assert "no difference" in _run("diff", tiny_graph, tiny_graph, "--exit-code")


@pytest.mark.parametrize("command", ["build", "update", "diff"])
def test_help_shows_an_example(command):
    assert "Example" in _run(command, "--help")


def test_export(tiny_graph, tmp_path):
    assert "edges.tsv" in _run("export", tiny_graph, "--out", tmp_path / "kgx")
    assert _json("export", tiny_graph, "--out", tmp_path / "ml", "--format", "graphml")["rows"]["edges"] == 14
    text = _run("export", tiny_graph, "--out", tmp_path / "import", "--format", "neo4j-admin")
    assert "neo4j-admin database import full neo4j --nodes=" in text
    _run("export", tiny_graph, "--out", tmp_path / "x", "--format", "dot", code=2)
