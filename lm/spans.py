"""Mentions as spans of words, each judged on its own: they may nest and overlap, which BIO tags cannot say.

The span of the words i to j is a mention of type t with the log odds

    start_t(i) + end_t(j) + mean of inside_t(i..j) + before_t(i - 1) + after_t(j + 1)
    + q_t(i) k_t(j) / sqrt(e) + width_t(j - i)

The words around it say that it goes no further, as the O beside a BIO mention does. Each term is a linear map of one
word's hidden state, so it may come from whichever window owns the word: as with tags, a window border cuts no mention.
The bilinear term is that of biaffine parsing for nested mentions (Yu et al., ACL 2020) at a low rank, as in Efficient
GlobalPointer (Su et al., 2022).
"""

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lm.alignment import Window, words_of
from lm.calibration import log_odds, negative_log_likelihood
from lm.encoder import Array
from lm.tagging import IGNORED, TagCounts, check_type
from loaders.errors import MedgraftError
from loaders.records import Mention

LONGEST = 16
"""Words of the longest span: of BC5CDR's mentions 0.2 % are longer, of GSC+'s 0.05 %."""

_PIECES = "labels.pieces"
_RANK = 32
_LINEAR = 5  # start, end, inside, before, after
_RARE = -4.0  # the log odds of any span at the start, as almost none is a mention


class SpanScheme:
    """Spans of at most `longest` words; `overlapping` says whether the mentions that are found may overlap.

    If they may not, the most probable set of spans is found that do not.
    """

    def __init__(self, types: Iterable[str], *, longest: int = LONGEST, overlapping: bool = True) -> None:
        self.types = tuple(types)
        self.longest, self.overlapping = longest, overlapping
        if not self.types or len(set(self.types)) != len(self.types):
            raise MedgraftError(
                "a span scheme needs one or more distinct mention types; annotate the training documents"
            )
        if longest < 1:
            raise MedgraftError(f"the longest mention has {longest} words; give 1 or more")

    def output_layer(self, hidden_size: int, dropout: float, seed: int) -> "SpanScorer":
        return SpanScorer(hidden_size, len(self.types), self.longest, dropout, seed)

    def encode(self, mentions: Iterable[Mention], word_spans: Array, counts: TagCounts | None = None) -> Array:
        """Which spans are mentions, (W, `longest`, types): [i, l, t] is that of the words i to i + l.

        Raises:
            MedgraftError: a mention has a type that the scheme lacks.
        """
        counts = TagCounts() if counts is None else counts
        labels = np.zeros((len(word_spans), self.longest, len(self.types)), dtype=bool)
        for mention in mentions:
            check_type(mention, self.types)
            i, j = words_of(word_spans, mention.start, mention.end)
            if i == j:
                counts.dropped_without_word += 1
            elif j - i > self.longest:
                counts.dropped_too_long += 1
            elif labels[i, j - i - 1, (type := self.types.index(mention.type))]:
                counts.dropped_overlapping += 1
            else:
                labels[i, j - i - 1, type] = True
                counts.tagged += 1
                counts.widened += (word_spans[i, 0], word_spans[j - 1, 1]) != (mention.start, mention.end)
        return labels

    def decode(
        self, scores: Array, word_spans: Array, temperature: float = 1.0, threshold: float = 0.5
    ) -> tuple[Mention, ...]:
        """The mentions of log odds (W, `longest`, types), in the order of the text.

        A mention's score is the probability of its span at this temperature, which is above the threshold.
        """
        least = temperature * log_odds(threshold)
        spans = [(int(i), int(i + width), int(t)) for i, width, t in np.argwhere(scores > least)]
        if not self.overlapping:
            spans = _best_apart(spans, [float(scores[i, last - i, t]) - least for i, last, t in spans])
        found = []
        for i, last, t in spans:
            score = 1 / (1 + math.exp(-float(scores[i, last - i, t]) / temperature))
            found.append(Mention(int(word_spans[i, 0]), int(word_spans[last, 1]), self.types[t], score=score))
        return tuple(found)

    def batch_labels(self, group: Sequence[Window], encoded: Sequence[Array]) -> dict[str, Tensor]:
        """`labels` (B, W, `longest`, types), and the piece that each word of a window begins with, (B, W).

        A span counts in the window that owns its first word, if the window holds all of it.
        """
        firsts = [np.flatnonzero(window.first) for window in group]
        most = max(map(len, firsts))
        pieces = np.full((len(group), most), -1, dtype=np.int64)
        labels = np.full((len(group), most, self.longest, len(self.types)), IGNORED, dtype=np.int8)
        for row, (window, places) in enumerate(zip(group, firsts, strict=True)):
            count = len(places)
            if not count:
                continue
            pieces[row, :count] = places
            words = window.words[places]
            own = (words >= window.owned[0]) & (words < window.owned[1])
            whole = np.arange(count)[:, None] + np.arange(self.longest) < count
            known = own[:, None] & whole
            labels[row, :count][known] = encoded[window.document][words][known]
        return {"labels": torch.from_numpy(labels), _PIECES: torch.from_numpy(pieces)}

    def likelihood(self, scores: Array, labels: Array) -> Callable[[float], float]:
        """The mean negative log probability of `labels` under the log odds, as a function of the temperature."""
        flat = scores.ravel()
        return negative_log_likelihood(np.stack([np.zeros_like(flat), flat], axis=1), labels.ravel().astype(np.int64))


