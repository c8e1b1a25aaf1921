"""The loop: same result killed or not, in one process or two, with an idle extra layer or without."""

import json
import math
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from lm.alignment import collate as collate_windows
from lm.alignment import windows
from lm.encoder import Encoder
from lm.evaluation import evaluate_mentions
from lm.tagging import Tagger, TagScheme, predict, tag_documents
from lm.training import _batches, _Plan, fit, isolated_seed
from loaders.errors import MedgraftError
from loaders.records import Document, Mention

PROGRAM = Path(__file__).with_name("training_run.py")
sys.path.insert(0, str(PROGRAM.parent))
from training_run import Model, Output, collate, examples, run  # noqa: E402

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}


def start(*arguments: object, **environment: str) -> "subprocess.Popen[str]":
    command = [sys.executable, str(PROGRAM), *map(str, arguments)]
    return subprocess.Popen(command, env=ENVIRONMENT | environment, stderr=subprocess.PIPE, text=True)


def start_two(*arguments: object) -> None:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = str(found.getsockname()[1])
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    pair = [start(*arguments, RANK=rank, LOCAL_RANK=rank, **shared) for rank in "01"]
    errors = [process.communicate(timeout=300)[1] for process in pair]
    assert [process.returncode for process in pair] == [0, 0], errors[0][-2000:] + errors[1][-2000:]


def same_weights(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def plan(**changes: object) -> _Plan:
    base = _Plan(1, 4, {"": 1e-3}, 0.0, 0.0, 1.0, 1, "no", 0, None, ["f1"], "", "")
    return replace(base, **changes)  # type: ignore[arg-type]


def test_a_killed_run_resumes_to_the_same_weights(tmp_path: Path) -> None:
    killed = start(tmp_path / "out", "--folder", tmp_path / "run", "--die-at", 15)
    model = Model()
    history = run(model)
    killed.communicate(timeout=300)
    assert killed.returncode == 9 and not (tmp_path / "out").exists()
    state = json.loads((tmp_path / "run" / "latest" / "state.json").read_text())["progress"]
    assert state["epoch"] == 1 and state["step_in_epoch"] > 0  # in mid-epoch
    again = Model()
    resumed = run(again, str(tmp_path / "run"))
    assert same_weights(model.state_dict(), again.state_dict())
    assert (resumed.losses, resumed.epochs, resumed.best_epoch) == (history.losses, history.epochs, history.best_epoch)


def test_a_run_that_ended_is_not_run_again(tmp_path: Path) -> None:
    model, again = Model(), Model()
    run(model, str(tmp_path / "run"))
    history = run(again, str(tmp_path / "run"), die_at=1)
    assert same_weights(model.state_dict(), again.state_dict()) and len(history.epochs) == 3


def test_checkpoints_hold_no_pickles(tmp_path: Path) -> None:
    run(Model(), str(tmp_path / "run"), epochs=1)
    files = {file.suffix for file in (tmp_path / "run").rglob("*") if file.is_file()}
    assert files == {".safetensors", ".json"}


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    run(Model(), str(tmp_path / "run"), epochs=1)
    with pytest.raises(MedgraftError, match="other epochs; choose another folder"):
        run(Model(), str(tmp_path / "run"), epochs=2)


def test_two_processes_train_like_one(tmp_path: Path) -> None:
    start_two(tmp_path, "--dropout", 0, "--accumulation", 2)
    model = Model(dropout=0)
    history = run(model, accumulation=2)
    np.testing.assert_allclose(json.loads((tmp_path / "losses.json").read_text()), history.losses, rtol=1e-5)
    for name, weight in load_file(tmp_path / "weights.safetensors").items():
        torch.testing.assert_close(weight, model.state_dict()[name], rtol=1e-4, atol=1e-5)


def test_accumulation_is_one_larger_batch() -> None:
    def train(batch_size: int, accumulation: int) -> tuple[list[float], dict[str, Tensor]]:
        model = Model(dropout=0)
        same_length = [word for word in examples() if len(word) == 9][:8]
        history = fit(
            model, same_length, collate, epochs=2, batch_size=batch_size, accumulation=accumulation,
            learning_rates={"": 1e-2}, device="cpu",
        )  # fmt: skip
        return history.losses, model.state_dict()

    (losses, weights), (parts, weights_of_parts) = train(8, 1), train(2, 4)
    np.testing.assert_allclose(losses, parts, rtol=1e-5)
    for name in weights:
        torch.testing.assert_close(weights[name], weights_of_parts[name], rtol=1e-4, atol=1e-6)


def test_the_same_seed_gives_the_same_weights_whatever_was_drawn_before() -> None:
    first, second = Model(), Model()
    run(first, epochs=1)
    torch.manual_seed(99)
    torch.rand(7)
    run(second, epochs=1)
    assert same_weights(first.state_dict(), second.state_dict())


def test_an_idle_extra_layer_changes_no_bit_of_the_rest() -> None:
    plain, extended = Model(), Model(extra=True)
    run(plain)
    run(extended)
    assert same_weights(
        {n: w for n, w in plain.state_dict().items()},
        {n: w for n, w in extended.state_dict().items() if not n.startswith("extra")},
    )


def test_isolated_seed_leaves_the_global_state() -> None:
    before = torch.random.get_rng_state()
    with isolated_seed(3):
        a = torch.rand(3)
    with isolated_seed(3):
        b = torch.rand(3)
    assert torch.equal(a, b) and torch.equal(before, torch.random.get_rng_state())


def test_batches_hold_every_example_once_and_similar_lengths() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 203)
    steps = _batches(lengths, plan(accumulation=3), epoch=0)
    assert sorted(i for step in steps for part in step for i in part) == list(range(203))
    assert all(len(part) <= 4 for step in steps for part in step) and len(steps) == math.ceil(51 / 3)
    spread = np.mean([np.ptp(lengths[part]) for step in steps for part in step])
    assert spread < 10
    assert steps == _batches(lengths, plan(accumulation=3), epoch=0) != _batches(lengths, plan(accumulation=3), epoch=1)


