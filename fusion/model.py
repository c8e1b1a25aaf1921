"""What fused models of all tasks share: an encoder with knowledge attention inside, links, and the model folder."""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from safetensors.torch import save_file
from torch import Tensor, nn

from fusion.attention import Knowledge, KnowledgeAttention
from fusion.knowledge import KnowledgeTable, LinkedMention
from fusion.memory import KINDS, Memory
from fusion.name_vectors import NameVectors
from fusion.recall import MemoryAttention, Recalled
from fusion.recalling import Recollection, memory_of, recollections
from kg import Linker
from lm.alignment import Window
from lm.caching import States, lower_states
from lm.calibration import tempered
from lm.encoder import BlockState, Encoder
from lm.evaluation import HasId
from lm.experts import Experts, GatedEncoder
from lm.tallies import Tally
from lm.training import isolated_seed
from loaders.errors import MedgraftError
from loaders.folders import new_folder
from loaders.records import Document

NAME_ENCODER = "name_encoder"
"""Folder, in that of a model, of the encoder of its linker's vectors of names, if it has any."""

Extra = Callable[[Sequence[Window]], dict[str, Tensor]]
Item = TypeVar("Item", bound=HasId)
"""What a task is about: a `Document`, or a `Question`."""


class Report(Protocol):
    """Scores of a task; `f1` is the one that counts."""

    @property
    def f1(self) -> float: ...

    def as_dict(self) -> dict[str, Any]: ...


