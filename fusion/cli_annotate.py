"""The commands that use a trained model on text: `medgraft annotate` and `medgraft explain`."""

import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fusion.cli_options import Device, Json
from loaders.errors import MedgraftError

if TYPE_CHECKING:
    from fusion.model import FusedModel
    from loaders import Document, Question

FORMATS = {"pubtator": ".txt", "bioc-xml": ".xml", "bioc-json": ".json", "jsonl": ".jsonl", "brat": "", "html": ".html"}
"""With the endings of their files; brat has two for each document. Answers to questions are JSON lines or HTML."""

_FILE_NAME = r"\S+\.(txt|tsv|csv|jsonl?|xml|ann|bioc|pubtator)(\.gz)?"

Mentions = Annotated[
    Path | None, typer.Option(help="For relations: a fused ner model that finds the mentions.", show_default=False)
]
Asked = Annotated[str, typer.Option(help="For qa: the question; the texts are then its contexts.", show_default=False)]
Options = Annotated[
    list[str] | None, typer.Option("--option", help="For qa: an option to choose from.", show_default=False)
]


def annotate(
    model: Annotated[Path, typer.Argument(help="Model folder.")],
    texts: Annotated[
        list[str], typer.Argument(help="Texts, or files and folders: plain text, annotated documents, questions.")
    ],
    mentions: Mentions = None,
    question: Asked = "",
    option: Options = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for one file of results for each file, or for brat.", show_default=False)
    ] = None,
    format: Annotated[str, typer.Option(help=f"Of the results: {', '.join(FORMATS)}.")] = "pubtator",
    pubtator: Annotated[bool, typer.Option("--pubtator", help="Print PubTator.")] = False,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Find typed, linked mentions in text; relations between them, answers or labels with a model of these.

    A model of relations needs mentions: those of a fused ner model, or of files of annotated documents. A model of qa
    needs --question, or files of questions.

    Example: medgraft annotate models/ner "She developed ataxia on phenytoin."

    Example: medgraft annotate models/ner notes/ --out annotated --format jsonl
    """
    import fusion

    if format not in FORMATS:
        raise MedgraftError(f"unknown format {format!r}; choose {', '.join(FORMATS)}")
    loaded = fusion.load(model, device=device)
    if out is not None:
        _write_all(loaded, texts, mentions, out, format, device)
        return
    found = list(loaded.pipe(_given(loaded, texts, mentions, device, question, option or ())))
    if isinstance(loaded, fusion.QuestionModel):
        _show_questions(found, as_json)
    elif pubtator:
        from loaders import write_pubtator

        write_pubtator(found, sys.stdout)
    else:
        show_documents(found, as_json)


def explain(
    model: Annotated[Path, typer.Argument(help="Folder of a fused model.")],
    text: Annotated[str, typer.Argument(help="A text, or a file: plain text, annotated documents, questions.")],
    mentions: Mentions = None,
    question: Asked = "",
    option: Options = None,
    top: Annotated[int, typer.Option(help="Effects shown for each prediction.")] = 5,
    draw: Annotated[
        Path | None, typer.Option(help="PNG of the effects; or .html, a page of them.", show_default=False)
    ] = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Say which concepts and facts each prediction rests on: each is taken away and the model run again.

    Example: medgraft explain models/ner "She developed ataxia on phenytoin."
    """
    import fusion
    from lm.relations import concepts_of

    if draw is not None and draw.suffix.lower() not in (".png", ".html"):
        raise MedgraftError(f"{draw} is to be .png or .html; choose one of these endings")
    loaded = fusion.load(model, device=device)
    given = _given(loaded, [text], mentions, device, question, option or ())
    explanations = []
    for item in given:
        if isinstance(loaded, fusion.RelationModel) and len(given) > 1 and not concepts_of(item):
            typer.echo(f"{item.id}: no mention with a concept, so no relation", err=True)
            continue
        for explanation in loaded.explain(item):
            explanations.append(explanation)
            if not as_json:
                typer.echo(explanation.describe(top))
    if as_json:
        typer.echo(json.dumps([e.as_dict() for e in explanations], indent=2, ensure_ascii=False))
    if draw is not None:
        _draw(explanations, draw, top)


def _draw(explanations: Sequence[Any], file: Path, top: int) -> None:
    from fusion.rendering import draw_explanations, page

    if file.suffix.lower() == ".html":
        file.write_text(page([explanations]), encoding="utf-8", errors="backslashreplace")
    else:
        draw_explanations(explanations, file, top)


def _given(
    model: "FusedModel[Any]",
    texts: Sequence[str],
    mentions: Path | None,
    device: str,
    question: str = "",
    options: Sequence[str] = (),
) -> list[Any]:
    """The documents or questions of the command line.

    For relations they have mentions, from a tagger or from files of annotated documents.
    """
    import fusion
    from loaders import Question, read_questions

    if isinstance(model, fusion.QuestionModel):
        if question:
            return [Question(str(n), question, text_of(text), tuple(options)) for n, text in enumerate(texts, 1)]
        if not all(map(_is_there, texts)):
            raise MedgraftError("a model of qa needs questions: give --question, or files of questions")
        return [found for text in texts for found in read_questions(text)]
    if isinstance(model, fusion.RelationModel) and mentions is None and not all(map(_is_there, texts)):
        raise MedgraftError("a model of relations needs mentions: give --mentions, or files of annotated documents")
    documents = list(given_documents(texts, lambda file: _items(model, file)))
    return documents if mentions is None else list(fusion.load(mentions, device=device).pipe(documents))


