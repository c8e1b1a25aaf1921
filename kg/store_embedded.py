"""The graph in a file: LadybugDB, opened read-only beside the snapshot that it can always be rebuilt from.

The only module that imports ladybug. Triples are one relationship table with the relation as a property; exclusions
are nodes without relationships, so that no pattern over relationships can ever take one for a fact. Names, mappings and
attributes are read from the Parquet files, which are sorted by concept and in small groups: at 3.5 million names a
look-up by concept takes 3 ms there, a search 40 ms, and copying them would take longer than all the rest.
"""

import json
import logging
import re
import shutil
import tempfile
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import ladybug
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock

from kg.layout import lower_case
from kg.snapshot import SCHEMAS, read_batches, read_manifest, read_table
from loaders.errors import MedgraftError

_LAYOUT = 3  # of the tables below; raised when they change, so that older files are rebuilt
_ADDRESS_SPACE = 1 << 38  # bytes reserved, not used: an upper bound for the file
_POOL = 2 << 30  # bytes of memory for the engine while it writes; more only if that turns out too small
_FEW_GROUPS = 24  # of a file are read one by one; beyond that a scan of the whole is faster
_SLICE = 1_000_000  # rows handed over at once where the file cannot be named in a query
_DEFINITIONS = (
    "CREATE NODE TABLE Concept(id STRING PRIMARY KEY, name STRING, aliases STRING[], types STRING[], "
    "definition STRING, sources STRING[])",
    "CREATE NODE TABLE Exclusion(row SERIAL PRIMARY KEY, head STRING, relation STRING, tail STRING, "
    "sources STRING[], evidence STRING[])",
    "CREATE NODE TABLE Retired(id STRING PRIMARY KEY, successor STRING, reason STRING)",
    "CREATE REL TABLE Relation(FROM Concept TO Concept, relation STRING, sources STRING[], evidence STRING[])",
)
# Table of the snapshot -> its place here, and its columns in the order that COPY wants.
_STORED = {
    "concepts": ("Concept", SCHEMAS["concepts"].names),
    "exclusions": ("Exclusion", SCHEMAS["exclusions"].names),
    "retired": ("Retired", SCHEMAS["retired"].names),
    "triples": ("Relation", ["head", "tail", "relation", "sources", "evidence"]),
}
_ASIDE = ".graph.lbug.building-"
_log = logging.getLogger(__name__)


