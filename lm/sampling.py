"""The steps of an epoch, as numbers of examples: of one set of examples, or of several tasks by turns."""

from collections.abc import Callable, Sequence
from math import ceil

import numpy as np

from lm.encoder import Array
from loaders.errors import MedgraftError

Step = list[list[int]]
"""Batches of numbers of examples, whose gradients are added up."""


def one_pass(lengths: Array, batch_size: int, accumulation: int, generator: np.random.Generator) -> list[Step]:
    """Every example once, in batches of similar lengths and in drawn order, `accumulation` of them a step."""
    order = generator.permutation(len(lengths))
    pool = batch_size * 32
    batches: list[list[int]] = []
    for start in range(0, len(order), pool):
        part = order[start : start + pool]
        part = part[np.argsort(lengths[part], kind="stable")]
        batches += [part[i : i + batch_size].tolist() for i in range(0, len(part), batch_size)]
    batches = [batches[i] for i in generator.permutation(len(batches))]
    return [batches[i : i + accumulation] for i in range(0, len(batches), accumulation)]


def by_turns(
    lengths: Sequence[Array],
    batch_sizes: Sequence[int],
    *,
    temperature: float = 1.0,
    accumulation: int = 1,
    seed: int = 0,
) -> Callable[[int], list[Step]]:
    """The steps of any epoch over the examples of several tasks, which are numbered one task after the other.

    Each step is of one task. Of the steps of an epoch, as many as a pass over all examples has, a task with n steps a
    pass gets a share in proportion to n ** (1 / temperature), at least one; the order is drawn. So at temperature 1
    each example is read once an epoch, and the higher the temperature, the more often small tasks are read and the
    less of large ones (Arivazhagan et al., 2019). What a task reads begins anew each epoch, in a new order.

    Raises:
        MedgraftError: a temperature that is not above 0.
    """
    if not temperature > 0:
        raise MedgraftError(f"the temperature of sampling is above 0, not {temperature:g}; 1 draws tasks by their size")
    passes = np.array(
        [ceil(ceil(len(some) / size) / accumulation) for some, size in zip(lengths, batch_sizes, strict=True)]
    )
    shares = _shares(passes, temperature)
    offsets = np.cumsum([0, *map(len, lengths)])

    def steps(epoch: int) -> list[Step]:
        generator = np.random.default_rng([seed, epoch])
        found: list[Step] = []
        for task, (some, size) in enumerate(zip(lengths, batch_sizes, strict=True)):
            own: list[Step] = []
            while len(own) < shares[task]:
                own += one_pass(some, size, accumulation, generator)
            offset = int(offsets[task])
            found += [[[offset + n for n in batch] for batch in step] for step in own[: shares[task]]]
        return [found[n] for n in generator.permutation(len(found))]

    return steps


def _shares(passes: Array, temperature: float) -> list[int]:
    """How many of the steps each task gets: whole numbers by largest remainder, none of them 0."""
    total = int(passes.sum())
    weights = passes ** (1 / temperature)
    wanted = weights / weights.sum() * total
    shares = np.maximum(np.floor(wanted), 1).astype(int)
    for task in np.argsort(shares - wanted, kind="stable")[: max(total - int(shares.sum()), 0)]:
        shares[task] += 1
    return [int(share) for share in shares]
