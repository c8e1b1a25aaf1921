"""The quickstart on a small invented ontology: every stage, the report, reuse, going on after an interruption."""

import json
from pathlib import Path
from typing import Any

import pytest

from fusion import corpora, quickstart
from fusion.quickstart import print_summary, run_quickstart

SETTINGS = {
    "embedding": {"dim": 8, "epochs": 2, "holdout": 3},
    "ner": {"train": 12, "dev": 4, "epochs": 1, "batch_size": 4, "learning_rate": 1e-4},
}
ORGANS = ("liver", "spleen", "femur", "retina", "kidney", "thymus", "larynx", "pancreas", "cornea", "colon")
TROUBLES = ("swelling", "atrophy", "hypoplasia", "inflammation")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """An OBO file of 40 findings in 10 groups with definitions, and annotations of 5 diseases."""
    folder = tmp_path_factory.mktemp("sources")
    lines, rows = ["format-version: 1.4", "ontology: toy", ""], []
    for o, organ in enumerate(ORGANS):
        lines += ["[Term]", f"id: TOY:1{o:03}", f"name: disorder of the {organ}", ""]
        for t, trouble in enumerate(TROUBLES):
            number = o * 4 + t
            lines += ["[Term]", f"id: TOY:{number:04}", f"name: {organ} {trouble}"]
            lines += [f'def: "A disorder of the {organ} with {trouble}, seldom {ORGANS[o - 1]} {trouble}." [toy:1]']
            lines += [f'synonym: "{trouble} of {organ}" EXACT []', f"is_a: TOY:1{o:03}", ""]
            rows.append(f"OMIM:{number % 5}\tDisease {number % 5}\t\tTOY:{number:04}\tPMID:1\tPCS\t\t1/2\t\t\tP\ta")
    head = (
        "database_id disease_name qualifier hpo_id reference evidence onset frequency sex modifier aspect biocuration"
    )
    (folder / "toy.obo").write_text("\n".join(lines) + "\n")
    (folder / "toy.hpoa").write_text("#version: 1\n" + "\t".join(head.split()) + "\n" + "\n".join(rows) + "\n")
    return [folder / "toy.obo", folder / "toy.hpoa"]


@pytest.fixture
def no_corpora(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(corpora.DATA_VARIABLE, str(tmp_path / "nothing"))
    monkeypatch.setenv("MEDGRAFT_CACHE", str(tmp_path / "cache"))


@pytest.mark.usefixtures("no_corpora")
def test_the_whole_run_without_corpora_is_marked_silver_and_reused(
    sources: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def run() -> dict[str, Any]:
        return run_quickstart(
            tmp_path / "run", ask=lambda q: bool(asked.append(q)), device="cpu", sources=sources, settings=SETTINGS
        )

    # Cut off in the middle: what is finished stays finished.
    train = quickstart._train

    def stop_at_fused(*given: Any) -> dict[str, Any]:
        if given[1]:
            raise KeyboardInterrupt
        return train(*given)

    monkeypatch.setattr(quickstart, "_train", stop_at_fused)
    with pytest.raises(KeyboardInterrupt):
        run()
    plain = (tmp_path / "run" / "plain" / "medgraft.json").stat().st_mtime_ns
    monkeypatch.undo()
    monkeypatch.setenv(corpora.DATA_VARIABLE, str(tmp_path / "nothing"))
    monkeypatch.setenv("MEDGRAFT_CACHE", str(tmp_path / "cache"))
    assert len(asked) == 2 and "Download" in asked[0]

    report = run()
    assert report["reused"] == ["graph", "embeddings", "linking", "ner plain"]
    assert (tmp_path / "run" / "plain" / "medgraft.json").stat().st_mtime_ns == plain
    written = json.loads((tmp_path / "run" / "report.json").read_text())
    assert {"graph", "embeddings", "linking", "ner", "seconds"} <= written.keys()
    assert written["seconds"].keys() == {"graph", "embeddings", "linking", "ner", "predictions", "queries"}
    assert written["graph"]["concepts"] == 55 and written["graph"]["triples"] == 80
    assert written["linking"]["silver"] and written["linking"]["held_out_aliases"] >= 1
    assert corpora.DATA_VARIABLE in written["linking"]["note"]
    ner = written["ner"]
    assert ner["silver"] and ner["training"]["train"] == 12
    assert {"precision", "recall", "f1"} <= ner["plain"].keys() & ner["fused"].keys()
    print_summary(report, tmp_path / "run")
    shown = capsys.readouterr().out
    assert shown.count("SILVER") == 2

    assert run()["reused"] == ["graph", "embeddings", "linking", "ner", "predictions", "queries"]


def test_gold_corpora_are_scored_on_their_test_split(
    sources: list[Path], tmp_path: Path, data: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    data("text/bc5cdr/CDR_TestSet.PubTator.txt")
    data("text/gsc_plus/GSCplus_test_gold.tsv")
    monkeypatch.setattr(quickstart, "ROOT", "TOY:1000")
    settings = {**SETTINGS, "ner": {**SETTINGS["ner"], "train": 4, "dev": 2, "test": 2}}
    report = run_quickstart(tmp_path / "run", device="cpu", sources=sources, settings=settings)
    assert not report["linking"]["silver"] and report["linking"]["documents"] == 206
    assert not report["ner"]["silver"] and report["ner"]["test_documents"] == 2
    assert {"Chemical", "Disease"} == report["ner"]["plain"]["by_type"].keys()
