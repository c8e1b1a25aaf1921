"""Scores as functions of sums over items, so that each has a bootstrap interval and two models a paired test.

An item is a document or a question. Whatever a score is made of (gold, predicted and correct mentions of each type,
the cells of a confusion matrix, confidence in bins) is counted for each item; a resample is a weighted sum.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lm.encoder import Array
from loaders.errors import MedgraftError

_CHUNK = 250  # draws at once
_CELLS = 20_000_000  # of resampled sums held at once

Key = tuple[Any, ...]


@dataclass(frozen=True)
class Difference:
    """Of a measure, ours minus theirs, with its 95 % interval and the p of there being none."""

    ours: float
    theirs: float
    difference: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class Tally:
    """`counts` (N, K) of N items; `measures` maps sums (..., K) to arrays (...) by name.

    A measure may be NaN for the sums of a resample that has nothing to measure: no gold answer of a type.
    """

    counts: Array
    measures: Callable[[Array], dict[str, Array]]

    def values(self) -> dict[str, float]:
        return {name: float(value) for name, value in self.measures(self.counts.sum(axis=0)).items()}

    def intervals(self, draws: int = 2000, seed: int = 0) -> dict[str, tuple[float, float]]:
        """95 % percentile intervals of a bootstrap over the items (Efron and Tibshirani, 1993).

        Over the resamples that have something to measure: a rare type or label is not in each of them.
        """
        drawn = _resampled([self], draws, seed)
        return {name: _interval(values[0]) for name, values in drawn.items()}


def compare(ours: Tally, theirs: Tally, *, draws: int = 10_000, seed: int = 0) -> dict[str, Difference]:
    """Every measure of two models on the same items.

    The p is two-sided, by approximate randomisation: the two models' counts of an item change sides with probability
    one half (Noreen, 1989). The interval comes from a bootstrap over the items, the same ones for both.

    Raises:
        MedgraftError: not the same number of items, or other measures.
    """
    if ours.counts.shape != theirs.counts.shape:
        raise MedgraftError("two models can only be compared on the same items with the same types or labels")
    left, right = ours.values(), theirs.values()
    drawn = _resampled([ours, theirs], max(draws // 5, 1), seed)
    ps = _randomisation(ours, theirs, draws, seed)
    result = {}
    for name in left:
        low, high = _interval(drawn[name][0] - drawn[name][1])
        result[name] = Difference(left[name], right[name], left[name] - right[name], low, high, ps[name])
    return result


def set_tally(wanted: Sequence[set[Key]], found: Sequence[set[Key]]) -> Tally:
    """Precision, recall, F1 (micro, macro and by type) of answers; the last part of an answer is its type.

    Macro F1 is the mean over the types that occur among the gold answers of all items, or of those of a resample.
    """
    types = sorted({key[-1] for keys in (*wanted, *found) for key in keys})
    gold_types = {key[-1] for keys in wanted for key in keys}
    index = {type: n for n, type in enumerate(types)}
    counts = np.zeros((len(wanted), max(len(types), 1), 3))
    for row, (w, f) in enumerate(zip(wanted, found, strict=True)):
        for column, keys in enumerate((w, f, w & f)):
            for key in keys:
                counts[row, index[key[-1]], column] += 1
    real = [index[type] for type in types if type in gold_types]

    def measures(sums: Array) -> dict[str, Array]:
        by_type = sums.reshape(*sums.shape[:-1], -1, 3)
        f1 = _of_types(_f1(by_type), by_type[..., 0], real)
        gold, predicted, correct = np.moveaxis(by_type.sum(axis=-2), -1, 0)
        result = {"precision": _ratio(correct, predicted), "recall": _ratio(correct, gold)}
        result |= {"f1": _f1(by_type.sum(axis=-2))}
        result |= {"macro_f1": _macro(f1[..., real])}
        return result | ({f"f1 of {type}": f1[..., n] for type, n in index.items()} if len(types) > 1 else {})

    return Tally(counts.reshape(len(wanted), -1), measures)


def class_tally(wanted: Sequence[str], found: Sequence[str], labels: Sequence[str]) -> Tally:
    """Accuracy, and macro recall and F1 over the labels that occur among the gold ones; F1 by label."""
    index = {label: n for n, label in enumerate(labels)}
    size = len(index)
    counts = np.zeros((len(wanted), size * size), dtype=np.float32)
    for row, (w, f) in enumerate(zip(wanted, found, strict=True)):
        counts[row, index[w] * size + index[f]] = 1
    real = [index[label] for label in labels if label in set(wanted)]

    def measures(sums: Array) -> dict[str, Array]:
        table = sums.reshape(*sums.shape[:-1], size, size)
        correct, gold, predicted = np.diagonal(table, axis1=-2, axis2=-1), table.sum(axis=-1), table.sum(axis=-2)
        f1 = _of_types(_ratio(2 * correct, gold + predicted), gold, real)
        recall = _of_types(_ratio(correct, gold), gold, real)
        result = {"accuracy": _ratio(correct.sum(axis=-1), gold.sum(axis=-1))}
        result |= {"macro_f1": _macro(f1[..., real]), "macro_recall": _macro(recall[..., real])}
        return result | {f"f1 of {labels[n]}": f1[..., n] for n in real}

    return Tally(counts, measures)


def mean_tally(values: dict[str, Sequence[float]]) -> Tally:
    """Measures that are means over the items, such as accuracy, exact match and token F1."""
    names = list(values)
    columns = [np.asarray(values[name], dtype=float) for name in names]
    counts = np.stack([*columns, np.ones(len(columns[0]))], axis=1)

    def measures(sums: Array) -> dict[str, Array]:
        return {name: _ratio(sums[..., n], sums[..., -1]) for n, name in enumerate(names)}

    return Tally(counts, measures)


def perplexity_tally(losses: Sequence[float] | Array, pieces: Sequence[int] | Array) -> Tally:
    """Perplexity from each text's summed loss and number of predicted pieces."""
    counts = np.stack([np.asarray(losses, dtype=float), np.asarray(pieces, dtype=float)], axis=1)
    return Tally(counts, lambda sums: {"perplexity": np.exp(_ratio(sums[..., 0], sums[..., 1]))})


