"""kill -9 at random moments: what was there still opens, the rerun finishes, the result is that of a clean run.

Of a build and an update of a folder, of a load and an update of a Neo4j database, and of the server during a load.
`python -m tests.benchmarks.faults --times 20`
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import kg
from loaders import MedgraftError
from tests.benchmarks.report import ROOT
from tests.benchmarks.synthetic_umls import generate
from tests.conftest import Neo4jHome, Neo4jServer

BUILD = "import sys, kg; kg.build(sys.argv[1], sys.argv[2])"
UPDATE = "import sys, kg; kg.update(sys.argv[2], sys.argv[1])"


def run(work: Path, times: int, seed: int, concepts: int = 5_000) -> dict[str, Any]:
    """Kill `times` runs of each kind; raises AssertionError where a promise is broken."""
    chance = random.Random(seed)
    sources = [work / "faults-earlier", work / "faults-new"]
    for source, size in zip(sources, (concepts // 2, concepts), strict=True):
        if not source.exists():
            generate(source, size, seed)
    earlier, new = (work / f"{source.name}-graph" for source in sources)
    kg.build(sources[0], earlier)
    shutil.copytree(earlier, new, dirs_exist_ok=True)
    kg.update(new, sources[1])
    found = {"build": _folder(work, sources[1], earlier, BUILD, times, chance)}
    found["update"] = _folder(work, sources[1], earlier, UPDATE, times, chance)
    (work / "faults-neo4j").mkdir()
    home = Neo4jHome(work / "faults-neo4j")
    os.environ |= {"NEO4J_USERNAME": "neo4j", "NEO4J_PASSWORD": home.password}
    with home.running() as server:
        found["neo4j load"] = kill_clients(server, earlier, new, BUILD, times, chance)
        found["neo4j update"] = kill_clients(server, earlier, new, UPDATE, times, chance)
    found["neo4j server"] = kill_servers(home, earlier, new, max(times // 5, 1), chance)
    return found


def _folder(work: Path, source: Path, earlier: Path, code: str, times: int, chance: random.Random) -> dict[str, Any]:
    """Runs over a copy of an earlier graph: after each kill it is the old or the new one, and opens."""
    graph = work / "faults-graph"

    def renew() -> None:
        shutil.rmtree(graph, ignore_errors=True)
        shutil.copytree(earlier, graph)

    renew()
    whole = _seconds(code, source, graph)
    first, last = _fingerprint(earlier), _fingerprint(graph)
    survived, moments = 0, []
    for _ in range(times):
        renew()
        moments.append(_killed(code, source, graph, chance.uniform(0, whole)))
        found = _fingerprint(graph)
        assert found in (first, last), f"after a kill at {moments[-1]} s the graph is neither the old nor the new one"
        survived += found == first
        _seconds(code, source, graph)
        assert _fingerprint(graph) == last, f"a rerun after a kill at {moments[-1]} s gives another graph"
        left = [path.name for path in work.iterdir() if "faults-graph.building" in path.name]
        assert not left, f"left behind: {left}"
    return {"kills": times, "earlier_graph_in_use": survived, "whole_s": round(whole, 2), "moments_s": moments}


def kill_clients(
    server: Neo4jServer, earlier: Path, new: Path, code: str, times: int, chance: random.Random
) -> dict[str, Any]:
    """Runs over an earlier graph in a database: after a kill it opens as a whole graph, or says what to do."""
    kg.build(earlier, server.uri)
    whole = _seconds(code, new, server.uri)
    unfinished, moments = 0, []
    for _ in range(times):
        kg.build(earlier, server.uri)
        moments.append(_killed(code, new, server.uri, chance.uniform(0, whole)))
        unfinished += _state(server.uri, (_fingerprint(earlier), _fingerprint(new)))
        _seconds(code, new, server.uri)
        _check_copy(server.uri, new)
    return {"kills": times, "left_unfinished": unfinished, "whole_s": round(whole, 2), "moments_s": moments}


def kill_servers(home: Neo4jHome, earlier: Path, new: Path, times: int, chance: random.Random) -> dict[str, Any]:
    """The server itself is killed during a load; started again, the same load goes on."""
    unfinished, moments = 0, []
    with home.running() as server:
        kg.build(earlier, server.uri)
        whole = _seconds(BUILD, new, server.uri)
    for _ in range(times):
        with home.running() as server:
            kg.build(earlier, server.uri)
            loading = _start(BUILD, new, server.uri)
            moments.append(round(chance.uniform(0.5, whole), 2))
            time.sleep(moments[-1])
            os.killpg(server.process.pid, signal.SIGKILL)
            loading.wait()
        with home.running() as server:
            unfinished += _state(server.uri, (_fingerprint(earlier), _fingerprint(new)))
            kg.build(new, server.uri)
            _check_copy(server.uri, new)
    return {"kills": times, "left_unfinished": unfinished, "whole_s": round(whole, 2), "moments_s": moments}


def _state(uri: str, whole: tuple[str, str]) -> bool:
    """Whether the database says that it is unfinished; if it opens it holds one graph or the other, whole."""
    try:
        with kg.connect(uri) as graph:
            assert graph.fingerprint in whole
            return False
    except MedgraftError as error:
        assert "not finished" in str(error), error
        return True


def _check_copy(uri: str, folder: Path) -> None:
    assert not kg.diff(uri, folder)
    with kg.connect(uri) as graph, kg.connect(folder) as expected:
        for name in ("concepts", "names", "triples", "retired", "mappings", "attributes", "exclusions"):
            assert graph.table(name).equals(expected.table(name)), f"{name} differ"


def _start(code: str, source: Path, to: object) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", code, str(source), str(to)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _seconds(code: str, source: Path, to: object) -> float:
    start = time.monotonic()
    assert _start(code, source, to).wait() == 0
    return time.monotonic() - start


def _killed(code: str, source: Path, to: object, moment: float) -> float:
    process = _start(code, source, to)
    time.sleep(moment)
    process.kill()
    process.wait()
    return round(moment, 3)


def _fingerprint(folder: Path) -> str:
    """Of a graph that opens and answers."""
    with kg.connect(folder) as graph:
        assert graph.concept("C0000001").id == "C0000001"
        return graph.fingerprint


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="medgraft-faults-") as folder:
        sys.stdout.write(json.dumps(run(Path(folder), given.times, given.seed), indent=2) + "\n")
