"""Which concept and which fact changed a prediction: each is taken away, and the layers above are run again.

The hidden states below the knowledge are computed once; knowledge attention and the blocks above it run again for each
thing taken away. The effect is exact for that one thing, which attention weights are not (Raman et al., 2021).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fusion.attention import Knowledge
from fusion.knowledge import KnowledgeTable
from fusion.recall import Recalled
from lm.alignment import Window, collate, windows, words_of
from lm.tagging import word_logits
from loaders.errors import MedgraftError
from loaders.records import Concept, Document, Mention, Triple

if TYPE_CHECKING:
    from fusion.tagging import TaggingModel

FELT = 0.001  # a change of probability worth a line


@dataclass(frozen=True)
class Effect:
    """The prediction without one thing: `taken` is a concept, a fact, or None for the whole graph.

    `probability` is that of the type that the full model predicts; `type` is what the prediction becomes without the
    thing, empty if that is no mention at all.
    """

    taken: Concept | Triple | None
    probability: float
    type: str

    @property
    def what(self) -> str:
        if self.taken is None:
            return "the graph"
        if isinstance(self.taken, Concept):
            return f"concept {self.taken.name} ({self.taken.id})"
        return f"fact ⟨{self.taken.head_name} {self.taken.relation} {self.taken.tail_name}⟩"


class Explained(ABC):
    """A prediction and what it rests on; `effects` come with the largest change of its probability first."""

    probability: float
    without_graph: Effect
    effects: tuple[Effect, ...]

    @property
    @abstractmethod
    def title(self) -> str:
        """The prediction in words."""

    @abstractmethod
    def turned(self, effect: Effect) -> str:
        """What becomes of the prediction without the thing, in words; empty if it stays."""

    def felt(self, top: int) -> tuple[Effect, ...]:
        """The whole graph, then the `top` concepts and facts that change anything."""
        each = [e for e in self.effects if self.turned(e) or abs(e.probability - self.probability) >= FELT]
        return (self.without_graph, *each[:top])

    def describe(self, top: int = 5) -> str:
        """A few lines for people."""
        lines = [f"{self.title} ({self.probability:.3f})"]
        felt = self.felt(top)
        for effect in felt:
            turned = f"{turned}, " if (turned := self.turned(effect)) else ""
            change = effect.probability - self.probability
            lines.append(f"  without {effect.what}: {turned}{effect.probability:.3f} ({change:+.3f})")
        if not self.effects:
            lines.append("  the graph brings in nothing here")
        elif len(felt) == 1:
            lines.append(f"  no single one of {len(self.effects)} concepts and facts changes it by {FELT}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)  # type: ignore[call-overload]

    def _repr_html_(self) -> str:
        from fusion.rendering import display

        return display([self]).html


@dataclass(frozen=True)
class Explanation(Explained):
    """A predicted mention.

    `probability` is that of its type: of the span for a span head, else the mean over its words (B and I together).
    """

    text: str
    mention: Mention
    probability: float
    without_graph: Effect
    effects: tuple[Effect, ...]

    @property
    def title(self) -> str:
        linked = f", {self.mention.concept_id}" if self.mention.concept_id else ""
        return f"{self.text!r} is {self.mention.type}{linked}"

    def turned(self, effect: Effect) -> str:
        same = effect.type == self.mention.type
        return "" if same else f"no longer {self.mention.type} but {effect.type or 'no mention'}"


def explain(model: "TaggingModel", document: str | Document, *, batch_size: int = 32) -> list[Explanation]:
    """An explanation for each mention that the model predicts in the document, in the order of the text.

    Raises:
        MedgraftError: the model is plain, so there is nothing to take away.
    """
    if model.table is None:
        raise MedgraftError("a plain model has no knowledge to explain; train with --graph and --embeddings")
    predicted = model(document)
    settings = model.settings
    made = windows([predicted.text], model.encoder, min(settings.max_pieces, model.encoder.max_pieces), settings.stride)
    extras = model.extras(model.link([predicted]))
    words = word_logits(model.network, made, model.encoder, extras)[0] if made else torch.empty(0)
    explanations = []
    for window in made:
        targets = []
        for mention in predicted.mentions:
            first, last = words_of(window.word_spans, mention.start, mention.end)
            if window.owned[0] <= first < window.owned[1]:
                targets.append((mention, first, last))
        if targets:
            explanations += _explain_window(model, window, predicted.text, targets, words, extras, batch_size)
    return sorted(explanations, key=lambda explanation: explanation.mention.start)


@torch.inference_mode()
def _explain_window(
    model: "TaggingModel",
    window: Window,
    text: str,
    targets: list[tuple[Mention, int, int]],
    words: Tensor,
    extras: Sequence[Any],
    batch_size: int,
) -> list[Explanation]:
    """Of mentions that begin in the words that the window owns: mention, first word, and the word after the last.

    `words` is what the output layer says of all words of the document: those of other windows keep it.
    """
    fused, table = model.fused_encoder, model.table
    assert fused is not None and table is not None, "a model with a table is fused"
    device = model.encoder.device
    batch = {name: tensor.to(device) for name, tensor in collate([window], model.encoder, *extras).items()}
    knowledge, recalled = Knowledge.of(batch), Recalled.of(batch)
    state = model.encoder.lower(batch, fused.after_block)
    taken: list[Concept | Triple | None] = [None]
    versions = [fused.graft(state.hidden, knowledge, recalled), state.hidden]
    if knowledge is not None:
        for thing, without in each_taken_away(knowledge, table):
            taken.append(thing)
            versions.append(fused.graft(state.hidden, without, recalled))
    chunks = [torch.cat(versions[i : i + batch_size]) for i in range(0, len(versions), batch_size)]
    logits = torch.cat([model.network.output(model.upper(state, chunk)) for chunk in chunks])
    pieces = np.flatnonzero(window.owned_first)
    found = []
    for mention, first, last in targets:
        around = slice(max(first - 1, 0), last + 1)  # a span is judged by its neighbours too
        said = words[around].repeat(len(logits), 1, 1)
        own = pieces[(window.words[pieces] >= around.start) & (window.words[pieces] < around.stop)]
        said[:, window.words[own] - around.start] = logits[:, own]
        inside = slice(first - around.start, last - around.start)
        by_type = model.network.output.of_mention(said, inside, model.settings.temperature).cpu()
        effects = [_effect(model, mention, thing, by_type[0], by_type[n]) for n, thing in enumerate(taken, 1)]
        probability = float(by_type[0, 1 + model.settings.types.index(mention.type)])
        ordered = sorted(effects[1:], key=lambda effect: (-abs(effect.probability - probability), effect.what))
        found.append(Explanation(text[mention.start : mention.end], mention, probability, effects[0], tuple(ordered)))
    return found


def each_taken_away(knowledge: Knowledge, table: KnowledgeTable) -> Iterable[tuple[Concept | Triple, Knowledge]]:
    """Every concept and every fact of the sentence, and the knowledge without it, wherever it occurs."""
    rows = knowledge.rows[knowledge.candidates]
    for row in rows[knowledge.candidate_mask].unique().tolist():
        concept = Concept(table.ids[row], table.names[row], types=(table.type_names[int(table.types[row])],))
        yield concept, knowledge.without(candidates=(rows == row) & knowledge.candidate_mask)
    places: dict[Triple, list[tuple[int, int, int]]] = {}
    there = knowledge.fact_mask & knowledge.candidate_mask[:, :, None]
    for m, k, n in there.nonzero().tolist():
        places.setdefault(table.fact(int(rows[m, k]), n), []).append((m, k, n))
    for fact, where in places.items():
        mask = torch.zeros_like(knowledge.fact_mask)
        mask[tuple(torch.tensor(where, device=mask.device).T)] = True
        yield fact, knowledge.without(facts=mask)


def _effect(
    model: "TaggingModel", mention: Mention, thing: Concept | Triple | None, before: Tensor, after: Tensor
) -> Effect:
    """Decoding may settle on a type that is not the most probable one: only a change of the latter is a change."""
    types = ("", *model.settings.types)
    weight = torch.ones(len(types))
    weight[0] = model.settings.threshold / (1 - model.settings.threshold)  # of no mention, beside the types
    was, now = (int((said * weight).argmax()) for said in (before, after))
    return Effect(thing, float(after[types.index(mention.type)]), mention.type if was == now else types[now])
