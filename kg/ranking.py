"""How well do embeddings complete the graph? Filtered ranking, exact and in bounded memory.

Words and conventions are PyKEEN's: both sides of each triple are predicted, known facts other than the one asked for
are left out of the ranking, and a rank is realistic, the mean of the optimistic and the pessimistic rank among ties.
A popularity baseline is judged in the same way: it knows only how often a concept takes that side of the relation.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from kg.geometry import Side
from kg.vectors import Embeddings, Rows
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
        """The metrics of some ranks, in any shape."""
        return cls(float((1 / ranks).mean()), *(float((ranks <= k).mean()) for k in HITS_AT))

    def __str__(self) -> str:
        return f"{self.mrr:.3f}  {self.hits_at_1:.3f}  {self.hits_at_3:.3f}  {self.hits_at_10:.3f}"


@dataclass(frozen=True)
class Group:
    """Some of the questions: how many, and the ranks of both scorers on them."""

    questions: int
    ranks: Ranks
    popularity: Ranks


@dataclass(frozen=True)
class RankingReport:
    """Filtered, realistic ranks of the held-out triples, and of the popularity baseline on the same questions.

    `triples` were evaluated, each from both sides; `both` pools the two. `interval` holds the 95 % confidence
    intervals of `both`, from 1,000 bootstrap samples of the triples. The groups: by relation; by the cardinality of
    the relation (1-1, 1-N, N-1, N-N; Bordes et al., 2013: N if there are more than 1.5 on average) and the side asked
    for; by the number of known facts of the answer.
    """

    triples: int
    concepts: int
    both: Ranks
    head: Ranks
    tail: Ranks
    popularity: Ranks
    interval: dict[str, tuple[float, float]]
    by_relation: dict[str, Group]
    by_cardinality: dict[str, Group]
    by_degree: dict[str, Group]

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values, for JSON."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values

    def __str__(self) -> str:
        (low, high) = self.interval["mrr"]
        lines = [
            f"{self.triples} triples, both sides, {self.concepts} concepts; MRR {low:.3f} to {high:.3f} (95 %)",
            f"{'':<28}  MRR    H@1    H@3    H@10   popularity's MRR",
        ]
        named = {"both": self.both, "heads": self.head, "tails": self.tail, "popularity": self.popularity}
        lines += [f"{name:<28}  {ranks}" for name, ranks in named.items()]
        for groups in (self.by_cardinality, self.by_degree, self.by_relation):
            lines += [f"{name:<28.28}  {g.ranks}  {g.popularity.mrr:.3f}" for name, g in groups.items()]
        return "\n".join(lines)


def evaluate_ranking(
    embeddings: Embeddings,
    test: pa.Table,
    known: Sequence[pa.Table] = (),
    *,
    batch_size: int = 256,
    memory_gb: float = 1.0,
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
        batch_size: questions scored at a time, at most.
        memory_gb: for scores; where a batch would need more, it is made smaller.
        limit: evaluate a seeded random sample of this many test triples.
        seed: of that sample and of the bootstrap.
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
    training = np.concatenate([np.empty((0, 3), np.int64), *others])
    popularity = _popularity(training, truth, concepts)

    scorers = (embeddings.score_all, popularity)
    ours, baseline = _ranks_of_both_sides(asked, facts, scorers, _bounded(batch_size, memory_gb, concepts), progress)
    names = {
        "by_relation": _by_relation(asked, embeddings.relations),
        "by_cardinality": _by_cardinality(asked, facts),
        "by_degree": _by_degree(asked, training, concepts),
    }
    return RankingReport(
        triples=len(asked),
        concepts=concepts,
        both=Ranks.of(ours),
        head=Ranks.of(ours[1]),
        tail=Ranks.of(ours[0]),
        popularity=Ranks.of(baseline),
        interval=_intervals(ours, seed),
        **{kind: _groups(of_questions, ours, baseline) for kind, of_questions in names.items()},
    )


def rank_triples(
    scorer: Scorer, asked: Rows, facts: Rows, concepts: int, *, batch_size: int = 256, memory_gb: float = 1.0
) -> NDArray[np.float64]:
    """Realistic ranks of integer triples, facts filtered out: shape (2, triples), of tails and of heads."""
    return _ranks_of_both_sides(asked, facts, [scorer], _bounded(batch_size, memory_gb, concepts), False)[0]


def _bounded(batch_size: int, memory_gb: float, concepts: int) -> int:
    """Scores, a comparison and the baseline's scores take some 16 bytes a question and concept."""
    if memory_gb <= 0:
        raise MedgraftError(f"memory_gb is {memory_gb}; it must be a positive number")
    return max(1, min(batch_size, int(memory_gb * 2**30 / (16 * concepts))))


