"""Corpus formats are told by their content; what is none of them is refused in one line."""

from dataclasses import replace
from pathlib import Path

import pytest

from loaders import InputError, open_writer, read_conll, read_corpus, read_gsc, read_pubtator

DATA = Path(__file__).parent.parent / "data"


@pytest.mark.parametrize(
    ("name", "reader"),
    [("mini.PubTator.txt", read_pubtator), ("mini_gsc.tsv", read_gsc), ("mini_conll.tsv", read_conll)],
)
def test_each_format_is_told_by_its_content(name: str, reader: object, tmp_path: Path) -> None:
    expected = list(reader(DATA / name))  # type: ignore[operator]
    assert expected
    assert [d.text for d in read_corpus(DATA / name)] == [d.text for d in expected]
    renamed = tmp_path / "corpus"
    renamed.write_bytes((DATA / name).read_bytes())
    assert [d.mentions for d in read_corpus(renamed)] == [d.mentions for d in expected]


@pytest.mark.parametrize("content", ["", "\n\n", "a,b,c\n1,2,3\tx\n", "only one line\n"])
def test_what_is_no_corpus_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "corpus.txt"
    path.write_text(content)
    with pytest.raises(InputError, match=r"corpus\.txt"):
        list(read_corpus(path))


def test_an_unknown_format_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="choose bioc-json, bioc-xml, brat, conll, gsc, jsonl, pgr, pubtator"):
        read_corpus(DATA / "mini_gsc.tsv", format="word")
    with pytest.raises(InputError, match="nowhere"):
        read_corpus(tmp_path / "nowhere")


def test_a_folder_is_read_whole_and_holds_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    documents = [replace(document, relations=()) for document in read_corpus(DATA / "mini.PubTator.txt")]
    with open_writer(folder / "brat", "brat") as write:
        for document in documents:
            write(document)
    with open_writer(folder / "more.xml") as write:
        write(documents[0])
    found = list(read_corpus(folder))
    assert [d.text for d in found] == [d.text for d in sorted(documents, key=lambda d: d.id)] + [documents[0].text]
    assert sum(len(d.mentions) for d in found) == sum(len(d.mentions) for d in [*documents, documents[0]])
    (folder / "notes.txt").write_text("A text that nobody annotated is no document without mentions.\n")
    with pytest.raises(InputError, match=r"notes\.txt"):
        list(read_corpus(folder))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no files"):
        list(read_corpus(tmp_path / "empty"))
