"""Fused text classification: labels that only a fact decides, several labels, long texts, evaluation, bad input."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fusion
from fusion.classification import ClassificationModel
from fusion.evaluation import compare_models, measure
from fusion.label_corpora import load_labelled
from kg import Linker
from loaders.errors import MedgraftError
from loaders.records import Concept, Document, Label
from tests.fusion.invented import invented_graph, invented_names, invented_vectors
from tests.fusion.test_cli import run

NAMES = invented_names(320)
GRAPH = invented_graph(NAMES)
TYPES = [["Thing"], *([["Drug"], ["Disease"]] * (len(NAMES) // 2))]
CONCEPTS = GRAPH.tables["concepts"]
GRAPH.tables["concepts"] = CONCEPTS.set_column(CONCEPTS.column_names.index("types"), "types", [TYPES])
VECTORS = invented_vectors(GRAPH)
VECTORS.vectors[:] = 1  # nothing to memorise: only types and facts differ
SETTINGS: dict[str, Any] = {"epochs": 6, "batch_size": 8, "learning_rate": 1e-3, "new_learning_rate": 4e-3}
SETTINGS |= {"frozen_blocks": 2, "cache_frozen": True}  # names cannot be learnt by heart
SETTINGS |= {"knowledge_learning_rate": 4e-3, "device": "cpu", "progress": False}


def corpus(sizes: tuple[int, int, int], several: bool = False) -> fusion.Corpus:
    """A text is about a drug if its concept is of that type in the graph; names of the parts are disjoint."""
    generator = np.random.default_rng(5)
    borders = (0, 160, 240, 320)
    parts = []
    for part, size in enumerate(sizes):
        pool = range(borders[part], borders[part + 1])
        documents = []
        for number in range(size):
            chosen = [int(n) for n in generator.choice(list(pool), 2 if several else 1, replace=False)]
            labels = sorted({"drug" if n % 2 == 0 else "disease" for n in chosen})
            text = f"{' and '.join(NAMES[n] for n in chosen)} ."
            documents.append(Document(f"{part}-{number}", text, labels=tuple(map(Label, labels))))
        parts.append(tuple(documents))
    return fusion.Corpus("invented", *parts)


ONE = corpus((240, 40, 80))


@pytest.fixture(scope="module")
def linker() -> Linker:
    return Linker.build(GRAPH)


@pytest.fixture(scope="module")
def models(
    encoder_folder: Callable[[str], Path], linker: Linker, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("models")
    encoder = encoder_folder("bert")
    fusion.train("classification", ONE, GRAPH, VECTORS, linker, encoder=encoder, out=folder / "fused", **SETTINGS)
    fusion.train("classification", ONE, encoder=encoder, out=folder / "plain", **{**SETTINGS, "epochs": 2})
    return folder / "fused", folder / "plain"


def test_only_the_graph_decides(models: tuple[Path, Path]) -> None:
    fused, plain = map(fusion.load, models)
    assert isinstance(fused, ClassificationModel)
    assert fused.evaluate(ONE.test).f1 >= 0.95
    assert plain.evaluate(ONE.test).f1 < 0.75
    compared = compare_models(fused, plain, ONE.test, draws=500)
    assert compared.differences["accuracy"].p < 0.01 and compared.differences["accuracy"].low > 0.1
    found = measure(fused, ONE.test, draws=300)
    low, high = found.intervals["accuracy"]
    assert low <= found.values["accuracy"] <= high and "calibration_error" in found.values and str(found)
    (explanation,) = fused.explain(ONE.test[0])
    name = ONE.test[0].text.split()[0]
    assert isinstance(explanation.effects[0].taken, Concept) and explanation.effects[0].taken.name == name
    assert explanation.without_graph.probability < explanation.probability and name in explanation.describe()


def test_several_labels_and_long_texts(encoder_folder: Callable[[str], Path], linker: Linker, tmp_path: Path) -> None:
    several = corpus((200, 60, 60), several=True)
    long = [replace(d, text=d.text + " the ward" * 60 + " .") for d in several.test[:4]]
    model = fusion.train(
        "classification", several, GRAPH, VECTORS, linker, encoder=encoder_folder("bert"), max_pieces=64,
        out=tmp_path / "m", **SETTINGS,
    )  # fmt: skip
    assert model.settings.kind == "several" and model.evaluate(several.test).f1 > 0.8
    loaded = fusion.load(tmp_path / "m")
    assert list(loaded.pipe(several.test)) == list(model.pipe(several.test))
    assert loaded.settings == model.settings
    together, alone = list(loaded.pipe(long)), [loaded(d) for d in long]
    assert together == alone and all(0 <= label.score <= 1 for d in together for label in d.labels if label.score)
    assert fusion.reliability(loaded, several.test).predictions > 0


def test_the_commands(models: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gold = tmp_path / "test.jsonl"
    rows = [{"id": d.id, "text": d.text, "labels": [label.name for label in d.labels]} for d in ONE.test]
    gold.write_text("\n".join(map(json.dumps, rows)))
    code, out, _ = run(capsys, "evaluate", models[0], gold, "--json")
    assert code == 0 and {"accuracy", "macro_f1", "macro_recall", "intervals"} <= json.loads(out).keys()
    code, out, _ = run(capsys, "evaluate", models[0], gold, "--against", models[1], "--draws", "200")
    assert code == 0 and "95 % interval" in out and "macro_f1" in out
    code, out, _ = run(capsys, "annotate", models[0], NAMES[250] + " .")
    assert code == 0 and out.startswith("drug (")
    code, out, _ = run(capsys, "explain", models[0], NAMES[250] + " .")
    assert code == 0 and "without the graph" in out
    (tmp_path / "unseen.jsonl").write_text(json.dumps({"text": "x", "label": "virus"}))
    (tmp_path / "same.jsonl").write_text("\n".join([json.dumps({"text": "x", "label": "drug"})] * 1))
    train = ["train", "classification", "--encoder", "x", "--out", tmp_path / "out", "--dev"]
    for arguments, needle in (
        (["evaluate", models[0], tmp_path / "unseen.jsonl"], "'virus', which no training document has"),
        ([*train, tmp_path / "unseen.jsonl", "--train", gold], "'virus', which no training document has"),
        ([*train, gold, "--train", tmp_path / "same.jsonl"], "nothing to tell apart"),
    ):
        code, _, err = run(capsys, *arguments)
        assert code == 1 and needle in err and err.count("\n") == 1, err


def test_models_of_two_tasks_are_not_compared(models: tuple[Path, Path]) -> None:
    fused, plain = map(fusion.load, models)
    plain.settings = replace(plain.settings, types=("a", "b"))
    with pytest.raises(MedgraftError, match="models of one task"):
        compare_models(fused, plain, ONE.test)


def test_our_splits_share_no_text() -> None:
    for name in ("medical_abstracts", "mts_dialog", "mts_dialog_2"):
        found = load_labelled(name)
        if found is None:
            pytest.skip("the real data are absent")
        texts = [{d.text for d in part} for part in (found.train, found.dev, found.test)]
        assert not texts[0] & texts[1] and not texts[0] & texts[2] and not texts[1] & texts[2]
    with pytest.raises(MedgraftError, match="unknown corpus"):
        load_labelled("nothing")
