"""How well do embeddings complete the graph? Filtered ranking, exact and in bounded memory.

Words and conventions are PyKEEN's: both sides of each triple are predicted, known facts other than the one asked for
are left out of the ranking, and a rank is realistic, the mean of the optimistic and the pessimistic rank among ties.
A popularity baseline is judged in the same way: it knows only how often a concept takes that side of the relation.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from kg.vectors import Embeddings, Rows, Side
from loaders.errors import MedgraftError

# (side, concept rows of the other side, relation rows) -> scores of every concept, shape (queries, concepts)
Scorer = Callable[[Side, Rows, Rows], torch.Tensor]

HITS_AT = (1, 3, 10)


@dataclass(frozen=True)
class Ranks:
    """Mean reciprocal rank and hits, the share of ranks of at most 1, 3 and 10; all from 0 to 1, higher is better."""

    mrr: float
    hits_at_1: float
    hits_at_3: float
    hits_at_10: float

    @classmethod
    def of(cls, ranks: NDArray[np.float64]) -> "Ranks":
        return cls(float((1 / ranks).mean()), *(float((ranks <= k).mean()) for k in HITS_AT))

    def __str__(self) -> str:
        return f"{self.mrr:.3f}  {self.hits_at_1:.3f}  {self.hits_at_3:.3f}  {self.hits_at_10:.3f}"


@dataclass(frozen=True)
class RankingReport:
    """Filtered, realistic ranks of the held-out triples, and of the popularity baseline on the same questions.

    `triples` were evaluated, each from both sides; `both` pools the two.
    """

    triples: int
    concepts: int
    both: Ranks
    head: Ranks
    tail: Ranks
    popularity: Ranks

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"{self.triples} triples, both sides, {self.concepts} concepts", f"{'':<12}MRR    H@1    H@3    H@10"]
        named = {"both": self.both, "heads": self.head, "tails": self.tail, "popularity": self.popularity}
        return "\n".join([*lines, *(f"{name:<12}{ranks}" for name, ranks in named.items())])


def evaluate_ranking(
    embeddings: Embeddings,
    test: pa.Table,
    known: Sequence[pa.Table] = (),
    *,
    batch_size: int = 256,
    limit: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> RankingReport:
    """Rank the true tail and the true head of every test triple among all concepts.

    Args:
        embeddings: judged by its scores of all concepts.
        test: Arrow table with head, relation, tail.
        known: further tables of true triples (training, development): filtered out of the ranking, and what the
            popularity baseline counts, less the test triples.
        batch_size: questions scored at a time; memory is about 12 bytes x batch_size x number of concepts.
        limit: evaluate a seeded random sample of this many test triples.
        seed: of that sample.
        progress: show a progress bar on a terminal.

    Raises:
        MedgraftError: if there is nothing to evaluate, or a concept or relation is unknown to the embeddings.
    """
    if len(test) == 0:
        raise MedgraftError("no test triples to evaluate; hold some out with split_triples(table, test=1000)")
    truth = embeddings.rows_of(test)
    others = [embeddings.rows_of(table) for table in known]
    facts = np.concatenate([truth, *others])
    asked = truth
    if limit is not None and limit < len(truth):
        asked = truth[np.sort(np.random.default_rng(seed).choice(len(truth), limit, replace=False))]
    concepts = len(embeddings.ids)
    popularity = _popularity(np.concatenate([np.empty((0, 3), np.int64), *others]), truth, concepts)

    ours: dict[Side, NDArray[np.float64]] = {}
    baseline: dict[Side, NDArray[np.float64]] = {}
    sides: tuple[Side, Side] = ("tail", "head")
    steps = 2 * -(-len(asked) // batch_size)
    with tqdm(total=steps, desc="ranking", unit="batch", leave=False, disable=None if progress else True) as bar:
        for side in sides:
            ranks = list(_ranks(side, asked, facts, (embeddings.score_all, popularity), batch_size, bar.update))
            ours[side], baseline[side] = np.concatenate(ranks, axis=1)
    return RankingReport(
        triples=len(asked),
        concepts=concepts,
        both=Ranks.of(np.concatenate([ours["tail"], ours["head"]])),
        head=Ranks.of(ours["head"]),
        tail=Ranks.of(ours["tail"]),
        popularity=Ranks.of(np.concatenate([baseline["tail"], baseline["head"]])),
    )


def _ranks(
    side: Side, asked: Rows, facts: Rows, scorers: Sequence[Scorer], batch_size: int, done: Callable[[], object]
) -> Iterator[NDArray[np.float64]]:
    """Realistic ranks of the true answers, shape (scorers, batch), one array a batch."""
    given, answer = (0, 2) if side == "tail" else (2, 0)
    index = _FactIndex(facts, side)
    for start in range(0, len(asked), batch_size):
        batch = asked[start : start + batch_size]
        questions, known = index.answers(batch[:, given], batch[:, 1])
        mask = (torch.from_numpy(questions), torch.from_numpy(known))
        true = torch.from_numpy(batch[:, answer].copy())[:, None]
        yield np.stack([_realistic(score(side, batch[:, given], batch[:, 1]), true, mask) for score in scorers])
        done()


def _realistic(
    scores: torch.Tensor, true: torch.Tensor, mask: tuple[torch.Tensor, torch.Tensor]
) -> NDArray[np.float64]:
    """Rank of the true column of each row of `scores` (changed in place), the masked cells left out."""
    scores = scores.cpu()
    of_truth = scores.gather(1, true)
    scores[mask] = -torch.inf
    better = torch.count_nonzero(scores > of_truth, dim=1)
    ties = torch.count_nonzero(scores == of_truth, dim=1)  # the true answer itself is a known fact, and so masked
    return (better + ties / 2 + 1).double().numpy()


class _FactIndex:
    """The known answers to questions of one side, found by binary search: no dictionary, no Python loop.

    Args:
        facts: rows (head, relation, tail), shape (facts, 3).
        side: what is asked for.
    """

    def __init__(self, facts: Rows, side: Side) -> None:
        given, answer = (0, 2) if side == "tail" else (2, 0)
        self._relations = int(facts[:, 1].max(initial=0)) + 1
        keys = facts[:, given] * self._relations + facts[:, 1]
        order = np.argsort(keys, kind="stable")
        self._keys, self._answers = keys[order], facts[order, answer]

    def answers(self, given: Rows, relations: Rows) -> tuple[Rows, Rows]:
        """Pairs (question number, known answer), as two arrays; the questions are concept and relation rows."""
        keys = np.where(relations < self._relations, given * self._relations + relations, -1)
        first, last = np.searchsorted(self._keys, keys, "left"), np.searchsorted(self._keys, keys, "right")
        counts = last - first
        questions = np.repeat(np.arange(len(keys)), counts)
        offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return questions, self._answers[np.repeat(first, counts) + offsets]


def _popularity(known: Rows, test: Rows, concepts: int) -> Scorer:
    """Scores a concept by how many known triples it answers on that side of the relation, test triples not counted."""
    width = max(int(rows[:, 1].max(initial=0)) for rows in (known, test)) + 1

    def coded(rows: Rows) -> Rows:
        return (rows[:, 0] * width + rows[:, 1]) * concepts + rows[:, 2]

    train = known[np.unique(coded(known), return_index=True)[1]]
    train = train[~np.isin(coded(train), coded(test))]
    counts = {side: _counts(train[:, [1, column]], width) for side, column in (("head", 0), ("tail", 2))}

    def score(side: Side, given: Rows, relations: Rows) -> torch.Tensor:
        asked, which = np.unique(relations, return_inverse=True)
        scores = torch.zeros(len(asked), concepts)
        for row, relation in enumerate(asked.tolist()):
            rows, numbers = counts[side][relation]
            scores[row].index_copy_(0, rows, numbers)
        return scores[torch.from_numpy(which)]

    return score


def _counts(pairs: Rows, relations: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """For each relation, the concepts it is used with and how often."""
    width = int(pairs[:, 1].max(initial=0)) + 1
    codes, numbers = np.unique(pairs[:, 0] * width + pairs[:, 1], return_counts=True)
    bounds = np.searchsorted(codes, np.arange(relations + 1) * width)
    rows, times = torch.from_numpy(codes % width), torch.from_numpy(numbers).float()
    return [(rows[a:b], times[a:b]) for a, b in zip(bounds[:-1], bounds[1:], strict=True)]
