"""The files for an offline import, taken in by the real tool and served by a real server."""

import json
import sys

import pytest

import kg
from kg.building import describe
from kg.neo4j_import import run_import, write_import_files
from kg.snapshot import SCHEMAS, fingerprint, read_manifest, read_table
from loaders import MedgraftError
from loaders.tables import Rows
from tests.conftest import Neo4jHome
from tests.kg.slow_graph import merged, write_snapshot_folder

ODD = ["", "NA", 'a "b"', "c, d", "line\nbreak", "\\", '\\"', "U+2028 \u2028", "é \U0001f600", "semi;colon", "'"]


def _odd_graph(folder, texts=ODD):
    """Texts that quoting, lists and nulls could harm, in every column."""
    rows = Rows()
    for i, text in enumerate(texts):
        id, types = f"A:{i}", ["T, 1"] * (i % 3 > 0)
        rows.add("concepts", id, f"n {text}", types, text if i % 2 else None, text.strip() or "s")
        for name in (f"n {text}", f"alias {text}", text):
            rows.add("names", id, name, "exact", "en", text, bool(i % 2))
        if i:
            relation, evidence = "may treat" if i % 2 else "is_a", json.dumps({"note": text}) * (i % 2)
            rows.add("triples", id, relation, "A:0", text.strip() or "s", evidence)
            rows.add("exclusions", "A:0", relation, id, "s", evidence)
        rows.add("attributes", id, "note", f"v{text}", "s")
    rows.add("retired", "A:99", None, "")
    rows.add("retired", "A:98", "A:1", "merged")
    tables, content = merged(rows.rest())
    return write_snapshot_folder(folder, tables, describe(content, []))


@pytest.mark.neo4j
@pytest.mark.slow
def test_an_import_equals_a_load(tmp_path, monkeypatch):
    graph = _odd_graph(tmp_path / "graph")
    home = Neo4jHome(_made(tmp_path / "home"))
    for name, value in {**home.environment, "NEO4J_USERNAME": "neo4j", "NEO4J_PASSWORD": home.password}.items():
        monkeypatch.setenv(name, value)
    files = write_import_files(graph, tmp_path / "files")
    run_import(files, home.admin)
    with home.running() as server:
        with pytest.raises(MedgraftError, match="imported offline"):
            kg.connect(server.uri)
        kg.build(graph, server.uri)
        with kg.connect(server.uri) as imported:
            for name in SCHEMAS:
                assert imported.table(name).to_pylist() == read_table(graph, name).to_pylist()
            assert fingerprint({name: imported.table(name) for name in SCHEMAS}) == read_manifest(graph)["fingerprint"]
            assert imported.search(ODD[6]).ids == ["A:6"]
            assert imported.cypher("MATCH (n:T_1) RETURN count(n) AS n")[0]["n"] > 0
            assert imported.cypher("MATCH ()-[r:MAY_TREAT]->() RETURN count(r) AS n")[0]["n"] > 0


def test_what_is_written(tmp_path):
    files = write_import_files(_odd_graph(tmp_path / "graph"), tmp_path / "a folder")
    header = (tmp_path / "a folder" / "Relation.header.csv").read_text()
    assert header == ":START_ID(Concept),:END_ID(Concept),relation:string,sources:string[],evidence:string[],:TYPE\n"
    assert files.rows["Concept"] == len(ODD) and "Mapping" not in files.rows
    assert "'--nodes=" in str(files) and "--multiline-fields=true" in files.command  # a path with a blank is quoted


def test_what_is_refused(tmp_path, monkeypatch):
    graph = _odd_graph(tmp_path / "graph")
    with pytest.raises(MedgraftError, match="no name for a database"):
        write_import_files(graph, tmp_path / "files", database="neo4j; rm")
    with pytest.raises(MedgraftError, match="lies in"):
        write_import_files(graph, tmp_path)
    separated = _odd_graph(tmp_path / "separated", ["a\x1fb"])
    with pytest.raises(MedgraftError, match="U\\+001F"):
        write_import_files(separated, tmp_path / "files")
    assert not (tmp_path / "files").exists()
    files = write_import_files(graph, tmp_path / "files")
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("NEO4J_HOME", raising=False)
    with pytest.raises(MedgraftError, match="no neo4j-admin here"):
        run_import(files)
    with pytest.raises(MedgraftError, match=r"ended with 3 .*an error"):
        run_import(files, [sys.executable, "-c", "import sys; print('an error'); sys.exit(3)"])


def _made(folder):
    folder.mkdir()
    return folder
