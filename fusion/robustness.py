"""Training that keeps a fused model good with its graph removed: each batch is read once more without any knowledge."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from fusion.attention import Knowledge
from fusion.facts import PREFIX as FACTS
from fusion.recall import Recalled


def without_knowledge(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The batch as a model without a graph would see it."""
    return {
        name: t
        for name, t in batch.items()
        if not name.startswith((Knowledge.PREFIX, FACTS, Recalled.PREFIX, "questions.places"))
    }


@contextmanager
def loss_without_graph(network: nn.Module, share: float) -> Iterator[None]:
    """Inside, the training loss of `network` is (1 - share) of the one it has and `share` of that without knowledge.

    A convex mixture, so that a text in which nothing is linked weighs as much as any other.
    """
    if not share:
        yield
        return

    def mixed(_network: nn.Module, inputs: tuple[dict[str, Tensor]], output: Any) -> Any:
        bare = without_knowledge(inputs[0])
        if output.loss is None or not network.training or len(bare) == len(inputs[0]):
            return output
        # `forward`, not a call: this hook must not see the second reading.
        return replace(output, loss=(1 - share) * output.loss + share * network.forward(bare).loss)

    hook = network.register_forward_hook(mixed)
    try:
        yield
    finally:
        hook.remove()
