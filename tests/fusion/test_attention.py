"""Knowledge attention: exactness where nothing is linked, and agreement with a slow loop where something is."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fusion.attention import Knowledge, KnowledgeAttention

HIDDEN, DIM, SIZE, TYPES, RELATIONS = 24, 10, 16, 3, 6


def layer(seed: int = 0, **settings: float) -> KnowledgeAttention:
    """A layer with every weight drawn at random, in evaluation mode: nothing is zero by its start."""
    torch.manual_seed(seed)
    made = KnowledgeAttention(
        HIDDEN, embedding_dim=DIM, num_types=TYPES, num_relations=RELATIONS, size=SIZE, num_heads=4, **settings
    )
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return made.double().eval()


def knowledge(spans: list[tuple[int, int, int]], seed: int = 0, candidates: int = 3, neighbours: int = 2) -> Knowledge:
    """Random candidates and facts for mentions given as (sentence, start, end); about a third of them missing."""
    generator = torch.Generator().manual_seed(seed)
    count, rows = len(spans), 9

    def integers(high: int, *shape: int) -> Tensor:
        return torch.randint(0, high, shape, generator=generator)

    slots: dict[int, int] = {}
    slot = []
    for sentence, _, _ in spans:
        slot.append(slots.get(sentence, 0))
        slots[sentence] = slot[-1] + 1
    return Knowledge(
        sentence=torch.tensor([s for s, _, _ in spans], dtype=torch.long),
        slot=torch.tensor(slot, dtype=torch.long),
        start=torch.tensor([s for _, s, _ in spans], dtype=torch.long),
        end=torch.tensor([e for _, _, e in spans], dtype=torch.long),
        candidates=integers(rows, count, candidates),
        candidate_mask=integers(3, count, candidates) > 0,
        priors=-torch.rand(count, candidates, generator=generator, dtype=torch.double),
        neighbours=integers(rows, rows, neighbours),
        relations=integers(RELATIONS, rows, neighbours),
        fact_mask=integers(3, count, candidates, neighbours) > 0,
        vectors=torch.randn(rows, DIM, generator=generator, dtype=torch.double),
        types=integers(TYPES, rows),
        rows=torch.arange(rows),
        target=torch.full((count,), -1),
    )


def states(batch: int, length: int, seed: int = 1) -> Tensor:
    return torch.randn(batch, length, HIDDEN, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


SPANS = [(0, 1, 3), (0, 2, 5), (1, 0, 1), (2, 4, 7), (2, 1, 2), (2, 6, 7)]


def slow(model: KnowledgeAttention, hidden: Tensor, given: Knowledge) -> Tensor:
    """The formulas of the layer's docstring, one piece, mention, candidate and fact at a time."""
    result = hidden.clone()
    root = math.sqrt(model.size)
    for sentence in range(hidden.shape[0]):
        keys, values, spans = [model.null_key], [torch.zeros(SIZE, dtype=hidden.dtype)], [(0, 0)]
        totals = []
        for m in (given.sentence == sentence).nonzero().flatten().tolist():
            pieces = hidden[sentence, given.start[m] : given.end[m]]
            weight = torch.softmax(model.pooling(pieces).flatten(), 0)
            s = model.span_norm(model.span((weight[:, None] * pieces).sum(0)))
            query = model.link_query(s)
            logits, concepts = [2 * torch.cosine_similarity(query, model.nil_key, dim=0) + model.nil_bias], []
            for k in range(given.candidates.shape[1]):
                if not given.candidate_mask[m, k]:
                    continue
                row = given.candidates[m, k]
                g = model.concept_norm(model.concept(given.vectors[row]) + model.types(given.types[row]))
                scores, facts = [model.fact_query(s) @ model.fact_key(model.null_fact) / root], []
                for n in range(given.neighbours.shape[1]):
                    if given.fact_mask[m, k, n]:
                        other = given.neighbours[row, n]
                        fact = model.concept(given.vectors[other]) + model.relations(given.relations[row, n])
                        fact = model.fact_norm(fact)
                        scores.append(model.fact_query(s) @ model.fact_key(fact) / root)
                        facts.append(fact)
                weights = torch.softmax(torch.stack(scores), 0)[1:]
                for w, fact in zip(weights, facts, strict=True):
                    g = g + w * model.fact_value(fact)
                concepts.append(g)
                fit = torch.cosine_similarity(query, model.link_key(g), dim=0)
                logits.append(2 * fit + model.prior_weight * given.priors[m, k])
            weights = torch.softmax(torch.stack(logits), 0)[1:]
            total = sum((w * g for w, g in zip(weights, concepts, strict=True)), torch.zeros(SIZE, dtype=hidden.dtype))
            totals.append(total)
            keys.append(model.key(s + total))
            values.append(model.value(total))
            spans.append((int(given.start[m]), int(given.end[m])))
        for t in range(hidden.shape[1]):
            h = hidden[sentence, t]
            query, heads, width = model.query(h), [], SIZE // model.num_heads
            for head in range(model.num_heads):
                part = slice(head * width, (head + 1) * width)
                scores = torch.stack(
                    [
                        query[part] @ key[part] / math.sqrt(width)
                        + (model.null_bias[head] if key is model.null_key else 0.0)
                        + (model.inside_bias[head] if start <= t < end else 0.0)
                        for key, (start, end) in zip(keys, spans, strict=True)
                    ]
                )
                weights = torch.softmax(scores, 0)
                heads.append(sum(w * v[part] for w, v in zip(weights, values, strict=True)))
            z = torch.cat(heads)
            result[sentence, t] = h + torch.sigmoid(model.gate(torch.cat([h, z]))) * model.output(z)
            nothing = torch.zeros(SIZE, dtype=hidden.dtype)
            placed = list(zip(totals, spans[1:], strict=True))
            first = sum((k for k, (start, _) in placed if start == t), nothing)
            further = sum((k for k, (start, end) in placed if start < t < end), nothing)
            last = sum((k for k, (_, end) in placed if end - 1 == t), nothing)
            result[sentence, t] += model.marks(
                torch.cat([first, further, last] if model.mark_ends else [first, further])
            )
    return result


