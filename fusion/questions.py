"""Fused question answering: a label, one of several options, or the answer's place in the context.

Question and context share one set of mentions, so knowledge attention lets each hear what the graph knows of the other;
and the facts that the graph states between a concept of the question (or of an option) and one of the context are
attended to where they apply: by the window as a whole, and for spans by the pieces of the context's mention.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from fusion.facts import PairFact, PairFacts, codes_tensor
from fusion.knowledge import KnowledgeTable
from fusion.model import Extra, FusedModel, ModelSettings, TrainingData, fused_encoder
from fusion.question_corpora import QuestionCorpus
from kg import Linker
from lm.alignment import Window, collate
from lm.answer_scores import AnswerScores, answer_tally, correct, evaluate_answers
from lm.answers import ALWAYS, Votes, answer_of, best_answer_threshold, span_loss, votes_of
from lm.calibration import fit_temperature, negative_log_likelihood
from lm.encoder import Encoder
from lm.questions import (
    QuestionNetwork,
    QuestionScheme,
    QuestionWindows,
    answers_extra,
    question_windows,
    score_windows,
    training_passages,
)
from lm.relations import Passage
from lm.tallies import Tally
from loaders.errors import MedgraftError
from loaders.records import Document, Mention, Question

if TYPE_CHECKING:
    from fusion.question_explanation import QuestionExplanation

_CANDIDATES = 2  # of a mention, whose facts are looked up
_FACTS = 12  # of a window, or of a piece

Placed = list[tuple[int, list[PairFact]]]
"""Pieces of a window with the facts that are attended to there; piece 0 stands for the whole window."""


@dataclass(frozen=True)
class Prepared:
    """Questions as the network wants them; `placed` gives the facts of a window."""

    read: QuestionWindows
    placed: Callable[[Window], Placed]
    extras: list[Extra]


class QuestionModel(FusedModel[Question]):
    """Answers questions: `network` is a `QuestionNetwork`."""

    network: QuestionNetwork

    @classmethod
    def make(
        cls, encoder: Encoder, settings: ModelSettings, table: KnowledgeTable | None, linker: Linker | None
    ) -> "QuestionModel":
        """An untrained model: fused if there is a table, plain otherwise."""
        facts = None
        if table is not None and table.facts is not None:
            facts = PairFacts(encoder.hidden_size, table.facts.num_codes, seed=settings.seed)
        network = QuestionNetwork(
            fused_encoder(encoder, settings, table),
            QuestionScheme(settings.kind, settings.types),
            hidden_size=encoder.hidden_size,
            facts=facts,
            seed=settings.seed,
        )
        return cls(network, encoder, settings, table, linker)

    @classmethod
    def settings_of(cls, corpus: QuestionCorpus) -> dict[str, Any]:
        """What the training questions decide: their kind, the labels, whether all have an answer.

        Raises:
            MedgraftError: a question of the training or development part cannot be used; see `QuestionScheme`.
        """
        scheme = QuestionScheme.of(corpus.train)
        scheme.check(corpus.dev)
        threshold = ALWAYS if all(q.answer != "" for q in corpus.train) else 0.0
        return {"types": scheme.labels, "kind": scheme.kind, "threshold": threshold}

    def answer(self, question: str, context: str = "", options: Sequence[str] = ()) -> Question:
        """The question with its answer and the probability of it; for spans with the answer's place in the context."""
        return self(Question("", question, context, tuple(options)))

    def item(self, id: str, text: str) -> Question:
        raise MedgraftError(
            f"a question needs its context, but only the text {text[:40]!r} was given; use model.answer(question, "
            "context), or files of questions"
        )

    def link(self, items: Sequence[Question]) -> list[Document]:
        """A document for each text that is read, of question (and option), line break, and context.

        The parts are linked by themselves, each distinct one once, so that no mention runs from one into the next.
        """
        parts = [part for question in items for part in self._parts(question)]
        if self.linker is None:
            return [Document("", "\n".join(part)) for part in parts]
        distinct = list(dict.fromkeys(text for part in parts for text in part))
        found = dict(zip(distinct, (linked.mentions for linked in self.linker.pipe(distinct)), strict=True))
        documents = []
        for part in parts:
            mentions: list[Mention] = []
            start = 0
            for text in part:
                mentions += (replace(m, start=m.start + start, end=m.end + start, parts=()) for m in found[text])
                start += len(text) + 1
            documents.append(Document("", "\n".join(part), tuple(mentions)))
        return documents

    def annotate(
        self, items: Sequence[Question], linked: Sequence[Document], *, with_graph: bool, progress: bool
    ) -> Iterator[Question]:
        """The questions with their answers.

        Raises:
            MedgraftError: a question of another kind than the training's, or without context.
        """
        votes = self.votes(items, linked if with_graph else None, progress=progress)
        s = self.settings
        for question, some in zip(items, votes, strict=True):
            yield answer_of(self.network.scheme, question, some, temperature=s.temperature, threshold=s.threshold)

    def votes(
        self, questions: Sequence[Question], linked: Sequence[Document] | None, *, progress: bool = False
    ) -> list[Votes]:
        """What the windows of each question say of its answer; without `linked`, that is what `link` gives, no graph.

        The questions' own answers are not looked at.
        """
        bare = [replace(q, answer=None, spans=()) for q in questions]
        return self._votes(self.prepare(bare, linked), progress)

    def score(self, gold: Sequence[Question], predicted: Sequence[Question]) -> AnswerScores:
        """Accuracy and macro F1 of labels, accuracy of choices, exact match and token F1 of spans."""
        self.network.scheme.check(gold)
        return evaluate_answers(gold, predicted)

    def tally(self, gold: Sequence[Question], predicted: Sequence[Question]) -> Tally:
        self.network.scheme.check(gold)
        return answer_tally(gold, predicted)

    def judged(self, gold: Sequence[Question], predicted: Sequence[Question]) -> list[tuple[float, bool]]:
        return [(p.score or 0.0, correct(q, p)) for q, p in zip(gold, predicted, strict=True)]

    def training_data(self, items: Sequence[Question]) -> TrainingData:
        everything = replace(self, settings=replace(self.settings, max_windows=None))
        prepared = everything.prepare(items, self.link(items))
        examples = training_passages(items, prepared.read, self.network.scheme)
        made = [window for passage in examples for window in passage.windows]
        extras = [*prepared.extras, *self.cached(made)]

        def batch(group: Sequence[Passage]) -> dict[str, Tensor]:
            return collate([w for passage in group for w in passage.windows], self.encoder, *extras)

        notes = {"questions": len(items), "windows": len(made)}
        if self.table is not None and self.table.facts is not None:
            notes["windows with a fact between the sides"] = sum(bool(prepared.placed(window)) for window in made)
        return TrainingData(examples, batch, {"questions": notes})

    def scorer(self, dev: Sequence[Question]) -> Callable[[], Mapping[str, float]]:
        """The scores; for spans at the threshold that is best for token F1."""
        prepared = self.prepare(dev, self.link(dev))
        scheme = self.network.scheme

        def evaluate() -> Mapping[str, float]:
            votes = self._votes(prepared, False)
            chosen = {"threshold": best_answer_threshold(dev, votes)} if scheme.kind == "span" else {}
            found = [answer_of(scheme, q, some, **chosen) for q, some in zip(dev, votes, strict=True)]
            scores = evaluate_answers(dev, found)
            return {"f1": scores.f1, **scores.measures, **chosen}

        return evaluate

    def at_temperature(self, temperature: float) -> ModelSettings:
        """The threshold is one of logits, before the temperature."""
        return replace(self.settings, temperature=temperature)

    def fit_temperature(self, dev: Sequence[Question]) -> float:
        votes = self._votes(self.prepare(dev, self.link(dev)), False)
        scheme = self.network.scheme
        if scheme.kind == "span":
            return fit_temperature(span_loss(dev, votes))
        losses = []
        for question, some in zip(dev, votes, strict=True):
            names = scheme.labels if scheme.kind == "label" else question.options
            label = np.array([names.index(question.answer or "")])
            losses.append(negative_log_likelihood(some.logits[None], label))
        return fit_temperature(lambda temperature: float(np.mean([loss(temperature) for loss in losses])))

    def stated(self, questions: Sequence[Question]) -> float:
        """The share of the questions with a fact of the graph between their two sides."""
        prepared = self.prepare(questions, self.link(questions))
        found = [any(prepared.placed(w) for w in passage.windows) for passage in prepared.read.passages]
        return sum(found) / max(len(found), 1)

    def explain(self, item: str | Question) -> "list[QuestionExplanation]":
        """For the answer, the effect of taking away each concept and each fact."""
        from fusion.question_explanation import explain

        return explain(self, self.item("", item) if isinstance(item, str) else item)

    def prepare(self, questions: Sequence[Question], linked: Sequence[Document] | None) -> Prepared:
        """What the network needs of the questions; without `linked` no knowledge."""
        s = self.settings
        read = question_windows(questions, self.network.scheme, self.encoder, s.max_pieces, s.stride, s.max_windows)
        extras = [answers_extra(questions, read, self.network.scheme)]
        if linked is None or self.table is None:
            recalled = [] if linked is None else self.extras(linked)
            return Prepared(read, lambda _window: [], [*extras, *recalled])
        sides = [self._side(question, number) for question in questions for number in range(len(self._parts(question)))]
        placed = _Placing(self, self.table, linked, sides)
        return Prepared(read, placed, [*extras, *self.extras(linked), lambda group: fact_tensors(group, placed)])

    def _parts(self, question: Question) -> list[tuple[str, ...]]:
        """The texts of each reading, which are joined by line breaks."""
        if self.network.scheme.kind == "choice":
            return [(question.text, option, question.context) for option in question.options]
        return [(question.text, question.context)]

    def _side(self, question: Question, number: int) -> tuple[int, int]:
        """Characters of a reading that are asked about: its option, or else the question. The rest may answer."""
        if self.network.scheme.kind != "choice":
            return 0, len(question.text)
        start = len(question.text) + 1
        return start, start + len(question.options[number])

    def _votes(self, prepared: Prepared, progress: bool) -> list[Votes]:
        made = _windows(prepared.read)
        extras = [*prepared.extras, *self.cached(made)]
        scores = score_windows(self.network, made, self.encoder, *extras, progress=progress)
        votes, start = [], 0
        for number, passage in enumerate(prepared.read.passages):
            end = start + len(passage.windows)
            votes.append(votes_of(self.network.scheme, prepared.read, number, scores[start:end]))
            start = end
        return votes


