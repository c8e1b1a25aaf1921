"""Training vectors for the concepts and relations of a graph: the only door to PyKEEN.

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

import gc
import hashlib
import json
import logging
import math
import os
import random
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from kg.ranking import evaluate_ranking, split_triples
from kg.vectors import Embeddings, Rows, integer_triples
from loaders.errors import MedgraftError

__all__ = ["Embeddings", "train_embeddings"]

MODELS = ("TransE",)
LOSSES = ("margin", "nssa")
SAMPLERS = ("shared", "basic", "bernoulli")
_PYKEEN_LOG = logging.getLogger("pykeen")
_CHUNK = 128  # triples that share their negatives


class TripleGraph(Protocol):
    """A graph, as far as training needs it."""

    @property
    def fingerprint(self) -> str: ...

    def table(self, name: str) -> pa.Table: ...


@dataclass(frozen=True)
class _Settings:
    """What decides the result of training, beside the triples."""

    model: str
    dim: int
    p: int
    loss: str
    margin: float
    negative_sampler: str
    num_negatives: int
    epochs: int
    batch_size: int
    learning_rate: float
    seed: int

    def check(self) -> None:
        for name, value, known in (
            ("model", self.model, MODELS),
            ("loss", self.loss, LOSSES),
            ("negative sampler", self.negative_sampler, SAMPLERS),
            ("norm", self.p, (1, 2)),
        ):
            if value not in known:
                raise MedgraftError(f"unknown {name} {value!r}; there is {', '.join(map(str, known))}")
        for name in ("dim", "num_negatives", "epochs", "batch_size"):
            if getattr(self, name) < 1:
                raise MedgraftError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("learning_rate", "margin"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise MedgraftError(f"{name} is {getattr(self, name)}; it must be a positive number")


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
        model: a name in `MODELS`.
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
    settings = _Settings(
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
    state = _state(out, settings, graph.fingerprint, rows)
    vectors, relation_vectors, losses = _train(
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


def _train(
    rows: Rows,
    sizes: tuple[int, int],
    settings: _Settings,
    device: torch.device,
    state: "_State | None",
    checkpoint_seconds: float,
    progress: bool,
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], list[float]]:
    """Vectors of concepts and of relations, and the loss of each epoch."""
    from pykeen.training.training_loop import NonFiniteLossError
    from pykeen.triples import CoreTriplesFactory

    with _own_world(settings.seed, device):
        factory = CoreTriplesFactory(torch.from_numpy(rows), num_entities=sizes[0], num_relations=sizes[1])
        loop = _loop(settings, factory, device)
        resumed = state is not None and state.restore(loop)
        try:
            losses = loop.train(
                factory,
                num_epochs=settings.epochs,
                batch_size=settings.batch_size,
                continue_training=resumed,
                callbacks=_epoch_ends(settings, state, checkpoint_seconds),
                use_tqdm=progress,
                use_tqdm_batch=False,
                tqdm_kwargs={"desc": settings.model, "disable": None, "leave": False},
                pin_memory=device.type == "cuda",
            )
        except NonFiniteLossError:
            losses = [math.nan]
        tables = [weight.detach().float().cpu().numpy() for weight in _weights(loop.model)]
    if not all(map(math.isfinite, losses)) or not all(np.isfinite(table).all() for table in tables):
        raise MedgraftError(
            f"the loss is no longer finite; use a learning_rate below {settings.learning_rate} or another margin"
        )
    return tables[0], tables[1], list(losses)


def _loop(settings: _Settings, factory: Any, device: torch.device) -> Any:
    """PyKEEN's training loop around its model, with row-sparse gradients."""
    from pykeen.losses import MarginRankingLoss, NSSALoss
    from pykeen.models import TransE
    from pykeen.training import SLCWATrainingLoop
    from pykeen.utils import NoRandomSeedNecessary

    model = TransE(
        triples_factory=factory,
        embedding_dim=settings.dim,
        scoring_fct_norm=settings.p,
        entity_constrainer=None,
        loss=(MarginRankingLoss if settings.loss == "margin" else NSSALoss)(margin=settings.margin),
        random_seed=NoRandomSeedNecessary,
    ).to(device)
    for representation in (*model.entity_representations, *model.relation_representations):
        table: Any = representation._embeddings
        table.sparse = device.type != "mps"  # no sparse tensors there
    shared = settings.negative_sampler == "shared"
    return (_shared_negatives_loop() if shared else SLCWATrainingLoop)(
        model=model,
        triples_factory=factory,
        optimizer=torch.optim.Adagrad(model.get_grad_params(), lr=settings.learning_rate),
        negative_sampler="basic" if shared else settings.negative_sampler,
        negative_sampler_kwargs={"num_negs_per_pos": settings.num_negatives},
        automatic_memory_optimization=False,
    )


