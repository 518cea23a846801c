"""Exact search, one block of queries after the other."""

import numpy as np

from tfrs_croloss.index.base import Index, Neighbors
from tfrs_croloss.index.top_k import top_k
from tfrs_croloss.index.validation import positive_int

# A float32 score and the int64 key that `top_k` makes of it.
_BYTES_PER_SCORE = 12


class ExactIndex(Index):
    """Scores every candidate and keeps the best.

    Candidates with equal scores are returned lower position first, at the k-th place as well,
    so the result equals `tf.math.top_k` over the whole score matrix. Scores are float32 matrix
    products: the size of a block can change their last bit, and nothing else.

    Args:
        candidates: array-like of numbers, `[num_candidates, embedding_dim]`.
        block_bytes: int. About how much memory the scores of a block of queries may take. A
            block holds at least one query, however many candidates there are.

    Raises:
        ValueError: if `candidates` is not a matrix, is empty, or holds NaN or infinity, or if
            `block_bytes` is not a positive integer.

    >>> index = ExactIndex([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> positions, scores = index.search([[2.0, 1.0]], k=2)
    >>> positions.tolist(), scores.tolist()
    ([[2, 0]], [[3.0, 2.0]])
    """

    def __init__(self, candidates, block_bytes=64 * 2**20):
        super().__init__(candidates)
        self.block_bytes = positive_int("block_bytes", block_bytes)

    def _search(self, queries, k, exclude):
        num_queries = len(queries)
        positions = np.empty((num_queries, k), np.int32)
        scores = np.empty((num_queries, k), np.float32)
        block_size = max(1, self.block_bytes // (_BYTES_PER_SCORE * self.num_candidates))
        for start in range(0, num_queries, block_size):
            block = slice(start, start + block_size)
            block_scores = queries[block] @ self.candidates.T
            block_scores[exclude[block].tocoo().coords] = -np.inf
            positions[block], scores[block] = top_k(block_scores, k)
        positions[scores == -np.inf] = -1
        return Neighbors(positions, scores)
