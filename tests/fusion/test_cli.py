"""The commands as a user types them: exit codes, one-line errors, JSON, and nothing half-written."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import fusion
import kg
from fusion.cli import _show_warning, main
from loaders import Document, MedgraftWarning, Mention, open_writer, read_documents, read_questions
from tests.conftest import TINY, TINY_SOURCES

ROOT = Path(__file__).parents[2]
PUBTATOR = "".join(
    f"{n}|t|{name} in the child.\n{n}|a|No cough.\n{n}\t0\t{len(name)}\t{name}\tDisease\tTINY:0000002\n\n"
    for n, name in enumerate(("High fever", "Dry cough", "Fever", "Feverish cough"), 1)
)


def medgraft(*arguments: object) -> int:
    """Exit code of a command run in this process."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as stop:
        patch.setattr(sys, "argv", ["medgraft", *map(str, arguments)])
        main()
    return int(stop.value.code or 0)


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr."""
    code = medgraft(*arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(scope="module")
def trained(tiny_graph: Path, encoder_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with embeddings, a corpus and a fused model, made by the commands."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "train.txt").write_text(PUBTATOR)
    commands: list[list[object]] = [
        ["embed", tiny_graph, "--out", folder / "embeddings", "--dim", "8", "--epochs", "2"],
        ["train", "ner", "--train", folder / "train.txt", "--dev", folder / "train.txt", "--graph", tiny_graph]
        + ["--embeddings", folder / "embeddings", "--encoder", encoder_folder("bert"), "--out", folder / "model"]
        + ["--epochs", "2", "--device", "cpu"],
    ]
    for command in commands:
        assert medgraft(*command) == 0
    return folder


def test_swap_writes_the_model_over_another_graph_if_the_gate_lets_it(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kg.build([TINY / "tiny.obo"], tmp_path / "graph")  # without the diseases and genes
    given = ["swap", trained / "model", "--graph", tmp_path / "graph", "--embeddings", trained / "embeddings"]
    gate = ["--gate", trained / "train.txt", "--most", 4]
    code, out, _ = run(capsys, *given, *gate, "--out", tmp_path / "swapped")
    assert code == 0 and " gone" in out and "predictions changed in " in out
    assert fusion.load(tmp_path / "swapped").table.fingerprint == kg.connect(tmp_path / "graph").fingerprint
    code, out, _ = run(capsys, *given, "--out", tmp_path / "swapped", "--json")
    assert code == 0 and json.loads(out)["gone"] > 0


def test_the_commands_work_one_after_the_other(
    trained: Path, tiny_graph: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, text = trained / "model", "High fever and a dry cough."
    code, out, _ = run(capsys, "evaluate", model, trained / "train.txt", "--json")
    assert code == 0 and {"precision", "recall", "f1"} <= json.loads(out).keys()
    code, out, _ = run(capsys, "annotate", model, text, "--json")
    assert code == 0 and json.loads(out)[0]["text"] == text
    code, out, _ = run(capsys, "annotate", model, text, "--pubtator")
    assert code == 0 and "1|" in out
    code, out, _ = run(capsys, "explain", model, text, "--json", "--draw", trained / "why.html")
    assert code == 0 and isinstance(json.loads(out), list)
    assert (trained / "why.html").read_text().startswith("<!DOCTYPE html>")
    code, _, err = run(capsys, "explain", model, text, "--draw", trained / "why.gif")
    assert code == 1 and "why.gif is to be .png or .html" in err
    if json.loads(out):
        code, _, _ = run(capsys, "explain", model, text, "--draw", trained / "why.png")
        assert code == 0 and (trained / "why.png").read_bytes().startswith(b"\x89PNG")
    code, out, _ = run(capsys, "link", tiny_graph, text, "--json")
    assert code == 0 and [m["concept_id"] for m in json.loads(out)[0]["mentions"]] == ["TINY:0000003", "TINY:0000005"]
    code, out, _ = run(capsys, "link", tiny_graph, text, "--save", trained / "linker")
    assert code == 0 and "TINY:0000003" in out
    code, out, _ = run(capsys, "link", trained / "linker", text)
    assert code == 0 and "TINY:0000005" in out
    code, out, _ = run(capsys, "doctor", "--json")
    assert code == 0 and json.loads(out)["medgraft"]
    code, out, _ = run(capsys, "query", "relations", tiny_graph, "TINY:0000003", "--json")
    assert code == 0 and json.loads(out)


def test_links_read_the_text_and_learn_from_a_corpus(
    tiny_graph: Path, encoder_folder: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "High fever and a dry cough."
    code, _, _ = run(capsys, "link", tiny_graph, text, "--save", tmp_path / "linker")
    assert code == 0
    code, out, _ = run(capsys, "link", tmp_path / "linker", text, "--context", encoder_folder("bert"), "--json")
    assert code == 0 and [m["concept_id"] for m in json.loads(out)[0]["mentions"]] == ["TINY:0000003", "TINY:0000005"]
    corpus = tmp_path / "corpus.jsonl"
    with open_writer(corpus) as write:
        write(Document("1", "Zebra spells.", (Mention(0, 12, "", "TINY:0000003"),)))
    code, out, _ = run(capsys, "link", tiny_graph, "A zebra spell.", "--corpus", corpus, "--json")
    assert code == 0 and [m["concept_id"] for m in json.loads(out)[0]["mentions"]] == ["TINY:0000003"]
    code, _, err = run(capsys, "link", tmp_path / "linker", text, "--corpus", corpus)
    assert code == 1 and "--corpus is settled when a linker is built" in err
    code, _, err = run(capsys, "link", tmp_path / "linker", text, "--type", "Phenotype")
    assert code == 1 and "--type is settled when a linker is built" in err
    code, _, err = run(capsys, "link", tiny_graph, text, "--type", "Zebra")
    assert code == 1 and "no concept is of the type Zebra; there are" in err
    code, _, err = run(capsys, "link", tiny_graph, text, "--language", "de")
    assert code == 1 and "no name is left" in err
    code, _, err = run(capsys, "link", tmp_path / "linker", text, "--given", "--context", "x")
    assert code == 1 and "--context" in err


def test_relations_from_training_to_explanation(
    tiny_graph: Path,
    trained: Path,
    encoder_folder: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    corpus, model = tmp_path / "train.txt", tmp_path / "model"
    corpus.write_text(
        "".join(
            f"{n}|t|Fever after dry cough.\n{n}|a|\n{n}\t0\t5\tFever\tDisease\tTINY:0000002\n"
            f"{n}\t12\t21\tdry cough\tSign\tTINY:0000003\n{n}\tcauses\tTINY:0000003\tTINY:0000002\n\n"
            for n in range(4)
        )
    )
    command = ["train", "relations", "--train", corpus, "--dev", corpus, "--graph", tiny_graph, "--out", model]
    command += ["--embeddings", trained / "embeddings", "--encoder", encoder_folder("bert"), "--frozen-blocks", "1"]
    command += ["--attention-dropout", "0.2", "--vector-dropout", "0.3"]
    code, out, _ = run(capsys, *command, "--epochs", "2", "--device", "cpu", "--json")
    assert code == 0 and {"threshold", "dev pairs with a fact"} <= json.loads(out).keys()
    card = (model / "README.md").read_text()
    assert all(
        f"- {line}" in card for line in ("attention dropout: 0.2", "vector dropout: 0.3", "sentence dropout: 1.0")
    )
    code, out, _ = run(capsys, "evaluate", model, corpus, "--json")
    assert code == 0 and json.loads(out)["f1"] == 1.0  # one pair a document, always related
    code, out, _ = run(capsys, "annotate", model, corpus)
    assert code == 0 and "causes" in out and "Fever after dry" in out
    code, out, _ = run(capsys, "explain", model, corpus)
    assert code == 0 and "'dry cough' causes 'Fever'" in out and "without the graph" in out
    (tmp_path / "more.txt").write_text("9|t|Nothing here.\n9|a|\n\n" + corpus.read_text())
    code, more, err = run(capsys, "explain", model, tmp_path / "more.txt")
    assert code == 0 and more == out and "9: no mention with a concept" in err
    code, out, err = run(capsys, "annotate", model, "Just a text.")
    assert code == 1 and "--mentions" in err
    code, out, err = run(capsys, "annotate", model, "High fever and a dry cough.", "--mentions", trained / "model")
    assert code in (0, 1) and "Traceback" not in err


def test_our_warnings_are_one_line_and_those_of_others_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    for category, shown in ((MedgraftWarning, "medgraft: beware\n"), (UserWarning, "a.py:3: UserWarning: beware\n")):
        _show_warning("beware", category, "a.py", 3)
        assert capsys.readouterr().err == shown


def test_of_annotated_documents_only_the_text_is_read(
    trained: Path, tiny_graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = {"a": "High fever was seen.", "b": "A dry cough came on."}
    corpus = tmp_path / "corpus.txt"
    lines = (f"{id}|t|{text}\n{id}|a|\n{id}\t0\t4\t{text[:4]}\tSeizure\tX:1\n" for id, text in texts.items())
    corpus.write_text("\n".join(lines))
    note = tmp_path / "note.txt"
    note.write_text("Fever.")
    for command in (["annotate", trained / "model"], ["link", tiny_graph]):
        code, out, err = run(capsys, *command, corpus, note, "Just words.", "--json")
        assert code == 0, err
        found = {document["id"]: document["text"].strip() for document in json.loads(out)}
        assert found == {**texts, "note": "Fever.", "3": "Just words."}
        code, out, _ = run(capsys, *command, corpus, note)
        assert code == 0 and [line for line in out.splitlines() if line in ("a", "b", "note")] == ["a", "b", "note"]
        code, _, err = run(capsys, *command, tmp_path / "notes.txt")
        assert code == 1 and "there is no file" in err
    code, out, _ = run(capsys, "explain", trained / "model", corpus, "--json")
    assert code == 0 and all(any(e["text"] in text for text in texts.values()) for e in json.loads(out))


def test_bad_input_is_one_line_and_exit_code_1(
    trained: Path, tiny_graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.obo").write_text("")
    (tmp_path / "wrong.txt").write_text("this is not a dump\n")
    (tmp_path / "other.obo").write_text("format-version: 1.4\n\n[Term]\nid: X:1\nname: one\n\n")
    kg.build([tmp_path / "other.obo"], tmp_path / "other")
    out = tmp_path / "out"
    cases: list[tuple[str, list[object]]] = [
        ("nowhere.obo", ["build", tmp_path / "nowhere.obo", "--to", out]),
        ("empty.obo", ["build", tmp_path / "empty.obo", "--to", out]),
        ("wrong.txt", ["build", tmp_path / "wrong.txt", "--to", out]),
        ("HP:1", ["query", "concept", tiny_graph, "HP:1"]),
        ("medgraft build", ["query", "stats", tmp_path]),
        ("neo4j://127.0.0.1:9", ["query", "stats", "neo4j://127.0.0.1:9"]),
        ("cuda:0", ["embed", tiny_graph, "--out", out, "--device", "cuda:0"]),
        ("belong to the graph", ["train", "ner", "--train", trained / "train.txt", "--dev", trained / "train.txt"]
         + ["--graph", tmp_path / "other", "--embeddings", trained / "embeddings", "--encoder", "x", "--out", out]),
        ("medgraft.json", ["annotate", tmp_path, "text"]),
        ("wrong.txt", ["evaluate", trained / "model", tmp_path / "wrong.txt"]),
    ]  # fmt: skip
    for needle, arguments in cases:
        if needle == "cuda:0" and __import__("torch").cuda.is_available():
            continue
        code, _, err = run(capsys, *arguments)
        lines = [line for line in err.strip().split("\n") if line]
        assert code == 1, (arguments, err)
        assert len(lines) == 1 and needle in lines[0] and lines[0].startswith("medgraft: "), (arguments, err)
        assert not out.exists() and not [path for path in tmp_path.glob(".out*") if path.suffix != ".lock"]


def test_bad_usage_is_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "annotate")[0] == 2
    assert run(capsys, "no-such-command")[0] == 2


def test_from_a_dump_to_a_fused_model_in_one_command(
    trained: Path, encoder_folder: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Graph, embeddings and linker are made on the way, and documents held out; the second time all is there."""
    (tmp_path / "dump").mkdir()
    for source in TINY_SOURCES:
        shutil.copy(source, tmp_path / "dump")
    command = ["train", "ner", "--train", trained / "train.txt", "--graph", tmp_path / "dump", "--device", "cpu"]
    command += ["--encoder", encoder_folder("bert"), "--epochs", "1", "--out", tmp_path / "model"]
    code, _, err = run(capsys, *command)
    assert code == 0 and "no --dev: " in err and "no graph yet" in err and "TransE is trained" in err, err
    model = fusion.load(tmp_path / "model")
    assert model.table is not None and "TINY:0000003" in model.table.ids
    code, _, err = run(capsys, *command)
    assert code == 0 and "no graph yet" not in err and "TransE" not in err and "linker" not in err
    again = fusion.load(tmp_path / "model")
    assert again.scores == model.scores and again.table is not None
    assert again.table.vectors.equal(model.table.vectors)
    documents = tuple(read_documents([trained / "train.txt"]))
    corpus = fusion.Corpus("mine", documents, documents, ())
    graph = tmp_path / "dump"
    same = fusion.train("ner", corpus, graph, encoder=encoder_folder("bert"), epochs=1, device="cpu", progress=False)
    assert same.table is not None and same.table.vectors.equal(model.table.vectors) and not capsys.readouterr().err
    code, out, err = run(capsys, "link", tmp_path / "dump", "High fever and a dry cough.", "--json")
    assert code == 0 and not err
    assert [m["concept_id"] for m in json.loads(out)[0]["mentions"]] == ["TINY:0000003", "TINY:0000005"]


