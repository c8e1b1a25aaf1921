"""Mentions as labels of words: for training, by an output layer, and exact mentions back.

Labels and predictions live on words. A word is read at its first piece in the window that owns it, so each word
counts once however the windows overlap, and decoding runs over whole documents: a window border cuts no mention.

What the labels are is up to a scheme with an output layer of its own: flat BIO tags here, spans that may overlap in
`lm.spans`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from lm.alignment import Window, collate, windows, words_of
from lm.calibration import log_odds, negative_log_likelihood
from lm.encoder import PRECISIONS, Array, Encoder
from loaders.errors import MedgraftError
from loaders.records import Document, Mention

IGNORED = -100


@dataclass(slots=True)
class TagCounts:
    """What became of the mentions: each is tagged, or dropped for one of three reasons."""

    tagged: int = 0
    dropped_overlapping: int = 0
    """Repeats a mention; or, as BIO tags are flat, overlaps a longer one."""
    dropped_too_long: int = 0
    """Has more words than a span may have."""
    dropped_without_word: int = 0
    """Covers no word that the tokenizer keeps."""
    widened: int = 0
    """Of the tagged ones: begins or ends inside a word, which no prediction can reproduce."""


class Scheme(Protocol):
    """How mentions become labels of a document's W words and back. What is called (W, ...) is up to the scheme."""

    @property
    def types(self) -> tuple[str, ...]: ...

    def output_layer(self, hidden_size: int, dropout: float, seed: int) -> Any:
        """The layer over hidden states that these labels are learnt by: a `MentionTagger`, or alike."""

    def encode(self, mentions: Iterable[Mention], word_spans: Array, counts: TagCounts | None = None) -> Array:
        """Labels (W, ...) of the words with these characters (W, 2)."""

    def decode(
        self, scores: Array, word_spans: Array, temperature: float = 1.0, threshold: float = 0.5
    ) -> tuple[Mention, ...]:
        """Mentions from what the output layer's `scores` says (W, ...).

        They are called at this `threshold` of a probability at this temperature.
        """

    def batch_labels(self, group: Sequence[Window], encoded: Sequence[Array]) -> dict[str, Tensor]:
        """The labels of these windows, as the output layer's `loss` wants them, from those of all documents."""

    def likelihood(self, scores: Array, labels: Array) -> Callable[[float], float]:
        """The mean negative log probability of `labels`, as a function of the temperature."""


def check_type(mention: Mention, types: Sequence[str]) -> None:
    """Raise a MedgraftError if a scheme of these types lacks the mention's."""
    if mention.type not in types:
        raise MedgraftError(f"mention type {mention.type!r} is not one of {', '.join(types)}; train with it or drop it")


