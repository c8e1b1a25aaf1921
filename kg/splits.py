"""Hold triples out for development and test, so that training does not give them away."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from kg.vectors import Rows
from loaders.errors import MedgraftError


@dataclass(frozen=True)
class Split:
    """Three tables of triples; unpacks into `train, dev, test`.

    `twins_moved` counts the triples that follow a held-out triple on the same two concepts out of the training set,
    `kept_for_coverage` those drawn but left in training, because a concept or relation would not be seen there.
    """

    train: pa.Table
    dev: pa.Table
    test: pa.Table
    twins_moved: int
    kept_for_coverage: int

    def __iter__(self) -> Iterator[pa.Table]:
        return iter((self.train, self.dev, self.test))


def split_triples(table: pa.Table, *, dev: int | float = 0, test: int | float = 0, seed: int = 0) -> Split:
    """Hold out triples for development and test, so that training says nothing about them but what can be learnt.

    Triples on the same two concepts, in either direction and under any relation, stay together: an inverse or symmetric
    twin in training would give the held-out triple away. Every concept and relation is still seen in training.

    Args:
        table: columns head, relation, tail (others are kept as they are).
        dev: how many triples, or the share of all of them if below 1.
        test: likewise.
        seed: the same seed and table give the same split.

    Raises:
        MedgraftError: if the graph is too small to hold out that many.
    """
    concepts, head, tail = _two_columns(table["head"], table["tail"])
    relation = np.unique(table["relation"].to_numpy(zero_copy_only=False), return_inverse=True)[1]
    # pairs[i] is the unordered pair of concepts of triple i; `members` lists the triples of each pair one after another
    pairs = np.unique(np.minimum(head, tail) * len(concepts) + np.maximum(head, tail), return_inverse=True)[1]
    members = np.argsort(pairs, kind="stable")
    starts = np.searchsorted(pairs[members], np.arange(len(members) + 1))
    degree = np.bincount(np.concatenate([head, tail]), minlength=len(concepts))
    uses = np.bincount(relation)

    wanted = {"test": _number(test, len(table)), "dev": _number(dev, len(table))}
    part = np.full(len(table), "train", dtype="<U5")
    seen = np.zeros(len(table), dtype=bool)
    taken = dict.fromkeys(wanted, 0)
    moved = kept = 0
    order = iter(np.random.default_rng(seed).permutation(len(table)).tolist())
    for name, number in wanted.items():
        while taken[name] < number:
            row = next(order, None)
            if row is None:
                raise MedgraftError(
                    f"cannot hold out {number} of {len(table)} triples for {name} and still see every concept and "
                    f"relation in training (found {taken[name]}); ask for fewer"
                )
            group = members[starts[pairs[row]] : starts[pairs[row] + 1]]
            if seen[row]:
                continue
            seen[group] = True
            ends, end_uses = np.unique(np.concatenate([head[group], tail[group]]), return_counts=True)
            kinds, kind_uses = np.unique(relation[group], return_counts=True)
            if (degree[ends] <= end_uses).any() or (uses[kinds] <= kind_uses).any():
                kept += len(group)
                continue
            degree[ends] -= end_uses
            uses[kinds] -= kind_uses
            part[group] = name
            taken[name] += len(group)
            moved += len(group) - 1
    parts = {name: table.filter(pa.array(part == name)) for name in ("train", "dev", "test")}
    return Split(**parts, twins_moved=moved, kept_for_coverage=kept)


def _two_columns(*columns: pa.ChunkedArray) -> tuple[list[str], Rows, Rows]:
    values = pc.unique(pa.chunked_array([chunk for column in columns for chunk in column.chunks], type=pa.string()))
    first, second = (pc.index_in(column, values).to_numpy().astype(np.int64) for column in columns)
    return values.to_pylist(), first, second


def _number(wanted: int | float, total: int) -> int:
    if wanted < 0:
        raise MedgraftError(f"cannot hold out {wanted} triples; give a number, or a share below 1")
    return round(wanted * total) if wanted < 1 else int(wanted)
