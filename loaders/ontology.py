"""Which reader a dump needs, found by its content, and the one call that reads any of them."""

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Protocol

from loaders.errors import InputError, MedgraftError
from loaders.hpo import is_genes_to_phenotype, is_hpoa, read_genes_to_phenotype, read_hpoa
from loaders.lines import text_lines
from loaders.obo import is_obo, read_obo
from loaders.tables import Account, Batch


class Reader(Protocol):
    """Reads one format; see `loaders.tables` for what it yields and how it counts."""

    def __call__(self, path: Path, account: Account, skip_bad: bool = False) -> Iterator[Batch]: ...


FORMATS: dict[str, Reader] = {
    "obo": read_obo,
    "hpoa": read_hpoa,
    "genes_to_phenotype": read_genes_to_phenotype,
}
_SIGNS: dict[str, Callable[[list[str]], bool]] = {
    "obo": is_obo,
    "hpoa": is_hpoa,
    "genes_to_phenotype": is_genes_to_phenotype,
}
_HEAD = 200


def read_ontology(
    path: str | Path, account: Account, format: str | None = None, skip_bad: bool = False
) -> Iterator[Batch]:
    """Read a dump in any known format; `format` is one of `FORMATS`, detected if None and noted in `account`.

    Raises:
        InputError: the file is missing, empty, binary or of no known format (at once), or malformed (while reading).
        MedgraftError: no such format.
    """
    path = Path(path)
    if format is None:
        format = detect_format(path)
    elif format not in FORMATS:
        raise MedgraftError(f"no format {format!r}; choose one of {', '.join(FORMATS)}")
    account.format = format
    return FORMATS[format](path, account, skip_bad)


def detect_format(path: str | Path) -> str:
    """The format of a dump, by its first lines, never by its name.

    Raises:
        InputError: the file cannot be read, is empty, or looks like none of the known formats.
    """
    path = Path(path)
    head = [line for _, line in islice(text_lines(path), _HEAD)]
    if not any(line.strip() for line in head):
        raise InputError(path, None, "is empty; fetch the file anew")
    for name, found in _SIGNS.items():
        if found(head):
            return name
    raise InputError(path, None, f"none of the known formats ({', '.join(FORMATS)}); check that it is the right file")