class TagScheme:
    """BIO labels of mention types: O, then B and I of each type."""

    def __init__(self, types: Iterable[str]) -> None:
        self.types = tuple(types)
        self.labels = ("O", *(f"{prefix}-{type}" for type in self.types for prefix in "BI"))
        self.label_to_id = {label: id for id, label in enumerate(self.labels)}
        if not self.types or len(self.label_to_id) != len(self.labels):
            raise MedgraftError(
                "a tag scheme needs one or more distinct mention types; annotate the training documents"
            )
        inside = np.arange(len(self.labels)) % 2 == 0
        inside[0] = False
        # I of a type only follows B or I of that type.
        same = np.arange(len(self.labels))[:, None] - np.arange(len(self.labels))[None, :]
        allowed = ~inside[None, :] | (same == 0) | (same == -1)
        self._start = np.where(inside, -np.inf, 0.0)
        self._steps = np.where(allowed, 0.0, -np.inf)

    @classmethod
    def of(cls, documents: Iterable[Document]) -> "TagScheme":
        """The scheme of all types that the documents mention, sorted."""
        return cls(sorted({mention.type for document in documents for mention in document.mentions}))

    def output_layer(self, hidden_size: int, dropout: float, seed: int) -> "MentionTagger":
        return MentionTagger(hidden_size, len(self.labels), dropout, seed)

    def encode(self, mentions: Iterable[Mention], word_spans: Array, counts: TagCounts | None = None) -> Array:
        """Tags (W,) of the words; where mentions overlap, the longest wins, then the first.

        Raises:
            MedgraftError: a mention has a type that the scheme lacks.
        """
        counts = TagCounts() if counts is None else counts
        tags = np.zeros(len(word_spans), dtype=np.int64)
        for mention in sorted(mentions, key=lambda m: (m.start - m.end, m.start, m.type)):
            check_type(mention, self.types)
            i, j = words_of(word_spans, mention.start, mention.end)
            if i == j:
                counts.dropped_without_word += 1
            elif tags[i:j].any():
                counts.dropped_overlapping += 1
            else:
                tags[i:j] = self.label_to_id[f"I-{mention.type}"]
                tags[i] -= 1
                counts.tagged += 1
                counts.widened += (word_spans[i, 0], word_spans[j - 1, 1]) != (mention.start, mention.end)
        return tags

    def decode(
        self, scores: Array, word_spans: Array, temperature: float = 1.0, threshold: float = 0.5
    ) -> tuple[Mention, ...]:
        """Mentions of the most probable valid tag sequence (Viterbi) for log probabilities (W, L) of words (W, 2).

        O counts `threshold / (1 - threshold)` times as much as the other tags. A mention's score is the geometric mean
        of the probabilities of its words' tags.
        """
        log_probabilities = _tempered(scores, temperature)
        weighed = log_probabilities.copy()
        weighed[:, 0] += log_odds(threshold)
        tags = self._best_valid(weighed)
        begins = np.flatnonzero(tags % 2 == 1).tolist()
        found = []
        for i in begins:
            j = i + 1
            while j < len(tags) and tags[j] == tags[i] + 1:
                j += 1
            score = float(np.exp(log_probabilities[np.arange(i, j), tags[i:j]].mean()))
            type = self.types[int(tags[i]) // 2]
            found.append(Mention(int(word_spans[i, 0]), int(word_spans[j - 1, 1]), type, score=score))
        return tuple(found)

    def batch_labels(self, group: Sequence[Window], encoded: Sequence[Array]) -> dict[str, Tensor]:
        """`labels` (B, T): the tag of each word that its window owns, on the word's first piece."""
        table = np.full((len(group), max(map(len, group))), IGNORED, dtype=np.int64)
        for row, window in enumerate(group):
            places = np.flatnonzero(window.owned_first)
            table[row, places] = encoded[window.document][window.words[places]]
        return {"labels": torch.from_numpy(table)}

    def likelihood(self, scores: Array, labels: Array) -> Callable[[float], float]:
        return negative_log_likelihood(scores, labels)

    def _best_valid(self, log_probabilities: Array) -> Array:
        words = len(log_probabilities)
        tags = np.zeros(words, dtype=np.int64)
        if not words:
            return tags
        best = self._start + log_probabilities[0]
        came_from = np.zeros((words, len(self.labels)), dtype=np.int64)
        columns = np.arange(len(self.labels))
        for word in range(1, words):
            paths = best[:, None] + self._steps
            came_from[word] = paths.argmax(axis=0)
            best = paths[came_from[word], columns] + log_probabilities[word]
        tags[-1] = best.argmax()
        for word in range(words - 1, 0, -1):
            tags[word - 1] = came_from[word, tags[word]]
        return tags


@dataclass(slots=True)
class TaggerOutput:
    """`loss` is the mean over the `count` labelled words, None without labels; `logits` is (B, T, F)."""

    loss: Tensor | None
    logits: Tensor
    count: Tensor | None = None


class MentionTagger(nn.Module):
    """Output layer: dropout and one linear map, hidden states (B, T, d) to logits (B, T, L).

    Its weights come from a generator of its own, so that making it leaves torch's random state alone.
    """

    def __init__(self, hidden_size: int, num_labels: int, dropout: float = 0.1, seed: int = 0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(hidden_size, num_labels, device="meta").to_empty(device="cpu")
        with torch.no_grad():
            self.linear.weight.normal_(0, 0.02, generator=torch.Generator().manual_seed(seed))
            self.linear.bias.zero_()

    def forward(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.dropout(hidden))
        return logits

    def scores(self, logits: Tensor) -> Tensor:
        """Log probabilities (W, L) of the tags of words."""
        return logits.float().log_softmax(dim=-1)

    def loss(self, logits: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Summed cross-entropy of `batch["labels"]` (B, T), -100 where nothing is labelled, and their number."""
        labelled = batch["labels"] != IGNORED
        total = F.cross_entropy(logits[labelled].float(), batch["labels"][labelled], reduction="sum")
        return total, labelled.sum()

    def decisions(self, logits: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """The logits (N, L) of the words that are labelled in the batch."""
        return logits[batch["labels"] != IGNORED].float()

    def of_mention(self, logits: Tensor, inside: slice, temperature: float) -> Tensor:
        """(R, 1 + types): no mention, and each type (B and I together), as means over `inside` of words (R, W, L)."""
        mean = (logits[:, inside].float() / temperature).softmax(dim=-1).mean(dim=1)
        return torch.cat([mean[:, :1], mean[:, 1::2] + mean[:, 2::2]], dim=1)


class Tagger(nn.Module):
    """An encoder (any module that maps a batch to hidden states (B, T, d)) under the scheme's output layer."""

    def __init__(
        self,
        encoder: nn.Module,
        scheme: Scheme,
        dropout: float = 0.1,
        *,
        hidden_size: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.scheme = scheme
        width = hidden_size if hidden_size is not None else int(encoder.hidden_size)  # type: ignore[arg-type]
        self.output = scheme.output_layer(width, dropout, seed)

    def forward(self, batch: dict[str, Tensor]) -> TaggerOutput:
        """What the output layer says of each piece (B, T, F), and the loss where the batch has labels."""
        logits = self.output(self.encoder(batch))
        if "labels" not in batch:
            return TaggerOutput(None, logits)
        total, count = self.output.loss(logits, batch)
        return TaggerOutput(total / count.clamp(min=1), logits, count)

    def decisions(self, output: TaggerOutput, batch: dict[str, Tensor]) -> tuple[Tensor, int]:
        """The logits (N, ...) of what is labelled, a row for each choice, and by what the loss divides their sum.

        That is the number of words, each of which is a row for tags and begins many for spans.
        """
        assert output.count is not None, "without labels there is nothing to decide"
        return self.output.decisions(output.logits, batch), max(int(output.count), 1)


def tag_documents(
    documents: Sequence[Document], made: Sequence[Window], scheme: Scheme
) -> tuple[Callable[[Sequence[Window]], dict[str, Tensor]], TagCounts]:
    """An extra for `collate` that adds `labels` to the windows `made` of the documents, and what was counted."""
    counts = TagCounts()
    encoded: list[Array] = [np.zeros(0, dtype=np.int64)] * len(documents)
    seen: set[int] = set()
    for window in made:
        if window.document not in seen:
            seen.add(window.document)
            encoded[window.document] = scheme.encode(documents[window.document].mentions, window.word_spans, counts)
    return lambda group: scheme.batch_labels(group, encoded), counts


def predictor(
    tagger: Tagger,
    documents: Sequence[Document],
    encoder: Encoder,
    *extras: Callable[[Sequence[Window]], dict[str, Tensor]],
    max_pieces: int = 256,
    stride: int = 32,
    batch_size: int = 32,
    precision: str = "no",
    progress: bool = False,
) -> Callable[[float, float], list[Document]]:
    """The documents with the mentions that the tagger finds in their texts; their own mentions are not looked at.

    What comes back makes these for a temperature, by which the logits are divided, and a threshold of the probability
    from which on a mention is called.

    Args:
        tagger: runs where its parameters are, in evaluation mode.
        documents: only id and text are read; relations are kept.
        encoder: whose tokenizer cuts the texts (`tagger.encoder` or the one inside it).
        extras: what the tagger's encoder needs in a batch beyond the pieces, see `collate`.
        max_pieces: longest window.
        stride: pieces shared by neighbouring windows.
        batch_size: windows in a batch; batches hold windows of similar length. The result does not depend on it.
        precision: "no", "bf16" or "fp16" (autocast).
        progress: show a bar on stderr if it is a terminal.
    """
    made = windows([document.text for document in documents], encoder, min(max_pieces, encoder.max_pieces), stride)
    scores = _word_scores(tagger, made, encoder, extras, batch_size, precision, progress)
    spans = {window.document: window.word_spans for window in made}

    def at(temperature: float, threshold: float) -> list[Document]:
        return [
            replace(document, mentions=tagger.scheme.decode(scores[number], spans[number], temperature, threshold))
            for number, document in enumerate(documents)
        ]

    return at


def predict(
    tagger: Tagger,
    documents: Sequence[Document],
    encoder: Encoder,
    *extras: Callable[[Sequence[Window]], dict[str, Tensor]],
    temperature: float = 1.0,
    threshold: float = 0.5,
    **settings: Any,
) -> list[Document]:
    """The documents with the mentions that the tagger finds in their texts; the `settings` are those of `predictor`."""
    return predictor(tagger, documents, encoder, *extras, **settings)(temperature, threshold)


def tag_loss(
    tagger: Tagger,
    documents: Sequence[Document],
    encoder: Encoder,
    *extras: Callable[[Sequence[Window]], dict[str, Tensor]],
    max_pieces: int = 256,
    stride: int = 32,
    batch_size: int = 32,
) -> Callable[[float], float]:
    """The mean negative log probability of the gold labels as a function of the temperature; see `predictor`.

    Mentions of types that the tagger does not know count as none.
    """
    made = windows([document.text for document in documents], encoder, min(max_pieces, encoder.max_pieces), stride)
    scores = _word_scores(tagger, made, encoder, extras, batch_size, "no", False)
    spans = {window.document: window.word_spans for window in made}
    known = [[m for m in document.mentions if m.type in tagger.scheme.types] for document in documents]
    labels = [tagger.scheme.encode(mentions, spans[number]) for number, mentions in enumerate(known)]
    together = np.concatenate([scores[n] for n in range(len(documents))])
    return tagger.scheme.likelihood(together, np.concatenate(labels))


def _tempered(log_probabilities: Array, temperature: float) -> Array:
    if temperature == 1.0:
        return log_probabilities
    scaled = log_probabilities / temperature
    total: Array = scaled - np.logaddexp.reduce(scaled, axis=-1, keepdims=True)
    return total


def _word_scores(
    tagger: Tagger,
    made: Sequence[Window],
    encoder: Encoder,
    extras: Sequence[Callable[[Sequence[Window]], dict[str, Tensor]]],
    batch_size: int,
    precision: str,
    progress: bool,
) -> dict[int, Array]:
    """For each document what the scheme decodes (W, ...)."""
    found = word_logits(tagger, made, encoder, extras, batch_size, precision, progress)
    with torch.inference_mode():
        return {document: tagger.output.scores(words).cpu().numpy() for document, words in found.items()}


def word_logits(
    tagger: Tagger,
    made: Sequence[Window],
    encoder: Encoder,
    extras: Sequence[Callable[[Sequence[Window]], dict[str, Tensor]]],
    batch_size: int = 32,
    precision: str = "no",
    progress: bool = False,
) -> dict[int, Tensor]:
    """What the output layer says of each document's words (W, F), every word taken from the window that owns it."""
    device = next(tagger.parameters()).device
    dtype = PRECISIONS[precision]
    found: dict[int, Tensor] = {}
    ordered = sorted(made, key=len, reverse=True)
    was_training = tagger.training
    tagger.eval()
    try:
        for start in tqdm(range(0, len(ordered), batch_size), "predict", disable=None if progress else True):
            group = ordered[start : start + batch_size]
            batch = {name: tensor.to(device) for name, tensor in collate(group, encoder, *extras).items()}
            with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=precision != "no"):
                logits = tagger(batch).logits.float()
            for row, window in enumerate(group):
                places = np.flatnonzero(window.owned_first)
                words = found.setdefault(window.document, logits.new_zeros(len(window.word_spans), logits.shape[2]))
                words[window.words[places]] = logits[row, places]
        return found
    finally:
        tagger.train(was_training)
