"""Multi-gate mixture of experts (Ma et al., KDD 2018): small layers that tasks share, mixed by a gate of each task.

    h' = h + sum_e softmax_e(G_task h) U_e gelu(D_e h)

with D_e of size * d and U_e of d * size weights, for every piece by itself. Unlike there the experts are low-rank and
stand beside a path around them, and U starts at zero: at first they change nothing.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from lm.training import isolated_seed
from loaders.errors import MedgraftError


class Experts(nn.Module):
    """E expert layers over hidden states of d numbers."""

    def __init__(self, count: int, hidden_size: int, size: int = 64, seed: int = 0) -> None:
        """`size` is the width of an expert.

        Raises:
            MedgraftError: fewer than two.
        """
        super().__init__()
        if count < 2:
            raise MedgraftError(f"a mixture is of two or more experts, not of {count}")
        with isolated_seed(seed):
            self.down = nn.Parameter(torch.randn(count, hidden_size, size) * hidden_size**-0.5)
        self.up = nn.Parameter(torch.zeros(count, size, hidden_size))

    def forward(self, hidden: Tensor, weights: Tensor) -> Tensor:
        """What hidden states (B, T, d) become under the weights (B, T, E) of the experts: (B, T, d)."""
        inner = functional.gelu(torch.einsum("btd,eds->btes", hidden, self.down))
        return hidden + torch.einsum("btes,esd->btd", inner * weights.unsqueeze(-1), self.up)


class GatedEncoder(nn.Module):
    """An encoder (any module that maps a batch to hidden states (B, T, d)) under experts, and a task's gate."""

    def __init__(self, encoder: nn.Module, experts: Experts) -> None:
        super().__init__()
        self.encoder, self.experts = encoder, experts
        count, hidden_size = experts.down.shape[:2]
        with isolated_seed(0):  # nothing of it stays, but the draws of other models must not move
            self.gate = nn.Linear(hidden_size, count, bias=False)
        nn.init.zeros_(self.gate.weight)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Hidden states (B, T, d) as the task's experts change them."""
        return self.mixed(self.encoder(batch))

    def mixed(self, hidden: Tensor) -> Tensor:
        """The same from the encoder's hidden states (B, T, d)."""
        return self.experts(hidden, self.gate(hidden).softmax(dim=-1))
