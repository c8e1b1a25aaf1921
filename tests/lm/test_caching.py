"""Frozen blocks computed once give what they give when they are run each time."""

import pytest
import torch

from lm.alignment import collate, windows
from lm.caching import lower_states
from lm.encoder import freeze_blocks
from loaders.errors import MedgraftError
from tests.encoders import SENTENCES


def test_cached_is_as_computed(any_encoder) -> None:
    freeze_blocks(any_encoder, 1)
    made = windows(SENTENCES, any_encoder, 24, 4)
    extra = lower_states(any_encoder, made, 1)
    anew = windows(SENTENCES, any_encoder, 24, 4)
    plain, cached = collate(anew, any_encoder), collate(anew, any_encoder, extra)
    there = plain["attention_mask"].bool()
    with torch.inference_mode():
        for depth, change in ((None, None), (1, lambda h: h * 0.5), (2, lambda h: h + 1)):
            expected = any_encoder(plain, depth, change)[there]
            torch.testing.assert_close(any_encoder(cached, depth, change)[there], expected, atol=1e-5, rtol=1e-4)


def test_a_change_below_the_frozen_blocks_is_refused(encoder) -> None:
    freeze_blocks(encoder, 2)
    made = windows(SENTENCES[:1], encoder)
    batch = collate(made, encoder, lower_states(encoder, made, 2))
    with pytest.raises(MedgraftError):
        encoder(batch, 1, lambda hidden: hidden)


def test_states_do_not_hang_on_what_else_is_computed(encoder) -> None:
    """Training from them would differ in its last digits, and then in its first ones."""
    made = windows([*SENTENCES, "A far longer sentence about nothing at all, " * 8], encoder, 64, 4)
    alone, before, together = {}, {}, {}
    lower_states(encoder, made[:1], 2, alone)
    lower_states(encoder, made[::-1], 2, before)
    lower_states(encoder, made, 2, together)
    for key, state in together.items():
        assert torch.equal(before[key], state)
        assert torch.equal(alone.get(key, state), state)
