"""Blocks that learn one after the other, and rates that fall with depth: seen in the weights that move."""

import pytest
import torch
from torch import Tensor, nn

from lm.encoder import Encoder
from lm.training import fit
from lm.unfreezing import gradual_unfreezing, layer_rates
from loaders.errors import MedgraftError


class Network(nn.Module):
    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.output = nn.Linear(encoder.hidden_size, 1)

    def forward(self, batch: dict[str, Tensor]) -> "Network":
        self.loss = self.output(self.encoder(batch)).square().mean()
        return self


def collate(group: list[list[int]]) -> dict[str, Tensor]:
    ids = torch.tensor(group)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


EXAMPLES = [[2, 10 + n, 20 + n, 3] for n in range(8)]


def test_the_top_block_learns_first_then_the_one_below_then_all(encoder: Encoder) -> None:
    network = Network(encoder)
    seen: list[list[bool]] = []
    parts = [encoder.model.get_input_embeddings().weight, *(next(b.parameters()) for b in encoder.blocks)]
    before = [p.detach().clone() for p in parts]

    def moved() -> dict[str, float]:
        seen.append([not torch.equal(p, b) for p, b in zip(parts, before, strict=True)])
        return {"f1": float(len(seen))}

    fit(
        network, EXAMPLES, collate, epochs=4, batch_size=4, learning_rates={"": 1e-3}, device="cpu", progress=False,
        evaluate=moved, before_epoch=gradual_unfreezing(encoder, 2),
    )  # fmt: skip
    assert encoder.num_blocks == 2
    assert seen[:2] == [[False, False, True]] * 2 and seen[2:] == [[True, True, True]] * 2


def test_rates_fall_from_block_to_block(encoder: Encoder) -> None:
    network = Network(encoder)
    rates = layer_rates(network, encoder, 1.0, 0.5)
    by_end = {name.rsplit(".", 1)[-1]: rate for name, rate in rates.items()}
    assert by_end == {"": 0.25, "0": 0.5, "1": 1.0}
    fit(network, EXAMPLES, collate, epochs=1, learning_rates=rates, device="cpu", progress=False)


def test_impossible_wishes_are_refused(encoder: Encoder) -> None:
    with pytest.raises(MedgraftError, match="every epoch or more rarely"):
        gradual_unfreezing(encoder, 0)
    with pytest.raises(MedgraftError, match="at most 1"):
        layer_rates(Network(encoder), encoder, 1.0, 2.0)
