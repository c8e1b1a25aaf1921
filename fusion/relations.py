"""Fused relation extraction: which relations a document states between its concepts.

The mentions are given: by people, or by a tagger. Knowledge enters twice: into the encoder, mention by mention, as for
every task; and into the pair, as the facts that the graph states between its two concepts.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from fusion.corpora import Corpus
from fusion.facts import FactLogits, PairFact, codes_tensor
from fusion.knowledge import KnowledgeTable
from fusion.model import DocumentModel, Extra, ModelSettings, TrainingData, fused_encoder
from kg import Linker
from lm.alignment import Window, collate
from lm.calibration import binary_loss, fit_temperature
from lm.encoder import Array, Encoder
from lm.evaluation import Scores, evaluate_relations
from lm.relations import (
    Pair,
    Passage,
    RelationNetwork,
    RelationScheme,
    best_threshold,
    concepts_of,
    pair_documents,
    passages,
    relations_of,
    score_pairs,
    with_evidence,
)
from lm.tallies import Tally, set_tally
from loaders.errors import MedgraftError
from loaders.records import Candidate, Document

if TYPE_CHECKING:
    from fusion.relation_explanation import RelationExplanation

_SIZE = 256  # of a pair's vector
_CANDIDATES = 2  # of a mention, whose facts are looked up
_FACTS = 8  # between the concepts of a pair


@dataclass(frozen=True)
class Prepared:
    """Documents as the network wants them: passages, the pairs of each, the facts of each pair, batch extras."""

    passages: list[Passage]
    pairs: list[list[Pair]]
    facts: list[list[list[PairFact]]]
    extras: list[Extra]


class RelationModel(DocumentModel):
    """Finds relations between the concepts that a document mentions: `network` is a `RelationNetwork`."""

    network: RelationNetwork

    @classmethod
    def make(
        cls, encoder: Encoder, settings: ModelSettings, table: KnowledgeTable | None, linker: Linker | None
    ) -> "RelationModel":
        """An untrained model: fused if there is a table, plain otherwise."""
        facts = None
        if table is not None and table.facts is not None:
            facts = FactLogits(table.facts.num_codes, len(RelationScheme(settings.relations).names))
        network = RelationNetwork(
            fused_encoder(encoder, settings, table),
            RelationScheme(settings.relations),
            hidden_size=encoder.hidden_size,
            facts=facts,
            size=_SIZE,
            seed=settings.seed,
        )
        return cls(network, encoder, settings, table, linker)

    @classmethod
    def settings_of(cls, corpus: Corpus) -> dict[str, Any]:
        """What the training documents decide: the types of mentions, and which relations hold between which types."""
        if not corpus.types:
            raise MedgraftError(f"corpus {corpus.name} has no mention in its training documents; check its format")
        return {"types": corpus.types, "relations": RelationScheme.of(corpus.train).kinds}

    def annotate(
        self, items: Sequence[Document], linked: Sequence[Document], *, with_graph: bool, progress: bool
    ) -> Iterator[Document]:
        """The documents with the relations found between their mentions, the surest first, each with its evidence.

        Raises:
            MedgraftError: none of the documents has a mention with a concept.
        """
        if items and not any(map(concepts_of, items)):
            raise MedgraftError(
                "no mention with a concept in the documents, and relations hold between concepts; annotate them first, "
                "with a fused ner model or the linker"
            )
        prepared = self.prepare(items, linked if with_graph else None)
        scores = self._scores(prepared, progress)
        for document, pairs, found in zip(items, prepared.pairs, scores, strict=True):
            relations = relations_of(pairs, found, self.network.scheme, self.settings.threshold)
            yield replace(document, relations=tuple(with_evidence(document, relation) for relation in relations))

    def score(self, gold: Sequence[Document], predicted: Sequence[Document]) -> Scores:
        """Micro precision, recall and F1 of relations; one between concepts without a mention cannot be found."""
        return evaluate_relations(gold, predicted)

    def tally(self, gold: Sequence[Document], predicted: Sequence[Document]) -> Tally:
        sides = ([{(r.head, r.tail, r.relation) for r in d.relations} for d in side] for side in (gold, predicted))
        return set_tally(*sides)

    def judged(self, gold: Sequence[Document], predicted: Sequence[Document]) -> list[tuple[float, bool]]:
        return [
            (r.score or 0.0, (r.head, r.relation, r.tail) in {(g.head, g.relation, g.tail) for g in document.relations})
            for document, found in zip(gold, predicted, strict=True)
            for r in found.relations
        ]

    def training_data(self, items: Sequence[Document]) -> TrainingData:
        prepared = self.prepare(items, self.link(items))
        examples = [passage for passage, pairs in zip(prepared.passages, prepared.pairs, strict=True) if pairs]
        extras = [*prepared.extras, *self.cached([w for passage in examples for w in passage.windows])]

        def batch(group: Sequence[Passage]) -> dict[str, Tensor]:
            return collate([w for passage in group for w in passage.windows], self.encoder, *extras)

        pairs = [pair for some in prepared.pairs for pair in some]
        notes = {"pairs": len(pairs), "with a relation": sum(bool(pair.labels.any()) for pair in pairs)}
        notes |= {"without a pair": _missed(items, prepared.pairs)}
        if self.table is not None and self.table.facts is not None:
            notes["with a fact"] = sum(bool(facts) for some in prepared.facts for facts in some)
        return TrainingData(examples, batch, {"relations": notes})

    def scorer(self, dev: Sequence[Document]) -> Callable[[], Mapping[str, float]]:
        """F1 at the threshold that is best for it."""
        prepared = self.prepare(dev, self.link(dev))
        labels = [_labels(pairs) for pairs in prepared.pairs]
        missed = _missed(dev, prepared.pairs)

        def evaluate() -> Mapping[str, float]:
            scores = self._scores(prepared, False)
            threshold = best_threshold(scores, labels, missed)
            found = [
                replace(document, relations=relations_of(pairs, some, self.network.scheme, threshold))
                for document, pairs, some in zip(dev, prepared.pairs, scores, strict=True)
            ]
            result = evaluate_relations(dev, found)
            return {"f1": result.f1, "precision": result.precision, "recall": result.recall, "threshold": threshold}

        return evaluate

    def fit_temperature(self, dev: Sequence[Document]) -> float:
        """On the relations that the types of the pairs permit."""
        prepared = self.prepare(dev, self.link(dev))
        allowed = [np.array([pair.allowed for pair in some]) for some in prepared.pairs if some]
        labels = [_labels(some) for some in prepared.pairs if some]
        if not labels:
            return 1.0
        scores = [some for some in self._scores(prepared, False) if len(some)]
        chosen = np.concatenate(allowed)
        return fit_temperature(binary_loss(np.concatenate(scores)[chosen], np.concatenate(labels)[chosen]))

    def stated(self, documents: Sequence[Document]) -> dict[str, float]:
        """Shares of the pairs with a relation, and of those without, between which the graph states a fact."""
        prepared = self.prepare(documents, self.link(documents))
        known = [bool(facts) for some in prepared.facts for facts in some]
        true = [bool(pair.labels.any()) for some in prepared.pairs for pair in some]
        sides = {"related": True, "unrelated": False}
        counted = {name: [k for k, t in zip(known, true, strict=True) if t == side] for name, side in sides.items()}
        return {name: sum(some) / len(some) if some else 0.0 for name, some in counted.items()}

    def explain(self, item: str | Document) -> "list[RelationExplanation]":
        """For each predicted relation, the effect of taking away each concept and each fact."""
        from fusion.relation_explanation import explain

        return explain(self, item)

    def prepare(self, documents: Sequence[Document], linked: Sequence[Document] | None) -> Prepared:
        """What the network needs of the documents; without `linked` no knowledge."""
        s = self.settings
        made = passages(documents, self.encoder, s.max_pieces, s.stride)
        pairs, extra = pair_documents(documents, self.network.scheme)
        if linked is None or self.table is None:
            recalled = [] if linked is None else self.extras(linked)
            return Prepared(made, pairs, [[[] for _ in some] for some in pairs], [extra, *recalled])
        facts = self._facts(documents, linked, pairs)

        def fact_codes(group: Sequence[Window]) -> dict[str, Tensor]:
            return codes_tensor([f for number in dict.fromkeys(w.document for w in group) for f in facts[number]])

        return Prepared(made, pairs, facts, [extra, *self.extras(linked, documents), fact_codes])

    def _scores(self, prepared: Prepared, progress: bool) -> list[Array]:
        cached = self.cached([window for passage in prepared.passages for window in passage.windows])
        return score_pairs(
            self.network,
            prepared.passages,
            prepared.pairs,
            self.encoder,
            *prepared.extras,
            *cached,
            temperature=self.settings.temperature,
            precision=self.precision,
            progress=progress,
        )

    def _facts(
        self, documents: Sequence[Document], linked: Sequence[Document], pairs: Sequence[Sequence[Pair]]
    ) -> list[list[list[PairFact]]]:
        """The facts between the linker's candidates for the two concepts of each pair, never between gold ids."""
        if self.table is None or self.linker is None or self.table.facts is None:
            return [[[] for _ in some] for some in pairs]
        found: list[list[list[PairFact]]] = []
        looked_up: dict[str, tuple[Candidate, ...]] = {}
        for document, links, some in zip(documents, linked, pairs, strict=True):
            if not some:
                found.append([])
                continue
            rows = concept_rows(document, links, self.table, self.linker, self.settings.link_threshold, looked_up)
            between = [self.table.facts.between(rows[pair.head], rows[pair.tail], _FACTS) for pair in some]
            found.append(between)
        return found


