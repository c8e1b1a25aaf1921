"""GSC+, abstracts with HPO mentions, in the block form of PhenoTagger.

A block is the document's id, its text on one line, and a line for each mention (start, end, text, id, tab-separated;
offsets count Unicode characters); a blank line ends it. Mentions may nest. Source: https://github.com/ncbi-nlp/PhenoTagger
"""

import re
from collections.abc import Iterator
from pathlib import Path

from loaders.errors import InputError
from loaders.lines import text_lines
from loaders.records import Document, Mention

_OFFSET = re.compile(r"[0-9]{1,9}")
_UNDERSCORED = re.compile(r"HP_([0-9]+)")


def read_gsc(path: str | Path) -> Iterator[Document]:
    """The documents of a GSC+ file; mentions have the type `Phenotype`, ids the form `HP:0001250`.

    Raises:
        InputError: a malformed line, a mention that differs from the text at its offsets, a file without documents.
    """
    path = Path(path)
    block: list[tuple[int, str]] = []
    documents = 0
    for number, line in text_lines(path):
        if line.strip():
            block.append((number, line))
        elif block:
            yield _document(path, block)
            documents += 1
            block = []
    if block:
        yield _document(path, block)
    elif not documents:
        raise InputError(path, None, "holds no document; blocks of an id, a text and mentions are expected")


def _document(path: Path, block: list[tuple[int, str]]) -> Document:
    number, identifier = block[0]
    if "\t" in identifier:
        raise InputError(path, number, "a block begins with the document's id, alone on its line")
    if len(block) == 1:
        raise InputError(path, number, "a document's id without its text on the next line")
    text = block[1][1]
    mentions = [_mention(path, number, line, text) for number, line in block[2:]]
    return Document(identifier.strip(), text, tuple(sorted(mentions, key=lambda mention: (mention.start, mention.end))))


def _mention(path: Path, number: int, line: str, text: str) -> Mention:
    fields = line.split("\t")
    if len(fields) != 4 or not _OFFSET.fullmatch(fields[0]) or not _OFFSET.fullmatch(fields[1]):
        raise InputError(path, number, "a mention needs 4 fields: start, end, text, id")
    start, end = int(fields[0]), int(fields[1])
    if start >= end or text[start:end] != fields[2]:
        raise InputError(path, number, f"the text at [{start}, {end}) differs from the mention; the offsets are wrong")
    concept_id = _UNDERSCORED.sub(r"HP:\1", fields[3].strip())
    return Mention(start, end, "Phenotype", concept_id if concept_id not in ("", "-", "-1") else None)