def given_documents(texts: Sequence[str], read: "Callable[[str], Iterable[Document]]") -> "Iterator[Document]":
    """What the command line names: a text as it stands, of files and folders what `read` makes of them.

    Raises:
        MedgraftError: a text that is the name of a file by its looks, but no file is there.
    """
    from loaders import Document

    for number, text in enumerate(texts, 1):
        if _is_there(text):
            yield from read(text)
        elif re.fullmatch(_FILE_NAME, text):
            raise MedgraftError(f"there is no file {text}; check the path, or give the text itself")
        else:
            yield Document(str(number), text)


def _write_all(
    model: "FusedModel[Any]", given: Sequence[str], mentions: Path | None, out: Path, format: str, device: str
) -> None:
    """One file of results for each file, those of folders too, in a folder that appears whole or not at all.

    For brat, which has two files for each document, those stand side by side.
    """
    import fusion
    from loaders import new_folder
    from loaders.documents import input_files

    absent = [file for file in given if not Path(file).exists()]
    if absent:
        raise MedgraftError(f"{absent[0][:80]!r} is no file; with --out give files or folders")
    if out.exists():
        raise MedgraftError(f"{out} is already there; choose another folder, or remove it")
    files = {}
    for path, name in input_files(given):
        if (name := name.removesuffix(".gz")) in files:
            raise MedgraftError(f"two files are called {name}; annotate them into two folders")
        files[name] = path
    tagger = None if mentions is None else fusion.load(mentions, device=device)
    with new_folder(out) as aside:
        for name, path in files.items():
            items: Iterable[Any] = _items(model, str(path))
            if tagger is not None:
                items = tagger.pipe(items)
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            _write(model, model.pipe(items, progress=True), format, aside / name)
    typer.echo(f"{out}: {len(files)} files")


def _items(model: "FusedModel[Any]", file: str) -> Iterator[Any]:
    """The documents or questions of a file; of a file in no format of annotated documents its text."""
    import fusion
    from loaders import InputError, read_documents, read_labelled, read_questions

    if isinstance(model, fusion.QuestionModel):
        yield from read_questions(file)
        return
    if isinstance(model, fusion.ClassificationModel):
        try:
            labelled = list(read_labelled(file))
        except InputError:  # no file of labelled documents: plain text, or other annotation
            pass
        else:
            yield from labelled
            return
    yield from read_documents(file)


def _write(model: "FusedModel[Any]", found: Iterable[Any], format: str, path: Path) -> None:
    import fusion
    from fusion.rendering import page
    from loaders import open_writer, write_questions
    from loaders.brat import write_brat

    asked = isinstance(model, fusion.QuestionModel)
    path = path.with_name(path.name + (".jsonl" if asked and format != "html" else FORMATS[format]))
    if asked or format == "html":
        with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
            if format == "html":
                file.write(page(found))
            else:
                write_questions(found, file)
        return
    if format == "brat":
        for document in found:
            write_brat(document, path.parent)
        return
    with open_writer(path, format) as write:
        for document in found:
            write(document)


def text_of(text_or_file: str) -> str:
    """The content of a file of that name, or the text itself."""
    if _is_there(text_or_file):
        if Path(text_or_file).is_dir():
            raise MedgraftError(f"{text_or_file} is a folder; name the file with the context")
        try:
            return Path(text_or_file).read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise MedgraftError(f"{text_or_file} is not UTF-8 text (byte {error.start}); convert it first") from error
    return text_or_file


def _is_there(text: str) -> bool:
    """Whether a file or folder of that name is there."""
    return len(text) < 256 and "\n" not in text and "\0" not in text and Path(text).exists()


def show_documents(documents: Sequence["Document"], as_json: bool) -> None:
    """Print labels, or mentions and relations as tables; of several documents under their ids; or all as JSON."""
    from dataclasses import asdict

    if as_json:
        typer.echo(json.dumps([asdict(document) for document in documents], indent=2, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else 160)
    for document in documents:
        if len(documents) > 1:
            console.print(Text(document.id, style="bold"))
        if document.labels:
            typer.echo(", ".join(f"{label.name} ({label.score or 0:.2f})" for label in document.labels))
            continue
        asserted = any(m.assertion for m in document.mentions)
        columns = (
            "mention",
            "characters",
            "type",
            "concept",
            "score",
            *(["assertion"] if asserted else []),
            "candidates",
        )
        table = Table(*columns, box=None)
        for m in document.mentions:
            others = " ".join(f"{c.concept_id} ({c.alias}, {c.score:.2f})" for c in m.candidates[:3])
            score = "" if m.score is None else f"{m.score:.2f}"
            said = [" ".join(m.assertion)] if asserted else []
            places = " ".join(f"{start}-{end}" for start, end in m.parts or ((m.start, m.end),))
            row = (m.text_in(document.text), places, m.type, m.concept_id or "NIL", score, *said, others)
            table.add_row(*map(Text, row))
        console.print(table if document.mentions else "no mention found")
        names = {
            id: document.text[m.start : m.end] for m in document.mentions for id in (m.concept_id or "").split("|")
        }
        held = Table("relation", "head", "tail", "score", "evidence", box=None)
        for r in document.relations:
            evidence = " ".join(document.text[start:end] for start, end in r.evidence)
            ends = [f"{names.get(end, '')} ({end})" for end in (r.head, r.tail)]
            held.add_row(r.relation, *ends, "" if r.score is None else f"{r.score:.2f}", evidence)
        if document.relations:
            console.print(held)


def _show_questions(questions: Sequence["Question"], as_json: bool) -> None:
    from dataclasses import asdict

    if as_json:
        typer.echo(json.dumps([asdict(question) for question in questions], indent=2, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("question", "answer", "score", "characters", box=None)
    for q in questions:
        places = " ".join(f"{start}-{end}" for start, end in q.spans)
        table.add_row(q.text, q.answer or "no answer", "" if q.score is None else f"{q.score:.2f}", places)
    Console().print(table)
