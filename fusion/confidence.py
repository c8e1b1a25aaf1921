"""How far a model's confidence can be believed, before and after its temperature."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fusion.model import FusedModel, Item
from lm.calibration import expected_calibration_error


@dataclass(frozen=True)
class Reliability:
    """Expected calibration error of the predictions' scores at temperature 1 and at the model's.

    `predictions` counts what was judged: mentions, relations or answers. `curve` has, for each tenth of the score at
    the model's temperature, the mean score, the share that is right, and how many there are.
    """

    predictions: int
    temperature: float
    before: float
    after: float
    curve: tuple[tuple[float, float, int], ...]


def reliability(model: FusedModel[Item], gold: Sequence[Item], *, bins: int = 15) -> Reliability:
    """On items that were used neither for training nor for the temperature."""
    judged: dict[float, list[tuple[float, bool]]] = {}
    for temperature in (1.0, model.settings.temperature):
        at = replace(model, settings=model.at_temperature(temperature))
        judged[temperature] = at.judged(gold, list(at.pipe(gold)))
    before, after = judged[1.0], judged[model.settings.temperature]
    errors = [expected_calibration_error([s for s, _ in some], [r for _, r in some], bins) for some in (before, after)]
    return Reliability(len(after), model.settings.temperature, errors[0], errors[1], _curve(after))


def _curve(judged: Sequence[tuple[float, bool]]) -> tuple[tuple[float, float, int], ...]:
    scores, right = np.array([s for s, _ in judged]), np.array([r for _, r in judged], dtype=float)
    tenth = np.clip((scores * 10).astype(int), 0, 9)
    rows: list[Any] = [(scores[tenth == n], right[tenth == n]) for n in range(10)]
    return tuple((float(s.mean()), float(r.mean()), len(s)) for s, r in rows if len(s))
