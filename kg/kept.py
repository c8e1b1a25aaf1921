"""What is made on the way, and kept in the user's cache: the graph of a dump, and a graph's embeddings and linker.

Whoever names an ontology dump where a graph is wanted, or a graph alone where its embeddings or its linker are wanted
too, gets them made with the usual settings. What was made is used again until the dump, the graph or medgraft changes.
The cache may be deleted at any time; MEDGRAFT_CACHE names another place for it.
"""

import hashlib
import json
import re
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from kg.snapshot import FORMAT, is_graph
from loaders.errors import MedgraftError
from loaders.folders import cache_folder
from loaders.ontology import holds_dump
from loaders.sources import files

if TYPE_CHECKING:
    from kg.graph import Graph
    from kg.linking import Linker
    from kg.vectors import Embeddings

_DIM, _EPOCHS = 128, 20  # of TransE, as `medgraft embed` has them


def graph_folder(path: Path) -> Path:
    """A graph folder as it is; for an ontology dump the folder of its graph."""
    return kept_graph(path) if path.exists() and not is_graph(path) and holds_dump(path) else path


def kept_graph(dump: Path) -> Path:
    """The folder of a dump's graph; built if there is none, or if the files are not those that it was built from.

    Files count as the same while their names, sizes and times of change are.

    Raises:
        MedgraftError: the dump is malformed, or the cache cannot be written.
    """
    from kg.building import build

    name = hashlib.sha256(str(dump.resolve()).encode()).hexdigest()[:12]
    home = cache_folder() / "graphs" / f"{re.sub(r'[^A-Za-z0-9._-]+', '_', dump.name) or 'dump'}-{name}"
    folder, noted = home / "graph", home / "built_from.json"
    stamp = json.dumps({"format": FORMAT, "readers": _readers(), "files": _stamps(dump)}, indent=1)
    if is_graph(folder) and noted.is_file() and noted.read_text(encoding="utf-8") == stamp:
        return folder
    _say(f"{dump} is no graph yet: it is built now, and kept in {folder}")
    report = build(dump, folder)
    noted.write_text(stamp, encoding="utf-8")
    dropped = sum(sum(account["dropped"].values()) for account in report.inputs)
    counts = ", ".join(f"{report.counts[table]:,} {table}" for table in ("concepts", "triples"))
    _say(f"{counts}; {dropped:,} rows dropped, for reasons that {folder / 'manifest.json'} gives")
    return folder


def kept_embeddings(graph: "Graph", *, device: str = "auto", progress: bool = True) -> "Embeddings":
    """TransE embeddings of a graph (128 numbers, 20 epochs, seed 0), trained if there are none yet."""
    from kg.embeddings import Embeddings, train_embeddings

    folder = cache_folder() / "embeddings" / f"{graph.fingerprint[:24]}-{_DIM}-{_EPOCHS}"
    try:
        return Embeddings.load(folder, graph)
    except MedgraftError:
        _say(f"no embeddings given: TransE is trained on the graph now ({_EPOCHS} epochs), and kept in {folder}")
    return train_embeddings(graph, dim=_DIM, out=folder, epochs=_EPOCHS, device=device, progress=progress)


def kept_linker(graph: "Graph") -> "Linker":
    """The linker of a graph, over its English names; built if there is none yet."""
    from kg.linking import Linker

    folder = _linker_folder(graph)
    try:
        return Linker.load(folder, graph)
    except MedgraftError:
        _say(f"the linker of this graph is built now, and kept in {folder}")
    return Linker.build(graph, out=folder)


def kept_linker_folder(graph: "Graph") -> Path:
    """Where that linker is kept; it is there."""
    kept_linker(graph)
    return _linker_folder(graph)


def _linker_folder(graph: "Graph") -> Path:
    by = hashlib.sha256(repr(_readers()).encode()).hexdigest()[:8]
    return cache_folder() / "linkers" / f"{graph.fingerprint[:24]}-{by}"


def _readers() -> tuple[str, int]:
    """The version that reads dumps and names; of a checkout also when that code changed last."""
    import loaders

    sources = [*Path(loaders.__file__).parent.glob("*.py"), *Path(__file__).parent.glob("*.py")]
    return version("medgraft"), max(source.stat().st_mtime_ns for source in sources)


def _stamps(dump: Path) -> list[tuple[str, int, int]]:
    found = []
    for file in files(dump) if dump.is_dir() else [dump]:
        status = file.stat()
        found.append((str(file.relative_to(dump)), status.st_size, status.st_mtime_ns))
    return found


def _say(line: str) -> None:
    tqdm.write(f"medgraft: {line}", file=sys.stderr)
