"""`medgraft build`, as a user calls them."""

import json

import pytest
import typer
from typer.testing import CliRunner

import kg
from kg.cli import build
from loaders import MedgraftError
from tests.conftest import TINY_SOURCES

app = typer.Typer(pretty_exceptions_enable=False)
app.command("build")(build)
app.callback()(lambda: None)  # so that the name of the one command is asked for


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


def test_help_shows_an_example():
    assert "Example" in _run("build", "--help")
