"""Memory attention: what a sentence recalls from a memory, attended to by its pieces, between two blocks.

Like knowledge attention it is the identity at the start, and where nothing is recalled; unlike it, it needs no linker.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from fusion.attention import Carried


@dataclass(frozen=True)
class Recalled(Carried):
    """What the windows of one batch recall. B windows, T pieces, L slots at most.

    Shapes:
        vectors: (B, L, d) of the slots, as the memory keeps them
        labels: (B, L) 1 + index of the slot's label, 0 for a label that the layer does not know
        kinds: (B, L) index of the entry's kind
        sentences: (B, L) number of the sentence that recalled the slot, -1 where there is no slot
        places: (B, T) number of the sentence that a piece stands in, -1 for special pieces, which see all slots
        phrases: (B, L, 2) pieces [start, end) of the phrase that recalled the slot, (0, 0) where none did
        scores: (B, L) cosine of the slot and that phrase
        entries: (B, L) the slot's entry in the memory; for explanation, the layer does not read it
    """

    PREFIX: ClassVar[str] = "memory."

    vectors: Tensor
    labels: Tensor
    kinds: Tensor
    sentences: Tensor
    places: Tensor
    phrases: Tensor
    scores: Tensor
    entries: Tensor


class MemoryAttention(nn.Module):
    r"""Cross-attention from the pieces of a sentence to the slots that it recalled, with a null slot, behind a gate.

        u_s  = LN(v_s - c)                                                 slot, c the mean of the memory's slots
        e_ts = a cos(h_t - c, v_s - c) + b r_s [t in the phrase that recalled s] + (U_q h_t) (U_k u_s) / sqrt(e)
        z_t  = sum_s softmax_s(e_t0 = n for the null slot, e_ts) (U_v u_s + L[label(s)] + K[kind(s)]), in heads
        h'_t = h_t + sigmoid(w_g [h_t; z_t] + b_g) W_o [z_t; z_t if t begins a phrase that recalled a slot]

    r_s is the cosine of the slot and the phrase; a, b and n are learnt by head. Hidden states and slots come from the
    same blocks, so a piece hears at first the slots that are most like it, as in kNN-LM (Khandelwal et al., 2020), and
    those that its phrase brought up, or else the null slot. W_o starts at zero, and so do U_k and U_v: a slot at first
    says its label. No bias lies on the way of the values.
    """

    centre: Tensor

    def __init__(
        self, hidden_size: int, *, num_labels: int, num_kinds: int, size: int = 128, num_heads: int = 4,
        slot_dropout: float = 0.1,
    ) -> None:  # fmt: skip
        """`slot_dropout` is the share of the slots that a training step leaves out."""
        super().__init__()
        self.size, self.num_heads, self.slot_dropout = size, num_heads, slot_dropout
        self.register_buffer("centre", torch.zeros(hidden_size))
        self.slot_norm = nn.LayerNorm(hidden_size)
        self.query = nn.Linear(hidden_size, size, bias=False)
        self.key = nn.Linear(hidden_size, size, bias=False)
        self.value = nn.Linear(hidden_size, size, bias=False)
        self.labels = nn.Embedding(1 + num_labels, size, padding_idx=0)
        self.kinds = nn.Embedding(num_kinds, size)
        # Chosen so that the null slot weighs as much as a slot with a cosine of 0.5 to both piece and phrase.
        self.likeness = nn.Parameter(torch.full((num_heads,), 8.0))
        self.in_phrase = nn.Parameter(torch.full((num_heads,), 8.0))
        self.null_bias = nn.Parameter(torch.full((num_heads,), 8.0))
        self.gate = nn.Linear(hidden_size + size, 1)
        self.output = nn.Linear(2 * size, hidden_size, bias=False)
        nn.init.normal_(self.query.weight, std=0.02)
        nn.init.zeros_(self.key.weight)
        nn.init.zeros_(self.value.weight)
        nn.init.normal_(self.kinds.weight, std=0.02)
        nn.init.zeros_(self.gate.bias)
        nn.init.zeros_(self.output.weight)

    def forward(self, hidden: Tensor, recalled: Recalled) -> Tensor:
        """Hidden states (B, T, hidden_size) with what their sentences recall; same shape."""
        if recalled.vectors.shape[1] == 0:
            return hidden
        around = recalled.vectors.to(hidden.dtype) - self.centre
        slots = self.slot_norm(around)
        values = self.value(slots) + self.labels(recalled.labels) + self.kinds(recalled.kinds)
        bias = self._bias(hidden, around, recalled)
        keys, values = (functional.pad(states, (0, 0, 1, 0)) for states in (self.key(slots), values))
        heard = functional.scaled_dot_product_attention(
            self._heads(self.query(hidden)), self._heads(keys), self._heads(values), attn_mask=bias.to(values.dtype)
        )
        heard = heard.transpose(1, 2).flatten(2)
        gate = torch.sigmoid(self.gate(torch.cat([hidden, heard], dim=-1)))
        grafted: Tensor = hidden + gate * self.output(torch.cat([heard, heard * _begins(hidden, recalled)], dim=-1))
        return grafted

    def _bias(self, hidden: Tensor, around: Tensor, recalled: Recalled) -> Tensor:
        """What is added to the scores of the null slot and the slots, -inf where a piece does not see one."""
        batch, length, _ = hidden.shape
        there = recalled.sentences >= 0
        if self.training and self.slot_dropout:
            there = there & (torch.rand(there.shape, device=there.device) >= self.slot_dropout)
        places = recalled.places[:, :, None]
        seen = ((places == recalled.sentences[:, None]) | (places < 0)) & there[:, None]
        alike = functional.normalize(hidden - self.centre, dim=-1) @ functional.normalize(around, dim=-1).mT
        piece = torch.arange(length, device=hidden.device)[:, None]
        inside = (piece >= recalled.phrases[:, None, :, 0]) & (piece < recalled.phrases[:, None, :, 1])
        heads = self.likeness[:, None, None] * alike[:, None]
        heads = heads + self.in_phrase[:, None, None] * (inside * recalled.scores[:, None])[:, None]
        null = self.null_bias[:, None, None].expand(batch, -1, length, 1)
        return torch.cat([null.to(heads.dtype), heads.masked_fill(~seen[:, None], -torch.inf)], dim=-1)

    def _heads(self, states: Tensor) -> Tensor:
        return states.reshape(*states.shape[:2], self.num_heads, -1).transpose(1, 2)


def _begins(hidden: Tensor, recalled: Recalled) -> Tensor:
    """(B, T, 1) 1 for the first piece of a phrase that recalled something, else 0."""
    starts = recalled.phrases[:, :, 0]
    there = (recalled.phrases[:, :, 1] > starts).to(hidden.dtype)
    return hidden.new_zeros(hidden.shape[:2]).scatter_reduce(1, starts, there, "amax")[:, :, None]