def _shared_negatives_loop() -> Any:
    """PyKEEN's sLCWA loop, but for the negatives: drawn for the first triple of a chunk, used for all of it."""
    from pykeen.training import SLCWATrainingLoop
    from pykeen.triples.instances import BatchedSLCWAInstances
    from torch.utils.data import DataLoader

    class Instances(BatchedSLCWAInstances):
        def __getitem__(self, item: list[int]) -> Any:
            positives = self.mapped_triples[item]
            drawn = self.negative_sampler.corrupt_batch(positives[::_CHUNK])
            anchors = positives[::_CHUNK, None]
            concepts = torch.where(drawn[..., 0] != anchors[..., 0], drawn[..., 0], drawn[..., 2])
            return {"positives": positives, "negatives": concepts}

    class SharedNegativesLoop(SLCWATrainingLoop):
        def _create_training_data_loader(self, triples_factory: Any, **kwargs: Any) -> Any:
            instances = Instances(
                triples_factory.mapped_triples,
                batch_size=kwargs["batch_size"],
                drop_last=kwargs["drop_last"],
                num_entities=triples_factory.num_entities,
                num_relations=triples_factory.num_relations,
                negative_sampler=self.negative_sampler,
                negative_sampler_kwargs=self.negative_sampler_kwargs,
            )
            return DataLoader(instances, batch_size=None, pin_memory=kwargs["pin_memory"])

        def _process_batch(self, batch: Any, start: int, stop: int, *_: object, **__: object) -> Any:
            model: Any = self.model
            positives, negatives = (batch[name].to(model.device) for name in ("positives", "negatives"))
            concepts, relations = model.entity_representations[0], model.relation_representations[0]
            heads, tails = concepts(positives[:, 0]), concepts(positives[:, 2])
            shift = relations(positives[:, 1])
            wrong = shared_distances(heads + shift, tails - shift, concepts(negatives), model.interaction.p)
            return model.loss.process_slcwa_scores(
                positive_scores=model.interaction(heads, shift, tails)[:, None], negative_scores=-wrong
            )

    return SharedNegativesLoop


def shared_distances(tails: torch.Tensor, heads: torch.Tensor, wrong: torch.Tensor, p: int) -> torch.Tensor:
    """Distances of each triple's expected tail and head to the wrong concepts of its chunk.

    Args:
        tails: where each tail is expected, head + relation; shape (triples, dim).
        heads: where each head is expected, tail - relation; shape (triples, dim).
        wrong: shape (chunks, negatives, dim); triple i belongs to chunk i // 128.
        p: the norm.

    Returns:
        A tensor of shape (triples, 2 x negatives): as tails, then as heads.
    """
    number, chunks = len(tails), len(wrong)
    size = _CHUNK if chunks > 1 else number
    filler = (0, 0, 0, chunks * size - number)
    blocks = [torch.nn.functional.pad(side, filler).view(chunks, size, -1) for side in (tails, heads)]
    distances = torch.cat([torch.cdist(block, wrong, p=float(p)) for block in blocks], dim=2)
    return distances.view(chunks * size, -1)[:number]


def _weights(model: Any) -> list[torch.nn.Parameter]:
    return [side[0]._embeddings.weight for side in (model.entity_representations, model.relation_representations)]


