"""The encoder gives what the Hugging Face model gives, whole, changed in the middle, or in two halves."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lm.alignment import collate, windows
from lm.encoder import Encoder, freeze_blocks, resolve_device
from loaders.errors import MedgraftError

SENTENCES = [
    "Famotidine-associated delirium. A series of six cases.",
    "The boy had absence seizures after warfarin.",
    "Nausea and renal failure, but no drowsiness.",
]


def batch_of(encoder: Encoder) -> dict[str, Tensor]:
    return collate(windows(SENTENCES, encoder), encoder)


def test_forward_equals_the_hugging_face_model(any_encoder: Encoder) -> None:
    batch = batch_of(any_encoder)
    hidden = any_encoder(batch)
    assert hidden.shape == (3, batch["input_ids"].shape[1], any_encoder.hidden_size)
    torch.testing.assert_close(hidden, any_encoder.model(**batch).last_hidden_state, rtol=0, atol=0)


def test_sizes_come_from_the_model(any_encoder: Encoder) -> None:
    assert (any_encoder.hidden_size, any_encoder.num_blocks, any_encoder.max_pieces) == (32, 2, 128)


def test_change_replaces_the_hidden_states_after_a_block(any_encoder: Encoder) -> None:
    batch = batch_of(any_encoder)
    plain = any_encoder(batch)
    torch.testing.assert_close(any_encoder(batch, 1, lambda hidden: hidden + 0), plain, rtol=0, atol=0)
    assert not torch.allclose(any_encoder(batch, 1, lambda hidden: -hidden), plain)
    torch.testing.assert_close(any_encoder(batch, 2, lambda hidden: 2 * hidden), 2 * plain, rtol=0, atol=0)
    torch.testing.assert_close(any_encoder(batch), plain, rtol=0, atol=0)  # the hook is gone


def test_the_hook_is_removed_when_the_change_fails(encoder: Encoder) -> None:
    def fail(hidden: Tensor) -> Tensor:
        raise RuntimeError("changed my mind")

    with pytest.raises(RuntimeError, match="changed my mind"):
        encoder(batch_of(encoder), 1, fail)
    encoder(batch_of(encoder))


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("training", [False, True])
def test_the_two_halves_equal_the_whole_bit_for_bit(any_encoder: Encoder, depth: int, training: bool) -> None:
    any_encoder.train(training)
    batch = batch_of(any_encoder)
    torch.manual_seed(3)
    whole = any_encoder(batch)
    torch.manual_seed(3)
    state = any_encoder.lower(batch, depth)
    assert torch.equal(any_encoder.upper(state, state.hidden), whole)


def test_lower_does_not_run_the_upper_blocks(any_encoder: Encoder) -> None:
    ran: list[int] = []
    for number, block in enumerate(any_encoder.blocks):
        block.register_forward_hook(lambda *_, number=number: ran.append(number))
    any_encoder.lower(batch_of(any_encoder), 1)
    assert ran == [0]
    any_encoder.lower(batch_of(any_encoder), 0)
    assert ran == [0]


def test_cached_hidden_states_go_on_in_another_batch(any_encoder: Encoder) -> None:
    both = batch_of(any_encoder)
    alone = collate(windows(SENTENCES[1:2], any_encoder), any_encoder)
    length = alone["input_ids"].shape[1]
    cached = any_encoder.lower(both, 1).hidden[1:2, :length]
    state = replace(any_encoder.lower(alone, 0), after_block=1)
    torch.testing.assert_close(any_encoder.upper(state, cached), any_encoder(alone), rtol=1e-5, atol=1e-5)


def test_padding_changes_nothing(any_encoder: Encoder) -> None:
    together = any_encoder(batch_of(any_encoder))
    for row, text in enumerate(SENTENCES):
        alone = any_encoder(collate(windows([text], any_encoder), any_encoder))
        torch.testing.assert_close(together[row, : alone.shape[1]], alone[0], rtol=1e-5, atol=1e-5)


def test_gradient_checkpointing_gives_the_same_gradients_and_changes_once(any_encoder: Encoder) -> None:
    def gradients(checkpoint: bool) -> list[Tensor]:
        any_encoder.train().zero_grad()
        any_encoder.checkpoint_gradients(checkpoint)
        calls: list[int] = []
        torch.manual_seed(0)
        any_encoder(batch_of(any_encoder), 1, lambda hidden: calls.append(1) or hidden * 2).square().sum().backward()
        assert len(calls) == 1
        return [p.grad.clone() for p in any_encoder.parameters() if p.grad is not None]

    for a, b in zip(gradients(False), gradients(True), strict=True):
        torch.testing.assert_close(a, b)


def test_frozen_blocks_do_not_train_and_drop_nothing(any_encoder: Encoder) -> None:
    freeze_blocks(any_encoder, 1)
    any_encoder.train()
    batch = batch_of(any_encoder)
    lower = any_encoder.lower(batch, 1).hidden
    assert torch.equal(lower, any_encoder.lower(batch, 1).hidden) and not lower.requires_grad
    assert not torch.equal(any_encoder(batch), any_encoder(batch))  # dropout above
    any_encoder(batch).sum().backward()
    moved = {name for name, p in any_encoder.named_parameters() if p.grad is not None}
    assert moved and all(".1." in name for name in moved)
    freeze_blocks(any_encoder, 0)
    assert all(p.requires_grad for p in any_encoder.parameters())


def test_save_and_load_round_trip(any_encoder: Encoder, tmp_path: Path) -> None:
    any_encoder.save(tmp_path)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {f.name for f in tmp_path.iterdir()}
    again = Encoder.load(tmp_path)
    assert torch.equal(again(batch_of(again)), any_encoder(batch_of(any_encoder)))


def test_every_parameter_is_registered_once(any_encoder: Encoder) -> None:
    assert len(any_encoder.state_dict()) == len(any_encoder.model.state_dict())


def test_a_spelt_out_special_piece_is_plain_text(any_encoder: Encoder) -> None:
    special = set(any_encoder.prefix_ids + any_encoder.suffix_ids)
    (ids, offsets), (empty, _) = any_encoder.pieces(["a [SEP] b </s> <s> \ud800 c", ""])
    assert not special & set(ids.tolist())
    assert offsets.max() <= 24 and len(empty) == 0


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_folder_that_misses_a_file_is_named(
    encoder_folder: Callable[[str], Path], tmp_path: Path, missing: str
) -> None:
    shutil.copytree(encoder_folder("bert"), tmp_path, dirs_exist_ok=True)
    (tmp_path / missing).unlink()
    with pytest.raises(MedgraftError, match=f"lacks {missing}.*give the folder"):
        Encoder.load(tmp_path)


def test_pickled_weights_are_refused(encoder_folder: Callable[[str], Path], tmp_path: Path) -> None:
    shutil.copytree(encoder_folder("bert"), tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(MedgraftError, match="pickled weights are not read"):
        Encoder.load(tmp_path)


def test_weights_of_another_model_are_refused(encoder_folder: Callable[[str], Path], tmp_path: Path) -> None:
    shutil.copytree(encoder_folder("bert"), tmp_path, dirs_exist_ok=True)
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"num_hidden_layers": 2', '"num_hidden_layers": 3'))
    with pytest.raises(MedgraftError, match="weights lack"):
        Encoder.load(tmp_path)


@pytest.mark.parametrize("name", ["nobody/no-such-encoder", "no such folder", "/no/such/folder"])
def test_an_unknown_name_is_one_line_with_the_way_out(name: str) -> None:
    with pytest.raises(MedgraftError, match="no such folder.*give") as caught:
        Encoder.load(name)
    assert "\n" not in str(caught.value)


def test_a_broken_config_is_one_line(encoder_folder: Callable[[str], Path], tmp_path: Path) -> None:
    shutil.copytree(encoder_folder("bert"), tmp_path, dirs_exist_ok=True)
    for text in ("{", '{"model_type": "t5"}', '{"model_type": "no-such-type"}'):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(MedgraftError) as caught:
            Encoder.load(tmp_path)
        assert "\n" not in str(caught.value)


def test_depth_outside_the_encoder(encoder: Encoder) -> None:
    for call in (lambda: encoder(batch_of(encoder), 3, lambda h: h), lambda: freeze_blocks(encoder, 3)):
        with pytest.raises(MedgraftError, match="2 blocks"):
            call()


def test_devices() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type in ("cuda", "mps", "cpu")
    with pytest.raises(MedgraftError, match="unknown device"):
        resolve_device("abacus")
    if not torch.cuda.is_available():
        with pytest.raises(MedgraftError, match="no cuda device"):
            resolve_device("cuda:1")


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import lm, sys; print([m for m in ('torch', 'transformers', 'numpy') if m in sys.modules], lm.__all__)"
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
        env=os.environ,
    )
    assert result.stdout.startswith("[] ['")


def test_attention_dropout_is_that_of_every_block(any_encoder: Encoder) -> None:
    batch = batch_of(any_encoder)
    for module in any_encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    any_encoder.train()
    any_encoder.set_attention_dropout(0.5)
    assert not torch.equal(any_encoder(batch), any_encoder(batch))
    any_encoder.set_attention_dropout(0.0)
    assert torch.equal(any_encoder(batch), any_encoder(batch))
