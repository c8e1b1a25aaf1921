"""Lines of text files: UTF-8, gzip or plain, each with its number, every fault named with file and line.

A line ends at LF or CR LF and at nothing else: the Unicode line separators, vertical tabs and single carriage returns
that turn up in terminologies belong to the field that holds them, so `str.splitlines` is never used.
"""

import gzip
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from loaders.errors import InputError

BLOCK_SIZE = 1 << 24
_GZIP = b"\x1f\x8b"
_BOM = b"\xef\xbb\xbf"


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file with their numbers, counted from 1, without line ends and byte order mark.

    Raises:
        InputError: the file cannot be opened or unpacked, or a line is not UTF-8 text.
    """
    for number, raw in raw_lines(path):
        yield number, decode(path, number, raw)


def raw_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Like `text_lines`, not yet decoded, for readers that can go on after a line that is not UTF-8."""
    number = 0
    with open_bytes(path) as file, reading(path):
        for raw in file:
            number += 1
            if b"\0" in raw:
                raise binary_file(path, number)
            if number == 1:
                raw = raw.removeprefix(_BOM)
            yield number, raw.removesuffix(b"\n").removesuffix(b"\r")


def decode(path: Path, number: int, raw: bytes) -> str:
    """One line as text; InputError if it is not UTF-8."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            path, number, f"not UTF-8 text at byte {error.start + 1}; convert the file to UTF-8"
        ) from error


def line_blocks(path: Path, after_line: int = 0, size: int = BLOCK_SIZE) -> Iterator[tuple[int, bytes]]:
    """The lines after `after_line` in blocks of whole lines, each with the number of its first line.

    Every line of a block, the last one too, ends with LF alone. Memory stays near `size` bytes however big the file.
    """
    number = 1
    with open_bytes(path) as file, reading(path):
        for _ in range(after_line):
            number += bool(file.readline())
        while block := file.read(size):
            block += file.readline()
            if number == 1:
                block = block.removeprefix(_BOM)
            if (at := block.find(b"\0")) >= 0:
                raise binary_file(path, number + block.count(b"\n", 0, at))
            if not block.endswith(b"\n"):
                block += b"\n"
            yield number, block.replace(b"\r\n", b"\n")
            number += block.count(b"\n")


@contextmanager
def open_bytes(path: Path) -> Iterator[BinaryIO]:
    """A file opened for reading, unpacked if its content is gzip, whatever its name says."""
    try:
        file: BinaryIO = path.open("rb")
        packed = file.read(2) == _GZIP
        file.seek(0)
    except OSError as error:
        raise InputError(path, None, _cannot_open(path, error)) from error
    except (zipfile.BadZipFile, RuntimeError, zlib.error) as error:  # RuntimeError: encrypted, or an unknown packing
        raise InputError(path, None, f"cannot be unpacked ({error}); unpack the archive yourself") from error
    except ValueError as error:
        raise InputError(repr(str(path)), None, "not a file name; check the path") from error
    with file:
        yield cast(BinaryIO, gzip.GzipFile(fileobj=file)) if packed else file


def binary_file(path: Path, line: int) -> InputError:
    """What to say of a file that holds NUL bytes."""
    return InputError(path, line, "not UTF-8 text but a binary file (NUL byte); unpack it or convert it to UTF-8 first")


def _cannot_open(path: Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file; check the path"
    if isinstance(error, IsADirectoryError):
        return "a folder, where a file is expected; name the file in it"
    return f"cannot be read ({error.strerror}); check the path and its permissions"


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what a damaged file raises while it is read into an InputError."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile) as error:
        raise InputError(path, None, "broken gzip or zip file, cut off or damaged; fetch or pack it anew") from error
    except OSError as error:
        raise InputError(path, None, f"cannot be read to its end ({error.strerror}); check the disk") from error