def _best_apart(spans: Sequence[tuple[int, int, int]], gains: Sequence[float]) -> list[tuple[int, int, int]]:
    """Of spans (first word, last word, type) those that do not overlap and gain the most together (by their ends)."""
    if not spans:
        return []
    words = max(last for _, last, _ in spans) + 1
    ending: dict[int, list[int]] = {}
    for n, (_, last, _) in enumerate(spans):
        ending.setdefault(last, []).append(n)
    best = [0.0] * (words + 1)  # of the words before each one
    taken = [-1] * (words + 1)  # the span that ends right before it, if the best ones have such
    for end in range(words):
        best[end + 1] = best[end]
        for n in ending.get(end, ()):
            if (total := best[spans[n][0]] + gains[n]) > best[end + 1]:
                best[end + 1], taken[end + 1] = total, n
    chosen = []
    end = words
    while end > 0:
        n = taken[end]
        if n < 0:
            end -= 1
        else:
            chosen.append(spans[n])
            end = spans[n][0]
    return chosen[::-1]


class SpanScorer(nn.Module):
    """Output layer: dropout and one linear map to what the spans need of each piece, and a weight for each width.

    Its weights come from a generator of its own, so that making it leaves torch's random state alone.
    """

    def __init__(
        self, hidden_size: int, num_types: int, longest: int = LONGEST, dropout: float = 0.1, seed: int = 0
    ) -> None:
        super().__init__()
        self.num_types, self.longest = num_types, longest
        self.dropout = nn.Dropout(dropout)
        size = num_types * (_LINEAR + 2 * _RANK)
        self.linear = nn.Linear(hidden_size, size, device="meta").to_empty(device="cpu")
        self.width = nn.Parameter(torch.full((num_types, longest), _RARE))
        with torch.no_grad():
            self.linear.weight.normal_(0, 0.02, generator=torch.Generator().manual_seed(seed))
            self.linear.bias.zero_()

    def forward(self, hidden: Tensor) -> Tensor:
        """Hidden states (B, T, d) to the terms of each piece (B, T, F)."""
        terms: Tensor = self.linear(self.dropout(hidden))
        return terms

    def scores(self, terms: Tensor) -> Tensor:
        """Log odds (..., W, `longest`, types) of the spans of words with terms (..., W, F); -inf beyond the last."""
        terms = terms.float().unflatten(-1, (self.num_types, -1)).movedim(-3, -1)  # (..., types, terms, W)
        words, longest = terms.shape[-1], self.longest
        # (..., types, terms, W, L + 1): the words from i on, and the one after them
        ahead = F.pad(terms, (0, longest + 1)).unfold(-1, longest + 1, 1)[..., :words, :]
        start, before = terms[..., 0, :], F.pad(terms[..., 3, :], (1, 0))[..., :words]
        end, inside, after = ahead[..., 1, :, :longest], ahead[..., 2, :, :longest], ahead[..., 4, :, 1:]
        widths = torch.arange(1, longest + 1, device=terms.device)
        query, key = terms[..., _LINEAR : _LINEAR + _RANK, :], ahead[..., _LINEAR + _RANK :, :, :longest]
        pair = torch.einsum("...ew,...ewl->...wl", query, key) / math.sqrt(_RANK)
        odds = (start + before)[..., None] + end + after + inside.cumsum(dim=-1) / widths + pair
        odds = odds + self.width[:, None, :]
        beyond = torch.arange(words, device=terms.device)[:, None] + widths > words
        return odds.masked_fill(beyond, -torch.inf).movedim(-3, -1)

    def loss(self, terms: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Summed binary cross-entropy of the spans, and the number of words that they begin with."""
        odds, known = self._labelled(terms, batch)
        total = F.binary_cross_entropy_with_logits(odds, batch["labels"][known].float(), reduction="sum")
        return total, known[:, :, 0, 0].sum()

    def decisions(self, terms: Tensor, batch: dict[str, Tensor]) -> Tensor:
        """The logits (N, 2) of no and yes for each span and type that is labelled in the batch."""
        odds, _ = self._labelled(terms, batch)
        return torch.stack([torch.zeros_like(odds), odds], dim=1)

    def _labelled(self, terms: Tensor, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The log odds (N,) of what is labelled, and where that is in the labels."""
        pieces, known = batch[_PIECES], batch["labels"] != IGNORED
        words = terms.gather(1, pieces.clamp(min=0)[:, :, None].expand(-1, -1, terms.shape[2]))
        return self.scores(words)[known], known

    def of_mention(self, terms: Tensor, inside: slice, temperature: float) -> Tensor:
        """(R, 1 + types): no mention, and each type, of the span of the words `inside` those with terms (R, W, F).

        Those with terms are the words of the span and its neighbours on both sides, where the text has such.
        """
        odds = self.scores(terms)[:, inside.start, inside.stop - inside.start - 1] / temperature
        types = odds.sigmoid()
        return torch.cat([1 - types.amax(dim=1, keepdim=True), types], dim=1)
