"""What models of several tasks share while they are trained together, and the network in which they are.

hard            one encoder with one knowledge attention; each task has its output layer (Caruana, 1997)
private-fusion  one encoder, but each task has a knowledge attention of its own
experts         as hard, with small experts over the encoder that a gate of each task mixes (`lm.experts`)
soft            each task has an encoder of its own, and all are drawn to one another (Duong et al., ACL 2015)

Output layers, and what they read of facts between concepts, are always a task's own.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from fusion.knowledge import KnowledgeTable
from fusion.model import FusedModel, ModelSettings, TrainingData
from fusion.tasks import make_model
from kg import Linker
from lm.encoder import Encoder
from lm.experts import GatedEncoder
from loaders.errors import MedgraftError

SHARING = ("hard", "soft", "private-fusion", "experts")

_TASK = "task"


def make_sharing(
    sharing: str,
    encoder: Encoder,
    settings: Mapping[str, ModelSettings],
    tables: Mapping[str, KnowledgeTable | None],
    linker: Linker | None,
) -> dict[str, FusedModel[Any]]:
    """Untrained models by task; what they share is the same module in all of them."""
    models: dict[str, FusedModel[Any]] = {}
    for task, own in settings.items():
        copied = sharing == "soft" and models
        begun = encoder.shallower(encoder.num_blocks) if copied else encoder
        models[task] = make_model(begun, own, tables[task], None if tables[task] is None else linker)
    first, *others = (model.network for model in models.values())
    for network in others:
        if sharing == "hard":
            network.encoder = first.encoder
        elif sharing == "experts":
            mine, shared = network.encoder, first.encoder
            assert isinstance(mine, GatedEncoder) and isinstance(shared, GatedEncoder), "the settings ask for experts"
            mine.encoder, mine.experts = shared.encoder, shared.experts
    return models


@dataclass(slots=True)
class JointOutput:
    """`loss` is that of the batch's task, weighed; `count` how many things it is the mean of."""

    loss: Tensor
    count: Tensor | None


class JointNetwork(nn.Module):
    """The networks of several tasks; a batch runs the one of its task, which it names by number."""

    def __init__(self, networks: Mapping[str, nn.Module], weights: nn.Module, pull: float = 0.0) -> None:
        """`weights` maps a task's number and loss to the loss that counts, see `lm.weighting`.

        `pull` is how much the squared distance of a task's encoder from the mean of the others counts.
        """
        super().__init__()
        self.tasks = nn.ModuleDict(networks)
        self.weights = weights
        self.pull = pull

    def forward(self, batch: dict[str, Tensor]) -> JointOutput:
        number = int(batch[_TASK])
        network = list(self.tasks.values())[number]
        output = network({name: tensor for name, tensor in batch.items() if name != _TASK})
        loss = self.weights(number, output.loss)
        if self.pull:
            loss = loss + self.pull * self._distance(number)
        return JointOutput(loss, output.count)

    def _distance(self, number: int) -> Tensor:
        """The others stand still, so that a step changes the weights of one task only."""
        encoders = [dict(network.encoder.named_parameters()) for network in self.tasks.values()]  # type: ignore[union-attr]
        mine, others = encoders[number], encoders[:number] + encoders[number + 1 :]
        apart = []
        for name, parameter in mine.items():
            if parameter.requires_grad:
                mean = torch.stack([other[name].detach() for other in others]).mean(dim=0)
                apart.append((parameter - mean).square().sum())
        return torch.stack(apart).sum()


@dataclass(frozen=True, slots=True)
class TaskExample:
    """An example of the task of this number; as long as it is."""

    task: int
    example: Any

    def __len__(self) -> int:
        return len(self.example)


def joint_data(data: Sequence[TrainingData]) -> tuple[list[TaskExample], Callable[[Sequence[Any]], dict[str, Tensor]]]:
    """The examples of all tasks, one task after the other, and what makes batches of some of one task."""
    examples = [TaskExample(number, example) for number, some in enumerate(data) for example in some.examples]

    def collate(group: Sequence[TaskExample]) -> dict[str, Tensor]:
        number = group[0].task
        return data[number].collate([one.example for one in group]) | {_TASK: torch.tensor(number)}

    return examples, collate


def last_shared(sharing: str, encoder: Encoder) -> list[nn.Parameter]:
    """The weights of the last block that all tasks share; none if each has an encoder of its own."""
    return [] if sharing == "soft" else list(encoder.blocks[-1].parameters())


def table_for(task_is_about_pairs: bool, table: KnowledgeTable | None) -> KnowledgeTable | None:
    """The common table as a task's model keeps it: facts between concepts only where they are read."""
    return table if table is None or task_is_about_pairs else replace(table, facts=None)


def check_sharing(sharing: str, fused: bool) -> None:
    """Raise a MedgraftError for an unknown way of sharing, or one that needs a graph without one."""
    if sharing not in SHARING:
        raise MedgraftError(f"unknown sharing {sharing!r}; choose {', '.join(SHARING)}")
    if sharing == "private-fusion" and not fused:
        raise MedgraftError("private fusion needs something to fuse: give graph, embeddings and linker, or share hard")
