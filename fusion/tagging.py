"""Fused named-entity recognition: typed, linked mentions."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from fusion.corpora import Corpus
from fusion.knowledge import KnowledgeTable
from fusion.model import DocumentModel, Extra, ModelSettings, TrainingData, fused_encoder
from kg import Linker
from kg.assertion import mark_assertions
from lm.alignment import collate, windows
from lm.calibration import fit_temperature
from lm.encoder import Encoder
from lm.evaluation import Scores, evaluate_mentions
from lm.spans import SpanScheme
from lm.tagging import Scheme, Tagger, TagScheme, predictor, tag_documents, tag_loss
from lm.tallies import Tally, set_tally
from loaders.errors import MedgraftError
from loaders.records import Document, Mention

if TYPE_CHECKING:
    from fusion.explanation import Explanation


WITHOUT_GRAPH = "f1 without the graph"
HEADS = ("span", "bio")
"""Spans that may nest and overlap, or flat tags of words; the first is the default."""

THRESHOLDS = tuple(n / 20 for n in range(2, 15))
"""0.1 to 0.7: those that are tried."""


class TaggingModel(DocumentModel):
    """Finds mentions: `network` is a `Tagger`."""

    network: Tagger

    @classmethod
    def make(
        cls, encoder: Encoder, settings: ModelSettings, table: KnowledgeTable | None, linker: Linker | None
    ) -> "TaggingModel":
        """An untrained model: fused if there is a table, plain otherwise."""
        fused = fused_encoder(encoder, settings, table)
        tagger = Tagger(fused, _scheme(settings), hidden_size=encoder.hidden_size, seed=settings.seed)
        return cls(tagger, encoder, settings, table, linker)

    @classmethod
    def settings_of(cls, corpus: Corpus) -> dict[str, Any]:
        """What the training documents decide: the types of their mentions, and whether these overlap."""
        if not corpus.types:
            raise MedgraftError(f"corpus {corpus.name} has no mention in its training documents; check its format")
        return {"types": corpus.types, "overlapping": any(map(_overlap, corpus.train))}

    def annotate(
        self, items: Sequence[Document], linked: Sequence[Document], *, with_graph: bool, progress: bool
    ) -> Iterator[Document]:
        s = self.settings
        found = self._predictor(items, self.extras(linked) if with_graph else [], progress)(s.temperature, s.threshold)
        for document in map(self._with_concepts, found, linked):
            yield replace(document, mentions=mark_assertions(document.text, document.mentions))

    def score(self, gold: Sequence[Document], predicted: Sequence[Document]) -> Scores:
        """Strict span precision, recall and F1."""
        return evaluate_mentions(gold, predicted)

    def tally(self, gold: Sequence[Document], predicted: Sequence[Document]) -> Tally:
        return set_tally(
            *([{(m.start, m.end, m.type) for m in d.mentions} for d in side] for side in (gold, predicted))
        )

    def judged(self, gold: Sequence[Document], predicted: Sequence[Document]) -> list[tuple[float, bool]]:
        return [
            (m.score or 0.0, (m.start, m.end, m.type) in {(g.start, g.end, g.type) for g in document.mentions})
            for document, found in zip(gold, predicted, strict=True)
            for m in found.mentions
        ]

    def training_data(self, items: Sequence[Document]) -> TrainingData:
        s = self.settings
        made = windows([d.text for d in items], self.encoder, s.max_pieces, s.stride)
        labels, counts = tag_documents(items, made, self.network.scheme)
        extras = [labels, *self.extras(self.link(items), items), *self.cached(made)]
        return TrainingData(made, lambda group: collate(group, self.encoder, *extras), {"mentions": asdict(counts)})

    @property
    def chosen_by(self) -> tuple[str, ...]:
        """With few labels a fused tagger is soon good with its graph, and some epochs later without it too."""
        return ("f1",) if self.table is None else ("f1", WITHOUT_GRAPH)

    def scorer(self, dev: Sequence[Document]) -> Callable[[], Mapping[str, float]]:
        """The scores at the threshold that is best for them; see `best_threshold`."""
        extras = self.extras(self.link(dev))

        def evaluate() -> Mapping[str, float]:
            readings = {"f1": self._predictor(dev, extras, False)}
            if self.table is not None:
                readings[WITHOUT_GRAPH] = self._predictor(dev, [], False)
            threshold = best_threshold(dev, list(readings.values()))
            scores = {name: evaluate_mentions(dev, found(1.0, threshold)) for name, found in readings.items()}
            each = {name: score.f1 for name, score in scores.items()}
            return each | {"precision": scores["f1"].precision, "recall": scores["f1"].recall, "threshold": threshold}

        return evaluate

    def fit_temperature(self, dev: Sequence[Document]) -> float:
        """On the labels of the words."""
        s = self.settings
        made = windows([d.text for d in dev], self.encoder, s.max_pieces, s.stride)
        extras = [*self.extras(self.link(dev)), *self.cached(made)]
        sizes = {"max_pieces": s.max_pieces, "stride": s.stride}
        return fit_temperature(tag_loss(self.network, dev, self.encoder, *extras, **sizes))

    def explain(self, item: str | Document) -> "list[Explanation]":
        """For each predicted mention, the effect of taking away each concept and each fact; see `explanation`."""
        from fusion.explanation import explain

        return explain(self, item)

    def _predictor(
        self, documents: Sequence[Document], extras: Sequence[Extra], progress: bool
    ) -> Callable[[float, float], list[Document]]:
        """Their mentions at a temperature and a threshold."""
        s = self.settings
        cached = (
            []
            if self.frozen_states is None
            else self.cached(windows([d.text for d in documents], self.encoder, s.max_pieces, s.stride))
        )
        return predictor(
            self.network,
            documents,
            self.encoder,
            *extras,
            *cached,
            max_pieces=s.max_pieces,
            stride=s.stride,
            precision=self.precision,
            progress=progress,
        )

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


def best_threshold(dev: Sequence[Document], readings: Sequence[Callable[[float, float], list[Document]]]) -> float:
    """The probability above which calling a mention gives the best mean F1 of these readings; 0.5 among equals.

    That for the best F1 is below one half as long as the F1 is below 1 (Lipton et al., 2014): with few labels a model
    is unsure of most mentions.
    """

    def quality(threshold: float) -> tuple[float, float]:
        found = [evaluate_mentions(dev, reading(1.0, threshold)).f1 for reading in readings]
        return sum(found) / len(found), -abs(threshold - 0.5)

    return max(THRESHOLDS, key=quality)


def _scheme(settings: ModelSettings) -> Scheme:
    if settings.head == "span":
        return SpanScheme(settings.types, longest=settings.longest_mention, overlapping=settings.overlapping)
    return TagScheme(settings.types)


def _overlap(document: Document) -> bool:
    """Whether two mentions of the document share characters."""
    spans = sorted((m.start, m.end) for m in document.mentions)
    return any(left[1] > right[0] for left, right in pairwise(spans))
