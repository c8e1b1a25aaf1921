"""Ontology dumps in, a graph out: read, merge, write the snapshot, load the store."""

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tqdm import tqdm

from kg.merging import Content, merge
from kg.snapshot import (
    FORMAT,
    HIERARCHY,
    StateWriter,
    is_graph,
    read_manifest,
    write_manifest,
)
from loaders.errors import MedgraftError
from loaders.folders import new_folder, only_writer, sha256
from loaders.ontology import FORMATS, read_ontology
from loaders.options import DEFAULTS, Options, make_options
from loaders.sources import on_disk
from loaders.tables import Account, Batch

MAPPINGS = ("keep", "same_as", "merge")
_HPO_LICENCE = "see human-phenotype-ontology licence, https://hpo.jax.org/license"


@dataclass(frozen=True)
class BuildReport:
    """What a build read, kept, dropped and wrote; `str()` shows it as a table.

    `inputs` holds one account for each file, `merging` one for each table (`read == kept + merged + dropped`; `folded`
    of the rows read were turned round, being of an inverse relation), `counts` the contents of the graph, `sources` the
    release, restriction level and licence of each source, `joined` how many mappings made two concepts one.
    """

    where: str
    fingerprint: str
    counts: dict[str, Any]
    inputs: list[dict[str, Any]]
    merging: dict[str, dict[str, Any]] = field(default_factory=dict)
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)
    joined: dict[str, int] = field(default_factory=dict)
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
            if merged["folded"]:
                lines.append(_row(merged["folded"], "", "", "", "  turned round, of an inverse or symmetric relation"))
        if self.joined:
            lines += ["", "concepts joined by mappings"]
            lines += [_row("", count, what) for what, count in self.joined.items()]
        if self.sources:
            lines += ["", "sources"]
            lines += [_row("", "", _source(name, known)) for name, known in self.sources.items()]
        for title in ("types", "relations"):
            lines += ["", title]
            lines += [_row("", count, name) for name, count in self.counts[title].items()]
        return "\n".join(lines)


def build(
    sources: Sequence[str | Path] | str | Path,
    /,
    to: str | Path,
    *,
    format: str | None = None,
    skip_bad: bool = False,
    mappings: str = "keep",
    **options: Any,
) -> BuildReport:
    """Build a graph from ontology dumps, or load a Neo4j database from an existing graph folder.

    Args:
        sources: files, folders or zip archives to read, in this order: a concept is called by the first that names it.
            Or one graph folder.
        to: a folder, which appears when all has gone well and replaces an earlier graph there; or the address of a
            Neo4j database (`neo4j://host:7687`), which is loaded in batches, and continued if a load was cut off.
        format: the format of all sources; detected for each by its content if None.
        skip_bad: count malformed rows and go on, instead of stopping at the first.
        mappings: what becomes of mappings between concepts of the graph: `keep` them as they are; also state them as
            triples, `same_as`; or `merge` such concepts into one, see `kg.joining`.
        options: what else to ask of the readers: `languages`, `sources`, `types`, `suppressed`, `max_restriction`,
            `attributes`, `hierarchy`, `release_type`, `stated`, `columns`; see `loaders.options.Options`.

    Raises:
        MedgraftError: bad input, nothing to keep, or no access to the output. Nothing is then left half-written;
            a database says of itself that it is being loaded.
    """
    started = time.monotonic()
    paths = [Path(source) for source in ([sources] if isinstance(sources, str | Path) else sources)]
    if not paths:
        raise MedgraftError("no sources to build a graph from; name at least one file")
    if mappings not in MAPPINGS:
        raise MedgraftError(f"no way {mappings!r} to treat mappings; choose one of {', '.join(MAPPINGS)}")
    asked = make_options(skip_bad=skip_bad, **options)
    if "://" in str(to):
        manifest = _build_database(paths, str(to), format, asked, mappings)
    else:
        manifest = _build_folder(paths, Path(to), format, asked, mappings)
    facts = {key: manifest[key] for key in ("fingerprint", "counts", "inputs", "merging", "sources", "joined")}
    return BuildReport(where=str(to), seconds=time.monotonic() - started, **facts)


def _build_folder(paths: list[Path], to: Path, format: str | None, options: Options, mappings: str) -> dict[str, Any]:
    from kg.store_embedded import write_database

    _check_place(paths, to)
    with only_writer(to), new_folder(to) as folder:
        manifest = write_snapshot(folder, paths, format, options, mappings)
        with _stage("writing the embedded database"):
            write_database(folder, manifest)
    return manifest


def _build_database(paths: list[Path], to: str, format: str | None, options: Options, mappings: str) -> dict[str, Any]:
    from kg.neo4j_load import check_loadable, load_database

    check_loadable(to)  # before the long work
    if len(paths) == 1 and is_graph(paths[0]):
        manifest = read_manifest(paths[0])
        load_database(to, paths[0], manifest)
        return manifest
    with tempfile.TemporaryDirectory(prefix="medgraft-") as folder:
        manifest = write_snapshot(Path(folder), paths, format, options, mappings)
        load_database(to, Path(folder), manifest)
    return manifest


def write_snapshot(
    folder: Path,
    paths: list[Path],
    format: str | None = None,
    options: Options = DEFAULTS,
    mappings: str = "keep",
) -> dict[str, Any]:
    """Read the dumps and write the tables and the manifest into an empty folder; returns the manifest.

    Raises:
        MedgraftError: bad input, or no concepts in it.
    """
    accounts = [Account(path) for path in paths]
    batches = read_dumps(accounts, lambda account: read_ontology(account.path, account, format, options), options)
    return write_merged(folder, accounts, batches, options, mappings)


