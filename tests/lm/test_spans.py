"""Mentions to spans and back: nested and overlapping ones too; windows, batches and their order change nothing."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lm.alignment import collate, windows
from lm.encoder import Array, Encoder
from lm.spans import SpanScheme, SpanScorer
from lm.tagging import IGNORED, TagCounts, Tagger, predict, tag_documents, tag_loss
from lm.training import fit
from loaders.errors import MedgraftError
from loaders.records import Document, Mention

TYPES = ("Chemical", "Disease")
SCHEME = SpanScheme(TYPES, longest=3)
WORDS = np.array([(0, 5), (6, 10), (11, 12), (12, 20), (21, 30)])


def said(mentions: tuple[Mention, ...]) -> list[tuple[int, int, str]]:
    return [(m.start, m.end, m.type) for m in mentions]


def odds(labels: Array) -> Array:
    return np.where(labels, 9.0, -9.0)


@st.composite
def word_aligned(draw: st.DrawFn) -> tuple[Mention, ...]:
    """Any mentions that begin and end with words and are not too long: nested, overlapping, of two types at once."""
    spans = st.sampled_from([(i, j) for i in range(5) for j in range(i, min(i + 3, 5))])
    drawn = draw(st.sets(st.tuples(spans, st.sampled_from(TYPES)), max_size=8))
    return tuple(Mention(int(WORDS[i, 0]), int(WORDS[j, 1]), type) for (i, j), type in drawn)


@settings(deadline=None)
@given(word_aligned())
def test_mentions_survive_the_way_there_and_back(mentions: tuple[Mention, ...]) -> None:
    counts = TagCounts()
    labels = SCHEME.encode(mentions, WORDS, counts)
    assert labels.sum() == len(mentions) and counts == TagCounts(tagged=len(mentions))
    found = SCHEME.decode(odds(labels), WORDS)
    assert sorted(said(found)) == sorted(said(mentions))
    assert [(m.start, m.end) for m in found] == sorted((m.start, m.end) for m in found)
    assert np.array_equal(SCHEME.encode(found, WORDS), labels)


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**16), words=st.integers(0, 5))
def test_without_overlap_the_best_set_of_spans_is_found(seed: int, words: int) -> None:
    scheme = SpanScheme(TYPES, longest=3, overlapping=False)
    scores = np.random.default_rng(seed).normal(size=(words, 3, 2))
    scores[np.arange(words)[:, None] + np.arange(3) >= words] = -np.inf
    found = scheme.encode(scheme.decode(scores, WORDS[:words]), WORDS[:words])
    places = [tuple(place) for place in np.argwhere(scores > 0)]

    def apart(some: tuple[tuple[int, ...], ...]) -> bool:
        covered = [word for i, width, _ in some for word in range(i, i + width + 1)]
        return len(covered) == len(set(covered))

    sets = (some for n in range(words + 1) for some in itertools.combinations(places, n) if apart(some))
    assert scores[found].sum() == pytest.approx(max(sum(scores[place] for place in some) for some in sets))
    assert apart(tuple(tuple(place) for place in np.argwhere(found)))


def test_what_cannot_be_a_span_is_counted() -> None:
    counts = TagCounts()
    mentions = [
        Mention(0, 20, "Disease"),  # four words
        Mention(13, 16, "Chemical"),  # within a word
        Mention(12, 20, "Chemical"),  # the same word again
        Mention(5, 6, "Disease"),  # no word
    ]
    labels = SCHEME.encode(mentions, WORDS, counts)
    assert np.argwhere(labels).tolist() == [[3, 0, 0]]
    expected = TagCounts(tagged=1, widened=1, dropped_overlapping=1, dropped_too_long=1, dropped_without_word=1)
    assert counts == expected
    with pytest.raises(MedgraftError, match="'Gene' is not one of Chemical, Disease"):
        SCHEME.encode([Mention(0, 5, "Gene")], WORDS)
    with pytest.raises(MedgraftError, match="1 or more"):
        SpanScheme(TYPES, longest=0)
    with pytest.raises(MedgraftError, match="distinct mention types"):
        SpanScheme(())


def test_a_score_is_the_probability_at_the_temperature() -> None:
    scores = np.full((5, 3, 2), -4.0)
    scores[1, 1, 0] = 2.0
    assert SCHEME.decode(scores, WORDS) == (Mention(6, 12, "Chemical", score=pytest.approx(1 / (1 + np.exp(-2)))),)
    (found,) = SCHEME.decode(scores, WORDS, temperature=4.0)
    assert found.score == pytest.approx(1 / (1 + np.exp(-0.5)))


@given(st.integers(0, 2**16), st.sampled_from([0.2, 0.35, 0.5, 0.7]), st.sampled_from([0.5, 1.0, 3.0]))
def test_mentions_are_called_from_the_threshold_on(seed: int, threshold: float, temperature: float) -> None:
    """With overlaps all spans above that probability; without, of these the set that exceeds it by the most."""
    scores = np.random.default_rng(seed).normal(-3, 3, (5, 3, 2))
    scores[np.arange(5)[:, None] + np.arange(3) >= 5] = -np.inf
    chances = 1 / (1 + np.exp(-scores / temperature))
    found = SpanScheme(TYPES, longest=3).decode(scores, WORDS, temperature, threshold)
    assert sorted(m.score for m in found) == pytest.approx(sorted(chances[chances > threshold]))
    apart = SpanScheme(TYPES, longest=3, overlapping=False)
    least = temperature * np.log(threshold / (1 - threshold))
    moved = apart.decode(scores - least, WORDS)
    assert said(apart.decode(scores, WORDS, temperature, threshold)) == said(moved)


def test_the_log_odds_are_those_of_the_formula() -> None:
    layer = SpanScorer(8, 2, longest=3).requires_grad_(False)
    layer.width.normal_()
    terms = torch.randn(2, 5, layer.linear.out_features)
    scores = layer.scores(terms)
    rank = (layer.linear.out_features // 2 - 5) // 2
    each = terms.reshape(2, 5, 2, -1)
    for row, i, width, t in itertools.product(range(2), range(5), range(3), range(2)):
        if i + width >= 5:
            assert scores[row, i, width, t] == -torch.inf
            continue
        first, last = each[row, i, t], each[row, i + width, t]
        pair = first[5 : 5 + rank] @ last[5 + rank :] / rank**0.5
        inside = each[row, i : i + width + 1, t, 2].mean()
        around = (each[row, i - 1, t, 3] if i else 0) + (each[row, i + width + 1, t, 4] if i + width < 4 else 0)
        expected = first[0] + last[1] + inside + around + pair + layer.width[t, width]
        assert float(scores[row, i, width, t]) == pytest.approx(float(expected), abs=1e-5)


class LetterEncoder(nn.Module):
    """Hidden states that say which piece it is: what looks words up needs no context."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.hidden_size = vocabulary
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return nn.functional.one_hot(batch["input_ids"], self.hidden_size).float()


