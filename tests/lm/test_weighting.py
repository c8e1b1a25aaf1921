"""Loss weights: what the papers say that they come to."""

import math

import pytest
import torch
from torch import nn

from lm.weighting import GradientWeights, UncertaintyWeights, loss_weights
from loaders.errors import MedgraftError


def test_learnt_uncertainty_comes_to_half_the_inverse_loss() -> None:
    weights = UncertaintyWeights(2)
    optimizer = torch.optim.Adam(weights.parameters(), lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        (weights(0, torch.tensor(4.0)) + weights(1, torch.tensor(0.1))).backward()
        optimizer.step()
    found = weights.current()
    assert found == pytest.approx([1 / 8, 5.0], rel=0.01)


def test_a_step_of_one_task_leaves_the_weights_of_the_others() -> None:
    weights = UncertaintyWeights(2)
    weights(1, torch.tensor(4.0)).backward()
    first, second = weights.logarithms
    assert first.grad is None and float(second.grad) == pytest.approx(0.5 - 4.0)


def test_gradients_become_equally_long_at_the_shared_layer() -> None:
    shared = nn.Parameter(torch.ones(3))
    weights = GradientWeights(3, [shared])
    scales = [1.0, 10.0, 0.1]
    for _ in range(5):
        for task, scale in enumerate(scales):
            weights(task, scale * shared.sum())
    found = weights.current()
    lengths = [weight * scale * math.sqrt(3) for weight, scale in zip(found, scales, strict=True)]
    assert lengths == pytest.approx([lengths[0]] * 3, rel=1e-4) and sum(found) == pytest.approx(3)
    # A task that has lost less of its first loss than the others counts more.
    for _ in range(50):
        weights(0, 0.1 * shared.sum() + (shared - shared.detach()).sum() * 0.9)
    assert weights.current()[1] / weights.current()[0] > 1.5 * found[1] / found[0]
    assert set(weights.state_dict()) == {"norms", "first", "recent"}  # so that a resumed run goes on with them


def test_weights_that_cannot_be_are_refused() -> None:
    with pytest.raises(MedgraftError, match="choose equal, uncertainty, gradient"):
        loss_weights("best", 2, [])
    with pytest.raises(MedgraftError, match="a layer that they share and that is trained"):
        loss_weights("gradient", 2, [nn.Parameter(torch.ones(1), requires_grad=False)])
