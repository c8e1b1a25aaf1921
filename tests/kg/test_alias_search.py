import numba
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import kg.alias_search
from kg.alias_index import Found, read_only
from kg.alias_search import rank


def slow_rank(found, rows, row_starts, concept, kind, k):
    """Sorted by score, preferred or not, and concept; each concept once."""
    for first, last in zip(found.starts[:-1], found.starts[1:], strict=True):
        named = sorted(
            (-found.scores[i], kind[row] != 0, concept[row], row, i)
            for i in range(first, last)
            for row in rows[row_starts[found.names[i]] : row_starts[found.names[i] + 1]]
        )
        best = {}
        for _, _, of, row, i in named:
            best.setdefault(of, (row, i))
        yield list(best.values())[:k]


@settings(deadline=None)  # the first call compiles
@given(st.data())
def test_concepts_are_ranked_as_by_sorting_all_their_names(data):
    n_rows = data.draw(st.integers(1, 40))
    draw = np.random.default_rng(data.draw(st.integers(0, 99)))
    concept = np.sort(draw.integers(0, 8, n_rows)).astype(np.int32)
    kind = draw.integers(0, 3, n_rows).astype(np.int8)
    spelling = np.sort(draw.integers(0, 12, n_rows))
    rows = draw.permutation(n_rows).astype(np.int32)
    row_starts = np.searchsorted(spelling, np.arange(13)).astype(np.int64)
    sizes = data.draw(st.lists(st.integers(0, 12), max_size=4))
    names = np.concatenate([np.zeros(0, np.int32), *(draw.permutation(12)[:size] for size in sizes)]).astype(np.int32)
    scores = (draw.integers(0, 4, len(names)) / np.float32(3)).round(5).astype(np.float32)
    found = Found(names, scores, np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64))
    k = data.draw(st.integers(1, 9))
    best, sources, starts = rank(found, *map(read_only, (rows, row_starts, concept, kind)), k)
    pairs = list(zip(best.tolist(), sources.tolist(), strict=True))
    ranked = [pairs[first:last] for first, last in zip(starts[:-1], starts[1:], strict=True)]
    assert ranked == list(slow_rank(found, rows, row_starts, concept, kind, k))


def test_where_no_cache_can_be_written_each_process_compiles_anew(monkeypatch):
    plain = numba.njit

    def njit(*function, cache=False):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return plain(*function)

    monkeypatch.setattr(numba, "njit", njit)
    assert kg.alias_search._compiled(lambda x: x + 1)(1) == 2
