"""A memory outside the weights: graph facts, definitions of concepts and training examples, recalled by likeness.

An entry is a short text with slots: the stretches of it that say something, each with a label (a concept of the graph
with its type, a mention with the type that people gave it). An untrained encoder reads it once. The mean of its states
over a slot is the slot's vector, which the pieces of a sentence attend to (`fusion.recall`) once the sentence has
recalled the entry (`fusion.recalling`). So entries can be added and removed without training anything.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from kg.nearest import NearestIndex
from lm.alignment import windows
from lm.encoder import Array, Encoder
from lm.vectors import read_windows
from loaders.errors import MedgraftError

KINDS = ("facts", "definitions", "examples")
_LONGEST = 128  # pieces of an entry


@dataclass(frozen=True)
class Entry:
    """A text with its slots, as characters [start, end) and a label; `source` says where it comes from.

    `origins` are the texts that an example is taken from, as a model reads them: they never recall it.
    """

    kind: str
    text: str
    slots: tuple[tuple[int, int, str], ...]
    source: str = ""
    origins: tuple[str, ...] = field(default=(), repr=False)


class Nearest(NamedTuple):
    """An entry by its row, how near it is (cosine), by which slot, -1 for all of it, and to which of the vectors."""

    row: int
    score: float
    slot: int
    query: int


@dataclass(frozen=True)
class Memory:
    """E entries with S slots in all, over states of d numbers.

    Shapes:
        entries: kind, text, source and origins (digests of the texts, with spaces between) of E entries
        keys: (X, d) float16, of the entries that are examples, in their order
        starts: (E + 1,) the slots [starts[e], starts[e + 1]) are those of entry e
        slots: (S, d) float16
        spans: (S, 2) characters of the entry's text
        labels: (S,) index into `label_names`, -1 for a label that is not among them
        centre: (2, d) means of keys and of slots when the memory was first made

    `graph` is the fingerprint of the graph that facts and definitions come from, empty for none. `reader` is the
    encoder that reads entries and sentences, by the states after `depth` blocks, and `encoder` its digest.
    """

    entries: pa.Table
    keys: Tensor
    starts: Tensor
    slots: Tensor
    spans: Tensor
    labels: Tensor
    centre: Tensor
    label_names: tuple[str, ...]
    graph: str
    encoder: str
    depth: int
    reader: Encoder = field(repr=False, compare=False)

    @classmethod
    def build(
        cls, entries: Iterable[Entry], encoder: str | Path | Encoder, *, graph: str = "", depth: int | None = None,
        label_names: Sequence[str] | None = None, progress: bool = False,
    ) -> "Memory":  # fmt: skip
        """Read the entries with an encoder as it is before training.

        Args:
            entries: see `fusion.memory_entries`.
            encoder: the one that the model will be trained from.
            graph: fingerprint of the graph that the facts and definitions come from.
            depth: blocks that read; two thirds by default, where the memory goes into the model too. A model that
                freezes as many blocks reads by them, others carry the reader along.
            label_names: that the model can learn; those of the entries by default.
            progress: show a bar on stderr if it is a terminal.

        Raises:
            MedgraftError: a kind that there is not, a depth that the encoder has not.
        """
        reader = encoder if isinstance(encoder, Encoder) else Encoder.load(encoder)
        depth = -(-2 * reader.num_blocks // 3) if depth is None else depth
        given = list(entries)
        names = sorted({label for e in given for _, _, label in e.slots}) if label_names is None else label_names
        empty = cls._empty(reader, depth, tuple(names), graph)
        made = empty.with_entries(given, progress=progress)
        means = [t.float().mean(dim=0) if len(t) else torch.zeros(reader.hidden_size) for t in (made.keys, made.slots)]
        return replace(made, centre=torch.stack(means))

    @classmethod
    def _empty(cls, reader: Encoder, depth: int, label_names: tuple[str, ...], graph: str) -> "Memory":
        width = reader.hidden_size
        return cls(
            entries=pa.table({name: pa.array([], pa.string()) for name in ("kind", "text", "source", "origins")}),
            keys=torch.zeros(0, width, dtype=torch.float16),
            starts=torch.zeros(1, dtype=torch.int64),
            slots=torch.zeros(0, width, dtype=torch.float16),
            spans=torch.zeros(0, 2, dtype=torch.int32),
            labels=torch.zeros(0, dtype=torch.int32),
            centre=torch.zeros(2, width),
            label_names=label_names,
            graph=graph,
            encoder=reader.digest(depth),
            depth=depth,
            reader=reader,
        )

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def counts(self) -> dict[str, int]:
        """How many entries there are of each kind."""
        kinds = self.entries["kind"].to_pylist()
        return {kind: kinds.count(kind) for kind in KINDS if kind in kinds}

    def entry(self, row: int) -> Entry:
        """An entry with the labels that the model knows of its slots; others are empty."""
        at = slice(int(self.starts[row]), int(self.starts[row + 1]))
        names = [self.label_names[n] if n >= 0 else "" for n in self.labels[at].tolist()]
        slots = tuple((start, end, name) for (start, end), name in zip(self.spans[at].tolist(), names, strict=True))
        found = {name: self.entries[name][row].as_py() for name in ("kind", "text", "source")}
        return Entry(**found, slots=slots)

    def check(self, encoder: Encoder, graph: str = "") -> None:
        """Raise a MedgraftError if the memory was read by another encoder, or is of another graph.

        `encoder` may have been trained, if the memory brings its own reader; only the width has to be the same then.
        """
        if encoder.hidden_size != self.slots.shape[1]:
            raise MedgraftError(
                f"the memory was read by an encoder of width {self.slots.shape[1]}, and the model's has "
                f"{encoder.hidden_size}; make the memory with the encoder that the model starts from"
            )
        if graph and self.graph and graph != self.graph:
            raise MedgraftError(
                f"the memory is of graph {self.graph[:12]}, but the model is of {graph[:12]}; make the memory anew"
            )

    def read_by(self, encoder: Encoder) -> "Memory":
        """The same memory with this encoder as its reader.

        Raises:
            MedgraftError: it reads otherwise than the encoder that the entries were read by.
        """
        if encoder.digest(self.depth) != self.encoder:
            raise MedgraftError(
                "the memory was read by another encoder; make it with the one that the model starts from"
            )
        return replace(self, reader=encoder)

    def with_entries(self, entries: Iterable[Entry], *, progress: bool = False) -> "Memory":
        """With more entries; nothing is trained, and what is there stays as it is to the last bit."""
        given = list(entries)
        unknown = sorted({entry.kind for entry in given} - set(KINDS))
        if unknown:
            raise MedgraftError(f"no entries of kind {unknown[0]!r} in a memory; choose {', '.join(KINDS)}")
        if not given:
            return self
        keys, slots = _read(self.reader, given, self.depth, progress)
        row_of = {name: row for row, name in enumerate(self.label_names)}
        flat = [slot for entry in given for slot in entry.slots]
        counts = torch.tensor([len(entry.slots) for entry in given])
        examples = [row for row, entry in enumerate(given) if entry.kind == "examples"]
        columns: dict[str, list[str]] = {name: [getattr(e, name) for e in given] for name in ("kind", "text", "source")}
        columns["origins"] = [" ".join(map(_digest, entry.origins)) for entry in given]
        return replace(
            self,
            entries=pa.concat_tables([self.entries, pa.table(columns)]),
            keys=torch.cat([self.keys, keys[examples]]),
            starts=torch.cat([self.starts, self.starts[-1] + counts.cumsum(0)]),
            slots=torch.cat([self.slots, slots]),
            spans=torch.cat([self.spans, torch.tensor([s[:2] for s in flat], dtype=torch.int32).reshape(-1, 2)]),
            labels=torch.cat([self.labels, torch.tensor([row_of.get(s[2], -1) for s in flat], dtype=torch.int32)]),
        )

    def relabelled(self, names: tuple[str, ...]) -> "Memory":
        """With the labels that a trained layer knows, in its order; others become unknown."""
        row_of = {name: row for row, name in enumerate(names)}
        rows = torch.tensor([*(row_of.get(name, -1) for name in self.label_names), -1], dtype=torch.int32)
        return replace(self, labels=rows[self.labels.long()], label_names=names)

    def only(self, keep: Callable[[str, str], bool]) -> "Memory":
        """Without the entries of whose kind and source `keep` says no."""
        pairs = zip(self.entries["kind"].to_pylist(), self.entries["source"].to_pylist(), strict=True)
        rows = [row for row, (kind, source) in enumerate(pairs) if keep(kind, source)]
        kept = set(rows)
        counts = (self.starts[1:] - self.starts[:-1])[rows]
        at = torch.tensor([n for row in rows for n in range(int(self.starts[row]), int(self.starts[row + 1]))]).long()
        return replace(
            self,
            entries=self.entries.take(pa.array(rows, pa.int64())),
            keys=self.keys[[n for n, row in enumerate(self.examples.tolist()) if row in kept]],
            starts=torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)]),
            slots=self.slots[at],
            spans=self.spans[at],
            labels=self.labels[at],
        )

    def shuffled(self, seed: int) -> "Memory":
        """A control: the same texts are recalled, but every slot has the label of another one."""
        order = torch.randperm(len(self.labels), generator=torch.Generator().manual_seed(seed))
        return replace(self, labels=self.labels[order])

    def digest(self) -> str:
        """SHA-256 of everything in the memory, so that two memories can be told apart."""
        words = [self.entries.to_pylist(), self.label_names, self.graph, self.encoder, self.depth]
        total = hashlib.sha256(json.dumps(words).encode())
        for tensor in self._tensors().values():
            total.update(np.ascontiguousarray(tensor.numpy()).data)
        return total.hexdigest()

    def recall(self, vectors: Array, kind: str, k: int, origin: str = "") -> list[Nearest]:
        """The k entries of a kind that are nearest to any of the vectors (Q, d), best first.

        `origin` is the text whose own examples are not recalled.
        """
        if kind not in self._indexes or not len(vectors):
            return []
        rows, slots, index = self._indexes[kind]
        own = self._rows_of_origin.get(_digest(origin), frozenset()) if origin else frozenset()
        centre = self.centre[0 if kind == "examples" else 1].numpy()
        # An entry has several slots, and a text several examples: so many more have to be asked for.
        asked = k + len(own) if kind == "examples" else k * self._most_slots
        found, scores = index.search(vectors - centre, asked)
        best: dict[int, Nearest] = {}
        order = np.argsort(-scores.ravel(), kind="stable")
        for place in order.tolist():
            row, slot = (int(side[found.ravel()[place]]) for side in (rows, slots))
            if row not in own and len(best) < k:
                best.setdefault(row, Nearest(row, float(scores.ravel()[place]), slot, place // scores.shape[1]))
        return list(best.values())

    @cached_property
    def _indexes(self) -> dict[str, tuple[Array, Array, NearestIndex]]:
        """By kind the entry and the slot (-1 for a whole example) of each vector that can be found, and their index."""
        of_slot = torch.repeat_interleave(torch.arange(len(self)), self.starts[1:] - self.starts[:-1])
        made = {}
        for kind in self.counts:
            if kind == "examples":
                rows, vectors, centre = self.examples, self.keys, self.centre[0]
                slots = torch.full_like(rows, -1)
            else:
                chosen = self.kind_numbers[of_slot] == KINDS.index(kind)
                rows, vectors, centre = of_slot[chosen], self.slots[chosen], self.centre[1]
                slots = chosen.nonzero().flatten()
            if len(rows):
                made[kind] = rows.numpy(), slots.numpy(), NearestIndex(vectors.float().numpy() - centre.numpy())
        return made

    @cached_property
    def _most_slots(self) -> int:
        """Of a fact or a definition."""
        counts = (self.starts[1:] - self.starts[:-1])[self.kind_numbers != KINDS.index("examples")]
        return int(counts.max()) if len(counts) else 1

    @property
    def examples(self) -> Tensor:
        """(X,) the rows of the entries that are examples."""
        return (self.kind_numbers == KINDS.index("examples")).nonzero().flatten()

    @cached_property
    def found(self) -> dict[Any, Any]:
        """What was recalled before; see `fusion.recalling`."""
        return {}

    @cached_property
    def kind_numbers(self) -> Tensor:
        """(E,) the index of each entry's kind."""
        return torch.tensor([KINDS.index(kind) for kind in self.entries["kind"].to_pylist()], dtype=torch.long)

    @cached_property
    def _rows_of_origin(self) -> dict[str, frozenset[int]]:
        found: dict[str, set[int]] = {}
        for row, origins in enumerate(self.entries["origins"].to_pylist()):
            for origin in origins.split():
                found.setdefault(origin, set()).add(row)
        return {origin: frozenset(rows) for origin, rows in found.items()}

    def _tensors(self) -> dict[str, Tensor]:
        names = ("keys", "starts", "slots", "spans", "labels", "centre")
        return {name: getattr(self, name) for name in names}

    def save(self, folder: Path, model_encoder: Encoder | None = None) -> None:
        """Write the folder; the reader goes along unless the model's encoder reads the same."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: t.contiguous() for name, t in self._tensors().items()}, folder / "memory.safetensors")
        pq.write_table(self.entries, folder / "entries.parquet")
        words = {"labels": self.label_names, "graph": self.graph, "encoder": self.encoder, "depth": self.depth}
        (folder / "memory.json").write_text(json.dumps(words, indent=1, ensure_ascii=False) + "\n")
        if model_encoder is None or model_encoder.digest(self.depth) != self.encoder:
            self.reader.save(folder / "reader")

    @classmethod
    def load(cls, folder: Path, model_encoder: Encoder | None = None) -> "Memory":
        """From its folder.

        Raises:
            MedgraftError: a file is missing, or the encoder is another one than the entries were read with.
        """
        for name in ("memory.safetensors", "entries.parquet", "memory.json"):
            if not (folder / name).is_file():
                raise MedgraftError(f"{folder / name} is missing; copy the whole folder, or make the memory anew")
        words = json.loads((folder / "memory.json").read_text())
        reader = Encoder.load(folder / "reader") if (folder / "reader").is_dir() else model_encoder
        if reader is None or reader.digest(words["depth"]) != words["encoder"]:
            raise MedgraftError(
                f"{folder} was read by another encoder than the one beside it; copy both from one training"
            )
        return cls(
            entries=pq.read_table(folder / "entries.parquet"),
            label_names=tuple(words["labels"]),
            graph=words["graph"],
            encoder=words["encoder"],
            depth=words["depth"],
            reader=reader,
            **load_file(folder / "memory.safetensors"),
        )


def _read(reader: Encoder, entries: Sequence[Entry], depth: int, progress: bool) -> tuple[Tensor, Tensor]:
    """Keys and slot vectors of the entries; a slot beyond the window, or without a piece, is the entry's key."""
    made = windows([entry.text for entry in entries], reader, min(_LONGEST, reader.max_pieces), 0)
    first = list({window.document: window for window in reversed(made)}.values())
    keys = np.zeros((len(entries), reader.hidden_size), dtype=np.float16)
    slots: list[Array] = [np.zeros((len(entry.slots), reader.hidden_size), np.float16) for entry in entries]
    for number, states in read_windows(reader, first, depth, progress):
        window = first[number]
        inside = window.words >= 0
        if not inside.any():
            continue
        keys[window.document] = key = states[inside].mean(axis=0)
        for n, (start, end, _) in enumerate(entries[window.document].slots):
            i, j = window.pieces_of(start, end)
            slots[window.document][n] = states[i:j].mean(axis=0) if i < j else key
    return torch.from_numpy(keys), torch.from_numpy(np.concatenate([np.zeros((0, keys.shape[1]), np.float16), *slots]))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