class FusedEncoder(nn.Module):
    """An encoder with knowledge attention, memory attention or both after block `after_block`, in this order.

    A batch without mentions, from which nothing is recalled, runs the plain encoder. The new layers' weights are drawn
    from generator states of their own, so that a plain and a fused model with the same seed see the same dropout and
    the same order of data.
    """

    def __init__(self, encoder: Encoder, *, after_block: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.after_block = after_block
        self.knowledge: KnowledgeAttention | None = None
        self.memory: MemoryAttention | None = None

    def add_knowledge(self, table: KnowledgeTable, seed: int, *, mark_ends: bool = False) -> None:
        """Put knowledge attention for this table in."""
        with isolated_seed(seed):
            self.knowledge = KnowledgeAttention(
                self.hidden_size,
                embedding_dim=table.dim,
                num_types=len(table.type_names),
                num_relations=max(2 * len(table.relation_names), 1),
                mark_ends=mark_ends,
            )

    def add_memory(self, memory: Memory, seed: int) -> None:
        """Put memory attention for this memory in."""
        with isolated_seed(seed):
            self.memory = MemoryAttention(self.hidden_size, num_labels=len(memory.label_names), num_kinds=len(KINDS))
        self.memory.centre.copy_(memory.centre[1])

    @property
    def hidden_size(self) -> int:
        return self.encoder.hidden_size

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Hidden states (B, T, hidden_size) of the last block."""
        knowledge, recalled = Knowledge.of(batch), Recalled.of(batch)
        if knowledge is None and recalled is None:
            return self.encoder(batch)
        return self.encoder(batch, self.after_block, lambda hidden: self.graft(hidden, knowledge, recalled))

    def graft(self, hidden: Tensor, knowledge: Knowledge | None, recalled: Recalled | None) -> Tensor:
        """Hidden states (B, T, hidden_size) with what is known and what is recalled; same shape."""
        if self.knowledge is not None and knowledge is not None:
            hidden = self.knowledge(hidden, knowledge)
        if self.memory is not None and recalled is not None:
            hidden = self.memory(hidden, recalled)
        return hidden


def default_depth(num_blocks: int) -> int:
    """After how many blocks the knowledge goes in: two thirds of them, rounded up (4 of 6, 8 of 12)."""
    return -(-2 * num_blocks // 3)


def knowledge_of(
    table: KnowledgeTable,
    linked: Sequence[Document],
    gold: Sequence[Document] | None = None,
    *,
    num_candidates: int,
    max_mentions: int,
) -> Extra:
    """What adds the knowledge of the linked mentions to a batch of windows; the best linked `max_mentions` a window.

    `gold` are the same documents as people annotated them, which tell the right candidates for the linking loss.
    """
    spans = [table.candidates(document, num_candidates) for document in linked]
    right: list[dict[tuple[int, int], set[str]]] = [{} for _ in linked]
    if gold is not None:
        right = [_gold_concepts(document) for document in gold]

    def extra(group: Sequence[Window]) -> dict[str, Tensor]:
        mentions = []
        for row, window in enumerate(group):
            found = []
            for start, end, rows, scores in spans[window.document]:
                first, last = window.pieces_of(start, end)
                if first < last:
                    target = -1
                    if (ids := right[window.document].get((start, end))) is not None:
                        target = next((k for k, r in enumerate(rows, start=1) if table.ids[r] in ids), 0)
                    found.append(LinkedMention(row, first, last, rows, scores, target))
            found.sort(key=lambda mention: -mention.scores[0])
            mentions += sorted(found[:max_mentions], key=lambda mention: mention.start)
        return table.gather(mentions).tensors() if mentions else {}

    return extra


def _gold_concepts(document: Document) -> dict[tuple[int, int], set[str]]:
    """The concepts of each span that people linked."""
    return {(m.start, m.end): set(m.concept_id.split("|")) for m in document.mentions if m.concept_id}


@dataclass(frozen=True)
class ModelSettings:
    """What has to be known to use a trained model."""

    task: str
    types: tuple[str, ...]
    after_block: int
    num_candidates: int = 5
    max_mentions: int = 24
    max_pieces: int = 256
    stride: int = 32
    link_threshold: float = 0.8
    seed: int = 0
    head: str = ""
    """Of ner: "span" for mentions that may nest and overlap, see `lm.spans`, or "bio"."""
    longest_mention: int = 16
    """Words of it, for the span head."""
    mark_ends: bool = False
    """Whether knowledge says where mentions end: a span ends by itself, a BIO mention where the next word is none."""
    overlapping: bool = False
    """Whether mentions overlapped in training; only then the span head finds such."""
    relations: tuple[tuple[str, str, str], ...] = ()
    """Relation, head type, tail type."""
    threshold: float = 0.5
    """Of the probability of a mention, a relation, or one of several labels; for answers with a span of its logit."""
    kind: str = ""
    """Of the answers to questions, see `lm.questions`; for classification whether there is "one" label or "several"."""
    max_windows: int | None = None
    """Windows of a context that are read, the likeliest ones; all by default."""
    temperature: float = 1.0
    """By which logits are divided before they become confidence."""
    experts: int = 0
    """Over the encoder, see `lm.experts`; none for a model that was trained alone."""
    memory_size: int = 8
    """Entries of each kind that a sentence recalls, with a memory."""

    @classmethod
    def read(cls, values: dict[str, Any]) -> "ModelSettings":
        """From JSON."""
        lists = {"types": tuple(values["types"]), "relations": tuple(map(tuple, values.get("relations", ())))}
        return cls(**{**values, **lists})


@dataclass(frozen=True)
class TrainingData:
    """What `lm.fit` trains on; `notes` say what became of the annotation."""

    examples: Sequence[Any]
    collate: Callable[[Sequence[Any]], dict[str, Tensor]]
    notes: dict[str, Any]


@dataclass
class FusedModel(ABC, Generic[Item]):
    """A trained network with what it knows: text in, `Document` out. Without table and linker it is a plain model.

    `scores` are the scores on the development documents, `training` the settings of the training, for the card.
    """

    network: nn.Module
    encoder: Encoder
    settings: ModelSettings
    table: KnowledgeTable | None = None
    linker: Linker | None = None
    scores: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    leaks: dict[str, Any] = field(default_factory=dict)
    """For relations: which sources of the labels the graph was searched for, and what it states of the dev pairs."""
    frozen_states: States | None = None
    """Where to keep what the frozen blocks say, so that they run only once; see `lm.caching`."""
    memory: Memory | None = None
    precision: str = "no"
    """Of predictions: "no", "bf16" or "fp16"."""

    @property
    def fused(self) -> bool:
        return self.table is not None

    @property
    def fused_encoder(self) -> FusedEncoder | None:
        """The encoder with its knowledge attention, below experts if there are such; None for a plain model."""
        return next((module for module in self.network.modules() if isinstance(module, FusedEncoder)), None)

    @property
    def attention(self) -> KnowledgeAttention | None:
        """The knowledge attention of the network; None for a plain model."""
        return None if self.fused_encoder is None else self.fused_encoder.knowledge

    def upper(self, state: BlockState, hidden: Tensor) -> Tensor:
        """What the output layer reads if the hidden states after `state.after_block` blocks are these (B, T, d)."""
        top, last = self.network.encoder, self.encoder.upper(state, hidden)
        return top.mixed(last) if isinstance(top, GatedEncoder) else last

    def __call__(self, text: str | Item) -> Item:
        """The text with its mentions: typed, scored and, for a fused model, linked."""
        return next(self.pipe([text]))

    def pipe(self, texts: Iterable[str | Item], *, with_graph: bool = True, progress: bool = False) -> Iterator[Item]:
        """Annotate many texts, in order, a few hundred at a time; `with_graph=False` turns the knowledge off."""
        given = (self.item(str(n), text) if isinstance(text, str) else text for n, text in enumerate(texts))
        while group := list(islice(given, 512)):
            yield from self.annotate(group, self.link(group), with_graph=with_graph, progress=progress)

    @abstractmethod
    def item(self, id: str, text: str) -> Item:
        """What the task makes of mere text."""

    @abstractmethod
    def link(self, items: Sequence[Item]) -> list[Document]:
        """The texts of the items with the linker's mentions; without mentions for a plain model."""

    @abstractmethod
    def annotate(
        self, items: Sequence[Item], linked: Sequence[Document], *, with_graph: bool, progress: bool
    ) -> Iterator[Item]:
        """The items with what the model finds; `linked` is what `link` makes of them."""

    @abstractmethod
    def score(self, gold: Sequence[Item], predicted: Sequence[Item]) -> Report:
        """How well the predicted items agree with the gold ones."""

    @abstractmethod
    def tally(self, gold: Sequence[Item], predicted: Sequence[Item]) -> Tally:
        """The same as sums over the items, in their order, for intervals and paired tests."""

    @abstractmethod
    def training_data(self, items: Sequence[Item]) -> TrainingData:
        """The annotated items as the network wants them."""

    @property
    def chosen_by(self) -> tuple[str, ...]:
        """Keys of what `scorer` says whose mean chooses the epoch."""
        return ("f1",)

    @abstractmethod
    def scorer(self, dev: Sequence[Item]) -> Callable[[], Mapping[str, float]]:
        """What `lm.fit` calls after each epoch; the items are linked only once.

        A `threshold` among the scores is the one that the finished model uses.
        """

    def calibrate(self, dev: Sequence[Item]) -> None:
        """Choose the temperature on these items, so that a score of 0.8 is right four times in five."""
        self.settings = self.at_temperature(1.0)
        self.settings = self.at_temperature(self.fit_temperature(dev))

    def at_temperature(self, temperature: float) -> ModelSettings:
        """The settings with another temperature; the threshold moves along, so that the model predicts the same."""
        threshold = tempered(self.settings.threshold, temperature / self.settings.temperature)
        return replace(self.settings, temperature=temperature, threshold=threshold)

    @abstractmethod
    def fit_temperature(self, dev: Sequence[Item]) -> float:
        """The temperature under which the confidence fits these items best; predictions do not depend on it."""

    @abstractmethod
    def judged(self, gold: Sequence[Item], predicted: Sequence[Item]) -> list[tuple[float, bool]]:
        """The score of each prediction, and whether it is right."""

    @abstractmethod
    def explain(self, item: str | Item) -> Sequence[Any]:
        """For each prediction, the effect of taking away each concept and each fact."""

    def evaluate(self, gold: Sequence[Item], *, with_graph: bool = True, progress: bool = False) -> Report:
        """Scores of what the model finds in the texts of `gold`."""
        return self.score(gold, list(self.pipe(gold, with_graph=with_graph, progress=progress)))

    def extras(self, linked: Sequence[Document], gold: Sequence[Document] | None = None) -> list[Extra]:
        """What a batch needs beyond its pieces; in training `gold` tells the right candidates."""
        s = self.settings
        extras: list[Extra] = []
        if self.table is not None:
            sizes = {"num_candidates": s.num_candidates, "max_mentions": s.max_mentions}
            extras.append(knowledge_of(self.table, linked, gold, **sizes))
        if self.memory is not None:
            extras.append(memory_of(self.memory, linked, s.memory_size, self.encoder, self.frozen_states))
        return extras

    def recall(self, text: str) -> list[Recollection]:
        """What each sentence of a text recalls from the memory, in the order of the text, nearest first."""
        if self.memory is None:
            raise MedgraftError("the model has no memory; train one with --memory")
        return recollections(self.memory, text, self.settings.memory_size)

    def cached(self, made: Sequence[Window]) -> list[Extra]:
        """What the frozen blocks make of these windows, if that is to be kept."""
        if self.frozen_states is None:
            return []
        return [lower_states(self.encoder, made, self.encoder.frozen_blocks, self.frozen_states)]

    def save(self, folder: str | Path) -> None:
        """Write a Hugging Face model folder with the knowledge, the linker's index and a card beside it."""
        from fusion.card import model_card

        with new_folder(folder) as aside:
            self.encoder.save(aside)
            own = {
                k: v.contiguous() for k, v in self.network.state_dict().items() if not k.startswith(self.encoder_prefix)
            }
            save_file(own, aside / "medgraft.safetensors")
            if self.table is not None and self.linker is not None:
                self.table.save(aside / "knowledge")
                self.linker.save(aside / "linker")
                if isinstance(self.linker.vectors, NameVectors):
                    self.linker.vectors.encoder.save(aside / NAME_ENCODER)
            if self.memory is not None:
                self.memory.save(aside / "memory", self.encoder)
            description: dict[str, Any] = {"settings": asdict(self.settings), "fused": self.fused}
            description |= {} if self.memory is None else {"memory": self.memory.counts}
            description |= {"scores": self.scores, "training": self.training, "leaks": self.leaks}
            (aside / "medgraft.json").write_text(json.dumps(description, indent=2, ensure_ascii=False) + "\n")
            (aside / "README.md").write_text(model_card(self))

    @property
    def encoder_prefix(self) -> str:
        """Of the names of the wrapped encoder's weights, which are saved as a Hugging Face model."""
        prefix, module = "encoder.", self.network.encoder
        while isinstance(module, GatedEncoder | FusedEncoder):
            prefix, module = f"{prefix}encoder.", module.encoder
        return prefix


class DocumentModel(FusedModel[Document]):
    """A model whose task is about documents."""

    def item(self, id: str, text: str) -> Document:
        return Document(id, text)

    def link(self, items: Sequence[Document]) -> list[Document]:
        """The documents with the linker's mentions instead of their own; without mentions for a plain model."""
        bare = [replace(document, mentions=()) for document in items]
        if self.linker is None:
            return bare
        linked = self.linker.pipe(document.text for document in items)
        return [replace(document, mentions=found.mentions) for document, found in zip(bare, linked, strict=True)]


def fused_encoder(encoder: Encoder, settings: ModelSettings, table: KnowledgeTable | None) -> nn.Module:
    """The encoder, with knowledge attention inside if there is a table, under experts if the settings want them."""
    fused: nn.Module = encoder
    if table is not None:
        fused = FusedEncoder(encoder, after_block=settings.after_block)
        fused.add_knowledge(table, settings.seed, mark_ends=settings.mark_ends)
    if not settings.experts:
        return fused
    return GatedEncoder(fused, Experts(settings.experts, encoder.hidden_size, seed=settings.seed))
