"""PyKEEN's training loop with row-sparse updates and shared negatives: the only door to PyKEEN.

PyKEEN's are the models and how they begin, losses, samplers, the loop over epochs and batches. Ours are the order of
the triples, drawn in one go, the fetching of each batch's vectors in one go, and the update (`kg.row_updates`).

PyKEEN 1.11.1 knows neither mixed precision nor several GPUs. The first is here, see `train_embeddings`. The second is
not: the table of vectors, which is the whole model, would have to be split over the GPUs, or exchanged at every step.
"""

import gc
import logging
import math
import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kg.checkpoints import State, epoch_seed, weights_of
from kg.geometry import expected, scores_of_all, scores_of_pairs
from kg.row_updates import FetchedRows, RowAdagrad
from kg.stopping import EarlyStopping
from kg.training_settings import Settings
from kg.triples import Rows
from kg.vectors import Vectors
from loaders.errors import MedgraftError

_PYKEEN_LOG = logging.getLogger("pykeen")
_CHUNK = 128  # triples that share their negatives
_WITH_MARGIN = ("marginranking", "nssa", "infonce")


@dataclass(frozen=True)
class Trained:
    """Vectors of concepts and of relations, the loss of each epoch, what early stopping measured: (epoch, MRR)."""

    vectors: Vectors
    relation_vectors: Vectors
    losses: list[float]
    checks: list[tuple[int, float]]


def train(
    rows: Rows,
    sizes: tuple[int, int],
    settings: Settings,
    device: torch.device,
    state: State | None = None,
    checkpoint_seconds: float = 30.0,
    progress: bool = False,
    judge: Callable[[Vectors, Vectors], float] | None = None,
) -> Trained:
    """Train on integer triples.

    Args:
        rows: shape (triples, 3): head, relation, tail.
        sizes: number of concepts and of relations.
        settings: what to train, and how.
        device: where.
        state: where the unfinished training is kept, and found again.
        checkpoint_seconds: least time between two saved states.
        progress: show a bar on a terminal.
        judge: the MRR of vectors on held-out triples, for early stopping.
    """
    from pykeen.training.training_loop import NonFiniteLossError
    from pykeen.triples import CoreTriplesFactory

    stopping = EarlyStopping(settings.patience, settings.check_every, judge)
    with _own_world(settings.seed, device):
        factory = CoreTriplesFactory(torch.from_numpy(rows), num_entities=sizes[0], num_relations=sizes[1])
        loop = _loop(settings, factory, device)
        resumed = state is not None and state.restore(loop, stopping)
        try:
            losses = loop.losses_per_epochs
            if not stopping.stopped:
                losses = loop.train(
                    factory,
                    num_epochs=settings.epochs,
                    batch_size=settings.batch_size,
                    continue_training=resumed,
                    callbacks=_epoch_ends(settings, state, checkpoint_seconds, stopping),
                    use_tqdm=progress,
                    use_tqdm_batch=False,
                    tqdm_kwargs={"desc": settings.model, "disable": None, "leave": False},
                    pin_memory=device.type == "cuda",
                )
        except NonFiniteLossError:
            losses = [math.nan]
        tables = stopping.best or [weight.detach().float().cpu().numpy() for weight in weights_of(loop.model)]
    if not all(map(math.isfinite, losses)) or not all(np.isfinite(table).all() for table in tables):
        raise MedgraftError(
            f"the loss is no longer finite; use a learning_rate below {settings.learning_rate} or another margin"
        )
    return Trained(tables[0], tables[1], list(losses), stopping.checks)


def _loop(settings: Settings, factory: Any, device: torch.device) -> Any:
    """PyKEEN's training loop around its model, with row-sparse updates."""
    model = _model(settings, factory).to(device)
    places = np.zeros(max(factory.num_entities, factory.num_relations), np.int64)
    return _row_sparse_loop(settings, device, places)(
        model=model,
        triples_factory=factory,
        optimizer=RowAdagrad(weights_of(model), lr=settings.learning_rate, unit_norm=settings.unit_norm),
        negative_sampler="basic" if settings.negative_sampler == "shared" else settings.negative_sampler,
        negative_sampler_kwargs={"num_negs_per_pos": settings.num_negatives},
        automatic_memory_optimization=False,
    )


def _model(settings: Settings, factory: Any) -> Any:
    """PyKEEN's model, as it is initialised there, without constraint or penalty on the concepts.

    Both would sweep the whole table at every step; the constraint, where it is asked for, is kept by the optimizer.
    """
    from pykeen.losses import loss_resolver
    from pykeen.models import ComplEx, DistMult, RotatE, TransE
    from pykeen.nn.init import xavier_uniform_norm_
    from pykeen.utils import NoRandomSeedNecessary

    margin = {"margin": settings.margin} if settings.loss in _WITH_MARGIN else {}
    common = {
        "triples_factory": factory,
        "embedding_dim": settings.dim,
        "loss": loss_resolver.make(settings.loss, margin),
        "random_seed": NoRandomSeedNecessary,
    }
    begins: dict[str, Any] = {"entity_initializer": xavier_uniform_norm_} if settings.unit_norm else {}
    if settings.model == "TransE":
        return TransE(scoring_fct_norm=settings.p, entity_constrainer=None, **begins, **common)
    if settings.model == "RotatE":
        return RotatE(**common)
    if settings.model == "DistMult":
        return DistMult(entity_constrainer=None, regularizer=None, **begins, **common)
    return ComplEx(regularizer=None, entity_initializer=_small_normal_, relation_initializer=_small_normal_, **common)


