"""The files from which `neo4j-admin database import full` makes a database, and the command that does it.

An offline import writes the store's own files, many times faster than any server takes rows, into a database that is
empty or not there yet, while its server is stopped. It checks nothing and sets no constraint, so the database says of
itself that it is `imported`: the first load of the same graph then adds constraints and indexes, compares the counts
with the manifest, and opens it.

Format: https://neo4j.com/docs/operations-manual/5/import/
"""

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import polars as pl
import pyarrow as pa

from kg.layout import LOADER, PLACES, relationship_type, stored_rows, type_labels
from kg.snapshot import read_batches, read_manifest
from loaders.errors import MedgraftError
from loaders.folders import new_folder

LISTS = "\x1f"  # parts the values of a list: the unit separator, which no text of ours holds
_ADMIN = "neo4j-admin"
_ROWS = 250_000  # written at once
_DATABASE = re.compile(r"[a-z][a-z0-9.-]{2,62}")
_LINE_BREAK = "[\r\n]"


@dataclass(frozen=True)
class ImportFiles:
    """Files for `neo4j-admin`, the rows in them, and the command that imports them (to be run in any folder)."""

    folder: str
    rows: dict[str, int]
    command: list[str]

    def __str__(self) -> str:
        counted = [f"{rows:>12,}  {name}" for name, rows in self.rows.items()]
        return "\n".join([*counted, "", "With the server stopped:", "", f"  {shlex.join(self.command)}"])


def write_import_files(graph: str | Path, out: str | Path, *, database: str = "neo4j") -> ImportFiles:
    """Write the files for an offline import of a graph folder.

    Args:
        graph: a graph folder.
        out: folder for the files; it appears when all are complete and replaces an earlier one.
        database: name of the database that the command imports into.

    Raises:
        MedgraftError: no graph there; a text with U+001F in it, which parts the values of lists.
    """
    if not _DATABASE.fullmatch(database):
        raise MedgraftError(f"{database!r} is no name for a database; use lower-case letters, digits, dots and dashes")
    source, target = Path(graph), Path(out)
    manifest = read_manifest(source)
    if source.resolve().is_relative_to(target.resolve()):
        raise MedgraftError(f"{source} lies in {target}, which the files would replace; choose another folder")
    with new_folder(target) as folder:
        files = [_CsvFile(folder, "MedgraftGraph")]
        files[0].write(_meta(manifest))
        for name, place in PLACES.items():
            files.append(_CsvFile(folder, place))
            for batch in read_batches(source, name, _ROWS):
                files[-1].write(stored_rows(name, pa.Table.from_batches([batch]), files[-1].rows))
        for file in files:
            file.close()
    kept = [file for file in files if file.rows]
    return ImportFiles(str(target), {f.place: f.rows for f in kept}, _command(target, kept, database))


def run_import(files: ImportFiles, admin: Sequence[str] | None = None) -> str:
    """Run the command on this machine; returns what it printed.

    Args:
        files: from `write_import_files`.
        admin: what to run in place of `neo4j-admin`, which is looked for in NEO4J_HOME/bin and on the PATH.

    Raises:
        MedgraftError: no `neo4j-admin` here, or it failed.
    """
    command = [*(admin or _find_admin()), *files.command[1:]]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        raise MedgraftError(f"{command[0]} cannot be run ({error.strerror}); give the path of neo4j-admin") from error
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        said = next((line for line in lines if "rror" in line or "xception" in line), lines[-1] if lines else "")
        raise MedgraftError(
            f"neo4j-admin ended with {done.returncode} ({said.strip()}); is the server stopped, and the database new?"
        )
    return done.stdout


def _find_admin() -> list[str]:
    home = os.environ.get("NEO4J_HOME")
    places = [str(Path(home) / "bin" / _ADMIN)] if home else []
    for place in (*places, _ADMIN):
        if found := shutil.which(place):
            return [found]
    raise MedgraftError("there is no neo4j-admin here; set NEO4J_HOME, or run the printed command on the server")


