"""Questions over a context: what is read for each, and a network that labels, chooses, or marks the answer.

Every question is read together with its context, in as many windows as that takes, each with the whole question before
it. Of a question with options one text is read for each option.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from lm.alignment import Window, collate, paired_windows, words_of
from lm.encoder import Array, Encoder
from lm.relations import Passage
from lm.training import isolated_seed
from loaders.errors import MedgraftError
from loaders.records import Question

KINDS = ("label", "choice", "span")
NEGATIVES = 2  # windows without the answer that training keeps of a question, the likeliest ones
_PREFIX = "questions."
_IGNORED = -100

Extra = Callable[[Sequence[Window]], dict[str, Tensor]]


@dataclass(frozen=True)
class QuestionScheme:
    """How questions are answered: with one of `labels`, by a `choice` of their options, or with a `span` of context."""

    kind: str
    labels: tuple[str, ...] = ()

    @classmethod
    def of(cls, questions: Sequence[Question]) -> "QuestionScheme":
        """The scheme of annotated questions, which are all of one kind.

        Raises:
            MedgraftError: there are none, they are of several kinds, or one has no answer or no context.
        """
        if not questions:
            raise MedgraftError("no questions to train on; check the corpus")
        unknown = next((q.id for q in questions if q.answer is None and not q.spans), None)
        if unknown is not None:
            raise MedgraftError(f"question {unknown!r} has no answer to train on; annotate it or leave it out")
        kinds = {_kind(q) for q in questions}
        # No answer in the context is an answer of the kind `span` only.
        kind = next(iter(kinds - {"none"})) if len(kinds - {"none"}) == 1 else ""
        if not kind or (kinds > {kind} and kind != "span"):
            raise MedgraftError(
                f"the questions are of several kinds, or none has an answer ({', '.join(sorted(kinds))}); train on "
                "labels, on options or on spans alone"
            )
        labels = sorted({q.answer for q in questions if q.answer}) if kind == "label" else ()
        scheme = cls(kind, tuple(labels))
        scheme.check(questions)
        return scheme

    def check(self, questions: Iterable[Question]) -> None:
        """Raise a MedgraftError that names the first question which cannot be read or scored under this scheme."""
        for q in questions:
            if (self.kind == "choice") != bool(q.options):
                wanted = "options" if self.kind == "choice" else "a context without options"
                raise MedgraftError(f"question {q.id!r} is of another kind; the model wants {wanted}")
            if self.kind != "choice" and not q.context.strip():
                raise MedgraftError(f"question {q.id!r} has no context; give the text that is to answer it")
            outside = [span for span in q.spans if not 0 <= span[0] < span[1] <= len(q.context)]
            if outside:
                raise MedgraftError(
                    f"question {q.id!r} has an answer at {outside[0]}, outside its context of {len(q.context)} "
                    "characters; correct the span"
                )
            if self.kind == "label" and q.answer is not None and q.answer not in self.labels:
                raise MedgraftError(
                    f"question {q.id!r} has the answer {q.answer!r}, which training did not know "
                    f"({', '.join(self.labels)}); train with it or correct it"
                )
            if self.kind == "choice" and q.answer is not None and q.answer not in q.options:
                raise MedgraftError(f"question {q.id!r} has the answer {q.answer!r}, which is none of its options")

    def readings(self, question: Question) -> list[tuple[str, str]]:
        """The pairs of texts that are read for a question: it, with an option if it has any, and its context."""
        if self.kind != "choice":
            return [(question.text, question.context)]
        return [(f"{question.text}\n{option}", question.context) for option in question.options]


def _kind(question: Question) -> str:
    if question.options:
        return "choice"
    return "span" if question.spans else ("label" if question.answer else "none")


@dataclass(frozen=True)
class QuestionWindows:
    """Questions as windows. R readings, numbered through the questions; a window's `document` is its reading.

    `passages` are the windows of each question; `first` and `count` say which readings are a question's.
    """

    passages: list[Passage]
    texts: list[tuple[str, str]]
    first: list[int]
    count: list[int]

    def question_of(self, reading: int) -> int:
        return int(np.searchsorted(self.first, reading, side="right")) - 1


def question_windows(
    questions: Sequence[Question],
    scheme: QuestionScheme,
    encoder: Encoder,
    max_pieces: int,
    stride: int,
    max_windows: int | None = None,
) -> QuestionWindows:
    """The questions as windows; of each reading all, or the `max_windows` that share most with the question.

    Raises:
        MedgraftError: a question is of another kind, without context, or too long to leave room for the context.
    """
    scheme.check(questions)
    readings = [scheme.readings(question) for question in questions]
    count = [len(some) for some in readings]
    first = [0, *np.cumsum(count).tolist()][: len(count)]
    texts = [pair for some in readings for pair in some]
    by_reading: list[list[Window]] = [[] for _ in texts]
    for window in paired_windows([a for a, _ in texts], [b for _, b in texts], encoder, max_pieces, stride):
        by_reading[window.document].append(window)
    if max_windows is not None:
        for number, (pair, made) in enumerate(zip(texts, by_reading, strict=True)):
            kept = sorted(likeliest(pair, made)[:max_windows])
            by_reading[number] = [made[n] for n in kept]
    passages = [
        Passage(tuple(window for made in by_reading[start : start + n] for window in made))
        for start, n in zip(first, count, strict=True)
    ]
    return QuestionWindows(passages, texts, first, count)


def likeliest(pair: tuple[str, str], made: Sequence[Window]) -> list[int]:
    """The windows of a reading by how many rare words they share with the question, most first.

    A word counts log(1 + N / n) when it stands in n of the N windows (inverse document frequency).
    """
    text, border = "\n".join(pair).lower(), len(pair[0])
    asked: set[str] = set()
    held: list[set[str]] = []
    for window in made:
        spans = window.word_spans[np.unique(window.words[window.words >= 0])]
        asked |= {text[i:j] for i, j in spans if j <= border}
        held.append({text[i:j] for i, j in spans if i > border})
    there = np.array([[word in words for word in sorted(asked)] for words in held], dtype=float).reshape(len(made), -1)
    weight = np.log1p(len(made) / np.maximum(there.sum(axis=0), 1))
    return [int(n) for n in np.argsort(-(there @ weight), kind="stable")]


def training_passages(questions: Sequence[Question], read: QuestionWindows, scheme: QuestionScheme) -> list[Passage]:
    """What a step of training is made of: the windows of a question together; for spans each window by itself.

    Of the windows without the answer only the `NEGATIVES` likeliest of a question are kept, else they would drown it.
    """
    if scheme.kind != "span":
        return read.passages
    kept = []
    for number, passage in enumerate(read.passages):
        holds = [_target(questions[number], read, window) != (0, 0) for window in passage.windows]
        order = likeliest(read.texts[number], passage.windows)
        others = [n for n in order if not holds[n]][:NEGATIVES]
        kept += [Passage((window,)) for n, window in enumerate(passage.windows) if holds[n] or n in others]
    return kept


def answers_extra(questions: Sequence[Question], read: QuestionWindows, scheme: QuestionScheme) -> Extra:
    """An extra for `collate`: which window belongs to which reading and question, and the answers where known."""

    def extra(group: Sequence[Window]) -> dict[str, Tensor]:
        if scheme.kind == "span":
            return _span_tensors(group, questions, read)
        readings = list(dict.fromkeys(window.document for window in group))
        numbers = [read.question_of(reading) for reading in readings]
        asked = list(dict.fromkeys(numbers))
        tensors = {
            "reading": [readings.index(window.document) for window in group],
            "question": [asked.index(number) for number in numbers],
            "slot": [reading - read.first[number] for reading, number in zip(readings, numbers, strict=True)],
            "labels": [_label(questions[number], scheme) for number in asked],
        }
        return {f"{_PREFIX}{name}": torch.tensor(values, dtype=torch.long) for name, values in tensors.items()}

    return extra


@dataclass(slots=True)
class QuestionOutput:
    """`loss` is the mean over `count` questions, or windows for spans; `scores` is (B, L), (B, 1) or (B, T, 2)."""

    loss: Tensor | None
    scores: Tensor
    count: Tensor | None = None


class AnswerScorer(nn.Module):
    """Output layer: v = gelu(W [h_0; mean_t h_t]) of a window for labels and options, h_t of each piece for spans.

    The weights come from a generator of their own.
    """

    def __init__(self, hidden_size: int, scheme: QuestionScheme, dropout: float = 0.1, seed: int = 0) -> None:
        super().__init__()
        outputs = {"label": len(scheme.labels), "choice": 1, "span": 2}[scheme.kind]
        with isolated_seed(seed):
            self.pool = None if scheme.kind == "span" else nn.Linear(2 * hidden_size, hidden_size)
            self.linear = nn.Linear(hidden_size, outputs)
        self.dropout = nn.Dropout(dropout)

    def vectors(self, hidden: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Hidden states (B, T, d) to what is scored: (B, d) of windows, for spans (B, T, d) as they are."""
        if self.pool is None:
            return hidden
        there = batch["attention_mask"].to(hidden.dtype)
        mean = torch.einsum("bt,btd->bd", there / there.sum(dim=1, keepdim=True), hidden)
        return F.gelu(self.pool(self.dropout(torch.cat([hidden[:, 0], mean], dim=1))))

    def forward(self, vectors: Tensor) -> Tensor:
        scores: Tensor = self.linear(self.dropout(vectors))
        return scores


