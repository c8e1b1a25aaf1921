"""Labelled texts: each format, what is dropped and counted, and clear errors."""

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from loaders import InputError, read_labelled
from loaders.tables import Account

COLUMNS = "ROW_ID SUBJECT_ID HADM_ID CHARTDATE CHARTTIME STORETIME CATEGORY DESCRIPTION CGID ISERROR TEXT".split()


def noteevents(path: Path, count: int = 40) -> Path:
    """A file in the schema of MIMIC-III's NOTEEVENTS.csv: quoted notes over several lines, padded categories."""
    with gzip.open(path, "wt", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        for n in range(count):
            category = ("Discharge summary", "Nursing ", "Radiology")[n % 3]
            text = f'Admission Date: [**2101-1-{n % 28 + 1}**]\n\nService: "MEDICINE", ward {n}\n'
            error = "1" if n == 5 else ""
            rows.writerow([n, n // 2, "", "2101-01-01", "", "", category, "Report", "", error, "" if n == 7 else text])
    return path


def test_notes_of_mimic_are_streamed_with_every_row_accounted_for(tmp_path: Path) -> None:
    path = noteevents(tmp_path / "NOTEEVENTS.csv.gz")
    account = Account(path)
    notes = list(read_labelled(path, account))
    assert len(notes) == account.kept == 38 and account.read == 40
    assert account.dropped == {"marked as an error": 1, "without text": 1}
    assert notes[0].id == "0-0" and '"MEDICINE", ward 0' in notes[0].text
    assert {label.name for d in notes for label in d.labels} == {"Discharge summary", "Nursing", "Radiology"}
    two = list(read_labelled(path, positive="Discharge summary"))
    assert {label.name for d in two for label in d.labels} == {"Discharge summary", "other"}


def test_real_corpora(data: Callable[[str], Path]) -> None:
    folder = data("text/medical_abstracts")
    abstracts = list(read_labelled(folder / "medical_tc_test.csv.gz"))
    assert len(abstracts) == 2888 and abstracts[0].labels[0].name == "nervous system diseases"
    dialogues = list(read_labelled(data("text/mts_dialog") / "MTS-Dialog-TrainingSet.csv.gz"))
    assert len(dialogues) == 1201 and "\n" in dialogues[0].text
    assert len({label.name for d in dialogues for label in d.labels}) == 20


def test_tables_and_json_lines(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('text,label,id\n"one, two",b|a,x\n')
    (document,) = read_labelled(tmp_path / "a.csv")
    assert (
        document.id == "x" and document.text == "one, two" and [label.name for label in document.labels] == ["a", "b"]
    )
    lines = [{"text": "t", "labels": ["b", "a"]}, {"text": "u", "label": "c", "id": "z"}, {"text": "v", "labels": []}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, lines)))
    found = list(read_labelled(tmp_path / "a.jsonl"))
    assert [[label.name for label in d.labels] for d in found] == [["a", "b"], ["c"], []]
    assert [d.id for d in found] == ["1", "z", "3"]


@pytest.mark.parametrize(
    ("name", "content", "needle"),
    [
        ("empty.csv", "", "it is empty"),
        ("other.csv", "a,b\n1,2\n", "check the header"),
        ("twice.csv", "text,label,id\nx,a,1\ny,a,1\n", "'1' occurs twice"),
        ("broken.csv", 'text,label\n"x,a\n', ""),
        ("no.jsonl", '{"text": "x"}\n', "no 'labels'"),
        ("bad.jsonl", '{"text": "x", "label": "a"}\n{oops\n', "bad.jsonl, line 2"),
        ("blank.jsonl", '{"text": " ", "label": "a"}\n', "no text"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, content: str, needle: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError) as error:
        list(read_labelled(tmp_path / name))
    assert name in str(error.value) and needle in str(error.value)


def test_malformed_lines_can_be_skipped_and_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"text": "x", "label": "a"}\n{oops\n')
    account = Account(path)
    assert len(list(read_labelled(path, account, skip_bad=True))) == 1
    assert (account.read, account.kept, dict(account.dropped)) == (2, 1, {"malformed": 1})
