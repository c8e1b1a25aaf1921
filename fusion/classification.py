"""Fused text classification: labels of whole texts, with the knowledge of the concepts in them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from fusion.corpora import Corpus
from fusion.explanation import Effect, Explained
from fusion.knowledge import KnowledgeTable
from fusion.model import DocumentModel, Extra, ModelSettings, TrainingData, fused_encoder
from kg import Linker
from lm.alignment import collate, windows
from lm.calibration import binary_loss, fit_temperature, negative_log_likelihood
from lm.classification import (
    DocumentClassifier,
    LabelScheme,
    best_label_threshold,
    document_logits,
    labels_extra,
    labels_of,
)
from lm.encoder import Array, Encoder
from lm.evaluation import check_same
from lm.questions import score_windows
from lm.relations import Passage, passages
from lm.tallies import Tally, class_tally, set_tally
from loaders.records import Concept, Document, Label


@dataclass(frozen=True)
class LabelScores:
    """Scores from 0 to 1 over `documents`; accuracy and macro F1, or micro and macro F1 where there may be several."""

    documents: int
    measures: dict[str, float]

    @property
    def f1(self) -> float:
        """What counts: macro F1."""
        return self.measures["macro_f1"]

    def as_dict(self) -> dict[str, Any]:
        return {"documents": self.documents, **self.measures}

    def __str__(self) -> str:
        width = max(map(len, self.measures))
        return "\n".join(f"{name:{width}} {value:7.2%}" for name, value in self.measures.items())


class ClassificationModel(DocumentModel):
    """Labels texts: `network` is a `DocumentClassifier`."""

    network: DocumentClassifier

    @classmethod
    def make(
        cls, encoder: Encoder, settings: ModelSettings, table: KnowledgeTable | None, linker: Linker | None
    ) -> "ClassificationModel":
        """An untrained model: fused if there is a table, plain otherwise."""
        network = DocumentClassifier(
            fused_encoder(encoder, settings, table),
            LabelScheme(settings.types, settings.kind == "several"),
            hidden_size=encoder.hidden_size,
            seed=settings.seed,
        )
        return cls(network, encoder, settings, table, linker)

    @classmethod
    def settings_of(cls, corpus: Corpus) -> dict[str, Any]:
        """What the training documents decide: the labels, and whether a text may have several.

        Raises:
            MedgraftError: labels are absent, all the same, or in the development part only; see `LabelScheme`.
        """
        scheme = LabelScheme.of(corpus.train)
        scheme.check(corpus.dev)
        return {"types": scheme.labels, "kind": "several" if scheme.several else "one"}

    def annotate(
        self, items: Sequence[Document], linked: Sequence[Document], *, with_graph: bool, progress: bool
    ) -> Iterator[Document]:
        """The documents with the labels that the model gives them."""
        logits = self._logits(items, self.extras(linked) if with_graph else [], progress)
        s = self.settings
        for document, row in zip(items, logits, strict=True):
            labels = labels_of(self.network.scheme, row, s.temperature, s.threshold)
            yield replace(document, labels=labels)

    def score(self, gold: Sequence[Document], predicted: Sequence[Document]) -> LabelScores:
        """Accuracy, macro recall and macro F1; for several labels micro precision, recall and F1, and macro F1.

        Raises:
            MedgraftError: other documents on the two sides, or a gold label that training never showed.
        """
        check_same(gold, predicted)
        return LabelScores(len(gold), self.tally(gold, predicted).values())

    def tally(self, gold: Sequence[Document], predicted: Sequence[Document]) -> Tally:
        scheme = self.network.scheme
        scheme.check(gold)
        if scheme.several:
            return set_tally(*([{(label.name,) for label in d.labels} for d in side] for side in (gold, predicted)))
        wanted, found = ([d.labels[0].name for d in side] for side in (gold, predicted))
        return class_tally(wanted, found, scheme.labels)

    def judged(self, gold: Sequence[Document], predicted: Sequence[Document]) -> list[tuple[float, bool]]:
        return [
            (label.score or 0.0, label in document.labels)
            for document, found in zip(gold, predicted, strict=True)
            for label in found.labels
        ]

    def training_data(self, items: Sequence[Document]) -> TrainingData:
        s = self.settings
        made = passages(items, self.encoder, s.max_pieces, s.stride)
        flat = [window for passage in made for window in passage.windows]
        extras = [labels_extra(items, self.network.scheme), *self.extras(self.link(items)), *self.cached(flat)]

        def batch(group: Sequence[Passage]) -> dict[str, Tensor]:
            return collate([w for passage in group for w in passage.windows], self.encoder, *extras)

        return TrainingData(made, batch, {"labels": {name: 0 for name in self.settings.types} | _counted(items)})

    def scorer(self, dev: Sequence[Document]) -> Callable[[], Mapping[str, float]]:
        """The scores; for several labels at the threshold that is best for macro F1."""
        extras = self.extras(self.link(dev))
        scheme = self.network.scheme
        truth = scheme.truth(dev)

        def evaluate() -> Mapping[str, float]:
            logits = self._logits(dev, extras, False)
            threshold = best_label_threshold(scheme, logits, truth)
            found = [
                replace(d, labels=labels_of(scheme, row, 1.0, threshold)) for d, row in zip(dev, logits, strict=True)
            ]
            measures = self.score(dev, found).measures
            shown = {name: value for name, value in measures.items() if not name.startswith("f1 of")}
            return {**shown, "f1": measures["macro_f1"], **({"threshold": threshold} if scheme.several else {})}

        return evaluate

    def fit_temperature(self, dev: Sequence[Document]) -> float:
        scheme = self.network.scheme
        logits, truth = self._logits(dev, self.extras(self.link(dev)), False), scheme.truth(dev)
        if scheme.several:
            return fit_temperature(binary_loss(1 / (1 + np.exp(-logits.ravel())), truth.ravel() > 0))
        return fit_temperature(negative_log_likelihood(logits, truth.argmax(axis=1)))

    def explain(self, item: str | Document) -> "list[LabelExplanation]":
        """For each label, how its probability changes without each linked concept, and without the graph."""
        document = self.item("", item) if isinstance(item, str) else item
        (linked,) = self.link([document])
        (full,) = self._logits([document], self.extras([linked]), False)
        (bare,) = self._logits([document], [], False)
        without: dict[Concept, Array] = {}
        for mention in linked.mentions if self.table is not None else ():
            kept = tuple(m for m in linked.mentions if m is not mention)
            (row,) = self._logits([document], self.extras([replace(linked, mentions=kept)]), False)
            without[Concept(mention.concept_id or "NIL", document.text[mention.start : mention.end])] = row
        found = []
        for label in self._labels(full):
            effects = [self._effect(label, concept, row) for concept, row in without.items()]
            chance = label.score or 0.0
            effects.sort(key=lambda effect: (-abs(effect.probability - chance), effect.what))
            found.append(LabelExplanation(label.name, chance, self._effect(label, None, bare), tuple(effects)))
        return found

    def _labels(self, logits: Array) -> tuple[Label, ...]:
        return labels_of(self.network.scheme, logits, self.settings.temperature, self.settings.threshold)

    def _effect(self, label: Label, taken: Concept | None, logits: Array) -> Effect:
        names = [other.name for other in self._labels(logits)]
        now = label.name if label.name in names else ("" if self.network.scheme.several else names[0])
        return Effect(taken, self._chance(logits, label.name), now)

    def _chance(self, logits: Array, name: str) -> float:
        scheme = LabelScheme(self.settings.types, True) if self.network.scheme.several else self.network.scheme
        scaled = logits / self.settings.temperature
        n = scheme.labels.index(name)
        if scheme.several:
            return float(1 / (1 + np.exp(-scaled[n])))
        return float(np.exp(scaled[n] - scaled.max()) / np.exp(scaled - scaled.max()).sum())

    def _logits(self, documents: Sequence[Document], extras: Sequence[Extra], progress: bool) -> Array:
        s = self.settings
        made = windows([d.text for d in documents], self.encoder, s.max_pieces, s.stride)
        scores = score_windows(self.network, made, self.encoder, *extras, *self.cached(made), progress=progress)
        return document_logits(made, scores, len(documents))


@dataclass(frozen=True)
class LabelExplanation(Explained):
    """A label; an effect's `type` is what it becomes without the thing, empty if it is no longer given.

    What is taken away is each linked mention, under the name that the text gives its concept.
    """

    label: str
    probability: float
    without_graph: Effect
    effects: tuple[Effect, ...]

    @property
    def title(self) -> str:
        return self.label

    def turned(self, effect: Effect) -> str:
        if effect.type == self.label:
            return ""
        return f"no longer {self.label}" + (f" but {effect.type}" if effect.type else "")


def _counted(documents: Sequence[Document]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for document in documents:
        for label in document.labels:
            counts[label.name] = counts.get(label.name, 0) + 1
    return counts
