"""Nearest vectors, exactly or nearly so: the only door to faiss.

faiss proposes, float64 decides: blocked matrix products give equal vectors scores that differ in the last bit with the
size of the batch, so the proposals are scored again one by one, and ties go to the lower row. The same question has
the same answer whatever is asked beside it.

Past `APPROXIMATE_FROM` rows only the cells of an inverted file (IVF) that lie nearest to the query are searched. How
many cells is found by measuring: as many as it takes for the wanted recall against the exact index on a sample of the
rows. Where the vectors fall into no cells, that is nearly all of them, and the answers stay right but not fast.
"""

from collections.abc import Callable
from typing import Any, Literal

import faiss
import numpy as np
from numpy.typing import NDArray

from loaders.errors import MedgraftError

Vectors = NDArray[np.float32]
Rows = NDArray[np.int64]

_ROUNDING = 1e-4  # how far a faiss float32 score may be from the float64 one, relative to the largest possible score
_GPU_MAX_K = 2048
APPROXIMATE_FROM = 300_000  # rows; below, an exact search takes less than about 20 ms on one core
_RECALL = 0.99  # wanted of the approximate index, at 10 neighbours
_ASKED = 200  # rows on which the recall is measured
_BLOCK = 65_536  # rows of a mapped matrix that are read at a time


class NearestIndex:
    """Top-k search over the rows of a matrix, by cosine or inner product. Runs on the GPUs that faiss sees.

    Args:
        vectors: float32, shape (rows, dim). A zero row has cosine 0 to everything.
        metric: "cosine" or "inner".
        approximate: whether to search a part only; by the number of rows if None.

    `recall` is the share of the 10 nearest rows that the index finds, measured on a sample; 1 for an exact one.

    Raises:
        MedgraftError: if the matrix is empty or holds a value that is not finite.
    """

    def __init__(
        self,
        vectors: Vectors,
        metric: Literal["cosine", "inner"] = "cosine",
        *,
        approximate: bool | None = None,
    ) -> None:
        matrix = np.ascontiguousarray(vectors, dtype=np.float32)
        if matrix.ndim != 2 or 0 in matrix.shape:
            raise MedgraftError(f"cannot search vectors of shape {matrix.shape}; give a matrix with at least one row")
        if not np.isfinite(matrix).all():
            raise MedgraftError("the vectors to search hold NaN or infinity; train them again at a lower learning rate")
        self.metric = metric
        self._vectors = unit(matrix) if metric == "cosine" else matrix
        self._longest = float(np.linalg.norm(self._vectors, axis=1).max())
        self._index: faiss.Index = faiss.IndexFlatIP(matrix.shape[1])
        self._index.add(self._vectors)
        self.approximate = len(matrix) >= APPROXIMATE_FROM if approximate is None else approximate
        self.recall = 1.0
        if self.approximate:
            self._index, self.recall = _cells(self._vectors, self._index)
        self._gpu_index = faiss.index_cpu_to_all_gpus(self._index) if faiss.get_num_gpus() else None

    def __len__(self) -> int:
        return len(self._vectors)

    def search(self, queries: Vectors, k: int) -> tuple[Rows, Vectors]:
        """The best rows for each query and their scores, best first, both of shape (queries, min(k, rows)).

        Args:
            queries: float32, shape (queries, dim), or (dim,) for one query.
            k: at least 1.
        """
        if k < 1:
            raise MedgraftError(f"k is {k}; ask for at least one neighbour")
        queries = np.atleast_2d(np.ascontiguousarray(queries, dtype=np.float32))
        if queries.shape[1] != self._vectors.shape[1]:
            raise MedgraftError(f"queries have {queries.shape[1]} dimensions, the index {self._vectors.shape[1]}")
        if self.metric == "cosine":
            queries = unit(queries)
        return _exact_best(
            queries, min(k, len(self)), len(self), self._longest, self._propose, self._score, self.approximate
        )

    def _propose(self, queries: Vectors, k: int) -> tuple[Rows, Vectors]:
        index = self._gpu_index if self._gpu_index is not None and k <= _GPU_MAX_K else self._index
        scores, rows = index.search(queries, k)
        if self.approximate and (rows < 0).any():  # the searched cells hold fewer than k rows
            scores, rows = faiss.knn(queries, self._vectors, k, metric=faiss.METRIC_INNER_PRODUCT)
        return rows, scores

    def _score(self, queries: Vectors, rows: Rows) -> Vectors:
        return _scores_one_by_one(queries, self._vectors, rows)


