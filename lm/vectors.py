"""Vectors of short texts by an untrained encoder: the mean over the pieces of its last hidden states."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from tqdm import tqdm

from lm.alignment import Window, collate, windows
from lm.encoder import Array, Encoder


def text_vectors(encoder: Encoder, texts: Sequence[str], progress: bool = False, *, batch_size: int = 256) -> Array:
    """Vectors (N, d), float32, of texts of which only what fits the encoder's window is read; 0 for an empty text."""
    made = {window.document: window for window in reversed(windows(texts, encoder, min(64, encoder.max_pieces), 0))}
    ordered = sorted(made.values(), key=len)
    vectors = np.zeros((len(texts), encoder.hidden_size), dtype=np.float32)
    encoder.eval()
    with torch.inference_mode():
        for start in tqdm(range(0, len(ordered), batch_size), "names", disable=None if progress else True):
            group = ordered[start : start + batch_size]
            batch = {name: tensor.to(encoder.device) for name, tensor in collate(group, encoder).items()}
            hidden = encoder(batch)
            inside = torch.zeros(hidden.shape[:2], device=hidden.device)
            for row, window in enumerate(group):
                inside[row, : len(window)] = torch.from_numpy(window.words >= 0)
            mean = (hidden * inside[:, :, None]).sum(dim=1) / inside.sum(dim=1, keepdim=True).clamp(min=1)
            vectors[[window.document for window in group]] = mean.cpu().numpy()
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