@pytest.mark.parametrize("mark_ends", [False, True])
def test_it_computes_what_its_formulas_say(mark_ends: bool) -> None:
    model, hidden = layer(mark_ends=mark_ends), states(3, 8)
    for seed in range(5):
        given_knowledge = knowledge(SPANS, seed)
        torch.testing.assert_close(model(hidden, given_knowledge), slow(model, hidden, given_knowledge))


def test_no_mention_leaves_the_hidden_states_bit_for_bit() -> None:
    hidden = states(2, 6)
    assert torch.equal(layer()(hidden, knowledge([])), hidden)


def test_every_mention_forced_to_nil_leaves_the_hidden_states_bit_for_bit() -> None:
    model, hidden, given_knowledge = layer(), states(3, 8), knowledge(SPANS)
    nil = given_knowledge.without(candidates=torch.ones_like(given_knowledge.candidate_mask))
    assert torch.equal(model(hidden, nil), hidden)
    assert not torch.equal(model(hidden, given_knowledge), hidden)


def test_nil_never_wins_for_good() -> None:
    """However far the weights of the choice have run, a sure candidate keeps some weight and its gradient."""
    model, hidden, base = layer(), states(3, 8), knowledge(SPANS)
    base = replace(base, candidate_mask=torch.ones_like(base.candidate_mask), priors=torch.zeros_like(base.priors))
    with torch.no_grad():
        model.nil_bias.fill_(15 * math.log(0.8))
        model.nil_key.copy_(1e6 * model.link_query(model.mentions(hidden, base)[0])[0])
        model.link_key.weight.mul_(-1e3)
    nil = model.mentions(hidden, base)[1][:, 0]
    assert (nil < 0.7).all()
    nil.sum().backward()
    assert model.link_key.weight.grad is not None and (model.link_key.weight.grad != 0).any()


def test_a_new_layer_is_the_identity_and_learns_from_the_first_step() -> None:
    torch.manual_seed(0)
    model = KnowledgeAttention(HIDDEN, embedding_dim=DIM, num_types=TYPES, num_relations=RELATIONS, size=SIZE)
    model, hidden = model.double(), states(3, 8)
    model.eval()
    left = model(hidden, knowledge(SPANS))
    assert torch.equal(left, hidden)
    left.pow(2).sum().backward()
    assert model.output.weight.grad is not None and (model.output.weight.grad != 0).any()


def test_a_sentence_gives_the_same_alone_and_in_a_batch() -> None:
    model, hidden, given_knowledge = layer(), states(3, 8), knowledge(SPANS)
    together = model(hidden, given_knowledge)
    for sentence in range(3):
        own = given_knowledge.sentence == sentence
        alone = Knowledge(
            sentence=torch.zeros(int(own.sum()), dtype=torch.long),
            slot=given_knowledge.slot[own],
            start=given_knowledge.start[own],
            end=given_knowledge.end[own],
            candidates=given_knowledge.candidates[own],
            candidate_mask=given_knowledge.candidate_mask[own],
            priors=given_knowledge.priors[own],
            neighbours=given_knowledge.neighbours,
            relations=given_knowledge.relations,
            fact_mask=given_knowledge.fact_mask[own],
            vectors=given_knowledge.vectors,
            types=given_knowledge.types,
            rows=given_knowledge.rows,
            target=given_knowledge.target[own],
        )
        torch.testing.assert_close(model(hidden[sentence : sentence + 1], alone)[0], together[sentence])