class _Placing:
    """The facts between the asked side and the rest of each reading, by window."""

    def __init__(
        self, model: QuestionModel, table: KnowledgeTable, linked: Sequence[Document], sides: Sequence[tuple[int, int]]
    ) -> None:
        self.whole = model.network.scheme.kind != "span"
        self.table, self.linked, self.sides = table, linked, sides
        self.threshold = model.settings.link_threshold
        self._facts: dict[int, list[tuple[int, int, list[PairFact]]]] = {}

    def __call__(self, window: Window) -> Placed:
        """In the order of the pieces; facts between the two concepts themselves before those with a near one."""
        found: dict[int, dict[PairFact, None]] = {}
        for start, end, facts in self._of(window.document):
            first, last = window.pieces_of(start, end)
            for piece in [0] if self.whole and first < last else range(first, last):
                found.setdefault(piece, {}).update(dict.fromkeys(facts))
        return [(piece, sorted(found[piece], key=_order)[:_FACTS]) for piece in sorted(found)]

    def _of(self, reading: int) -> list[tuple[int, int, list[PairFact]]]:
        """Characters and facts of each mention on the answering side."""
        if reading not in self._facts:
            start, end = self.sides[reading]
            mentions = [(m, self._rows(m)) for m in self.linked[reading].mentions]
            asked = list(dict.fromkeys(r for m, rows in mentions if start <= m.start < end for r in rows))
            others = [(m, rows) for m, rows in mentions if not start <= m.start < end and rows]
            facts: dict[tuple[int, ...], list[PairFact]] = {}
            for _, rows in others:
                if rows not in facts and self.table.facts is not None and asked:
                    facts[rows] = self.table.facts.between(asked, rows, _FACTS)
            self._facts[reading] = [(m.start, m.end, facts[rows]) for m, rows in others if facts.get(rows)]
        return self._facts[reading]

    def _rows(self, mention: Mention) -> tuple[int, ...]:
        sure = [c.concept_id for c in mention.candidates if c.score >= self.threshold][:_CANDIDATES]
        return tuple(self.table.id_to_row[id] for id in sure if id in self.table.id_to_row)


def fact_tensors(group: Sequence[Window], placed: Callable[[Window], Placed]) -> dict[str, Tensor]:
    """What a batch needs of the facts: their codes by window, or by piece with `questions.places`."""
    found = [placed(window) for window in group]
    if not any(found):
        return {}
    pieces = [(row, piece, facts) for row, some in enumerate(found) for piece, facts in some]
    if all(piece == 0 for _, piece, _ in pieces):
        by_row = {row: facts for row, _, facts in pieces}
        return codes_tensor([by_row.get(row, []) for row in range(len(group))])
    longest = max(map(len, group))
    places = torch.tensor([row * longest + piece for row, piece, _ in pieces])
    return codes_tensor([facts for _, _, facts in pieces]) | {"questions.places": places}


def _order(fact: PairFact) -> tuple[int, int, int, int]:
    return fact.code, fact.head, fact.relation, fact.tail


def _windows(read: QuestionWindows) -> list[Window]:
    return [window for passage in read.passages for window in passage.windows]
