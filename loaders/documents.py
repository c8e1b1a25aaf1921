"""Documents from files and folders in any format, plain text included, and one way to write them in each format.

for document in read_documents(["notes/", "corpus.xml.gz"]):
    ...
with open_writer("found.jsonl") as write:
    write(document)
"""

import gzip
import io
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from loaders.brat import write_brat
from loaders.corpus import CORPUS_FORMATS, corpus_format, input_files, read_corpus
from loaders.errors import MedgraftError
from loaders.folders import new_folder
from loaders.jsonl import document_to_json
from loaders.lines import binary_file, decode, open_bytes, reading
from loaders.pubtator import write_pubtator
from loaders.records import Document

WRITE_FORMATS = ("bioc-json", "bioc-xml", "brat", "jsonl", "pubtator")
_ENDINGS = {".jsonl": "jsonl", ".json": "bioc-json", ".xml": "bioc-xml", ".txt": "pubtator", ".pubtator": "pubtator"}
_HEAD = 1 << 16

Write = Callable[[Document], None]


def read_documents(paths: str | Path | Iterable[str | Path], format: str | None = None) -> Iterator[Document]:
    """The documents of files and folders, in their order; files of a folder sorted by path.

    The format of each file is told by its content; a file in no format of annotated documents is one document of plain
    text, its id the file's name without `.txt` (below the folder, where one was given).

    Args:
        paths: Files (plain or gzip) and folders.
        format: One of `CORPUS_FORMATS`, or `text`, for all files.

    Raises:
        InputError: a file that cannot be read, or is malformed; a folder without files.
    """
    for path, name in input_files(paths):
        yield from _of_file(path, name, format)


def _of_file(path: Path, name: str, format: str | None) -> Iterator[Document]:
    found = format or _told(path)
    if found != "text":
        yield from read_corpus(path, found)
        return
    with open_bytes(path) as file, reading(path):
        content = file.read().removeprefix(b"\xef\xbb\xbf")
    if (at := content.find(b"\0")) >= 0:
        raise binary_file(path, content.count(b"\n", 0, at) + 1)
    yield Document(re.sub(r"(?:\.txt)?(?:\.gz)?$", "", name), decode(path, 1, content))


def _told(path: Path) -> str:
    """The format of a file by its content; an empty file is an empty text."""
    if path.suffix != ".ann":
        with open_bytes(path) as file, reading(path):
            if not file.read(_HEAD).strip():
                return "text"
    found = corpus_format(path)
    return "text" if found is None or (found == "gsc" and not _is_gsc(path)) else found


def _is_gsc(path: Path) -> bool:
    """GSC+ is told from plain text by the fields of a mention on the third line."""
    with open_bytes(path) as file, reading(path):
        lines = [line for line in file.read(_HEAD).decode("utf-8", "replace").split("\n") if line.strip()]
    return len(lines) > 2 and re.match(r"[0-9]+\t[0-9]+\t[^\t]+\t\S", lines[2]) is not None and "\t" not in lines[0]


def write_format(out: Path, format: str | None) -> str:
    """The format to write: the one asked for, or what the file's ending says; brat for a folder.

    Raises:
        MedgraftError: it is none that can be written.
    """
    suffix = Path(out.name.removesuffix(".gz")).suffix
    name = format or _ENDINGS.get(suffix) or ("brat" if not suffix else None)
    if name is None:
        raise MedgraftError(f"{out}: its ending tells no format; choose --format {', '.join(WRITE_FORMATS)}")
    if name not in WRITE_FORMATS:
        raise MedgraftError(f"unknown format {name!r}; choose {', '.join(WRITE_FORMATS)}")
    return name


@contextmanager
def open_writer(out: str | Path, format: str | None = None) -> Iterator[Write]:
    """A function that writes one document after the other; the output appears when the block ends well, else not.

    Args:
        out: A file, packed if it ends in `.gz`; for brat a folder.
        format: One of `WRITE_FORMATS`; by default told by the ending.

    Raises:
        MedgraftError: no such format, a place that cannot be written, a document that the format cannot hold.
    """
    out = Path(out)
    name = write_format(out, format)
    if name == "brat":
        with new_folder(out) as aside:
            yield lambda document: write_brat(document, aside)
        return
    with new_file(out) as file:
        packed = gzip.GzipFile(filename="", fileobj=file, mode="wb", mtime=0) if out.suffix == ".gz" else None
        stream = cast(BinaryIO, packed or file)
        write, close = _writer(name, stream)
        yield write
        close()
        if packed is not None:
            packed.close()


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A binary file that appears when the block ends well; on an error nothing is left behind."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise MedgraftError(f"cannot write {path}: {error.strerror}; choose another output") from error
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        Path(aside).chmod(0o644)
        if path.is_dir():
            raise MedgraftError(f"{path} is a folder; choose another output")
        Path(aside).replace(path)
    finally:
        Path(aside).unlink(missing_ok=True)


def _writer(format: str, file: BinaryIO) -> tuple[Write, Callable[[], Any]]:
    if format in ("bioc-xml", "bioc-json"):
        from loaders.bioc import BioCJSONWriter, BioCXMLWriter

        writer = BioCXMLWriter(file) if format == "bioc-xml" else BioCJSONWriter(file)
        return writer.write, writer.close
    if format == "jsonl":
        return lambda document: _put(file, document_to_json(document) + "\n"), lambda: None
    text = io.TextIOWrapper(file, encoding="utf-8", newline="\n")
    return lambda document: write_pubtator([document], text), text.detach


def _put(file: BinaryIO, text: str) -> None:
    file.write(text.encode("utf-8"))


__all__ = ["CORPUS_FORMATS", "WRITE_FORMATS", "input_files", "open_writer", "read_documents", "write_format"]
