"""Scores from sums against scikit-learn and the plain definitions; intervals and p values against slow versions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, recall_score

from lm.calibration import expected_calibration_error
from lm.tallies import calibration_tally, class_tally, compare, mean_tally, perplexity_tally, set_tally
from loaders.errors import MedgraftError

LABELS = ("a", "b", "c")
PAIRS = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1, max_size=30)
KEYS = st.sets(st.tuples(st.integers(0, 3), st.sampled_from("XY")), max_size=4)


@given(PAIRS)
def test_classes_agree_with_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    wanted, found = zip(*pairs, strict=True)
    values = class_tally(wanted, found, LABELS).values()
    real = sorted(set(wanted))
    assert values["accuracy"] == pytest.approx(np.mean([w == f for w, f in pairs]))
    for name, score in (("macro_f1", f1_score), ("macro_recall", recall_score)):
        judge = score(wanted, found, labels=real, average="macro", zero_division=0.0)
        assert values[name] == pytest.approx(judge)


@given(st.lists(st.tuples(KEYS, KEYS), min_size=1, max_size=8))
def test_sets_agree_with_the_definition(pairs: list[tuple[set[tuple[int, str]], set[tuple[int, str]]]]) -> None:
    values = set_tally([w for w, _ in pairs], [f for _, f in pairs]).values()
    gold, predicted = sum(len(w) for w, _ in pairs), sum(len(f) for _, f in pairs)
    correct = sum(len(w & f) for w, f in pairs)
    assert values["precision"] == pytest.approx(correct / predicted if predicted else 0)
    assert values["recall"] == pytest.approx(correct / gold if gold else 0)
    assert values["f1"] == pytest.approx(2 * correct / (gold + predicted) if gold + predicted else 0)


def test_the_interval_is_that_of_resampling_one_by_one() -> None:
    generator = np.random.default_rng(0)
    right = generator.random(80) < 0.7
    low, high = mean_tally({"accuracy": right}).intervals(4000)["accuracy"]
    slow = [right[generator.integers(0, 80, 80)].mean() for _ in range(4000)]
    assert (low, high) == pytest.approx(tuple(np.quantile(slow, [0.025, 0.975])), abs=0.015)


def test_a_rare_label_is_measured_where_a_resample_has_it() -> None:
    """One text in forty has the label b: to count resamples without it as failures would give 0 as its lower end."""
    wanted = ["a"] * 39 + ["b"]
    keys = [{(n, label)} for n, label in enumerate(wanted)]
    for tally in (class_tally(wanted, wanted, LABELS), set_tally(keys, keys)):
        assert tally.intervals(500)["macro_f1"] == tally.intervals(500)["f1 of b"] == (1.0, 1.0)
        assert not np.isnan(list(tally.values().values())).any()
    none_found = set_tally(keys, [set() for _ in keys])
    same = compare(set_tally(keys, keys), none_found, draws=200)["f1 of b"]
    assert (same.low, same.high, same.difference) == (1.0, 1.0, 1.0)
    assert set_tally([set(), set()], [set(), {(0, "a")}]).intervals(100)["macro_f1"] == (0.0, 0.0)


def test_the_paired_test_knows_the_null_and_the_exact_p() -> None:
    ours, theirs = [1.0] * 8 + [0.0] * 4, [0.0] * 8 + [0.0] * 4
    found = compare(mean_tally({"x": ours}), mean_tally({"x": theirs}), draws=20_000)["x"]
    # Eight items differ, all in one direction: the sign test's two-sided p.
    assert found.p == pytest.approx(2 / 2**8, abs=0.002)
    assert found.difference == pytest.approx(8 / 12) and found.low > 0
    same = compare(mean_tally({"x": ours}), mean_tally({"x": ours}), draws=500)["x"]
    assert same.p == 1.0 and same.low == same.high == 0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_p_values_are_uniform_enough_under_the_null(seed: int) -> None:
    generator = np.random.default_rng(seed)
    a, b = generator.random((2, 40))
    assert 0 < compare(mean_tally({"x": a}), mean_tally({"x": b}), draws=200)["x"].p <= 1


def test_calibration_and_perplexity() -> None:
    judged = [[(0.9, True), (0.8, False)], [(0.3, False)], []]
    flat = [pair for some in judged for pair in some]
    judge = expected_calibration_error([s for s, _ in flat], [r for _, r in flat])
    assert calibration_tally(judged).values()["calibration_error"] == pytest.approx(judge)
    assert perplexity_tally([2.0, 4.0], [1, 2]).values()["perplexity"] == pytest.approx(np.exp(2))


def test_other_items_are_refused() -> None:
    with pytest.raises(MedgraftError, match="same items"):
        compare(mean_tally({"x": [1.0]}), mean_tally({"x": [1.0, 0.0]}))
