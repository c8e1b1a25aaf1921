"""Ontology dumps in, a graph out: read, merge, write the snapshot, load the store."""

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from kg.merging import Merged, merge
from kg.snapshot import (
    FORMAT,
    HIERARCHY,
    SCHEMAS,
    fingerprint,
    is_graph,
    read_manifest,
    read_table,
    write_manifest,
    write_table,
)
from loaders.errors import MedgraftError
from loaders.folders import new_folder, sha256
from loaders.ontology import read_ontology
from loaders.tables import Account, Batch

_HPO_LICENCE = "see human-phenotype-ontology licence, https://hpo.jax.org/license"


@dataclass(frozen=True)
class BuildReport:
    """What a build read, kept, dropped and wrote; `str()` shows it as a table.

    `inputs` holds one account for each file, `merging` one for each table (`read == kept + merged + dropped`),
    `counts` the contents of the graph.
    """

    where: str
    fingerprint: str
    counts: dict[str, Any]
    inputs: list[dict[str, Any]]
    merging: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: float = 0.0

    def __str__(self) -> str:
        lines = [
            f"{self.where}: graph {self.fingerprint[:12]} in {self.seconds:.1f} s",
            "",
            _row("read", "kept", "dropped", "input"),
        ]
        for account in self.inputs:
            release = f" ({account['release']})" if account["release"] else ""
            dropped = sum(account["dropped"].values())
            lines.append(_row(account["read"], account["kept"], dropped, account["name"] + release))
            lines += [_row("", "", count, f"  {reason}") for reason, count in account["dropped"].items()]
        lines += ["", _row("rows", "in graph", "repeated", "dropped", "table")]
        for table, merged in self.merging.items():
            lines.append(_row(merged["read"], merged["kept"], merged["merged"], sum(merged["dropped"].values()), table))
            lines += [_row("", "", "", count, f"  {reason}") for reason, count in merged["dropped"].items()]
        for title in ("types", "relations"):
            lines += ["", title]
            lines += [_row("", count, name) for name, count in self.counts[title].items()]
        return "\n".join(lines)


def build(
    sources: Sequence[str | Path] | str | Path,
    to: str | Path,
    *,
    format: str | None = None,
    skip_bad: bool = False,
) -> BuildReport:
    """Build a graph from ontology dumps, or load a Neo4j database from an existing graph folder.

    Args:
        sources: files to read, in this order: a concept is called by the first that names it. Or one graph folder.
        to: a folder, which appears when all has gone well and replaces an earlier graph there; or the address of a
            Neo4j database (`neo4j://host:7687`), which is loaded in batches, and continued if a load was cut off.
        format: the format of all sources; detected for each by its content if None.
        skip_bad: count malformed rows and go on, instead of stopping at the first.

    Raises:
        MedgraftError: bad input, nothing to keep, or no access to the output. Nothing is then left half-written;
            a database says of itself that it is being loaded.
    """
    started = time.monotonic()
    paths = [Path(source) for source in ([sources] if isinstance(sources, str | Path) else sources)]
    if not paths:
        raise MedgraftError("no sources to build a graph from; name at least one file")
    if "://" in str(to):
        manifest = _build_database(paths, str(to), format, skip_bad)
    else:
        manifest = _build_folder(paths, Path(to), format, skip_bad)
    facts = {key: manifest[key] for key in ("fingerprint", "counts", "inputs", "merging")}
    return BuildReport(where=str(to), seconds=time.monotonic() - started, **facts)


def _build_folder(paths: list[Path], to: Path, format: str | None, skip_bad: bool) -> dict[str, Any]:
    _check_place(paths, to)
    with new_folder(to) as folder:
        tables, manifest = write_snapshot(folder, paths, format, skip_bad)
        from kg.store_embedded import write_database

        with _stage("writing the embedded database"):
            write_database(folder, tables, manifest)
    return manifest


