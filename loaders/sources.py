"""Where a dump lies: a file, a folder, or a zip archive, which is read in place like a folder."""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from loaders.errors import InputError
from loaders.lines import open_bytes, reading

_ZIP = b"PK\x03\x04"
_HEAD = 1 << 16  # bytes


def opened(path: str | Path) -> Path:
    """The path of a dump; of a zip archive its root.

    What lies in an archive behaves like a `Path` in all that readers do with one: `open("rb")`, `name`, `str`, `/`.

    Raises:
        InputError: it does not exist, cannot be opened, or is a damaged archive.
    """
    path = Path(path)
    if path.is_dir():
        return path
    with open_bytes(path) as file, reading(path):
        packed = file.read(len(_ZIP)) == _ZIP
    if not packed:
        return path
    try:
        return cast(Path, zipfile.Path(path))
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError(path, None, f"broken zip archive ({error}); fetch it anew") from error


def files(folder: Path) -> list[Path]:
    """All files below a folder, sorted by path; hidden ones and those that systems leave behind are passed over."""
    return list(_walk(folder))


def _walk(folder: Path) -> Iterator[Path]:
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.name.startswith((".", "__MACOSX")):
            continue
        if entry.is_dir():
            yield from _walk(entry)
        else:
            yield entry


def head(path: Path) -> list[str]:
    """The first lines of a file, at most 64 KB of them, unpacked; text that is no UTF-8 has replacement characters.

    Raises:
        InputError: the file cannot be read.
    """
    with open_bytes(path) as file, reading(path):
        text = file.read(_HEAD).decode("utf-8-sig", errors="replace")
    return text.replace("\r\n", "\n").split("\n")