def _command(folder: Path, files: Sequence["_CsvFile"], database: str) -> list[str]:
    place = folder.resolve()
    inputs = []
    for file in files:
        kind = "relationships" if file.place == "Relation" else "nodes"
        label = f"={file.place}" if kind == "nodes" and file.place != "Concept" else ""
        inputs.append(f"--{kind}{label}={place / file.header},{place / file.name}")
    options = ["--array-delimiter=U+001F", "--id-type=string", "--overwrite-destination=true"]
    # Slower, so only where a text has a line break.
    options += ["--multiline-fields=true"] * any(file.multiline for file in files)
    return [_ADMIN, "database", "import", "full", database, *inputs, *options]


class _CsvFile:
    """One data file with its header, written as the rows come: every text quoted, so that an empty one is no null."""

    def __init__(self, folder: Path, place: str) -> None:
        self.place, self.header, self.name = place, f"{place}.header.csv", f"{place}.csv"
        self.rows, self.multiline = 0, False
        self._folder = folder
        self._file = (folder / self.name).open("wb")

    def write(self, rows: pa.Table) -> None:
        frame = _with_markers(self.place, cast(pl.DataFrame, pl.from_arrow(rows)))
        if not self.rows:
            fields = [_field(self.place, name, kind) for name, kind in frame.schema.items()]
            (self._folder / self.header).write_text(",".join(fields) + "\n", encoding="utf-8")
        lists = [name for name, kind in frame.schema.items() if isinstance(kind, pl.List)]
        texts = pl.concat_list([pl.col(pl.String), *(pl.col(name).list.join("") for name in lists)])
        joined = frame.select(texts.list.join("", ignore_nulls=True)).to_series()
        if joined.str.contains(LISTS, literal=True).any():
            raise MedgraftError(f"a text in {self.place} holds U+001F, which an import cannot take; mend the source")
        self.multiline = self.multiline or bool(joined.str.contains(_LINE_BREAK).any())
        frame = frame.with_columns(pl.col(name).list.join(LISTS) for name in lists)
        frame.write_csv(self._file, include_header=False, quote_style="non_numeric")
        self.rows += rows.num_rows

    def close(self) -> None:
        self._file.close()
        if not self.rows:
            (self._folder / self.name).unlink()


def _meta(manifest: Mapping[str, Any]) -> pa.Table:
    """The node that says which graph the database holds, and that it has no indexes yet."""
    values = {"key": "graph", "fingerprint": manifest["fingerprint"], "state": "imported", "loader": LOADER}
    return pa.table(
        {name: [value] for name, value in {**values, "batches": 0, "manifest": json.dumps(manifest)}.items()}
    )


def _with_markers(place: str, frame: pl.DataFrame) -> pl.DataFrame:
    """Labels of concepts by their semantic types; ends and types of relationships."""
    if place == "Concept":
        kinds = frame["types"].list.join(LISTS)
        labels = {
            kind: LISTS.join(["Concept", *type_labels(kind.split(LISTS) if kind else [])]) for kind in kinds.unique()
        }
        labelled = kinds.replace_strict(labels, return_dtype=pl.String)
        return frame.with_columns(labelled.str.split(LISTS).alias(":LABEL"))
    if place == "Relation":
        types = {name: relationship_type(name) for name in frame["relation"].unique()}
        kinds = frame["relation"].replace_strict(types, return_dtype=pl.String)
        return frame.rename({"head": ":START_ID(Concept)", "tail": ":END_ID(Concept)"}).with_columns(
            kinds.alias(":TYPE")
        )
    return frame


def _field(place: str, name: str, kind: Any) -> str:
    """A column as the header names it."""
    if name.startswith(":"):
        return name
    if name == "id" and place == "Concept":
        return "id:ID(Concept)"
    if isinstance(kind, pl.List):
        return f"{name}:string[]"
    return f"{name}:{'long' if kind == pl.Int64 else 'boolean' if kind == pl.Boolean else 'string'}"
