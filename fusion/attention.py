"""Knowledge attention: the one new layer, placed between two blocks of an encoder.

Every mention of a sentence brings a few candidate concepts, each with some neighbours in the graph. The layer weighs
the candidates (and NIL), gathers what they know into one vector a mention, and lets every piece of the sentence attend
to the mentions. NIL and the null slot carry zero, and no bias lies on the way of the values: where nothing is linked,
the hidden states leave the layer exactly as they came.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

LINK_SCALE = 2.0
"""What the fit of a candidate to its mention counts at most, in logits: e^4 between the best and the worst fit."""


@dataclass(frozen=True)
class Carried:
    """A dataclass of tensors that a batch carries under `<PREFIX><field>`."""

    PREFIX: ClassVar[str]

    @classmethod
    def of(cls, batch: Mapping[str, Tensor]) -> Self | None:
        """What a batch carries; None for a batch that lacks it."""
        names = [field.name for field in fields(cls)]
        if f"{cls.PREFIX}{names[0]}" not in batch:
            return None
        return cls(*(batch[f"{cls.PREFIX}{name}"] for name in names))

    def tensors(self) -> dict[str, Tensor]:
        """The entries that `of` reads back from a batch."""
        return {f"{self.PREFIX}{field.name}": getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class Knowledge(Carried):
    """What the mentions of one batch bring along. M mentions, K candidates, N neighbours, U distinct concepts.

    Shapes:
        sentence: (M,) row of the batch that the mention stands in
        slot: (M,) its number within that row, counted from 0
        start, end: (M,) pieces [start, end) of that row
        candidates: (M, K) rows of `vectors`; anything where `candidate_mask` is False
        candidate_mask: (M, K) which candidates are there
        priors: (M, K) natural logarithm of the linker's score
        neighbours: (U, N) rows of `vectors`: the other end of each fact of a concept
        relations: (U, N) relation and direction of that fact, as an index into the layer's relation vectors
        fact_mask: (M, K, N) which facts are there
        vectors: (U, D) rows of the concept table
        types: (U,) index of the concept's semantic type
        rows: (U,) where the concept stands in the concept table; for explanation, the layer does not read it
        target: (M,) what is right: 0 for NIL, 1 + k for candidate k, -1 if that is not known; for the linking loss
    """

    PREFIX: ClassVar[str] = "knowledge."

    sentence: Tensor
    slot: Tensor
    start: Tensor
    end: Tensor
    candidates: Tensor
    candidate_mask: Tensor
    priors: Tensor
    neighbours: Tensor
    relations: Tensor
    fact_mask: Tensor
    vectors: Tensor
    types: Tensor
    rows: Tensor
    target: Tensor

    def without(self, candidates: Tensor | None = None, facts: Tensor | None = None) -> "Knowledge":
        """The same knowledge without the marked candidates (M, K) or facts (M, K, N)."""
        kept = self.candidate_mask if candidates is None else self.candidate_mask & ~candidates
        return replace(
            self, candidate_mask=kept, fact_mask=self.fact_mask if facts is None else self.fact_mask & ~facts
        )


class KnowledgeAttention(nn.Module):
    r"""Candidate mixture with NIL, neighbour attention and recontextualisation, behind a gate.

    For mention m over pieces [i, j), candidate c and its facts (r, n):

        s_m  = LN(W_s sum_t softmax_t(w_p h_t) h_t)                        span
        x_c  = LN(A E_c + T[type(c)])                                      candidate
        f_cn = LN(A E_n + B[r])                                            fact
        g_c  = x_c + sum_n softmax_n((W_q s_m) (W_k f_cn) / sqrt(e)) W_v f_cn    with a null slot of value zero
        a    = softmax over NIL and c of 2 cos(W_1 s_m, W_2 g_c) + w log prior(c)
        k_m  = sum over c, not NIL, of a_c g_c
        z_t  = MHA(U_q h_t; keys [null, U_k(s_m + k_m)]; values [0, U_v k_m])
               + a learned bias on the null slot, and one on the mentions that t lies in
        h'_t = h_t + sigmoid(w_g [h_t; z_t] + b_g) W_o z_t + W_m [sum k_m of m that begin at t; sum k_m of m further in]

    E is the concept table (usually TransE), frozen. W_o and W_m start at zero, so the layer starts as the identity, and
    the whole of both gets a gradient from the first step; b_g starts at -2. W_m is a dictionary feature: what a piece
    lies in, and whether it is the first piece of it; with `mark_ends` a third part of it takes the sum k_m of m that
    end with t. With few labels most of the gain came through it. U_q starts small and the two biases at 2 and 4: at
    first a piece listens to the mention it lies in, or else to the null slot, and what it hears does not hang on random
    weights (with U_q of the usual size the null slot won over most pieces of linked mentions).

    The cosine (as in Henry et al., 2020, query-key normalisation) keeps NIL from winning for good. A product without
    bounds let it: where candidates did harm at first, NIL's score grew until no candidate had any weight, nor any
    gradient to come back by.

    Based on the designs of KnowBERT (Peters et al., 2019: candidates with priors, recontextualisation) and SMedBERT
    (Zhang et al., 2021: neighbours); what differs is NIL of value zero, the identity at the start, and that mentions
    are weighed by position too.

    Known weakness: a mention is pooled over its own pieces only, so the candidates are weighed by the context that the
    blocks below have put into these pieces.
    """

    def __init__(
        self,
        hidden_size: int,
        *,
        embedding_dim: int,
        num_types: int,
        num_relations: int,
        size: int = 128,
        num_heads: int = 4,
        mention_dropout: float = 0.15,
        sentence_dropout: float = 0.1,
        vector_dropout: float = 0.0,
        link_noise: float = 0.0,
        mark_ends: bool = False,
    ) -> None:
        """`num_relations` counts each direction of a relation; `mark_ends` lets W_m see where mentions end.

        In training the dropouts turn mentions, and all mentions of a sentence, to NIL, `vector_dropout` leaves so many
        concepts of a batch their type alone, and `link_noise` gives so many mentions the candidates of another one.
        """
        super().__init__()
        self.size, self.num_heads, self.mark_ends = size, num_heads, mark_ends
        self.link_noise = link_noise
        self.link_loss: Tensor | None = None  # of the last forward pass in training
        self.mention_dropout, self.sentence_dropout = mention_dropout, sentence_dropout
        self.vector_dropout = vector_dropout
        self.pooling = nn.Linear(hidden_size, 1)
        self.span = nn.Linear(hidden_size, size)
        self.span_norm = nn.LayerNorm(size)
        self.concept = nn.Linear(embedding_dim, size)
        self.types = nn.Embedding(num_types, size)
        self.concept_norm = nn.LayerNorm(size)
        self.relations = nn.Embedding(num_relations, size)
        self.fact_query = nn.Linear(size, size, bias=False)
        self.fact_key = nn.Linear(size, size, bias=False)
        self.fact_value = nn.Linear(size, size, bias=False)
        self.fact_norm = nn.LayerNorm(size)
        self.null_fact = nn.Parameter(torch.zeros(size))
        self.link_query = nn.Linear(size, size, bias=False)
        self.link_key = nn.Linear(size, size, bias=False)
        self.nil_key = nn.Parameter(torch.randn(size))
        # A string score is no probability: at the start its 15th power counts, and NIL weighs as much as a candidate
        # of score 0.8 does.
        self.prior_weight = nn.Parameter(torch.tensor(15.0))
        self.nil_bias = nn.Parameter(torch.tensor(15.0 * math.log(0.8)))
        self.query = nn.Linear(hidden_size, size)
        self.key = nn.Linear(size, size)
        self.value = nn.Linear(size, size, bias=False)
        self.null_key = nn.Parameter(torch.zeros(size))
        self.null_bias = nn.Parameter(torch.full((num_heads,), 2.0))
        self.inside_bias = nn.Parameter(torch.full((num_heads,), 4.0))
        self.gate = nn.Linear(hidden_size + size, 1)
        self.output = nn.Linear(size, hidden_size, bias=False)
        self.marks = nn.Linear((3 if mark_ends else 2) * size, hidden_size, bias=False)
        nn.init.zeros_(self.marks.weight)
        nn.init.normal_(self.types.weight, std=0.1)
        nn.init.normal_(self.relations.weight, std=0.02)
        nn.init.normal_(self.query.weight, std=0.02)
        nn.init.zeros_(self.query.bias)
        nn.init.constant_(self.gate.bias, -2.0)
        nn.init.zeros_(self.output.weight)

    @property
    def silent(self) -> bool:
        """Whether hidden states leave as they came whatever is linked: at the start, or where training had it off."""
        return not (self.output.weight.any() or self.marks.weight.any())

    def forward(self, hidden: Tensor, knowledge: Knowledge) -> Tensor:
        """Hidden states (B, T, hidden_size) with the knowledge of their mentions grafted on; same shape."""
        if len(knowledge.sentence) == 0:
            return hidden
        if self.training:
            knowledge = self._drop_mentions(self._swap_links(knowledge))
        span, weights, mention = self.mentions(hidden, knowledge)
        if self.training:
            self.link_loss = _link_loss(weights, knowledge)
        recontextualised = self._recontextualise(hidden, span, mention, knowledge)
        gate = torch.sigmoid(self.gate(torch.cat([hidden, recontextualised], dim=-1)))
        return hidden + gate * self.output(recontextualised) + self._mark(hidden, mention, knowledge)

    def _mark(self, hidden: Tensor, mention: Tensor, knowledge: Knowledge) -> Tensor:
        """What each piece gets of the mentions it lies in, by its place in them: (B, T, hidden_size)."""
        batch, length, _ = hidden.shape
        position = torch.arange(length, device=hidden.device)
        first = position == knowledge.start[:, None]
        rest = (position > knowledge.start[:, None]) & (position < knowledge.end[:, None])
        kinds = [first, rest, position == knowledge.end[:, None] - 1] if self.mark_ends else [first, rest]
        slots = int(knowledge.slot.max()) + 1
        places = hidden.new_zeros(batch, slots, len(kinds), length)
        places[knowledge.sentence, knowledge.slot] = torch.stack(kinds, 1).to(places.dtype)
        known = mention.new_zeros(batch, slots, self.size)
        known[knowledge.sentence, knowledge.slot] = mention
        marks = torch.einsum("bspt,bse->btpe", places.to(known.dtype), known)
        return self.marks(marks.flatten(2))

    def mentions(self, hidden: Tensor, knowledge: Knowledge) -> tuple[Tensor, Tensor, Tensor]:
        """Span vectors (M, e), weights of NIL and the candidates (M, 1 + K), and knowledge vectors (M, e)."""
        span = self._pool(hidden, knowledge)
        concepts = self._read_concepts(span, knowledge)
        query, keys = functional.normalize(self.link_query(span), dim=-1), self.link_key(concepts)
        scores = LINK_SCALE * torch.einsum("me,mke->mk", query, functional.normalize(keys, dim=-1))
        scores = scores + self.prior_weight * knowledge.priors.to(scores.dtype)
        scores = scores.masked_fill(~knowledge.candidate_mask, -torch.inf)
        nil = LINK_SCALE * (query @ functional.normalize(self.nil_key, dim=0).to(query.dtype)) + self.nil_bias
        weights = torch.softmax(torch.cat([nil[:, None], scores], dim=1), dim=1)
        return span, weights, torch.einsum("mk,mke->me", weights[:, 1:], concepts)

    def _drop_mentions(self, knowledge: Knowledge) -> Knowledge:
        """Turn some mentions, and all mentions of some sentences, to NIL, so that the model can do without them."""
        sentence = knowledge.sentence
        rows = int(sentence.max()) + 1
        drop = torch.rand(len(sentence), device=sentence.device) < self.mention_dropout
        drop |= (torch.rand(rows, device=sentence.device) < self.sentence_dropout)[sentence]
        return knowledge.without(candidates=drop[:, None].expand_as(knowledge.candidate_mask))

    def _swap_links(self, knowledge: Knowledge) -> Knowledge:
        """Give some mentions the candidates of others, so that the model does not trust every link: it is NIL then."""
        if not self.link_noise:
            return knowledge
        count = len(knowledge.sentence)
        swap = torch.rand(count, device=knowledge.sentence.device) < self.link_noise
        other = torch.randperm(count, device=swap.device)
        taken = torch.where(swap, other, torch.arange(count, device=swap.device))
        return replace(
            knowledge,
            candidates=knowledge.candidates[taken],
            candidate_mask=knowledge.candidate_mask[taken],
            priors=knowledge.priors[taken],
            fact_mask=knowledge.fact_mask[taken],
            target=knowledge.target.masked_fill(swap & (taken != torch.arange(count, device=swap.device)), 0),
        )

    def _pool(self, hidden: Tensor, knowledge: Knowledge) -> Tensor:
        """Attentive pooling over all pieces of each mention: (M, e)."""
        longest = int((knowledge.end - knowledge.start).max())
        position = knowledge.start[:, None] + torch.arange(longest, device=hidden.device)
        inside = position < knowledge.end[:, None]
        flat = knowledge.sentence[:, None] * hidden.shape[1] + position.clamp(max=hidden.shape[1] - 1)
        pieces = _rows(hidden.reshape(-1, hidden.shape[2]), flat)
        weights = self.pooling(pieces).squeeze(-1).masked_fill(~inside, -torch.inf).softmax(dim=1)
        return self.span_norm(self.span(torch.einsum("ml,mld->md", weights, pieces)))

    def _read_concepts(self, span: Tensor, knowledge: Knowledge) -> Tensor:
        """Each candidate together with what its facts say to this mention: (M, K, e)."""
        rows = self.concept(knowledge.vectors.to(span.dtype))
        own = rows
        if self.training and self.vector_dropout:
            own = rows * (torch.rand(len(rows), 1, device=rows.device) >= self.vector_dropout)
        concepts = _rows(self.concept_norm(own + self.types(knowledge.types)), knowledge.candidates)
        if knowledge.neighbours.shape[1] == 0:
            return concepts
        neighbours = knowledge.neighbours[knowledge.candidates]
        facts = self.fact_norm(_rows(rows, neighbours) + self.relations(knowledge.relations[knowledge.candidates]))
        query = self.fact_query(span)
        scores = torch.einsum("me,mkne->mkn", query, self.fact_key(facts))
        scores = scores.masked_fill(~knowledge.fact_mask, -torch.inf)
        null = (query @ self.fact_key(self.null_fact))[:, None, None].expand(*scores.shape[:2], 1)
        weights = torch.softmax(torch.cat([null, scores], dim=2) / math.sqrt(self.size), dim=2)[:, :, 1:]
        return concepts + self.fact_value(torch.einsum("mkn,mkne->mke", weights, facts))

    def _recontextualise(self, hidden: Tensor, span: Tensor, mention: Tensor, knowledge: Knowledge) -> Tensor:
        """Let every piece attend to the mentions of its sentence and to the null slot: (B, T, e)."""
        batch, length, _ = hidden.shape
        sentence, slot = knowledge.sentence, knowledge.slot
        slots = int(slot.max()) + 1
        keys = self.null_key.to(span.dtype).expand(batch, 1 + slots, -1).clone()
        values = span.new_zeros(batch, 1 + slots, self.size)
        keys[sentence, 1 + slot] = self.key(span + mention).to(keys.dtype)
        values[sentence, 1 + slot] = self.value(mention).to(values.dtype)
        filled = torch.zeros(batch, 1 + slots, dtype=torch.bool, device=hidden.device)
        filled[:, 0] = True
        filled[sentence, 1 + slot] = True
        position = torch.arange(length, device=hidden.device)
        covered = (position >= knowledge.start[:, None]) & (position < knowledge.end[:, None])
        inside = torch.zeros(batch, 1 + slots, length, dtype=torch.bool, device=hidden.device)
        inside[sentence, 1 + slot] = covered
        bias = inside.transpose(1, 2)[:, None] * self.inside_bias[None, :, None, None]
        bias[:, :, :, 0] = self.null_bias[None, :, None]
        bias = bias.masked_fill(~filled[:, None, None], -torch.inf).to(keys.dtype)
        attended = functional.scaled_dot_product_attention(
            self._heads(self.query(hidden).to(keys.dtype)), self._heads(keys), self._heads(values), attn_mask=bias
        )
        return attended.transpose(1, 2).reshape(batch, length, self.size)

    def _heads(self, states: Tensor) -> Tensor:
        return states.reshape(*states.shape[:2], self.num_heads, -1).transpose(1, 2)


def _link_loss(weights: Tensor, knowledge: Knowledge) -> Tensor | None:
    """Cross-entropy of NIL and the candidates where the right one is known and was not dropped; None for none."""
    known = knowledge.target >= 0
    known = known & torch.cat([known[:, None], knowledge.candidate_mask], dim=1).gather(
        1, knowledge.target.clamp(min=0)[:, None]
    ).squeeze(1)
    known = known & knowledge.candidate_mask.any(dim=1)
    if not known.any():
        return None
    right = weights[known].gather(1, knowledge.target[known][:, None])
    return -right.float().clamp(min=1e-9).log().mean()


def _rows(table: Tensor, index: Tensor) -> Tensor:
    """Rows of a table (R, e) at an index of any shape. Unlike `table[index]`, its gradient is the same in every run."""
    return table.index_select(0, index.flatten()).reshape(*index.shape, -1)
