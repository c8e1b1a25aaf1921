"""Tasks trained together: each way of sharing, each model by itself afterwards, and what is refused."""

import inspect
import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fusion
from fusion.attention import Knowledge
from fusion.course import Course, as_in_training
from fusion.model import FusedModel
from fusion.sharing import SHARING
from kg import Linker
from lm.experts import GatedEncoder
from loaders.errors import MedgraftError
from loaders.records import Label
from tests.fusion.invented import invented_corpus, invented_names, invented_vectors
from tests.fusion.invented_questions import invented_questions
from tests.fusion.invented_relations import invented_pairs, invented_relation_corpus
from tests.fusion.test_cli import run

NAMES = invented_names(160)
GRAPH = invented_pairs(NAMES)
VECTORS = invented_vectors(GRAPH)
SIZES = (32, 8, 8)
NER = invented_corpus(NAMES, SIZES)


def labelled() -> fusion.Corpus:
    parts: dict[str, Any] = {}
    for name in ("train", "dev", "test"):
        documents = getattr(NER, name)
        parts[name] = tuple(replace(d, labels=(Label(d.mentions[0].type),), mentions=()) for d in documents)
    return fusion.Corpus("labelled", **parts)


CORPORA: dict[str, Any] = {
    "ner": NER,
    "relations": invented_relation_corpus(NAMES, SIZES),
    "classification": labelled(),
    "qa": invented_questions(NAMES, "label", SIZES),
}
SETTINGS: dict[str, Any] = {
    "epochs": 2, "batch_size": 8, "learning_rate": 1e-3, "new_learning_rate": 4e-3, "knowledge_learning_rate": 4e-3,
    "device": "cpu", "progress": False,
}  # fmt: skip


@pytest.fixture(scope="module")
def linker() -> Linker:
    return Linker.build(GRAPH)


def together(folder: Path, linker: Linker | None, *tasks: str, **given: Any) -> dict[str, FusedModel[Any]]:
    known = () if linker is None else (GRAPH, VECTORS, linker)
    corpora = {task: CORPORA[task] for task in tasks or CORPORA}
    return fusion.train_together(corpora, *known, encoder=folder, **{**SETTINGS, **given})


@pytest.mark.parametrize("sharing", SHARING)
def test_every_model_stands_by_itself_afterwards(sharing: str, folder: Path, linker: Linker, tmp_path: Path) -> None:
    weights = "uncertainty" if sharing in ("soft", "experts") else "gradient"
    models = together(folder, linker, sharing=sharing, loss_weights=weights, out=tmp_path / "m")
    assert list(models) == list(CORPORA)
    for task, model in models.items():
        again = fusion.load(tmp_path / "m" / task, device="cpu")
        test = CORPORA[task].test
        assert list(again.pipe(test)) == list(model.pipe(test))
        assert again.settings == model.settings and again.training == model.training
        assert again.training["sharing"] == sharing and task not in again.training["trained with"]
        assert 0 <= again.evaluate(test).f1 <= 1 and "dev f1" in again.scores
        assert (model.table is not None and model.table.facts is not None) == (task in ("relations", "qa"))
        assert again.explain(test[0]) is not None
    assert {p.name for p in (tmp_path).iterdir()} == {"m"}  # no checkpoint is left
    ner, qa = models["ner"], models["qa"]
    assert (ner.encoder is qa.encoder) == (sharing != "soft")
    assert (ner.attention is qa.attention) == (sharing in ("hard", "experts"))
    if sharing == "experts":
        first, second = ner.network.encoder, qa.network.encoder
        assert isinstance(first, GatedEncoder) and isinstance(second, GatedEncoder)
        assert first.experts is second.experts and bool(first.experts.up.detach().any())
        assert not torch.equal(first.gate.weight, second.gate.weight)


def test_a_shared_attention_drops_for_each_task_what_is_usual_there(folder: Path, linker: Linker) -> None:
    models = together(folder, linker, "ner", "relations", "qa", sharing="hard", epochs=1)
    with as_in_training(models["ner"], Course()), as_in_training(models["qa"], Course()):
        for task, share in (("ner", 0.3), ("qa", 0.5), ("ner", 0.3)):
            data = models[task].training_data(CORPORA[task].train[:2])
            models[task].network(data.collate(data.examples))
            assert models["ner"].attention is not None and models["ner"].attention.sentence_dropout == share
    # Alone, relations do without the attention; a shared one acts on them too, so they are trained with it.
    assert models["relations"].training["sentence dropout"] == 0.1
    private = together(folder, linker, "ner", "relations", epochs=1)
    assert private["relations"].training["sentence dropout"] == 1.0
    for task, trained in (("ner", True), ("relations", False)):
        layer = private[task].attention
        assert layer is not None and bool(layer.marks.weight.any()) == bool(layer.output.weight.any()) == trained


