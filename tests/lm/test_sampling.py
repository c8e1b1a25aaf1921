"""Which task is read how often, whatever the sizes; and that every example of a pass comes once."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lm.sampling import by_turns
from loaders.errors import MedgraftError


def lengths(sizes: list[int]) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.integers(1, 50, size) for size in sizes]


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 90), min_size=2, max_size=4),
    batch_size=st.integers(1, 9),
    accumulation=st.integers(1, 3),
    temperature=st.sampled_from([0.5, 1.0, 3.0, 1000.0, math.inf]),
)
def test_steps_are_of_one_task_each_and_as_many_as_a_pass_has(
    sizes: list[int], batch_size: int, accumulation: int, temperature: float
) -> None:
    steps = by_turns(
        lengths(sizes), [batch_size] * len(sizes), temperature=temperature, accumulation=accumulation, seed=3
    )
    borders = np.cumsum(sizes)
    passes = [math.ceil(math.ceil(size / batch_size) / accumulation) for size in sizes]
    for epoch in range(2):
        found = steps(epoch)
        tasks = [{int(np.searchsorted(borders, n, side="right")) for batch in step for n in batch} for step in found]
        assert all(len(task) == 1 for task in tasks) and found == steps(epoch)
        assert all(len(step) <= accumulation and all(1 <= len(b) <= batch_size for b in step) for step in found)
        counts = Counter(task for some in tasks for task in some)
        assert set(counts) == set(range(len(sizes)))
        if temperature == 1.0:
            assert sorted(n for step in found for batch in step for n in batch) == list(range(sum(sizes)))
        if temperature == math.inf and max(passes) < sum(passes) / len(sizes) + 1:
            assert max(counts.values()) - min(counts.values()) <= 1
        assert len(found) >= sum(passes) and len(found) - sum(passes) < len(sizes)


def test_a_higher_temperature_reads_small_tasks_more_often() -> None:
    shares = []
    for temperature in (1.0, 2.0, math.inf):
        found = by_turns(lengths([90, 10]), [1, 1], temperature=temperature)(0)
        shares.append(sum(step[0][0] >= 90 for step in found))
    assert shares == [10, 25, 50]
    small = [step[0][0] for step in found if step[0][0] >= 90]
    assert all(count == 5 for count in Counter(small).values())  # passes of the small task are whole


def test_epochs_and_seeds_differ() -> None:
    given = (lengths([20, 20]), [4, 4])
    assert by_turns(*given)(0) != by_turns(*given)(1) != by_turns(*given, seed=1)(1)
    with pytest.raises(MedgraftError, match="above 0, not 0"):
        by_turns(*given, temperature=0)
