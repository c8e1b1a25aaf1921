"""Ranking judged by PyKEEN's evaluator and by a slow loop."""

import numpy as np
import pyarrow as pa
import pytest
import torch

from kg.embeddings import Embeddings
from kg.ranking import evaluate_ranking
from kg.splits import split_triples
from loaders.errors import MedgraftError


def triples(*rows):
    return pa.table(
        {
            name: pa.array(column, pa.string())
            for name, column in zip(("head", "relation", "tail"), zip(*rows, strict=True), strict=True)
        }
    )


def random_triples(seed, concepts=12, relations=3, number=60):
    rng = np.random.default_rng(seed)
    rows = {
        (f"C{rng.integers(concepts):02}", f"r{rng.integers(relations)}", f"C{rng.integers(concepts):02}")
        for _ in range(number)
    }
    return triples(*sorted(rows))


def facts(table):
    return list(zip(*(table[name].to_pylist() for name in ("head", "relation", "tail")), strict=True))


def random_embeddings(ids, relations, seed, p, coarse=False):
    rng = np.random.default_rng(seed)

    def table(rows):
        values = rng.integers(-1, 2, size=(rows, 2)) if coarse else rng.normal(size=(rows, 8))
        return values.astype(np.float32)

    return Embeddings(list(ids), table(len(ids)), list(relations), table(len(relations)), p=p)


def slow_ranks(embeddings, test, known):
    """Realistic filtered ranks, tails before heads, one comparison at a time."""
    true = {fact for table in (test, *known) for fact in facts(table)}
    ranks = []
    for side in ("tail", "head"):
        for h, r, t in facts(test):
            answers = [(h, r, other) if side == "tail" else (other, r, t) for other in embeddings.ids]
            of_truth = embeddings.score(h, r, t)
            rivals = [embeddings.score(*answer) for answer in answers if answer not in true]
            better, ties = sum(s > of_truth for s in rivals), sum(s == of_truth for s in rivals)
            ranks.append(((better + 1) + (better + ties + 1)) / 2)
    return np.array(ranks)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("seed", range(5))
def test_equals_the_slow_loop_ties_included(p, seed):
    table = random_triples(seed)
    train, dev, test = split_triples(table, dev=5, test=8, seed=seed)
    ids = sorted({c for h, _, t in facts(table) for c in (h, t)})
    embeddings = random_embeddings(ids, ["r0", "r1", "r2"], seed, p, coarse=True)  # whole numbers: ties are exact
    report = evaluate_ranking(embeddings, test, [train, dev], batch_size=3)
    ranks = slow_ranks(embeddings, test, [train, dev])
    assert report.both.mrr == pytest.approx((1 / ranks).mean(), abs=1e-12)
    assert report.both.hits_at_3 == pytest.approx((ranks <= 3).mean(), abs=1e-12)
    assert report.tail.mrr == pytest.approx((1 / ranks[: len(test)]).mean(), abs=1e-12)
    assert report.triples == len(test)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("copies", [False, True])
def test_equals_pykeen_on_nations(p, copies):
    """PyKEEN's RankBasedEvaluator, both sides, filtered by all facts; with copied vectors for exact ties."""
    from pykeen.datasets import Nations
    from pykeen.evaluation import RankBasedEvaluator
    from pykeen.models import TransE

    nations = Nations()
    parts = [nations.training, nations.validation, nations.testing]
    ids, relations = sorted(nations.entity_to_id), sorted(nations.relation_to_id)
    embeddings = random_embeddings(ids, relations, 0, p)
    if copies:
        embeddings.vectors[5:9] = embeddings.vectors[:4]
    model = TransE(
        triples_factory=nations.training, embedding_dim=8, scoring_fct_norm=p, entity_constrainer=None, random_seed=0
    )
    with torch.no_grad():
        for name, row in nations.entity_to_id.items():
            model.entity_representations[0]._embeddings.weight[row] = torch.from_numpy(embeddings.vector(name))
        for name, row in nations.relation_to_id.items():
            vector = embeddings.relation_vectors[embeddings.relation_to_row[name]]
            model.relation_representations[0]._embeddings.weight[row] = torch.from_numpy(vector)
    theirs = RankBasedEvaluator(filtered=True).evaluate(
        model,
        nations.testing.mapped_triples,
        batch_size=64,
        additional_filter_triples=[part.mapped_triples for part in parts[:2]],
        use_tqdm=False,
    )
    train, dev, test = (triples(*part.label_triples(part.mapped_triples).tolist()) for part in parts)
    ours = evaluate_ranking(embeddings, test, [train, dev], batch_size=50).both
    for metric, value in (
        ("mean_reciprocal_rank", ours.mrr),
        ("hits_at_1", ours.hits_at_1),
        ("hits_at_3", ours.hits_at_3),
        ("hits_at_10", ours.hits_at_10),
    ):
        assert abs(theirs.get_metric(f"both.realistic.{metric}") - value) <= 1e-6, metric


def test_popularity_counts_the_known_facts_but_never_the_test():
    train = triples(("A", "r", "X"), ("B", "r", "X"), ("C", "r", "Y"), ("A", "s", "Z"), ("D", "s", "Z"))
    test = triples(("D", "r", "X"))
    ids = ["A", "B", "C", "D", "X", "Y", "Z"]
    embeddings = random_embeddings(ids, ["r", "s"], 0, 2)
    # Tails: X twice, before Y: rank 1. Heads: A and B are known and left out; C 1 before D 0, which ties with X, Y, Z.
    expected = (1 + 1 / ((2 + 5) / 2)) / 2
    for known in ([train], [train, test], [train, train]):
        assert evaluate_ranking(embeddings, test, known).popularity.mrr == pytest.approx(expected)


def test_sample_is_seeded_and_still_filtered_by_all_test_triples():
    table = random_triples(3, number=100)
    train, _, test = split_triples(table, test=20, seed=0)
    ids = sorted({c for h, _, t in facts(table) for c in (h, t)})
    embeddings = random_embeddings(ids, ["r0", "r1", "r2"], 0, 1)
    first, again = (evaluate_ranking(embeddings, test, [train], limit=7, seed=4) for _ in range(2))
    assert first == again and first.triples == 7
    assert evaluate_ranking(embeddings, test, [train], limit=1000) == evaluate_ranking(embeddings, test, [train])
    assert set(first.as_dict()) == {
        "triples", "concepts", "both", "head", "tail", "popularity",
        "interval", "by_relation", "by_cardinality", "by_degree",
    }  # fmt: skip
    assert "popularity" in str(first)


def test_bad_tests_are_explained():
    embeddings = random_embeddings(["A", "B"], ["r"], 0, 2)
    with pytest.raises(MedgraftError, match="no test triples"):
        evaluate_ranking(embeddings, triples(("A", "r", "B")).slice(0, 0))
    with pytest.raises(MedgraftError, match="'Q'"):
        evaluate_ranking(embeddings, triples(("A", "r", "Q")))
