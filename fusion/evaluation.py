"""How good a model is, how sure that is, and whether one model is better than another."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fusion.model import FusedModel, Item
from lm.evaluation import check_same
from lm.tallies import Difference, Tally, calibration_tally, compare
from loaders.errors import MedgraftError


@dataclass(frozen=True)
class Measured:
    """Each measure with its 95 % bootstrap interval over `items`, which are documents or questions (`unit`)."""

    unit: str
    items: int
    values: dict[str, float]
    intervals: dict[str, tuple[float, float]]

    def as_dict(self) -> dict[str, Any]:
        return {self.unit: self.items, **self.values, "intervals": {n: list(i) for n, i in self.intervals.items()}}

    def __str__(self) -> str:
        width = max(map(len, self.values))
        lines = [f"{'':{width}}   value  95 % interval"]
        for name, value in self.values.items():
            low, high = self.intervals[name]
            lines.append(f"{name:{width}}  {value:.4f}  {low:.4f} to {high:.4f}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Compared:
    """Two models on the same `items`, measure by measure."""

    unit: str
    items: int
    differences: dict[str, Difference]

    def as_dict(self) -> dict[str, Any]:
        return {self.unit: self.items, **{name: vars_of(d) for name, d in self.differences.items()}}

    def __str__(self) -> str:
        width = max(map(len, self.differences))
        lines = [f"{'':{width}}    this   other  difference  95 % interval       p"]
        for name, d in self.differences.items():
            interval = f"{d.low:+.4f} to {d.high:+.4f}"
            lines.append(f"{name:{width}}  {d.ours:.4f}  {d.theirs:.4f}     {d.difference:+.4f}  {interval}  {d.p:.4f}")
        return "\n".join(lines)


def vars_of(difference: Difference) -> dict[str, float]:
    """A difference as plain numbers."""
    return {name: getattr(difference, name) for name in ("ours", "theirs", "difference", "low", "high", "p")}


def measure(
    model: FusedModel[Item], gold: Sequence[Item], *, with_graph: bool = True, draws: int = 2000, seed: int = 0
) -> Measured:
    """Score a model on gold documents or questions: precision, recall, F1, accuracy, ... and calibration error.

    Args:
        model: any trained model.
        gold: what it was neither trained nor calibrated on.
        with_graph: False turns the knowledge off.
        draws: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        MedgraftError: nothing to score, an id that occurs twice, a label that training never showed.
    """
    tallies = _tallies(model, gold, with_graph)
    values: dict[str, float] = {}
    intervals: dict[str, tuple[float, float]] = {}
    for tally in tallies:
        values |= tally.values()
        intervals |= tally.intervals(draws, seed)
    return Measured(_unit(model), len(gold), values, intervals)


def compare_models(
    model: FusedModel[Item],
    other: FusedModel[Item],
    gold: Sequence[Item],
    *,
    with_graph: bool = True,
    draws: int = 10_000,
    seed: int = 0,
) -> Compared:
    """Every measure of two models of one task on the same gold items, with a paired test (`lm.tallies.compare`).

    Raises:
        MedgraftError: models of two tasks or with other types; and as `measure`.
    """
    ours, theirs = model.settings, other.settings
    if (ours.task, sorted(ours.types), ours.kind) != (theirs.task, sorted(theirs.types), theirs.kind):
        raise MedgraftError(
            f"the models are for {ours.task} with {', '.join(ours.types) or 'no types'} and for {theirs.task} with "
            f"{', '.join(theirs.types) or 'no types'}; compare models of one task"
        )
    differences: dict[str, Difference] = {}
    predicted = [list(one.pipe(gold, with_graph=with_graph)) for one in (model, other)]
    check_same(gold, predicted[0])
    for one, two in zip(*_paired(model, other, gold, predicted), strict=True):
        differences |= compare(one, two, draws=draws, seed=seed)
    return Compared(_unit(model), len(gold), differences)


def _unit(model: FusedModel[Item]) -> str:
    return "questions" if model.settings.task == "qa" else "documents"


def _tallies(model: FusedModel[Item], gold: Sequence[Item], with_graph: bool) -> list[Tally]:
    if not gold:
        raise MedgraftError("there is nothing to score: no documents or questions; check the file")
    found = list(model.pipe(gold, with_graph=with_graph))
    check_same(gold, found)
    return [model.tally(gold, found), _calibration(model, gold, found)]


def _paired(
    model: FusedModel[Item], other: FusedModel[Item], gold: Sequence[Item], predicted: Sequence[Sequence[Item]]
) -> tuple[list[Tally], list[Tally]]:
    """Tallies whose columns mean the same for both models: types that only one of them predicts count for both."""
    sides = []
    for one, found, others in ((model, predicted[0], predicted[1]), (other, predicted[1], predicted[0])):
        both = one.tally([*gold, *gold], [*found, *others])
        shared = Tally(both.counts[: len(gold)], both.measures)
        sides.append([shared, _calibration(one, gold, found)])
    return sides[0], sides[1]


def _calibration(model: FusedModel[Item], gold: Sequence[Item], found: Sequence[Item]) -> Tally:
    return calibration_tally([model.judged([g], [f]) for g, f in zip(gold, found, strict=True)])
