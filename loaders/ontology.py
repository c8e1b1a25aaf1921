"""Which reader a dump needs, found by its content, and the one call that reads any of them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from loaders.edge_tables import has_columns, is_table, read_table
from loaders.errors import InputError, MedgraftError
from loaders.hpo import is_genes_to_phenotype, is_hpoa, read_genes_to_phenotype, read_hpoa
from loaders.icd10cm import is_icd10cm, read_icd10cm
from loaders.kgx import is_kgx, read_kgx
from loaders.mesh import is_mesh, read_mesh
from loaders.obo import is_obo, read_obo
from loaders.obographs import is_obographs, read_obographs
from loaders.options import DEFAULTS, Options
from loaders.owl import is_owl, read_owl
from loaders.rf2 import is_rf2, read_rf2
from loaders.sources import files, head, opened, visible
from loaders.sssom import is_sssom, read_sssom
from loaders.tables import Account, Batch
from loaders.umls import is_rxnorm, is_umls, read_rxnorm, read_umls


class Reader(Protocol):
    """Reads one format; see `loaders.tables` for what it yields and how it counts."""

    def __call__(self, path: Path, account: Account, options: Options = DEFAULTS) -> Iterator[Batch]: ...


@dataclass(frozen=True)
class Format:
    """A format: its reader, how to know it, and which `Options` the reader heeds besides `skip_bad`.

    A dump is one file, known by its first lines, or a folder, known by the names of the files in it.
    """

    read: Reader
    is_file: Callable[[list[str]], bool] | None = None
    is_folder: Callable[[list[str]], bool] | None = None
    heeds: frozenset[str] = frozenset()


_RRF = frozenset({"languages", "sources", "types", "suppressed", "max_restriction", "attributes", "hierarchy"})
# Tried in this order.
FORMATS: dict[str, Format] = {
    "obo": Format(read_obo, is_obo),
    "obographs": Format(read_obographs, is_obographs),
    "owl": Format(read_owl, is_owl),
    "hpoa": Format(read_hpoa, is_hpoa),
    "genes_to_phenotype": Format(read_genes_to_phenotype, is_genes_to_phenotype),
    "kgx": Format(read_kgx, is_kgx),
    "sssom": Format(read_sssom, is_sssom),
    "icd10cm": Format(read_icd10cm, is_icd10cm),
    "mesh": Format(read_mesh, is_mesh, heeds=frozenset({"attributes"})),
    "rf2": Format(read_rf2, is_folder=is_rf2, heeds=frozenset({"languages", "release_type", "stated"})),
    "umls": Format(read_umls, is_folder=is_umls, heeds=_RRF),
    "rxnorm": Format(read_rxnorm, is_folder=is_rxnorm, heeds=_RRF - {"hierarchy"}),
    "table": Format(read_table, is_table, heeds=frozenset({"columns"})),
}
UNKNOWN = "a file of no known format"
Dumps = list[tuple[Path, str | None]]


def read_ontology(
    path: str | Path, account: Account, format: str | None = None, options: Options = DEFAULTS
) -> Iterator[Batch]:
    """Read a dump in any known format: a file, a folder, or a zip archive of either.

    `format` is one of `FORMATS`; it is detected if None and noted in `account`. A folder that is no dump as a whole is
    read dump by dump, each with an account of its own; files of no known format are counted there as dropped.

    Raises:
        InputError: the dump is missing, empty, binary or of no known format (at once), or malformed (while reading).
        MedgraftError: no such format.
    """
    if format is not None and format not in FORMATS:
        raise MedgraftError(f"no format {format!r}; choose one of {', '.join(FORMATS)}")
    path = opened(path)
    if path.is_dir() and not _reads_folder(format):
        dumps = _dumps_in(path, format, options)
        if dumps[0][0] != path or len(dumps) > 1:
            return _read_each(dumps, account, options)
        format = dumps[0][1]
    account.format = format or detect_format(path, options)
    return FORMATS[account.format].read(path, account, options)


def detect_format(path: str | Path, options: Options = DEFAULTS) -> str:
    """The format of a dump: of a file by its first lines, of a folder by the files in it; never by its own name.

    Raises:
        InputError: it cannot be read, is empty, or looks like none of the known formats.
    """
    path = opened(path)
    if path.is_dir():
        found = _folder_format(path)
        if found is None:
            raise InputError(path, None, f"a folder that is no dump of a known format ({', '.join(FORMATS)})")
        return found
    return _file_format(path, options)


def _file_format(path: Path, options: Options) -> str:
    """By the first lines; the file may lie in a zip archive."""
    lines = head(path)
    if not any(line.strip() for line in lines):
        raise InputError(path, None, "is empty; fetch the file anew")
    for name, format in FORMATS.items():
        if format.is_file and format.is_file(lines):
            return name
    if options.columns and has_columns(lines, options.columns):
        return "table"
    raise InputError(path, None, f"none of the known formats ({', '.join(FORMATS)}); check that it is the right file")


def holds_dump(path: str | Path) -> bool:
    """Whether a file, a zip archive or a folder is something to read, and meant to be.

    A folder is if it is a dump as a whole, or if some of its files are dumps and it holds no folders: one that holds
    all sorts of things is rather a wrong path.
    """
    try:
        place = opened(path)
        if not place.is_dir():
            detect_format(place)
            return True
        mixed = Path(path).is_dir() and any(entry.is_dir() for entry in place.iterdir())
        if mixed and _folder_format(place) is None:  # told by names alone, before any file is opened
            return False
        return _dumps_in(place, None, DEFAULTS)[0][0] == place or not mixed
    except InputError:
        return False


def _reads_folder(format: str | None) -> bool:
    return format is not None and FORMATS[format].is_folder is not None


def _folder_format(folder: Path) -> str | None:
    names = [path.name for path in files(folder)]
    return next((name for name, format in FORMATS.items() if format.is_folder and format.is_folder(names)), None)


def _dumps_in(folder: Path, format: str | None, options: Options) -> Dumps:
    """The dumps of a folder, it itself or others in it, each with its format, None where there is none.

    Raises:
        InputError: there is none of a known format.
    """
    dumps: Dumps = [(path, format) for path in files(folder)] if format else _parts(folder, options)
    if not any(found for _, found in dumps):
        raise InputError(folder, None, f"holds no file of a known format ({', '.join(FORMATS)}); check the path")
    return dumps


def _parts(folder: Path, options: Options) -> Dumps:
    """A folder that is one dump as a whole; else those in it, whether they are folders or files."""
    whole = _folder_format(folder)
    single: Dumps = [(path, _format_or_none(path, options)) for path in files(folder)]
    if whole is None:
        return single
    others: Dumps = [(path, format) for path, format in single if format]
    names = [path.name for path, _ in single]
    if not others and sum(bool(f.is_folder and f.is_folder(names)) for f in FORMATS.values()) == 1:
        return [(folder, whole)]
    entries = sorted(visible(folder), key=lambda entry: entry.name)
    if not any(entry.is_dir() and _folder_format(entry) for entry in entries):
        inside: Dumps = [(folder, whole)]
        return inside + others
    below: Dumps = []
    for entry in entries:
        below += _parts(entry, options) if entry.is_dir() else [part for part in single if str(part[0]) == str(entry)]
    return below


def _format_or_none(path: Path, options: Options) -> str | None:
    try:
        return _file_format(path, options)
    except InputError:
        return None


def _read_each(dumps: list[tuple[Path, str | None]], account: Account, options: Options) -> Iterator[Batch]:
    for path, format in dumps:
        part = account.part(path)
        if format is None:
            part.drop(UNKNOWN)
        else:
            part.format = format
            yield from FORMATS[format].read(path, part, options)
