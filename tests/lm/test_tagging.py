"""Mentions to tags and back; windows, batches and their order change nothing."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lm.alignment import Window, collate, windows
from lm.encoder import Array, Encoder
from lm.tagging import IGNORED, MentionTagger, TagCounts, Tagger, TagScheme, predict, tag_documents
from loaders.errors import MedgraftError
from loaders.records import Document, Mention, Relation

SCHEME = TagScheme(["Chemical", "Disease"])


def spans(*words: tuple[int, int]) -> Array:
    return np.array(words).reshape(-1, 2)


WORDS = spans((0, 5), (6, 10), (11, 12), (12, 20), (21, 30))


def labels(tags: Array) -> list[str]:
    return [SCHEME.labels[tag] for tag in tags]


def test_labels_are_bio() -> None:
    assert SCHEME.labels == ("O", "B-Chemical", "I-Chemical", "B-Disease", "I-Disease")
    documents = [Document("1", "a b", (Mention(0, 1, "b"), Mention(2, 3, "a")))]
    assert TagScheme.of(documents).types == ("a", "b")
    with pytest.raises(MedgraftError, match="one or more"):
        TagScheme.of([Document("1", "a")])


def test_mentions_become_tags() -> None:
    mentions = [Mention(0, 10, "Disease"), Mention(12, 20, "Chemical"), Mention(21, 30, "Chemical")]
    assert labels(SCHEME.encode(mentions, WORDS)) == ["B-Disease", "I-Disease", "O", "B-Chemical", "B-Chemical"]


def test_the_longest_of_overlapping_mentions_wins_and_the_others_are_counted() -> None:
    counts = TagCounts()
    mentions = [
        Mention(0, 5, "Chemical"),
        Mention(0, 10, "Disease"),
        Mention(6, 12, "Chemical"),
        Mention(0, 10, "Disease"),
    ]
    assert labels(SCHEME.encode(mentions, WORDS, counts)) == ["B-Disease", "I-Disease", "O", "O", "O"]
    assert counts == TagCounts(tagged=1, dropped_overlapping=3)


def test_a_mention_inside_a_word_is_widened_and_one_without_words_dropped() -> None:
    counts = TagCounts()
    tags = SCHEME.encode(
        [Mention(13, 16, "Chemical"), Mention(5, 6, "Disease"), Mention(40, 50, "Disease")], WORDS, counts
    )
    assert labels(tags) == ["O", "O", "O", "B-Chemical", "O"]
    assert counts == TagCounts(tagged=1, widened=1, dropped_without_word=2)


def test_a_type_outside_the_scheme_is_named() -> None:
    with pytest.raises(MedgraftError, match="'Gene' is not one of Chemical, Disease"):
        SCHEME.encode([Mention(0, 5, "Gene")], WORDS)


def valid(tags: tuple[int, ...]) -> bool:
    return all(
        tag == 0 or tag % 2 == 1 or (previous in (tag, tag - 1))
        for previous, tag in zip((0, *tags), tags, strict=False)
    )


@settings(deadline=None, max_examples=100)
@given(words=st.integers(0, 5), seed=st.integers(0, 2**16))
def test_decoding_finds_the_most_probable_valid_sequence(words: int, seed: int) -> None:
    scores = np.log(np.random.default_rng(seed).dirichlet(np.ones(5) * 0.5, size=words) + 1e-6)
    found = SCHEME.decode(scores, WORDS[:words])
    best = max(
        (tags for tags in itertools.product(range(5), repeat=words) if valid(tags)),
        key=lambda tags: sum(scores[i, tag] for i, tag in enumerate(tags)),
    )
    assert labels(SCHEME.encode(found, WORDS[:words])) == [SCHEME.labels[tag] for tag in best]
    for mention in found:
        inside = [k for k in range(words) if mention.start <= WORDS[k, 0] and WORDS[k, 1] <= mention.end]
        i, j = inside[0], inside[-1] + 1
        assert mention.score == pytest.approx(np.exp(np.mean([scores[k, best[k]] for k in range(i, j)])))


def test_a_word_is_called_something_from_the_threshold_on() -> None:
    scores = np.log(np.array([[0.6, 0.3, 0.02, 0.05, 0.03]]))
    assert SCHEME.decode(scores, WORDS[:1]) == ()
    (found,) = SCHEME.decode(scores, WORDS[:1], threshold=0.3)
    assert found.type == SCHEME.types[0] and found.score == pytest.approx(0.3)
    assert SCHEME.decode(scores, WORDS[:1], threshold=0.35) == ()


@given(st.lists(st.sampled_from(range(5)), max_size=5))
def test_valid_tags_survive_the_way_there_and_back(tags: list[int]) -> None:
    if not valid(tuple(tags)):
        return
    scores = np.full((len(tags), 5), -9.0)
    scores[np.arange(len(tags)), tags] = -0.01
    mentions = SCHEME.decode(scores, WORDS[: len(tags)])
    assert SCHEME.encode(mentions, WORDS[: len(tags)]).tolist() == tags


class LetterEncoder(nn.Module):
    """Hidden states that say which piece it is: a tagger that looks words up needs no context."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.hidden_size = vocabulary
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return nn.functional.one_hot(batch["input_ids"], self.hidden_size).float()


