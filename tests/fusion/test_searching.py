"""Hyper-parameter search: resumable, on the development part only, and clear about what cannot be varied."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import fusion
from fusion import searching
from fusion.searching import FUSED_SPACE, SPACE, Range, read_space
from loaders.errors import MedgraftError
from tests.fusion.invented import invented_corpus, invented_names
from tests.fusion.test_cli import PUBTATOR, run

CORPUS = invented_corpus(invented_names(40), (6, 6, 6))
SETTINGS: dict[str, Any] = {"epochs": 1, "device": "cpu", "progress": False}
SPACED = {"learning_rate": Range(1e-4, 1e-2, log=True), "batch_size": (2, 4), "frozen_blocks": Range(0, 1)}


def test_a_search_that_was_stopped_proposes_the_same(
    encoder_folder: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    real = searching.train

    def watched(task: str, corpus: Any, *given: Any, **settings: Any) -> Any:
        seen.append(corpus)
        return real(task, corpus, *given, **settings)

    watched.__signature__ = __import__("inspect").signature(real)  # type: ignore[attr-defined]
    monkeypatch.setattr(searching, "train", watched)
    given: dict[str, Any] = {"encoder": encoder_folder("bert"), "space": SPACED, **SETTINGS}
    whole = fusion.search("ner", CORPUS, out=tmp_path / "whole", trials=7, **given)
    assert len(whole.trials) == 7 and whole.best.score == max(t.score for t in whole.trials)
    assert {frozenset(t.settings) for t in whole.trials} == {frozenset(SPACED)}
    assert all(1e-4 <= t.settings["learning_rate"] <= 1e-2 and t.settings["batch_size"] in (2, 4) for t in whole.trials)
    assert not any(corpus.test for corpus in seen)  # the test part is not even there
    fusion.search("ner", CORPUS, out=tmp_path / "parts", trials=3, **given)
    with (tmp_path / "parts" / "trials.jsonl").open("a") as file:
        file.write('{"key": ')  # killed while writing
    resumed = fusion.search("ner", CORPUS, out=tmp_path / "parts", trials=7, **given)
    assert [(t.settings, t.score) for t in resumed.trials] == [(t.settings, t.score) for t in whole.trials]
    count = len(seen)
    assert fusion.search("ner", CORPUS, out=tmp_path / "parts", trials=7, **given) == resumed and len(seen) == count
    assert "best of 7 trials" in str(resumed) and resumed.seconds > 0
    # Other settings are another search in the same folder; and time is a budget, too.
    other = fusion.search("ner", CORPUS, out=tmp_path / "parts", trials=3, minutes=0, seeds=2, **given)
    assert len(other.trials) == 1 and len(seen) == count + 2


def test_what_can_be_varied_is_read_from_the_command_line() -> None:
    assert read_space(["learning_rate=1e-5:1e-3:log", "batch_size=4,8", "frozen_blocks=0:4"]) == {
        "learning_rate": Range(1e-5, 1e-3, log=True), "batch_size": [4, 8], "frozen_blocks": Range(0, 4)
    }  # fmt: skip
    assert isinstance(Range(0, 4).low, int) and set(SPACE) < set(FUSED_SPACE)


def test_what_cannot_is_said(encoder_folder: Callable[[str], Path], tmp_path: Path) -> None:
    def found(corpus: Any = CORPUS, **changes: Any) -> None:
        given = {"encoder": encoder_folder("bert"), "out": tmp_path / "no", "trials": 1, **SETTINGS, **changes}
        fusion.search("ner", corpus, **given)

    cases: list[tuple[str, Callable[[], object]]] = [
        ("cannot be varied", lambda: found(space={"seed": (0, 1)})),
        ("cannot be varied", lambda: found(space={"speed": (0, 1)})),
        ("both varied and set", lambda: found(space={"epochs": (1, 2)})),
        ("no value", lambda: found(space={"batch_size": ()})),
        ("nothing to vary", lambda: found(space={})),
        ("development part", lambda: found(replace(CORPUS, dev=()))),
        ("one trial", lambda: found(trials=0)),
        ("is no range", lambda: Range(2, 1)),
        ("is no range", lambda: Range(0, 1, log=True)),
        ("names nothing to vary", lambda: read_space(["learning_rate"])),
        ("names nothing to vary", lambda: read_space(["batch_size=a:b"])),
    ]
    for needle, call in cases:
        with pytest.raises(MedgraftError, match=needle):
            call()
    assert not (tmp_path / "no").exists()


def test_the_command(encoder_folder: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "train.txt").write_text(PUBTATOR)
    command = ["search", "ner", "--train", tmp_path / "train.txt", "--dev", tmp_path / "train.txt", "--trials", "2"]
    command += ["--encoder", encoder_folder("bert"), "--out", tmp_path / "out", "--epochs", "1", "--device", "cpu"]
    code, said, err = run(capsys, *command, "--vary", "learning_rate=1e-4:1e-2:log", "--json")
    assert code == 0 and json.loads(said)["trials"] == 2 and "trial 1: dev" in err
    assert (tmp_path / "out" / "search.png").stat().st_size > 1000
    code, _, err = run(capsys, *command, "--vary", "nothing")
    assert code == 1 and "NAME=LOW:HIGH" in err
