"""Stages of a long run: each is done once, timed, and reused as long as what it was made from is the same.

A run is a folder. `stages/<name>.json` holds what a stage was made from, what came out and how long it took, and is
written only when the stage is done: an interrupted run goes on with the first stage that has no such file.
"""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Result = dict[str, Any]


class Run:
    """A run in a folder; `report` gathers the results of its stages and their seconds.

    `announce` is told what begins and what is reused.
    """

    def __init__(self, folder: Path, announce: Callable[[str], None]) -> None:
        self.folder = folder
        self.announce = announce
        self.report: dict[str, Any] = {"seconds": {}}
        self.reused: list[str] = []
        (folder / "stages").mkdir(parents=True, exist_ok=True)

    def stage(self, name: str, made_from: Result, needs: list[Path], work: Callable[[], Result]) -> Result:
        """The result of `work`, from the stage's file if that is still good.

        Good means: made from the same things, and every path of `needs` is still there.
        """
        file = self.folder / "stages" / f"{name}.json"
        made_from = json.loads(json.dumps(made_from))
        done: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
        if done.get("made_from") == made_from and all(path.exists() for path in needs):
            self.reused.append(name)
            self.announce(f"{name}: finished earlier, reused")
        else:
            self.announce(f"{name} ...")
            start = time.perf_counter()
            result = work()
            done = {"made_from": made_from, "result": result, "seconds": round(time.perf_counter() - start, 1)}
            write_json(file, done)
        self.report[name] = done["result"]
        self.report["seconds"][name] = done["seconds"]
        write_json(self.folder / "report.json", self.report)
        finished: Result = done["result"]
        return finished

    def combine(self, name: str, result: Result) -> None:
        """Put one result, under one sum of seconds, in the place of the stages `<name> ...` in the report."""
        parts = [part for part in self.report["seconds"] if part.startswith(f"{name} ")]
        seconds = sum(self.report["seconds"].pop(part) for part in parts)
        for part in parts:
            del self.report[part]
        if all(part in self.reused for part in parts):
            self.reused = [part for part in self.reused if part not in parts] + [name]
        self.report[name] = result
        self.report["seconds"][name] = round(seconds, 1)
        write_json(self.folder / "report.json", self.report)


def write_json(path: Path, value: object) -> None:
    """Write a JSON file whole or not at all."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(json.dumps(value, indent=2, ensure_ascii=False, sort_keys=False) + "\n", encoding="utf-8")
    aside.replace(path)
