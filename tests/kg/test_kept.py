"""What is made on the way is made once, made again when its source changes, and never half-kept."""

import os
import shutil
from pathlib import Path

import pytest

import kg
from kg.kept import kept_embeddings, kept_linker
from loaders import MedgraftError
from tests.conftest import TINY, TINY_SOURCES


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one."""
    monkeypatch.setenv("MEDGRAFT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    """A folder of three files that are one graph, and one that is no dump."""
    folder = tmp_path / "release"
    folder.mkdir()
    for source in TINY_SOURCES:
        shutil.copy(source, folder)
    (folder / "LICENSE").write_text("take it\n")
    return folder


def manifests(cache: Path) -> list[Path]:
    return sorted(cache.glob("graphs/*/graph/manifest.json"))


def test_a_dump_is_the_graph_that_build_makes_of_it_and_built_once(
    dump: Path, tiny_graph: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with kg.connect(dump) as graph, kg.connect(tiny_graph) as built:
        assert graph.fingerprint == built.fingerprint
        assert graph.parents("TINY:0000003") == built.parents("TINY:0000003")
    said = capsys.readouterr()
    assert not said.out and "is no graph yet: it is built now" in said.err and "rows dropped" in said.err
    (made,) = manifests(cache)
    before = made.stat().st_mtime_ns
    with kg.connect(str(dump)) as graph:
        assert graph.fingerprint == built.fingerprint
    assert not capsys.readouterr().err and made.stat().st_mtime_ns == before


def test_a_file_and_an_archive_will_do(tmp_path: Path, cache: Path) -> None:
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", TINY, "tiny.obo")
    with kg.connect(TINY / "tiny.obo") as one, kg.connect(packed) as other:
        assert one.fingerprint == other.fingerprint
    assert len(manifests(cache)) == 2


def test_a_changed_dump_is_built_again_in_the_same_place(dump: Path, cache: Path) -> None:
    with kg.connect(dump) as graph:
        before = graph.fingerprint
    file = dump / "tiny.obo"
    file.write_text(file.read_text() + "\n[Term]\nid: TINY:9\nname: new in this release\n")
    with kg.connect(dump) as graph:
        assert graph.fingerprint != before and graph.concept("TINY:9").name == "new in this release"
    os.utime(dump / "tiny.hpoa", ns=(1, 1))
    (made,) = manifests(cache)
    before_touch = made.stat().st_mtime_ns
    kg.connect(dump).close()
    assert made.stat().st_mtime_ns != before_touch


def test_two_releases_are_compared_as_they_are(dump: Path, tiny_graph: Path, cache: Path) -> None:
    assert not kg.diff(dump, tiny_graph)
    assert kg.diff(TINY / "tiny.obo", dump)
    assert len(manifests(cache)) == 2


def test_a_malformed_dump_leaves_nothing(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "bad.obo").write_text("format-version: 1.2\n\n[Term]\nid: A:1\nname: one\nis_a\n")
    for _ in range(2):
        with pytest.raises(MedgraftError, match=r"bad\.obo, line 6: "):
            kg.connect(tmp_path / "bad.obo")
    assert not manifests(cache)


def test_what_is_no_dump_is_refused(tmp_path: Path, dump: Path, cache: Path) -> None:
    (tmp_path / "notes.txt").write_text("She has a fever.\n")
    with pytest.raises(MedgraftError, match="is a file, not a graph folder"):
        kg.connect(tmp_path / "notes.txt")
    with pytest.raises(MedgraftError, match="is not a graph folder"):
        kg.connect(dump.parent)  # the dump is in a folder below it, and who knows what else
    with pytest.raises(MedgraftError, match="does not exist"):
        kg.connect(tmp_path / "absent.obo")
    assert not cache.exists()


def test_embeddings_and_linker_are_kept_by_the_graph(
    tiny_graph: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with kg.connect(tiny_graph) as graph:
        made = kept_embeddings(graph, device="cpu"), kept_linker(graph)
        assert capsys.readouterr().err.count("kept in") == 2
        again = kept_embeddings(graph, device="cpu"), kept_linker(graph)
        assert not capsys.readouterr().err
        assert (made[0].vectors == again[0].vectors).all() and made[0].fingerprint == graph.fingerprint
        assert (
            made[1]("Dry cough and fever.")
            == again[1]("Dry cough and fever.")
            == kg.Linker.build(graph)("Dry cough and fever.")
        )
        for damaged in ("embeddings/*/settings.json", "linkers/*/linker.json"):
            (file,) = cache.glob(damaged)
            file.write_text("{")
        assert (kept_embeddings(graph, device="cpu").vectors == made[0].vectors).all()
        assert kept_linker(graph)("Fever.").mentions == made[1]("Fever.").mentions


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MEDGRAFT_CACHE", str(tmp_path / "file"))
    with pytest.raises(MedgraftError, match="cannot write to"):
        kg.connect(TINY / "tiny.obo")
