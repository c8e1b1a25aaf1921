"""kill -9 at random moments of a build: the earlier graph still opens, the rerun finishes, the result is the same.

python -m tests.benchmarks.faults --times 20
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import kg
from tests.benchmarks.report import ROOT
from tests.benchmarks.synthetic_umls import generate

BUILD = "import sys, kg; kg.build(sys.argv[1], sys.argv[2])"


def run(work: Path, times: int, seed: int, concepts: int = 5_000) -> dict[str, object]:
    """Kill `times` builds over an earlier graph; raises AssertionError where a promise is broken."""
    chance = random.Random(seed)
    earlier, new = work / "faults-earlier", work / "faults-new"
    for source, size in ((earlier, concepts // 2), (new, concepts)):
        if not source.exists():
            generate(source, size, seed)
    first = kg.build(earlier, work / "faults-clean-earlier").fingerprint
    start = time.monotonic()
    _start(new, work / "faults-timed").wait()
    whole = time.monotonic() - start
    last = _fingerprint(work / "faults-timed")
    graph = work / "faults-graph"
    moments, survived = [], 0
    for _ in range(times):
        kg.build(earlier, graph)
        process = _start(new, graph)
        moment = chance.uniform(0, whole)
        time.sleep(moment)
        process.kill()
        process.wait()
        found = _fingerprint(graph)
        assert found in (first, last), f"after a kill at {moment:.2f} s the graph is neither the old nor the new one"
        survived += found == first
        kg.build(new, graph)
        assert _fingerprint(graph) == last, f"a rerun after a kill at {moment:.2f} s gives another graph"
        left = [path.name for path in work.iterdir() if "faults-graph.building" in path.name]
        assert not left, f"left behind: {left}"
        moments.append(round(moment, 3))
    return {"kills": times, "earlier_graph_in_use": survived, "whole_build_s": round(whole, 2), "moments_s": moments}


def _start(source: Path, graph: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-c", BUILD, str(source), str(graph)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


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