def calibration_tally(judged: Sequence[Sequence[tuple[float, bool]]], bins: int = 15) -> Tally:
    """Expected calibration error (Guo et al., 2017) from each item's predictions: how sure, and whether right."""
    counts = np.zeros((len(judged), bins, 2))
    for row, some in enumerate(judged):
        for sure, right in some:
            n = min(max(int(np.ceil(sure * bins)) - 1, 0), bins - 1)
            counts[row, n] += (right - sure, 1)

    def measures(sums: Array) -> dict[str, Array]:
        table = sums.reshape(*sums.shape[:-1], bins, 2)
        return {"calibration_error": _ratio(abs(table[..., 0]).sum(axis=-1), table[..., 1].sum(axis=-1))}

    return Tally(counts.reshape(len(judged), -1), measures)


def _resampled(tallies: Sequence[Tally], draws: int, seed: int) -> dict[str, Array]:
    """Each measure (M, draws) of M tallies over the same items, drawn with replacement."""
    generator = np.random.default_rng(seed)
    items = len(tallies[0].counts)
    parts: dict[str, list[list[Array]]] = {}
    for count in _chunks(draws, tallies[0]):
        weights = generator.multinomial(items, np.full(items, 1 / max(items, 1)), count).astype(float)
        for number, tally in enumerate(tallies):
            for name, values in tally.measures(weights @ tally.counts).items():
                parts.setdefault(name, [[] for _ in tallies])[number].append(values)
    return {name: np.stack([np.concatenate(some) for some in every]) for name, every in parts.items()}


def _randomisation(ours: Tally, theirs: Tally, draws: int, seed: int) -> dict[str, float]:
    generator = np.random.default_rng(seed)
    left, right = ours.values(), theirs.values()
    gap = (ours.counts - theirs.counts).astype(float)
    total, base = ours.counts.sum(axis=0), theirs.counts.sum(axis=0)
    extreme = dict.fromkeys(left, 0)
    for count in _chunks(draws, ours):
        moved = generator.integers(0, 2, (count, len(gap))).astype(float) @ gap
        one, other = ours.measures(total - moved), theirs.measures(base + moved)
        for name in extreme:
            extreme[name] += int((abs(one[name] - other[name]) >= abs(left[name] - right[name]) - 1e-12).sum())
    return {name: (count + 1) / (draws + 1) for name, count in extreme.items()}


def _chunks(draws: int, tally: Tally) -> list[int]:
    size = max(min(_CHUNK, _CELLS // max(tally.counts.shape[1], 1)), 1)
    return [min(size, draws - start) for start in range(0, draws, size)]


def _interval(values: Array) -> tuple[float, float]:
    low, high = np.nanquantile(values, [0.025, 0.975])
    return float(low), float(high)


def _of_types(values: Array, gold: Array, real: list[int]) -> Array:
    """Scores of types (..., T), NaN where sums lack the gold answers of a type that has some in all."""
    values = values.copy()
    values[..., real] = np.where(gold[..., real] > 0, values[..., real], np.nan)
    return values


def _macro(values: Array) -> Array:
    """The mean (...) over the types (..., T) that are there; 0 where none is."""
    return _ratio(np.nansum(values, axis=-1), (~np.isnan(values)).sum(axis=-1))


def _f1(counts: Array) -> Array:
    gold, predicted, correct = np.moveaxis(counts, -1, 0)
    return _ratio(2 * correct, gold + predicted)


def _ratio(above: Array, below: Array) -> Array:
    """0 where there is nothing below."""
    ratio: Array = np.where(below > 0, above / np.where(below > 0, below, 1), 0.0)
    return ratio
