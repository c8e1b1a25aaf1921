"""CoNLL files: a word and its tag a line, a blank line after each sentence (AnatEM, CoNLL-2003 and many others).

Tags are IOB2 (BIO), IOB1, BIOES or BILOU; one rule reads them all, that of the conlleval script: a mention goes on
with I, E or L of the same type, anything else ends it, and where none is open they open one.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from loaders.errors import InputError
from loaders.lines import text_lines
from loaders.records import Document, Mention

_TAG = re.compile(r"([BIESLUO])(?:-(.*))?", re.DOTALL)


def read_conll(path: str | Path) -> Iterator[Document]:
    """The sentences of a CoNLL file, each a document: its words joined by single spaces, its mentions from the tags.

    The word is the first column, the tag the last; columns are parted by tabs, or by spaces where a line has no tab.
    Ids are the file's name and the sentence's number (`train-1`). Lines of `-DOCSTART-` are skipped.

    Raises:
        InputError: a line without a word or a tag, an unknown tag, a file without sentences.
    """
    path = Path(path)
    name = path.name.removesuffix(".gz").partition(".")[0]
    words: list[tuple[str, str, str]] = []
    sentences = 0
    for number, line in text_lines(path):
        if line.strip() and not line.startswith("-DOCSTART-"):
            words.append(_word(path, number, line))
        elif words:
            sentences += 1
            yield _sentence(f"{name}-{sentences}", words)
            words = []
    if words:
        yield _sentence(f"{name}-{sentences + 1}", words)
    elif not sentences:
        raise InputError(path, None, "holds no sentence; lines of a word and a tag are expected")


def _word(path: Path, number: int, line: str) -> tuple[str, str, str]:
    """Word, letter of the tag, type."""
    columns = line.split("\t") if "\t" in line else [column for column in line.split(" ") if column]
    word, tag = columns[0].strip(" "), columns[-1].strip(" ")
    if len(columns) < 2 or not word or not tag:
        raise InputError(path, number, "a line needs a word and a tag, parted by a tab or a space")
    match = _TAG.fullmatch(tag)
    if not match or (match[1] == "O" and match[2]):
        raise InputError(
            path, number, "an unknown tag; O, and B, I, E, S, L or U with a type as in B-Disease, are known"
        )
    return word, match[1], match[2] or ""


def _sentence(identifier: str, words: list[tuple[str, str, str]]) -> Document:
    mentions: list[Mention] = []
    start = end = 0
    is_open = False
    for position, (word, letter, type_) in enumerate(words):
        start = end + 1 if position else 0
        end = start + len(word)
        if letter != "O":
            if is_open and letter in "IEL" and mentions[-1].type == type_:
                mentions[-1] = Mention(mentions[-1].start, end, type_)
            else:
                mentions.append(Mention(start, end, type_))
        is_open = letter in "BI"
    return Document(identifier, " ".join(word for word, _, _ in words), tuple(mentions))
