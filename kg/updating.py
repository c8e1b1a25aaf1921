"""A new release into a graph that is there: what changes is reported, and what is gone stays known.

The new graph is made from the new release alone, as `kg.building` does it, with one thing more: ids that the graph knew
and the release no longer has. Those that were retired keep their successors, chains are followed to their ends; those
that the release drops without a word become retired too.
"""

import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import polars as pl
import pyarrow as pa

from kg.building import MAPPINGS, BuildReport, read_dumps, write_merged
from kg.differences import Diff, GraphTables, compare
from kg.snapshot import SCHEMAS, is_graph, read_manifest
from loaders.errors import MedgraftError
from loaders.folders import new_folder, only_writer
from loaders.ontology import FORMATS, read_ontology
from loaders.options import Options, make_options
from loaders.rf2 import is_rf2_delta, read_rf2_delta
from loaders.tables import SCHEMAS as READER_SCHEMAS
from loaders.tables import Account, Batch

GONE = "gone from the release"
REPORT = "update.json"  # in the graph folder: what its last update changed
_EXAMPLES = 1_000  # concepts and facts of each kind in that file


@dataclass(frozen=True)
class UpdateReport:
    """What an update changed, and what was read for it; `str()` shows both.

    `gone` is the number of concepts that the release no longer has and says nothing of, `carried` the number of retired
    ids that only the earlier graph knew; both are retired in the new one.
    """

    where: str
    changes: Diff
    build: BuildReport
    gone: int
    carried: int
    seconds: float = 0.0

    def report(self, limit: int = 0) -> str:
        """The report that `str` gives, with up to `limit` concepts and facts of each kind as examples."""
        lines = [
            f"{self.where}: updated in {self.seconds:.1f} s",
            f"{self.gone:>12,}  concepts {GONE}, now retired",
            f"{self.carried:>12,}  retired ids carried over",
            "",
            self.changes.report(limit),
            "",
            str(self.build),
        ]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.report()

    def to_dict(self, limit: int = 0) -> dict[str, Any]:
        """The same for JSON; with a limit also so many concepts and facts of each kind."""
        counts = {"gone": self.gone, "carried": self.carried}
        return {"where": self.where, **counts, **self.changes.to_dict(limit), "build": asdict(self.build)}


def update(
    graph: str | Path,
    sources: Sequence[str | Path] | str | Path,
    /,
    *,
    format: str | None = None,
    skip_bad: bool = False,
    mappings: str | None = None,
    retire_gone: bool = True,
    partial: bool = False,
    **options: Any,
) -> UpdateReport:
    """Replace the contents of a graph by those of a new release, and say what that changes.

    Args:
        graph: a graph folder, which is replaced when all has gone well; or the address of a Neo4j database
            (`neo4j://host:7687`), to which only the differences are written.
        sources: the new release of everything that the graph was built from, in the same order. Or a Delta of
            SNOMED CT, for a folder. Or for a database a graph folder, of which the database becomes a copy.
        format: the format of all sources; detected for each by its content if None.
        skip_bad: count malformed rows and go on, instead of stopping at the first.
        mappings: what becomes of mappings, see `kg.build`; as the graph was built if None.
        retire_gone: whether concepts that the release drops without a word become retired ids, with the reason
            `gone from the release`, instead of unknown ones.
        partial: go on even if the graph was built from more than is given here, and lose the rest.
        options: as for `kg.build`; those not given are as the graph was built.

    Raises:
        MedgraftError: there is no graph, another process is writing it, bad input, or a part of what the graph was
            built from is missing. The graph is then as before.
    """
    started = time.monotonic()
    paths = [Path(source) for source in ([sources] if isinstance(sources, str | Path) else sources)]
    if not paths:
        raise MedgraftError("no sources to update the graph from; name the new release")
    asked = _Asked(paths, format, skip_bad, mappings, retire_gone, partial, options)
    report = _update_database(str(graph), asked) if "://" in str(graph) else _update_folder(Path(graph), asked)
    return replace(report, seconds=time.monotonic() - started)


@dataclass(frozen=True)
class _Asked:
    """The arguments of `update`."""

    paths: list[Path]
    format: str | None
    skip_bad: bool
    mappings: str | None
    retire_gone: bool
    partial: bool
    options: dict[str, Any]


def _update_folder(graph: Path, asked: _Asked) -> UpdateReport:
    from kg.store_embedded import write_database

    read_manifest(graph)  # before a lock is made beside what is no graph
    with only_writer(graph), new_folder(graph) as folder:
        earlier = GraphTables(graph)
        _check_outside(graph, asked.paths)
        manifest, retiring = _write_snapshot(folder, earlier, asked, graph / "state")
        write_database(folder, manifest)
        report = _report(str(graph), compare(earlier, GraphTables(folder)), manifest, retiring, asked)
        text = json.dumps(_for_file(report), indent=2, sort_keys=True, ensure_ascii=False)
        (folder / REPORT).write_text(text + "\n", encoding="utf-8")
    return report


def _update_database(uri: str, asked: _Asked) -> UpdateReport:
    from kg.neo4j_load import update_database

    with tempfile.TemporaryDirectory(prefix="medgraft-") as aside:
        with closing(GraphTables(uri, updating=True)) as earlier:
            if len(asked.paths) == 1 and is_graph(asked.paths[0]):
                folder, retiring = asked.paths[0], _Retiring()
                manifest = read_manifest(folder)
            else:
                folder = Path(aside)
                manifest, retiring = _write_snapshot(folder, earlier, asked, None)
            changes = compare(earlier, GraphTables(folder))
            update_database(uri, changes, manifest)
    return _report(uri, changes, manifest, retiring, asked)