def test_pieces_outside_the_sentence_do_not_matter() -> None:
    model, hidden, given_knowledge = layer(), states(3, 8), knowledge(SPANS)
    padded = torch.cat([hidden, states(3, 5, seed=9)], dim=1)
    torch.testing.assert_close(model(padded, given_knowledge)[:, :8], model(hidden, given_knowledge))


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(3)), extra=st.integers(0, 4), seed=st.integers(0, 50))
def test_candidate_order_and_padding_do_not_matter(order: list[int], extra: int, seed: int) -> None:
    model, hidden, base = layer(), states(3, 8), knowledge(SPANS, seed)
    generator = torch.Generator().manual_seed(seed)
    count = len(SPANS)

    def shuffled(values: Tensor, fill: Tensor) -> Tensor:
        return torch.cat([values[:, order], fill.to(values.dtype)], dim=1)

    other = Knowledge(
        **{
            **base.__dict__,
            "candidates": shuffled(base.candidates, torch.randint(0, 9, (count, extra), generator=generator)),
            "candidate_mask": shuffled(base.candidate_mask, torch.zeros(count, extra)),
            "priors": shuffled(base.priors, torch.randn(count, extra, generator=generator)),
            "fact_mask": shuffled(base.fact_mask, torch.ones(count, extra, 2)),
        }
    )
    torch.testing.assert_close(model(hidden, other), model(hidden, base))
    weights = model.mentions(hidden, other)[1][:, 1:]
    assert (weights[~other.candidate_mask] == 0).all()


def test_it_takes_no_random_number_where_nothing_is_linked() -> None:
    model, hidden = layer().train(), states(2, 6)
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    model(hidden, knowledge([]))
    assert torch.equal(torch.rand(4), expected)


def test_mention_dropout_turns_mentions_to_nil_in_training_only() -> None:
    hidden, given_knowledge = states(3, 8), knowledge(SPANS)
    model = layer(mention_dropout=1.0)
    assert not torch.equal(model(hidden, given_knowledge), hidden)
    assert torch.equal(model.train()(hidden, given_knowledge), hidden)


def test_one_fact_can_be_taken_away() -> None:
    model, hidden, given_knowledge = layer(), states(3, 8), knowledge(SPANS)
    m, k, n = (given_knowledge.fact_mask & given_knowledge.candidate_mask[:, :, None]).nonzero()[0].tolist()
    fact = torch.zeros_like(given_knowledge.fact_mask)
    fact[m, k, n] = True
    changed = model(hidden, given_knowledge.without(facts=fact))
    sentence = int(given_knowledge.sentence[m])
    others = [row for row in range(3) if row != sentence]
    assert not torch.allclose(changed[sentence], model(hidden, given_knowledge)[sentence])
    assert torch.equal(changed[others], model(hidden, given_knowledge)[others])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_nil_is_exact_under_autocast_too(dtype: torch.dtype) -> None:
    model, hidden = layer().float(), states(3, 8).float()
    given_knowledge = knowledge(SPANS)
    nil = given_knowledge.without(candidates=torch.ones_like(given_knowledge.candidate_mask))
    with torch.autocast("cpu", dtype=dtype):
        assert torch.equal(model(hidden, nil), hidden)


def test_the_linking_loss_is_the_cross_entropy_of_nil_and_the_candidates() -> None:
    plain = {"mention_dropout": 0.0, "sentence_dropout": 0.0}
    model, hidden, base = layer(**plain).train(), states(3, 8), knowledge(SPANS)
    there = base.candidate_mask.any(dim=1)
    target = torch.where(there, base.candidate_mask.double().argmax(dim=1) + 1, -1)
    target[there.nonzero()[0]] = 0
    model(hidden, replace(base, target=target))
    weights = model.mentions(hidden, base)[1]
    expected = [-float(weights[m, t].detach().log()) for m, t in enumerate(target.tolist()) if t >= 0]
    assert model.link_loss is not None
    assert float(model.link_loss.detach()) == pytest.approx(sum(expected) / len(expected))
    model(hidden, base)
    assert model.link_loss is None


def test_a_swapped_link_has_nil_as_its_right_answer() -> None:
    plain = {"mention_dropout": 0.0, "sentence_dropout": 0.0}
    model, hidden, base = layer(**plain, link_noise=1.0).train(), states(3, 8), knowledge(SPANS)
    base = replace(base, candidate_mask=torch.ones_like(base.candidate_mask), target=torch.ones(len(SPANS)).long())
    torch.manual_seed(0)
    model(hidden, base)
    torch.manual_seed(0)
    swapped = model._swap_links(base)
    moved = (swapped.candidates != base.candidates).any(dim=1)
    assert moved.any() and (swapped.target[moved] == 0).all()
    weights = model.mentions(hidden, swapped)[1].detach().gather(1, swapped.target[:, None])
    assert model.link_loss is not None
    assert float(model.link_loss.detach()) == pytest.approx(float(-weights.log().mean()))


def test_vector_dropout_leaves_a_concept_its_type_in_training_only() -> None:
    plain = {"mention_dropout": 0.0, "sentence_dropout": 0.0}
    model, hidden, base = layer(**plain, vector_dropout=1.0), states(3, 8), knowledge(SPANS)
    base = replace(base, fact_mask=torch.zeros_like(base.fact_mask))
    kept = model(hidden, base)
    with torch.no_grad():
        without_bias = layer(**plain)
        without_bias.concept.weight.zero_()
        without_bias.concept.bias.zero_()
    torch.testing.assert_close(model.train()(hidden, base), without_bias(hidden, base))
    assert not torch.allclose(kept, without_bias(hidden, base))