def test_half_a_fusion_is_refused(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["train", "ner", "--train", trained / "train.txt", "--encoder", "x", "--out", tmp_path / "model"]
    code, _, err = run(capsys, *given, "--embeddings", trained / "embeddings")
    assert code == 1 and "are those of a graph; name it with --graph" in err
    (tmp_path / "one.txt").write_text(PUBTATOR[: PUBTATOR.index("\n\n") + 2])
    code, _, err = run(
        capsys, "train", "ner", "--train", tmp_path / "one.txt", "--encoder", "x", "--out", tmp_path / "m"
    )
    assert code == 1 and "one.txt is too small to hold a fifth of it out; give --dev" in err


def test_every_level_answers_help() -> None:
    for arguments in ([], ["query"], ["train"]):
        done = subprocess.run(
            [sys.executable, "-m", "fusion", *arguments, "--help"], capture_output=True, text=True, cwd=ROOT, check=True
        )
        assert "Usage" in done.stdout


def test_questions_from_training_to_explanation(
    tiny_graph: Path,
    trained: Path,
    encoder_folder: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = [
        {"id": f"{n}", "question": "Is there fever?", "context": f"High fever and a {w} cough.", "answer": a}
        for n, (w, a) in enumerate([("dry", "yes"), ("feverish", "no")] * 3)
    ]
    corpus, model = tmp_path / "train.jsonl", tmp_path / "model"
    corpus.write_text("\n".join(map(json.dumps, lines)))
    command = ["train", "qa", "--train", corpus, "--dev", corpus, "--graph", tiny_graph, "--out", model]
    command += ["--embeddings", trained / "embeddings", "--encoder", encoder_folder("bert")]
    code, out, _ = run(capsys, *command, "--epochs", "2", "--device", "cpu", "--json")
    assert code == 0 and {"dev accuracy", "dev macro_f1"} <= json.loads(out)["scores"].keys()
    card = (model / "README.md").read_text()
    assert "question-answering" in card and "no, yes" in card
    code, out, _ = run(capsys, "evaluate", model, corpus, "--json")
    assert code == 0 and json.loads(out)["questions"] == 6
    code, out, _ = run(capsys, "annotate", model, "High fever.", "--question", "Is there fever?", "--json")
    assert code == 0 and json.loads(out)[0]["answer"] in ("yes", "no")
    code, out, _ = run(capsys, "annotate", model, corpus)
    assert code == 0 and out.count("Is there fever?") == 6
    code, out, _ = run(capsys, "annotate", model, corpus, "--out", tmp_path / "answers", "--format", "jsonl")
    (written,) = (tmp_path / "answers").iterdir()
    assert code == 0 and written.name == "train.jsonl.jsonl"
    assert len(list(read_questions(written))) == 6
    code, out, _ = run(capsys, "explain", model, "High fever.", "--question", "Is there fever?")
    assert code == 0 and "'Is there fever?': " in out and "without the graph" in out
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "no.jsonl").write_text(json.dumps({"question": "Is there fever?", "answer": "yes"}))
    for arguments, needle in (
        (["annotate", model, "High fever."], "--question"),
        (["annotate", model, tmp_path, "--question", "Is there fever?"], "is a folder"),
        (["evaluate", model, tmp_path / "empty.jsonl"], "holds no question; it is empty"),
        (["evaluate", model, tmp_path / "no.jsonl"], "question '1' has no context"),
        (["evaluate", model, trained / "train.txt"], "neither JSON nor JSON lines"),
        (["train", "qa", *command[2:4], "--dev", trained / "train.txt", *command[6:]], "neither JSON nor JSON lines"),
    ):
        code, _, err = run(capsys, *arguments)
        assert code == 1 and needle in err and err.count("\n") == 1 and err.startswith("medgraft: "), err


def test_files_are_annotated_into_a_folder_that_appears_whole(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, out = tmp_path / "note.txt", tmp_path / "out"
    plain.write_text("High fever and a dry cough.")
    endings = {"pubtator": ".txt", "bioc-xml": ".xml", "bioc-json": ".json", "jsonl": ".jsonl", "html": ".html"}
    for format, ending in endings.items():
        code, said, _ = run(
            capsys, "annotate", trained / "model", plain, trained / "train.txt", "--out", out, "--format", format
        )
        assert code == 0 and "2 files" in said
        assert sorted(p.name for p in out.iterdir()) == [f"note.txt{ending}", f"train.txt{ending}"]
        if format != "html":
            assert [d.text for d in read_documents(out / f"note.txt{ending}")] == [plain.read_text()]
            assert len(list(read_documents(out / f"train.txt{ending}"))) == 4
        code, _, err = run(capsys, "annotate", trained / "model", plain, "--out", out)
        assert code == 1 and "already there" in err
        shutil.rmtree(out)
    notes = tmp_path / "notes"
    (notes / "old").mkdir(parents=True)
    for place in (notes, notes / "old"):
        shutil.copy(plain, place)
    code, said, _ = run(capsys, "annotate", trained / "model", notes, "--out", out, "--format", "jsonl")
    assert code == 0 and "2 files" in said
    assert [d.text for d in read_documents(out)] == [plain.read_text()] * 2
    assert (out / "note.txt.jsonl").is_file() and (out / "old" / "note.txt.jsonl").is_file()
    shutil.rmtree(out)
    code, said, _ = run(
        capsys, "annotate", trained / "model", notes, trained / "train.txt", "--out", out, "--format", "brat"
    )
    assert code == 0 and "3 files" in said
    assert len(list(read_documents(out))) == 6 and (out / "old" / "note.ann").is_file()
    shutil.rmtree(out)
    broken = tmp_path / "broken.txt"
    broken.write_bytes(b"\xff\xfe")
    for arguments, needle in (
        ([plain, broken], "not UTF-8 text"),
        (["no file"], "is no file"),
        ([plain, plain], "two files are called note.txt"),
        ([plain, "--format", "docx"], "unknown format 'docx'"),
    ):
        code, _, err = run(capsys, "annotate", trained / "model", *arguments, "--out", out)
        assert code == 1 and needle in err and not out.exists(), err
        assert not list(tmp_path.glob(".out*"))
