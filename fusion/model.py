"""The fused model: an encoder with knowledge attention inside, and the object that users call on their text."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fusion.attention import Knowledge, KnowledgeAttention
from fusion.knowledge import KnowledgeTable, LinkedMention
from kg import Linker
from lm.alignment import Window
from lm.encoder import Encoder, resolve_device
from lm.evaluation import MentionScores, evaluate_mentions
from lm.tagging import Tagger, TagScheme, predict
from loaders.errors import MedgraftError
from loaders.folders import new_folder, restore_folder
from loaders.records import Document, Mention

if TYPE_CHECKING:
    from fusion.explanation import Explanation

Extra = Callable[[Sequence[Window]], dict[str, Tensor]]


class FusedEncoder(nn.Module):
    """An encoder with knowledge attention after block `after_block`; a batch without mentions runs the plain encoder.

    The new layer's weights are drawn from a generator state of their own, so that a plain and a fused model with the
    same seed see the same dropout and the same order of data.
    """

    def __init__(
        self, encoder: Encoder, *, after_block: int, embedding_dim: int, num_types: int, num_relations: int, seed: int
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.after_block = after_block
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.knowledge = KnowledgeAttention(
                encoder.hidden_size, embedding_dim=embedding_dim, num_types=num_types, num_relations=num_relations
            )

    @property
    def hidden_size(self) -> int:
        return self.encoder.hidden_size

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        """Hidden states (B, T, hidden_size) of the last block."""
        knowledge = Knowledge.of(batch)
        if knowledge is None:
            return self.encoder(batch)
        return self.encoder(batch, self.after_block, lambda hidden: self.knowledge(hidden, knowledge))


def default_depth(num_blocks: int) -> int:
    """After how many blocks the knowledge goes in: two thirds of them, rounded up (4 of 6, 8 of 12)."""
    return -(-2 * num_blocks // 3)


def knowledge_of(table: KnowledgeTable, linked: Sequence[Document], *, num_candidates: int, max_mentions: int) -> Extra:
    """What adds the knowledge of the linked mentions to a batch of windows; the best linked `max_mentions` a window."""
    spans = [table.candidates(document, num_candidates) for document in linked]

    def extra(group: Sequence[Window]) -> dict[str, Tensor]:
        mentions = []
        for row, window in enumerate(group):
            found = []
            for start, end, rows, scores in spans[window.document]:
                first, last = window.pieces_of(start, end)
                if first < last:
                    found.append(LinkedMention(row, first, last, rows, scores))
            found.sort(key=lambda mention: -mention.scores[0])
            mentions += sorted(found[:max_mentions], key=lambda mention: mention.start)
        return table.gather(mentions).tensors() if mentions else {}

    return extra


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


@dataclass
class FusedModel:
    """A trained tagger with what it knows: text in, `Document` out. Without table and linker it is a plain model.

    `scores` are the scores on the development documents, `training` the settings of the training, for the card.
    """

    tagger: Tagger
    encoder: Encoder
    settings: ModelSettings
    table: KnowledgeTable | None = None
    linker: Linker | None = None
    scores: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def fused(self) -> bool:
        return self.table is not None

    def __call__(self, text: str | Document) -> Document:
        """The text with its mentions: typed, scored and, for a fused model, linked."""
        return next(self.pipe([text]))

    def pipe(
        self, texts: Iterable[str | Document], *, with_graph: bool = True, progress: bool = False
    ) -> Iterator[Document]:
        """Annotate many texts, in order, a few hundred at a time; `with_graph=False` turns the knowledge off."""
        given = (Document(str(n), text) if isinstance(text, str) else text for n, text in enumerate(texts))
        while group := list(islice(given, 512)):
            linked = self.link(group)
            found = predict(
                self.tagger,
                group,
                self.encoder,
                *(self.extras(linked) if with_graph else []),
                max_pieces=self.settings.max_pieces,
                stride=self.settings.stride,
                progress=progress,
            )
            yield from map(self._with_concepts, found, linked)

    def evaluate(self, gold: Sequence[Document], *, with_graph: bool = True, progress: bool = False) -> MentionScores:
        """Strict span precision, recall and F1 of what the model finds in the texts of `gold`."""
        return evaluate_mentions(gold, list(self.pipe(gold, with_graph=with_graph, progress=progress)))

    def explain(self, document: str | Document) -> "list[Explanation]":
        """For each predicted mention, the effect of taking away each concept and each fact; see `explanation`."""
        from fusion.explanation import explain

        return explain(self, document)

    def link(self, documents: Sequence[Document]) -> list[Document]:
        """The documents with the linker's mentions instead of their own; without mentions for a plain model."""
        bare = [replace(document, mentions=()) for document in documents]
        if self.linker is None:
            return bare
        linked = self.linker.pipe(document.text for document in documents)
        return [replace(document, mentions=found.mentions) for document, found in zip(bare, linked, strict=True)]

    def extras(self, linked: Sequence[Document]) -> list[Extra]:
        """What a batch needs beyond its pieces."""
        if self.table is None:
            return []
        s = self.settings
        return [knowledge_of(self.table, linked, num_candidates=s.num_candidates, max_mentions=s.max_mentions)]

    def save(self, folder: str | Path) -> None:
        """Write a Hugging Face model folder with the knowledge, the linker's index and a card beside it."""
        from fusion.card import model_card

        with new_folder(folder) as aside:
            self.encoder.save(aside)
            own = {
                k: v.contiguous() for k, v in self.tagger.state_dict().items() if not k.startswith(self._encoder_prefix)
            }
            save_file(own, aside / "medgraft.safetensors")
            if self.table is not None and self.linker is not None:
                self.table.save(aside / "knowledge")
                self.linker.save(aside / "linker")
            description = {"settings": asdict(self.settings), "fused": self.fused}
            description |= {"scores": self.scores, "training": self.training}
            (aside / "medgraft.json").write_text(json.dumps(description, indent=2, ensure_ascii=False) + "\n")
            (aside / "README.md").write_text(model_card(self))

    @property
    def _encoder_prefix(self) -> str:
        return "encoder.encoder." if self.fused else "encoder."

    def _with_concepts(self, found: Document, linked: Document) -> Document:
        """Give each predicted mention the linker's candidates: of the same span, else looked up by its text."""
        if self.linker is None:
            return found
        by_span = {(m.start, m.end): m.candidates for m in linked.mentions}
        mentions: list[Mention] = []
        for m in found.mentions:
            candidates = by_span.get((m.start, m.end)) or self.linker.candidates(found.text[m.start : m.end], k=5)
            sure = bool(candidates) and candidates[0].score >= self.settings.link_threshold
            mentions.append(replace(m, candidates=candidates, concept_id=candidates[0].concept_id if sure else None))
        return replace(found, mentions=tuple(mentions))