def _write_snapshot(
    folder: Path, earlier: GraphTables, asked: _Asked, state: Path | None
) -> tuple[dict[str, Any], "_Retiring"]:
    """The new snapshot, from the new release and the ids of the earlier graph."""
    was = earlier.manifest["options"]
    mappings = asked.mappings or was.get("mappings", "keep")
    if mappings not in MAPPINGS:
        raise MedgraftError(f"no way {mappings!r} to treat mappings; choose one of {', '.join(MAPPINGS)}")
    given = {name: value for name, value in was.items() if name != "mappings"}
    options = make_options(skip_bad=asked.skip_bad, **{**given, **asked.options})
    accounts = [Account(path) for path in asked.paths]
    retiring = _Retiring()

    def batches() -> Iterator[Batch]:
        rows = read_dumps(accounts, lambda account: _read(account, asked.format, options, state), options)
        yield from retiring.watch(rows)
        if not asked.partial:
            _check_complete(earlier.manifest["inputs"], accounts)
        yield from retiring.rows(earlier, asked.retire_gone)

    # A Delta is laid over a release of another type, which the graph stays.
    noted = replace(options, release_type=was.get("release_type", "")) if _is_delta(accounts, options) else options
    return write_merged(folder, accounts, batches(), noted, mappings), retiring


def _read(account: Account, format: str | None, options: Options, state: Path | None) -> Iterator[Batch]:
    if format not in (None, "rf2") or not is_rf2_delta(account.path, options):
        return read_ontology(account.path, account, format, options)
    if state is None:
        raise MedgraftError(
            f"{account.path} is a Delta, which is applied to a graph folder; update the folder with it, "
            "then the database from the folder"
        )
    account.format = "rf2"
    return read_rf2_delta(account.path, account, options, state)


def _is_delta(accounts: list[Account], options: Options) -> bool:
    return any(is_rf2_delta(account.path, options) for account in accounts)


class _Retiring:
    """Sees which ids a release knows, and says which others the graph knew."""

    def __init__(self) -> None:
        self.gone = 0
        self.carried = 0
        self._ids: list[pl.Series] = []

    def watch(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches as they are; the ids of their concepts and retired ids are noted."""
        for batch in batches:
            if batch.table in ("concepts", "retired"):
                self._ids.append(cast(pl.Series, pl.from_arrow(batch.rows.column("id"))).unique())
            yield batch

    def rows(self, earlier: GraphTables, retire_gone: bool) -> Iterator[Batch]:
        """The ids that only the earlier graph knows, as rows of `retired`."""
        known = pl.concat([pl.Series([], dtype=pl.String), *self._ids]).unique()
        self._ids.clear()
        for batch in earlier.batches("retired", SCHEMAS["retired"].names):
            rows = _unknown(batch, known)
            self.carried += rows.num_rows
            yield from (Batch("retired", part) for part in rows.to_batches())
        for batch in earlier.batches("concepts", ["id"]) if retire_gone else ():
            ids = _unknown(batch, known).column("id")
            self.gone += len(ids)
            rows = pa.table(
                [ids, pa.nulls(len(ids), pa.string()), pa.repeat(GONE, len(ids))], READER_SCHEMAS["retired"]
            )
            yield from (Batch("retired", part) for part in rows.to_batches())


def _unknown(batch: pa.RecordBatch, known: pl.Series) -> pa.Table:
    """The rows whose id is not known."""
    frame = cast(pl.DataFrame, pl.from_arrow(batch))
    rows = frame.filter(~pl.col("id").is_in(known.implode())).to_arrow()
    return rows.cast(batch.schema)


def _check_complete(inputs: list[dict[str, Any]], accounts: list[Account]) -> None:
    """Refuse an update that would lose a part of the graph because its new release was not named.

    Of formats that are one file, as many are wanted as before.
    """
    read = Counter(part.format for account in accounts for part in account.files())
    before = Counter(entry["format"] for entry in inputs)
    for format, files in before.items():
        whole = format in FORMATS and FORMATS[format].is_folder is not None
        if format and read[format] < (1 if whole else files):
            names = ", ".join(entry["name"] for entry in inputs if entry["format"] == format)
            raise MedgraftError(
                f"the graph was also built from {names} ({format}), and not so much of that is given now; "
                "name its new release too, or the same file again, or ask for a partial update to lose it"
            )


def _check_outside(graph: Path, paths: list[Path]) -> None:
    for path in paths:
        if path.resolve().is_relative_to(graph.resolve()):
            raise MedgraftError(f"{path} lies in {graph}, which the update replaces; choose another folder for it")
        if is_graph(path):
            raise MedgraftError(f"{path} is a graph folder, not a release; only a database is updated from one")


def _report(where: str, changes: Diff, manifest: dict[str, Any], retiring: _Retiring, asked: _Asked) -> UpdateReport:
    names = ", ".join(path.name for path in asked.paths)
    facts = {key: manifest[key] for key in ("fingerprint", "counts", "inputs", "merging", "sources", "joined")}
    return UpdateReport(
        where=where,
        changes=replace(changes, a=f"{where} before", b=names),
        build=BuildReport(where=where, **facts),
        gone=retiring.gone,
        carried=retiring.carried,
    )


def _for_file(report: UpdateReport) -> dict[str, Any]:
    """The report without what the manifest has, and without the place it was made in."""
    found = report.to_dict(_EXAMPLES)
    return {name: value for name, value in found.items() if name not in ("where", "build", "a", "seconds")}