@pytest.fixture
def lookup(encoder: Encoder) -> Tagger:
    """Tags "renal" B-Disease and what follows from "failure" or "aspirin" by its first piece only."""
    vocabulary = len(encoder.tokenizer)
    tagger = Tagger(LetterEncoder(vocabulary), SCHEME)
    with torch.no_grad():
        tagger.output.linear.weight.zero_()
        tagger.output.linear.weight[0] = 5
        for word, label in (("aspirin", "B-Chemical"), ("nausea", "B-Disease"), ("of", "I-Disease")):
            (piece,) = encoder.pieces([word])[0][0].tolist()
            tagger.output.linear.weight[SCHEME.label_to_id[label], piece] = 20
    return tagger


@pytest.mark.parametrize("size", [8, 11, 16, 64])
def test_a_mention_across_a_window_border_is_found_whole(lookup: Tagger, encoder: Encoder, size: int) -> None:
    text = "the " * 5 + "nausea of of of " + "the " * 4 + "aspirin " + "the " * 9 + "nausea of."
    (found,) = predict(lookup, [Document("1", text)], encoder, max_pieces=size, stride=3)
    assert [(text[m.start : m.end], m.type) for m in found] == [
        ("nausea of of of", "Disease"),
        ("aspirin", "Chemical"),
        ("nausea of", "Disease"),
    ]


@pytest.fixture
def tagger(any_encoder: Encoder) -> Tagger:
    tagger = Tagger(any_encoder, SCHEME)
    with torch.no_grad():
        tagger.output.linear.weight.mul_(40)
    return tagger


DOCUMENTS = [
    Document("1", "The boy had absence seizures after warfarin.", relations=(Relation("a", "b", "c"),)),
    Document("2", ""),
    Document("3", "Nausea, " * 30 + "and renal failure"),
    Document("4", "😀 β-blocker!"),
]


def test_prediction_does_not_depend_on_the_batch(tagger: Tagger, any_encoder: Encoder) -> None:
    together = predict(tagger, DOCUMENTS, any_encoder, max_pieces=48)
    assert any(document.mentions for document in together)
    assert [(d.id, d.text, d.relations) for d in together] == [(d.id, d.text, d.relations) for d in DOCUMENTS]
    for number, document in enumerate(DOCUMENTS):
        for size in (1, 2):
            (alone,) = predict(tagger, [document], any_encoder, max_pieces=48, batch_size=size)
            assert alone.mentions == together[number].mentions
            for a, b in zip(alone, together[number], strict=True):
                assert a.score == pytest.approx(b.score, abs=1e-5)


