"""Training vectors for the concepts and relations of a graph.

Models, losses, samplers and training loop are PyKEEN's (1.11.1). What makes them fit medical graphs:

- a step costs what its batch touches and not what the graph holds (`kg.row_updates`);
- ids are fixed by the graph (concepts sorted, relations sorted), so that no id map has to be matched;
- negatives are shared: one draw of concepts serves a chunk of triples, both as wrong heads and as wrong tails, and
  the distances are matrix products. A triple meets a hundred negatives at about the price of one.

TransE (Bordes et al., 2013) asks that head + relation lie near tail. Its unit-norm constraint on concepts keeps a
plain SGD from lowering the loss by growing the vectors; under Adagrad, whose steps shrink, growth stops by itself, and
on the HPO graph the free vectors rank clearly better than constrained ones, so `unit_norm` is off unless asked for.

PyKEEN takes seconds to import, so that this happens only in training.
"""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from kg import training_loop
from kg.aligning import align
from kg.calibration import calibrate
from kg.checkpoints import unfinished_state
from kg.ranking import evaluate_ranking, rank_triples
from kg.splits import PARTS, hold_out
from kg.training_settings import Settings
from kg.triples import IntegerGraph, Rows, TripleGraph, integer_triples, read_integer_graph
from kg.vectors import Embeddings, Vectors
from loaders.errors import MedgraftError

__all__ = ["Embeddings", "train_embeddings"]

_JUDGED = 1000  # development triples that early stopping looks at
_RANKED = 10_000  # held-out triples that are ranked at the end


def train_embeddings(
    graph: TripleGraph,
    model: str = "TransE",
    dim: int = 128,
    out: str | Path | None = None,
    *,
    triples: pa.Table | None = None,
    dev: pa.Table | int | float = 0,
    holdout: int | float = 0,
    epochs: int = 15,
    patience: int = 0,
    check_every: int = 1,
    batch_size: int = 1024,
    learning_rate: float = 0.3,
    num_negatives: int = 64,
    margin: float = 1.0,
    norm: int = 2,
    loss: str = "marginranking",
    negative_sampler: str = "shared",
    seed: int = 0,
    device: str = "auto",
    unit_norm: bool = False,
    mixed_precision: bool = False,
    align_to: Embeddings | None = None,
    checkpoint_seconds: float = 30.0,
    progress: bool = True,
) -> Embeddings:
    """Train vectors for every concept and relation of a graph.

    With `out`, training that was cut off (Ctrl-C, kill -9, a crash) continues when called again with the same
    arguments, to the result it would have had: the state at the end of an epoch lies beside `out`, in a hidden file
    that is removed when `out` is complete.

    Args:
        graph: gives the concepts, the triples and the fingerprint.
        model: "TransE", "RotatE", "DistMult" or "ComplEx", see `kg.geometry`.
        dim: length of the vectors; of RotatE and ComplEx in complex numbers, as in PyKEEN.
        out: folder to save the embeddings in.
        triples: train on these triples of the graph only (the train part of a split); columns head, relation, tail.
        dev: development triples, or how many (a share if below 1) to keep out of training. Early stopping judges by
            them, and scores are calibrated to probabilities on them.
        holdout: keep so many triples (a share if below 1) out of training and rank them; see `metrics`, which also say
            under "split" how many triples each rule of `kg.split_triples` moved.
        epochs: passes over the triples, in total.
        patience: stop when so many checks in a row on the development triples show no better MRR, and keep the best
            vectors; 0 trains all epochs.
        check_every: epochs between two checks.
        batch_size: triples in a step.
        learning_rate: of Adagrad.
        num_negatives: with "shared", concepts drawn for each chunk of 128 triples, each of which takes them as wrong
            heads and wrong tails; with "basic" and "bernoulli", wrong triples for each triple, drawn for it alone.
        margin: of the losses that have one.
        norm: 1 or 2, the norm of TransE's distance.
        loss: by PyKEEN's name: "marginranking", "nssa" (self-adversarial, Sun et al., 2019), "softplus",
            "bcewithlogits" or "infonce".
        negative_sampler: "shared", or PyKEEN's "basic" or "bernoulli".
        unit_norm: TransE and DistMult: keep every concept at length 1, as PyKEEN does by default.
        seed: the same seed, triples, machine and thread count give the same vectors.
        device: "auto" (a CUDA GPU if there is one), "cpu", "cuda", "cuda:1", "mps".
        mixed_precision: products of matrices (DistMult, ComplEx with shared negatives) in bfloat16; vectors, updates
            and distances stay in float32. PyKEEN itself has no mixed precision. One GPU trains one graph: PyKEEN has
            no training on several, and there is none here either.
        align_to: earlier embeddings of the same kind: the new space is turned onto theirs, see `kg.aligning`.
        checkpoint_seconds: least time between two saved states; 0 saves after every epoch.
        progress: show progress bars on a terminal.

    Raises:
        MedgraftError: for arguments out of range, a graph without triples, an empty split, an absent device, a loss
            that is not finite, or the state of an interrupted training with other arguments beside `out`.
    """
    settings = Settings(
        model, dim, norm, loss, margin, negative_sampler, num_negatives, epochs, batch_size, learning_rate, seed,
        mixed_precision, patience, check_every, unit_norm,
    )  # fmt: skip
    settings.check()
    where = _device(device)
    whole = read_integer_graph(graph)
    if triples is not None:
        whole = replace(whole, rows=integer_triples(triples, whole.ids, whole.relations))
    if len(whole.rows) == 0:
        raise MedgraftError("the graph has no triples to train on; build it from a source that states relations")
    train, judged_by, test, moved = _parts(whole, dev, holdout, patience, seed)
    judge = _judge(settings, train, judged_by, seed) if patience else None
    state = unfinished_state(out, settings, graph.fingerprint, train)
    sizes = (len(whole.ids), len(whole.relations))
    trained = training_loop.train(train, sizes, settings, where, state, checkpoint_seconds, progress, judge)
    embeddings = Embeddings(
        whole.ids,
        trained.vectors,
        whole.relations,
        trained.relation_vectors,
        p=norm,
        fingerprint=graph.fingerprint,
        settings=asdict(settings) | {"triples": len(train), "optimizer": "Adagrad", "pykeen": "1.11.1"},
        metrics={"loss": [round(value, 6) for value in trained.losses]},
        model=model,
    )
    if moved:
        embeddings.metrics["split"] = moved
    if patience:
        embeddings.metrics["dev_mrr"] = [list(check) for check in trained.checks]
    if align_to is not None:
        embeddings = align(embeddings, align_to)
    if len(judged_by):
        embeddings = calibrate(embeddings, judged_by, [train], seed=seed)
    if len(test):
        report = evaluate_ranking(embeddings, test, [train, judged_by], limit=_RANKED, seed=seed, progress=progress)
        embeddings.metrics["ranking"] = report.as_dict()
    if out is not None:
        embeddings.save(out)
    if state is not None:
        state.path.unlink(missing_ok=True)
    return embeddings


