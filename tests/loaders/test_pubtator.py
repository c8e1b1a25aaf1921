"""PubTator: ids, offsets, variants of the format, round trips, published counts of BC5CDR."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loaders import Document, InputError, MedgraftError, Mention, Relation, read_pubtator, write_pubtator


def test_the_miniature(mini: Path) -> None:
    first, second, third = read_pubtator(mini / "mini.PubTator.txt")
    assert [(m.type, m.concept_id, first.text[m.start : m.end]) for m in first] == [
        ("Chemical", "MESH:D012345", "Aspirin"),
        ("Chemical", "MESH:D012345", "Aspirin"),
        ("Disease", "MESH:D000001|MESH:C000000002", "knees"),
        ("Disease", None, "\U0001f9b5"),
        ("Disease", "OMIM:77", "Wobble pain"),
    ]
    assert first.relations == (Relation("MESH:D012345", "CID", "MESH:D000001"),)
    assert second.text == " No title here." and second.mentions == (Mention(4, 9, "T116,T123", "C4308010"),)
    assert third == Document("103", "Title only", (), (Relation("10", "Association", "MESH:D000001"),))


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n\n", "\n"),
        lambda text: "\n\n" + text.replace("\n", "\n\n"),
    ],
)
def test_blank_lines_and_line_ends_change_nothing(
    change: Callable[[str], str], mini: Path, write: Callable[..., Path]
) -> None:
    path = mini / "mini.PubTator.txt"
    assert list(read_pubtator(write(change(path.read_bytes().decode())))) == list(read_pubtator(path))


def test_an_abstract_may_come_without_a_title(write: Callable[..., Path]) -> None:
    (document,) = read_pubtator(write("1|a|A knee.\n1\t2\t6\tknee\tPart\n"))
    assert document == Document("1", "A knee.", (Mention(2, 6, "Part", None),))


START = "1|t|A knee.\n1|a|B.\n"
BAD = {
    "": (None, "no document"),
    "hello\n": (1, "neither a title"),
    START + "1\t2\t6\tknie\tX\tD1\n": (3, r"the text at \[2, 6\) differs"),
    START + "1\t3\t7\tknee\tX\tD1\n": (3, "offsets are wrong"),
    START + "1\t2\t99\tknee.\tX\tD1\n": (3, "offsets are wrong"),
    START + "1\t2\t2\t\tX\tD1\n": (3, "offsets are wrong"),
    START + "1\t2\tsix\tknee\tX\tD1\n": (3, "needs 5 to 7 fields"),
    START + "1\t2\t6\tknee\n": (3, "needs 5 to 7 fields"),
    START + "2\t2\t6\tknee\tX\tD1\n": (3, "another document"),
    START + "1|t|Again.\n": (3, "a second title"),
    START + "1|a|Again.\n": (3, "a second abstract"),
    "1|t|A knee.\n1\t2\t6\tknee\tX\tD1\n1|a|B.\n": (3, "after its annotations"),
    START + "1\tCID\t\tD1\n": (3, "neither a mention"),
    b"1|t|caf\xe9\n": (1, "not UTF-8"),
    b"1|t|\0\n": (1, "binary"),
}


@pytest.mark.parametrize("content", BAD)
def test_faults_name_file_and_line(content: str | bytes, write: Callable[..., Path]) -> None:
    line, message = BAD[content]
    path = write(content)
    with pytest.raises(InputError, match=message) as caught:
        list(read_pubtator(path))
    assert (caught.value.path, caught.value.line) == (path, line)


PLAIN = st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n\t\ufeff")
NAME = st.text(st.characters(categories=["L"]), min_size=1, max_size=5)
CURIE = st.builds("{}:{}".format, NAME, st.integers(0, 99))


@st.composite
def documents(draw: st.DrawFn) -> Document:
    text = draw(st.text(PLAIN, max_size=40)) + draw(st.sampled_from(["", " ", ". B", "! "]))
    spans = draw(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 8)), max_size=4)) if text else []
    mentions = [
        Mention(start, min(start + length, len(text)), draw(NAME), draw(st.none() | CURIE | st.just("A:1|B:2")))
        for start, length in spans
        if start < len(text)
    ]
    relations = draw(st.lists(st.builds(Relation, CURIE, NAME, CURIE), max_size=2))
    ordered = sorted(mentions, key=lambda mention: (mention.start, mention.end))
    return Document(draw(st.from_regex(r"[A-Za-z0-9._-]{1,8}", fullmatch=True)), text, tuple(ordered), tuple(relations))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
@given(written=st.lists(documents(), min_size=1, max_size=3))
def test_what_is_written_is_read_back(written: list[Document], tmp_path: Path) -> None:
    write_pubtator(written, tmp_path / "out")
    assert list(read_pubtator(tmp_path / "out")) == written
    file = io.StringIO(newline="")
    write_pubtator(written, file)
    assert file.getvalue() == (tmp_path / "out").read_bytes().decode()


@pytest.mark.parametrize(
    "document",
    [
        Document("1", "two\nlines"),
        Document("1", "a\tb", (Mention(0, 3, "X"),)),
        Document("a|b", "text"),
        Document("", "text"),
        Document("1", "a broken \ud800 character"),
        Document("1", "text", (), (Relation("A:1", "7", "B:2"),)),
    ],
)
def test_what_the_format_cannot_hold_is_refused_and_nothing_written(document: Document, tmp_path: Path) -> None:
    with pytest.raises(MedgraftError, match="PubTator cannot hold"):
        write_pubtator([Document("0", "fine"), document], tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_writing_into_a_missing_folder_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(MedgraftError, match="cannot write"):
        write_pubtator([], tmp_path / "missing" / "out")


@pytest.mark.parametrize(
    ("part", "mentions", "relations", "none", "composite"),
    [
        ("Training", (5_203, 4_182), 1_038, 76, 98),
        ("Development", (5_347, 4_244), 1_012, 59, 99),  # 100 composites, one of them with -1 beside an id
        ("Test", (5_385, 4_424), 1_066, 91, 75),
    ],
)
def test_bc5cdr_has_its_published_counts(
    part: str, mentions: tuple[int, int], relations: int, none: int, composite: int, data: Callable[[str], Path],
    tmp_path: Path,
) -> None:  # fmt: skip
    corpus = list(read_pubtator(data(f"text/bc5cdr/CDR_{part}Set.PubTator.txt")))
    found = [mention for document in corpus for mention in document]
    assert len(corpus) == 500
    assert tuple(sum(m.type == type_ for m in found) for type_ in ("Chemical", "Disease")) == mentions
    assert sum(len(document.relations) for document in corpus) == relations
    assert sum(m.concept_id is None for m in found) == none
    assert sum("|" in (m.concept_id or "") for m in found) == composite
    assert all(i.startswith("MESH:") for m in found if m.concept_id for i in m.concept_id.split("|"))
    write_pubtator(corpus, tmp_path / "out")
    assert list(read_pubtator(tmp_path / "out")) == corpus
