"""Export: every task runs by onnxruntime as by torch, int8 is smaller, and what cannot be exported is said."""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import fusion
from kg import Linker
from lm.alignment import collate, windows
from lm.encoder import Encoder
from lm.exporting import OnnxEncoder, export_onnx
from loaders import write_pubtator
from loaders.errors import MedgraftError
from tests.encoders import SENTENCES
from tests.fusion.invented import invented_corpus, invented_graph, invented_names, invented_vectors
from tests.fusion.test_cli import run

pytest.importorskip("onnxscript", reason="the extra onnx is not installed")

NAMES = invented_names(40)
CORPUS = invented_corpus(NAMES, (30, 10, 10))
SETTINGS: dict[str, Any] = {"epochs": 2, "learning_rate": 2e-3, "device": "cpu", "progress": False}


@pytest.mark.parametrize("shape", ("roberta", "distilbert"))
def test_hidden_states_of_every_shape_are_those_of_torch(
    shape: str, encoder_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    encoder = Encoder.load(encoder_folder(shape))
    (tmp_path / "out").mkdir()
    exported = export_onnx(encoder, tmp_path / "out")
    assert (exported.hidden_size, exported.max_pieces) == (encoder.hidden_size, encoder.max_pieces)
    for texts in (SENTENCES, SENTENCES[:1], ["a"]):
        made = windows(texts, encoder)
        batch = collate(made, encoder)
        there = batch["attention_mask"].bool()
        with torch.inference_mode():
            torch.testing.assert_close(exported(batch)[there], encoder(batch)[there], atol=1e-4, rtol=1e-3)
        assert [w.input_ids.tolist() for w in windows(texts, exported)] == [w.input_ids.tolist() for w in made]


def test_an_exported_model_loads_and_finds_the_same(
    encoder_folder: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = fusion.train("ner", CORPUS, encoder=encoder_folder("bert"), out=tmp_path / "plain", **SETTINGS)
    report = fusion.export_model(model, tmp_path / "onnx", gold=CORPUS.test, rounds=2, draws=100)
    assert report.speed is not None and report.scores is not None and report.scores.differences["f1"].difference == 0
    loaded = fusion.load(tmp_path / "onnx", device="cpu")
    assert isinstance(loaded.encoder, OnnxEncoder) and "onnxruntime" in (tmp_path / "onnx" / "README.md").read_text()
    for ours, theirs in zip(loaded.pipe(CORPUS.test), model.pipe(CORPUS.test), strict=True):
        assert ours.mentions == theirs.mentions
    loaded.save(tmp_path / "again")
    assert list(fusion.load(tmp_path / "again").pipe(["a b c"])) == list(model.pipe(["a b c"]))
    with (tmp_path / "test.txt").open("w") as file:
        write_pubtator([replace(d, id=str(n)) for n, d in enumerate(CORPUS.test)], file)
    code, said, err = run(
        capsys, "export-model", tmp_path / "plain", "--int8", "--out", tmp_path / "int8", "--test",
        tmp_path / "test.txt", "--json",
    )  # fmt: skip
    shown = json.loads(said)
    assert code == 0 and shown["megabytes"] <= report.megabytes and {"f1", "speed"} <= shown.keys(), err
    # Most of this small file is no weights; of MiniLM's a quarter is left.
    assert (tmp_path / "int8" / "model.onnx").stat().st_size < 0.8 * (tmp_path / "onnx" / "model.onnx").stat().st_size
    code, said, _ = run(capsys, "evaluate", tmp_path / "int8", tmp_path / "test.txt", "--json")
    assert code == 0 and "f1" in json.loads(said)


def test_what_cannot_be_exported_or_trained_is_said(
    encoder_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = invented_graph(NAMES)
    given = (graph, invented_vectors(graph), Linker.build(graph))
    fused = fusion.train("ner", CORPUS, *given, encoder=encoder_folder("bert"), **{**SETTINGS, "epochs": 1})
    with pytest.raises(MedgraftError, match="distil a student"):
        fusion.export_model(fused, tmp_path / "no")
    student = fusion.distill(fused, CORPUS, **{**SETTINGS, "epochs": 1})
    fusion.export_model(student, tmp_path / "onnx")
    exported = fusion.load(tmp_path / "onnx")
    with pytest.raises(MedgraftError, match="cannot be trained"):
        fusion.distill(exported, CORPUS, **SETTINGS)
    (tmp_path / "onnx" / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(MedgraftError, match="export it again"):
        fusion.load(tmp_path / "onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MedgraftError, match="pip install"):
        fusion.load(tmp_path / "onnx")
    with pytest.raises(MedgraftError, match="pip install"):
        fusion.export_model(student, tmp_path / "no")
    assert not (tmp_path / "no").exists()
