"""Facts between two concepts: what the graph states of a pair, and how it reaches the answer.

A chemical that `treats` a disease in the graph is less likely to have caused it in the text. Such a fact belongs to the
pair and to neither concept alone, so knowledge attention, which works mention by mention, cannot bring it in.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from kg.snapshot import HIERARCHY
from lm.relations import DIRECT
from lm.training import isolated_seed
from loaders.records import Concept, Triple

PREFIX = "facts."
_NEAR = 32  # hierarchical neighbours of a concept that are looked at; of a hub all facts would be near

Rows = Sequence[int]


@dataclass(frozen=True)
class PairFact:
    """A fact between two concepts, or between one and a parent or child of the other (`near`).

    `code` is 2 * relation + (1 if the pair's tail is the fact's head) + (2 * number of relations if near).
    """

    code: int
    head: int
    relation: int
    tail: int


@dataclass(frozen=True)
class FactIndex:
    """All triples of a graph, to be asked for by both ends. E triples, C concepts, H hierarchical neighbours.

    Shapes:
        keys: (E,) int64, sorted: row of the head * C + row of the tail
        relations: (E,) int32, index into the relation names
        offsets: (C + 1,) int64 into `around`
        around: (H,) int32, rows one step up or down the hierarchy
    """

    keys: Tensor
    relations: Tensor
    offsets: Tensor
    around: Tensor
    num_relations: int

    @classmethod
    def build(cls, triples: pa.Table, ids: Sequence[str], relation_names: Sequence[str]) -> "FactIndex":
        """From the triples of a graph, its concepts in their order, and the names of its relations in theirs."""
        row = pl.DataFrame({"id": ids, "row": np.arange(len(ids), dtype=np.int64)}, schema_overrides={"id": pl.String})
        number = pl.DataFrame(
            {"relation": relation_names, "number": np.arange(len(relation_names), dtype=np.int32)},
            schema_overrides={"relation": pl.String},
        )
        frame = (
            pl.DataFrame(pl.from_arrow(triples.select(["head", "relation", "tail"])))
            .join(row.rename({"id": "head", "row": "h"}), on="head")
            .join(row.rename({"id": "tail", "row": "t"}), on="tail")
            .join(number, on="relation")
        )
        upward = frame.filter(pl.col("relation").is_in(HIERARCHY)).select("h", "t")
        both = pl.concat([upward, upward.select(h="t", t="h")]).unique().sort("h", "t")
        both = both.filter(pl.int_range(pl.len()).over("h") < _NEAR)
        facts = frame.select(key=pl.col("h") * len(ids) + pl.col("t"), number="number").sort("key", "number")
        counts = np.bincount(both["h"].to_numpy(), minlength=len(ids))
        return cls(
            torch.from_numpy(facts["key"].to_numpy().copy()),
            torch.from_numpy(facts["number"].to_numpy().copy()),
            torch.from_numpy(np.concatenate([[0], np.cumsum(counts)])),
            torch.from_numpy(both["t"].to_numpy().astype(np.int32)),
            len(relation_names),
        )

    @property
    def num_codes(self) -> int:
        return max(4 * self.num_relations, 1)

    def between(self, heads: Rows, tails: Rows, limit: int) -> list[PairFact]:
        """The facts between any of the one concepts and any of the others, one of each code, direct ones first."""
        found: dict[int, PairFact] = {}
        for near in (False, True):
            ends = [(a, b) for a in heads for b in tails if a != b]
            if near:
                ends = [(a2, b) for a, b in ends for a2 in self._near(a) if a2 != b] + [
                    (a, b2) for a, b in ends for b2 in self._near(b) if b2 != a
                ]
            for code, fact in self._stated(ends, near):
                found.setdefault(code, fact)
        return list(found.values())[:limit]

    def without(self, pairs: Sequence[tuple[int, int]]) -> "FactIndex":
        """Without any fact between two concepts of a pair, in either direction."""
        size = len(self.offsets) - 1
        gone = [key for a, b in pairs for key in (a * size + b, b * size + a)]
        kept = ~np.isin(self.keys.numpy(), np.array(gone, dtype=np.int64))
        return self._with(self.keys.numpy()[kept], self.relations.numpy()[kept])

    def empty(self) -> "FactIndex":
        """Without any fact."""
        return self._with(np.zeros(0, np.int64), np.zeros(0, np.int32))

    def arrays(self) -> dict[str, Tensor]:
        return {"keys": self.keys, "relations": self.relations, "offsets": self.offsets, "around": self.around}

    def _with(self, keys: NDArray[np.int64], relations: NDArray[np.int32]) -> "FactIndex":
        order = np.lexsort((relations, keys))
        tensors = torch.from_numpy(keys[order].copy()), torch.from_numpy(relations[order].copy())
        return FactIndex(*tensors, self.offsets, self.around, self.num_relations)

    def _near(self, row: int) -> list[int]:
        return list(map(int, self.around[int(self.offsets[row]) : int(self.offsets[row + 1])]))

    def _stated(self, ends: Sequence[tuple[int, int]], near: bool) -> list[tuple[int, PairFact]]:
        """The facts between these ends, in both directions, by their code."""
        if not ends:
            return []
        size = len(self.offsets) - 1
        pairs = np.array(ends, dtype=np.int64)
        found = []
        keys = self.keys.numpy()
        for turned, (heads, tails) in enumerate((pairs.T, pairs.T[::-1])):
            asked = heads * size + tails
            first, last = np.searchsorted(keys, asked, "left"), np.searchsorted(keys, asked, "right")
            for place in np.flatnonzero(first < last):
                for number in self.relations[int(first[place]) : int(last[place])].tolist():
                    code = 2 * number + turned + (2 * self.num_relations if near else 0)
                    found.append((code, PairFact(code, int(heads[place]), number, int(tails[place]))))
        return sorted(found, key=lambda item: (item[0], item[1].head, item[1].tail))


class FactLogits(nn.Module):
    """What each kind of fact between the concepts of a pair says for or against each relation.

    logits' = logits + sum_n W[code_n]

    W starts at zero: without facts, and before training, the logits stay as they are. The way is short on purpose. A
    hundred documents have a few dozen pairs with a fact of a kind, enough for one number and not for the vectors of an
    attention.
    """

    def __init__(self, num_codes: int, num_relations: int, *, dropout: float = 0.15) -> None:
        super().__init__()
        self.dropout = dropout
        with isolated_seed(0):  # nothing of it stays, but the draws of a plain model must not move
            self.weights = nn.Embedding(num_codes, num_relations)
        nn.init.zeros_(self.weights.weight)

    def forward(self, logits: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Logits (P, R) of the pairs with the facts `facts.codes` (P, F), -1 where there is none; same shape."""
        codes = batch.get(f"{PREFIX}codes")
        if codes is None:
            return logits
        there = codes >= 0
        if self.training:  # so that the model can do without them
            there = there & (torch.rand(len(codes), 1, device=codes.device) >= self.dropout)
        said = DIRECT * self.weights(codes.clamp(min=0)) * there[:, :, None]
        return logits + said.sum(dim=1)


