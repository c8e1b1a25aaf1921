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
    progress: bool = False,
) -> Callable[[Sequence[Window]], dict[str, Tensor]]:
    """An extra for `collate` that adds the hidden states after `after_block` blocks, computed here for all windows.

    Windows of the same pieces find theirs again; `states` may be shared by models whose frozen blocks are the same.
    The encoder runs where its parameters are, on each window alone: in a batch its states are rounded by the company
    they are computed in, so that a training hung on what had run before it (by up to a point of F1). On a CPU this
    takes no longer.
    """
    states = {} if states is None else states
    missing = [window for window in made if key_of(window) not in states]
    with torch.inference_mode():
        for window in tqdm(missing, "frozen blocks", disable=None if progress else True):
            batch = {name: tensor.to(encoder.device) for name, tensor in collate([window], encoder).items()}
            states[key_of(window)] = encoder.lower(batch, after_block).hidden[0].cpu()

    def extra(group: Sequence[Window]) -> dict[str, Tensor]:
        table = torch.zeros(len(group), max(map(len, group)), encoder.hidden_size)
        for row, window in enumerate(group):
            table[row, : len(window)] = states[key_of(window)]
        return {LOWER_STATES: table}

    return extra


def key_of(window: Window) -> bytes:
    """What the states of a window are kept under: its pieces."""
    return window.input_ids.tobytes()
