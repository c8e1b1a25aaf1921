"""Pretraining an encoder on raw text: masked pieces, whole words, whole concepts; next segments; linked concepts.

Texts are cut into pieces and packed into sequences of one length, with the suffix piece between two texts (RoBERTa's
FULL-SENTENCES, Liu et al., 2019). Masks are drawn anew at every step (dynamic masking, ibid.): groups of pieces, which
are words or the mentions of concepts, are chosen until `share` of the pieces are; of the chosen 80 % become the mask
piece, 10 % a random piece, 10 % stay (Devlin et al., NAACL 2019).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from lm.alignment import word_places
from lm.encoder import Array, Encoder
from lm.training import isolated_seed
from loaders.errors import MedgraftError
from loaders.records import Document

MASKINGS = ("piece", "word", "concept")
_SPECIAL = -1  # group of special pieces and padding
_CHECKPOINT_HEAD = {
    "cls.predictions.transform.dense.": "dense.",
    "cls.predictions.transform.LayerNorm.": "norm.",
    "cls.predictions.bias": "bias",
}


@dataclass(frozen=True)
class Packed:
    """S sequences of T pieces, memory-mapped where they come from a folder.

    Shapes: ids, groups and concepts (S, T). Pieces of one group are masked together, -1 is never masked; `concepts`
    has the row of the linked concept on each of its pieces, -1 elsewhere. `next` (S,) is 1 where the second segment
    follows the first in its text, 0 where it does not, -1 without segments. `texts` (S,) is the text of a sequence's
    first piece.
    """

    ids: Array
    groups: Array
    concepts: Array
    next: Array
    texts: Array
    read: int

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class PackedSequence:
    """One packed sequence, as `lm.fit` wants its examples."""

    packed: Packed
    number: int

    def __len__(self) -> int:
        return int(self.packed.ids.shape[1])


def pack(
    texts: Iterable[Document],
    encoder: Encoder,
    *,
    max_pieces: int = 128,
    masking: str = "word",
    next_segments: bool = False,
    concept_rows: dict[str, int] | None = None,
    seed: int = 0,
    folder: str | Path | None = None,
) -> Packed:
    """Cut texts into sequences; the texts are read once and never held together.

    Args:
        texts: documents; for concepts with linked mentions.
        encoder: whose tokenizer cuts them.
        max_pieces: length of a sequence, special pieces included.
        masking: "piece", "word", or "concept" (mentions with a concept together, words elsewhere).
        next_segments: two segments a sequence, the second one from another text half of the time.
        concept_rows: row of each concept id, for the concept objective.
        seed: of the choice of other texts.
        folder: where the arrays are kept on disk, for corpora beyond the memory.

    Raises:
        MedgraftError: no text, an unknown masking, an encoder without mask piece, or too short a sequence.
    """
    if masking not in MASKINGS:
        raise MedgraftError(f"unknown masking {masking!r}; choose {', '.join(MASKINGS)}")
    if getattr(encoder.tokenizer, "mask_token_id", None) is None:
        raise MedgraftError("this encoder's tokenizer has no mask piece; choose another encoder")
    if not 8 <= max_pieces <= encoder.max_pieces:
        raise MedgraftError(f"max_pieces is {max_pieces}; this encoder takes 8 to {encoder.max_pieces}")
    rows: list[tuple[Array, Array, Array, int, int]] = []
    spill = _Spill(Path(folder), max_pieces) if folder is not None else None
    read = 0

    def counted() -> Iterator[_Cut]:
        nonlocal read
        for cut in _cut(texts, encoder, masking, concept_rows or {}):
            read = max(read, cut.text + 1)
            yield cut

    make = _segments if next_segments else _sequences
    for row in make(counted(), encoder, max_pieces, np.random.default_rng(seed)):
        if spill is None:
            rows.append(row)
        else:
            spill.add(row)
    if not rows and (spill is None or not spill.count):
        raise MedgraftError("there is no text to pretrain on; check the files")
    if spill is not None:
        return spill.packed(read)
    ids, groups, concepts, after, text = zip(*rows, strict=True)
    return Packed(np.stack(ids), np.stack(groups), np.stack(concepts), np.array(after), np.array(text), read)


@dataclass(frozen=True)
class _Cut:
    """The pieces of a text: ids, groups and concepts (N,)."""

    text: int
    ids: Array
    groups: Array
    concepts: Array

    def part(self, start: int, end: int) -> "_Cut":
        return _Cut(self.text, self.ids[start:end], self.groups[start:end], self.concepts[start:end])


def _cut(
    texts: Iterable[Document], encoder: Encoder, masking: str, concept_rows: dict[str, int], size: int = 64
) -> Iterator[_Cut]:
    group: list[Document] = []
    number = 0
    for document in texts:
        group.append(document)
        if len(group) == size:
            yield from _cut_group(group, number, encoder, masking, concept_rows)
            number, group = number + len(group), []
    yield from _cut_group(group, number, encoder, masking, concept_rows)


def _cut_group(
    group: list[Document], number: int, encoder: Encoder, masking: str, concept_rows: dict[str, int]
) -> Iterator[_Cut]:
    for place, (document, (ids, offsets)) in enumerate(
        zip(group, encoder.pieces([document.text for document in group]), strict=True)
    ):
        if not len(ids):
            continue
        words, places = word_places(document.text, offsets)
        groups = (
            np.arange(len(ids)) if masking == "piece" else np.where(words >= 0, words, len(ids) + np.arange(len(ids)))
        )
        concepts = np.full(len(ids), -1, dtype=np.int32)
        taken = np.zeros(len(ids), dtype=bool)
        for m in sorted(document.mentions, key=lambda m: m.start - m.end):
            inside = (places[:, 0] < m.end) & (places[:, 1] > m.start)
            if m.concept_id is None or not inside.any() or taken[inside].any():
                continue
            taken |= inside
            concepts[inside] = concept_rows.get(m.concept_id, -1)
            if masking == "concept":
                groups[inside] = groups[inside][0]
        yield _Cut(number + place, ids, groups.astype(np.int32), concepts)


Row = tuple[Array, Array, Array, int, int]


def _sequences(cuts: Iterable[_Cut], encoder: Encoder, length: int, _generator: Any) -> Iterator[Row]:
    """Texts one after the other, a suffix piece between them; the last sequence is padded."""
    room = length - len(encoder.prefix_ids) - len(encoder.suffix_ids)
    held: list[_Cut] = []
    count = 0
    for cut in cuts:
        start = 0
        while start < len(cut.ids):
            gap = len(encoder.suffix_ids) if held else 0
            take = min(room - count - gap, len(cut.ids) - start)
            if take > 0:
                held.append(cut.part(start, start + take))
                count += take + gap
                start += take
            if count >= room or take <= 0:
                yield _framed(held, encoder, length, -1)
                held, count = [], 0
    if held:
        yield _framed(held, encoder, length, -1)


def _segments(cuts: Iterable[_Cut], encoder: Encoder, length: int, generator: Any) -> Iterator[Row]:
    """Two halves a sequence: of one text, or the second from an earlier text (held in a pool of 256)."""
    half = (length - len(encoder.prefix_ids) - 2 * len(encoder.suffix_ids)) // 2
    pool: list[_Cut] = []
    for cut in cuts:
        for start in range(0, len(cut.ids), 2 * half):
            first, second = cut.part(start, start + half), cut.part(start + half, start + 2 * half)
            if not len(second.ids):
                continue
            others = [one for one in pool if one.text != cut.text]
            true = bool(generator.random() < 0.5) or not others
            yield _framed(
                [first, second if true else others[int(generator.integers(len(others)))]], encoder, length, int(true)
            )
            pool = [*pool[-255:], second]


def _framed(parts: Sequence[_Cut], encoder: Encoder, length: int, after: int) -> Row:
    ids, groups, concepts = (np.full(length, fill, dtype=np.int32) for fill in (encoder.pad_id, _SPECIAL, -1))
    at = len(encoder.prefix_ids)
    ids[:at] = encoder.prefix_ids
    first_group = 0
    for part in parts:
        end = at + len(part.ids)
        ids[at:end], concepts[at:end] = part.ids, part.concepts
        _, numbered = np.unique(part.groups, return_inverse=True)
        groups[at:end] = numbered + first_group
        first_group += int(numbered.max()) + 1
        ids[end : end + len(encoder.suffix_ids)] = encoder.suffix_ids
        at = end + len(encoder.suffix_ids)
    return ids, groups, concepts, after, parts[0].text


class _Spill:
    """Rows written to files as they come."""

    def __init__(self, folder: Path, length: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.length, self.count = folder, length, 0
        self.files = [(folder / f"{name}.bin").open("wb") for name in ("ids", "groups", "concepts")]
        self.after: list[int] = []
        self.texts: list[int] = []

    def add(self, row: Row) -> None:
        for file, array in zip(self.files, row[:3], strict=True):
            file.write(np.ascontiguousarray(array, dtype=np.int32).tobytes())
        self.after.append(row[3])
        self.texts.append(row[4])
        self.count += 1

    def packed(self, read: int) -> Packed:
        for file in self.files:
            file.close()
        shape = (self.count, self.length)
        ids, groups, concepts = (np.memmap(file.name, np.int32, "r", shape=shape) for file in self.files)
        return Packed(ids, groups, concepts, np.array(self.after), np.array(self.texts), read)


def sequences(packed: Packed, encoder: Encoder) -> tuple[list[PackedSequence], Any]:
    """Examples and collate function for `lm.fit`."""

    def collate(group: Sequence[PackedSequence]) -> dict[str, Tensor]:
        rows = [example.number for example in group]
        # No wider than the longest of them.
        real = [(packed.ids[row] != encoder.pad_id) | (packed.groups[row] >= 0) for row in rows]
        width = max(int(np.flatnonzero(there)[-1]) + 1 for there in real)
        batch = {
            "input_ids": np.stack([packed.ids[row][:width] for row in rows]).astype(np.int64),
            "attention_mask": np.stack([there[:width] for there in real]).astype(np.int64),
            "pretraining.groups": np.stack([packed.groups[row][:width] for row in rows]).astype(np.int64),
            "pretraining.concepts": np.stack([packed.concepts[row][:width] for row in rows]).astype(np.int64),
            "pretraining.next": packed.next[rows].astype(np.int64),
        }
        return {name: torch.from_numpy(array) for name, array in batch.items()}

    return [PackedSequence(packed, number) for number in range(len(packed))], collate


def draw_masks(groups: Tensor, share: float, generator: torch.Generator | None = None) -> Tensor:
    """(B, T) true on the chosen pieces: whole groups in a random order until `share` of each row's pieces are chosen.

    Draws on the CPU, so that the same seed gives the same masks on every device. At least one group is chosen.
    """
    where = groups.cpu()
    count = int(where.max()) + 1 if where.numel() and int(where.max()) >= 0 else 1
    there = where >= 0
    sizes = torch.zeros(len(where), count).scatter_add_(1, where.clamp(min=0), there.float())
    order = torch.rand(len(where), count, generator=generator).masked_fill(sizes == 0, 2.0).argsort(dim=1)
    ordered = sizes.gather(1, order)
    before = ordered.cumsum(dim=1) - ordered
    chosen_in_order = (before < share * there.sum(dim=1, keepdim=True)) & (ordered > 0)
    chosen = torch.zeros(len(where), count, dtype=torch.bool).scatter_(1, order, chosen_in_order)
    return (chosen.gather(1, where.clamp(min=0)) & there).to(groups.device)


@dataclass(slots=True)
class PretrainingOutput:
    """`loss` is the sum of the objectives' means; `losses` (B,) and `counts` (B,) are of the masked pieces of a row."""

    loss: Tensor
    count: Tensor
    losses: Tensor
    counts: Tensor


