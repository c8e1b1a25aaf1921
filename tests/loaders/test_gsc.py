"""GSC+ blocks: nested mentions, CRLF, faults, published counts."""

from collections.abc import Callable
from pathlib import Path

import pytest

from loaders import Document, InputError, Mention, read_gsc


def test_the_miniature(mini: Path) -> None:
    first, second = read_gsc(mini / "mini_gsc.tsv")
    assert first == Document(
        "201",
        "The knee wobble\u2028of \u03b2 mice.",
        (Mention(4, 8, "Phenotype", "HP:9000003"), Mention(4, 15, "Phenotype", "HP:9000002")),
    )
    assert second == Document("202", "Nothing found here.")


def test_the_last_blank_line_may_be_missing(mini: Path, write: Callable[..., Path]) -> None:
    path = mini / "mini_gsc.tsv"
    assert list(read_gsc(write(path.read_bytes().rstrip()))) == list(read_gsc(path))


BAD = {
    "\n\n": (None, "no document"),
    "1\n\n": (1, "without its text"),
    "1\ttext\n": (1, "begins with the document's id"),
    "1\nA knee.\n2\t6\tknie\tHP:1\n": (3, "differs from the mention"),
    "1\nA knee.\n2\t6\tknee\n": (3, "needs 4 fields"),
    "1\nA knee.\n\n2\nB.\n-1\t6\tknee\tHP:1\n": (6, "needs 4 fields"),
}


@pytest.mark.parametrize("content", BAD)
def test_faults_name_file_and_line(content: str, write: Callable[..., Path]) -> None:
    line, message = BAD[content]
    with pytest.raises(InputError, match=message) as caught:
        list(read_gsc(write(content)))
    assert caught.value.line == line


@pytest.mark.parametrize(
    ("part", "documents", "mentions", "ids", "silent"),
    [
        ("dev", 22, 173, 89, 1),
        ("test", 206, 1_949, 405, 7),
    ],
)
def test_gsc_has_its_published_counts(
    part: str, documents: int, mentions: int, ids: int, silent: int, data: Callable[[str], Path]
) -> None:
    corpus = list(read_gsc(data(f"text/gsc_plus/GSCplus_{part}_gold.tsv")))
    assert len(corpus) == documents
    assert sum(len(document.mentions) for document in corpus) == mentions
    assert len({mention.concept_id for document in corpus for mention in document}) == ids
    assert sum(not document.mentions for document in corpus) == silent
