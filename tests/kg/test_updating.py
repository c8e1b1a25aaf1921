"""Updates: what a release drops stays known, what is reported is what changed, and nothing is ever half done."""

import json
import shutil

import pytest
from filelock import FileLock

import kg
from kg.snapshot import SCHEMAS, fingerprint, read_table
from kg.updating import update
from loaders import MedgraftError
from tests.conftest import TINY_SOURCES
from tests.loaders.test_rf2 import COLUMNS, CONCEPTS, DESCRIPTIONS, LANGUAGE, RELATIONSHIPS, concept, description

HEADER = "format-version: 1.2\nontology: x\n\n"


def _obo(path, *terms):
    """An ontology of terms, each an id and more lines."""
    path.parent.mkdir(exist_ok=True)
    stanzas = [
        f"[Term]\nid: X:{id}\nname: name {id}\n{''.join(line + chr(10) for line in more)}\n" for id, *more in terms
    ]
    path.write_text(HEADER + "".join(stanzas))
    return path


@pytest.fixture
def graph(tmp_path):
    source = _obo(tmp_path / "1" / "x.obo", [1], [2, "is_a: X:1"], [3, "alt_id: X:30", "is_a: X:2"], [4, "is_a: X:3"])
    kg.build(source, tmp_path / "graph")
    return tmp_path / "graph"


def _retired(graph):
    return {row["id"]: (row["successor"], row["reason"]) for row in read_table(graph, "retired").to_pylist()}


def test_what_is_gone_is_retired_and_chains_are_followed(graph, tmp_path):
    # 3 is merged into 2, 4 is gone without a word, 30 was merged into 3 by the earlier release
    second = _obo(tmp_path / "2" / "x.obo", [1], [2, "alt_id: X:3", "is_a: X:1"], [5, "is_a: X:2"])
    report = update(graph, second)
    assert (report.gone, report.carried) == (1, 1)
    assert report.changes.counts["concepts"] == {"added": 1, "removed": 0, "merged": 1, "deleted": 1, "changed": 0}
    retired = _retired(graph)
    assert retired["X:3"][0] == "X:2" and retired["X:30"][0] == "X:2"
    assert retired["X:4"] == (None, "gone from the release")
    with kg.connect(graph) as opened:
        assert opened.concept("X:30").id == "X:2"
        with pytest.raises(MedgraftError, match="retired without successor .gone from the release"):
            opened.concept("X:4")
    assert "X:4 name 4 (gone from the release)" in report.changes.report(limit=3) and "carried over" in str(report)
    # A third release has 4 again.
    third = _obo(tmp_path / "3" / "x.obo", [1], [2], [4])
    update(graph, third)
    retired = _retired(graph)
    assert retired["X:3"][0] == "X:2" and retired["X:30"][0] == "X:2" and retired["X:5"][0] is None
    assert "X:4" not in retired


def test_the_rest_is_as_a_clean_build(graph, tmp_path):
    second = _obo(tmp_path / "2" / "x.obo", [1], [2, "alt_id: X:3", "is_a: X:1"], [5, "is_a: X:2"])
    update(graph, second)
    kg.build(second, tmp_path / "clean")
    for name in SCHEMAS:
        if name != "retired":
            assert read_table(graph, name).equals(read_table(tmp_path / "clean", name))
    tables = {name: read_table(graph, name) for name in SCHEMAS}
    with kg.connect(graph) as opened:
        assert opened.fingerprint == fingerprint(tables)
    before = (graph / "manifest.json").read_text()
    again = update(graph, second)
    assert not again.changes and (graph / "manifest.json").read_text() == before


def test_the_report_lies_in_the_graph(graph, tmp_path):
    second = _obo(tmp_path / "2" / "x.obo", [1], [2], [3], [4], [5])
    report = update(graph, second)
    written = json.loads((graph / "update.json").read_text())
    assert written["counts"] == report.changes.counts and written["concepts"]["added"][0]["id"] == "X:5"
    assert str(tmp_path) not in (graph / "update.json").read_text()


def test_gone_ids_may_stay_unknown(graph, tmp_path):
    report = update(graph, _obo(tmp_path / "2" / "x.obo", [1], [2], [3]), retire_gone=False)
    assert report.gone == 0 and "X:4" not in _retired(graph) and report.changes.counts["concepts"]["removed"] == 1


