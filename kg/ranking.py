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
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from kg.geometry import DISTANCES, Side, scores_of_all, scores_of_pairs
from kg.nearest import manhattan
from kg.triples import Rows, Triples, triple_codes
from kg.vectors import Embeddings
from loaders.errors import MedgraftError

HITS_AT = (1, 3, 10)
_SLACK = 3e-5  # how far a product of float32 matrices may be off, relative to the lengths of the vectors
_PAIRS = 1 << 20  # scored once more at a time
_MANY = 100  # concepts a question that cannot be told apart, from where on equal vectors are looked for


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
    test: Triples,
    known: Sequence[Triples] = (),
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
        test: Arrow table with head, relation, tail, or integer rows of these, as the embeddings number them.
        known: further true triples, likewise (training, development): filtered out of the ranking, and what the
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
    ours = rank_triples(embeddings, asked, facts, batch_size=batch_size, memory_gb=memory_gb, progress=progress)
    baseline = _popularity_ranks(training, truth, asked, facts, concepts)
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
    embeddings: Embeddings,
    asked: Rows,
    facts: Rows,
    *,
    batch_size: int = 256,
    memory_gb: float = 1.0,
    progress: bool = False,
) -> NDArray[np.float64]:
    """Realistic ranks of integer triples, facts filtered out: shape (2, triples), of tails and of heads."""
    size = _bounded(batch_size, memory_gb, len(embeddings.vectors))
    facts = np.concatenate([asked, facts])
    sides: tuple[Side, Side] = ("tail", "head")
    steps = 2 * -(-len(asked) // size)
    with tqdm(total=steps, desc="ranking", unit="batch", leave=False, disable=None if progress else True) as bar:
        return np.stack(
            [np.concatenate(list(_ranks(embeddings, side, asked, facts, size, bar.update))) for side in sides]
        )


def _bounded(batch_size: int, memory_gb: float, concepts: int) -> int:
    """Scores and what they are compared with take some 8 bytes a question and concept."""
    if memory_gb <= 0:
        raise MedgraftError(f"memory_gb is {memory_gb}; it must be a positive number")
    return max(1, min(batch_size, int(memory_gb * 2**30 / (8 * concepts))))


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
    _, relations, concepts = (int(number) + 1 for number in facts.max(axis=0))
    concepts = max(concepts, int(facts[:, 0].max()) + 1)
    different = np.unique(triple_codes(facts, concepts, relations))
    number = np.bincount(different // concepts % relations, minlength=relations)
    several = []
    for side in (0, 2):  # facts a head, facts a tail
        pairs = np.unique(facts[:, 1] * concepts + facts[:, side]) // concepts
        several.append(number > 1.5 * np.maximum(np.bincount(pairs, minlength=relations), 1))
    tails_a_head, heads_a_tail = (flags[asked[:, 1]] for flags in several)
    kind = np.char.add(np.where(heads_a_tail, "N-", "1-"), np.where(tails_a_head, "N", "1"))
    return np.stack([np.char.add(kind, " tails"), np.char.add(kind, " heads")])


def _by_degree(asked: Rows, training: Rows, concepts: int) -> NDArray[np.str_]:
    degree = np.bincount(training[:, [0, 2]].ravel(), minlength=concepts)
    names = np.array(["answers with 0-9 facts", "answers with 10-99 facts", "answers with 100+ facts"])
    return names[np.digitize(degree[np.stack([asked[:, 2], asked[:, 0]])], [10, 100])]


def _ranks(
    embeddings: Embeddings, side: Side, asked: Rows, facts: Rows, batch_size: int, done: Callable[[], object]
) -> Iterator[NDArray[np.float64]]:
    """Realistic ranks of the true answers, one array a batch; `facts` hold the asked triples too.

    Scores are compared by matrix products where these are faster. What they cannot tell from the score of the true
    answer is compared once more, pair by pair, as the model scores it: the rank is the one that all pairs would give.
    """
    given, answer = (0, 2) if side == "tail" else (2, 0)
    index = FactIndex(facts[np.isin(facts[:, given], asked[:, given], kind="table")], side)
    concepts = torch.from_numpy(embeddings.vectors)
    rough = _Rough(embeddings.model, embeddings.p, concepts)
    twins: torch.Tensor | None = None
    for start in range(0, len(asked), batch_size):
        batch = asked[start : start + batch_size]
        places = embeddings.places(side, batch[:, given], batch[:, 1])
        true = concepts[torch.from_numpy(batch[:, answer].copy())]
        of_truth = scores_of_pairs(embeddings.model, embeddings.p, places, true)
        scores, slack = rough.scores(places)
        truth = rough.rescaled(of_truth, places)
        scores[tuple(map(torch.from_numpy, index.answers(batch[:, given], batch[:, 1])))] = -torch.inf
        # The true answer is a known fact, and so left out of both counts.
        better = _count(scores > (truth + slack)[:, None])
        ties = torch.zeros_like(better)
        unsure = torch.nonzero((scores <= (truth + slack)[:, None]) & (scores >= (truth - slack)[:, None]))
        times = torch.ones(len(unsure), dtype=torch.long)
        if len(unsure) > _MANY * len(batch):
            twins = _twins(embeddings.vectors) if twins is None else twins
            counts = torch.bincount(unsure[:, 0] * len(concepts) + twins[unsure[:, 1]], minlength=scores.numel())
            unsure = torch.nonzero(counts.view(scores.shape))
            times = counts[counts > 0]
        for pairs, number in zip(unsure.split(_PAIRS), times.split(_PAIRS), strict=True):
            rows, others = pairs.unbind(dim=1)
            exact = scores_of_pairs(embeddings.model, embeddings.p, places[rows], concepts[others])
            better.index_add_(0, rows, number * (exact > of_truth[rows]))
            ties.index_add_(0, rows, number * (exact == of_truth[rows]))
        yield (better + ties / 2 + 1).double().numpy()
        done()


def _count(mask: torch.Tensor) -> torch.Tensor:
    """How many in each row; NumPy counts a row many times as fast as torch along a dimension."""
    return torch.tensor([np.count_nonzero(row) for row in mask.numpy()], dtype=torch.long)


def _twins(vectors: NDArray[np.float32]) -> torch.Tensor:
    """For each row a row with the same bits: the first of them, so long as no two rows share a hash."""
    factors = np.random.default_rng(0).integers(1, 2**63, vectors.shape[1], dtype=np.uint64) | np.uint64(1)
    bits = np.ascontiguousarray(vectors).view(np.uint32)
    _, first, of_row = np.unique(bits @ factors, return_index=True, return_inverse=True)
    found = first[of_row]
    return torch.from_numpy(np.where((bits == bits[found]).all(axis=1), found, np.arange(len(bits))))


class _Rough:
    """Scores of all concepts by matrix products, on a scale that saves a root, and how far they may be off."""

    def __init__(self, model: str, p: int, concepts: torch.Tensor) -> None:
        self.model, self.p, self.concepts = model, p, concepts
        self.euclidean = model in DISTANCES and p == 2
        self.squares = (concepts * concepts).sum(dim=1)
        self.longest = float(self.squares.max().sqrt())

    def scores(self, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores (questions, concepts), and the slack of each question."""
        lengths = places.norm(dim=1)
        if self.euclidean:  # of -||x - c||^2 the part that differs between concepts
            scores = torch.addmm(-self.squares[None], places, self.concepts.T, alpha=2)
            return scores, _SLACK * self.longest * (2 * lengths + self.longest)
        if self.model in DISTANCES:
            scores = -torch.from_numpy(manhattan(places.numpy(), self.concepts.numpy()))
            return scores, _SLACK * places.shape[1] ** 0.5 * (lengths + self.longest)
        return scores_of_all(self.model, self.p, places, self.concepts), _SLACK * lengths * self.longest

    def rescaled(self, scores: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        """The model's own scores on that scale."""
        return (places * places).sum(dim=1) - scores * scores if self.euclidean else scores


class FactIndex:
    """The known answers to questions of one side, found by binary search: no dictionary, no Python loop.

    Args:
        facts: rows (head, relation, tail), shape (facts, 3).
        side: what is asked for.
    """

    def __init__(self, facts: Rows, side: Side) -> None:
        given, answer = (0, 2) if side == "tail" else (2, 0)
        self._relations = int(facts[:, 1].max(initial=0)) + 1
        width = int(facts[:, answer].max(initial=0)) + 1
        codes = np.unique((facts[:, given] * self._relations + facts[:, 1]) * width + facts[:, answer])
        self._keys, self._answers = codes // width, codes % width

    def answers(self, given: Rows, relations: Rows) -> tuple[Rows, Rows]:
        """Pairs (question number, known answer), as two arrays; the questions are concept and relation rows."""
        keys = np.where(relations < self._relations, given * self._relations + relations, -1)
        first, last = np.searchsorted(self._keys, keys, "left"), np.searchsorted(self._keys, keys, "right")
        counts = last - first
        questions = np.repeat(np.arange(len(keys)), counts)
        offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return questions, self._answers[np.repeat(first, counts) + offsets]


def _popularity_ranks(training: Rows, test: Rows, asked: Rows, facts: Rows, concepts: int) -> NDArray[np.float64]:
    """Ranks (2, triples) by how many training triples a concept answers on that side of the relation.

    Test triples are not counted, even where a training table states them.
    """
    width = max(int(rows[:, 1].max(initial=0)) for rows in (training, test)) + 1

    codes = np.setdiff1d(triple_codes(training, concepts, width), triple_codes(test, concepts, width))
    counted = np.stack([codes // concepts // width, codes // concepts % width, codes % concepts], axis=1)
    ranks = np.empty((2, len(asked)))
    for row, (side, given, answer) in enumerate((("tail", 0, 2), ("head", 2, 0))):
        questions, known = FactIndex(facts, side).answers(asked[:, given], asked[:, 1])  # type: ignore[arg-type]
        for relation in np.unique(asked[:, 1]):
            which = np.flatnonzero(asked[:, 1] == relation)
            counts = np.bincount(counted[counted[:, 1] == relation, answer], minlength=concepts)
            ordered, of_truth = np.sort(counts), counts[asked[which, answer]]
            better = concepts - np.searchsorted(ordered, of_truth, "right")
            ties = concepts - np.searchsorted(ordered, of_truth, "left") - better
            mine = np.isin(questions, which)
            place, others = np.searchsorted(which, questions[mine]), counts[known[mine]]
            better = better - np.bincount(place, others > of_truth[place], len(which))
            ties = ties - np.bincount(place, others == of_truth[place], len(which))
            ranks[row, which] = better + ties / 2 + 1
    return ranks
