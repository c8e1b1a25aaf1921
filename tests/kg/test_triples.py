"""Triples as integers: the same numbers whatever the order and the pieces they are read in."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kg.triples import integer_triples, read_integer_graph, triple_codes
from loaders.errors import MedgraftError

NAMES = ("head", "relation", "tail")
IDS = st.text(st.sampled_from("aBé:1\U0001f600"), min_size=1, max_size=3)


class Pieces:
    """A graph that gives its rows shuffled, in pieces of any size."""

    fingerprint = "f"

    def __init__(self, ids, triples, size):
        columns = zip(*triples, strict=True) if triples else ([], [], [])
        self.tables = {
            "concepts": pa.table({"id": pa.array(ids, pa.string())}),
            "triples": pa.table({n: pa.array(c, pa.string()) for n, c in zip(NAMES, columns, strict=True)}),
        }
        self.size = size

    def batches(self, name, columns):
        return iter(self.tables[name].select(columns).to_batches(max_chunksize=self.size))


@settings(deadline=None)
@given(st.lists(IDS, unique=True, max_size=6), st.data(), st.integers(1, 4))
def test_rows_are_read_in_pieces_as_they_are_mapped_whole(ids, data, size):
    facts = st.tuples(st.sampled_from(ids or ["?"]), st.sampled_from("rst"), st.sampled_from(ids or ["?"]))
    triples = data.draw(st.lists(facts, unique=True, max_size=12 if ids else 0))
    read = read_integer_graph(Pieces(ids, triples, size))
    in_order = sorted(triples, key=lambda triple: [part.encode() for part in triple])
    assert read.ids == sorted(ids, key=str.encode)
    assert read.relations == sorted({relation for _, relation, _ in triples})
    table = pa.table({n: pa.array([t[i] for t in in_order], pa.string()) for i, n in enumerate(NAMES)})
    np.testing.assert_array_equal(read.rows, integer_triples(table, read.ids, read.relations))
    assert [(read.ids[h], read.relations[r], read.ids[t]) for h, r, t in read.rows.tolist()] == in_order
    codes = triple_codes(read.rows, max(len(ids), 1), 3)
    assert (np.diff(codes) > 0).all()


def test_a_triple_of_a_stranger_is_named():
    with pytest.raises(MedgraftError, match=r"1 of 1 triples name a concept that is not in the graph, 'X'"):
        read_integer_graph(Pieces(["a"], [("a", "r", "X")], 9))
