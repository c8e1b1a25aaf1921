"""How much the loss of each task counts when several are learnt together."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from loaders.errors import MedgraftError

WEIGHTS = ("equal", "uncertainty", "gradient")

_KEPT = 0.9  # of a running mean, at each step of its task
_FORCE = 0.5  # alpha of GradNorm: how much a task that lags behind is favoured


class EqualWeights(nn.Module):
    """Every loss as it is."""

    def forward(self, task: int, loss: Tensor) -> Tensor:
        return loss

    def current(self) -> list[float] | None:
        """The weight of each task; None if they are not weighed."""
        return None


class UncertaintyWeights(nn.Module):
    """exp(-s) L + s / 2 with a learnt s for each task, the logarithm of its variance (Kendall et al., CVPR 2018).

    At the best s a loss counts 1 / (2 L), so tasks count by how far they have come, whatever the scale of their loss.
    """

    def __init__(self, tasks: int) -> None:
        super().__init__()
        # One by one, so that the others stay as they are in a step that is of one task.
        self.logarithms = nn.ParameterList([nn.Parameter(torch.zeros(())) for _ in range(tasks)])

    def forward(self, task: int, loss: Tensor) -> Tensor:
        s = self.logarithms[task]
        return torch.exp(-s) * loss + s / 2

    def current(self) -> list[float] | None:
        return [float(torch.exp(-s.detach())) for s in self.logarithms]


class GradientWeights(nn.Module):
    """Weights under which the gradients of all tasks are equally long at the last layer that they share.

    The aim is GradNorm's (Chen et al., ICML 2018): w_t |grad L_t| = mean of all |grad L| * r_t ** alpha, with r_t how
    little of its first loss a task has lost in proportion to the others. There, each step is of all tasks and the
    weights follow by gradient descent; here a step is of one task, so that norms and losses are running means and the
    weights are set to what the aim says, and scaled to a mean of 1.
    """

    def __init__(self, tasks: int, shared: Sequence[nn.Parameter]) -> None:
        """`shared` are the weights of the last layer that all tasks share.

        Raises:
            MedgraftError: none of them is trained.
        """
        super().__init__()
        self._shared = [parameter for parameter in shared if parameter.requires_grad]
        if not self._shared:
            raise MedgraftError(
                "loss weights by gradient compare the tasks at a layer that they share and that is trained, and there "
                "is none; choose other weights, share an encoder, or freeze fewer blocks"
            )
        self.norms: Tensor
        self.first: Tensor
        self.recent: Tensor
        # Buffers, because a resumed run goes on with them.
        for name in ("norms", "first", "recent"):
            self.register_buffer(name, torch.zeros(tasks))

    def forward(self, task: int, loss: Tensor) -> Tensor:
        found = torch.autograd.grad(loss, self._shared, retain_graph=True, allow_unused=True)
        squares = [gradient.float().square().sum() for gradient in found if gradient is not None]
        if squares:
            self._see(task, torch.stack(squares).sum().sqrt(), loss.detach().float())
        return loss * self._weights()[task]

    def current(self) -> list[float] | None:
        weights: list[float] = self._weights().tolist()
        return weights

    def _see(self, task: int, norm: Tensor, loss: Tensor) -> None:
        if not norm.isfinite():
            return
        if self.first[task] == 0:
            self.first[task] = self.recent[task] = loss
            self.norms[task] = norm
        else:
            self.norms[task] = _KEPT * self.norms[task] + (1 - _KEPT) * norm
            self.recent[task] = _KEPT * self.recent[task] + (1 - _KEPT) * loss

    def _weights(self) -> Tensor:
        seen = self.norms > 0
        weights = torch.ones_like(self.norms)
        if not seen.any():
            return weights
        left = self.recent[seen] / self.first[seen]
        lag = (left / left.mean()) ** _FORCE
        aimed = lag / self.norms[seen]
        weights[seen] = aimed / aimed.mean()
        return weights


def loss_weights(kind: str, tasks: int, shared: Sequence[nn.Parameter]) -> nn.Module:
    """Weights of that kind, see `WEIGHTS`; `shared` are those of the last layer that all tasks share, if there is one.

    Raises:
        MedgraftError: an unknown kind, or by gradient without a layer that is shared and trained.
    """
    if kind == "equal":
        return EqualWeights()
    if kind == "uncertainty":
        return UncertaintyWeights(tasks)
    if kind == "gradient":
        return GradientWeights(tasks, shared)
    raise MedgraftError(f"unknown loss weights {kind!r}; choose {', '.join(WEIGHTS)}")
