"""Corpus formats are told by their content; what is none of them is refused in one line."""

from pathlib import Path

import pytest

from loaders import InputError, read_conll, read_corpus, read_gsc, read_pubtator

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
