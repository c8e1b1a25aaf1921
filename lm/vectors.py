"""Vectors of short texts (names), means of the last hidden states over their pieces; and the states themselves."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from lm.alignment import Window, collate, windows
from lm.encoder import PRECISIONS, Array, Encoder


def text_vectors(
    encoder: Encoder,
    texts: Sequence[str],
    progress: bool = False,
    *,
    batch_size: int = 256,
    max_pieces: int = 64,
    precision: str = "no",
) -> Array:
    """Vectors (N, d), float32, of texts; 0 for an empty text.

    Args:
        encoder: runs where its parameters are.
        texts: of each only the whole words in its first `max_pieces` pieces are read, special pieces included.
        progress: show a bar on stderr if it is a terminal.
        batch_size: texts of similar length that run together.
        max_pieces: no more than the encoder's window.
        precision: "no" for float32, or "bf16".
    """
    longest = min(max_pieces, encoder.max_pieces)
    made = {window.document: window for window in reversed(windows(texts, encoder, longest, 0))}
    ordered = sorted(made.values(), key=len)
    vectors = np.zeros((len(texts), encoder.hidden_size), dtype=np.float32)
    encoder.eval()
    with torch.inference_mode(), _computing(encoder.device, precision):
        for start in tqdm(range(0, len(ordered), batch_size), "names", disable=None if progress else True):
            group = ordered[start : start + batch_size]
            batch = {name: tensor.to(encoder.device) for name, tensor in collate(group, encoder).items()}
            hidden = encoder(batch).float()
            inside = torch.zeros(hidden.shape[:2], device=hidden.device)
            for row, window in enumerate(group):
                inside[row, : len(window)] = torch.from_numpy(window.words >= 0)
            vectors[[window.document for window in group]] = mean_states(hidden, inside).cpu().numpy()
    return vectors


def read_windows(
    encoder: Encoder, made: Sequence[Window], after_block: int, progress: bool = False, *, batch_size: int = 128
) -> Iterator[tuple[int, Array]]:
    """The hidden states (T, d) of each window after so many blocks, with its place in `made`; short windows first."""
    order = sorted(range(len(made)), key=lambda n: len(made[n]))
    was_training = encoder.training
    encoder.eval()
    try:
        for start in tqdm(range(0, len(order), batch_size), "memory", disable=None if progress else True):
            numbers = order[start : start + batch_size]
            batch = collate([made[n] for n in numbers], encoder)
            with torch.inference_mode():
                hidden = encoder.lower({name: t.to(encoder.device) for name, t in batch.items()}, after_block).hidden
            states = hidden.float().cpu().numpy()
            for row, number in enumerate(numbers):
                yield number, states[row, : len(made[number])]
    finally:
        encoder.train(was_training)


def mean_states(hidden: Tensor, inside: Tensor) -> Tensor:
    """The mean (B, d) of hidden states (B, T, d) over the pieces whose `inside` (B, T) is 1, not 0."""
    return (hidden * inside[:, :, None]).sum(dim=1) / inside.sum(dim=1, keepdim=True).clamp(min=1)


def fast_precision(device: torch.device) -> str:
    """`bf16` where the device has matrix units for it, else `no`."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    if device.type == "cpu":
        able = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        return "bf16" if any(getattr(torch.cpu, name, bool)() for name in able) else "no"
    return "no"


def _computing(device: torch.device, precision: str) -> AbstractContextManager[object]:
    if PRECISIONS[precision] == torch.float32:
        return nullcontext()
    return torch.autocast(device.type, dtype=PRECISIONS[precision])
