"""Raw texts by kind, as streams: plain text, JSON lines, tables of texts, MIMIC-III notes, PubTator."""

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from loaders.errors import InputError
from loaders.labelled import read_labelled
from loaders.lines import text_lines
from loaders.pubtator import read_pubtator
from loaders.records import Document

_PUBTATOR = re.compile(r"[^|\s]+\|[ta]\|")


def read_texts(paths: Iterable[str | Path]) -> Iterator[tuple[str, Document]]:
    """The texts of files, each with its kind: a note's category, or the name of the file without its ending.

    PubTator, a table that `read_labelled` knows, and JSON lines with `text` are told by their content; of anything else
    the paragraphs between blank lines are the texts.

    Raises:
        InputError: a file is not there, empty, not UTF-8 text, or malformed.
    """
    for path in map(Path, paths):
        kind = path.name.removesuffix(".gz").partition(".")[0]
        first = next((line for _, line in text_lines(path) if line.strip()), None)
        if first is None:
            raise InputError(path, None, "holds no text; it is empty")
        if first.lstrip().startswith("{"):
            yield from ((kind, document) for document in _json_lines(path))
        elif _is_table(first):
            notes = "CATEGORY" in first
            for document in read_labelled(path):
                yield document.labels[0].name if notes else kind, document
        elif _PUBTATOR.match(first):
            yield from ((kind, document) for document in read_pubtator(path))
        else:
            yield from ((kind, document) for document in _paragraphs(path))


def _is_table(first: str) -> bool:
    columns = {name.strip('"') for name in first.split(",")}
    return len(columns) > 1 and bool(columns & {"TEXT", "text", "medical_abstract", "dialogue"})


def _json_lines(path: Path) -> Iterator[Document]:
    for number, line in text_lines(path):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(path, number, f"no JSON object ({error.msg}); write one a line") from error
        if not isinstance(record, dict) or not isinstance(record.get("text"), str):
            raise InputError(path, number, "has no text under 'text'; give it")
        yield Document(str(record.get("id", number)), record["text"])


def _paragraphs(path: Path) -> Iterator[Document]:
    held: list[str] = []
    for number, line in text_lines(path):
        if line.strip():
            held.append(line)
        elif held:
            yield Document(str(number), "\n".join(held))
            held = []
    if held:
        yield Document("last", "\n".join(held))
