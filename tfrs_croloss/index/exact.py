"""Exact search, one block of scores after the other."""

import contextlib
import functools
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import scipy.sparse
import threadpoolctl

from tfrs_croloss._arguments import check_count
from tfrs_croloss._typing import Array, SparseMatrix
from tfrs_croloss.index.base import Index, Neighbors
from tfrs_croloss.index.top_k import RunningTopK

# Queries of a block: with fewer, products read the candidates more often than they need; with more,
# a block's scores are too few for each query. Few queries are shared out between the cores.
_MIN_QUERIES, _MAX_QUERIES = 64, 512
# Scores of a block, as bytes: what stays in the cache between product and comparison.
_BLOCK_BYTES = 2 * 2**20
_SEARCHING = threading.Lock()


class ExactIndex(Index):
    """Scores every candidate and keeps the best.

    Candidates with equal scores are returned lower position first, at the k-th place as well,
    so the result equals `tf.math.top_k` over the whole score matrix. Scores are float32 matrix
    products: the size of a block can change their last bit, and nothing else.

    Args:
        candidates: array-like of numbers, `[num_candidates, embedding_dim]`.
        block_bytes: int. About how much memory the scores of a block may take, of which there is
            one a core. A block holds at least one query and k candidates.

    Raises:
        ValueError: if `candidates` is not a matrix, is empty, or holds NaN or infinity, or if
            `block_bytes` is not a positive integer.

    >>> index = ExactIndex([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> positions, scores = index.search([[2.0, 1.0]], k=2)
    >>> positions.tolist(), scores.tolist()
    ([[2, 0]], [[3.0, 2.0]])
    """

    def __init__(self, candidates: Array, block_bytes: int = _BLOCK_BYTES) -> None:
        super().__init__(candidates)
        self.block_bytes = check_count("block_bytes", block_bytes)

    def _search(
        self, queries: np.ndarray, k: int, exclude: SparseMatrix, allowed: np.ndarray | None
    ) -> Neighbors:
        return exact_search(self.candidates, queries, k, exclude, allowed, self.block_bytes)


def exact_search(candidates, queries, k, exclude=None, allowed=None, block_bytes=_BLOCK_BYTES):
    """Finds the best candidates, as `Index._search`.

    Args:
        candidates: float32 array, `[num_candidates, embedding_dim]`.
        queries: float32 array, `[num_queries, embedding_dim]`.
        k: int from 1 to the number of candidates.
        exclude: scipy.sparse.csr_array, `[num_queries, num_candidates]`, or None for nothing.
        allowed: int array of at least `k` positions, ascending, or None for all.
        block_bytes: int. About how much memory the scores of a block may take.

    Returns:
        `Neighbors` of shape `[num_queries, k]`.
    """
    if exclude is None:
        exclude = scipy.sparse.csr_array((len(queries), len(candidates)), dtype=bool)
    if allowed is not None:
        found = exact_search(
            candidates[allowed], queries, k, exclude[:, allowed], None, block_bytes
        )
        positions = np.where(found.positions < 0, -1, allowed[found.positions])
        return Neighbors(positions.astype(np.int32), found.scores)
    positions = np.empty((len(queries), k), np.int32)
    scores = np.empty((len(queries), k), np.float32)

    share = -(-len(queries) // os.cpu_count())
    size = min(max(share, _MIN_QUERIES), _MAX_QUERIES)
    # For a large k fewer queries.
    size = max(1, min(size, block_bytes // (scores.itemsize * k)))

    def search_block(start):
        block = slice(start, start + size)
        rows = queries[block]
        width = max(k, block_bytes // (scores.itemsize * len(rows)))
        best = RunningTopK(k)
        for columns, excluded in _blocks(exclude[block], width):
            block_scores = rows @ candidates[columns].T
            block_scores[excluded] = -np.inf
            best.add(block_scores)
        positions[block], scores[block] = best.result()

    starts = range(0, len(queries), size)
    if len(starts) == 1:
        search_block(0)
    elif starts:
        with _a_core_a_thread(), ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(search_block, starts))
    positions[scores == -np.inf] = -1
    return Neighbors(positions, scores)


@contextlib.contextmanager
def _a_core_a_thread():
    """Products on the thread that asks for them.

    Those of numpy run on all cores, but what is between them on one: with blocks side by side no
    core waits. The number of threads is the process's, hence one search at a time.
    """
    with _SEARCHING, _blas().limit(limits=1, user_api="blas"):
        yield


@functools.cache
def _blas():
    return threadpoolctl.ThreadpoolController()


def _blocks(exclude, width):
    """Slices of `width` candidates, each with the rows and columns of what they exclude."""
    by_column = exclude.tocsc()
    starts, rows, num_candidates = by_column.indptr, by_column.indices, exclude.shape[1]
    for first in range(0, num_candidates, width):
        last = min(first + width, num_candidates)
        columns = np.repeat(np.arange(last - first), np.diff(starts[first : last + 1]))
        yield slice(first, last), (rows[starts[first] : starts[last]], columns)
