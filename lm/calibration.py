"""Confidence that means what it says: one temperature, fitted on held-out predictions, and the error that is left.

Dividing all logits by a temperature changes no decision, only how sure it sounds (Guo et al., ICML 2017).
"""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import minimize_scalar

from lm.encoder import Array

# Not lower: on few predictions that are all right the best temperature is zero.
LOWEST, HIGHEST = 0.5, 20.0


def fit_temperature(loss: Callable[[float], float]) -> float:
    """The temperature from `LOWEST` to `HIGHEST` at which a negative log likelihood is least."""
    bounds = tuple(np.log([LOWEST, HIGHEST]))
    found = minimize_scalar(lambda power: loss(float(np.exp(power))), bounds=bounds, options={"xatol": 1e-3})
    return float(np.exp(found.x))


def negative_log_likelihood(logits: Array, labels: Array) -> Callable[[float], float]:
    """The mean loss of `labels` (N,) under `logits` (N, L), as a function of the temperature."""
    rows = np.arange(len(labels))

    def loss(temperature: float) -> float:
        scaled = logits / temperature
        top = scaled.max(axis=1, keepdims=True)
        total = top[:, 0] + np.log(np.exp(scaled - top).sum(axis=1))
        return float((total - scaled[rows, labels]).mean())

    return loss


def binary_loss(probabilities: Array, labels: Array) -> Callable[[float], float]:
    """The same for independent yes-or-no decisions: probabilities (N,) at temperature 1 and truth values (N,)."""
    logits = _logits(probabilities)
    return negative_log_likelihood(np.stack([np.zeros_like(logits), logits], axis=1), labels.astype(np.int64))


def tempered(probability: float, temperature: float) -> float:
    """The probability of a yes-or-no decision at another temperature."""
    return float(1 / (1 + np.exp(-log_odds(probability) / temperature)))


def log_odds(probability: float) -> float:
    """Of a probability; that of 0 or 1 is kept finite."""
    return float(_logits(np.array([probability]))[0])


def _logits(probabilities: Array) -> Array:
    inside = np.clip(probabilities.astype(np.float64), 1e-12, 1 - 1e-12)
    logits: Array = np.log(inside) - np.log1p(-inside)
    return logits


def expected_calibration_error(confidences: Sequence[float], right: Sequence[bool], bins: int = 15) -> float:
    """How far confidence and accuracy are apart, on average over the predictions, in `bins` of equal width.

    Guo et al., equation 3; a confidence on a border belongs to the bin below it.
    """
    if not len(confidences):
        return 0.0
    sure, true = np.asarray(confidences, dtype=float), np.asarray(right, dtype=float)
    bin_of = np.clip(np.ceil(sure * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.abs(np.bincount(bin_of, true - sure, minlength=bins))
    return float(gaps.sum() / len(sure))