def _ranks_of_both_sides(
    asked: Rows, facts: Rows, scorers: Sequence[Scorer], batch_size: int, progress: bool
) -> list[NDArray[np.float64]]:
    """For each scorer the ranks, shape (2, triples), of tails and of heads."""
    steps = 2 * -(-len(asked) // batch_size)
    sides: tuple[Side, Side] = ("tail", "head")
    with tqdm(total=steps, desc="ranking", unit="batch", leave=False, disable=None if progress else True) as bar:
        of_sides = [
            np.concatenate(list(_ranks(side, asked, facts, scorers, batch_size, bar.update)), axis=1) for side in sides
        ]
    return list(np.stack(of_sides, axis=1))


def _intervals(ranks: NDArray[np.float64], seed: int, draws: int = 1000) -> dict[str, tuple[float, float]]:
    """95 % percentile intervals over bootstrap samples of the triples, both sides of each together."""
    rng = np.random.default_rng(seed)
    of_triples = {"mrr": (1 / ranks).mean(axis=0)} | {f"hits_at_{k}": (ranks <= k).mean(axis=0) for k in HITS_AT}
    values = np.stack(list(of_triples.values()))
    number = values.shape[1]
    means = np.stack([values @ (rng.multinomial(number, [1 / number] * number) / number) for _ in range(draws)])
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    return {name: (float(a), float(b)) for name, a, b in zip(of_triples, low, high, strict=True)}


def _groups(names: NDArray[np.str_], ours: NDArray[np.float64], baseline: NDArray[np.float64]) -> dict[str, Group]:
    """Ranks of the questions of each name; `names` has the shape of the ranks."""
    return {
        str(name): Group(int((names == name).sum()), Ranks.of(ours[names == name]), Ranks.of(baseline[names == name]))
        for name in np.unique(names)
    }


def _by_relation(asked: Rows, relations: Sequence[str]) -> NDArray[np.str_]:
    return np.tile(np.array(relations, dtype=np.str_)[asked[:, 1]], (2, 1))


def _by_cardinality(asked: Rows, facts: Rows) -> NDArray[np.str_]:
    facts = np.unique(facts, axis=0)
    relations = int(facts[:, 1].max()) + 1
    number = np.bincount(facts[:, 1], minlength=relations)
    several = []
    for side in (0, 2):  # facts a head, facts a tail
        pairs = np.unique(facts[:, [1, side]], axis=0)[:, 0]
        several.append(number > 1.5 * np.maximum(np.bincount(pairs, minlength=relations), 1))
    tails_a_head, heads_a_tail = (flags[asked[:, 1]] for flags in several)
    kind = np.char.add(np.where(heads_a_tail, "N-", "1-"), np.where(tails_a_head, "N", "1"))
    return np.stack([np.char.add(kind, " tails"), np.char.add(kind, " heads")])


def _by_degree(asked: Rows, training: Rows, concepts: int) -> NDArray[np.str_]:
    degree = np.bincount(training[:, [0, 2]].ravel(), minlength=concepts)
    names = np.array(["answers with 0-9 facts", "answers with 10-99 facts", "answers with 100+ facts"])
    return names[np.digitize(degree[np.stack([asked[:, 2], asked[:, 0]])], [10, 100])]


def _ranks(
    side: Side, asked: Rows, facts: Rows, scorers: Sequence[Scorer], batch_size: int, done: Callable[[], object]
) -> Iterator[NDArray[np.float64]]:
    """Realistic ranks of the true answers, shape (scorers, batch), one array a batch."""
    given, answer = (0, 2) if side == "tail" else (2, 0)
    index = FactIndex(facts, side)
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


class FactIndex:
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
