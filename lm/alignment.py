"""Exact alignment of characters, words and word pieces, and long documents as overlapping windows.

A word is a run of letters and digits, or one other visible character, whatever the tokenizer; words that a tokenizer
puts into one piece are one word. So every piece lies in one word, and labels live on words.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lm.encoder import Array, Encoder
from loaders.errors import MedgraftError

# Combining marks belong to their letter; the ideographs of Chinese, which writes no spaces, are words by themselves.
_MARKS = "\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
_IDEOGRAPHS = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_IDEOGRAPHS}]|(?:(?![{_IDEOGRAPHS}])[\w{_MARKS}])+|[^\w\s]")


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """A stretch of a document that fits the encoder, special pieces included.

    Every word of a document is owned by exactly one of its windows, the one in which it is furthest from a cut.
    T pieces in the window, W words in the whole document.
    """

    document: int
    """Position of the document in the list that was windowed."""
    input_ids: Array
    """(T,)"""
    offsets: Array
    """(T, 2) characters [start, end) of the document without surrounding space; (-1, -1) for special pieces."""
    words: Array
    """(T,) index of the piece's word in the document; -1 for special pieces and for pieces of mere space."""
    first: Array
    """(T,) true on the first piece of a word."""
    owned: tuple[int, int]
    """The words [start, end) of the document that this window owns."""
    word_spans: Array
    """(W, 2) characters [start, end) of ALL words of the document; one array for all its windows."""

    def __len__(self) -> int:
        return len(self.input_ids)

    @property
    def owned_first(self) -> Array:
        """(T,) true on the first piece of each word that this window owns."""
        mask: Array = self.first & (self.words >= self.owned[0]) & (self.words < self.owned[1])
        return mask

    @property
    def span(self) -> tuple[int, int]:
        """Characters [start, end) of the document that the window covers; (0, 0) if it holds no text."""
        inside = self.offsets[self.offsets[:, 0] >= 0]
        return (int(inside[0, 0]), int(inside[-1, 1])) if len(inside) else (0, 0)

    def pieces_of(self, start: int, end: int) -> tuple[int, int]:
        """The pieces [i, j) of this window that overlap the characters [start, end); (0, 0) if none does."""
        if start >= end:
            return 0, 0
        found = np.flatnonzero((self.offsets[:, 1] > start) & (self.offsets[:, 0] < end))
        return (int(found[0]), int(found[-1]) + 1) if len(found) else (0, 0)


def words_of(word_spans: Array, start: int, end: int) -> tuple[int, int]:
    """The words [i, j) of (W, 2) sorted `word_spans` that overlap the characters [start, end); i == j if none does."""
    i = int(np.searchsorted(word_spans[:, 1], start, side="right"))
    j = int(np.searchsorted(word_spans[:, 0], end, side="left"))
    return (i, j) if start < end and i < j else (i, i)


def windows(texts: Sequence[str], encoder: Encoder, max_pieces: int | None = None, stride: int = 32) -> list[Window]:
    """Cut texts into windows of at most `max_pieces`, at word borders; nothing is truncated.

    Every text gives at least one window, if need be without a word. `stride` pieces, as far as whole words allow, are
    shared by neighbouring windows. Only a word longer than a window is itself cut; its first window owns it.

    Raises:
        MedgraftError: the window is longer than the encoder allows or leaves no room beside the stride.
    """
    capacity = _capacity(encoder, max_pieces, stride)
    result: list[Window] = []
    for document, (text, (ids, offsets)) in enumerate(zip(texts, encoder.pieces(texts), strict=True)):
        cut = _Aligned.of(text, ids, offsets)
        result += [
            _window(document, cut.framed(i, j, encoder), owned, cut.spans)
            for i, j, owned in cut.stretches(capacity, stride)
        ]
    return result


