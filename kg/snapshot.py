"""The canonical form of a graph: a folder of Parquet tables and a manifest, from which every store can be rebuilt.

    concepts.parquet     id, name, aliases, types, definition, sources        sorted and unique by id
    names.parquet        concept_id, name, kind, language, source, suppressed  sorted, unique
    triples.parquet      head, relation, tail, sources, evidence               sorted and unique by the first three
    exclusions.parquet   the same columns: facts stated NOT to hold
    retired.parquet      id, successor, reason                                 sorted and unique by id
    mappings.parquet     concept_id, predicate, object, sources, evidence      sorted and unique by the first three
    attributes.parquet   concept_id, attribute, value, sources                 sorted and unique by the first three
    state/NAME.parquet   rows that a reader wants to see again when an update comes, as it gave them
    manifest.json        inputs, accounts, counts, inverse relations, sources, versions, fingerprint

The same inputs give the same bytes: rows are sorted, the writer's options are pinned, nothing carries a date.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from loaders.errors import MedgraftError
from loaders.folders import restore_folder
from loaders.tables import SCHEMAS as READER_SCHEMAS

FORMAT = 2  # of the folder; raised when an older medgraft could no longer read it
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
    "mappings": pa.schema(
        [
            ("concept_id", pa.string()),
            ("predicate", pa.string()),
            ("object", pa.string()),
            ("sources", _STRINGS),
            ("evidence", _STRINGS),
        ]
    ),
    "attributes": pa.schema(
        [("concept_id", pa.string()), ("attribute", pa.string()), ("value", pa.string()), ("sources", _STRINGS)]
    ),
}

# Rows in one group of the file. Small where rows are looked up by concept: a look-up unpacks one group.
_ROW_GROUP = {"names": 16_384, "mappings": 16_384, "attributes": 16_384}
_LARGE_GROUP = 122_880
_REPEATING = ("relation", "predicate", "attribute", "kind", "language", "source", "sources", "evidence", "types")


class TableWriter:
    """Writes one table of the snapshot as its rows come: the same bytes whatever pieces they come in.

    `rows` is the number of rows so far, `content` their hash.
    """

    def __init__(self, folder: Path, name: str) -> None:
        schema = SCHEMAS[name]
        paths = [f"{f.name}.list.element" if pa.types.is_list(f.type) else f.name for f in schema]
        self.content = ContentHash(name)
        self.rows = 0
        self._size = _ROW_GROUP.get(name, _LARGE_GROUP)
        self._waiting: list[pa.Table] = []
        self._num_waiting = 0
        self._writer = pq.ParquetWriter(
            folder / f"{name}.parquet",
            schema,
            compression="zstd",
            version="2.6",
            use_dictionary=[path for path in paths if path.split(".")[0] in _REPEATING],
        )

    def write(self, table: pa.Table) -> None:
        self.content.add(table)
        self.rows += table.num_rows
        self._waiting.append(table)
        self._num_waiting += table.num_rows
        if self._num_waiting >= self._size:
            self._write_groups(self._num_waiting - self._num_waiting % self._size)

    def close(self) -> None:
        if self._num_waiting or not self.rows:
            self._write_groups(self._num_waiting)
        self._writer.close()

    def _write_groups(self, rows: int) -> None:
        table = pa.concat_tables(self._waiting) if self._waiting else self._writer.schema.empty_table()
        for start in range(0, max(rows, 1), self._size):
            size = min(self._size, rows - start)
            self._writer.write_table(table.slice(start, size).combine_chunks(), row_group_size=self._size)
        rest = table.slice(rows)
        self._waiting, self._num_waiting = ([rest] if rest.num_rows else []), rest.num_rows


class ContentHash:
    """SHA-256 over the values of a table, column by column, fed as the rows come.

    Each column is hashed in three parts, the lengths of its lists, the lengths of its texts (-1 for null) and their
    bytes, so that no two contents look alike and chunks leave no trace.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.rows = 0
        self._parts = {column: (hashlib.sha256(), hashlib.sha256(), hashlib.sha256()) for column in SCHEMAS[name].names}

    def add(self, table: pa.Table) -> None:
        self.rows += table.num_rows
        for column, parts in self._parts.items():
            for chunk in table.column(column).chunks:
                _hash(chunk, *parts)

    def into(self, total: Any) -> None:
        for column, parts in self._parts.items():
            total.update(f"{self.name}.{column}:{self.rows}\n".encode())
            total.update(b"".join(part.digest() for part in parts))


