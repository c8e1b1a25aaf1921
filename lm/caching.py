"""Frozen blocks computed once: the low-cost mode of training.

Frozen blocks run without dropout, so what they make of a window never changes; kept, it saves their share of every
epoch (of six blocks with four frozen, about two thirds of the encoder's work). It costs T * d * 4 bytes a window.
"""

from collections.abc import Callable, MutableMapping, Sequence

import torch
from torch import Tensor
from tqdm import tqdm

from lm.alignment import Window, collate
from lm.encoder import LOWER_STATES, Encoder

States = MutableMapping[bytes, Tensor]
"""By the pieces of a window: its hidden states (T, d)."""


def lower_states(
    encoder: Encoder,
    made: Sequence[Window],
    after_block: int,
    states: States | None = None,
    *,
    batch_size: int = 32,
    progress: bool = False,
) -> Callable[[Sequence[Window]], dict[str, Tensor]]:
    """An extra for `collate` that adds the hidden states after `after_block` blocks, computed here for all windows.

    Windows of the same pieces find theirs again; `states` may be shared by models whose frozen blocks are the same.
    The encoder runs where its parameters are.
    """
    states = {} if states is None else states
    ordered = sorted((window for window in made if key_of(window) not in states), key=len)
    with torch.inference_mode():
        for start in tqdm(range(0, len(ordered), batch_size), "frozen blocks", disable=None if progress else True):
            group = ordered[start : start + batch_size]
            batch = {name: tensor.to(encoder.device) for name, tensor in collate(group, encoder).items()}
            hidden = encoder.lower(batch, after_block).hidden.cpu()
            for row, window in enumerate(group):
                states[key_of(window)] = hidden[row, : len(window)].clone()

    def extra(group: Sequence[Window]) -> dict[str, Tensor]:
        table = torch.zeros(len(group), max(map(len, group)), encoder.hidden_size)
        for row, window in enumerate(group):
            table[row, : len(window)] = states[key_of(window)]
        return {LOWER_STATES: table}

    return extra


def key_of(window: Window) -> bytes:
    """What the states of a window are kept under: its pieces."""
    return window.input_ids.tobytes()
