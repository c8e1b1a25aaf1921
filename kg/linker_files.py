"""A linker at rest: Arrow tables, NumPy arrays and JSON in a folder, mapped into memory when read."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kg.alias_index import Arrays
from kg.alias_table import Keys
from kg.alias_vectors import AliasVectors
from kg.linking_confidence import Confidence
from kg.mentions import Settings
from loaders.errors import InputError, MedgraftError
from loaders.folders import new_folder

FORMAT = 5
_AGAIN = "build the linker again"


@dataclass(frozen=True, slots=True)
class LinkerFiles:
    """All that makes a linker.

    Attributes:
        fingerprint: Of the graph.
        counts: Names kept, and left out by reason.
        settings: What counts as a mention.
        confidence: How sure it is.
        chosen: What the graph's names were chosen by: `types`, `languages`, and whether there was a `keep` or a corpus.
        aliases: As `kg.alias_table.alias_table` makes it.
        concepts: id, name, types, definition, ascending by id.
        keys: By which the dictionary finds the aliases.
        index: Of the distinct spellings.
        spelling_rows: The aliases of each spelling; those without one come first.
        spelling_starts: Where the aliases of each begin, (n_spellings + 1,).
        parents: See `kg.disambiguation.Hierarchy`.
        parent_starts: Likewise.
        vectors: Of the spellings, if it has any.
    """

    fingerprint: str
    counts: dict[str, int]
    settings: Settings
    confidence: Confidence
    chosen: dict[str, Any]
    aliases: pa.Table
    concepts: pa.Table
    keys: Keys
    index: Arrays
    spelling_rows: NDArray[np.int32]
    spelling_starts: NDArray[np.int64]
    parents: NDArray[np.int32]
    parent_starts: NDArray[np.int64]
    vectors: AliasVectors | None = None


_TABLES = ("aliases", "concepts")
_KEYS = ("keys", "rows", "costs", "codes")
_INDEX = ("grams", "idf", "starts", "postings", "name_starts", "name_grams", "scale")
_ARRAYS = ("spelling_rows", "spelling_starts", "parents", "parent_starts")
_VECTORS = ("spellings", "vectors")
FILES = (
    "linker.json",
    *(f"{name}.arrow" for name in _TABLES),
    *(f"dictionary_{name}.npy" for name in _KEYS),
    *(f"index_{name}.npy" for name in _INDEX),
    *(f"{name}.npy" for name in _ARRAYS),
)


def write_linker(linker: LinkerFiles, folder: str | Path) -> None:
    """Write a linker; the folder appears whole."""
    settings = {
        "format": FORMAT,
        "fingerprint": linker.fingerprint,
        "counts": linker.counts,
        "settings": asdict(linker.settings),
        "confidence": asdict(linker.confidence),
        "chosen": linker.chosen,
    }
    sources: list[tuple[str, Any, tuple[str, ...]]] = [
        ("dictionary_", linker.keys, _KEYS), ("index_", linker.index, _INDEX), ("", linker, _ARRAYS)
    ]  # fmt: skip
    if linker.vectors is not None:
        settings["vectors"] = {"encoder": linker.vectors.encoder, "types": linker.vectors.types}
        sources.append(("vectors_", linker.vectors, _VECTORS))
    with new_folder(folder) as aside:
        (aside / "linker.json").write_text(json.dumps(settings, indent=1, ensure_ascii=True), encoding="utf-8")
        for name in _TABLES:
            table: pa.Table = getattr(linker, name)
            with pa.OSFile(str(aside / f"{name}.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table)
        for start, source, names in sources:
            for name in names:
                np.save(aside / f"{start}{name}.npy", getattr(source, name), allow_pickle=False)


def read_linker(folder: Path, fingerprint: str | None) -> LinkerFiles:
    """Read a linker; with `fingerprint`, that of this graph only.

    Raises:
        InputError: a file is missing or is not what it should be.
        MedgraftError: the linker was built from another graph.
    """
    for name in FILES:
        if not (folder / name).is_file():
            raise InputError(folder / name, None, "no such file; a linker folder is written by Linker.build(out=...)")
    settings = _read(folder / "linker.json", lambda path: json.loads(path.read_text(encoding="utf-8")))
    if not isinstance(settings, dict) or settings.get("format") != FORMAT:
        raise InputError(folder / "linker.json", None, f"not a linker of format {FORMAT}; {_AGAIN}")
    if fingerprint is not None and fingerprint != settings["fingerprint"]:
        raise MedgraftError(
            f"the linker {folder} was built from graph {settings['fingerprint'][:12]}, this is graph "
            f"{fingerprint[:12]}; build it again with Linker.build(graph)"
        )
    tables = {name: _read(folder / f"{name}.arrow", _map_table) for name in _TABLES}
    made = settings.get("vectors")
    keys, index, arrays, vectors = (
        {name: _read(folder / f"{start}{name}.npy", _map_array) for name in names}
        for start, names in (
            ("dictionary_", _KEYS), ("index_", _INDEX), ("", _ARRAYS), ("vectors_", _VECTORS if made else ()),
        )
    )  # fmt: skip
    try:
        linker = LinkerFiles(
            fingerprint=settings["fingerprint"],
            counts=settings["counts"],
            settings=Settings(**settings["settings"]),
            confidence=Confidence(tuple(settings["confidence"]["weights"]), settings["confidence"]["threshold"]),
            chosen=settings["chosen"],
            keys=Keys(**keys),
            index=Arrays(**index),
            vectors=AliasVectors(made["encoder"], made["types"], **vectors) if made else None,
            **tables,
            **arrays,
        )
        _check(linker)
    except (KeyError, ValueError, TypeError) as error:
        raise InputError(folder, None, f"its files do not fit together ({error}); {_AGAIN}") from error
    return linker


def has_vectors(folder: str | Path) -> bool:
    """Whether the linker in a folder has vectors of names."""
    return (Path(folder) / "vectors_vectors.npy").is_file()


def _check(linker: LinkerFiles) -> None:
    """Sizes that must agree."""
    index, names = linker.index, len(linker.index.scale)
    for what, one, other in (
        ("keys", len(linker.keys.keys), len(linker.keys.rows)),
        ("costs", len(linker.keys.keys), len(linker.keys.costs)),
        ("3-grams", len(index.grams) + 1, len(index.starts)),
        ("lists of names", len(index.postings), int(index.starts[-1])),
        ("3-grams of names", names + 1, len(index.name_starts)),
        ("spellings", names + 1, len(linker.spelling_starts)),
        ("aliases", len(linker.aliases), len(linker.spelling_rows)),
        ("concepts", len(linker.concepts) + 1, len(linker.parent_starts)),
    ):
        if one != other:
            raise ValueError(f"{what}: {one} and {other}")
    if linker.vectors is not None:
        spellings, vectors = linker.vectors.spellings, linker.vectors.vectors
        if vectors.ndim != 2 or vectors.dtype != np.float16 or len(vectors) != len(spellings):
            raise ValueError(f"vectors: {vectors.dtype} of shape {vectors.shape} and {len(spellings)} spellings")
        if len(spellings) and not 0 <= int(spellings[0]) <= int(spellings[-1]) < names:
            raise ValueError("vectors of spellings that are not there")


def _map_table(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all().combine_chunks()


def _map_array(path: Path) -> NDArray[Any]:
    if path.stat().st_size < 10:
        raise ValueError("too short")
    # As a plain array: `np.memmap` is slow to look at by single rows and short stretches.
    array: NDArray[Any] = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    return array


def _read(path: Path, reader: Callable[[Path], Any]) -> Any:
    try:
        return reader(path)
    except (OSError, ValueError, EOFError, pa.ArrowException) as error:
        raise InputError(path, None, f"cannot be read ({(str(error).splitlines() or ['?'])[0]}); {_AGAIN}") from error
