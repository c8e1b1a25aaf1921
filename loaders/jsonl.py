"""Documents as JSON lines, one a line, with all that a `Document` holds; what is written is read back the same.

    {"id": "1", "text": "No seizures.",
     "mentions": [{"start": 3, "end": 11, "type": "Phenotype", "concept_id": "HP:0001250", "score": 1.0,
                   "candidates": [{"concept_id": "HP:0001250", "score": 1.0, "alias": "Seizure"}],
                   "parts": [], "assertion": ["negated"]}],
     "relations": [{"head": "a", "relation": "r", "tail": "b", "score": 0.9, "evidence": [[0, 12]]}],
     "labels": [{"name": "History", "score": 0.8}]}

Offsets count Unicode characters. Only `text` must be there; `id` falls back to the number of the line.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from loaders.errors import InputError
from loaders.lines import text_lines
from loaders.records import ASSERTIONS, Candidate, Document, Label, Mention, Relation

Span = tuple[int, int]


def read_jsonl(path: str | Path) -> Iterator[Document]:
    """The documents of a file of JSON lines.

    Raises:
        InputError: a line that is no such document, offsets outside its text, a file without documents.
    """
    path = Path(path)
    empty = True
    for number, line in text_lines(path):
        if line.strip():
            empty = False
            yield document_from_json(line, path, number)
    if empty:
        raise InputError(path, None, "holds no document; lines of JSON with a text are expected")


def document_to_json(document: Document) -> str:
    """One line, without its end. Characters stay as they are, but for what UTF-8 cannot hold (lone surrogates)."""
    line = json.dumps(asdict(document), ensure_ascii=False)
    if any("\ud800" <= c <= "\udfff" for c in line):
        line = json.dumps(asdict(document), ensure_ascii=True)
    return line


def document_from_json(line: str, path: Path, number: int) -> Document:
    """The document of a line; `path` and `number` are for the message where it is none."""
    try:
        value = _record(Document, json.loads(line))
        value["id"] = value.get("id", str(number))
        if not isinstance(value["text"], str) or not isinstance(value["id"], str):
            raise ValueError("its id and text are no strings")
        value["mentions"] = tuple(_mention(m, value["text"]) for m in value.get("mentions", ()))
        value["relations"] = tuple(_relation(r) for r in value.get("relations", ()))
        value["labels"] = tuple(Label(**_record(Label, label)) for label in value.get("labels", ()))
        return Document(**value)
    except KeyError as error:
        raise InputError(path, number, f"no document: {error.args[0]!r} is missing; add it") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(path, number, f"no document: {error}; see loaders.jsonl for what a line holds") from error


def checked_spans(spans: Iterable[Any], text: str) -> tuple[Span, ...]:
    """Stretches of a text, ascending and apart from each other.

    Raises:
        ValueError: they are not.
    """
    checked: list[Span] = []
    for span in spans:
        start, end = span
        before = checked[-1][1] if checked else 0
        if not (type(start) is type(end) is int) or not before <= start < end <= len(text):
            raise ValueError(
                f"[{start}, {end}) is no stretch of its {len(text)} characters, or not after the one before"
            )
        checked.append((start, end))
    return tuple(checked)


def _mention(value: Any, text: str) -> Mention:
    value = _record(Mention, value)
    (whole,) = checked_spans([(value["start"], value["end"])], text)
    parts = checked_spans(value.get("parts", ()), text)
    if parts and (parts[0][0], parts[-1][1]) != whole:
        raise ValueError(f"the parts of the mention [{whole[0]}, {whole[1]}) do not reach from its start to its end")
    if unknown := set(value.get("assertion", ())) - set(ASSERTIONS):
        raise ValueError(f"unknown assertion {sorted(unknown)[0]!r}; known are {', '.join(ASSERTIONS)}")
    value["parts"] = parts
    value["assertion"] = tuple(value.get("assertion", ()))
    value["candidates"] = tuple(_candidate(c) for c in value.get("candidates", ()))
    return Mention(**value)


def _candidate(value: Any) -> Candidate:
    named: dict[str, Any] = _record(Candidate, value)
    fitted: dict[str, Any] = {key: tuple(map(tuple, v)) if isinstance(v, list) else v for key, v in named.items()}
    return Candidate(**fitted)


def _relation(value: Any) -> Relation:
    value = _record(Relation, value)
    value["evidence"] = tuple((int(start), int(end)) for start, end in value.get("evidence", ()))
    return Relation(**value)


def _record(kind: type[Any], value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{json.dumps(value)[:40]} stands where a {kind.__name__.lower()} is expected")
    if unknown := value.keys() - {field.name for field in fields(kind)}:
        raise ValueError(f"a {kind.__name__.lower()} has no {sorted(unknown)[0]!r}")
    return dict(value)
