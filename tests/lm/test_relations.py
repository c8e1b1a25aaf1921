"""Relations without a graph: pairs, thresholds, evidence, windows; a slow obvious version judges the batch."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lm.alignment import collate
from lm.relations import (
    NUM_FEATURES,
    RelationNetwork,
    RelationScheme,
    best_threshold,
    concepts_of,
    pair_documents,
    pairs_of,
    passages,
    relations_of,
    score_pairs,
    with_evidence,
)
from lm.sentences import sentence_of, sentence_starts
from loaders.errors import MedgraftError
from loaders.records import Document, Mention, Relation

TEXT = "Aspirin caused nausea. Warfarin was stopped in 1.5 h. The nausea (and fever) of Dr. Smith went with aspirin."


def mention(word: str, type: str, id: str | None, nth: int = 0) -> Mention:
    start = -1
    for _ in range(nth + 1):
        start = TEXT.lower().index(word, start + 1)
    return Mention(start, start + len(word), type, id)


DOCUMENT = Document(
    "1",
    TEXT,
    (
        mention("aspirin", "Chemical", "C:1"),
        mention("nausea", "Disease", "D:1"),
        mention("warfarin", "Chemical", "C:2"),
        mention("nausea", "Disease", "D:1|D:2", 1),
        mention("fever", "Disease", None),
        mention("aspirin", "Chemical", "C:1", 1),
    ),
    (Relation("C:1", "CID", "D:1"),),
)
SCHEME = RelationScheme((("CID", "Chemical", "Disease"),))


def test_concepts_and_pairs() -> None:
    concepts = concepts_of(DOCUMENT)
    assert {id: len(mentions) for id, mentions in concepts.items()} == {"C:1": 2, "D:1": 2, "C:2": 1, "D:2": 1}
    pairs = pairs_of(DOCUMENT, SCHEME)
    assert [(p.head, p.tail, p.labels.tolist()) for p in pairs] == [
        ("C:1", "D:1", [True]),
        ("C:1", "D:2", [False]),
        ("C:2", "D:1", [False]),
        ("C:2", "D:2", [False]),
    ]
    assert RelationScheme.of([DOCUMENT]) == SCHEME
    with pytest.raises(MedgraftError, match="no relation"):
        RelationScheme.of([Document("2", "x")])


def test_types_that_no_relation_permits_make_no_pair() -> None:
    two = RelationScheme(
        (("CID", "Chemical", "Disease"), ("treats", "Chemical", "Disease"), ("is", "Disease", "Disease"))
    )
    kinds = {(p.head, p.tail): p.allowed.tolist() for p in pairs_of(DOCUMENT, two)}
    assert kinds["C:1", "D:1"] == [True, True, False]
    assert kinds["D:1", "D:2"] == kinds["D:2", "D:1"] == [False, False, True]
    assert ("D:1", "C:1") not in kinds


def test_features_say_how_a_concept_stands_among_its_rivals() -> None:
    first = pairs_of(DOCUMENT, SCHEME)[0].features
    # Of two chemicals, with two mentions and one; of two diseases, with two mentions and one.
    np.testing.assert_allclose(first[-6:], [np.log(2), 1, np.log(2 / 3)] * 2, rtol=1e-6)
    last = pairs_of(DOCUMENT, SCHEME)[-1].features
    np.testing.assert_allclose(last[-6:], [np.log(2), 0.5, np.log(1 / 3)] * 2, rtol=1e-6)
    assert all(len(pair.features) == NUM_FEATURES for pair in pairs_of(DOCUMENT, SCHEME))


def test_sentences() -> None:
    starts = sentence_starts(TEXT)
    assert [TEXT[a:b].strip() for a, b in pairwise([*starts, len(TEXT)])] == [
        "Aspirin caused nausea.",
        "Warfarin was stopped in 1.5 h.",
        "The nausea (and fever) of Dr. Smith went with aspirin.",
    ]
    assert sentence_of(starts, 0) == 0 and sentence_of(starts, len(TEXT)) == 2
    assert sentence_starts("") == [0]


@given(st.text(st.sampled_from("aA. !?\n1"), max_size=30))
def test_sentences_begin_inside_the_text_in_order(text: str) -> None:
    starts = sentence_starts(text)
    assert starts[0] == 0 and starts == sorted(set(starts))
    assert all(start < len(text) for start in starts[1:])


def test_evidence_is_where_both_are_mentioned() -> None:
    found = with_evidence(DOCUMENT, Relation("C:1", "CID", "D:1"))
    assert [TEXT[a:b] for a, b in found.evidence] == [
        "Aspirin caused nausea.",
        "The nausea (and fever) of Dr. Smith went with aspirin.",
    ]
    found = with_evidence(DOCUMENT, Relation("C:2", "CID", "D:2"))
    assert [TEXT[a:b] for a, b in found.evidence] == [
        "Warfarin was stopped in 1.5 h.",
        "The nausea (and fever) of Dr. Smith went with aspirin.",
    ]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([0.1, 0.3, 0.5, 0.9]), st.booleans()), min_size=1, max_size=8), st.integers(0, 2)
)
def test_no_threshold_is_better_than_the_best(rows: list[tuple[float, bool]], missed: int) -> None:
    scores = np.array([[score] for score, _ in rows], dtype=np.float32)
    labels = np.array([[label] for _, label in rows])

    def f1(threshold: float) -> float:
        called = scores >= threshold
        return 2 * (called & labels).sum() / (called.sum() + labels.sum() + missed) if labels.any() else 0.0

    chosen = best_threshold([scores], [labels], missed)
    assert f1(chosen) == max(f1(t) for t in (chosen, 0.05, 0.2, 0.4, 0.6, 0.95))


def test_a_batch_gives_what_a_slow_look_at_each_pair_gives(any_encoder) -> None:
    """Windows of 20 pieces, two documents in a batch: vectors and logits from plain indexing, a pair at a time."""
    encoder = any_encoder
    documents = [DOCUMENT, Document("2", TEXT[23:], ()), Document("3", TEXT, DOCUMENT.mentions)]
    network = RelationNetwork(encoder, SCHEME, hidden_size=encoder.hidden_size, size=16).eval()
    torch.nn.init.normal_(network.output.direct.weight, std=0.01)
    made = passages(documents, encoder, 20, 4)
    pairs, extra = pair_documents(documents, SCHEME)
    together = score_pairs(network, made, pairs, encoder, extra, max_pieces=10_000)
    alone = score_pairs(network, made, pairs, encoder, extra, max_pieces=1)
    assert len(together[1]) == 0
    np.testing.assert_allclose(together[0], together[2], atol=1e-5)
    np.testing.assert_allclose(together[0], alone[0], atol=1e-5)
    np.testing.assert_allclose(together[0], slowly(network, encoder, made[0].windows, DOCUMENT), atol=1e-5)


@torch.inference_mode()
def slowly(network: RelationNetwork, encoder, windows, document: Document) -> np.ndarray:
    hidden = encoder(collate(windows, encoder))
    states = {}
    everything = []
    for row, window in enumerate(windows):
        for place, start in enumerate(window.offsets[:, 0].tolist()):
            if start >= 0:
                everything.append(hidden[row, place])
        for id, mentions in concepts_of(document).items():
            for m in mentions:
                first = next(w for w, (a, b) in enumerate(window.word_spans.tolist()) if b > m.start)
                if window.owned[0] <= first < window.owned[1]:
                    inside = [
                        place
                        for place, (a, b) in enumerate(window.offsets.tolist())
                        if a >= 0 and b > m.start and a < m.end
                    ]
                    states.setdefault(id, []).append(hidden[row, inside].mean(dim=0))
    context = torch.stack(everything)
    head = network.output
    scores = []
    for pair in pairs_of(document, SCHEME):
        h, t = (torch.stack(states[id]).exp().sum(dim=0).log() for id in (pair.head, pair.tail))
        weights = (head.query(torch.cat([h, t])) @ head.key(context).T / head.size**0.5).softmax(dim=-1)
        row = torch.cat([h, t, h * t, weights @ context, torch.from_numpy(pair.features)])
        logits = head.linear(torch.nn.functional.gelu(head.pair(row)))
        scores.append((logits + 20 * head.direct.weight @ torch.from_numpy(pair.features)).sigmoid().numpy())
    return np.array(scores)


def test_relations_are_sorted_by_probability() -> None:
    pairs = pairs_of(DOCUMENT, SCHEME)
    found = relations_of(pairs, np.array([[0.4], [0.9], [0.2], [0.6]]), SCHEME, 0.4)
    assert [(r.head, r.tail, r.score) for r in found] == [("C:1", "D:2", 0.9), ("C:2", "D:2", 0.6), ("C:1", "D:1", 0.4)]
