"""Exact nearest vectors, judged by a slow loop; ties go to the lower row, whatever is asked beside."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kg.nearest import NearestIndex
from loaders.errors import MedgraftError


def slow_search(vectors, query, k, metric):
    def unit(v):
        length = float(np.sqrt((v.astype(np.float64) ** 2).sum()))
        return (v / length).astype(np.float32) if length else v

    if metric == "cosine":
        vectors, query = np.stack([unit(v) for v in vectors]), unit(query)
    scored = []
    for row, vector in enumerate(vectors):
        scored.append((-np.float32((vector.astype(np.float64) * query.astype(np.float64)).sum()), row))
    scored.sort()
    return [row for _, row in scored[:k]], [-score for score, _ in scored[:k]]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    rows=st.integers(1, 120),
    k=st.integers(1, 130),
    metric=st.sampled_from(["cosine", "inner"]),
)
def test_equals_the_slow_search_with_many_ties(seed, rows, k, metric):
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-1, 2, size=(rows, 3)).astype(np.float32)  # few distinct rows, zero rows among them
    queries = rng.integers(-1, 2, size=(4, 3)).astype(np.float32)
    found, scores = NearestIndex(vectors, metric).search(queries, k)
    for query, of_query, scores_of_query in zip(queries, found, scores, strict=True):
        expected, expected_scores = slow_search(vectors, query, k, metric)
        assert of_query.tolist() == expected
        np.testing.assert_allclose(scores_of_query, expected_scores, rtol=1e-6)


def test_answer_does_not_depend_on_what_is_asked_beside():
    rng = np.random.default_rng(0)
    vectors = np.repeat(rng.normal(size=(500, 64)).astype(np.float32), 3, axis=0)
    queries = rng.normal(size=(50, 64)).astype(np.float32)
    index = NearestIndex(vectors)
    rows, scores = index.search(queries, 10)
    for query in range(0, 50, 7):
        row, score = index.search(queries[query], 10)
        assert row[0].tolist() == rows[query].tolist()
        assert score[0].tolist() == scores[query].tolist()


def test_more_equal_vectors_than_proposals_give_the_lowest_rows():
    vectors = np.ones((300, 8), dtype=np.float32)
    rows, scores = NearestIndex(vectors).search(vectors[:2], 5)
    assert rows.tolist() == [[0, 1, 2, 3, 4]] * 2
    np.testing.assert_allclose(scores, 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("vectors", "words"),
    [(np.zeros((0, 3), np.float32), "at least one row"), (np.array([[np.nan, 1]], np.float32), "NaN")],
)
def test_bad_vectors(vectors, words):
    with pytest.raises(MedgraftError, match=words):
        NearestIndex(vectors)


def test_bad_queries():
    index = NearestIndex(np.eye(3, dtype=np.float32))
    with pytest.raises(MedgraftError, match="at least one"):
        index.search(np.ones((1, 3), np.float32), 0)
    with pytest.raises(MedgraftError, match="2 dimensions"):
        index.search(np.ones((1, 2), np.float32), 1)


def test_approximate_index_reaches_its_recall_and_says_so():
    rng = np.random.default_rng(0)
    centers = rng.normal(size=(60, 16))
    vectors = (centers[rng.integers(60, size=6000)] + 0.3 * rng.normal(size=(6000, 16))).astype(np.float32)
    near, exact = NearestIndex(vectors, approximate=True), NearestIndex(vectors)
    assert near.approximate and not exact.approximate and exact.recall == 1
    queries = vectors[rng.choice(6000, 300, replace=False)]
    found, right = near.search(queries, 10)[0], exact.search(queries, 10)[0]
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(found.tolist(), right.tolist(), strict=True)])
    assert near.recall >= 0.98 and recall >= 0.97
    assert near.search(queries[:2], 6000)[0].shape == (2, 6000)