def _parts(
    graph: IntegerGraph, dev: pa.Table | int | float, holdout: int | float, patience: int, seed: int
) -> tuple[Rows, Rows, Rows, dict[str, int]]:
    """Triples to train on, to develop with and to test on, each may be empty but the first; what each rule moved."""
    number = dev if isinstance(dev, int | float) else 0
    if not isinstance(dev, int | float) and len(dev) == 0:
        raise MedgraftError(
            "the table of development triples is empty; hold some out with split_triples(table, dev=1000)"
        )
    if patience and isinstance(dev, int | float) and not dev:
        raise MedgraftError("early stopping (patience) needs development triples; give dev=1000 or a table of them")
    rows, given = graph.rows, np.empty((0, 3), np.int64)
    if not isinstance(dev, int | float):
        given = integer_triples(dev, graph.ids, graph.relations)
    if not (holdout or number):
        return rows, given, rows[:0], {}
    part, moved = hold_out(rows, len(graph.ids), graph.relations, dev=number, test=holdout, seed=seed)
    train, drawn, test = (rows[part == PARTS.index(name)] for name in ("train", "dev", "test"))
    return train, np.concatenate([given, drawn]), test, moved


def _judge(settings: Settings, train: Rows, dev: Rows, seed: int) -> Callable[[Vectors, Vectors], float]:
    """The filtered MRR of vectors on a fixed sample of the development triples."""
    asked = dev[np.random.default_rng(seed).permutation(len(dev))[:_JUDGED]]
    facts = np.concatenate([train, dev])

    def mrr(vectors: Vectors, relation_vectors: Vectors) -> float:
        made = Embeddings([], vectors, [], relation_vectors, p=settings.p, model=settings.model)
        return float((1 / rank_triples(made, asked, facts)).mean())

    return mrr


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (number and not (kind == "cuda" and number.isdecimal())):
        raise MedgraftError(f"unknown device {name!r}; there is auto, cpu, cuda, cuda:1 and mps")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        raise MedgraftError(
            f"no GPU {name!r}: this machine shows {torch.cuda.device_count()}; use device='cpu' or 'auto'"
        )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise MedgraftError("no Apple GPU ('mps') on this machine; use device='cpu' or 'auto'")
    return torch.device(name)
