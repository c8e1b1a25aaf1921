"""Splits that leak nothing."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kg.splits import split_triples
from loaders.errors import MedgraftError


def triples(*rows):
    return pa.table(
        {
            name: pa.array(column, pa.string())
            for name, column in zip(("head", "relation", "tail"), zip(*rows, strict=True), strict=True)
        }
    )


def random_triples(seed, concepts=12, relations=3, number=60):
    rng = np.random.default_rng(seed)
    rows = {
        (f"C{rng.integers(concepts):02}", f"r{rng.integers(relations)}", f"C{rng.integers(concepts):02}")
        for _ in range(number)
    }
    return triples(*sorted(rows))


def facts(table):
    return list(zip(*(table[name].to_pylist() for name in ("head", "relation", "tail")), strict=True))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), number=st.integers(40, 150))
def test_split_loses_nothing_and_leaks_nothing(seed, number):
    table = random_triples(seed, number=number)
    split = split_triples(table, dev=3, test=0.05, seed=seed)
    train, dev, test = (facts(part) for part in split)
    assert sorted(train + dev + test) == sorted(facts(table))
    assert len(dev) >= 3 and len(test) >= round(0.05 * len(table))
    pairs = [{frozenset((h, t)) for h, _, t in part} for part in (train, dev, test)]
    assert all(a.isdisjoint(b) for a, b in itertools.combinations(pairs, 2))
    assert {c for h, _, t in dev + test for c in (h, t)} <= {c for h, _, t in train for c in (h, t)}
    assert {r for _, r, _ in dev + test} <= {r for _, r, _ in train}


def test_split_is_fixed_by_the_seed():
    table = random_triples(0, number=200)
    first, again, other = (split_triples(table, dev=5, test=5, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.test != other.test


def test_split_moves_twins_and_counts_them():
    twins = [
        (h, r, t) for a, b in itertools.combinations("ABCDEF", 2) for h, r, t in ((a, "causes", b), (b, "caused_by", a))
    ]
    split = split_triples(triples(*twins), test=6, seed=0)
    assert len(split.test) == 6
    assert split.moved["twins"] == 3


def test_split_keeps_what_training_must_see():
    chain = triples(("A", "r", "B"), ("B", "r", "C"), ("C", "r", "A"), ("C", "r", "D"), ("C", "once", "B"))
    split = split_triples(chain, test=1, seed=0)
    assert facts(split.test)[0] in [("A", "r", "B"), ("C", "r", "A")]
    with pytest.raises(MedgraftError, match="ask for fewer"):
        split_triples(chain, test=3, seed=0)
    with pytest.raises(MedgraftError, match="cannot hold out -1"):
        split_triples(chain, test=-1)


def test_what_the_hierarchy_implies_is_not_held_out():
    tree = [(f"N{i}", "is_a", f"N{i // 2}") for i in range(2, 40)]
    shortcuts = [(f"N{i}", "is_a", f"N{i // 8}") for i in range(16, 40)]
    notes = [("D", "has_phenotype", f"N{i}") for i in (32, 16, 8, 5)]  # all of 32, 16 and 8 on one branch
    split = split_triples(triples(*tree, *shortcuts, *notes), test=10, seed=0)
    out = facts(split.test)
    assert not set(out) & (set(shortcuts) | {("D", "has_phenotype", "N16"), ("D", "has_phenotype", "N8")})
    assert split.moved["shortcuts"] > 0 and "shortcuts" in str(split)


def test_duplicates_go_together_and_are_counted():
    table = random_triples(0, number=60)
    doubled = pa.concat_tables([table, table])
    split = split_triples(doubled, test=10, seed=0)
    train, _, test = (facts(part) for part in split)
    assert not set(train) & set(test) and split.moved["duplicates"] >= 5


def test_inductive_split_keeps_concepts_out_of_training():
    table = random_triples(1, number=300)
    split = split_triples(table, dev=10, test=10, seed=0, inductive=True)
    train, dev, test = (facts(part) for part in split)
    support = facts(split.support)
    seen = {c for h, _, t in train for c in (h, t)}
    assert dev and test and support
    for h, _, t in dev + test:
        assert len({h, t} - seen) == 1
    assert not set(train) & set(dev + test + support)
    assert len(train) + len(dev) + len(test) + len(support) + sum(split.moved.values()) == len(table)