class MappedIndex:
    """Exact top-k search by inner product over float16 rows of length 1 (or 0), which may be mapped from disk.

    A search reads the whole matrix, a block at a time, so that many queries at once cost little more than one.

    Args:
        vectors: float16, shape (rows, dim).
    """

    def __init__(self, vectors: NDArray[np.float16]) -> None:
        self._vectors = vectors

    def __len__(self) -> int:
        return len(self._vectors)

    def search(self, queries: Vectors, k: int) -> tuple[Rows, Vectors]:
        """The best rows for each query and their scores, best first, both of shape (queries, min(k, rows)).

        Args:
            queries: float32, shape (queries, dim).
            k: at least 1.
        """
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        return _exact_best(queries, min(k, len(self)), len(self), 1.001, self._propose, self.scores)

    def scores(self, queries: Vectors, rows: Rows) -> Vectors:
        """Scores of these rows for each query, shape (queries, k), each computed on its own."""
        return _scores_one_by_one(queries, self._vectors, rows)

    def _propose(self, queries: Vectors, k: int) -> tuple[Rows, Vectors]:
        rows, scores = np.zeros((len(queries), 0), np.int64), np.zeros((len(queries), 0), np.float32)
        for start in range(0, len(self), _BLOCK):
            block = self._vectors[start : start + _BLOCK].astype(np.float32)
            found, new = faiss.knn(queries, block, min(k, len(block)), metric=faiss.METRIC_INNER_PRODUCT)
            scores, rows = np.concatenate([scores, found], axis=1), np.concatenate([rows, new + start], axis=1)
            best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
            rows, scores = np.take_along_axis(rows, best, axis=1), np.take_along_axis(scores, best, axis=1)
        return rows, scores


def _exact_best(
    queries: Vectors,
    k: int,
    number: int,
    longest: float,
    propose: Callable[[Vectors, int], tuple[Rows, Vectors]],
    score: Callable[[Vectors, Rows], Vectors],
    approximate: bool = False,
) -> tuple[Rows, Vectors]:
    """The best `k` of `number` rows, none of them longer than `longest`; ties go to the lower row."""
    rows = np.empty((len(queries), k), dtype=np.int64)
    scores = np.empty((len(queries), k), dtype=np.float32)
    todo, fetch = np.arange(len(queries)), min(k + 8, number)
    while len(todo):
        proposed, rough = propose(queries[todo], fetch)
        exact = score(queries[todo], proposed)
        order = np.lexsort((proposed, -exact), axis=1)[:, :k]
        rows[todo] = np.take_along_axis(proposed, order, axis=1)
        scores[todo] = np.take_along_axis(exact, order, axis=1)
        # Rows not proposed score at most rough[:, -1] plus rounding: where that reaches the k-th, look further.
        slack = _ROUNDING * longest * np.linalg.norm(queries[todo], axis=1)
        unsure = rough[:, -1] + slack >= scores[todo, -1]
        if fetch == number or approximate:
            break
        todo, fetch = todo[unsure], min(4 * fetch, number)
    return rows, scores


def _scores_one_by_one(queries: Vectors, vectors: NDArray[Any], rows: Rows) -> Vectors:
    """Scores of the proposed rows, shape (queries, k), each computed on its own."""
    scores = np.empty(rows.shape, dtype=np.float32)
    for query, (vector, of_query) in enumerate(zip(queries.astype(np.float64), rows, strict=True)):
        scores[query] = (vectors[of_query] * vector).sum(axis=1)
    return scores


def manhattan(queries: Vectors, vectors: Vectors) -> Vectors:
    """L1 distances, shape (queries, vectors): several times as fast as torch's `cdist`."""
    found: Vectors = faiss.pairwise_distances(
        np.ascontiguousarray(queries), np.ascontiguousarray(vectors), metric=faiss.METRIC_L1
    )
    return found


def _cells(vectors: Vectors, exact: faiss.Index) -> tuple[faiss.Index, float]:
    """An inverted file that searches as many cells as the wanted recall takes, and the recall."""
    number = max(1, min(4096, int(4 * len(vectors) ** 0.5), len(vectors) // 39))
    index = faiss.IndexIVFFlat(
        faiss.IndexFlatIP(vectors.shape[1]), vectors.shape[1], number, faiss.METRIC_INNER_PRODUCT
    )
    rng = np.random.default_rng(0)
    index.train(vectors[rng.choice(len(vectors), min(len(vectors), 40 * number), replace=False)])
    index.add(vectors)
    asked = vectors[rng.choice(len(vectors), min(_ASKED, len(vectors)), replace=False)]
    k = min(10, len(vectors))
    nearest = exact.search(asked, k)[1]
    index.nprobe, recall = 1, 0.0
    while recall < _RECALL:
        found = index.search(asked, k)[1]
        recall = float(np.mean([len(np.intersect1d(a, b)) / k for a, b in zip(nearest, found, strict=True)]))
        if recall >= _RECALL or index.nprobe >= number:
            break
        index.nprobe = min(2 * index.nprobe, number)
    return index, recall


def unit(matrix: Vectors) -> Vectors:
    """Rows of length 1; a zero row stays zero."""
    lengths = np.linalg.norm(matrix.astype(np.float64), axis=1, keepdims=True)
    return (matrix / np.where(lengths == 0, 1, lengths)).astype(np.float32)