def write_table(folder: Path, name: str, table: pa.Table) -> None:
    """Write one table of the snapshot, the same bytes for the same rows whatever the chunks they come in."""
    writer = TableWriter(folder, name)
    try:
        writer.write(table)
    finally:
        writer.close()


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


def read_batches(folder: Path, name: str, rows: int, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """One table of the snapshot in its order, at most so many rows at a time; an empty table gives no batch.

    Raises:
        MedgraftError: if it is missing, damaged, or has other columns than this version writes.
    """
    path = folder / f"{name}.parquet"
    schema = SCHEMAS[name] if columns is None else pa.schema([SCHEMAS[name].field(column) for column in columns])
    try:
        with pq.ParquetFile(path) as file:
            if file.schema_arrow.names != SCHEMAS[name].names:
                raise MedgraftError(f"{path} has other columns than expected; run `medgraft build` again")
            for batch in file.iter_batches(rows, columns=schema.names):
                yield batch.select(schema.names).cast(schema)
    except (OSError, pa.ArrowException) as error:
        raise MedgraftError(f"{path} cannot be read ({_first_line(error)}); run `medgraft build` again") from error


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
        if folder.exists():
            raise MedgraftError(
                f"{folder} is a file, not a graph folder; make one with `medgraft build {folder} --to GRAPH`"
            )
        raise MedgraftError(
            f"{folder} does not exist, not a graph folder; make one with `medgraft build SOURCE --to {folder}`"
        )
    if not is_graph(folder):
        raise MedgraftError(
            f"{folder} is not a graph folder (no manifest.json with a fingerprint); make one with `medgraft build`"
        )
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    if manifest["format"] > FORMAT:
        raise MedgraftError(f"{folder} was written by a newer medgraft; upgrade medgraft or run `medgraft build` again")
    if manifest["format"] < FORMAT:
        raise MedgraftError(f"{folder} was written by an earlier medgraft; run `medgraft build` again")
    return manifest


class StateWriter:
    """Writes the tables `state:NAME` of readers to `state/NAME.parquet`, each as its batches come."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "state"
        self._writers: dict[str, pq.ParquetWriter] = {}

    def write(self, name: str, rows: pa.RecordBatch) -> None:
        if name not in self._writers:
            self._folder.mkdir(exist_ok=True)
            path = self._folder / f"{name}.parquet"
            self._writers[name] = pq.ParquetWriter(path, rows.schema, compression="zstd", version="2.6")
        self._writers[name].write_batch(rows)

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()


def is_graph(folder: Path) -> bool:
    """Whether the folder holds a snapshot, by its manifest."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(manifest, dict) and {"format", "fingerprint", "counts"} <= manifest.keys()


def fingerprint(tables: Mapping[str, pa.Table]) -> str:
    """SHA-256 over the values of all columns: the same for the same graph in any store, file layout or chunking."""
    contents = {name: ContentHash(name) for name in SCHEMAS}
    for name, content in contents.items():
        content.add(tables[name])
    return combined_fingerprint(contents)


def combined_fingerprint(contents: Mapping[str, ContentHash]) -> str:
    """The fingerprint of a graph from the hashes of all its tables."""
    total = hashlib.sha256()
    for name in SCHEMAS:
        contents[name].into(total)
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
