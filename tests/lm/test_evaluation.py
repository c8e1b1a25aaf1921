"""Strict mention scores, counted by hand and by seqeval."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics import f1_score, precision_score, recall_score

from lm.evaluation import evaluate_mentions, evaluate_relations
from loaders.errors import MedgraftError
from loaders.records import Document, Mention, Relation

TEXT = "x" * 100


def test_counts_by_hand() -> None:
    gold = [Document("1", TEXT, (Mention(0, 5, "D"), Mention(6, 9, "C"))), Document("2", TEXT, (Mention(0, 5, "D"),))]
    found = [
        Document("2", TEXT, (Mention(0, 5, "D"), Mention(0, 5, "D"), Mention(7, 9, "C"))),
        Document("1", TEXT, (Mention(0, 5, "C"), Mention(6, 9, "C", score=0.5))),
    ]
    scores = evaluate_mentions(gold, found)
    assert (scores.gold, scores.predicted, scores.correct) == (3, 4, 2)
    assert (scores.precision, scores.recall, scores.f1) == (0.5, 2 / 3, 4 / 7)
    assert {t: (s.gold, s.predicted, s.correct) for t, s in scores.by_type.items()} == {"C": (1, 3, 1), "D": (2, 1, 1)}
    assert "57.14%" in str(scores) and str(scores).count("\n") == 3


def test_nothing_gives_zero() -> None:
    scores = evaluate_mentions([Document("1", TEXT)], [Document("1", TEXT)])
    assert (scores.precision, scores.recall, scores.f1) == (0, 0, 0)


def test_other_documents_are_an_error() -> None:
    with pytest.raises(MedgraftError, match="not the same documents"):
        evaluate_mentions([Document("1", TEXT)], [Document("2", TEXT)])
    with pytest.raises(MedgraftError, match="occur twice among the gold"):
        evaluate_mentions([Document("1", TEXT)] * 2, [Document("1", TEXT)])


def bio(mentions: list[Mention], words: int) -> list[str]:
    tags = ["O"] * words
    for mention in mentions:
        tags[mention.start] = f"B-{mention.type}"
        for word in range(mention.start + 1, mention.end):
            tags[word] = f"I-{mention.type}"
    return tags


@st.composite
def flat_mentions(draw: st.DrawFn) -> list[Mention]:
    borders = sorted(draw(st.sets(st.integers(0, 12), max_size=8)))
    pairs = list(zip(borders[::2], borders[1::2], strict=False))
    return [Mention(start, end, draw(st.sampled_from("CD"))) for start, end in pairs]


@given(st.lists(st.tuples(flat_mentions(), flat_mentions()), min_size=1, max_size=4))
def test_seqeval_agrees_where_both_apply(pairs: list[tuple[list[Mention], list[Mention]]]) -> None:
    """One character a word, so that a mention is a run of tags."""
    scores = evaluate_mentions(
        [Document(str(n), TEXT, tuple(gold)) for n, (gold, _) in enumerate(pairs)],
        [Document(str(n), TEXT, tuple(found)) for n, (_, found) in enumerate(pairs)],
    )
    gold, found = ([bio(pair[side], 12) for pair in pairs] for side in (0, 1))
    for ours, theirs in ((scores.precision, precision_score), (scores.recall, recall_score), (scores.f1, f1_score)):
        assert ours == pytest.approx(theirs(gold, found, zero_division=0))


def test_relations_count_once_a_document():
    gold = [Document("1", TEXT, (), (Relation("a", "r", "b"), Relation("b", "s", "a"))), Document("2", TEXT)]
    found = [Document("1", TEXT, (), (Relation("a", "r", "b", 0.9), Relation("a", "r", "b"))), gold[1]]
    found[1] = Document("2", TEXT, (), (Relation("a", "r", "b"),))
    scores = evaluate_relations(gold, found)
    assert (scores.gold, scores.predicted, scores.correct) == (2, 2, 1)
    assert scores.by_type["s"].recall == 0
