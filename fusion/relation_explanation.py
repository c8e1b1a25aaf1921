"""Which concept and which fact changed a predicted relation: each is taken away, and the layers above are run again."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fusion.attention import Knowledge
from fusion.explanation import Effect, Explained, each_taken_away
from fusion.facts import fact_places, places_of, without_facts
from fusion.knowledge import KnowledgeTable
from fusion.recall import Recalled
from fusion.robustness import without_knowledge
from lm.alignment import collate
from loaders.errors import MedgraftError
from loaders.records import Concept, Document, Relation, Triple

if TYPE_CHECKING:
    from fusion.relations import Prepared, RelationModel


@dataclass(frozen=True)
class RelationExplanation(Explained):
    """A predicted relation; an effect's `type` is the relation, or empty if it is no longer predicted."""

    head_name: str
    tail_name: str
    relation: Relation
    probability: float
    without_graph: Effect
    effects: tuple[Effect, ...]

    @property
    def title(self) -> str:
        return f"{self.head_name!r} {self.relation.relation} {self.tail_name!r}"

    def turned(self, effect: Effect) -> str:
        return "" if effect.type else f"no longer {self.relation.relation}"


@torch.inference_mode()
def explain(model: "RelationModel", document: str | Document) -> list[RelationExplanation]:
    """An explanation for each relation that the model predicts between the document's mentions, the surest first.

    Of linked concepts only those are among the effects that can have one: where knowledge attention is off, as is usual
    for relations, those that a fact between two of the document's concepts names.

    Raises:
        MedgraftError: the model is plain, so there is nothing to take away, or the document has no linked mention.
    """
    if model.table is None:
        raise MedgraftError("a plain model has no knowledge to explain; train with --graph and --embeddings")
    predicted = model(document)
    if not predicted.relations:
        return []
    prepared = model.prepare([predicted], model.link([predicted]))
    row_of = {(pair.head, pair.tail): row for row, pair in enumerate(prepared.pairs[0])}
    full, *versions = _versions(model, model.table, prepared)
    found = []
    for relation in predicted.relations:
        at = row_of[relation.head, relation.tail], model.network.scheme.names.index(relation.relation)
        threshold = model.settings.threshold
        effects = [
            Effect(thing, float(score[at]), relation.relation if float(score[at]) >= threshold else "")
            for thing, score in versions
        ]
        probability = float(full[1][at])
        # A concept does what the facts that go with it do; where these are all, they come first.
        ordered = sorted(
            effects[1:], key=lambda e: (-abs(e.probability - probability), isinstance(e.taken, Concept), e.what)
        )
        names = (_name(predicted, relation.head), _name(predicted, relation.tail))
        found.append(RelationExplanation(*names, relation, probability, effects[0], tuple(ordered)))
    return found


def _versions(
    model: "RelationModel", table: KnowledgeTable, prepared: "Prepared"
) -> Iterator[tuple[Concept | Triple | None, Tensor]]:
    """Probabilities (P, R) of the pairs with everything, without the graph (both None), and without each thing.

    Only the windows whose states a thing has changed run through the layers above again.
    """
    fused = model.fused_encoder
    assert fused is not None, "a model with a table is fused"
    batch = collate(prepared.passages[0].windows, model.encoder, *prepared.extras)
    batch = {name: tensor.to(model.encoder.device) for name, tensor in batch.items()}
    knowledge, recalled = Knowledge.of(batch), Recalled.of(batch)
    state = model.encoder.lower(batch, fused.after_block)
    full = fused.graft(state.hidden, knowledge, recalled)
    top = model.upper(state, full)

    def probabilities(below: Tensor, changed: dict[str, Tensor]) -> Tensor:
        rows = (below != full).flatten(1).any(dim=1).nonzero()[:, 0]
        hidden = top.index_copy(0, rows, model.upper(state.rows(rows), below[rows])) if len(rows) else top
        return (model.network.logits(hidden, changed) / model.settings.temperature).sigmoid().cpu()

    yield None, probabilities(full, batch)
    yield None, probabilities(state.hidden, without_knowledge(batch))
    places = fact_places(batch, prepared.facts[0], table.ids, table.names, table.relation_names)
    silent = fused.knowledge is None or fused.knowledge.silent
    left = dict(places)
    if knowledge is not None:
        for thing, rest in each_taken_away(knowledge, table):
            there = places_of(thing, places)
            if silent and not there:
                continue
            below = full if silent else fused.graft(state.hidden, rest, recalled)
            yield thing, probabilities(below, without_facts(batch, there))
            if isinstance(thing, Triple):
                left.pop(thing, None)
    for triple, place in left.items():
        yield triple, probabilities(full, without_facts(batch, [place]))


def _name(document: Document, concept: str) -> str:
    """What the document first calls a concept."""
    mention = min((m for m in document.mentions if concept in (m.concept_id or "").split("|")), key=lambda m: m.start)
    return document.text[mention.start : mention.end]
