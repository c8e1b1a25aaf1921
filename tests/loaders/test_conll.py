"""CoNLL: every tag scheme gives the same mentions; seqeval as judge; published counts of AnatEM."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from seqeval.metrics.sequence_labeling import get_entities

from loaders import Document, InputError, Mention, read_conll


def test_the_miniature(mini: Path) -> None:
    first, second = read_conll(mini / "mini_conll.tsv")
    assert first == Document(
        "mini_conll-1",
        "The knee joint and β cell lung .",
        (Mention(4, 14, "Anatomy"), Mention(19, 25, "Anatomy"), Mention(26, 30, "Anatomy")),
    )
    assert second == Document("mini_conll-2", "None")


@pytest.mark.parametrize(
    "tags",
    [
        "O B-X I-X B-X O B-Y",  # IOB2
        "O I-X I-X B-X O I-Y",  # IOB1
        "O B-X E-X S-X O S-Y",  # BIOES
        "O B-X L-X U-X O U-Y",  # BILOU
        "O B-X E-X I-X O E-Y",  # damaged
    ],
)
@pytest.mark.parametrize("separator", ["\t", " ", "  ", " POS CHUNK "])
def test_all_schemes_give_the_same_mentions(tags: str, separator: str, write: Callable[..., Path]) -> None:
    lines = [f"{word}{separator}{tag}" for word, tag in zip("abcdef", tags.split(), strict=True)]
    (document,) = read_conll(write("\r\n".join(lines)))
    assert document.text == "a b c d e f"
    assert document.mentions == (Mention(2, 5, "X"), Mention(6, 7, "X"), Mention(10, 11, "Y"))


TAGS = st.lists(st.sampled_from(["O", *(f"{letter}-{type_}" for letter in "BIES" for type_ in "XY")]), min_size=1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
@given(tags=TAGS)
def test_seqeval_finds_the_same(tags: list[str], write: Callable[..., Path]) -> None:
    (document,) = read_conll(write("".join(f"w\t{tag}\n" for tag in tags)))
    assert [(m.type, m.start // 2, (m.end - 1) // 2) for m in document] == get_entities(tags)


BAD = {
    "\n": (None, "no sentence"),
    "word\n": (1, "a word and a tag"),
    "a\tO\n\tO\n": (2, "a word and a tag"),
    "a\tO\nb\t\n": (2, "a word and a tag"),
    "a\tO\nb\tX-Part\n": (2, "unknown tag"),
    "a\tO-Part\n": (1, "unknown tag"),
}


@pytest.mark.parametrize("content", BAD)
def test_faults_name_file_and_line(content: str, write: Callable[..., Path]) -> None:
    line, message = BAD[content]
    with pytest.raises(InputError, match=message) as caught:
        list(read_conll(write(content)))
    assert caught.value.line == line


@pytest.mark.parametrize(
    ("part", "sentences", "mentions"),
    [
        ("train", 5_861, 6_946),
        ("devel", 2_118, 2_139),
        ("test", 3_830, 4_616),
    ],
)
def test_anatem_has_its_published_counts(part: str, sentences: int, mentions: int, data: Callable[[str], Path]) -> None:
    corpus = list(read_conll(data(f"text/anatem/{part}.tsv.gz")))
    assert (len(corpus), sum(len(document.mentions) for document in corpus)) == (sentences, mentions)
    assert {mention.type for document in corpus for mention in document} == {"Anatomy"}
