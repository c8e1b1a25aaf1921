"""Folders that appear whole or not at all, and the hash that says what is in a file."""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from loaders.errors import MedgraftError


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Build a folder aside and switch it in when the block ends well; on an error or Ctrl-C nothing is left behind.

    An earlier folder at `path` stays in use until the switch and is removed after it. A process that dies between the
    two renames leaves the earlier folder as `.<name>.previous`; `restore_folder` puts it back.
    """
    target = Path(path)
    restore_folder(target)
    if target.exists() and not target.is_dir():
        raise MedgraftError(f"{target} is a file; choose another place for the output folder")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.building-", dir=target.parent))
    except OSError as error:
        raise MedgraftError(f"cannot write to {target.parent}: {error.strerror}; choose another output") from error
    try:
        aside.chmod(0o755)
        yield aside
        previous = _previous(target)
        if target.exists():
            target.replace(previous)
        aside.replace(target)
        shutil.rmtree(previous, ignore_errors=True)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def restore_folder(path: str | Path) -> None:
    """Put back the earlier folder if a switch was cut off between its two renames."""
    target = Path(path)
    previous = _previous(target)
    if previous.exists() and not target.exists():
        previous.replace(target)


def sha256(path: str | Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _previous(target: Path) -> Path:
    return target.parent / f".{target.name}.previous"
