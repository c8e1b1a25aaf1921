"""Adagrad that touches only the rows of a batch.

A step of torch's own optimizers costs as much as the table has rows, and its Adagrad for sparse gradients spends most
of its time on making and merging sparse tensors. Here the rows of a batch are fetched once, the gradients of rows that
occur more than once are added up, and the update is written back to these rows alone. The result is that of
`torch.optim.Adagrad`; a test compares them.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import normalize

_FEW = 64  # rows of a table whose gradient is a product of matrices


class FetchedRows:
    """The vectors of a batch, fetched from a table in one go; `gradient()` puts the sum for each row into its `grad`.

    Args:
        weight: the table, shape (rows, width).
        ids: rows of the table, in any shape; `vectors` gives the vectors of each in that shape and (width,).
        places: room for one number a row of the table, with anything in it, on the CPU.
    """

    def __init__(self, weight: torch.nn.Parameter, *ids: torch.Tensor, places: NDArray[np.int64]) -> None:
        self.weight = weight
        self._places = places
        self._ids = [rows.reshape(-1) for rows in ids]
        self._leaves = [weight.detach().index_select(0, rows).requires_grad_() for rows in self._ids]
        self.vectors = [leaf.view(*rows.shape, -1) for leaf, rows in zip(self._leaves, ids, strict=True)]

    def gradient(self) -> None:
        """Set `weight.grad` to the gradient: row-sparse, each row once, or dense where most rows will have one."""
        gradients = [leaf.grad for leaf in self._leaves]
        if all(gradient is None for gradient in gradients):
            return
        if len(self.weight) <= _FEW:
            self.weight.grad = torch.zeros_like(self.weight)
            for rows, gradient in zip(self._ids, gradients, strict=True):
                if gradient is not None:
                    one_hot = torch.zeros(len(self.weight), len(rows), device=rows.device, dtype=gradient.dtype)
                    self.weight.grad.addmm_(one_hot.scatter_(0, rows[None], 1), gradient)
            return
        rows, place = self._distinct(torch.cat(self._ids))
        summed = self.weight.new_zeros(len(rows), self.weight.shape[1])
        for part, gradient in zip(place.split([len(ids) for ids in self._ids]), gradients, strict=True):
            if gradient is not None:
                summed.scatter_add_(0, part[:, None].expand_as(gradient), gradient)
        if self.weight.device.type == "mps":  # no sparse tensors there
            self.weight.grad = torch.zeros_like(self.weight).index_copy_(0, rows, summed)
            return
        self.weight.grad = torch.sparse_coo_tensor(
            rows[None], summed, self.weight.shape, is_coalesced=True, check_invariants=False
        )

    def _distinct(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Each row once, and where each of `ids` is among them; on the CPU without sorting."""
        if ids.device.type != "cpu":
            return torch.unique(ids, return_inverse=True)
        given, numbers = ids.numpy(), np.arange(len(ids))
        self._places[given] = numbers  # of a row that occurs often one number stays
        kept = self._places[given]
        first = kept == numbers
        return torch.from_numpy(given[first]), torch.from_numpy((np.cumsum(first) - 1)[kept])


class RowAdagrad(torch.optim.Optimizer):
    """Adagrad (Duchi et al., 2011) for gradients that are dense, or row-sparse with each row once.

    Args:
        params: tables of vectors.
        lr: learning rate.
        eps: added to the root of the summed squares.
        unit_norm: scale the updated rows of the first table, the concepts', to length 1. Rows that a step leaves alone
            have kept that length, so this does what PyKEEN's sweep of the whole table does. Not a setting of a group
            of tables: PyKEEN makes the optimizer anew from the settings of the first group.
    """

    def __init__(
        self, params: Iterable[torch.nn.Parameter], lr: float = 0.01, eps: float = 1e-10, unit_norm: bool = False
    ) -> None:
        super().__init__(params, {"lr": lr, "eps": eps, "unit_norm": unit_norm})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Update the rows that have a gradient."""
        for group in self.param_groups:
            for number, weight in enumerate(group["params"]):
                if weight.grad is None:
                    continue
                unit_norm = group["unit_norm"] and number == 0
                state = self.state[weight]
                if "sum" not in state:
                    state["sum"] = torch.zeros_like(weight)
                sparse = weight.grad.is_sparse
                if not sparse:
                    state["sum"].addcmul_(weight.grad, weight.grad)
                    weight.addcdiv_(weight.grad, state["sum"].sqrt().add_(group["eps"]), value=-group["lr"])
                    if unit_norm:
                        weight.copy_(normalize(weight, dim=1))
                    continue
                rows, gradient = weight.grad._indices()[0], weight.grad._values()
                places = rows[:, None].expand_as(gradient)
                state["sum"].scatter_add_(0, places, gradient * gradient)
                root = state["sum"].index_select(0, rows).sqrt_().add_(group["eps"])
                weight.scatter_add_(
                    0, places, gradient.div_(root).mul_(-group["lr"])
                )  # the gradient is not needed again
                if unit_norm:
                    weight.index_copy_(0, rows, normalize(weight.index_select(0, rows), dim=1))
        return None