def _small_normal_(tensor: torch.Tensor) -> torch.Tensor:
    """Start ComplEx near zero: from PyKEEN's standard normal, products over many dimensions begin far too large."""
    return torch.nn.init.normal_(tensor, std=0.1)


def _row_sparse_loop(settings: Settings, device: torch.device, places: NDArray[np.int64]) -> type:
    """PyKEEN's sLCWA loop, but for how a batch is put together, scored and turned into a gradient."""
    from pykeen.training import SLCWATrainingLoop
    from pykeen.triples.instances import BatchedSLCWAInstances
    from torch.utils.data import DataLoader

    shared = settings.negative_sampler == "shared"

    class Instances(BatchedSLCWAInstances):
        def iter_triple_ids(self) -> Iterator[Any]:
            yield from torch.randperm(len(self.mapped_triples)).split(self.batch_size)

        def __getitem__(self, item: Any) -> Any:
            positives = self.mapped_triples[item]
            anchors = positives[::_CHUNK] if shared else positives
            drawn = self.negative_sampler.corrupt_batch(anchors)
            as_head = drawn[..., 0] != anchors[:, None, 0]
            return {
                "positives": positives,
                "negatives": torch.where(as_head, drawn[..., 0], drawn[..., 2]),
                "as_head": as_head,
            }

    class RowSparseLoop(SLCWATrainingLoop):
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
            tables = weights_of(self.model)
            on_device = {name: values.to(device, non_blocking=True) for name, values in batch.items()}
            positives, negatives = on_device["positives"], on_device["negatives"]
            self.fetched = [
                FetchedRows(tables[0], positives[:, 0], positives[:, 2], negatives, places=places),
                FetchedRows(tables[1], positives[:, 1], places=places),
            ]
            (heads, tails, wrong), (relations,) = (rows.vectors for rows in self.fetched)
            score = _score_shared if shared else _score_own
            right, of_wrong = score(settings, heads, relations, tails, wrong, on_device["as_head"])
            return self.model.loss.process_slcwa_scores(positive_scores=right[:, None], negative_scores=of_wrong)

        def _forward_pass(self, *args: Any, **kwargs: Any) -> float:
            kind = device.type
            with torch.autocast(kind, torch.bfloat16, enabled=settings.mixed_precision and kind != "mps"):
                loss: float = super()._forward_pass(*args, **kwargs)
            for rows in self.fetched:
                rows.gradient()
            return loss

    return RowSparseLoop


def _score_own(
    settings: Settings,
    heads: torch.Tensor,
    relations: torch.Tensor,
    tails: torch.Tensor,
    wrong: torch.Tensor,
    as_head: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores (triples,) of triples and (triples, negatives) of the negatives that each has for itself."""
    model, p = settings.model, settings.p
    as_tail = expected(model, "tail", heads, relations)
    places = torch.where(as_head[..., None], expected(model, "head", tails, relations)[:, None], as_tail[:, None])
    return scores_of_pairs(model, p, as_tail, tails), scores_of_pairs(model, p, places, wrong)


def _score_shared(
    settings: Settings,
    heads: torch.Tensor,
    relations: torch.Tensor,
    tails: torch.Tensor,
    wrong: torch.Tensor,
    _: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores (triples,) of triples and (triples, 2 x negatives) of their chunk's negatives, as tails, then as heads."""
    model, p, number, chunks = settings.model, settings.p, len(heads), len(wrong)
    size = _CHUNK if chunks > 1 else number
    filler = (0, 0, 0, chunks * size - number)
    places = {"tail": expected(model, "tail", heads, relations), "head": expected(model, "head", tails, relations)}
    blocks = [torch.nn.functional.pad(place, filler).view(chunks, size, -1) for place in places.values()]
    of_wrong = torch.cat([scores_of_all(model, p, block, wrong) for block in blocks], dim=2)
    return scores_of_pairs(model, p, places["tail"], tails), of_wrong.view(chunks * size, -1)[:number].float()


def _epoch_ends(settings: Settings, state: State | None, checkpoint_seconds: float, stopping: EarlyStopping) -> Any:
    """At the end of each epoch: judge and save if it is time, and fix the randomness of the next epoch.

    Each epoch draws from a seed of its own, so that a resumed training needs no generator's state to go on alike.
    """
    import time

    from pykeen.training.callbacks import TrainingCallback

    class EpochEnds(TrainingCallback):
        saved = time.monotonic()

        def post_epoch(self, epoch: int, epoch_loss: float, **_: object) -> None:
            last = epoch == settings.epochs
            if stopping.due(epoch, last):
                stopping.check(epoch, [w.detach().float().cpu().numpy() for w in weights_of(self.training_loop.model)])
                self.training_loop._should_stop = last = last or stopping.stopped
            if state is not None and (last or time.monotonic() - self.saved >= checkpoint_seconds):
                state.save(self.training_loop, epoch, stopping)
                self.saved = time.monotonic()
            torch.manual_seed(epoch_seed(settings.seed, epoch + 1))

    return EpochEnds()  # type: ignore[no-untyped-call]


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
        torch.manual_seed(epoch_seed(seed, 0))
        try:
            yield
        finally:
            gc.unfreeze()
            _PYKEEN_LOG.setLevel(level)
            random.setstate(python)
            np.random.set_state(numpy_state)
