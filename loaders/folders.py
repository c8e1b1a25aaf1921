"""Folders that appear whole or not at all and have one writer at a time, and the hash that says what is in a file."""

import glob
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from loaders.errors import MedgraftError


@contextmanager
def only_writer(path: str | Path) -> Iterator[None]:
    """Hold the place of an output folder, so that no other process writes it meanwhile; readers do not care.

    The lock is the file `.<name>.lock` beside the folder, which stays; a process that dies lets it go. What dead
    processes left half-built is removed.

    Raises:
        MedgraftError: another process is writing there (at once, without waiting), or the place cannot be written.
    """
    target = Path(path).absolute()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = target.parent / f".{target.name}.lock"
        with lock.open("a"):  # tells a place that cannot be written from one that is taken
            pass
    except OSError as error:
        raise _cannot_write(target, error) from error
    held = FileLock(lock)
    try:
        held.acquire(timeout=0)
    except Timeout as error:
        raise MedgraftError(
            f"another process is writing {path}; wait until it is done, or choose another output"
        ) from error
    try:
        restore_folder(target)
        for left in target.parent.glob(f"{glob.escape(_aside(target))}*"):
            shutil.rmtree(left, ignore_errors=True)
        if target.exists():
            shutil.rmtree(_previous(target), ignore_errors=True)
        yield
    finally:
        held.release()


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
        aside = Path(tempfile.mkdtemp(prefix=_aside(target), dir=target.parent))
    except OSError as error:
        raise _cannot_write(target, error) from error
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


def cache_folder() -> Path:
    """Where to keep what can be fetched or made again: $MEDGRAFT_CACHE, else the user's folder for caches."""
    import pooch

    return Path(os.environ.get("MEDGRAFT_CACHE") or pooch.os_cache("medgraft"))


def sha256(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _previous(target: Path) -> Path:
    return target.parent / f".{target.name}.previous"


def _aside(target: Path) -> str:
    return f".{target.name}.building-"


def _cannot_write(target: Path, error: OSError) -> MedgraftError:
    return MedgraftError(f"cannot write to {target.parent}: {error.strerror}; choose another output")
