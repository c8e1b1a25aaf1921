"""Packing, masking and the objectives, against slow and obvious versions."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lm.encoder import Encoder
from lm.pretraining import PretrainingNetwork, draw_masks, masked_losses, pack, sequences
from lm.training import fit
from loaders.errors import MedgraftError
from loaders.records import Document, Mention

TEXTS = [Document(str(n), t) for n, t in enumerate(["the patients took aspirin", "nausea", "war of warfarin " * 30])]


def pieces(encoder: Encoder, text: str) -> list[int]:
    return encoder.pieces([text])[0][0].tolist()


@pytest.mark.parametrize("on_disk", [False, True])
def test_packing_loses_no_piece_and_keeps_the_order(encoder: Encoder, tmp_path: Path, on_disk: bool) -> None:
    packed = pack(TEXTS, encoder, max_pieces=16, folder=tmp_path if on_disk else None)
    special = {encoder.pad_id, *encoder.prefix_ids, *encoder.suffix_ids}
    flat = packed.ids[packed.groups >= 0].tolist()
    assert flat == [i for d in TEXTS for i in pieces(encoder, d.text)]
    assert {int(i) for i in packed.ids[packed.groups < 0]} <= special and packed.read == 3
    assert (packed.ids[:, 0] == encoder.prefix_ids[0]).all()


def test_the_pieces_of_words_and_of_concepts_are_one_group(encoder: Encoder) -> None:
    text = "aspirin drowsiness of patients"
    mention = Mention(0, 18, "T", "X:1")
    word = pack([Document("a", text, (mention,))], encoder, max_pieces=32)
    concept = pack(
        [Document("a", text, (mention,))], encoder, max_pieces=32, masking="concept", concept_rows={"X:1": 7}
    )
    single = pack([Document("a", text)], encoder, max_pieces=32, masking="piece")
    count = len(pieces(encoder, text))
    groups = [len(set(p.groups[0][p.groups[0] >= 0].tolist())) for p in (single, word, concept)]
    assert groups == [count, 4, 3]
    inside = len(pieces(encoder, text[:18]))
    assert (concept.concepts[0] == 7).sum() == inside and len(set(concept.groups[0][concept.concepts[0] == 7])) == 1


def test_next_segments_are_right(encoder: Encoder) -> None:
    texts = [Document(str(n), " ".join([word] * 60)) for n, word in enumerate(["aspirin", "nausea", "the", "of"] * 6)]
    packed = pack(texts, encoder, max_pieces=24, next_segments=True, seed=1)
    sep = encoder.suffix_ids[0]
    for row, true in zip(packed.ids, packed.next, strict=True):
        border = row.tolist().index(sep)
        same = row[1] == row[border + 1]
        assert same or not true
    assert 0.3 < packed.next.mean() < 0.7


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=20), st.floats(0.05, 0.9), st.integers(0, 99))
def test_masks_take_whole_groups_up_to_the_share(sizes: list[int], share: float, seed: int) -> None:
    groups = torch.tensor([[-1] + [n for n, size in enumerate(sizes) for _ in range(size)] + [-1]])
    mask = draw_masks(groups, share, torch.Generator().manual_seed(seed))
    chosen = {int(g) for g in groups[mask]}
    assert chosen and -1 not in chosen
    assert all(mask[groups == g].all() for g in chosen)
    total = sum(sizes)
    # One group less would be below the share.
    assert int(mask.sum()) - max(sizes[g] for g in chosen) < share * total <= int(mask.sum()) + 1e-4


def test_the_loss_is_that_of_the_masked_pieces(encoder: Encoder) -> None:
    packed = pack(TEXTS, encoder, max_pieces=24)
    network = PretrainingNetwork(encoder).eval()
    losses, counts = masked_losses(network, packed, batch_size=2)
    assert counts.sum() > 0 and np.isclose(losses.sum() / counts.sum(), np.log(len(network.bias)), rtol=0.5)
    again = masked_losses(network, packed, batch_size=2)
    assert np.array_equal(losses, again[0]) and np.array_equal(counts, again[1])


def test_training_learns_and_masks_are_dynamic_and_resumable(encoder: Encoder, tmp_path: Path) -> None:
    vectors = torch.eye(4)
    mention = Mention(17, 24, "T", "X:1")
    texts = [Document(str(n), "the patients took aspirin of nausea", (mention,)) for n in range(40)]
    texts += [Document("w", "the patients took warfarin of nausea", (Mention(17, 25, "T", "X:2"),))] * 10
    packed = pack(texts, encoder, max_pieces=32, masking="concept", concept_rows={"X:1": 1, "X:2": 2})
    network = PretrainingNetwork(encoder, concept_vectors=vectors)
    before = masked_losses(network, packed)
    examples, collate = sequences(packed, encoder)
    shown: list[Any] = []
    handle = encoder.model.register_forward_pre_hook(
        lambda _m, _a, k: shown.append(k["input_ids"].clone()), with_kwargs=True
    )
    history = fit(network, examples, collate, epochs=8, batch_size=4, learning_rates={"": 5e-3}, device="cpu",
                  progress=False, folder=tmp_path)  # fmt: skip
    handle.remove()
    mask = encoder.tokenizer.mask_token_id
    assert len({tuple((s == mask).flatten().tolist()) for s in shown}) > len(shown) // 2
    after = masked_losses(network, packed)
    assert after[0].sum() / after[1].sum() < 0.6 * before[0].sum() / before[1].sum()
    assert history.epochs[-1].loss < history.epochs[0].loss


def test_an_encoder_from_scratch(tmp_path: Path) -> None:
    encoder = Encoder.new((d.text for d in TEXTS), vocabulary=80, hidden_size=32, num_blocks=2, num_heads=2)
    encoder.save(tmp_path)
    loaded = Encoder.load(tmp_path)
    assert loaded.num_blocks == 2 and pieces(loaded, "Warfarin nausea") == pieces(encoder, "warfarin nausea")
    for call, needle in (
        (lambda: Encoder.new([]), "no text to train a vocabulary"),
        (lambda: Encoder.new(["a"], hidden_size=30, num_heads=4), "do not divide"),
        (lambda: pack([], encoder), "no text to pretrain"),
        (lambda: pack(TEXTS, encoder, masking="x"), "unknown masking"),
        (lambda: pack(TEXTS, encoder, max_pieces=4), "takes 8 to"),
    ):
        with pytest.raises(MedgraftError, match=needle):
            call()
