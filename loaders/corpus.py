"""Annotated documents, in files and folders, in any of the formats that the corpus readers know.

The format is told by a file's first lines.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

from loaders.brat import read_brat
from loaders.conll import read_conll
from loaders.errors import InputError
from loaders.gsc import read_gsc
from loaders.jsonl import read_jsonl
from loaders.lines import text_lines
from loaders.pgr import HEADER as PGR_HEADER
from loaders.pgr import read_pgr
from loaders.pubtator import read_pubtator
from loaders.records import Document
from loaders.sources import files, head


def _read_bioc_xml(path: str | Path) -> Iterator[Document]:
    from loaders.bioc import read_bioc_xml

    return read_bioc_xml(path)


def _read_bioc_json(path: str | Path) -> Iterator[Document]:
    from loaders.bioc import read_bioc_json

    return read_bioc_json(path)


CORPUS_FORMATS: dict[str, Callable[[str | Path], Iterator[Document]]] = {
    "pubtator": read_pubtator,
    "gsc": read_gsc,
    "conll": read_conll,
    "pgr": read_pgr,
    "bioc-xml": _read_bioc_xml,
    "bioc-json": _read_bioc_json,
    "brat": read_brat,
    "jsonl": read_jsonl,
}
_PUBTATOR = re.compile(r"[^|\s]+\|[ta]\|")
_STANDOFF = re.compile(r"T[^\t ]*\t\S+ [0-9]+ [0-9]+.*")
_TAGGED = re.compile(r"(-DOCSTART-.*|\S.*[\t ]([BIESLU]-\S*|O)[ ]*)")


def read_corpus(path: str | Path, format: str | None = None) -> Iterator[Document]:
    """The documents of a PubTator, BioC, brat, JSON-lines, CoNLL, GSC+ or PGR file, or of a folder of such files.

    Raises:
        InputError: the file is not there, or none of the formats, or malformed; a folder without files.
    """
    path = Path(path)
    if path.is_dir():
        return (document for file, _ in input_files(path) for document in read_corpus(file, format))
    name = format or corpus_format(path)
    if name is None:
        raise InputError(
            path,
            None,
            "is neither PubTator (id|t|title), nor BioC, nor brat, nor JSON lines with a text, nor CoNLL (word and "
            "tag), nor GSC+ (id, text), nor PGR",
        )
    if name not in CORPUS_FORMATS:
        raise InputError(path, None, f"unknown format {name!r}; choose {', '.join(sorted(CORPUS_FORMATS))}")
    return CORPUS_FORMATS[name](path)


def input_files(paths: str | Path | Iterable[str | Path]) -> Iterator[tuple[Path, str]]:
    """Each file of the paths, with its name below the path that was given. The text beside a `.ann` goes with it."""
    for given in [paths] if isinstance(paths, str | Path) else paths:
        given = Path(given)
        if not given.is_dir():
            yield given, given.name
            continue
        inside = files(given)
        if not inside:
            raise InputError(given, None, "holds no files; name the folder that has the documents")
        there = set(inside)
        for path in inside:
            if not (path.suffix == ".txt" and path.with_suffix(".ann") in there) and path.suffix != ".conf":
                yield path, path.relative_to(given).as_posix()


def corpus_format(path: Path) -> str | None:
    """The format of an annotated file, by its first lines; None if it is none of them.

    Raises:
        InputError: the file cannot be read, or is empty.
    """
    if path.suffix == ".ann" or (path.suffix == ".txt" and path.with_suffix(".ann").is_file()):
        return "brat"
    start = "\n".join(head(path)).lstrip()
    if start.startswith("<") and re.search(r"<collection[\s>]", start):
        return "bioc-xml"
    if start.startswith("{"):
        return _json_format(start)
    lines = list(islice((line for _, line in text_lines(path) if line.strip()), 3))
    if not lines:
        raise InputError(path, None, "holds no document; it is empty")
    if _PUBTATOR.match(lines[0]):
        return "pubtator"
    if lines[0].startswith(PGR_HEADER):
        return "pgr"
    if _TAGGED.fullmatch(lines[0]):
        return "conll"
    if _STANDOFF.fullmatch(lines[0]):
        return "brat"
    if "\t" not in lines[0] and len(lines) > 1 and "\t" not in lines[1]:
        return "gsc"
    return None


def _json_format(start: str) -> str | None:
    """BioC has documents of passages, JSON lines a text."""
    if re.match(r'\{\s*"(?:[^"\\]|\\.)*"\s*:', start) is None:
        return None
    if re.search(r'"(?:documents|PubTator3|passages)"\s*:\s*\[', start):
        return "bioc-json"
    return "jsonl" if re.search(r'"text"\s*:\s*"', start) else None