def write_merged(
    folder: Path, accounts: list[Account], batches: Iterator[Batch], options: Options, mappings: str
) -> dict[str, Any]:
    """Write the tables and the manifest of what the batches hold into an empty folder; returns the manifest.

    Raises:
        MedgraftError: no concepts in it, or what the batches raise.
    """
    state = StateWriter(folder)
    with _stage("merging"), closing(state):
        content = merge(_without_state(batches, state), folder, mappings)
    if not content.counts["concepts"]:
        raise MedgraftError(
            f"no concepts in {', '.join(a.path.name for a in accounts)}; give the sources that define them too: facts "
            "alone make no graph"
        )
    manifest = describe(content, _inputs(accounts), {**options.given(), "mappings": mappings})
    write_manifest(folder, manifest)
    return manifest


def describe(
    content: Content, inputs: list[dict[str, Any]], options: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The manifest of a snapshot. No time, no machine: the same inputs give the same manifest."""
    return {
        "format": FORMAT,
        "fingerprint": content.fingerprint,
        "hierarchy": list(HIERARCHY),
        "versions": {name: version(name) for name in ("ladybug", "medgraft", "polars", "pyarrow")},
        "inputs": inputs,
        "options": {name: _plain(value) for name, value in (options or {}).items()},
        "inverses": content.inverses,
        "joined": content.joined,
        "sources": content.sources,
        "merging": {
            name: {**asdict(merged), "dropped": _sorted(merged.dropped)} for name, merged in content.accounts.items()
        },
        "counts": content.counts,
    }


def _without_state(batches: Iterator[Batch], state: StateWriter) -> Iterator[Batch]:
    for batch in batches:
        table, _, name = batch.table.partition(":")
        if table == "state":
            state.write(name, batch.rows)
        else:
            yield batch


def read_dumps(
    accounts: list[Account], read: Callable[[Account], Iterator[Batch]], options: Options
) -> Iterator[Batch]:
    """The rows of all dumps, one after the other; every row is accounted for, and every option heeded by a reader.

    Raises:
        MedgraftError: what the readers raise; an option that means nothing to any of them.
    """
    for account in accounts:
        with tqdm(desc=f"reading {account.path.name}", unit=" rows", unit_scale=True, disable=None) as bar:
            for batch in read(account):
                bar.update(batch.rows.num_rows)
                yield batch
        for part in account.files():
            if part.read != part.kept + sum(part.dropped.values()):
                raise RuntimeError(f"the reader of {part.path.name} lost count of its rows")
    _check_heeded(accounts, options)


def _check_heeded(accounts: list[Account], options: Options) -> None:
    """An option that no reader heeded would give another graph than was asked for."""
    formats = {part.format for account in accounts for part in account.files() if part.format}
    for option in options.given():
        if not any(option in FORMATS[format].heeds for format in formats):
            heeding = [name for name, format in FORMATS.items() if option in format.heeds]
            raise MedgraftError(
                f"the option {option} means nothing to {', '.join(sorted(formats))}, only to {', '.join(heeding)}; "
                "leave it out"
            )


def _inputs(accounts: list[Account]) -> list[dict[str, Any]]:
    """What the manifest tells of each file; an archive is hashed once for all of its files."""
    files = [part for account in accounts for part in account.files()]
    hashes = {path: sha256(path) for path in {on_disk(file.path) for file in files}}
    return [
        {
            "name": file.path.name,
            "sha256": hashes[on_disk(file.path)],
            "format": file.format,
            "release": file.release,
            "licence": _licence(file),
            "read": file.read,
            "kept": file.kept,
            "dropped": _sorted(file.dropped),
        }
        for file in files
    ]


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else dict(value) if isinstance(value, Mapping) else value


def _licence(account: Account) -> str:
    is_hpo = account.format in ("hpoa", "genes_to_phenotype") or account.release.startswith("hp/")
    return _HPO_LICENCE if is_hpo else ""


def _check_place(paths: list[Path], to: Path) -> None:
    """Refuse to replace a file, a folder that is not a graph, or one that holds one of the sources."""
    if to.exists() and not to.is_dir():
        raise MedgraftError(f"{to} is a file; choose another place for the graph")
    if to.is_dir() and any(to.iterdir()) and not is_graph(to):
        raise MedgraftError(f"{to} is a folder with other things in it; choose a new folder for the graph")
    for path in paths:
        if path.resolve().is_relative_to(to.resolve()):
            raise MedgraftError(f"{path} lies in {to}, which the graph would replace; choose another folder for it")


def _stage(title: str) -> Any:
    """A line on the terminal that shows how long a stage without steps takes."""
    return tqdm(total=0, desc=title, bar_format="{desc}: {elapsed}", disable=None)


def _sorted(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items()))


def _source(name: str, known: Mapping[str, Any]) -> str:
    level = None if known["restriction"] is None else f"restriction level {known['restriction']}"
    return ", ".join(part for part in (name, known["release"], level, known["licence"]) if part)


def _row(*cells: object) -> str:
    numbers = [f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in cells[:-1]]
    return "".join(f"{number:>12}" for number in numbers) + f"  {cells[-1]}"