def paired_windows(
    firsts: Sequence[str],
    seconds: Sequence[str],
    encoder: Encoder,
    max_pieces: int | None = None,
    stride: int = 32,
) -> list[Window]:
    """Cut the second text of each pair into windows, every one with the whole first text before it.

    The document of a window is the first text, a line break and the second: offsets, words and spans run over that. A
    window is framed as `[CLS] first [SEP] second [SEP]` (in the tokenizer's own pieces). The words of the first text
    are owned by the first window, those of the second as in `windows`.

    Raises:
        MedgraftError: the window is longer than the encoder allows, or a first text leaves no room for the second.
    """
    longest = _capacity(encoder, max_pieces, stride)
    cut: dict[str, _Aligned] = {}
    for some in (list(dict.fromkeys(firsts)), list(dict.fromkeys(seconds))):
        cut |= {
            t: _Aligned.of(t, *pieces) for t, pieces in zip(some, encoder.pieces(some), strict=True) if t not in cut
        }
    result: list[Window] = []
    for document, (first, second) in enumerate(zip(firsts, seconds, strict=True)):
        before, after = cut[first], cut[second].moved(len(first) + 1, len(cut[first].spans))
        capacity = longest - len(before.ids) - len(encoder.suffix_ids)
        if stride >= capacity:
            raise MedgraftError(
                f"{first[:40]!r}... has {len(before.ids)} pieces, which leaves no room for its context in windows of "
                f"{longest}; shorten it, or raise max_pieces"
            )
        spans = np.concatenate([before.spans, after.spans])
        head = before.framed(0, len(before.ids), encoder)
        for number, (i, j, (start, end)) in enumerate(cut[second].stretches(capacity, stride)):
            tail = after.framed(i, j, encoder, prefix=False)
            joined = tuple(np.concatenate(parts) for parts in zip(head, tail, strict=True))
            owned = start + len(before.spans) if number else 0, end + len(before.spans)
            result.append(_window(document, joined, owned, spans))
    return result


