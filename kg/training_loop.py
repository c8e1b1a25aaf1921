"""PyKEEN's training loop with row-sparse gradients and shared negatives: the only door to PyKEEN."""

import gc
import logging
import math
import random
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from kg.checkpoints import State, epoch_seed, weights_of
from kg.training_settings import Settings
from kg.vectors import Rows
from loaders.errors import MedgraftError

_PYKEEN_LOG = logging.getLogger("pykeen")
_CHUNK = 128  # triples that share their negatives


def train(
    rows: Rows,
    sizes: tuple[int, int],
    settings: Settings,
    device: torch.device,
    state: "State | None",
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
        tables = [weight.detach().float().cpu().numpy() for weight in weights_of(loop.model)]
    if not all(map(math.isfinite, losses)) or not all(np.isfinite(table).all() for table in tables):
        raise MedgraftError(
            f"the loss is no longer finite; use a learning_rate below {settings.learning_rate} or another margin"
        )
    return tables[0], tables[1], list(losses)


def _loop(settings: Settings, factory: Any, device: torch.device) -> Any:
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


def _epoch_ends(settings: Settings, state: "State | None", checkpoint_seconds: float) -> Any:
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
