"""Annotated documents in any of the formats that the corpus readers know; the format is told by its first lines."""

import re
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from loaders.conll import read_conll
from loaders.errors import InputError
from loaders.gsc import read_gsc
from loaders.lines import text_lines
from loaders.pgr import HEADER as PGR_HEADER
from loaders.pgr import read_pgr
from loaders.pubtator import read_pubtator
from loaders.records import Document

CORPUS_FORMATS: dict[str, Callable[[str | Path], Iterator[Document]]] = {
    "pubtator": read_pubtator,
    "gsc": read_gsc,
    "conll": read_conll,
    "pgr": read_pgr,
}
_PUBTATOR = re.compile(r"[^|\s]+\|[ta]\|")
_TAGGED = re.compile(r"(-DOCSTART-.*|\S.*[\t ]([BIESLU]-\S*|O)[ ]*)")


def read_corpus(path: str | Path, format: str | None = None) -> Iterator[Document]:
    """The documents of a PubTator, CoNLL, GSC+ or PGR file.

    Raises:
        InputError: the file is not there, or neither of the formats, or malformed.
    """
    path = Path(path)
    name = format or _detect(path)
    if name not in CORPUS_FORMATS:
        raise InputError(path, None, f"unknown format {name!r}; choose {', '.join(sorted(CORPUS_FORMATS))}")
    return CORPUS_FORMATS[name](path)


def _detect(path: Path) -> str:
    lines = list(islice((line for _, line in text_lines(path) if line.strip()), 3))
    if not lines:
        raise InputError(path, None, "holds no document; it is empty")
    if _PUBTATOR.match(lines[0]):
        return "pubtator"
    if lines[0].startswith(PGR_HEADER):
        return "pgr"
    if _TAGGED.fullmatch(lines[0]):
        return "conll"
    if "\t" not in lines[0] and len(lines) > 1 and "\t" not in lines[1]:
        return "gsc"
    raise InputError(
        path, None, "is neither PubTator (id|t|title), nor CoNLL (word and tag), nor GSC+ (id, text), nor PGR"
    )