def lookup(encoder: Encoder, scheme: SpanScheme) -> Tagger:
    """ "nausea" up to any "of" after it is a Disease, "aspirin" a Chemical."""
    tagger = Tagger(LetterEncoder(len(encoder.tokenizer)), scheme)
    pieces = {word: encoder.pieces([word])[0][0].tolist()[0] for word in ("nausea", "of", "aspirin")}
    terms = tagger.output.linear.out_features // 2
    start, end = 0, 1
    with torch.no_grad():
        tagger.output.linear.weight.zero_()
        tagger.output.width.fill_(-15)
        for word, type, term in (("nausea", 1, start), ("of", 1, end), ("aspirin", 0, start), ("aspirin", 0, end)):
            tagger.output.linear.weight[type * terms + term, pieces[word]] = 10
    return tagger


@pytest.mark.parametrize("size", [8, 11, 16, 64])
@pytest.mark.parametrize("overlapping", [True, False])
def test_nested_mentions_across_window_borders_are_found_whole(encoder: Encoder, size: int, overlapping: bool) -> None:
    text = "the " * 5 + "nausea of the of of " + "the " * 4 + "aspirin " + "the " * 9 + "nausea of."
    tagger = lookup(encoder, SpanScheme(TYPES, longest=5, overlapping=overlapping))
    (found,) = predict(tagger, [Document("1", text)], encoder, max_pieces=size, stride=3)
    nested = ["nausea of", "nausea of the of", "nausea of the of of"]
    shown = [text[m.start : m.end] for m in found.mentions]
    if overlapping:
        assert shown == [*nested, "aspirin", "nausea of"]
    else:
        assert shown[0] in nested and shown[1:] == ["aspirin", "nausea of"]


