"""Training vectors for the concepts and relations of a graph.

Model, losses, samplers and training loop are PyKEEN's (1.11.1). What makes them fit medical graphs:

- gradients are row-sparse, so that a step costs what its batch touches and not what the graph holds;
- ids are fixed by the graph (concepts sorted, relations sorted), so that no id map has to be matched;
- negatives are shared: one draw of concepts serves a chunk of triples, both as wrong heads and as wrong tails, and
  the distances are matrix products. A triple meets a hundred negatives at about the price of one.

TransE (Bordes et al., 2013) asks that head + relation lie near tail. Its unit-norm constraint on concepts keeps a
plain SGD from lowering the loss by growing the vectors; under Adagrad, whose steps shrink, growth stops by itself, and
on the HPO graph the free vectors rank clearly better than constrained ones, so there is none here.

PyKEEN takes seconds to import, so that this happens only in training.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc
import torch

from kg import training_loop
from kg.checkpoints import unfinished_state
from kg.ranking import evaluate_ranking
from kg.splits import split_triples
from kg.training_settings import Settings
from kg.vectors import Embeddings, integer_triples
from loaders.errors import MedgraftError

__all__ = ["Embeddings", "train_embeddings"]


class TripleGraph(Protocol):
    """A graph, as far as training needs it."""

    @property
    def fingerprint(self) -> str: ...

    def table(self, name: str) -> pa.Table: ...


def train_embeddings(
    graph: TripleGraph,
    model: str = "TransE",
    dim: int = 128,
    out: str | Path | None = None,
    *,
    triples: pa.Table | None = None,
    epochs: int = 15,
    batch_size: int = 1024,
    learning_rate: float = 0.3,
    num_negatives: int = 64,
    margin: float = 1.0,
    norm: int = 2,
    loss: str = "margin",
    negative_sampler: str = "shared",
    seed: int = 0,
    device: str = "auto",
    holdout: int | float = 0,
    checkpoint_seconds: float = 30.0,
    progress: bool = True,
) -> Embeddings:
    """Train vectors for every concept and relation of a graph.

    With `out`, training that was cut off (Ctrl-C, kill -9, a crash) continues when called again with the same
    arguments, to the result it would have had: the state at the end of an epoch lies beside `out`, in a hidden file
    that is removed when `out` is complete.

    Args:
        graph: gives the concepts, the triples and the fingerprint.
        model: "TransE".
        dim: length of the vectors.
        out: folder to save the embeddings in.
        triples: train on these triples of the graph only (the train part of a split); columns head, relation, tail.
        epochs: passes over the triples, in total.
        batch_size: triples in a step.
        learning_rate: of Adagrad.
        num_negatives: with "shared", concepts drawn for each chunk of 128 triples, each of which takes them as wrong
            heads and wrong tails; with "basic" and "bernoulli", wrong triples for each triple, drawn for it alone.
        margin: of the loss.
        norm: 1 or 2, the norm of the distance.
        loss: "margin" (margin ranking) or "nssa" (self-adversarial negative sampling, Sun et al., 2019).
        negative_sampler: "shared", or PyKEEN's "basic" or "bernoulli".
        seed: the same seed, triples, machine and thread count give the same vectors.
        device: "auto" (a CUDA GPU if there is one), "cpu", "cuda", "cuda:1", "mps".
        holdout: keep so many triples (a share if below 1) out of training and rank them; see `metrics`.
        checkpoint_seconds: least time between two saved states; 0 saves after every epoch.
        progress: show progress bars on a terminal.

    Raises:
        MedgraftError: for arguments out of range, a graph without triples, an absent device, a loss that is not finite,
            or the state of an interrupted training with other arguments beside `out`.
    """
    settings = Settings(
        model, dim, norm, loss, margin, negative_sampler, num_negatives, epochs, batch_size, learning_rate, seed
    )
    settings.check()
    where = _device(device)
    ids = pc.sort_indices(graph.table("concepts")["id"])
    concept_ids = graph.table("concepts")["id"].take(ids).to_pylist()
    everything = graph.table("triples")
    relations = sorted(pc.unique(everything["relation"]).to_pylist())
    train, test = (everything if triples is None else triples), None
    if len(train) == 0:
        raise MedgraftError("the graph has no triples to train on; build it from a source that states relations")
    if holdout:
        train, _, test = split_triples(train, test=holdout, seed=seed)
    rows = integer_triples(train, concept_ids, relations)
    state = unfinished_state(out, settings, graph.fingerprint, rows)
    vectors, relation_vectors, losses = training_loop.train(
        rows, (len(concept_ids), len(relations)), settings, where, state, checkpoint_seconds, progress
    )
    embeddings = Embeddings(
        concept_ids,
        vectors,
        relations,
        relation_vectors,
        p=norm,
        fingerprint=graph.fingerprint,
        settings=asdict(settings) | {"triples": len(train), "optimizer": "Adagrad", "pykeen": "1.11.1"},
        metrics={"loss": [round(value, 6) for value in losses]},
    )
    if test is not None:
        embeddings.metrics["ranking"] = evaluate_ranking(embeddings, test, [train], progress=progress).as_dict()
    if out is not None:
        embeddings.save(out)
    if state is not None:
        state.path.unlink(missing_ok=True)
    return embeddings


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