class PretrainingNetwork(nn.Module):
    """An encoder with what predicts masked pieces, and where asked for next segments and linked concepts.

    The output matrix is the encoder's own embedding matrix (tied). Segments are told apart by the suffix piece alone:
    the encoder gets no segment ids. Concepts are told from the mean of their pieces against the vectors of the
    concepts in the batch (cosine, temperature 0.1).
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        share: float = 0.15,
        next_segments: bool = False,
        concept_vectors: Tensor | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 0 < share < 1:
            raise MedgraftError(f"the share of masked pieces is between 0 and 1, not {share:g}")
        self.encoder, self.share = encoder, share
        self.mask_id = int(encoder.tokenizer.mask_token_id)
        table = encoder.model.get_input_embeddings()
        with isolated_seed(seed):
            self.dense = nn.Linear(encoder.hidden_size, table.weight.shape[1])
            self.norm = nn.LayerNorm(table.weight.shape[1], eps=1e-12)
            self.bias = nn.Parameter(torch.zeros(table.weight.shape[0]))
            self.follows = nn.Linear(encoder.hidden_size, 2) if next_segments else None
            dim = 0 if concept_vectors is None else concept_vectors.shape[1]
            self.concept = nn.Linear(encoder.hidden_size, dim) if dim else None
        self.register_buffer("vectors", concept_vectors, persistent=False)

    def load_head(self, folder: Path) -> bool:
        """Take the head of a masked language model's own folder; False if it has none."""
        for name in ("pretraining.safetensors", "model.safetensors"):
            if not (folder / name).is_file():
                continue
            with safe_open(folder / name, "pt") as file:
                names = set(file.keys())
                if name == "pretraining.safetensors":
                    found = {n: file.get_tensor(n) for n in names}
                else:
                    found = {
                        ours + n.removeprefix(theirs): file.get_tensor(n)
                        for n in names
                        for theirs, ours in _CHECKPOINT_HEAD.items()
                        if n.startswith(theirs)
                    }
            own = self.state_dict()
            if found and all(n in own and own[n].shape == t.shape for n, t in found.items()):
                self.load_state_dict(found, strict=False)
                return True
        return False

    def forward(self, batch: dict[str, Tensor], generator: torch.Generator | None = None) -> PretrainingOutput:
        """Masks are drawn from torch's global state, or from `generator`."""
        ids, groups = batch["input_ids"], batch["pretraining.groups"]
        chosen = draw_masks(groups, self.share, generator)
        dice = torch.rand(ids.shape, generator=generator).to(ids.device)
        other = torch.randint(0, len(self.bias), ids.shape, generator=generator).to(ids.device)
        shown = ids.masked_fill(chosen & (dice < 0.8), self.mask_id)
        shown = torch.where(chosen & (dice >= 0.8) & (dice < 0.9), other, shown)
        hidden = self.encoder({"input_ids": shown, "attention_mask": batch["attention_mask"]})
        states = self.norm(F.gelu(self.dense(hidden[chosen])))
        logits = states @ self.encoder.model.get_input_embeddings().weight.T + self.bias
        each = F.cross_entropy(logits.float(), ids[chosen], reduction="none")
        rows = chosen.nonzero()[:, 0]
        losses = each.new_zeros(len(ids)).index_add(0, rows, each)
        counts = chosen.sum(dim=1)
        loss = each.sum() / counts.sum().clamp(min=1)
        if self.follows is not None:
            loss = loss + F.cross_entropy(self.follows(hidden[:, 0]), batch["pretraining.next"])
        if self.concept is not None:
            loss = loss + self._concept_loss(hidden, batch["pretraining.concepts"], groups)
        return PretrainingOutput(loss, counts.sum(), losses.detach(), counts)

    def _concept_loss(self, hidden: Tensor, concepts: Tensor, groups: Tensor) -> Tensor:
        """Which of the batch's concepts each mention is of, by the mean of its pieces' states."""
        there = concepts >= 0
        if not there.any() or self.concept is None:
            return hidden.sum() * 0
        row, _ = there.nonzero(as_tuple=True)
        key = (row * (int(groups.max()) + 2) + groups[there]) * (int(concepts.max()) + 1) + concepts[there]
        spans, index = key.unique(return_inverse=True)
        sums = hidden.new_zeros(len(spans), hidden.shape[2]).index_add(0, index, hidden[there])
        mean = sums / torch.bincount(index, minlength=len(spans))[:, None]
        wanted, target = (spans % (int(concepts.max()) + 1)).unique(return_inverse=True)
        known = F.normalize(self.get_buffer("vectors")[wanted], dim=1)
        return F.cross_entropy(F.normalize(self.concept(mean), dim=1) @ known.T / 0.1, target)


def masked_losses(
    network: PretrainingNetwork, packed: Packed, *, batch_size: int = 16, seed: int = 0
) -> tuple[Array, Array]:
    """Summed loss and number of masked pieces of each sequence (S,), under masks that `seed` alone decides."""
    examples, collate = sequences(packed, network.encoder)
    device = next(network.parameters()).device
    was_training = network.training
    network.eval()
    losses, counts = [], []
    try:
        with torch.no_grad():
            for start in range(0, len(examples), batch_size):
                batch = {n: t.to(device) for n, t in collate(examples[start : start + batch_size]).items()}
                output = network(batch, torch.Generator().manual_seed(seed * 1_000_003 + start))
                losses.append(output.losses.cpu().numpy())
                counts.append(output.counts.cpu().numpy())
    finally:
        network.train(was_training)
    return np.concatenate(losses), np.concatenate(counts)