def collate(
    group: Sequence[Window], encoder: Encoder, *extras: Callable[[Sequence[Window]], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """One padded batch: `input_ids` and `attention_mask`, both (B, T), and whatever the extras add from the windows."""
    longest = max(len(window) for window in group)
    input_ids = np.full((len(group), longest), encoder.pad_id, dtype=np.int64)
    mask = np.zeros((len(group), longest), dtype=np.int64)
    for row, window in enumerate(group):
        input_ids[row, : len(window)] = window.input_ids
        mask[row, : len(window)] = 1
    batch = {"input_ids": torch.from_numpy(input_ids), "attention_mask": torch.from_numpy(mask)}
    for extra in extras:
        batch |= extra(group)
    return batch


def word_places(text: str, offsets: Array) -> tuple[Array, Array]:
    """The word of each piece (N,), -1 for mere space, and its characters (N, 2) without surrounding space."""
    _, words, places = _align(text, offsets)
    return words, places


@dataclass(frozen=True, slots=True, eq=False)
class _Aligned:
    """A text in pieces: ids (N,), offsets (N, 2), words (N,) and firsts (N,), and the spans (W, 2) of its words."""

    ids: Array
    offsets: Array
    words: Array
    first: Array
    spans: Array

    @classmethod
    def of(cls, text: str, ids: Array, offsets: Array) -> "_Aligned":
        spans, words, offsets = _align(text, offsets)
        return cls(ids, offsets, words, _starts(words), spans)

    def moved(self, characters: int, words: int) -> "_Aligned":
        """The same behind so many characters and words."""
        offsets = np.where(self.offsets >= 0, self.offsets + characters, -1)
        return _Aligned(
            self.ids, offsets, np.where(self.words >= 0, self.words + words, -1), self.first, self.spans + characters
        )

    def stretches(self, capacity: int, stride: int) -> list[tuple[int, int, tuple[int, int]]]:
        """The pieces [i, j) of each window, and which words [start, end) of this text it owns."""
        cuts = _cuts(_atoms(self.first, capacity), capacity, stride)
        owners = _owners(self.words, len(self.spans), cuts)
        borders = [(np.searchsorted(owners, n, "left"), np.searchsorted(owners, n, "right")) for n in range(len(cuts))]
        return [(i, j, (int(start), int(end))) for (i, j), (start, end) in zip(cuts, borders, strict=True)]

    def framed(self, i: int, j: int, encoder: Encoder, prefix: bool = True) -> tuple[Array, ...]:
        """Ids, offsets, words and firsts of the pieces [i, j) with special pieces around them."""
        before, after = encoder.prefix_ids if prefix else [], encoder.suffix_ids
        ids = np.concatenate([before, self.ids[i:j], after]).astype(np.int64)
        sides = len(before), len(after)
        rest = ((self.offsets, -1), (self.words, -1), (self.first, False))
        return ids, *(_framed(values[i:j], sides, fill) for values, fill in rest)


def _window(document: int, parts: tuple[Array, ...], owned: tuple[int, int], spans: Array) -> Window:
    ids, offsets, words, first = parts
    return Window(document, ids, offsets, words, first, owned, spans)


def _capacity(encoder: Encoder, max_pieces: int | None, stride: int) -> int:
    """How many pieces of text a window of `max_pieces` holds."""
    longest = encoder.max_pieces if max_pieces is None else max_pieces
    capacity = longest - len(encoder.prefix_ids) - len(encoder.suffix_ids)
    if longest > encoder.max_pieces:
        raise MedgraftError(f"max_pieces is {longest}, but the encoder takes at most {encoder.max_pieces}")
    if not 0 <= stride < capacity:
        raise MedgraftError(f"max_pieces of {longest} leaves no room for a stride of {stride}; lower the stride")
    return capacity


def _align(text: str, offsets: Array) -> tuple[Array, Array, Array]:
    """Word spans (W, 2), the word of each piece (N,), and the piece offsets (N, 2) without surrounding space."""
    spans = np.array([match.span() for match in _WORD.finditer(text)], dtype=np.int32).reshape(-1, 2)
    start, end = offsets[:, 0], offsets[:, 1]
    low = np.searchsorted(spans[:, 1], start, side="right")
    high = np.searchsorted(spans[:, 0], end, side="left") - 1
    visible = (low <= high) & (start < end)
    low, high = low[visible], high[visible]
    trimmed = np.full_like(offsets, -1)
    trimmed[visible, 0] = np.maximum(start[visible], spans[low, 0])
    trimmed[visible, 1] = np.minimum(end[visible], spans[high, 1])

    # Words that share a piece become one; words without any piece, which the tokenizer dropped, go.
    steps = np.zeros(len(spans) + 1, dtype=np.int64)
    np.add.at(steps, low, 1)
    np.add.at(steps, high, -1)
    joined = np.cumsum(steps)[: len(spans)] > 0  # to the next word
    group = np.cumsum(np.concatenate([[0], ~joined[:-1]])) if len(spans) else np.zeros(0, dtype=np.int64)
    kept, index = np.unique(group[low], return_inverse=True)
    starts, ends = np.searchsorted(group, kept, side="left"), np.searchsorted(group, kept, side="right") - 1
    words = np.full(len(offsets), -1, dtype=np.int32)
    words[visible] = index
    return np.stack([spans[starts, 0], spans[ends, 1]], axis=1), words, trimmed


def _starts(words: Array) -> Array:
    """(N,) true on the first piece of each word."""
    first = np.zeros(len(words), dtype=bool)
    visible = np.flatnonzero(words >= 0)
    first[visible[np.unique(words[visible], return_index=True)[1]]] = True
    return first


def _atoms(first: Array, capacity: int) -> Array:
    """Borders (A + 1,) between the stretches of pieces that stay together: words, or slices of an overlong one."""
    borders = [0]
    for border in [*np.flatnonzero(first).tolist(), len(first)]:
        while border - borders[-1] > capacity:
            borders.append(borders[-1] + capacity)
        if border > borders[-1]:
            borders.append(border)
    return np.array(borders)


def _cuts(atoms: Array, capacity: int, stride: int) -> list[tuple[int, int]]:
    """The pieces [i, j) of each window: as many whole atoms as fit, the next window `stride` pieces before the end."""
    cuts: list[tuple[int, int]] = []
    i = 0
    while True:
        last = int(np.searchsorted(atoms, i + capacity, side="right")) - 1
        j = int(atoms[last])
        cuts.append((i, j))
        if last + 1 == len(atoms):
            return cuts
        # The next window must at least hold one atom more.
        earliest = max(j - stride, int(atoms[last + 1]) - capacity)
        i = int(atoms[np.searchsorted(atoms, earliest, side="left")])


def _owners(words: Array, count: int, cuts: list[tuple[int, int]]) -> Array:
    """(W,) the window that owns each word: where it is whole and furthest from a cut, the first of equals."""
    visible = np.flatnonzero(words >= 0)
    low = visible[np.searchsorted(words[visible], np.arange(count), side="left")]
    high = visible[np.searchsorted(words[visible], np.arange(count), side="right") - 1] + 1
    # An overlong word is whole nowhere: the last window that holds its first piece owns it.
    owners = np.searchsorted([i for i, _ in cuts], low, side="right") - 1
    best = np.full(count, -1)
    for number, (i, j) in enumerate(cuts):
        whole = slice(np.searchsorted(low, i, side="left"), np.searchsorted(high, j, side="right"))
        # The ends of the document are no cuts.
        left = low[whole] - (i if number else -len(words))
        right = (j if number + 1 < len(cuts) else 2 * len(words)) - high[whole]
        room = np.minimum(left, right)
        better = room > best[whole]
        owners[whole][better] = number
        best[whole][better] = room[better]
    return owners


def _framed(values: Array, sides: tuple[int, int], fill: int | bool) -> Array:
    """With rows for the special pieces before and after."""
    return np.pad(values, [sides] + [(0, 0)] * (values.ndim - 1), constant_values=fill)
