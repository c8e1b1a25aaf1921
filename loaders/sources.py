"""Where a dump lies: a file, a folder, or a zip archive, which is read in place like a folder."""

import io
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from loaders.errors import InputError
from loaders.lines import open_bytes, reading

_ZIP = b"PK\x03\x04"
_TAR, _TAR_AT = b"ustar", 257
_HEAD = 1 << 16  # bytes


def opened(path: str | Path) -> Path:
    """The path of a dump; of a zip archive its root.

    What lies in an archive behaves like a `Path` in all that readers do with one: `open("rb")`, `name`, `str`, `/`.

    Raises:
        InputError: it does not exist, cannot be opened, or is a damaged archive, or one of another kind.
    """
    path = Path(path)
    if path.is_dir():
        return path
    with open_bytes(path) as file, reading(path):
        start = file.read(_TAR_AT + len(_TAR))
    if start[_TAR_AT:] == _TAR:
        raise InputError(path, None, "a tar archive; unpack it (tar -xf) and name its folder")
    if not start.startswith(_ZIP):
        return path
    try:
        return cast(Path, zipfile.Path(path))
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError(path, None, f"broken zip archive ({error}); fetch it anew") from error


def files(folder: Path) -> list[Path]:
    """All files below a folder, sorted by path; hidden ones and those that systems leave behind are passed over."""
    return list(_walk(folder))


def visible(folder: Path) -> Iterator[Path]:
    """What a folder holds, without hidden entries and those that systems leave behind."""
    return (entry for entry in folder.iterdir() if not entry.name.startswith((".", "__MACOSX")))


def _walk(folder: Path) -> Iterator[Path]:
    for entry in sorted(visible(folder), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from _walk(entry)
        else:
            yield entry


@dataclass(frozen=True)
class Joined:
    """A file that its publisher split, read as if its parts had been written one after the other."""

    name: str
    parts: tuple[Any, ...]  # paths, of an archive too

    def open(self, mode: str = "rb") -> BinaryIO:
        return cast(BinaryIO, io.BufferedReader(_Chain(self.parts)))

    def __str__(self) -> str:
        return f"{self.parts[0]} (of {len(self.parts)} parts)"


class _Chain(io.RawIOBase):
    """The bytes of several files in turn; seeks to its beginning only."""

    def __init__(self, parts: tuple[Any, ...]) -> None:
        self._stack = ExitStack()
        self._parts = parts
        self.seek(0)

    def seek(self, offset: int, whence: int = 0) -> int:
        if offset or whence:
            raise io.UnsupportedOperation("only to the beginning")
        self._stack.close()
        self._files = iter([cast(BinaryIO, self._stack.enter_context(part.open("rb"))) for part in self._parts])
        self._file = next(self._files, None)
        return 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while self._file is not None:
            if read := self._file.read(len(buffer)):
                buffer[: len(read)] = read
                return len(read)
            self._file = next(self._files, None)
        return 0

    def close(self) -> None:
        self._stack.close()
        super().close()


def on_disk(path: object) -> Any:
    """What holds the bytes of a path: the file itself, or of what lies in a zip archive, the archive."""
    if isinstance(path, zipfile.Path):
        return Path(path.root.filename or "")
    if isinstance(path, Joined) and isinstance(path.parts[0], zipfile.Path):
        return on_disk(path.parts[0])
    return path


def head(path: Path) -> list[str]:
    """The first lines of a file, at most 64 KB of them, unpacked; text that is no UTF-8 has replacement characters.

    Raises:
        InputError: the file cannot be read.
    """
    with open_bytes(path) as file, reading(path):
        text = file.read(_HEAD).decode("utf-8-sig", errors="replace")
    return text.replace("\r\n", "\n").split("\n")
