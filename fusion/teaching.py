"""What a trained model teaches another one while it trains: logits, hidden states of mentions, links.

The teacher reads every batch that the student trains on, with its graph, and its answer joins the student's loss
(Hinton et al., 2015, for the logits; hidden states as in DistilBERT and TinyBERT, but of linked mentions only):

    loss = w CE(labels) + (1 - w) T^2 / n sum over what is decided of KL(teacher / T, student / T)
           + h MSE(hidden states of the pieces of linked mentions)
           + l mean KL(teacher's weights of NIL and the candidates, what a reader of the student's pieces gives)

n is what CE divides its own sum by, so that both terms weigh the same: the number of decisions, but for mentions the
number of words, each of which begins many spans.

The reader is one linear map from the mean of a mention's pieces to the space of the concepts' vectors; it is thrown
away after training. It sees no score of the linker, so the student has to know the concepts by its text alone.
"""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from fusion.attention import Knowledge
from fusion.model import FusedModel, TrainingData, default_depth
from fusion.tasks import make_model
from lm.training import isolated_seed
from loaders.errors import MedgraftError


@dataclass(frozen=True)
class Lesson:
    """A teacher, and how much each part of what it says counts beside the labels (w, T, h and l of the formula)."""

    teacher: FusedModel[Any]
    blocks: int | None = None
    """Of the student's encoder; as many as the teacher's by default."""
    label_weight: float = 0.5
    temperature: float = 2.0
    hidden_weight: float = 1.0
    link_weight: float = 0.0

    def __post_init__(self) -> None:
        weights = (self.hidden_weight, self.link_weight)
        if not 0 <= self.label_weight <= 1 or min(weights) < 0 or self.temperature <= 0:
            raise MedgraftError(
                "the labels' weight is from 0 to 1, the weights of hidden states and links are not below 0, and the "
                "temperature is above 0"
            )
        if self.link_weight and not self.teacher.fused:
            raise MedgraftError("a plain teacher links nothing; leave the weight of the links at 0")

    def student(self, seed: int) -> FusedModel[Any]:
        """A plain model that begins as the teacher without graph and experts: its blocks or some, its output layer."""
        teacher = self.teacher
        encoder = teacher.encoder.shallower(teacher.encoder.num_blocks if self.blocks is None else self.blocks)
        depth = default_depth(encoder.num_blocks)
        student = make_model(
            encoder, replace(teacher.settings, after_block=depth, seed=seed, temperature=1.0, experts=0)
        )
        output = {n: t for n, t in teacher.network.state_dict().items() if n.startswith("output.")}
        student.network.load_state_dict(output, strict=False)
        return student

    def training_data(self, student: FusedModel[Any], items: Sequence[Any]) -> TrainingData:
        """The student's batches, with what the teacher needs of its graph.

        Raises:
            MedgraftError: frozen blocks are to be computed once, but teacher and student do not share them.
        """
        frozen, teacher = student.encoder.frozen_blocks, self.teacher
        shared = student.encoder.num_blocks == teacher.encoder.num_blocks
        if student.frozen_states is not None and (
            not shared or ((teacher.fused or teacher.memory) and teacher.settings.after_block < frozen)
        ):
            raise MedgraftError(
                f"{frozen} frozen blocks cannot be computed once for teacher and student: that needs a student with "
                "all blocks of the teacher, and none of them frozen above the knowledge"
            )
        return replace(teacher, frozen_states=student.frozen_states).training_data(items)

    def notes(self) -> dict[str, Any]:
        """For the plan of the training, with a digest of all that the teacher says."""
        total = hashlib.sha256(("" if self.teacher.table is None else self.teacher.table.digest()).encode())
        if self.teacher.memory is not None:
            total.update(self.teacher.memory.digest().encode())
        for name, tensor in sorted(self.teacher.network.state_dict().items()):
            total.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
        return {
            "teacher": f"{'fused' if self.teacher.fused else 'plain'}, {total.hexdigest()[:12]}",
            "label weight": self.label_weight,
            "distillation temperature": self.temperature,
            "hidden weight": self.hidden_weight,
            "link weight": self.link_weight,
        }