class QuestionNetwork(nn.Module):
    """An encoder (any module that maps a batch to hidden states (B, T, d)) under an `AnswerScorer`.

    `facts` may change the vectors before they are scored: (P, d) and the batch to (P, d). For spans these are the
    pieces (P,) of the flattened batch that `questions.places` names.
    """

    def __init__(
        self,
        encoder: nn.Module,
        scheme: QuestionScheme,
        *,
        hidden_size: int,
        facts: nn.Module | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.scheme = scheme
        self.output = AnswerScorer(hidden_size, scheme, seed=seed)
        self.facts = facts

    def forward(self, batch: dict[str, Tensor]) -> QuestionOutput:
        """Scores of the windows, and the loss where the batch has answers."""
        return self.head(self.encoder(batch), batch)

    def head(self, hidden: Tensor, batch: dict[str, Tensor]) -> QuestionOutput:
        """What follows the encoder's hidden states (B, T, d)."""
        scores = self.output(self._with_facts(self.output.vectors(hidden, batch), batch)).float()
        if self.scheme.kind == "span":
            return self._span_loss(scores, batch)
        if f"{_PREFIX}labels" not in batch:
            return QuestionOutput(None, scores)
        logits, labels = self._votes(scores, batch), batch[f"{_PREFIX}labels"]
        count = (labels != _IGNORED).sum()
        total = F.cross_entropy(logits, labels, ignore_index=_IGNORED, reduction="sum")
        return QuestionOutput(total / count.clamp(min=1), scores, count)

    def decisions(self, output: QuestionOutput, batch: dict[str, Tensor]) -> tuple[Tensor, int]:
        """The logits (Q, L) of labels or options, or (2 B, T) of where spans start and end; -inf where not there.

        With by what the loss divides their sum, the number of rows.
        """
        if self.scheme.kind == "span":
            masked = output.scores.masked_fill(~batch[f"{_PREFIX}words"][:, :, None], -torch.inf)
            logits = masked.transpose(1, 2).flatten(0, 1)
        else:
            logits = self._votes(output.scores, batch)[batch[f"{_PREFIX}labels"] != _IGNORED]
        return logits, max(len(logits), 1)

    def _with_facts(self, vectors: Tensor, batch: dict[str, Tensor]) -> Tensor:
        places = batch.get(f"{_PREFIX}places")
        if self.facts is None:
            return vectors
        if places is None:
            return vectors if self.scheme.kind == "span" else self.facts(vectors, batch)
        flat = vectors.reshape(-1, vectors.shape[2])
        changed = self.facts(flat.index_select(0, places), batch)
        return flat.index_copy(0, places, changed).reshape(vectors.shape)

    def _votes(self, scores: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """Logits (Q, L) of the questions' labels, or (Q, O) of their options: means over the windows."""
        reading, question, slot = (batch[f"{_PREFIX}{name}"] for name in ("reading", "question", "slot"))
        mean = scores.new_zeros(len(question), scores.shape[1]).index_add(0, reading, scores)
        mean = mean / torch.bincount(reading, minlength=len(question))[:, None]
        if self.scheme.kind == "label":
            return mean
        logits = scores.new_full((int(question.max()) + 1, int(slot.max()) + 1), -torch.inf)
        return logits.index_put((question, slot), mean[:, 0])

    def _span_loss(self, scores: Tensor, batch: dict[str, Tensor]) -> QuestionOutput:
        """Start and end are each a choice between the context's words, at their first pieces, and none, at piece 0."""
        if f"{_PREFIX}start" not in batch:
            return QuestionOutput(None, scores)
        masked = scores.masked_fill(~batch[f"{_PREFIX}words"][:, :, None], -torch.inf)
        ends = [F.cross_entropy(masked[:, :, n], batch[f"{_PREFIX}{name}"]) for n, name in enumerate(("start", "end"))]
        return QuestionOutput((ends[0] + ends[1]) / 2, scores, torch.tensor(len(scores), device=scores.device))


def score_windows(
    network: Any,
    made: Sequence[Window],
    encoder: Encoder,
    *extras: Extra,
    batch_size: int = 32,
    progress: bool = False,
) -> list[Array]:
    """Raw scores of each window, in their order: (L,) of the labels, (1,) of the option, (T, 2) of the pieces.

    Args:
        network: a `QuestionNetwork` or `lm.DocumentClassifier`; runs where its parameters are, in evaluation mode.
        made: windows of any questions or texts; what is said of one does not depend on the others.
        encoder: whose tokenizer cut the texts.
        extras: what the network's encoder and facts need in a batch.
        batch_size: windows in a batch; batches hold windows of similar length.
        progress: show a bar on stderr if it is a terminal.
    """
    device = next(network.parameters()).device
    scores: list[Array] = [np.zeros(0)] * len(made)
    order = sorted(range(len(made)), key=lambda n: -len(made[n]))
    was_training = network.training
    network.eval()
    try:
        for start in tqdm(range(0, len(order), batch_size), "questions", disable=None if progress else True):
            rows = order[start : start + batch_size]
            group = [made[n] for n in rows]
            batch = without_answers(collate(group, encoder, *extras))
            batch = {name: tensor.to(device) for name, tensor in batch.items()}
            with torch.inference_mode():
                found = network(batch).scores.cpu().numpy()
            for n, window, row in zip(rows, group, found, strict=True):
                scores[n] = row[: len(window)] if network.scheme.kind == "span" else row
    finally:
        network.train(was_training)
    return scores


def without_answers(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """A batch to be scored only; its windows need not be all of their question's."""
    answers = ("labels", "start", "end")
    return {name: tensor for name, tensor in batch.items() if name.removeprefix(_PREFIX) not in answers}


def _label(question: Question, scheme: QuestionScheme) -> int:
    if question.answer is None:
        return _IGNORED
    return (question.options if scheme.kind == "choice" else scheme.labels).index(question.answer)


def _target(question: Question, read: QuestionWindows, window: Window) -> tuple[int, int]:
    """The pieces at which the first answer begins and ends in this window, 0 for an end that it does not hold."""
    if not question.spans:
        return 0, 0
    moved = len(read.texts[window.document][0]) + 1
    i, j = words_of(window.word_spans, question.spans[0][0] + moved, question.spans[0][1] + moved)
    if i == j:
        return 0, 0
    places = [np.flatnonzero(window.first & (window.words == word)) for word in (i, j - 1)]
    start, end = (int(place[0]) if len(place) else 0 for place in places)
    return start, end


def _span_tensors(group: Sequence[Window], questions: Sequence[Question], read: QuestionWindows) -> dict[str, Tensor]:
    words = np.zeros((len(group), max(map(len, group))), dtype=bool)
    targets = []
    for row, window in enumerate(group):
        words[row, : len(window)] = context_words(window, len(read.texts[window.document][0]))
        words[row, 0] = True
        targets.append(_target(questions[read.question_of(window.document)], read, window))
    ends = {"start": [start for start, _ in targets], "end": [end for _, end in targets]}
    tensors = {f"{_PREFIX}{name}": torch.tensor(values, dtype=torch.long) for name, values in ends.items()}
    return tensors | {f"{_PREFIX}words": torch.from_numpy(words)}


def context_words(window: Window, border: int) -> Array:
    """(T,) true on the first piece of each word behind the character `border` of the document."""
    inside: Array = window.first & (window.offsets[:, 0] > border)
    return inside