def test_the_kept_epoch_has_the_best_mean(folder: Path) -> None:
    from fusion import together as module

    heard: list[dict[str, float]] = []
    fit = module.fit

    def listen(*given: Any, **named: Any) -> Any:
        history = fit(*given, **named)
        heard.extend(epoch.scores for epoch in history.epochs)
        return history

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "fit", listen)
        models = together(folder, None, epochs=4)
    best = max(heard, key=lambda scores: scores["f1"])
    means = [np.mean([heard[0][f"{task} {key}"] for key in models[task].chosen_by]) for task in CORPORA]
    assert heard[0]["f1"] == pytest.approx(np.mean(means))
    for task, model in models.items():
        assert model.scores["dev f1"] == round(best[f"{task} f1"], 4)
        assert model.training["best epoch"] == heard.index(best)


def test_the_same_seed_gives_the_same_models_and_another_one_others(folder: Path) -> None:
    few = {"epochs": 1, "loss_weights": "uncertainty"}
    first, again, other = (
        together(folder, None, "ner", "qa", seed=seed, **few)["qa"].network.state_dict() for seed in (0, 0, 1)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_a_fusion_for_each_task_is_the_default_where_there_is_something_to_fuse(folder: Path, linker: Linker) -> None:
    fused, plain = (together(folder, known, "ner", "qa", epochs=1) for known in (linker, None))
    assert {model.training["sharing"] for model in fused.values()} == {"private-fusion"}
    assert fused["ner"].attention is not fused["qa"].attention and fused["ner"].encoder is fused["qa"].encoder
    assert {model.training["sharing"] for model in plain.values()} == {"hard"}


def test_one_task_and_several_have_the_same_defaults() -> None:
    alone = inspect.signature(fusion.train).parameters
    for field in fields(Course):
        assert alone[field.name].default == field.default, field.name


def test_a_strong_pull_keeps_the_encoders_together(folder: Path) -> None:
    def apart(pull: float) -> float:
        models = together(folder, None, "ner", "qa", sharing="soft", pull=pull, epochs=1)
        ner, qa = (dict(models[task].encoder.named_parameters()) for task in ("ner", "qa"))
        return float(sum((ner[name] - qa[name]).detach().square().sum() for name in ner))

    assert 0 < apart(10.0) < 0.5 * apart(0.0)


def test_frozen_blocks_computed_once_change_nothing(folder: Path, linker: Linker) -> None:
    few = {"epochs": 1, "frozen_blocks": 1, "sharing": "soft", "own": {"ner": {"max_pieces": 64, "batch_size": 4}}}
    once, anew = (together(folder, linker, "ner", "qa", cache_frozen=cached, **few) for cached in (True, False))
    for task in once:
        assert once[task].frozen_states is None
        for name, weight in anew[task].network.state_dict().items():
            torch.testing.assert_close(once[task].network.state_dict()[name], weight, atol=2e-4, rtol=1e-3)
    assert once["ner"].training["batch size"] == 4 and once["qa"].training["batch size"] == 8


def test_a_killed_training_goes_on_where_it_was(folder: Path, tmp_path: Path) -> None:
    few = ("ner", "classification")
    whole = together(folder, None, *few, epochs=3, loss_weights="gradient")

    class Killed(Exception):
        pass

    def stop(*_given: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise Killed
        return scores(*_given)

    calls: list[int] = []
    from fusion.tagging import TaggingModel

    scores = TaggingModel._predictor
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TaggingModel, "_predictor", stop)
        with pytest.raises(Killed):
            together(folder, None, *few, epochs=3, loss_weights="gradient", out=tmp_path / "m")
    assert [p.name[:12] for p in tmp_path.iterdir()] == [".m.training-"]
    resumed = together(folder, None, *few, epochs=3, loss_weights="gradient", out=tmp_path / "m")
    for task in few:
        for name, weight in whole[task].network.state_dict().items():
            assert torch.equal(resumed[task].network.state_dict()[name], weight), name


def test_what_cannot_be_trained_together_is_said(folder: Path, linker: Linker) -> None:
    some = {task: CORPORA[task] for task in ("ner", "classification")}
    empty = {**some, "ner": replace(NER, train=())}
    undeveloped = {**some, "ner": replace(NER, dev=())}
    strange = replace(NER.dev[0], labels=(Label("virus"),))
    unseen = {**some, "classification": replace(some["classification"], dev=(strange,))}
    cases: list[tuple[str, Any, dict[str, Any]]] = [
        ("two tasks or more", {"ner": NER}, {}),
        ("unknown task 'poetry'", {"ner": NER, "poetry": NER}, {}),
        ("not a corpus for qa", {"ner": NER, "qa": NER}, {}),
        ("nothing to train ner on", empty, {}),
        ("ner has no development part, but classification has", undeveloped, {}),
        ("'virus', which no training document has", unseen, {}),
        ("unknown sharing 'all'; choose hard, soft", some, {"sharing": "all"}),
        ("needs something to fuse", some, {"sharing": "private-fusion"}),
        ("unknown loss weights 'best'", some, {"loss_weights": "best"}),
        ("a layer that they share", some, {"sharing": "soft", "loss_weights": "gradient"}),
        ("temperature of sampling is above 0", some, {"sampling_temperature": 0}),
        ("two or more experts", some, {"sharing": "experts", "experts": 1}),
        ("epochs is the same for all tasks", some, {"own": {"ner": {"epochs": 3}}}),
        ("settings for 'qa', but no corpus", some, {"own": {"qa": {}}}),
    ]
    for needle, corpora, given in cases:
        with pytest.raises(MedgraftError, match=needle):
            fusion.train_together(corpora, encoder=folder, **{**SETTINGS, **given})
    with pytest.raises(TypeError, match="epoch"):
        fusion.train_together(some, encoder=folder, epoch=3)
    with pytest.raises(MedgraftError, match="graph and embeddings not given"):
        fusion.train_together(some, None, None, linker, encoder=folder)


def test_students_and_explanations_of_a_model_under_experts(folder: Path, linker: Linker) -> None:
    """What needs the inside of a model finds it under experts too."""
    teacher = together(folder, linker, "ner", "classification", sharing="experts", epochs=1)["ner"]
    given = {name: value for name, value in SETTINGS.items() if name != "knowledge_learning_rate"}
    student = fusion.distill(teacher, NER, NER.dev, link_weight=0.1, **{**given, "epochs": 1})
    assert not student.fused and student.settings.experts == 0
    with torch.inference_mode():
        teacher.network.encoder.experts.up.normal_()  # type: ignore[union-attr, operator]
        data = teacher.training_data(NER.train[:4])
        batch = data.collate(data.examples)
        fused, knowledge = teacher.fused_encoder, Knowledge.of(batch)
        assert fused is not None and knowledge is not None
        state = teacher.encoder.lower(batch, fused.after_block)
        whole = teacher.network.encoder(batch)  # type: ignore[operator]
        torch.testing.assert_close(teacher.upper(state, fused.knowledge(state.hidden, knowledge)), whole)
    assert teacher.explain(NER.test[0].text) is not None


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from loaders import write_pubtator

    with (tmp_path / "ner.txt").open("w") as file:
        write_pubtator([replace(d, id=str(n)) for n, d in enumerate(NER.train[:10])], file)
    rows = [{"id": q.id, "question": q.text, "context": q.context, "answer": q.answer} for q in CORPORA["qa"].train]
    (tmp_path / "qa.jsonl").write_text("\n".join(map(json.dumps, rows)))
    ner, qa = f"ner={tmp_path / 'ner.txt'}", f"qa={tmp_path / 'qa.jsonl'}"
    command = ["train-together", "--encoder", folder, "--out", tmp_path / "m", "--epochs", "1", "--device", "cpu"]
    command += ["--train", ner, "--train", qa, "--dev", ner]
    code, out, err = run(capsys, *command, "--dev", qa, "--frozen-blocks", "1", "--sharing", "experts", "--json")
    assert code == 0, err
    assert json.loads(out)["scores"]["qa"].keys() >= {"dev f1", "dev accuracy"}
    for task, path in (("ner", "ner.txt"), ("qa", "qa.jsonl")):
        code, out, err = run(capsys, "evaluate", tmp_path / "m" / task, tmp_path / path, "--json", "--draws", "100")
        assert code == 0 and "f1" in out, err
    for more, needle in (
        (["--dev", ner], "names ner twice"),
        ([], "qa has only one of --train and --dev"),
        (["--dev", "qa"], "write TASK=FILE"),
        (["--dev", qa, "--sharing", "half"], "unknown sharing 'half'"),
    ):
        code, _, err = run(capsys, *command, *more)
        assert code == 1 and needle in err and err.count("\n") == 1, err
