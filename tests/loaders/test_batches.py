"""Many documents: in order, in parallel, killed and resumed to the same bytes."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from loaders import InputError, MedgraftError, open_writer, read_documents
from loaders.batches import BATCH, process_documents
from loaders.records import Document, Mention

ROOT = Path(__file__).parent.parent.parent


def first_words(log: str, seconds: float):
    """Marks the first word of each text, and writes down that it worked on it."""

    def work(documents):
        for document in documents:
            with Path(log).open("a") as file:
                file.write(document.id + "\n")
            time.sleep(seconds)
            yield replace(document, mentions=(Mention(0, document.text.index(" "), "Word"),))

    return work


def fails(log: str, seconds: float):
    def work(documents):
        raise MedgraftError("this work fails")

    return work


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    with open_writer(tmp_path / "notes.jsonl") as write:
        for n in range(5 * BATCH + 3):
            write(Document(str(n), f"note{n} is 🫀 here."))
    return tmp_path / "notes.jsonl"


def run(
    notes: Path, out: Path, log: Path, jobs: int = 1, key: str = "k", make=first_words, seconds: float = 0.0
) -> int:
    return process_documents(make, (str(log), seconds), [notes], out, key=key, jobs=jobs)


def test_parallel_gives_the_bytes_of_one_process(notes: Path, tmp_path: Path) -> None:
    counts: list[int] = []
    made = (first_words, (str(tmp_path / "log"), 0.0), [notes])
    for name in ("one.jsonl", "one.xml", "one.json.gz"):
        process_documents(*made, tmp_path / name, key="k", advance=counts.append)
        process_documents(*made, tmp_path / f"two{name[3:]}", key="k", jobs=2)
        assert (tmp_path / name).read_bytes() == (tmp_path / f"two{name[3:]}").read_bytes()
    assert sum(counts) == 3 * (5 * BATCH + 3)
    found = list(read_documents(tmp_path / "two.jsonl"))
    assert [d.id for d in found] == [str(n) for n in range(5 * BATCH + 3)]
    assert not list(tmp_path.glob(".*unfinished"))


def test_killed_and_resumed_nothing_is_done_twice(notes: Path, tmp_path: Path) -> None:
    log, out = tmp_path / "log", tmp_path / "out.jsonl"
    code = (
        "from tests.loaders.test_batches import *\n"
        f"run(Path({str(notes)!r}), Path({str(out)!r}), Path({str(log)!r}), seconds=0.01)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    unfinished = tmp_path / ".out.jsonl.unfinished"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (unfinished.exists() and unfinished.read_bytes().count(b"\n") > BATCH):
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not out.exists()
    finished = unfinished.read_bytes().count(b"\n") - 1
    assert BATCH <= finished < 5 * BATCH
    with unfinished.open("ab") as file:
        file.write(b'{"id": "torn')
    log.write_text("")
    run(notes, out, log)
    assert log.read_text().split() == [str(n) for n in range(finished, 5 * BATCH + 3)]
    run(notes, tmp_path / "whole.jsonl", log)
    assert out.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


def test_other_work_or_other_files_begin_anew(notes: Path, tmp_path: Path) -> None:
    log, out = tmp_path / "log", tmp_path / "out.jsonl"
    unfinished = tmp_path / ".out.jsonl.unfinished"
    unfinished.write_text('{"unfinished": "of something else"}\n{"text": "x"}\n')
    assert run(notes, out, log) == len(list(read_documents(out))) == 5 * BATCH + 3


@pytest.mark.parametrize("jobs", [1, 2])
def test_work_that_fails_is_one_line_and_leaves_no_output(notes: Path, tmp_path: Path, jobs: int) -> None:
    with pytest.raises(MedgraftError, match="this work fails"):
        run(notes, tmp_path / "out.jsonl", tmp_path / "log", jobs, make=fails)
    assert not (tmp_path / "out.jsonl").exists()


def test_bad_input_is_told_and_what_was_done_is_kept(notes: Path, tmp_path: Path) -> None:
    with notes.open("a") as file:
        file.write("{}\n")
    with pytest.raises(InputError, match="line 84"):
        run(notes, tmp_path / "out.jsonl", tmp_path / "log")
    assert (tmp_path / ".out.jsonl.unfinished").read_bytes().count(b"\n") == 5 * BATCH + 1
