"""Temperatures and the error that is left, against slow judges and known truths."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lm.calibration import (
    HIGHEST,
    LOWEST,
    binary_loss,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    tempered,
)


@pytest.mark.parametrize("truth", [0.6, 1.0, 4.0])
def test_the_temperature_that_made_the_labels_is_found(truth: float) -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(20_000, 3)) * 3
    powers = np.exp(logits / truth)
    cumulated = (powers / powers.sum(axis=1, keepdims=True)).cumsum(axis=1)
    labels = (generator.random((20_000, 1)) > cumulated).sum(axis=1)
    assert fit_temperature(negative_log_likelihood(logits, labels)) == pytest.approx(truth, rel=0.05)


def test_the_temperature_stays_within_its_bounds() -> None:
    logits = np.array([[1.0, 0.0]] * 5)
    assert fit_temperature(negative_log_likelihood(logits, np.zeros(5, int))) == pytest.approx(LOWEST, rel=0.01)
    assert fit_temperature(negative_log_likelihood(logits, np.ones(5, int))) == pytest.approx(HIGHEST, rel=0.01)


@given(st.lists(st.tuples(st.floats(0.01, 0.99), st.booleans()), min_size=1, max_size=9), st.floats(0.5, 5))
def test_the_loss_of_yes_or_no_is_the_cross_entropy(cases: list[tuple[float, bool]], temperature: float) -> None:
    probabilities, labels = np.array([p for p, _ in cases]), np.array([y for _, y in cases])
    wanted = [-np.log(tempered(p, temperature) if y else 1 - tempered(p, temperature)) for p, y in cases]
    assert binary_loss(probabilities, labels)(temperature) == pytest.approx(np.mean(wanted), rel=1e-6)
    assert tempered(probabilities[0], 1.0) == pytest.approx(probabilities[0])


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=40), st.integers(1, 20))
def test_the_calibration_error_agrees_with_a_slow_judge(cases: list[tuple[float, bool]], bins: int) -> None:
    error = 0.0
    for n in range(bins):
        # The first bin also takes a confidence of zero.
        inside = [(p, r) for p, r in cases if n < p * bins <= n + 1 or (n == 0 and p == 0)]
        if inside:
            gap = abs(sum(p for p, _ in inside) / len(inside) - sum(r for _, r in inside) / len(inside))
            error += len(inside) / len(cases) * gap
    assert expected_calibration_error([p for p, _ in cases], [r for _, r in cases], bins) == pytest.approx(
        error, abs=1e-9
    )
