"""Texts with labels: comma-separated tables that are told by their header, and JSON lines.

- Medical Abstracts (Schopf et al., 2022): `condition_label,medical_abstract`; the label's name from
  `medical_tc_labels.csv` beside the file, if it is there.
- MTS-Dialog (Ben Abacha et al., EACL 2023): `ID,section_header,section_text,dialogue`; the dialogue with its header.
- MIMIC-III `NOTEEVENTS.csv` (Johnson et al., 2016): the note with its CATEGORY. Notes marked as errors (ISERROR 1) are
  dropped and counted. A note's id is `SUBJECT_ID-ROW_ID`, so that a split can keep patients together.
- Any table with the columns `text` and `label`; `id` if there is one; several labels joined by `|`.
- JSON lines with `text` and `labels` (a list) or `label`; `id` if there is one.

All are read as streams: a file may be larger than the memory.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from loaders.delimited import LINE
from loaders.errors import InputError
from loaders.lines import text_lines
from loaders.quoted import header_columns, read_quoted_frames
from loaders.records import Document, Label
from loaders.tables import Account

REST = "other"
# Of each table: the column of the text, that of the label, and what else tells the format.
_TABLES: dict[str, tuple[str, str, set[str]]] = {
    "medical_abstracts": ("medical_abstract", "condition_label", set()),
    "mts_dialog": ("dialogue", "section_header", {"ID"}),
    "noteevents": ("TEXT", "CATEGORY", {"ROW_ID", "SUBJECT_ID", "ISERROR"}),
    "table": ("text", "label", set()),
}


def read_labelled(
    path: str | Path, account: Account | None = None, *, positive: str | None = None, skip_bad: bool = False
) -> Iterator[Document]:
    """The texts of a file with their labels.

    Args:
        path: the file, plain or gzip.
        account: where to count what became of the rows.
        positive: keep this label and call every other one `other` (say "Discharge summary" for MIMIC-III notes).
        skip_bad: drop and count malformed rows instead of raising.

    Raises:
        InputError: no such file, none of the formats, a malformed row, or an id that occurs twice.
    """
    path = Path(path)
    account = Account(path) if account is None else account
    first = next((line for _, line in text_lines(path) if line.strip()), None)
    if first is None:
        raise InputError(path, None, "holds no text; it is empty")
    read = _json_lines if first.lstrip().startswith("{") else _table
    seen: set[str] = set()
    for line, document in read(path, first, account, skip_bad):
        if document.id in seen:
            raise InputError(path, line, f"id {document.id!r} occurs twice; make the ids distinct")
        seen.add(document.id)
        account.keep()
        if positive is not None:
            names = {positive if label.name == positive else REST for label in document.labels}
            document = Document(document.id, document.text, labels=tuple(map(Label, sorted(names))))
        yield document


Placed = Iterator[tuple[int, Document]]


def _table(path: Path, first: str, account: Account, skip_bad: bool) -> Placed:
    columns = header_columns(first)
    kind = next((kind for kind, (text, label, more) in _TABLES.items() if {text, label, *more} <= set(columns)), None)
    if kind is None:
        raise InputError(
            path,
            1,
            "is neither Medical Abstracts, MTS-Dialog, NOTEEVENTS.csv, a table with the columns text and label, nor "
            "JSON lines; check the header",
        )
    account.format = kind
    names = _label_names(path) if kind == "medical_abstracts" else {}
    for frame in read_quoted_frames(path, columns, account, after_line=1, skip_bad=skip_bad):
        for row in frame.iter_rows(named=True):
            text, label = (row[column] for column in _TABLES[kind][:2])
            reason = "" if text.strip() else "without text"
            reason = reason or ("" if label.strip() else "without a label")
            if kind == "noteevents" and row["ISERROR"].strip() == "1":
                reason = "marked as an error"
            if reason:
                account.drop(reason)
            else:
                yield row[LINE], Document(_id(kind, row), text, labels=_labels(kind, label.strip(), names))


def _id(kind: str, row: dict[str, Any]) -> str:
    if kind == "noteevents":
        return f"{row['SUBJECT_ID']}-{row['ROW_ID']}"
    return row["ID"] if kind == "mts_dialog" else row.get("id") or str(row[LINE])


def _labels(kind: str, label: str, names: dict[str, str]) -> tuple[Label, ...]:
    if kind != "table":
        return (Label(names.get(label, label)),)
    return tuple(Label(name) for name in sorted({part.strip() for part in label.split("|")} - {""}))


def _label_names(path: Path) -> dict[str, str]:
    beside = path.with_name("medical_tc_labels.csv")
    if not beside.is_file():
        return {}
    rows = [header_columns(line) for _, line in text_lines(beside)]
    return {row[0]: row[1] for row in rows[1:] if len(row) == 2}


def _json_lines(path: Path, _first: str, account: Account, skip_bad: bool) -> Placed:
    account.format = "jsonl"
    for number, line in text_lines(path):
        if not line.strip():
            continue
        try:
            yield number, _from_json(path, number, line)
        except InputError:
            if not skip_bad:
                raise
            account.drop("malformed")


def _from_json(path: Path, number: int, line: str) -> Document:
    try:
        record: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(path, number, f"no JSON object ({error.msg}); write one a line") from error
    labels = record.get("labels", record.get("label")) if isinstance(record, dict) else None
    labels = [labels] if isinstance(labels, str) else labels
    if not isinstance(labels, list) or not all(isinstance(label, str) and label for label in labels):
        raise InputError(path, number, "has no 'labels' (a list of texts) or 'label'; give them")
    text = record.get("text")
    if not isinstance(text, str) or not text.strip():
        raise InputError(path, number, "has no text under 'text'; give it")
    return Document(str(record.get("id", number)), text, labels=tuple(map(Label, sorted(set(labels)))))
