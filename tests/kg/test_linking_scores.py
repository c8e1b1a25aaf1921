import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kg.linking_scores import Score, evaluate_linking
from loaders.errors import MedgraftError
from loaders.records import Document, Mention


def document(*mentions, id="d"):
    return Document(id, "x" * 100, tuple(Mention(s, e, "", c) for s, e, c in mentions))


def test_strict_wants_the_same_span_and_id():
    gold = [document((0, 5, "A"), (10, 15, "B"), (20, 25, "C"))]
    scores = evaluate_linking(gold, [document((0, 5, "A"), (10, 16, "B"), (20, 25, "D"))])
    assert scores.strict == Score(correct=1, predicted=3, gold=3)
    assert scores.overlap == Score(correct=2, predicted=3, gold=3)
    assert scores.document == Score(correct=2, predicted=3, gold=3)


def test_overlap_pairs_one_to_one_longest_stretch_first():
    gold = [document((0, 10, "A"), (8, 20, "A"))]
    assert evaluate_linking(gold, [document((5, 20, "A"))]).overlap == Score(1, 1, 2)
    assert evaluate_linking(gold, [document((5, 20, "A"), (0, 9, "A"))]).overlap == Score(2, 2, 2)
    assert evaluate_linking(gold, [document((20, 30, "A"))]).overlap == Score(0, 1, 2), "touching is not sharing"


def test_mentions_count_as_sets_and_nil_does_not_count():
    gold = [document((0, 5, "A"), (0, 5, "A"), (7, 9, None))]
    assert evaluate_linking(gold, [document((0, 5, "A"), (7, 9, None))]).strict == Score(1, 1, 1)


def test_retired_ids_are_mapped_before_keep_is_applied_on_both_sides():
    retired = {"old": "new", "older": "old", "gone": None, "ring": "gnir", "gnir": "ring"}
    gold = [document((0, 5, "older"), (6, 9, "gone"), (10, 15, "other"))]
    predicted = [document((0, 5, "new"), (10, 15, "other"), (20, 25, "ring"))]
    scores = evaluate_linking(gold, predicted, keep={"new"}, retired=retired)
    assert scores.strict == scores.overlap == scores.document == Score(1, 1, 1)
    assert evaluate_linking(gold, predicted, retired=retired).strict == Score(2, 3, 3)


def test_missing_documents_count_as_empty_and_strange_ones_are_refused():
    gold = [document((0, 5, "A")), document((0, 5, "A"), id="e")]
    assert evaluate_linking(gold, gold[:1]).strict == Score(1, 1, 2)
    with pytest.raises(MedgraftError, match="'z' was predicted but has no gold"):
        evaluate_linking(gold, [document(id="z")])
    with pytest.raises(MedgraftError, match="'d' occurs twice among the gold"):
        evaluate_linking([gold[0], gold[0]], [])


def test_rates_of_nothing_are_zero():
    scores = evaluate_linking([document()], [document()])
    assert (scores.strict.precision, scores.strict.recall, scores.strict.f1) == (0.0, 0.0, 0.0)
    assert str(scores).splitlines()[0] == "strict    P 0.000  R 0.000  F1 0.000"


mentions = st.lists(st.tuples(st.integers(0, 20), st.integers(1, 8), st.sampled_from("ABC")), max_size=8).map(
    lambda rows: tuple((s, s + n, c) for s, n, c in rows)
)


@given(mentions, mentions)
def test_scores_are_bounded_and_swap_with_the_sides(a, b):
    forward, backward = (
        evaluate_linking([document(*a)], [document(*b)]),
        evaluate_linking([document(*b)], [document(*a)]),
    )
    assert forward.strict.correct <= forward.overlap.correct
    for one, other in ((forward.strict, backward.strict), (forward.document, backward.document)):
        assert (one.precision, one.recall) == (other.recall, other.precision)
    assert evaluate_linking([document(*a)], [document(*a)]).overlap.f1 in (0.0, 1.0)


@settings(max_examples=200, deadline=None)
@given(
    *(
        st.lists(st.tuples(st.integers(0, 8), st.integers(1, 5), st.sampled_from("ABR")), max_size=6)
        for _ in ("gold", "predicted")
    )
)
def test_a_slow_judge_that_follows_the_definition_agrees(gold_spans, predicted_spans):
    gold, predicted = (
        Document("1", "", tuple(Mention(s, s + n, "", id) for s, n, id in spans))
        for spans in (gold_spans, predicted_spans)
    )
    scores = evaluate_linking([gold], [predicted], keep={"A", "B"}, retired={"R": "A"})
    wanted, found = (
        {(s, s + n, "A" if id == "R" else id) for s, n, id in spans} for spans in (gold_spans, predicted_spans)
    )
    assert scores.strict == Score(len(wanted & found), len(found), len(wanted))
    ids, found_ids = {w[2] for w in wanted}, {f[2] for f in found}
    assert scores.document == Score(len(ids & found_ids), len(found_ids), len(ids))
    left, left_found, pairs = set(wanted), set(found), 0
    while True:  # again and again the pair that shares most
        shared = [
            (len(set(range(*w[:2])) & set(range(*f[:2]))), w, f) for w in left for f in left_found if w[2] == f[2]
        ]
        most = max((n for n, _, _ in shared), default=0)
        if not most:
            break
        _, w, f = min((p for p in shared if p[0] == most), key=lambda p: p[1:])
        left.remove(w)
        left_found.remove(f)
        pairs += 1
    assert scores.overlap == Score(pairs, len(found), len(wanted))