class EmbeddedStore:
    """A graph folder. Reads only; several processes may open the same folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest: dict[str, Any] = read_manifest(folder)
        self._tables: dict[str, pa.Table] = {}
        self._row_groups: dict[str, _Groups] = {}
        self._names: pl.DataFrame | None = None
        if not _is_current(folder, self.manifest):
            _rebuild(folder, self.manifest)
        try:
            self._database = ladybug.Database(
                str(folder / "graph.lbug"), read_only=True, max_db_size=_ADDRESS_SPACE, buffer_pool_size=0
            )
            self._connection = ladybug.Connection(self._database)
        except RuntimeError as error:
            raise MedgraftError(
                f"{folder / 'graph.lbug'} cannot be opened ({_first_line(error)}); delete it, the next use rebuilds it"
            ) from error

    def run(self, cypher: str, **parameters: Any) -> list[dict[str, Any]]:
        """The rows of a query, as dictionaries.

        Raises:
            MedgraftError: if the engine refuses the query.
        """
        try:
            result = self._connection.execute(cypher, parameters)
        except RuntimeError as error:
            raise MedgraftError(f"the query was refused: {_first_line(error)}") from error
        if isinstance(result, list):
            raise MedgraftError("the query was refused: one statement at a time")
        rows = cast(list[dict[str, Any]], result.rows_as_dict().get_all())
        result.close()
        return rows

    def table(self, name: str) -> pa.Table:
        """One of the tables of the snapshot; kept in memory once read."""
        if name not in self._tables:
            self._tables[name] = read_table(self.folder, name)
        return self._tables[name]

    def batches(self, name: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Some columns of a table of the snapshot, in its order, batch after batch."""
        return read_batches(self.folder, name, _SLICE, columns)

    def rows(self, name: str, column: str, values: Sequence[str]) -> pa.Table:
        """The rows of a table of the snapshot whose column is one of the values, in the order of the snapshot."""
        path = self.folder / f"{name}.parquet"
        sorted_by_it = column == SCHEMAS[name].names[0]
        try:
            groups = self._groups(name).of(values) if sorted_by_it else None
            if groups is not None and len(groups) <= _FEW_GROUPS:
                file = pq.ParquetFile(path, metadata=self._groups(name).metadata)
                with file:
                    found = file.read_row_groups(groups).cast(SCHEMAS[name])
                return found.filter(pc.is_in(found.column(column), pa.array(list(values), pa.string())))
            wanted = pl.col(column).is_in(pl.Series(list(values), dtype=pl.String).implode())
            scanned = pl.scan_parquet(path, glob=False).filter(wanted).collect().to_arrow()
        except (OSError, pa.ArrowException, pl.exceptions.PolarsError) as error:
            raise MedgraftError(f"{path} cannot be read ({_first_line(error)}); run `medgraft build` again") from error
        return scanned.select(SCHEMAS[name].names).cast(SCHEMAS[name])

    def search(self, words: Sequence[str], text: str, k: int) -> list[str]:
        """Ids of concepts with a name that holds all the words, best first; see `kg.graph.Graph.search`."""
        hits = self._searched()
        for word in sorted(words, key=len, reverse=True):
            hits = hits.filter(pl.col("lower").str.contains(word, literal=True))
        alike, preferred = pl.col("lower") == text, pl.col("preferred")
        rank = (
            pl.when(alike & preferred)
            .then(0)
            .when(alike)
            .then(1)
            .when(pl.col("lower").str.starts_with(text) & preferred)
            .then(2)
            .otherwise(3)
        )
        return (
            hits.select("concept_id", rank.alias("rank"), pl.col("lower").str.len_chars().alias("length"))
            .group_by("concept_id")
            .agg(pl.col("rank").min(), pl.col("length").min())
            .sort("rank", "length", "concept_id")
            .head(k)["concept_id"]
            .to_list()
        )

    def _groups(self, name: str) -> "_Groups":
        if name not in self._row_groups:
            self._row_groups[name] = _Groups(pq.read_metadata(self.folder / f"{name}.parquet"))
        return self._row_groups[name]

    def _searched(self) -> pl.DataFrame:
        """The names that are searched, in lower case; read on first use, 70 bytes a name."""
        if self._names is None:
            columns = ["concept_id", "name", "kind", "suppressed"]
            schema = pa.schema([SCHEMAS["names"].field(column) for column in columns])
            table = pa.Table.from_batches(read_batches(self.folder, "names", _SLICE, columns), schema)
            names = cast(pl.DataFrame, pl.from_arrow(table)).filter(~pl.col("suppressed"))
            lower, preferred = lower_case(names["name"]).alias("lower"), pl.col("kind") == "preferred"
            self._names = names.select("concept_id", lower, preferred.alias("preferred"))
        return self._names

    def close(self) -> None:
        self._connection.close()
        self._database.close()
        self._tables.clear()
        self._names = None


class _Groups:
    """Which row groups of a file sorted by its first column can hold a value of that column."""

    def __init__(self, metadata: pq.FileMetaData) -> None:
        self.metadata = metadata
        bounds = [metadata.row_group(group).column(0).statistics for group in range(metadata.num_row_groups)]
        known = all(bound is not None and bound.has_min_max for bound in bounds)
        self._bounds = ([bound.min for bound in bounds], [bound.max for bound in bounds]) if known else None

    def of(self, values: Sequence[str]) -> list[int] | None:
        """The numbers of the groups, sorted; None where the file does not tell."""
        if self._bounds is None:
            return None
        smallest, largest = self._bounds
        spans = ((bisect_left(largest, value), bisect_right(smallest, value)) for value in values)
        return sorted({group for first, last in spans for group in range(first, last)})


