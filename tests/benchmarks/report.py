"""What every benchmark shares: repeated runs, the machine, the table, the file of results."""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "runs" / "bench"
DATA = Path(os.environ.get("MEDGRAFT_DATA") or ROOT.parent / "shared" / "data")


def small() -> bool:
    """Whether the quick form was asked for: SCALE=small runs the same code in under five minutes."""
    return os.environ.get("SCALE", "full") == "small"


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and greatest of some runs."""
    return {"median": statistics.median(values), "least": min(values), "greatest": max(values), "runs": len(values)}


def quantiles(seconds: Sequence[float]) -> dict[str, float]:
    """p50 and p99 in milliseconds."""
    ordered = sorted(seconds)
    at = [ordered[min(len(ordered) - 1, round(share * (len(ordered) - 1)))] for share in (0.5, 0.99)]
    return {"p50_ms": 1e3 * at[0], "p99_ms": 1e3 * at[1], "runs": len(ordered)}


def timed(calls: Iterable[Callable[[], object]]) -> list[float]:
    """Seconds of each call."""
    seconds = []
    for call in calls:
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds


def measured(code: str, *arguments: object, python: str = sys.executable) -> dict[str, float]:
    """Run Python code in a process of its own: its seconds (after imports) and its peak memory in GB.

    The code defines `run(*arguments)`; arguments arrive as text. `python` is the interpreter, of another environment
    for what does not fit into this one.
    """
    script = (
        f"{code}\nimport json, sys, time\nstart = time.perf_counter()\nrun(*sys.argv[1:])\n"
        "seconds = time.perf_counter() - start\n"
        # Not ru_maxrss, which begins with what the calling process held.
        "peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))\n"
        "print(json.dumps({'seconds': seconds, 'peak_gb': int(peak.split()[1]) / 2**20}))"
    )
    command = [python, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def machine() -> dict[str, object]:
    """Where a benchmark ran."""
    models = [line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    total = [int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return {
        "cores": os.cpu_count(),
        "processor": models[0] if models else platform.processor(),
        "memory_gb": round(total[0] / 2**20, 1) if total else None,
        "python": platform.python_version(),
        "commit": commit.stdout.strip(),
        "load": os.getloadavg()[0],
    }


def write(name: str, seed: int, figures: dict[str, object]) -> Path:
    """Write `runs/bench/NAME.json`: the figures by name, with machine, commit, seed and scale."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{name}.json"
    content = {"machine": machine(), "seed": seed, "scale": "small" if small() else "full", "figures": figures}
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
    return path


def earlier(name: str) -> dict[str, object]:
    """The figures of an earlier run at the same scale, for a run of some parts to add to."""
    path = RESULTS / f"{name}.json"
    if not path.is_file():
        return {}
    content = json.loads(path.read_text())
    figures: dict[str, object] = content["figures"] if content["scale"] == ("small" if small() else "full") else {}
    return figures


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under their headings."""
    from rich.console import Console
    from rich.table import Table

    shown = Table(*columns, title=title, box=None, title_justify="left")
    for row in rows:
        shown.add_row(*(f"{cell:,.3g}" if isinstance(cell, float) else f"{cell}" for cell in row))
    Console(width=120, highlight=False).print(shown)


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