def concept_rows(
    document: Document,
    linked: Document,
    table: KnowledgeTable,
    linker: Linker,
    threshold: float,
    looked_up: dict[str, tuple[Candidate, ...]],
) -> dict[str, list[int]]:
    """Rows of the table for each concept of a document: the sure candidates of its mentions, each once.

    They are the linker's, of the same span in `linked`, else looked up by the mention's text; `looked_up` keeps these.
    """
    by_span = {(m.start, m.end): m.candidates for m in linked.mentions}
    rows = {}
    for concept, mentions in concepts_of(document).items():
        chosen: dict[int, None] = {}
        for mention in mentions:
            candidates = by_span.get((mention.start, mention.end))
            if not candidates:
                text = document.text[mention.start : mention.end]
                if text not in looked_up:
                    looked_up[text] = linker.candidates(text, k=_CANDIDATES)
                candidates = looked_up[text]
            sure = [c.concept_id for c in candidates if c.score >= threshold][:_CANDIDATES]
            chosen |= {table.id_to_row[id]: None for id in sure if id in table.id_to_row}
        rows[concept] = list(chosen)
    return rows


def _labels(pairs: Sequence[Pair]) -> Array:
    return np.array([pair.labels for pair in pairs])


def _missed(documents: Sequence[Document], pairs: Sequence[Sequence[Pair]]) -> int:
    """How many relations hold between no pair, because an end has no mention or a type that nothing allows."""
    stated = sum(len({(r.head, r.relation, r.tail) for r in document.relations}) for document in documents)
    return stated - sum(int(pair.labels.sum()) for some in pairs for pair in some)
