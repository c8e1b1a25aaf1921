"""Facts between two concepts: a slow look through all triples is the judge."""

import pyarrow as pa
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fusion.facts import FactIndex, FactLogits, PairFacts, codes_tensor

IDS = [f"X:{n}" for n in range(6)]
NAMES = ["causes", "is_a", "treats"]
TRIPLE = st.tuples(st.integers(0, 5), st.integers(0, 2), st.integers(0, 5)).filter(lambda t: t[0] != t[2])
SOME = st.lists(st.integers(0, 5), max_size=3, unique=True)


def index_of(triples: list[tuple[int, int, int]]) -> FactIndex:
    columns = [[IDS[h] for h, _, _ in triples], [NAMES[r] for _, r, _ in triples], [IDS[t] for _, _, t in triples]]
    arrays = [pa.array(column, pa.string()) for column in columns]
    return FactIndex.build(pa.table(arrays, names=["head", "relation", "tail"]), IDS, NAMES)


def slowly(triples: set[tuple[int, int, int]], heads: list[int], tails: list[int]) -> set[int]:
    """Codes of all facts between the two sides, and one step up or down from either."""

    def near(row: int) -> set[int]:
        return {h for h, r, t in triples if r == 1 and t == row} | {t for h, r, t in triples if r == 1 and h == row}

    codes = set()
    for a in heads:
        for b in tails:
            if a == b:
                continue
            ends = {(a, b, 0)} | {(a2, b, 6) for a2 in near(a)} | {(a, b2, 6) for b2 in near(b)}
            for x, y, offset in ends:
                codes |= {2 * r + offset for h, r, t in triples if (h, t) == (x, y)}
                codes |= {2 * r + 1 + offset for h, r, t in triples if (h, t) == (y, x)}
    return codes


@settings(max_examples=200, deadline=None)
@given(st.sets(TRIPLE, max_size=12), SOME, SOME)
def test_facts_between_are_those_of_a_slow_look(triples, heads, tails):
    found = index_of(sorted(triples)).between(heads, tails, 100)
    assert {fact.code for fact in found} == slowly(triples, heads, tails)
    assert len({fact.code for fact in found}) == len(found)
    assert all((fact.head, fact.relation, fact.tail) in triples for fact in found)
    assert found == sorted(found, key=lambda fact: fact.code >= 6)


@settings(max_examples=100, deadline=None)
@given(st.sets(TRIPLE, max_size=12), st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), max_size=3))
def test_without_pairs_nothing_else_goes(triples, pairs):
    gone = {*pairs, *((b, a) for a, b in pairs)}
    kept = index_of(sorted(triples)).without(pairs)
    expected = index_of(sorted(t for t in triples if (t[0], t[2]) not in gone))
    assert torch.equal(kept.keys, expected.keys) and torch.equal(kept.relations, expected.relations)


def test_a_pair_without_facts_leaves_as_it_came() -> None:
    layer = PairFacts(8, 12)
    torch.nn.init.normal_(layer.output.weight)
    layer.eval()
    pairs = torch.randn(3, 8)
    assert torch.equal(layer(pairs, {}), pairs)
    facts = index_of([(0, 0, 1)]).between([0], [1], 8)
    changed = layer(pairs, codes_tensor([[], facts, []]))
    assert torch.equal(changed[[0, 2]], pairs[[0, 2]])
    assert not torch.equal(changed[1], pairs[1])
    assert codes_tensor([[], []]) == {}


def test_a_new_layer_is_the_identity() -> None:
    pairs = torch.randn(1, 8)
    facts = index_of([(0, 0, 1)]).between([0], [1], 8)
    assert torch.equal(PairFacts(8, 12).eval()(pairs, codes_tensor([facts])), pairs)


def test_each_kind_of_fact_moves_the_logits_by_its_own_weights() -> None:
    layer = FactLogits(12, 2).eval()
    logits = torch.randn(3, 2)
    facts = index_of([(0, 0, 1), (0, 2, 1)]).between([0], [1], 8)
    batch = codes_tensor([[], facts, facts[:1]])
    assert torch.equal(layer(logits, batch), logits)
    torch.nn.init.normal_(layer.weights.weight)
    assert torch.equal(layer(logits, {}), logits)
    moved = (layer(logits, batch) - logits) / 20
    weights = layer.weights.weight
    assert torch.equal(moved[0], torch.zeros(2))
    torch.testing.assert_close(moved[1], weights[0] + weights[4])
    torch.testing.assert_close(moved[2], weights[0])


def test_a_fact_gets_a_gradient_from_the_first_step() -> None:
    layer = FactLogits(12, 1).eval()
    facts = index_of([(0, 0, 1)]).between([0], [1], 8)
    layer(torch.zeros(1, 1), codes_tensor([facts])).sum().backward()
    assert layer.weights.weight.grad is not None and layer.weights.weight.grad.nonzero().tolist() == [[0, 0]]