def _epoch_ends(settings: _Settings, state: "_State | None", checkpoint_seconds: float) -> Any:
    """At the end of each epoch: save the state if it is time, and fix the randomness of the next epoch.

    Each epoch draws from a seed of its own, so that a resumed training needs no generator's state to go on alike.
    """
    from pykeen.training.callbacks import TrainingCallback

    class EpochEnds(TrainingCallback):
        saved = time.monotonic()

        def post_epoch(self, epoch: int, epoch_loss: float, **_: object) -> None:
            last = epoch == settings.epochs
            if state is not None and (last or time.monotonic() - self.saved >= checkpoint_seconds):
                state.save(self.training_loop, epoch)
                self.saved = time.monotonic()
            torch.manual_seed(_epoch_seed(settings.seed, epoch + 1))

    return EpochEnds()  # type: ignore[no-untyped-call]


def _epoch_seed(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence([abs(seed), epoch]).generate_state(1)[0])


@dataclass(frozen=True)
class _State:
    """Weights and optimizer of an unfinished training: one safetensors file, its header says of which training."""

    path: Path
    training: str

    def save(self, loop: Any, epoch: int) -> None:
        tensors = {}
        for name, weight in zip(("concepts", "relations"), _weights(loop.model), strict=True):
            tensors[name] = weight.detach()
            tensors[f"{name}.sum"] = loop.optimizer.state[weight]["sum"]
            tensors[f"{name}.step"] = loop.optimizer.state[weight]["step"]
        losses = [*loop.losses_per_epochs]
        header = {"training": self.training, "epoch": str(epoch), "losses": json.dumps(losses)}
        aside = self.path.with_name(f"{self.path.name}.new")
        save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, aside, metadata=header)
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(self.path)

    def restore(self, loop: Any) -> bool:
        """Put the loop where the unfinished training was; False if there is none."""
        if not self.path.exists():
            return False
        try:
            with safe_open(self.path, framework="pt") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise MedgraftError(
                f"the state of an unfinished training, {self.path}, is damaged ({error}); delete it"
            ) from error
        if header.get("training") != self.training:
            raise MedgraftError(_other_training(self.path, header.get("training", "{}"), self.training))
        with torch.no_grad():
            for name, weight in zip(("concepts", "relations"), _weights(loop.model), strict=True):
                weight.copy_(tensors[name])
                of_weight = loop.optimizer.state[weight]
                of_weight["sum"] = tensors[f"{name}.sum"].to(weight.device)
                of_weight["step"] = tensors[f"{name}.step"]
        loop._epoch = int(header["epoch"])
        loop.losses_per_epochs = json.loads(header["losses"])
        torch.manual_seed(_epoch_seed(json.loads(self.training)["seed"], loop._epoch + 1))
        return True


def _state(out: str | Path | None, settings: _Settings, fingerprint: str, rows: Rows) -> _State | None:
    """Where the state of this training lies, with the folder made, so that a bad place shows before the work."""
    if out is None:
        return None
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise MedgraftError(f"{out} is a file; choose another place for the output folder")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MedgraftError(f"cannot write to {out.parent}: {error.strerror}; choose another output") from error
    triples = hashlib.sha256(np.ascontiguousarray(rows).tobytes()).hexdigest()
    training = asdict(settings) | {"graph": fingerprint, "triples": triples}
    return _State(out.parent / f".{out.name}.unfinished.safetensors", json.dumps(training, sort_keys=True))


def _other_training(path: Path, found: str, wanted: str) -> str:
    theirs, ours = json.loads(found), json.loads(wanted)
    names = sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name))
    differences = "; ".join(f"{name} {theirs.get(name)!r}, now {ours.get(name)!r}" for name in names)
    return f"{path} holds an unfinished training with other arguments ({differences}); repeat those, or delete the file"


@contextmanager
def _own_world(seed: int, device: torch.device) -> Iterator[None]:
    """Leave no trace of PyKEEN in the caller's process: random generators, warnings, garbage collection.

    What matters of its warnings becomes a MedgraftError. It collects garbage after each epoch, which would walk through
    everything the process has imported; frozen objects are passed over.
    """
    python, numpy_state, level = random.getstate(), np.random.get_state(), _PYKEEN_LOG.level
    _PYKEEN_LOG.setLevel(logging.CRITICAL)
    gc.freeze()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse invariant checks")
        warnings.filterwarnings("ignore", message="Training instances are always shuffled")
        torch.manual_seed(_epoch_seed(seed, 0))
        try:
            yield
        finally:
            gc.unfreeze()
            _PYKEEN_LOG.setLevel(level)
            random.setstate(python)
            np.random.set_state(numpy_state)