def make_model(
    encoder: Encoder,
    settings: ModelSettings,
    table: KnowledgeTable | None = None,
    linker: Linker | None = None,
) -> FusedModel:
    """An untrained model: fused if there is a table, plain otherwise."""
    fused: nn.Module = encoder
    if table is not None:
        fused = FusedEncoder(
            encoder,
            after_block=settings.after_block,
            embedding_dim=table.dim,
            num_types=len(table.type_names),
            num_relations=max(2 * len(table.relation_names), 1),
            seed=settings.seed,
        )
    tagger = Tagger(fused, TagScheme(settings.types), hidden_size=encoder.hidden_size, seed=settings.seed)
    return FusedModel(tagger, encoder, settings, table, linker)


def load(folder: str | Path, device: str = "auto") -> FusedModel:
    """Load a model folder; needs neither the graph store nor the network.

    Raises:
        MedgraftError: the folder, or a file in it, is missing, or its parts come from different graphs.
    """
    folder = Path(folder)
    restore_folder(folder)
    for name in ("medgraft.json", "medgraft.safetensors"):
        if not (folder / name).is_file():
            raise MedgraftError(f"{folder / name} is missing; give a folder written by 'medgraft train'")
    description = json.loads((folder / "medgraft.json").read_text())
    settings = ModelSettings(**{**description["settings"], "types": tuple(description["settings"]["types"])})
    table = linker = None
    if description["fused"]:
        table = KnowledgeTable.load(folder / "knowledge")
        linker = Linker.load(folder / "linker")
        if linker.fingerprint != table.fingerprint:
            raise MedgraftError(
                f"{folder}: knowledge is of graph {table.fingerprint[:12]}, the linker of {linker.fingerprint[:12]}; "
                "copy both from one training"
            )
    model = make_model(Encoder.load(folder), settings, table, linker)
    missing, unexpected = model.tagger.load_state_dict(load_file(folder / "medgraft.safetensors"), strict=False)
    absent = [name for name in missing if not name.startswith(model._encoder_prefix)]
    if absent or unexpected:
        raise MedgraftError(f"{folder / 'medgraft.safetensors'} is of another model ({[*absent, *unexpected][0]})")
    model.scores, model.training = description["scores"], description["training"]
    model.tagger.to(resolve_device(device)).eval()
    return model