def test_prediction_in_bf16_and_without_documents(tagger: Tagger, any_encoder: Encoder) -> None:
    tagger.train()
    assert predict(tagger, [], any_encoder) == []
    assert len(predict(tagger, DOCUMENTS, any_encoder, precision="bf16")) == 4
    assert tagger.training


def test_extras_reach_the_encoder(encoder: Encoder) -> None:
    seen: list[int] = []

    class Watching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden_size, self.inner = 32, encoder

        def forward(self, batch: dict[str, Tensor]) -> Tensor:
            seen.extend(batch["document"].tolist())
            return self.inner(batch)  # type: ignore[no-any-return]

    def documents(group: list[Window]) -> dict[str, Tensor]:
        return {"document": torch.tensor([w.document for w in group])}

    predict(Tagger(Watching(), SCHEME), DOCUMENTS, encoder, documents)  # type: ignore[arg-type]
    assert set(seen) == {0, 1, 2, 3}


def test_every_word_is_labelled_once_over_all_windows(any_encoder: Encoder) -> None:
    text = "nausea after warfarin and the aspirin. " * 6
    mentions = tuple(Mention(i, i + 6, "Disease") for i in range(len(text)) if text.startswith("nausea", i))
    documents = [Document("1", text, mentions), Document("2", "")]
    made = windows([d.text for d in documents], any_encoder, max_pieces=30, stride=8)
    extra, counts = tag_documents(documents, made, SCHEME)
    assert counts == TagCounts(tagged=6)
    table = collate(made, any_encoder, extra)["labels"]
    assert (table != IGNORED).sum() == len(made[0].word_spans)
    assert (table == SCHEME.label_to_id["B-Disease"]).sum() == 6


def test_loss_is_the_mean_over_labelled_words(tagger: Tagger, any_encoder: Encoder) -> None:
    documents = [Document("1", "warfarin, nausea", (Mention(0, 8, "Chemical"),)), Document("2", "the boy")]
    made = windows([d.text for d in documents], any_encoder)
    extra, _ = tag_documents(documents, made, SCHEME)
    batch = collate(made, any_encoder, extra)
    output = tagger(batch)
    slow = [
        -output.logits[row, place].log_softmax(-1)[label].item()
        for row, line in enumerate(batch["labels"].tolist())
        for place, label in enumerate(line)
        if label != IGNORED
    ]
    assert int(output.count) == len(slow) == 5
    assert output.loss.item() == pytest.approx(np.mean(slow), rel=1e-5)
    batch["labels"].fill_(IGNORED)
    empty = tagger(batch)
    assert empty.loss.item() == 0 and int(empty.count) == 0
    empty.loss.backward()
    assert tagger({k: batch[k] for k in ("input_ids", "attention_mask")}).loss is None


def test_the_output_layer_draws_nothing_from_the_global_state() -> None:
    before = torch.random.get_rng_state()
    layers = [MentionTagger(8, 5, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(layers[0].linear.weight, layers[1].linear.weight)
    assert not torch.equal(layers[0].linear.weight, layers[2].linear.weight)


def test_gold_of_bc5cdr_survives_the_way_through_words(
    data: Callable[[str], Path], encoder_folder: Callable[[str], Path]
) -> None:
    from loaders.pubtator import read_pubtator

    documents = list(read_pubtator(data("text/bc5cdr/CDR_DevelopmentSet.PubTator.txt")))[:100]
    encoder = Encoder.load(encoder_folder("bert"))
    made = windows([d.text for d in documents], encoder, 128, 16)
    scheme = TagScheme.of(documents)
    _, counts = tag_documents(documents, made, scheme)
    assert counts.dropped_without_word == 0 and counts.tagged > 1500
    assert counts.widened + counts.dropped_overlapping < 0.03 * counts.tagged