class PairFacts(nn.Module):
    """Attention of a pair's vector over the facts between its concepts, with a null slot of value zero.

    f_n = B[code_n],   a = softmax over null and n of (W_q p) (W_k f_n) / sqrt(e),   p' = p + W_o sum_n a_n f_n

    W_o starts at zero and no bias lies on the way of the values: a pair without facts leaves as it came.
    """

    def __init__(self, size: int, num_codes: int, *, width: int = 64, dropout: float = 0.15, seed: int = 0) -> None:
        super().__init__()
        self.width, self.dropout = width, dropout
        with isolated_seed(seed):
            self.facts = nn.Embedding(num_codes, width)
            self.query = nn.Linear(size, width, bias=False)
            self.key = nn.Linear(width, width, bias=False)
            self.output = nn.Linear(width, size, bias=False)
        self.null = nn.Parameter(torch.zeros(width))
        nn.init.zeros_(self.output.weight)

    def forward(self, pairs: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Vectors (P, size) of the pairs with the facts `facts.codes` (P, F), -1 where there is none; same shape."""
        codes = batch.get(f"{PREFIX}codes")
        if codes is None:
            return pairs
        there = codes >= 0
        if self.training:  # so that the model can do without them
            there = there & (torch.rand(len(codes), 1, device=codes.device) >= self.dropout)
        facts = self.facts(codes.clamp(min=0))
        query = self.query(pairs)
        scores = torch.einsum("pe,pfe->pf", query, self.key(facts)).masked_fill(~there, -torch.inf)
        null = (query @ self.key(self.null))[:, None]
        weights = torch.softmax(torch.cat([null, scores], dim=1) / math.sqrt(self.width), dim=1)[:, 1:]
        return pairs + self.output(torch.einsum("pf,pfe->pe", weights, facts))


def codes_tensor(facts: Sequence[Sequence[PairFact]]) -> dict[str, Tensor]:
    """The entry of a batch that `FactLogits` and `PairFacts` read; nothing where no pair has a fact."""
    width = max(map(len, facts), default=0)
    if not width:
        return {}
    rows = [[fact.code for fact in some] + [-1] * (width - len(some)) for some in facts]
    return {f"{PREFIX}codes": torch.tensor(rows, dtype=torch.long)}


def fact_places(
    batch: Mapping[str, Tensor],
    facts: Sequence[Sequence[PairFact]],
    ids: Sequence[str],
    names: Sequence[str],
    relations: Sequence[str],
) -> dict[Triple, Tensor]:
    """Where each fact stands among the codes (P, F) of a batch of pairs with these facts."""
    codes = batch.get(f"{PREFIX}codes")
    places: dict[Triple, Tensor] = {}
    if codes is not None:
        for row, some in enumerate(facts):
            for column, fact in enumerate(some):
                triple = as_triple(fact, ids, names, relations)
                places.setdefault(triple, torch.zeros_like(codes, dtype=torch.bool))[row, column] = True
    return places


def places_of(thing: Concept | Triple | None, places: Mapping[Triple, Tensor]) -> list[Tensor]:
    """Of a fact its own places, of a concept those of the facts that name it."""
    if isinstance(thing, Concept):
        return [there for fact, there in places.items() if thing.id in (fact.head, fact.tail)]
    return [places[thing]] if thing is not None and thing in places else []


def without_facts(batch: dict[str, Tensor], places: Sequence[Tensor]) -> dict[str, Tensor]:
    """The batch without the facts in these places."""
    if not places:
        return batch
    return batch | {f"{PREFIX}codes": batch[f"{PREFIX}codes"].masked_fill(torch.stack(list(places)).any(dim=0), -1)}


def as_triple(fact: PairFact, ids: Sequence[str], names: Sequence[str], relations: Sequence[str]) -> Triple:
    """The fact as the graph states it."""
    return Triple(
        ids[fact.head],
        relations[fact.relation],
        ids[fact.tail],
        head_name=names[fact.head],
        tail_name=names[fact.tail],
    )
