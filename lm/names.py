"""Training an encoder on pairs of names of one thing, so that names of one thing lie close and others apart.

The network of SapBERT (Liu et al., NAACL 2021): names of many things in a batch, cosines between all of them, and the
multi-similarity loss (Wang et al., CVPR 2019, eq. 16) over the pairs that are hard: two names of one thing that are no
nearer to each other, by a margin, than the nearest name of another thing, and the other way round.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lm.encoder import Array, Encoder
from lm.vectors import mean_states

_CHUNK = 10_000  # names that are cut into pieces at a time


@dataclass(frozen=True)
class NamePieces:
    """The pieces of N names, framed by special pieces: those of name n are `ids[starts[n]:starts[n + 1]]`."""

    ids: Array
    starts: Array

    def of(self, name: int) -> Array:
        """The pieces (T,) of a name."""
        found: Array = self.ids[self.starts[name] : self.starts[name + 1]]
        return found


@dataclass(frozen=True, slots=True)
class NamePair:
    """Two names of one thing, as `lm.fit` wants its examples; the length is that of the longer one."""

    first: Array
    """(T,) pieces."""
    second: Array
    thing: int

    def __len__(self) -> int:
        return max(len(self.first), len(self.second))


class NamePairs(Sequence[NamePair]):
    """P pairs of names; no pair is an object until it is asked for.

    Args:
        pieces: of the names.
        pairs: (P, 2) names.
        things: (P,) the thing that both are names of.
    """

    def __init__(self, pieces: NamePieces, pairs: Array, things: Array) -> None:
        self.pieces, self.pairs, self.things = pieces, pairs, things

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, n: int) -> NamePair:  # type: ignore[override]
        first, second = self.pairs[n]
        return NamePair(self.pieces.of(first), self.pieces.of(second), int(self.things[n]))


@dataclass
class NameOutput:
    """`loss`: mean over the batch's names; `count`: how many."""

    loss: Tensor
    count: Tensor


class NameNetwork(nn.Module):
    """An encoder whose vectors of names, see `lm.vectors`, are pulled together and pushed apart by their cosines.

    Args:
        encoder: trained in place.
        margin: of hard pairs.
        pull, push, between: alpha, beta and lambda of the multi-similarity loss.
    """

    def __init__(
        self, encoder: Encoder, *, margin: float = 0.2, pull: float = 2.0, push: float = 50.0, between: float = 0.5
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.margin, self.pull, self.push, self.between = margin, pull, push, between
        self.frame = len(encoder.prefix_ids), len(encoder.suffix_ids)

    def forward(self, batch: dict[str, Tensor]) -> NameOutput:
        """`input_ids` and `attention_mask` (2B, T) of both names of the pairs, and `names.things` (2B,)."""
        hidden = self.encoder({name: batch[name] for name in ("input_ids", "attention_mask")})
        with torch.autocast(hidden.device.type, enabled=False):  # the loss tells cosines apart that bfloat16 does not
            vectors = F.normalize(mean_states(hidden.float(), self._inside(batch["attention_mask"])), dim=1)
            return NameOutput(self.loss(vectors @ vectors.T, batch["names.things"]), torch.tensor(len(vectors)))

    def loss(self, cosines: Tensor, things: Tensor) -> Tensor:
        """The multi-similarity loss of N names by their cosines (N, N)."""
        same = things[:, None] == things[None, :]
        other = ~same
        same = same & ~torch.eye(len(things), dtype=torch.bool, device=things.device)
        farthest = cosines.masked_fill(~same, torch.inf).amin(dim=1, keepdim=True)
        nearest = cosines.masked_fill(~other, -torch.inf).amax(dim=1, keepdim=True)
        hard_same = same & (cosines < nearest + self.margin)
        hard_other = other & (cosines > farthest - self.margin)
        pulled = _soft_sum(-self.pull * (cosines - self.between), hard_same) / self.pull
        pushed = _soft_sum(self.push * (cosines - self.between), hard_other) / self.push
        return (pulled + pushed).mean()

    def _inside(self, mask: Tensor) -> Tensor:
        """1 on the pieces of the name, 0 on special pieces and padding."""
        before, after = self.frame
        places = torch.arange(mask.shape[1], device=mask.device)
        return ((places >= before) & (places < mask.sum(dim=1, keepdim=True) - after)).float()


def name_pieces(texts: Sequence[str], encoder: Encoder, max_pieces: int = 25) -> NamePieces:
    """The pieces of names, of each at most the first `max_pieces`, special ones included."""
    room = min(max_pieces, encoder.max_pieces) - len(encoder.prefix_ids) - len(encoder.suffix_ids)
    made: list[Array] = []
    for start in range(0, len(texts), _CHUNK):
        for ids, _ in encoder.pieces(texts[start : start + _CHUNK]):
            made.append(np.array([*encoder.prefix_ids, *ids[:room], *encoder.suffix_ids], dtype=np.int32))
    starts = np.concatenate([[0], np.cumsum([len(ids) for ids in made])]).astype(np.int64)
    return NamePieces(np.concatenate([np.zeros(0, np.int32), *made]), starts)


def collate_names(pairs: Sequence[NamePair], encoder: Encoder) -> dict[str, Tensor]:
    """The first names of the pairs, then the second ones, as one padded batch."""
    names = [*(pair.first for pair in pairs), *(pair.second for pair in pairs)]
    longest = max(map(len, pairs))
    ids = np.full((len(names), longest), encoder.pad_id, dtype=np.int64)
    mask = np.zeros((len(names), longest), dtype=np.int64)
    for row, name in enumerate(names):
        ids[row, : len(name)] = name
        mask[row, : len(name)] = 1
    things = torch.tensor([pair.thing for pair in pairs] * 2)
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask), "names.things": things}


def _soft_sum(exponents: Tensor, chosen: Tensor) -> Tensor:
    """log(1 + sum of exp) over the chosen of each row."""
    padded = F.pad(exponents.masked_fill(~chosen, -torch.inf), (1, 0), value=0.0)
    return torch.logsumexp(padded, dim=1)
