"""Which concept and which fact changed a predicted relation: each is taken away, and the layers above are run again."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fusion.attention import Knowledge
from fusion.explanation import Effect, Explained, each_taken_away
from fusion.facts import PairFact, fact_places, places_of, without_facts
from fusion.knowledge import KnowledgeTable
from fusion.robustness import without_knowledge
from lm.alignment import collate
from loaders.errors import MedgraftError
from loaders.records import Concept, Document, Relation, Triple

if TYPE_CHECKING:
    from fusion.relations import RelationModel


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

    Raises:
        MedgraftError: the model is plain, so there is nothing to take away, or the document has no linked mention.
    """
    if model.table is None:
        raise MedgraftError("a plain model has no knowledge to explain; train with --graph and --embeddings")
    predicted = model(document)
    prepared = model.prepare([predicted], model.link([predicted]))
    pairs, facts = prepared.pairs[0], prepared.facts[0]
    if not predicted.relations:
        return []
    device = model.encoder.device
    batch = collate(prepared.passages[0].windows, model.encoder, *prepared.extras)
    batch = {name: tensor.to(device) for name, tensor in batch.items()}
    taken: list[Concept | Triple | None] = [None]
    scores = [_probabilities(model, batch), _probabilities(model, without_knowledge(batch))]
    for thing, changed in _changes(model.table, batch, facts):
        taken.append(thing)
        scores.append(_probabilities(model, changed))
    row_of = {(pair.head, pair.tail): row for row, pair in enumerate(pairs)}
    found = []
    for relation in predicted.relations:
        at = row_of[relation.head, relation.tail], model.network.scheme.names.index(relation.relation)
        threshold = model.settings.threshold
        effects = [
            Effect(thing, float(score[at]), relation.relation if float(score[at]) >= threshold else "")
            for thing, score in zip(taken, scores[1:], strict=True)
        ]
        probability = float(scores[0][at])
        # A concept does what the facts that go with it do; where these are all, they come first.
        ordered = sorted(
            effects[1:], key=lambda e: (-abs(e.probability - probability), isinstance(e.taken, Concept), e.what)
        )
        names = (_name(predicted, relation.head), _name(predicted, relation.tail))
        found.append(RelationExplanation(*names, relation, probability, effects[0], tuple(ordered)))
    return found


def _changes(
    table: KnowledgeTable, batch: dict[str, Tensor], facts: list[list[PairFact]]
) -> Iterator[tuple[Concept | Triple, dict[str, Tensor]]]:
    """Every concept with its facts and every fact, of a mention or of a pair, and the batch without it."""
    places = fact_places(batch, facts, table.ids, table.names, table.relation_names)
    left = dict(places)
    knowledge = Knowledge.of(batch)
    if knowledge is not None:
        for thing, without in each_taken_away(knowledge, table):
            yield thing, without_facts(batch | without.tensors(), places_of(thing, places))
            if isinstance(thing, Triple):
                left.pop(thing, None)
    for triple, there in left.items():
        yield triple, without_facts(batch, [there])


def _probabilities(model: "RelationModel", batch: dict[str, Tensor]) -> Tensor:
    """(P, R) of the pairs."""
    return (model.network(batch).logits / model.settings.temperature).sigmoid().cpu()


def _name(document: Document, concept: str) -> str:
    """What the document first calls a concept."""
    mention = min((m for m in document.mentions if concept in (m.concept_id or "").split("|")), key=lambda m: m.start)
    return document.text[mention.start : mention.end]
