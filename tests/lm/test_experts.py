"""Experts over an encoder: nothing at first, then a mixture that each gate decides."""

import pytest
import torch
from torch import Tensor, nn

from lm.experts import Experts, GatedEncoder
from loaders.errors import MedgraftError


class States(nn.Module):
    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return batch["states"]


def test_they_begin_as_nothing_and_are_mixed_by_the_gate() -> None:
    experts = Experts(3, 8, size=4, seed=1)
    first, second = (GatedEncoder(States(), experts) for _ in range(2))
    batch = {"states": torch.randn(2, 5, 8)}
    assert torch.equal(first(batch), batch["states"])
    with torch.no_grad():
        experts.up.normal_()
        second.gate.weight[1] += 1e3 * batch["states"][0, 0]
    weights = first.gate(batch["states"]).softmax(dim=-1)
    torch.testing.assert_close(weights, torch.full((2, 5, 3), 1 / 3))
    each = [torch.nn.functional.gelu(batch["states"] @ d) @ u for d, u in zip(experts.down, experts.up, strict=True)]
    torch.testing.assert_close(first(batch), batch["states"] + sum(each) / 3)
    torch.testing.assert_close(second(batch)[0, 0], (batch["states"] + each[1])[0, 0])  # one expert alone


def test_making_them_draws_nothing_from_the_global_state() -> None:
    before = torch.random.get_rng_state()
    GatedEncoder(States(), Experts(2, 8))
    assert torch.equal(before, torch.random.get_rng_state())
    with pytest.raises(MedgraftError, match="two or more experts, not of 1"):
        Experts(1, 8)
