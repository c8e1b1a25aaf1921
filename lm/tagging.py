"""Mentions as BIO tags of words: labels for training, an output layer, and exact mentions back.

Labels and predictions live on words. A word is labelled on its first piece in the window that owns it, so each word
counts once however the windows overlap, and decoding runs over whole documents: a window border cuts no mention.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from lm.alignment import Window, collate, windows, words_of
from lm.calibration import negative_log_likelihood
from lm.encoder import PRECISIONS, Array, Encoder
from loaders.errors import MedgraftError
from loaders.records import Document, Mention

IGNORED = -100


@dataclass(slots=True)
class TagCounts:
    """What became of the mentions: each is tagged, or dropped for one of two reasons."""

    tagged: int = 0
    dropped_overlapping: int = 0
    """Overlaps a longer mention (or repeats one), and BIO tags are flat."""
    dropped_without_word: int = 0
    """Covers no word that the tokenizer keeps."""
    widened: int = 0
    """Of the tagged ones: begins or ends inside a word, which no prediction can reproduce."""


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

    def encode(self, mentions: Iterable[Mention], word_spans: Array, counts: TagCounts | None = None) -> Array:
        """Tags (W,) of the words; where mentions overlap, the longest wins, then the first.

        Raises:
            MedgraftError: a mention has a type that the scheme lacks.
        """
        counts = TagCounts() if counts is None else counts
        tags = np.zeros(len(word_spans), dtype=np.int64)
        for mention in sorted(mentions, key=lambda m: (m.start - m.end, m.start, m.type)):
            if mention.type not in self.types:
                raise MedgraftError(
                    f"mention type {mention.type!r} is not one of {', '.join(self.types)}; train with it or drop it"
                )
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

    def decode(self, log_probabilities: Array, word_spans: Array) -> tuple[Mention, ...]:
        """Mentions of the most probable valid tag sequence (Viterbi) for log probabilities (W, L) of words (W, 2).

        A mention's score is the geometric mean of the probabilities of its words' tags.
        """
        tags = self._best_valid(log_probabilities)
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
    """`loss` is the mean over the `count` labelled words, None without labels; `logits` is (B, T, L)."""

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


class Tagger(nn.Module):
    """An encoder (any module that maps a batch to hidden states (B, T, d)) under a `MentionTagger`."""

    def __init__(
        self,
        encoder: nn.Module,
        scheme: TagScheme,
        dropout: float = 0.1,
        *,
        hidden_size: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.scheme = scheme
        width = hidden_size if hidden_size is not None else int(encoder.hidden_size)  # type: ignore[arg-type]
        self.output = MentionTagger(width, len(scheme.labels), dropout, seed)

    def forward(self, batch: dict[str, Tensor]) -> TaggerOutput:
        """Loss over `batch["labels"]` (B, T), -100 where nothing is labelled, and logits (B, T, L)."""
        logits = self.output(self.encoder(batch))
        if "labels" not in batch:
            return TaggerOutput(None, logits)
        labelled = batch["labels"] != IGNORED
        count = labelled.sum()
        total = F.cross_entropy(logits[labelled].float(), batch["labels"][labelled], reduction="sum")
        return TaggerOutput(total / count.clamp(min=1), logits, count)

    def decisions(self, output: TaggerOutput, batch: dict[str, Tensor]) -> Tensor:
        """The logits (N, L) of the words that are labelled in the batch."""
        return output.logits[batch["labels"] != IGNORED].float()


def tag_documents(
    documents: Sequence[Document], made: Sequence[Window], scheme: TagScheme
) -> tuple[Callable[[Sequence[Window]], dict[str, Tensor]], TagCounts]:
    """An extra for `collate` that adds `labels` (B, T) to the windows `made` of the documents, and what was counted."""
    counts = TagCounts()
    tags: list[Array] = [np.zeros(0, dtype=np.int64)] * len(documents)
    seen: set[int] = set()
    for window in made:
        if window.document not in seen:
            seen.add(window.document)
            tags[window.document] = scheme.encode(documents[window.document].mentions, window.word_spans, counts)

    def labels(group: Sequence[Window]) -> dict[str, Tensor]:
        table = np.full((len(group), max(map(len, group))), IGNORED, dtype=np.int64)
        for row, window in enumerate(group):
            places = np.flatnonzero(window.owned_first)
            table[row, places] = tags[window.document][window.words[places]]
        return {"labels": torch.from_numpy(table)}

    return labels, counts


def predict(
    tagger: Tagger,
    documents: Sequence[Document],
    encoder: Encoder,
    *extras: Callable[[Sequence[Window]], dict[str, Tensor]],
    max_pieces: int = 256,
    stride: int = 32,
    batch_size: int = 32,
    precision: str = "no",
    temperature: float = 1.0,
    progress: bool = False,
) -> list[Document]:
    """The documents with the mentions that the tagger finds in their texts; their own mentions are not looked at.

    Args:
        tagger: runs where its parameters are, in evaluation mode.
        documents: only id and text are read; relations are kept.
        encoder: whose tokenizer cuts the texts (`tagger.encoder` or the one inside it).
        extras: what the tagger's encoder needs in a batch beyond the pieces, see `collate`.
        max_pieces: longest window.
        stride: pieces shared by neighbouring windows.
        batch_size: windows in a batch; batches hold windows of similar length. The result does not depend on it.
        precision: "no", "bf16" or "fp16" (autocast).
        temperature: by which the tags' logits are divided: it changes the scores, not the mentions.
        progress: show a bar on stderr if it is a terminal.
    """
    made = windows([document.text for document in documents], encoder, min(max_pieces, encoder.max_pieces), stride)
    scores = _word_log_probabilities(tagger, made, encoder, extras, batch_size, precision, progress)
    spans = {window.document: window.word_spans for window in made}
    return [
        replace(document, mentions=tagger.scheme.decode(_tempered(scores[number], temperature), spans[number]))
        for number, document in enumerate(documents)
    ]


def tag_loss(
    tagger: Tagger,
    documents: Sequence[Document],
    encoder: Encoder,
    *extras: Callable[[Sequence[Window]], dict[str, Tensor]],
    max_pieces: int = 256,
    stride: int = 32,
    batch_size: int = 32,
) -> Callable[[float], float]:
    """The mean negative log probability of the documents' gold tags as a function of the temperature; see `predict`.

    Mentions of types that the tagger does not know count as none.
    """
    made = windows([document.text for document in documents], encoder, min(max_pieces, encoder.max_pieces), stride)
    scores = _word_log_probabilities(tagger, made, encoder, extras, batch_size, "no", False)
    spans = {window.document: window.word_spans for window in made}
    known = [[m for m in document.mentions if m.type in tagger.scheme.types] for document in documents]
    tags = [tagger.scheme.encode(mentions, spans[number]) for number, mentions in enumerate(known)]
    return negative_log_likelihood(np.concatenate([scores[n] for n in range(len(documents))]), np.concatenate(tags))


def _tempered(log_probabilities: Array, temperature: float) -> Array:
    if temperature == 1.0:
        return log_probabilities
    scaled = log_probabilities / temperature
    total: Array = scaled - np.logaddexp.reduce(scaled, axis=-1, keepdims=True)
    return total


def _word_log_probabilities(
    tagger: Tagger,
    made: Sequence[Window],
    encoder: Encoder,
    extras: Sequence[Callable[[Sequence[Window]], dict[str, Tensor]]],
    batch_size: int,
    precision: str,
    progress: bool,
) -> dict[int, Array]:
    """For each document (W, L), every word taken from the window that owns it."""
    device = next(tagger.parameters()).device
    dtype = PRECISIONS[precision]
    scores = {w.document: np.zeros((len(w.word_spans), len(tagger.scheme.labels)), np.float32) for w in made}
    ordered = sorted(made, key=len, reverse=True)
    was_training = tagger.training
    tagger.eval()
    try:
        for start in tqdm(range(0, len(ordered), batch_size), "predict", disable=None if progress else True):
            group = ordered[start : start + batch_size]
            batch = {name: tensor.to(device) for name, tensor in collate(group, encoder, *extras).items()}
            with torch.inference_mode(), torch.autocast(device.type, dtype, enabled=precision != "no"):
                logits = tagger(batch).logits.float().log_softmax(dim=-1).cpu().numpy()
            for row, window in enumerate(group):
                places = np.flatnonzero(window.owned_first)
                scores[window.document][window.words[places]] = logits[row, places]
    finally:
        tagger.train(was_training)
    return scores