@contextmanager
def taught(student: FusedModel[Any], lesson: Lesson | None) -> Iterator[None]:
    """Add what the teacher says to the loss of the student's network while it trains."""
    if lesson is None:
        yield
        return
    teacher, network = lesson.teacher, student.network
    heard: dict[str, Any] = {}
    hooks = [
        network.get_submodule("encoder").register_forward_hook(lambda _m, _i, hidden: heard.update(student=hidden)),
        teacher.network.get_submodule("encoder").register_forward_hook(lambda _m, _i, h: heard.update(teacher=h)),
    ]
    if teacher.attention is not None and teacher.table is not None:
        attention = teacher.attention
        hooks.append(attention.register_forward_hook(lambda m, i, _o: heard.update(links=m.mentions(*i)[1])))
        if lesson.link_weight:
            reader = LinkReader(student.encoder.hidden_size, teacher.table.dim, student.settings.seed)
            # Below the output layer, because it learns at its rate.
            network.get_submodule("output").add_module("links", reader.to(student.encoder.device))
    teacher.network.to(student.encoder.device).eval()
    frozen = teacher.encoder.frozen_blocks
    if student.frozen_states is not None:
        teacher.encoder.freeze_blocks(student.encoder.frozen_blocks)

    def with_teacher(_network: nn.Module, inputs: tuple[dict[str, Tensor]], output: Any) -> Any:
        if output.loss is None or not network.training:
            return output
        with torch.no_grad():
            said = teacher.network(inputs[0])
        return replace(output, loss=_loss(lesson, student, inputs[0], output, said, heard))

    hooks.append(network.register_forward_hook(with_teacher))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        if hasattr(network.output, "links"):
            del network.output.links
        teacher.encoder.freeze_blocks(frozen)


class LinkReader(nn.Module):
    """Mean states of mentions (M, d) and the vectors of their candidates to logits (M, 1 + K) of NIL and these."""

    def __init__(self, hidden_size: int, embedding_dim: int, seed: int = 0) -> None:
        super().__init__()
        with isolated_seed(seed):
            self.query = nn.Linear(hidden_size, embedding_dim)
            self.nil = nn.Linear(hidden_size, 1)

    def forward(self, mention: Tensor, knowledge: Knowledge) -> Tensor:
        vectors = functional.normalize(knowledge.vectors, dim=1)[knowledge.candidates]
        scores = torch.einsum("md,mkd->mk", self.query(mention), vectors).masked_fill(
            ~knowledge.candidate_mask, -torch.inf
        )
        return torch.cat([self.nil(mention), scores], dim=1)


def _loss(
    lesson: Lesson, student: FusedModel[Any], batch: dict[str, Tensor], output: Any, said: Any, heard: dict[str, Any]
) -> Tensor:
    network: Any = student.network
    temperature, weight = lesson.temperature, lesson.label_weight
    (ours, count), (theirs, _) = network.decisions(output, batch), network.decisions(said, batch)
    loss: Tensor = weight * output.loss
    loss = loss + (1 - weight) * temperature**2 * _divergence(theirs / temperature, ours / temperature) / count
    knowledge = Knowledge.of(batch)
    if knowledge is None or not len(knowledge.sentence):
        return loss
    if lesson.hidden_weight:
        there = _covered(knowledge, heard["student"].shape[:2])
        mine, other = heard["student"][there], heard["teacher"][there]
        loss = loss + lesson.hidden_weight * functional.mse_loss(mine.float(), other.float())
    if lesson.link_weight:
        read = network.output.links(_means(heard["student"], knowledge), knowledge).float()
        loss = loss + lesson.link_weight * _divergence(heard["links"].float().log(), read) / len(read)
    return loss


def _divergence(theirs: Tensor, ours: Tensor) -> Tensor:
    """Sum of KL(theirs, ours) over the rows' distributions; -inf in both where there is nothing to choose."""
    wanted, found = theirs.log_softmax(dim=-1), ours.log_softmax(dim=-1)
    return torch.where(wanted.isfinite(), wanted.exp() * (wanted - found), 0.0).sum()


def _covered(knowledge: Knowledge, shape: Sequence[int]) -> Tensor:
    """(B, T) which pieces lie in a linked mention."""
    position = torch.arange(shape[1], device=knowledge.start.device)
    inside = (position >= knowledge.start[:, None]) & (position < knowledge.end[:, None])
    return inside.new_zeros(shape, dtype=torch.long).index_add(0, knowledge.sentence, inside.long()) > 0


def _means(hidden: Tensor, knowledge: Knowledge) -> Tensor:
    """(M, d) mean states of each mention's pieces."""
    position = torch.arange(hidden.shape[1], device=hidden.device)
    inside = (position >= knowledge.start[:, None]) & (position < knowledge.end[:, None])
    weights = inside.to(hidden.dtype) / inside.sum(dim=1, keepdim=True)
    return torch.einsum("mt,mtd->md", weights, hidden.index_select(0, knowledge.sentence))
