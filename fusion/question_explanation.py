"""Which concept and which fact changed an answer: each is taken away, and the layers above are run again."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fusion.attention import Knowledge
from fusion.explanation import Effect, Explained, each_taken_away
from fusion.facts import fact_places, places_of, without_facts
from fusion.knowledge import KnowledgeTable
from fusion.questions import Prepared
from fusion.recall import Recalled
from fusion.robustness import without_knowledge
from lm.alignment import Window, collate
from lm.answers import answer_of, probability_of, votes_of
from lm.encoder import Array, BlockState
from lm.questions import without_answers
from loaders.errors import MedgraftError
from loaders.records import Concept, Question, Triple

if TYPE_CHECKING:
    from fusion.questions import QuestionModel

Batch = dict[str, Tensor]
Thing = Concept | Triple | None


@dataclass(frozen=True)
class QuestionExplanation(Explained):
    """An answer; an effect's `type` is the answer without the thing."""

    question: Question
    probability: float
    without_graph: Effect
    effects: tuple[Effect, ...]

    @property
    def title(self) -> str:
        return f"{self.question.text!r}: {self.question.answer or 'no answer'}"

    def turned(self, effect: Effect) -> str:
        answer = self.question.answer or ""
        same = effect.type == answer
        return "" if same else f"no longer {answer or 'no answer'} but {effect.type or 'no answer'}"


@torch.inference_mode()
def explain(model: "QuestionModel", question: Question, *, batch_size: int = 16) -> list[QuestionExplanation]:
    """The explanation of the model's answer. Of a long context only the windows that a thing occurs in run again.

    Raises:
        MedgraftError: the model is plain, so there is nothing to take away, or the question has no context.
    """
    if model.table is None:
        raise MedgraftError("a plain model has no knowledge to explain; train with --graph and --embeddings")
    prepared = model.prepare([question], model.link([question]))
    windows = prepared.read.passages[0].windows
    before: list[Array] = []
    bare: list[Array] = []
    changed: dict[Thing, dict[int, Array]] = {}
    for number, window in enumerate(windows):
        for thing, scores in _versions(model, model.table, prepared, window, batch_size):
            if thing == "all":
                before.append(scores)
            elif thing is None:
                bare.append(scores)
            elif not isinstance(thing, str):
                changed.setdefault(thing, {})[number] = scores
    answered = _answer(model, question, prepared, before)
    probability = _probability(model, answered, prepared, before)
    effects = []
    for thing, parts in changed.items():
        scores_now = [parts.get(number, scores) for number, scores in enumerate(before)]
        effects.append(_effect(model, answered, prepared, thing, scores_now))
    effects.sort(key=lambda effect: (-abs(effect.probability - probability), effect.what))
    without = _effect(model, answered, prepared, None, bare)
    return [QuestionExplanation(answered, probability, without, tuple(effects))]


def _versions(
    model: "QuestionModel", table: KnowledgeTable, prepared: Prepared, window: Window, batch_size: int
) -> Iterator[tuple[Thing | str, Array]]:
    """The window's scores with everything ("all"), without the graph (None), and without each thing."""
    fused = model.fused_encoder
    assert fused is not None, "a model with a table is fused"
    batch = without_answers(collate([window], model.encoder, *prepared.extras))
    batch = {name: tensor.to(model.encoder.device) for name, tensor in batch.items()}
    knowledge, recalled = Knowledge.of(batch), Recalled.of(batch)
    state = model.encoder.lower(batch, fused.after_block)
    full = fused.graft(state.hidden, knowledge, recalled)
    todo: list[tuple[Thing | str, Tensor, Batch]] = [
        ("all", full, batch),
        (None, state.hidden, without_knowledge(batch)),
    ]
    facts = [some for _, some in prepared.placed(window)]
    places = fact_places(batch, facts, table.ids, table.names, table.relation_names)
    left = dict(places)
    if knowledge is not None:
        for thing, rest in each_taken_away(knowledge, table):
            changed = without_facts(batch, places_of(thing, places))
            todo.append((thing, fused.graft(state.hidden, rest, recalled), changed))
            if isinstance(thing, Triple):
                left.pop(thing, None)
            if len(todo) >= batch_size:
                yield from _run(model, state, todo)
                todo = []
    todo += [(fact, full, without_facts(batch, [there])) for fact, there in left.items()]
    for start in range(0, len(todo), batch_size):
        yield from _run(model, state, todo[start : start + batch_size])


def _run(
    model: "QuestionModel", state: BlockState, todo: list[tuple[Thing | str, Tensor, Batch]]
) -> Iterator[tuple[Thing | str, Array]]:
    hidden = model.upper(state, torch.cat([below for _, below, _ in todo]))
    for row, (thing, _, batch) in enumerate(todo):
        yield thing, model.network.head(hidden[row : row + 1], batch).scores[0].cpu().numpy()


def _answer(model: "QuestionModel", question: Question, prepared: Prepared, scores: list[Array]) -> Question:
    s, scheme = model.settings, model.network.scheme
    votes = votes_of(scheme, prepared.read, 0, scores)
    return answer_of(scheme, question, votes, temperature=s.temperature, threshold=s.threshold)


def _probability(model: "QuestionModel", answered: Question, prepared: Prepared, scores: list[Array]) -> float:
    scheme = model.network.scheme
    return probability_of(scheme, answered, votes_of(scheme, prepared.read, 0, scores), model.settings.temperature)


def _effect(
    model: "QuestionModel", answered: Question, prepared: Prepared, thing: Thing, scores: list[Array]
) -> Effect:
    now = _answer(model, answered, prepared, scores).answer or ""
    return Effect(thing, _probability(model, answered, prepared, scores), now)