def write_database(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write `graph.lbug` into a folder that holds a snapshot: built aside, counted, switched in when it is complete."""
    for left in folder.glob(f"{_ASIDE}*"):  # of a process that died; there is one writer at a time
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_ASIDE, dir=folder) as aside:
        path = Path(aside) / "graph.lbug"
        try:
            _fill(path, folder, manifest, _POOL)
        except RuntimeError as error:
            if "buffer" not in str(error).lower():
                raise
            path = Path(aside) / "again.lbug"
            _fill(path, folder, manifest, 0)
        _made_by(folder).unlink(missing_ok=True)
        path.replace(folder / "graph.lbug")
    _made_by(folder).write_text(json.dumps(_maker(manifest), sort_keys=True) + "\n", encoding="utf-8")


def _fill(path: Path, folder: Path, manifest: Mapping[str, Any], pool: int) -> None:
    with _open_for_writing(path, pool) as connection:
        for definition in _DEFINITIONS:
            connection.execute(definition)
        for name, (place, columns) in _STORED.items():
            if manifest["counts"][name]:
                _copy(connection, place, folder, name, columns)
        _verify(connection, manifest)
        connection.execute("CHECKPOINT")


def _copy(connection: Any, place: str, folder: Path, name: str, columns: list[str]) -> None:
    """COPY one table, straight from its file where the path is plain: a file name cannot be a parameter."""
    path = (folder / f"{name}.parquet").resolve().as_posix()
    if re.fullmatch(r"[\w/:.-]+", path, re.ASCII):
        listed = ", ".join(columns)
        connection.execute(f"COPY {place}{_named(place, columns)} FROM (LOAD FROM '{path}' RETURN {listed})")
        return
    for batch in read_batches(folder, name, _SLICE):
        rows = pa.Table.from_batches([batch]).select(columns)
        connection.execute(f"COPY {place}{_named(place, columns)} FROM $rows", {"rows": rows})


def _named(place: str, columns: list[str]) -> str:
    """The columns to fill, where one fills itself."""
    return f"({', '.join(columns)})" if place == "Exclusion" else ""


@contextmanager
def _open_for_writing(path: Path, pool: int) -> Iterator[Any]:
    database = ladybug.Database(str(path), max_db_size=_ADDRESS_SPACE, buffer_pool_size=pool)
    connection = ladybug.Connection(database)
    try:
        yield connection
    finally:
        connection.close()
        database.close()


def _verify(connection: Any, manifest: Mapping[str, Any]) -> None:
    for name, (place, _) in _STORED.items():
        pattern = "(:Concept)-[n:Relation]->(:Concept)" if place == "Relation" else f"(n:{place})"
        held = connection.execute(f"MATCH {pattern} RETURN count(*) AS count").get_all()[0][0]
        if held != manifest["counts"][name]:
            raise RuntimeError(f"the embedded store holds {held} of {manifest['counts'][name]} rows of {name}")


def _rebuild(folder: Path, manifest: Mapping[str, Any]) -> None:
    try:
        with FileLock(folder / ".graph.lbug.lock"):
            if not _is_current(folder, manifest):  # another process may have done it meanwhile
                _log.warning(
                    "rebuilding %s from the snapshot (missing, or of another engine version)", folder / "graph.lbug"
                )
                write_database(folder, manifest)
    except OSError as error:
        raise MedgraftError(
            f"{folder / 'graph.lbug'} has to be rebuilt, but the folder cannot be written ({error.strerror}); "
            "copy the graph folder to a place of your own"
        ) from error


def _is_current(folder: Path, manifest: Mapping[str, Any]) -> bool:
    try:
        made_by = json.loads(_made_by(folder).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(made_by == _maker(manifest) and (folder / "graph.lbug").is_file())


def _made_by(folder: Path) -> Path:
    return folder / "graph.lbug.json"


def _maker(manifest: Mapping[str, Any]) -> dict[str, Any]:
    return {"fingerprint": manifest["fingerprint"], "ladybug": ladybug.__version__, "layout": _LAYOUT}


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