def _build_database(paths: list[Path], to: str, format: str | None, skip_bad: bool) -> dict[str, Any]:
    from kg.store_neo4j import check_loadable, load_database

    check_loadable(to)  # before the long work
    if len(paths) == 1 and is_graph(paths[0]):
        manifest = read_manifest(paths[0])
        tables = {name: read_table(paths[0], name) for name in SCHEMAS}
        load_database(to, tables, manifest)
        return manifest
    with tempfile.TemporaryDirectory(prefix="medgraft-") as folder:
        tables, manifest = write_snapshot(Path(folder), paths, format, skip_bad)
        load_database(to, tables, manifest)
    return manifest


def write_snapshot(
    folder: Path, paths: list[Path], format: str | None = None, skip_bad: bool = False
) -> tuple[dict[str, pa.Table], dict[str, Any]]:
    """Read the dumps and write the five tables and the manifest into an empty folder; also returns both."""
    accounts = [Account(path) for path in paths]
    with _stage("merging"):
        tables, merging = merge(_read(accounts, format, skip_bad))
    if not tables["concepts"].num_rows:
        raise MedgraftError(f"no concepts in {', '.join(path.name for path in paths)}; nothing to build")
    with _stage("writing the snapshot"):
        for name, table in tables.items():
            write_table(folder, name, table)
        manifest = describe(tables, [_input(account) for account in accounts], merging)
        write_manifest(folder, manifest)
    return tables, manifest


def describe(
    tables: Mapping[str, pa.Table], inputs: list[dict[str, Any]], merging: Mapping[str, Merged]
) -> dict[str, Any]:
    """The manifest of a snapshot. No time, no machine: the same inputs give the same manifest."""
    counts: dict[str, Any] = {name: table.num_rows for name, table in tables.items()}
    counts["types"] = _counted(pc.list_flatten(tables["concepts"].column("types")))
    counts["relations"] = _counted(tables["triples"].column("relation"))
    return {
        "format": FORMAT,
        "fingerprint": fingerprint(tables),
        "hierarchy": list(HIERARCHY),
        "versions": {name: version(name) for name in ("ladybug", "medgraft", "polars", "pyarrow")},
        "inputs": inputs,
        "merging": {name: {**asdict(merged), "dropped": _sorted(merged.dropped)} for name, merged in merging.items()},
        "counts": counts,
    }


def _read(accounts: list[Account], format: str | None, skip_bad: bool) -> Iterator[Batch]:
    for account in accounts:
        with tqdm(desc=f"reading {account.path.name}", unit=" rows", unit_scale=True, disable=None) as bar:
            for batch in read_ontology(account.path, account, format, skip_bad):
                bar.update(batch.rows.num_rows)
                yield batch
        if account.read != account.kept + sum(account.dropped.values()):
            raise RuntimeError(f"the reader of {account.path.name} lost count of its rows")


def _input(account: Account) -> dict[str, Any]:
    return {
        "name": account.path.name,
        "sha256": sha256(account.path),
        "format": account.format,
        "release": account.release,
        "licence": _licence(account),
        "read": account.read,
        "kept": account.kept,
        "dropped": _sorted(account.dropped),
    }


def _licence(account: Account) -> str:
    is_hpo = account.format in ("hpoa", "genes_to_phenotype") or account.release.startswith("hp/")
    return _HPO_LICENCE if is_hpo else ""


def _check_place(paths: list[Path], to: Path) -> None:
    """Refuse to replace a folder that is not a graph, or that holds one of the sources."""
    if to.is_dir() and any(to.iterdir()) and not is_graph(to):
        raise MedgraftError(f"{to} is a folder with other things in it; choose a new folder for the graph")
    for path in paths:
        if path.resolve().is_relative_to(to.resolve()):
            raise MedgraftError(f"{path} lies in {to}, which the graph would replace; choose another folder for it")


def _stage(title: str) -> Any:
    """A line on the terminal that shows how long a stage without steps takes."""
    return tqdm(total=0, desc=title, bar_format="{desc}: {elapsed}", disable=None)


def _counted(column: pa.ChunkedArray) -> dict[str, int]:
    return _sorted({entry["values"]: entry["counts"] for entry in column.value_counts().to_pylist()})


def _sorted(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items()))


def _row(*cells: object) -> str:
    numbers = [f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in cells[:-1]]
    return "".join(f"{number:>12}" for number in numbers) + f"  {cells[-1]}"
