"""Odd texts: whatever comes in, offsets index the original string, alone, in a batch and in parallel."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kg.linking import Linker
from loaders import Document, open_writer, read_documents
from loaders.batches import process_documents
from tests.kg.test_linking import GRAPH

PIECES = ["seizures", "Absence seizure", "REST", "VSD", "no", "the", " ", "\t", "\r\n", "\n\n", "\0", "\x1b", "\u200f"]
PIECES += [
    "אבג",
    "مرض",
    "🫀",
    "e\u0301",
    "\ud800",
    "\u2028",
    "(VS)",
    "vestibular schwannoma",
    "İ",
    "ß",
    ",",
    ".",
    "-",
    ":",
]
TEXTS = [
    "",
    "the of and was with",
    "\r\n\t\x0b\x0c",
    "שלום seizures عليكم",
    "🫀🫀seizures🫀 \ud83e no absence\tseizures",
    "No\r\nseizures.\r\n\r\nFamily history: acoustic neuroma",
]


@pytest.fixture(scope="module")
def linker():
    return Linker.build(GRAPH)


def check(document: Document, text: str) -> None:
    assert document.text == text
    for mention in document:
        assert 0 <= mention.start < mention.end <= len(text)
        assert text[mention.start : mention.end].strip() == text[mention.start : mention.end] != ""
        for start, end in mention.parts:
            assert mention.start <= start < end <= mention.end


@settings(deadline=None, max_examples=150)
@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=12).map("".join))
def test_offsets_index_the_original_string(linker, text):
    check(linker(text), text)


@pytest.mark.parametrize(
    "text", ["a" * 1_000_000, "seizures " * 20_000, " " * 1_000_000, "\n" * 1_000_000, "(" * 200_000]
)
@pytest.mark.timeout(60)
def test_long_odd_texts_take_no_time(linker, text):
    check(linker(text), text)


def test_alone_in_a_batch_and_in_another_batch(linker):
    alone = [linker(text) for text in TEXTS]
    for document, text in zip(alone, TEXTS, strict=True):
        check(document, text)
    assert list(linker.pipe(TEXTS)) == alone
    assert list(linker.pipe(TEXTS, batch_size=2)) == alone
    assert list(linker.pipe(TEXTS[::-1]))[::-1] == alone


def test_files_in_one_and_in_two_processes(linker, tmp_path):
    from fusion.cli_link import linking_work

    linker.save(tmp_path / "linker")
    with open_writer(tmp_path / "in.jsonl") as write:
        for n, text in enumerate(TEXTS * 5):
            write(Document(str(n), text))
    work = linking_work, (str(tmp_path / "linker"), 5, False), [tmp_path / "in.jsonl"]
    process_documents(*work, tmp_path / "one.jsonl", key="")
    process_documents(*work, tmp_path / "two.jsonl", key="", jobs=2)
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()
    found = list(read_documents(tmp_path / "one.jsonl"))
    assert [d.mentions for d in found] == [linker(d.text).mentions for d in found]
    assert any("negated" in m.assertion for d in found for m in d)
