"""The graph in a file: LadybugDB, opened read-only beside the snapshot that it can always be rebuilt from.

The only module that imports ladybug. Triples are one relationship table with the relation as a property; exclusions
are nodes without relationships, so that no pattern over relationships can ever take one for a fact.
"""

import json
import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import ladybug
import pyarrow as pa
from filelock import FileLock

from kg.layout import stored_rows
from kg.snapshot import SCHEMAS, read_manifest, read_table
from loaders.errors import MedgraftError

_LAYOUT = 1  # of the tables below; raised when they change, so that older files are rebuilt
_ADDRESS_SPACE = 1 << 38  # bytes reserved, not used: an upper bound for the file
_DEFINITIONS = (
    "CREATE NODE TABLE Concept(id STRING PRIMARY KEY, name STRING, aliases STRING[], types STRING[], "
    "definition STRING, sources STRING[])",
    "CREATE NODE TABLE Name(row INT64 PRIMARY KEY, concept_id STRING, name STRING, kind STRING, language STRING, "
    "source STRING, suppressed BOOL, lower STRING, length INT64)",
    "CREATE NODE TABLE Exclusion(row INT64 PRIMARY KEY, head STRING, relation STRING, tail STRING, "
    "sources STRING[], evidence STRING[])",
    "CREATE NODE TABLE Retired(id STRING PRIMARY KEY, successor STRING, reason STRING)",
    "CREATE REL TABLE Relation(FROM Concept TO Concept, relation STRING, sources STRING[], evidence STRING[])",
)
_log = logging.getLogger(__name__)


class EmbeddedStore:
    """A graph folder. Reads only; several processes may open the same folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest: dict[str, Any] = read_manifest(folder)
        self._tables: dict[str, pa.Table] = {}
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

    def close(self) -> None:
        self._connection.close()
        self._database.close()
        self._tables.clear()


def write_database(folder: Path, tables: Mapping[str, pa.Table], manifest: Mapping[str, Any]) -> None:
    """Write `graph.lbug` into a graph folder: built aside, counted, and switched in when it is complete."""
    with tempfile.TemporaryDirectory(prefix=".graph.lbug.building-", dir=folder) as aside:
        path = Path(aside) / "graph.lbug"
        with _open_for_writing(path) as connection:
            for definition in _DEFINITIONS:
                connection.execute(definition)
            for name, rows in stored_rows(tables):
                if rows.num_rows:
                    connection.execute(f"COPY {name} FROM $rows", {"rows": rows})
            _verify(connection, tables)
            connection.execute("CHECKPOINT")
        _made_by(folder).unlink(missing_ok=True)
        path.replace(folder / "graph.lbug")
    _made_by(folder).write_text(json.dumps(_maker(manifest), sort_keys=True) + "\n", encoding="utf-8")


@contextmanager
def _open_for_writing(path: Path) -> Iterator[Any]:
    database = ladybug.Database(str(path), max_db_size=_ADDRESS_SPACE)
    connection = ladybug.Connection(database)
    try:
        yield connection
    finally:
        connection.close()
        database.close()


def _verify(connection: Any, tables: Mapping[str, pa.Table]) -> None:
    for name, rows in stored_rows(tables):
        pattern = "(:Concept)-[n:Relation]->(:Concept)" if name == "Relation" else f"(n:{name})"
        held = connection.execute(f"MATCH {pattern} RETURN count(*) AS count").get_all()[0][0]
        if held != rows.num_rows:
            raise RuntimeError(f"the embedded store holds {held} of {rows.num_rows} rows of {name}")


def _rebuild(folder: Path, manifest: Mapping[str, Any]) -> None:
    try:
        with FileLock(folder / ".graph.lbug.lock"):
            if not _is_current(folder, manifest):  # another process may have done it meanwhile
                _log.warning(
                    "rebuilding %s from the snapshot (missing, or of another engine version)", folder / "graph.lbug"
                )
                write_database(folder, {name: read_table(folder, name) for name in SCHEMAS}, manifest)
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