DOCUMENTS = [
    Document("1", "The boy had absence seizures after warfarin."),
    Document("2", ""),
    Document("3", "Nausea, " * 30 + "and renal failure"),
]


def test_prediction_does_not_depend_on_the_batch(any_encoder: Encoder) -> None:
    tagger = Tagger(any_encoder, SCHEME)
    with torch.no_grad():
        tagger.output.linear.weight.mul_(20)
    together = predict(tagger, DOCUMENTS, any_encoder, max_pieces=48)
    assert any(document.mentions for document in together)
    for number, document in enumerate(DOCUMENTS):
        (alone,) = predict(tagger, [document], any_encoder, max_pieces=48, batch_size=1)
        assert said(alone.mentions) == said(together[number].mentions)


def test_every_span_counts_once_and_the_loss_is_the_mean_over_words(any_encoder: Encoder) -> None:
    text = "nausea after warfarin and the aspirin. " * 6
    mentions = [Mention(i, i + 6, "Disease") for i in range(len(text)) if text.startswith("nausea", i)]
    mentions += [Mention(m.start, m.end + 6, "Disease") for m in mentions]
    documents = [Document("1", text, tuple(mentions)), Document("2", "")]
    made = windows([d.text for d in documents], any_encoder, max_pieces=30, stride=8)
    extra, counts = tag_documents(documents, made, SCHEME)
    assert counts == TagCounts(tagged=12)
    tagger = Tagger(any_encoder, SCHEME).eval()
    batch = collate(made, any_encoder, extra)
    words = len(made[0].word_spans)
    assert (batch["labels"] != IGNORED)[:, :, 0, 0].sum() == words and (batch["labels"] == 1).sum() == 12
    output = tagger(batch)
    assert int(output.count) == words
    # the same from whole documents, but for spans that a window cuts: their number is in the labels
    whole = tag_loss(tagger, documents, any_encoder, max_pieces=30, stride=8)(1.0) * words * 3 * 2
    assert float(output.loss.detach()) * words == pytest.approx(whole, rel=0.01)


def test_nested_mentions_are_learnt(encoder: Encoder) -> None:
    """Within "chronic renal failure" lies "renal failure"; only with "acute" before it, it does not."""
    documents = []
    for n in range(12):
        text = f"{'the ' * (n % 3)}chronic renal failure and acute renal failure {'after ' * (n % 2)}of it"
        at = text.index("chronic"), text.index("acute")
        spans = [(at[0], at[0] + 21), (at[0] + 8, at[0] + 21), (at[1], at[1] + 19)]
        documents.append(Document(str(n), text, tuple(Mention(start, end, "Disease") for start, end in spans)))
    tagger = Tagger(encoder, SpanScheme(["Disease"], longest=4), seed=1)
    made = windows([d.text for d in documents], encoder)
    extra, _ = tag_documents(documents, made, tagger.scheme)
    fit(tagger, made, lambda group: collate(group, encoder, extra), epochs=25, batch_size=4, device="cpu",
        learning_rates={"": 3e-3}, progress=False)  # fmt: skip
    for document, found in zip(documents, predict(tagger, documents, encoder), strict=True):
        assert said(found.mentions) == said(tuple(sorted(document.mentions, key=lambda m: (m.start, m.end))))


def test_the_output_layer_draws_nothing_from_the_global_state() -> None:
    before = torch.random.get_rng_state()
    layers = [SpanScorer(8, 2, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(layers[0].linear.weight, layers[1].linear.weight)
    assert not torch.equal(layers[0].linear.weight, layers[2].linear.weight)


def test_gold_of_gsc_survives_the_way_through_words(
    data: Callable[[str], Path], encoder_folder: Callable[[str], Path]
) -> None:
    from loaders.gsc import read_gsc

    documents = list(read_gsc(data("text/gsc_plus/GSCplus_dev_gold.tsv")))
    encoder = Encoder.load(encoder_folder("bert"))
    scheme = SpanScheme(["Phenotype"])
    spans = {window.document: window.word_spans for window in windows([d.text for d in documents], encoder, 128, 16)}
    counts = TagCounts()
    lost = 0
    for number, document in enumerate(documents):
        found = scheme.decode(odds(scheme.encode(document.mentions, spans[number], counts)), spans[number])
        lost += len(set(said(document.mentions)) - set(said(found)))
    assert counts.tagged == 173 and lost == counts.widened <= 2
