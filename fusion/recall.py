"""Memory attention: what a sentence recalls from a memory, attended to by its pieces, between two blocks.

Like knowledge attention it is the identity at the start, and where nothing is recalled; unlike it, it needs no linker.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn
from torch.nn import functional

PREFIX = "memory."


@dataclass(frozen=True)
class Recalled:
    """What the windows of one batch recall. B windows, T pieces, L slots at most.

    Shapes:
        vectors: (B, L, d) of the slots, as the memory keeps them
        labels: (B, L) 1 + index of the slot's label, 0 for a label that the layer does not know
        kinds: (B, L) index of the entry's kind
        sentences: (B, L) number of the sentence that recalled the slot, -1 where there is no slot
        places: (B, T) number of the sentence that a piece stands in, -1 for special pieces, which see all slots
        entries: (B, L) the slot's entry in the memory; for explanation, the layer does not read it
    """

    vectors: Tensor
    labels: Tensor
    kinds: Tensor
    sentences: Tensor
    places: Tensor
    entries: Tensor

    @classmethod
    def of(cls, batch: Mapping[str, Tensor]) -> "Recalled | None":
        """What a batch carries under `memory.<field>`; None for a batch that recalls nothing."""
        names = [field.name for field in fields(cls)]
        if f"{PREFIX}{names[0]}" not in batch:
            return None
        return cls(*(batch[f"{PREFIX}{name}"] for name in names))

    def tensors(self) -> dict[str, Tensor]:
        """The entries that `of` reads back from a batch."""
        return {f"{PREFIX}{field.name}": getattr(self, field.name) for field in fields(self)}


class MemoryAttention(nn.Module):
    r"""Cross-attention from the pieces of a sentence to the slots that it recalled, with a null slot, behind a gate.

        u_s  = LN(v_s - c)                                                 slot, c the mean of the memory's slots
        z_t  = MHA(U_q LN(h_t - c); keys [null, U_k u_s]; values [0, U_v u_s + L[label(s)] + K[kind(s)]])
               + a learned bias on the null slot
        h'_t = h_t + sigmoid(w_g [h_t; z_t] + b_g) W_o z_t

    W_o starts at zero and b_g at -2, as in `KnowledgeAttention`; no bias lies on the way of the values. U_q and U_k
    start as the same matrix: hidden states and slots come from the same blocks, so that a piece at first hears the
    slots that are most like it (as in kNN-LM, Khandelwal et al., 2020, but learnt on from there).
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
        self.hidden_norm = nn.LayerNorm(hidden_size)
        self.slot_norm = nn.LayerNorm(hidden_size)
        self.query = nn.Linear(hidden_size, size, bias=False)
        self.key = nn.Linear(hidden_size, size, bias=False)
        self.value = nn.Linear(hidden_size, size, bias=False)
        self.labels = nn.Embedding(1 + num_labels, size, padding_idx=0)
        self.kinds = nn.Embedding(num_kinds, size)
        self.null_key = nn.Parameter(torch.zeros(size))
        self.null_bias = nn.Parameter(torch.full((num_heads,), 2.0))
        self.gate = nn.Linear(hidden_size + size, 1)
        self.output = nn.Linear(size, hidden_size, bias=False)
        nn.init.normal_(self.query.weight, std=hidden_size**-0.5)
        with torch.no_grad():
            self.key.weight.copy_(self.query.weight)
            self.labels.weight[1:].normal_()
        nn.init.normal_(self.kinds.weight, std=0.02)
        nn.init.constant_(self.gate.bias, -2.0)
        nn.init.zeros_(self.output.weight)

    def forward(self, hidden: Tensor, recalled: Recalled) -> Tensor:
        """Hidden states (B, T, hidden_size) with what their sentences recall; same shape."""
        if recalled.vectors.shape[1] == 0:
            return hidden
        slots = self.slot_norm(recalled.vectors.to(hidden.dtype) - self.centre)
        values = self.value(slots) + self.labels(recalled.labels) + self.kinds(recalled.kinds)
        heard = self._attend(self.query(self.hidden_norm(hidden - self.centre)), self.key(slots), values, recalled)
        gate = torch.sigmoid(self.gate(torch.cat([hidden, heard], dim=-1)))
        grafted: Tensor = hidden + gate * self.output(heard)
        return grafted

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor, recalled: Recalled) -> Tensor:
        batch, length, _ = queries.shape
        keys = torch.cat([self.null_key.to(keys.dtype).expand(batch, 1, -1), keys], dim=1)
        values = torch.cat([values.new_zeros(batch, 1, self.size), values], dim=1)
        there = recalled.sentences >= 0
        if self.training and self.slot_dropout:
            there = there & (torch.rand(there.shape, device=there.device) >= self.slot_dropout)
        places = recalled.places[:, :, None]
        seen = ((places == recalled.sentences[:, None]) | (places < 0)) & there[:, None]
        bias = torch.zeros(batch, self.num_heads, length, keys.shape[1], device=keys.device)
        bias[:, :, :, 1:].masked_fill_(~seen[:, None], -torch.inf)
        bias[:, :, :, 0] = self.null_bias[None, :, None]
        attended = functional.scaled_dot_product_attention(
            self._heads(queries), self._heads(keys), self._heads(values), attn_mask=bias.to(keys.dtype)
        )
        return attended.transpose(1, 2).reshape(batch, length, self.size)

    def _heads(self, states: Tensor) -> Tensor:
        return states.reshape(*states.shape[:2], self.num_heads, -1).transpose(1, 2)
