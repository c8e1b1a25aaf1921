"""Low-rank additions: nothing changes before training, only they learn, and merged they are plain weights."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import fusion
from lm.adapters import add_low_rank, merge_low_rank
from lm.encoder import Encoder
from loaders.errors import MedgraftError
from tests.encoders import any_encoder, encoder, encoder_folder  # noqa: F401
from tests.fusion.invented import invented_corpus, invented_names

pytest.importorskip("peft", reason="the extra lora is not installed")

BATCH = {"input_ids": torch.tensor([[2, 30, 31, 32, 3]]), "attention_mask": torch.ones(1, 5, dtype=torch.long)}


def test_they_begin_as_nothing_and_end_as_weights(any_encoder: Encoder) -> None:  # noqa: F811
    names = [name for name, _ in any_encoder.named_parameters()]
    with torch.no_grad():
        before = any_encoder(BATCH)
        add_low_rank(any_encoder, 2)
        assert torch.equal(any_encoder(BATCH), before)
        learning = [(name, p) for name, p in any_encoder.named_parameters() if p.requires_grad]
        assert learning and all("lora_" in name for name, _ in learning)
        for _, parameter in learning:
            parameter.normal_(std=0.1)
        changed = any_encoder(BATCH)
        assert not torch.allclose(changed, before, atol=1e-3)
        merge_low_rank(any_encoder)
        torch.testing.assert_close(any_encoder(BATCH), changed, atol=1e-5, rtol=1e-4)
    assert [name for name, _ in any_encoder.named_parameters()] == names
    assert all(p.requires_grad for p in any_encoder.parameters())


def test_frozen_blocks_get_none_and_stay_frozen(encoder: Encoder) -> None:  # noqa: F811
    encoder.freeze_blocks(1)
    add_low_rank(encoder, 2)
    assert all(".1." in name for name, p in encoder.named_parameters() if p.requires_grad)
    merge_low_rank(encoder)
    assert {name.split(".")[3] for name, p in encoder.named_parameters() if p.requires_grad} == {"1"}


def test_the_seed_decides_and_the_global_state_does_not_move(encoder_folder: Callable[[str], Path]) -> None:  # noqa: F811
    made = [Encoder.load(encoder_folder("bert")) for _ in range(2)]
    torch.manual_seed(5)
    wanted = torch.rand(1)
    torch.manual_seed(5)
    for one in made:
        add_low_rank(one, 2, seed=3)
    assert torch.equal(torch.rand(1), wanted)
    for ours, theirs in zip(made[0].parameters(), made[1].parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_training_with_them_saves_a_plain_model(encoder_folder: Callable[[str], Path], tmp_path: Path) -> None:  # noqa: F811
    corpus = invented_corpus(invented_names(40), (40, 10, 10))
    given = {"encoder": encoder_folder("bert"), "epochs": 2, "learning_rate": 1e-2, "device": "cpu", "progress": False}
    for name, extra in (("whole", {}), ("frozen", {"frozen_blocks": 1, "cache_frozen": True})):
        model = fusion.train("ner", corpus, out=tmp_path / name, lora_rank=4, **extra, **given)
        assert model.training["rank of the additions"] == 4
        base, loaded = Encoder.load(encoder_folder("bert")), fusion.load(tmp_path / name, device="cpu")
        assert [d.mentions for d in loaded.pipe(corpus.test)] == [d.mentions for d in model.pipe(corpus.test)]
        changed = [
            n for (n, a), b in zip(base.named_parameters(), loaded.encoder.parameters(), strict=True) if (a != b).any()
        ]
        assert changed and all("weight" in n and "embeddings" not in n and "LayerNorm" not in n for n in changed)


def test_what_cannot_be_is_said(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    with pytest.raises(MedgraftError, match="1 or more"):
        add_low_rank(encoder, 0)
    encoder.freeze_blocks(2)
    with pytest.raises(MedgraftError, match="every block is frozen"):
        add_low_rank(encoder, 1)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MedgraftError, match="pip install"):
        add_low_rank(encoder, 1)