def test_options_are_those_of_the_graph(tmp_path):
    source = _obo(tmp_path / "1" / "x.obo", [1, "xref: Y:1"], [2])
    other = tmp_path / "y.obo"
    other.write_text("format-version: 1.2\nontology: y\n\n[Term]\nid: Y:1\nname: y\n")
    kg.build([source, other], tmp_path / "graph", mappings="same_as")
    report = update(tmp_path / "graph", [_obo(tmp_path / "2" / "x.obo", [1, "xref: Y:1"], [2], [3]), other])
    assert report.build.counts["relations"] == {"same_as": 1}
    report = update(tmp_path / "graph", [source, other], mappings="keep")
    assert report.build.counts["relations"] == {}
    with pytest.raises(MedgraftError, match="treat mappings"):
        update(tmp_path / "graph", [source, other], mappings="no")


def test_a_part_that_is_missing_is_asked_for(tiny_graph, tmp_path):
    graph = tmp_path / "graph"
    kg.build(TINY_SOURCES, graph)
    before = (graph / "manifest.json").read_bytes()
    with pytest.raises(MedgraftError, match="also built from tiny.hpoa .hpoa."):
        update(graph, [TINY_SOURCES[0], TINY_SOURCES[2]])
    assert (graph / "manifest.json").read_bytes() == before
    assert not update(graph, TINY_SOURCES).changes
    assert update(graph, TINY_SOURCES[0], partial=True).gone > 0


def test_what_cannot_be_updated(graph, tmp_path):
    source = _obo(tmp_path / "2" / "x.obo", [1])
    with pytest.raises(MedgraftError, match="does not exist"):
        update(tmp_path / "none", source)
    assert not list(tmp_path.glob(".none*"))
    with pytest.raises(MedgraftError, match="no sources"):
        update(graph, [])
    with pytest.raises(MedgraftError, match="is a graph folder"):
        update(graph, shutil.copytree(graph, tmp_path / "copy"))
    bad = tmp_path / "bad.obo"
    bad.write_text(source.read_text() + "[Term]\nname: no id\n")
    before = (graph / "manifest.json").read_bytes()
    with pytest.raises(MedgraftError, match="bad.obo, line"):
        update(graph, bad)
    assert (graph / "manifest.json").read_bytes() == before
    assert update(graph, bad, skip_bad=True).gone == 3


def test_one_writer(graph, tmp_path):
    source = _obo(tmp_path / "2" / "x.obo", [1])
    with FileLock(tmp_path / ".graph.lock"), pytest.raises(MedgraftError, match="another process is writing"):
        update(graph, source)


# SNOMED CT


def _release(folder, kind, parts):
    folder.mkdir(parents=True)
    for (name, columns), rows in zip(COLUMNS.items(), parts, strict=True):
        lines = ["\t".join(columns.split()), *rows]
        (folder / f"{name.format(kind)}.txt").write_text("".join(line + "\r\n" for line in lines))
    return folder


@pytest.fixture
def snomed(tmp_path):
    kg.build(
        _release(tmp_path / "snapshot", "Snapshot", [CONCEPTS, DESCRIPTIONS, RELATIONSHIPS, LANGUAGE, []]),
        tmp_path / "graph",
    )
    return tmp_path / "graph"


@pytest.fixture
def delta(tmp_path):
    concepts = [concept(100002, active=0, time=20260101), concept(100009, time=20260101)]
    names = [description(200009, 100009, "Liver", time=20260101)]
    return _release(tmp_path / "delta", "Delta", [concepts, names, [], [], []])


def test_a_delta_is_laid_over_the_graph(snomed, delta, tmp_path):
    report = update(snomed, delta)
    counts = report.changes.counts["concepts"]
    assert (counts["added"], counts["deleted"]) == (1, 1) and report.gone == 0
    with kg.connect(snomed) as graph:
        assert graph.concept("SNOMEDCT:100009").name == "Liver"
        assert graph.manifest["options"] == {"mappings": "keep"}
    assert (snomed / "state" / "rf2_concept.parquet").is_file()
    before = (snomed / "manifest.json").read_text()
    assert not update(snomed, delta).changes and (snomed / "manifest.json").read_text() == before


def test_a_delta_over_a_graph_of_something_else(graph, delta):
    with pytest.raises(MedgraftError, match="holds no SNOMED CT release"):
        update(graph, delta)


def test_a_delta_needs_the_other_parts_of_the_graph_too(snomed, delta, tmp_path):
    other = _obo(tmp_path / "1" / "x.obo", [1])
    kg.build([tmp_path / "snapshot", other], snomed)
    with pytest.raises(MedgraftError, match="also built from x.obo"):
        update(snomed, delta)
    report = update(snomed, [delta, other])
    assert report.changes.counts["concepts"]["added"] == 1 and report.gone == 0
