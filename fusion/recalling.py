"""What the sentences of a text recall from a memory, by the states that an encoder before training has of them.

Facts and definitions are about one or two things, so phrases of the sentence recall them by their slots: runs of words
between stop words and punctuation (English ones), and an entry is as near as its nearest slot is to the nearest phrase.
Examples are sentences, and the sentence as a whole recalls them by their key, the mean of all their states. The
document that an example comes from never recalls it.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fusion.memory import KINDS, Entry, Memory, Nearest
from fusion.recall import Recalled
from lm.alignment import Window, windows
from lm.caching import States, key_of
from lm.encoder import Array, Encoder
from lm.sentences import sentence_starts
from lm.vectors import read_windows
from loaders.records import Document

_PHRASE = 4  # words of a phrase at most
_REMEMBERED = 20_000  # windows whose entries are kept
_WORD = re.compile(r"\w+|[^\w\s]")
_STOP = frozenset(
    "a about after all also although among an and any are as at be because been before between both but by came can "
    "case cases compared could did do does due during each either find found for from group had has have he her his "
    "how however if in induced into is it its may more most no not of on one only or other our over patient patients "
    "received related reported results same several she should show showed significant significantly since some study "
    "such than that the their them then there these they this those three through to treated treatment two under used "
    "using was we were when where whether which while who with within without".split()
)


@dataclass(frozen=True)
class Recollection:
    """What a sentence, characters [start, end) of its text, recalled: the entry and how near it is (cosine)."""

    start: int
    end: int
    entry: Entry
    score: float


class Found(NamedTuple):
    """A sentence of a window, by its number and characters, an entry, and the pieces of the phrase near it."""

    sentence: int
    start: int
    end: int
    nearest: Nearest
    phrase: tuple[int, int]


class Recalling:
    """Finds what the windows of some texts recall, and keeps it: an extra for `collate`.

    `states` are those that `lm.caching` keeps, where the frozen blocks are the ones that read.
    """

    def __init__(self, memory: Memory, texts: Sequence[str], k: int, states: States | None = None) -> None:
        self.memory, self.texts, self.k, self.states = memory, texts, k, states
        self._found = memory.found

    def __call__(self, group: Sequence[Window]) -> dict[str, Tensor]:
        memory = self.memory
        places = np.full((len(group), max(map(len, group))), -1, dtype=np.int64)
        for row, window in enumerate(group):
            places[row, : len(window)] = _sentence_of_pieces(window, self.texts[window.document])
        slots = [[(n, found) for found in some for n in self._slots(found)] for some in self.recollections(group)]
        longest = max(map(len, slots))
        if not longest:
            return {}

        def table(value: Callable[[int, Found], Any], empty: Any) -> Tensor:
            """(B, L, ...) of a value of each slot."""
            return torch.tensor([[value(*s) for s in some] + [empty] * (longest - len(some)) for some in slots])

        at = table(lambda slot, _: slot, 0)
        entries = torch.searchsorted(memory.starts, at, right=True) - 1
        return Recalled(
            vectors=memory.slots[at].float(),
            labels=memory.labels[at].long() + 1,
            kinds=memory.kind_numbers[entries],
            sentences=table(lambda _, found: found.sentence, -1),
            places=torch.from_numpy(places),
            phrases=table(lambda slot, found: found.phrase if slot == found.nearest.slot else (0, 0), (0, 0)),
            scores=table(lambda slot, found: found.nearest.score if slot == found.nearest.slot else 0.0, 0.0),
            entries=entries,
        ).tensors()

    def recollections(self, group: Sequence[Window]) -> list[list[Found]]:
        """What each window recalls, in the order of its sentences, by kind, nearest first."""
        keys = [(self.k, self.texts[window.document], window.span, key_of(window)) for window in group]
        if len(self._found) > _REMEMBERED:
            self._found.clear()
        new = [n for n, key in enumerate(keys) if key not in self._found]
        for number, states in self._states([group[n] for n in new]):
            window = group[new[number]]
            self._found[keys[new[number]]] = list(self._recall(window, self.texts[window.document], states))
        return [self._found[key] for key in keys]

    def _recall(self, window: Window, text: str, states: Array) -> Iterator[Found]:
        """Each sentence of the window that has words in it, and what it recalls."""
        numbers = _sentence_of_pieces(window, text)
        starts = [*sentence_starts(text), len(text)]
        for number in dict.fromkeys(numbers[numbers >= 0].tolist()):
            inside = np.flatnonzero((numbers == number) & (window.words >= 0))
            if not len(inside):
                continue
            start, end = starts[number], starts[number + 1]
            whole = states[inside].mean(axis=0, keepdims=True)
            pieces = [window.pieces_of(i, j) for i, j in phrases(text, start, end)]
            pieces = [(i, j) for i, j in pieces if i < j]
            parts = np.stack([states[i:j].mean(axis=0) for i, j in pieces]) if pieces else whole[:0]
            for kind in KINDS:
                for near in self.memory.recall(whole if kind == "examples" else parts, kind, self.k, text):
                    yield Found(number, start, end, near, (0, 0) if near.slot < 0 else pieces[near.query])

    def _states(self, group: Sequence[Window]) -> Iterator[tuple[int, Array]]:
        missing = []
        for number, window in enumerate(group):
            if self.states is not None and key_of(window) in self.states:
                yield number, self.states[key_of(window)].float().numpy()
            else:
                missing.append(number)
        for place, states in read_windows(self.memory.reader, [group[n] for n in missing], self.memory.depth):
            yield missing[place], states

    def _slots(self, found: Found) -> range:
        starts = self.memory.starts
        return range(int(starts[found.nearest.row]), int(starts[found.nearest.row + 1]))


def memory_of(memory: Memory, linked: Sequence[Document], k: int, encoder: Encoder, states: States | None) -> Recalling:
    """What adds to a batch of windows over these texts what they recall, `k` entries of each kind a sentence."""
    free = memory.reader is encoder and encoder.frozen_blocks == memory.depth
    return Recalling(memory, [document.text for document in linked], k, states if free else None)


def recollections(memory: Memory, text: str, k: int) -> list[Recollection]:
    """What each sentence of a text recalls, in the order of the text, nearest first."""
    recalling = Recalling(memory, [text], k)
    made = windows([text], memory.reader, min(256, memory.reader.max_pieces), 0)
    return [
        Recollection(found.start, found.end, memory.entry(found.nearest.row), found.nearest.score)
        for some in recalling.recollections(made)
        for found in some
    ]


def _sentence_of_pieces(window: Window, text: str) -> Array:
    """(T,) the number of the sentence that each piece stands in, -1 for special pieces."""
    found = np.searchsorted(sentence_starts(text), window.offsets[:, 0], side="right") - 1
    numbers: Array = np.where(window.offsets[:, 0] >= 0, found, -1)
    return numbers


def phrases(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Characters of the runs of words between stop words and punctuation; long runs are cut."""
    found: list[list[tuple[int, int]]] = [[]]
    for match in _WORD.finditer(text, start, end):
        word = match[0]
        if word.lower() in _STOP or not word[0].isalnum() or word.isdigit() or len(found[-1]) == _PHRASE:
            found.append([])
        if word.lower() not in _STOP and word[0].isalnum() and not word.isdigit():
            found[-1].append(match.span())
    return [(run[0][0], run[-1][1]) for run in found if run]
