"""Hold triples out for development and test, so that training does not give them away."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from kg.snapshot import HIERARCHY
from kg.triples import Rows
from loaders.errors import MedgraftError

PARTS = ("train", "dev", "test", "support")
_TRAIN, _NEITHER = 0, len(PARTS)


@dataclass(frozen=True)
class Split:
    """Tables of triples; unpacks into `train, dev, test`.

    `moved` counts triples by the rule that decided where they are:

    - `duplicates`: the same fact as a held-out triple, stated once more, and held out with it;
    - `twins`: on the same two concepts as a held-out triple, in either direction, and held out with it;
    - `shortcuts`: drawn, but left in training, since other facts and the hierarchy imply it;
    - `coverage`: drawn, but left in training, because a concept or relation would not be seen there.

    `support` is empty but for the inductive split.
    """

    train: pa.Table
    dev: pa.Table
    test: pa.Table
    support: pa.Table
    moved: dict[str, int] = field(default_factory=dict)

    def __iter__(self) -> Iterator[pa.Table]:
        return iter((self.train, self.dev, self.test))

    def __str__(self) -> str:
        sizes = {"train": self.train, "dev": self.dev, "test": self.test, "support": self.support}
        lines = [f"{len(table):>12,}  triples for {name}" for name, table in sizes.items() if len(table)]
        return "\n".join(
            [*lines, *(f"{number:>12,}  decided by the rule of {rule}" for rule, number in self.moved.items())]
        )


def split_triples(
    table: pa.Table, *, dev: int | float = 0, test: int | float = 0, seed: int = 0, inductive: bool = False
) -> Split:
    """Hold out triples for development and test, so that training says nothing about them but what can be learnt.

    Triples on the same two concepts, in either direction and under any relation, stay together: a duplicate from
    another source, an inverse or a symmetric twin in training would give the held-out triple away. A triple (a, r, c)
    is not held out if (a, r, b) is stated too and b lies below c in the hierarchy, for then it follows. Every concept
    and relation is still seen in training.

    Args:
        table: columns head, relation, tail (others are kept as they are).
        dev: how many triples, or the share of all of them if below 1.
        test: likewise.
        seed: the same seed and table give the same split.
        inductive: hold out concepts instead: no triple of theirs is in training, half of them are `support`, from
            which vectors can be made for them (`kg.extend_embeddings`), the other half is held out. Triples between
            two held-out concepts are left in neither.

    Raises:
        MedgraftError: if the graph is too small to hold out that many.
    """
    concepts, head, tail = _two_columns(table["head"], table["tail"])
    names, relation = np.unique(table["relation"].to_numpy(zero_copy_only=False), return_inverse=True)
    rows = np.stack([head, relation, tail], axis=1)
    part, moved = hold_out(rows, len(concepts), names.tolist(), dev=dev, test=test, seed=seed, inductive=inductive)
    parts = {name: table.filter(pa.array(part == number)) for number, name in enumerate(PARTS)}
    return Split(**parts, moved=moved)


def hold_out(
    rows: Rows,
    concepts: int,
    relations: list[str],
    *,
    dev: int | float = 0,
    test: int | float = 0,
    seed: int = 0,
    inductive: bool = False,
) -> tuple[NDArray[np.int8], dict[str, int]]:
    """As `split_triples`, for integer rows (triples, 3): the part of each by its number in PARTS, and what moved."""
    wanted = {"test": _number(test, len(rows)), "dev": _number(dev, len(rows))}
    rng = np.random.default_rng(seed)
    if inductive:
        return _hold_out_concepts(rows, concepts, wanted, rng)
    hierarchy = np.flatnonzero(np.isin(relations, HIERARCHY))
    return _hold_out_triples(rows, concepts, hierarchy, wanted, rng)


def _hold_out_triples(
    rows: Rows, concepts: int, hierarchy: Rows, wanted: dict[str, int], rng: np.random.Generator
) -> tuple[NDArray[np.int8], dict[str, int]]:
    head, relation, tail = rows.T
    # pairs[i] is the unordered pair of concepts of triple i; `members` lists the triples of each pair one after another
    pairs = np.unique(np.minimum(head, tail) * concepts + np.maximum(head, tail), return_inverse=True)[1]
    members = np.argsort(pairs, kind="stable")
    starts = np.searchsorted(pairs[members], np.arange(len(members) + 1))
    degree = np.bincount(np.concatenate([head, tail]), minlength=concepts)
    uses = np.bincount(relation)
    implied = _Implied(rows, np.isin(relation, hierarchy), concepts)

    part = np.full(len(rows), _TRAIN, np.int8)
    seen = np.zeros(len(rows), dtype=bool)
    taken = dict.fromkeys(wanted, 0)
    moved = dict.fromkeys(("duplicates", "twins", "shortcuts", "coverage"), 0)
    order = iter(rng.permutation(len(rows)).tolist())
    for name, number in wanted.items():
        while taken[name] < number:
            row = next(order, None)
            if row is None:
                raise MedgraftError(
                    f"cannot hold out {number} of {len(rows)} triples for {name} and still see every concept and "
                    f"relation in training (found {taken[name]}); ask for fewer"
                )
            group = members[starts[pairs[row]] : starts[pairs[row] + 1]]
            if seen[row]:
                continue
            seen[group] = True
            if any(implied(other) for other in group.tolist()):
                moved["shortcuts"] += len(group)
                continue
            ends, end_uses = np.unique(np.concatenate([head[group], tail[group]]), return_counts=True)
            kinds, kind_uses = np.unique(relation[group], return_counts=True)
            if (degree[ends] <= end_uses).any() or (uses[kinds] <= kind_uses).any():
                moved["coverage"] += len(group)
                continue
            degree[ends] -= end_uses
            uses[kinds] -= kind_uses
            part[group] = PARTS.index(name)
            taken[name] += len(group)
            different = len(np.unique(rows[group], axis=0))
            moved["duplicates"] += len(group) - different
            moved["twins"] += different - 1
    return part, moved


class _Implied:
    """Does a triple (a, r, c) follow from a triple (a, r, b) and the hierarchy, b being below c?

    In a hierarchy that runs in circles, as some do, all of a circle follows from the rest of it.
    """

    def __init__(self, rows: Rows, is_hierarchy: NDArray[np.bool_], concepts: int) -> None:
        self._rows = rows
        self._width = int(rows[:, 1].max(initial=0)) + 1
        keys = rows[:, 0] * self._width + rows[:, 1]
        order = np.argsort(keys, kind="stable")
        self._keys, self._tails = keys[order], rows[order, 2]
        up = rows[is_hierarchy]
        up = up[np.argsort(up[:, 0], kind="stable")]
        self._parents, self._starts = up[:, 2], np.searchsorted(up[:, 0], np.arange(concepts + 1))
        self._above: dict[int, frozenset[int]] = {}

    def __call__(self, row: int) -> bool:
        head, relation, tail = self._rows[row].tolist()
        key = head * self._width + relation
        first, last = np.searchsorted(self._keys, [key, key + 1])
        return any(tail in self._ancestors(other) for other in self._tails[first:last].tolist() if other != tail)

    def _ancestors(self, concept: int) -> frozenset[int]:
        if concept not in self._above:
            found, frontier = set[int](), [concept]
            while frontier:
                last = frontier.pop()
                for parent in self._parents[self._starts[last] : self._starts[last + 1]].tolist():
                    if parent not in found:
                        found.add(parent)
                        frontier.append(parent)
            self._above[concept] = frozenset(found)
        return self._above[concept]


def _hold_out_concepts(
    rows: Rows, concepts: int, wanted: dict[str, int], rng: np.random.Generator
) -> tuple[NDArray[np.int8], dict[str, int]]:
    """Draw concepts; of each, half of its triples with other concepts of the training set are held out."""
    ends = rows[:, [0, 2]]
    by_concept = np.argsort(ends.ravel(), kind="stable") // 2
    starts = np.searchsorted(np.sort(ends.ravel()), np.arange(concepts + 1))
    part = np.full(len(rows), _TRAIN, np.int8)
    out = np.zeros(concepts, dtype=bool)
    taken = dict.fromkeys(wanted, 0)
    order = iter(rng.permutation(concepts).tolist())
    for name, number in wanted.items():
        while taken[name] < number:
            concept = next(order, None)
            if concept is None:
                raise MedgraftError(
                    f"cannot hold out {number} of {len(rows)} triples for {name} by their concepts (found "
                    f"{taken[name]}); ask for fewer"
                )
            mine = np.unique(by_concept[starts[concept] : starts[concept + 1]])
            free = mine[part[mine] == _TRAIN]
            if len(free) < 2:
                continue
            out[concept] = True
            rng.shuffle(free)
            half = len(free) // 2
            part[free[:half]], part[free[half:]] = PARTS.index(name), PARTS.index("support")
            taken[name] += half
    between = out[rows[:, 0]] & out[rows[:, 2]]
    part[between] = _NEITHER
    training = rows[part == _TRAIN]
    seen, used = out.copy(), np.zeros(int(rows[:, 1].max(initial=0)) + 1, dtype=bool)
    seen[training[:, [0, 2]]] = used[training[:, 1]] = True
    unseen = (part != _NEITHER) & ~(seen[rows[:, 0]] & seen[rows[:, 2]] & used[rows[:, 1]])
    part[unseen] = _NEITHER
    return part, {"between held-out concepts": int(between.sum()), "coverage": int(unseen.sum())}


def _two_columns(*columns: pa.ChunkedArray) -> tuple[list[str], Rows, Rows]:
    values = pc.unique(pa.chunked_array([chunk for column in columns for chunk in column.chunks], type=pa.string()))
    first, second = (pc.index_in(column, values).to_numpy().astype(np.int64) for column in columns)
    return values.to_pylist(), first, second


def _number(wanted: int | float, total: int) -> int:
    if wanted < 0:
        raise MedgraftError(f"cannot hold out {wanted} triples; give a number, or a share below 1")
    return round(wanted * total) if wanted < 1 else int(wanted)
