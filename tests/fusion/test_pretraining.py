"""medgraft pretrain: texts of every format in, an encoder out that training takes; concepts; clear errors."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import fusion
import kg
from lm.encoder import Encoder
from loaders.errors import MedgraftError
from loaders.texts import read_texts
from tests.fusion.test_cli import PUBTATOR, run
from tests.loaders.test_labelled import noteevents


@pytest.fixture
def texts(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "plain.txt", tmp_path / "lines.jsonl", tmp_path / "corpus.txt"]
    paths[0].write_text("\n\n".join(f"High fever number {n}\nand a dry cough in the child." for n in range(30)))
    paths[1].write_text("\n".join(json.dumps({"text": f"A child with fever and cough {n}."}) for n in range(30)))
    paths[2].write_text(PUBTATOR)
    return [*paths, noteevents(tmp_path / "NOTEEVENTS.csv.gz")]


def test_texts_of_every_format_by_kind(texts: list[Path]) -> None:
    kinds: dict[str, int] = {}
    for kind, document in read_texts(texts):
        kinds[kind] = kinds.get(kind, 0) + 1
        assert document.text.strip()
    assert kinds == {
        "plain": 30, "lines": 30, "corpus": 4, "Discharge summary": 14, "Nursing": 12, "Radiology": 12
    }  # fmt: skip


def test_from_scratch_and_on_to_training(
    texts: list[Path], tiny_graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "encoder"
    command = ["pretrain", *texts, "--out", out, "--vocabulary", "200", "--hidden-size", "32", "--blocks", "2"]
    command += ["--epochs", "6", "--learning-rate", "3e-3", "--max-pieces", "48", "--holdout", "0.3", "--device", "cpu"]
    code, said, _ = run(capsys, *command, "--json")
    report = json.loads(said)
    assert code == 0 and {"plain", "Nursing"} <= report["perplexity"].keys()
    assert all(d["ours"] < d["theirs"] for d in report["perplexity"].values())
    assert not list(tmp_path.glob(".encoder*"))
    (tmp_path / "train.txt").write_text(PUBTATOR)
    code, _, _ = run(
        capsys, "train", "ner", "--train", tmp_path / "train.txt", "--dev", tmp_path / "train.txt", "--encoder", out,
        "--out", tmp_path / "model", "--epochs", "1", "--device", "cpu",
    )  # fmt: skip
    assert code == 0
    # Going on from it takes up the output layer where it was.
    more = fusion.pretrain(texts[:2], tmp_path / "more", encoder=out, max_pieces=48, holdout=0.3, progress=False)
    assert more.head == "trained before" and "head trained before" in str(more)


def test_concepts_are_masked_and_predicted(
    texts: list[Path], tiny_graph: Path, encoder_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    with kg.connect(tiny_graph) as graph:
        linker = kg.Linker.build(graph)
        embeddings = kg.train_embeddings(graph, dim=8, epochs=1, device="cpu")
    settings = {"encoder": encoder_folder("bert"), "holdout": 0.3, "progress": False, "device": "cpu"}
    report = fusion.pretrain(
        texts[:2], tmp_path / "out", masking="concept", linker=linker, embeddings=embeddings, next_segments=False,
        max_pieces=48, epochs=2, **settings,
    )  # fmt: skip
    assert report.steps > 0 and Encoder.load(tmp_path / "out").num_blocks == 2
    (tmp_path / "none.txt").write_text("\n\n".join(f"nothing of note {n} here" for n in range(20)))
    (tmp_path / "empty.txt").write_text("")
    for call, needle in (
        (lambda: fusion.pretrain(texts, tmp_path / "x", masking="concept", **settings), "need a linker"),
        (lambda: fusion.pretrain([tmp_path / "none.txt"], tmp_path / "x", masking="concept", linker=linker, **settings),
         "found no concept"),
        (lambda: fusion.pretrain([tmp_path / "empty.txt"], tmp_path / "x", **settings), "it is empty"),
        (lambda: fusion.pretrain(texts, tmp_path / "x", **{**settings, "holdout": 2}), "between 0 and 1"),
        (lambda: fusion.pretrain([tmp_path / "no.txt"], tmp_path / "x", **settings), "no such file"),
    ):  # fmt: skip
        with pytest.raises(MedgraftError, match=needle):
            call()
        assert not (tmp_path / "x").exists()