def test_the_best_epoch_is_kept_and_patience_ends_the_run() -> None:
    scores = iter([0.2, 0.7, 0.6, 0.5, 0.9])
    weights: list[dict[str, Tensor]] = []
    model = Model()

    def evaluate() -> dict[str, float]:
        assert not model.training
        weights.append({name: w.clone() for name, w in model.state_dict().items()})
        return {"f1": next(scores)}

    history = fit(
        model, examples(), collate, epochs=5, learning_rates={"": 1e-2}, device="cpu", evaluate=evaluate, patience=2
    )
    assert (history.best_epoch, len(history.epochs)) == (1, 4)
    assert same_weights(model.state_dict(), weights[1])


def test_the_mean_of_several_scores_chooses_the_epoch(tmp_path: Path) -> None:
    scores = [{"f1": 0.9, "other": 0.1}, {"f1": 0.7, "other": 0.6}, {"f1": 0.6, "other": 0.65}]
    for names, best in ((["f1"], 0), (["other"], 2), (["f1", "other"], 1)):
        told = iter(scores)
        given: dict[str, Any] = {"epochs": 3, "learning_rates": {"": 1e-2}, "device": "cpu", "maximise": names}
        folder = tmp_path / "-".join(names)
        history = fit(Model(), examples(), collate, evaluate=lambda told=told: next(told), folder=folder, **given)
        again = fit(Model(), examples(), collate, evaluate=dict, folder=folder, **given)
        assert history.best_epoch == again.best_epoch == best


def test_learning_rates_follow_the_longest_prefix() -> None:
    model = Model(dropout=0)
    before = {name: w.clone() for name, w in model.state_dict().items()}
    fit(model, examples(), collate, epochs=1, learning_rates={"": 1e-2, "layers.2": 0.0}, device="cpu")
    after = model.state_dict()
    assert torch.equal(before["layers.2.weight"], after["layers.2.weight"])
    assert not torch.equal(before["layers.0.weight"], after["layers.0.weight"])


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_precision_leaves_no_trace_on_the_model(precision: str) -> None:
    model = Model()
    fit(model, examples(), collate, epochs=1, learning_rates={"": 1e-2}, device="cpu", precision=precision)
    assert "forward" not in vars(model)
    assert model(collate(["boy"])).loss.dtype == torch.float32


class Diverging(Model):
    def forward(self, batch: dict[str, Tensor]) -> Output:
        output = super().forward(batch)
        return Output(output.loss * float("nan"), output.count)


@pytest.mark.parametrize(
    ("model", "changes", "message"),
    [
        (Diverging(), {}, "loss is nan at step 1; lower the learning rate"),
        (Model(), {"examples": []}, "nothing to train on"),
        (Model(), {"learning_rates": {"": 1e-3, "fusion": 1e-2}}, "begins with 'fusion'"),
        (Model(), {"learning_rates": {"layers": 1e-3}}, "no learning rate for unused"),
        (Model().requires_grad_(False), {}, "every parameter is frozen"),
        (Model(), {"precision": "fp16"}, "fp16 needs a CUDA device"),
        (Model(), {"precision": "int3"}, "unknown precision"),
        (Model(), {"evaluate": lambda: {"accuracy": 1.0}}, "not 'f1', to maximise"),
    ],
)
def test_what_the_user_can_mend_is_one_line(model: nn.Module, changes: dict[str, object], message: str) -> None:
    arguments = {"examples": examples(), "learning_rates": {"": 1e-3}, "epochs": 1, "device": "cpu"} | changes
    with pytest.raises(MedgraftError, match=message):
        fit(model, collate=collate, **arguments)  # type: ignore[arg-type]


def test_a_tagger_learns_eight_sentences_by_heart(encoder_folder: Callable[[str], Path]) -> None:
    drugs, harms = ["aspirin", "warfarin"], ["nausea", "renal failure", "drowsiness", "seizures"]
    documents = []
    for number, (drug, harm) in enumerate((d, h) for d in drugs for h in harms):
        text = f"The {drug} gave {harm} to the patients."
        mentions = [
            Mention(text.index(name), text.index(name) + len(name), type)
            for name, type in ((drug, "Chemical"), (harm, "Disease"))
        ]  # noqa: E501
        documents.append(Document(str(number), text, tuple(mentions)))
    encoder = Encoder.load(encoder_folder("bert"))
    tagger = Tagger(encoder, TagScheme.of(documents))
    made = windows([document.text for document in documents], encoder)
    labels, counts = tag_documents(documents, made, tagger.scheme)
    assert (counts.tagged, counts.widened) == (16, 0)
    fit(
        tagger, made, lambda group: collate_windows(group, encoder, labels), epochs=60, batch_size=4,
        learning_rates={"": 1e-2}, device="cpu", warmup=0.1,
    )  # fmt: skip
    scores = evaluate_mentions(documents, predict(tagger, documents, encoder))
    assert scores.f1 == 1.0
