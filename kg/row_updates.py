"""Adagrad that touches only the rows of a batch.

A step of torch's own optimizers costs as much as the table has rows, and its Adagrad for sparse gradients spends most
of its time on making and merging sparse tensors. Here the rows of a batch are fetched once, the gradients of rows that
occur more than once are added up, and the update is written back to these rows alone. The result is that of
`torch.optim.Adagrad`; a test compares them.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch


class FetchedRows:
    """The vectors of a batch, fetched from a table in one go; `gradient()` puts the sum for each row into its `grad`.

    Args:
        weight: the table, shape (rows, width).
        ids: rows of the table, in any shape; `vectors` gives the vectors of each in that shape and (width,).
    """

    def __init__(self, weight: torch.nn.Parameter, *ids: torch.Tensor) -> None:
        self.weight = weight
        self._flat = torch.cat([rows.reshape(-1) for rows in ids])
        self._leaf = weight.detach().index_select(0, self._flat).requires_grad_()
        parts = self._leaf.split([rows.numel() for rows in ids])
        self.vectors = [part.view(*rows.shape, -1) for part, rows in zip(parts, ids, strict=True)]

    def gradient(self) -> None:
        """Set `weight.grad` to the row-sparse gradient, each row once."""
        of_each = self._leaf.grad
        if of_each is None:
            return
        rows, place = torch.unique(self._flat, return_inverse=True)
        summed = of_each.new_zeros(len(rows), of_each.shape[1])
        summed.scatter_add_(0, place[:, None].expand_as(of_each), of_each)
        if self.weight.device.type == "mps":  # no sparse tensors there
            self.weight.grad = torch.zeros_like(self.weight).index_copy_(0, rows, summed)
            return
        self.weight.grad = torch.sparse_coo_tensor(
            rows[None], summed, self.weight.shape, is_coalesced=True, check_invariants=False
        )


class RowAdagrad(torch.optim.Optimizer):
    """Adagrad (Duchi et al., 2011) for gradients that are dense, or row-sparse with each row once.

    Args:
        params: tables of vectors.
        lr: learning rate.
        eps: added to the root of the summed squares.
    """

    def __init__(self, params: Iterable[torch.nn.Parameter], lr: float = 0.01, eps: float = 1e-10) -> None:
        super().__init__(params, {"lr": lr, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Update the rows that have a gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if "sum" not in state:
                    state["sum"] = torch.zeros_like(weight)
                sparse = weight.grad.is_sparse
                rows = weight.grad._indices()[0] if sparse else torch.arange(len(weight), device=weight.device)
                gradient = weight.grad._values() if sparse else weight.grad
                places = rows[:, None].expand_as(gradient)
                state["sum"].scatter_add_(0, places, gradient * gradient)
                root = state["sum"].index_select(0, rows).sqrt_().add_(group["eps"])
                weight.scatter_add_(0, places, gradient.div(root).mul_(-group["lr"]))
        return None
