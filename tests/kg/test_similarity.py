"""Information content and similarity, against a slow and obvious count."""

import math

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kg.similarity import hierarchy


def build(edges):
    return hierarchy(pa.table({"head": [a for a, _ in edges], "tail": [b for _, b in edges]}))


def above(edges, id):
    found, new = {id}, {id}
    while new:
        new = {b for a, b in edges if a in new} - found
        found |= new
    return found


def slow(edges, a, b, measure):
    ids = {id for edge in edges for id in edge}
    if not {a, b} <= ids:
        return float(a == b)

    def information(id):
        descendants = sum(id in above(edges, other) for other in ids) - 1
        return 1 - math.log(descendants + 1) / math.log(len(ids))

    common = above(edges, a) & above(edges, b)
    shared = max(map(information, common), default=None)
    if shared is None:
        return 0.0
    total = information(a) + information(b)
    return shared if measure == "resnik" else 2 * shared / total if total else 1.0


def test_a_small_tree():
    tree = build([("B", "A"), ("C", "A"), ("D", "B"), ("E", "B")])
    assert tree.similarity("D", "D", "lin") == (1.0, "D")
    assert tree.similarity("D", "C", "lin") == (0.0, "A")
    value, ancestor = tree.similarity("D", "E", "resnik")
    assert ancestor == "B" and value == pytest.approx(1 - math.log(3) / math.log(5))
    assert tree.similarity("D", "unknown", "lin") == (0.0, None)


@given(
    st.lists(
        st.tuples(st.sampled_from("ABCDEFGH"), st.sampled_from("ABCDEFGH")).filter(lambda e: e[0] != e[1]), min_size=1
    ),
    st.sampled_from(["lin", "resnik"]),
)
def test_any_hierarchy_even_with_cycles(edges, measure):
    made = build(edges)
    for a in "ABCH":
        for b in "ADGH":
            assert made.similarity(a, b, measure)[0] == pytest.approx(slow(edges, a, b, measure)), (a, b)
