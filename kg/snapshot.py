"""The canonical form of a graph: a folder of five Parquet tables and a manifest, from which every store can be rebuilt.

    concepts.parquet     id, name, aliases, types, definition, sources        sorted and unique by id
    names.parquet        concept_id, name, kind, language, source, suppressed  sorted, unique
    triples.parquet      head, relation, tail, sources, evidence               sorted and unique by the first three
    exclusions.parquet   the same columns: facts stated NOT to hold
    retired.parquet      id, successor, reason                                 sorted and unique by id
    manifest.json        inputs, accounts, counts, versions, fingerprint

The same inputs give the same bytes: rows are sorted, the writer's options are pinned, nothing carries a date.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from loaders.errors import MedgraftError
from loaders.folders import restore_folder
from loaders.tables import SCHEMAS as READER_SCHEMAS

FORMAT = 1  # of the folder; raised when an older medgraft could no longer read it
HIERARCHY = ("is_a", "isa", "subclass_of", "child_of", "narrower_than")  # all lead from the child to the parent

_STRINGS = pa.list_(pa.string())
_FACT = [("head", pa.string()), ("relation", pa.string()), ("tail", pa.string())]
SCHEMAS: dict[str, pa.Schema] = {
    "concepts": pa.schema(
        [
            ("id", pa.string()),
            ("name", pa.string()),
            ("aliases", _STRINGS),
            ("types", _STRINGS),
            ("definition", pa.string()),
            ("sources", _STRINGS),
        ]
    ),
    "names": READER_SCHEMAS["names"],
    "triples": pa.schema([*_FACT, ("sources", _STRINGS), ("evidence", _STRINGS)]),
    "exclusions": pa.schema([*_FACT, ("sources", _STRINGS), ("evidence", _STRINGS)]),
    "retired": READER_SCHEMAS["retired"],
}

_ROW_GROUP = 500_000


def write_table(folder: Path, name: str, table: pa.Table) -> None:
    """Write one table of the snapshot, the same bytes for the same rows whatever the chunks they come in."""
    with pq.ParquetWriter(folder / f"{name}.parquet", SCHEMAS[name], compression="zstd", version="2.6") as writer:
        for start in range(0, max(table.num_rows, 1), _ROW_GROUP):
            writer.write_table(table.slice(start, _ROW_GROUP).combine_chunks(), row_group_size=_ROW_GROUP)


def read_table(folder: Path, name: str) -> pa.Table:
    """Read one table of the snapshot.

    Raises:
        MedgraftError: if it is missing, damaged, or has other columns than this version writes.
    """
    path = folder / f"{name}.parquet"
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise MedgraftError(f"{path} cannot be read ({_first_line(error)}); run `medgraft build` again") from error
    if table.schema.names != SCHEMAS[name].names:
        raise MedgraftError(f"{path} has other columns than expected; run `medgraft build` again")
    return table.cast(SCHEMAS[name])


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write `manifest.json`, sorted by key."""
    text = json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False)
    (folder / "manifest.json").write_text(text + "\n", encoding="utf-8")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read `manifest.json`.

    Raises:
        MedgraftError: if the folder is not a graph, or is one of a newer medgraft.
    """
    restore_folder(folder)
    if not folder.is_dir():
        state = "is a file" if folder.exists() else "does not exist"
        raise MedgraftError(
            f"{folder} {state}, not a graph folder; make one with `medgraft build SOURCE --to {folder}`"
        )
    if not is_graph(folder):
        raise MedgraftError(
            f"{folder} is not a graph folder (no manifest.json with a fingerprint); make one with `medgraft build`"
        )
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    if manifest["format"] > FORMAT:
        raise MedgraftError(f"{folder} was written by a newer medgraft; upgrade medgraft or run `medgraft build` again")
    return manifest


def is_graph(folder: Path) -> bool:
    """Whether the folder holds a snapshot, by its manifest."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and {"format", "fingerprint", "counts"} <= manifest.keys()


def fingerprint(tables: Mapping[str, pa.Table]) -> str:
    """SHA-256 over the values of all columns: the same for the same graph in any store, file layout or chunking.

    Each column is hashed in three parts, the lengths of its lists, the lengths of its texts (-1 for null) and their
    bytes, so that no two contents look alike and chunks leave no trace.
    """
    total = hashlib.sha256()
    for name, schema in SCHEMAS.items():
        for column in schema.names:
            total.update(f"{name}.{column}:{tables[name].num_rows}\n".encode())
            parts = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
            for chunk in tables[name].column(column).chunks:
                _hash(chunk, *parts)
            total.update(b"".join(part.digest() for part in parts))
    return total.hexdigest()


def _hash(values: pa.Array, lists: Any, lengths: Any, content: Any) -> None:
    """Feed one array of strings, lists of strings or truth values to the three hashes."""
    if pa.types.is_list(values.type):
        lists.update(_bytes(pc.fill_null(pc.list_value_length(values), -1)))
        values = values.flatten()
    elif pa.types.is_boolean(values.type):
        values = pc.cast(values, pa.string())
    lengths.update(_bytes(pc.fill_null(pc.binary_length(values), -1)))
    text = pc.fill_null(values, "").cast(pa.large_string())
    _, offsets, data = text.buffers()
    if data is not None and len(text):
        bounds = np.frombuffer(offsets, np.int64)[text.offset : text.offset + len(text) + 1]
        content.update(memoryview(data)[bounds[0] : bounds[-1]])


def _bytes(numbers: pa.Array) -> memoryview:
    return memoryview(numbers.to_numpy(zero_copy_only=False).astype("<i8"))


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
