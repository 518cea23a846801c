"""Approximate search with ScaNN."""

import math

import numpy as np

from tfrs_croloss.index.base import Index, Neighbors
from tfrs_croloss.index.membership import contains
from tfrs_croloss.index.validation import positive_int

# Below this, hashing has nothing to gain: ScaNN scores such a catalogue faster than it hashes it.
_MIN_HASHED_CANDIDATES = 1_000
# Below this, a tree costs recall and saves little: ScaNN's own guide starts partitioning here.
_MIN_TREE_CANDIDATES = 20_000
# Hashing orders the first few candidates worst, so short lists are re-ordered from more of them.
_MIN_REORDERED = 500
# A history seldom fills whole leaves: it is taken to be spread over this many times as many.
# With 4, a query that excludes its 1,000 best of 25,000 still finds 99% of the next 50.
_SPREAD = 4


class ScaNNIndex(Index):
    """Finds nearly all of the best candidates without scoring every one.

    Candidates are compared by asymmetric hashing, and the most promising are scored again with
    exact inner products, so the scores returned are exact. From 20,000 candidates on they are
    also partitioned into the leaves of a tree, of which only the nearest are visited; below
    1,000 ScaNN scores them all. Equal scores come in no particular order.

    Exclusions cost no results: ScaNN knows nothing of them, so it is asked for as many more
    candidates as the query excludes, and these are filtered.

    Source: Guo et al., "Accelerating Large-Scale Inference with Anisotropic Vector
    Quantization", ICML 2020.

    Args:
        candidates: array-like of numbers, `[num_candidates, embedding_dim]`.
        num_leaves: int. Leaves of the tree; 1 means no tree. By default the square root of the
            number of candidates, and 1 below 20,000 candidates.
        num_leaves_to_search: int. Leaves visited for a query without exclusions; more find more
            and take longer. By default a fifth of the leaves.
        reorder_factor: int. How many candidates are scored exactly for each one asked of ScaNN.
        block_size: int. Queries searched at once. Queries with as many exclusions share a block,
            since all of a block are given the over-fetch of its hungriest query.

    Raises:
        ImportError: if `scann` is missing, or was built for another TensorFlow.
        ValueError: if `candidates` is not a matrix, is empty, or holds NaN or infinity, or if an
            option is out of its range.

    >>> index = ScaNNIndex([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> positions, scores = index.search([[2.0, 1.0]], k=2)
    >>> positions.tolist(), scores.tolist()
    ([[2, 0]], [[3.0, 2.0]])
    """

    def __init__(
        self,
        candidates,
        num_leaves=None,
        num_leaves_to_search=None,
        reorder_factor=6,
        block_size=512,
    ):
        super().__init__(candidates)
        if num_leaves is None:
            grown = self.num_candidates >= _MIN_TREE_CANDIDATES
            num_leaves = round(math.sqrt(self.num_candidates)) if grown else 1
        self.num_leaves = _at_most("num_leaves", num_leaves, "candidates", self.num_candidates)
        if num_leaves_to_search is None:
            num_leaves_to_search = math.ceil(self.num_leaves / 5)
        self.num_leaves_to_search = _at_most(
            "num_leaves_to_search", num_leaves_to_search, "leaves", self.num_leaves
        )
        self.reorder_factor = positive_int("reorder_factor", reorder_factor)
        self.block_size = positive_int("block_size", block_size)
        self._searcher = self.build(_import_scann())

    def build(self, scann_ops):
        """Builds a searcher with either interface of ScaNN: of numpy, or of a TensorFlow op.

        Args:
            scann_ops: `scann.scann_ops_pybind`, or `scann.scann_ops` for a graph.

        Returns:
            ScaNN's searcher. `search_sizes` says with which numbers to call it.
        """
        builder = scann_ops.builder(self.candidates, 10, "dot_product")
        if self.num_leaves > 1:
            builder.tree(self.num_leaves, self.num_leaves_to_search)
        if self.num_candidates < _MIN_HASHED_CANDIDATES:
            return builder.score_brute_force().build()
        # The values of ScaNN's guide. The number to re-order is set anew with every search.
        builder.score_ah(2, anisotropic_quantization_threshold=0.2)
        return builder.reorder(_MIN_REORDERED).build()

    def _search(self, queries, k, exclude):
        positions = np.empty((len(queries), k), np.int32)
        scores = np.empty((len(queries), k), np.float32)
        by_exclusions = np.argsort(np.diff(exclude.indptr), kind="stable")
        for start in range(0, len(queries), self.block_size):
            rows = by_exclusions[start : start + self.block_size]
            positions[rows], scores[rows] = self._search_block(queries[rows], k, exclude[rows])
        return Neighbors(positions, scores)

    def search_sizes(self, k, over_fetch, every_leaf=False, minimum=min, maximum=max):
        """How much to ask of ScaNN so that `k` candidates stay after `over_fetch` are filtered.

        Args:
            k: int. Candidates wanted.
            over_fetch: int. The most candidates that a query of the batch excludes.
            every_leaf: bool. Whether to visit all leaves.
            minimum: of two sizes; `tf.minimum` if they are tensors.
            maximum: likewise.

        Returns:
            ints: candidates to fetch, to score exactly, and leaves to visit.
        """
        # ScaNN wants one at least.
        num_fetched = maximum(minimum(k + over_fetch, self.num_candidates), 1)
        num_reordered = maximum(self.reorder_factor * num_fetched, _MIN_REORDERED)
        # Exclusions use up the leaves nearest to a query, where its history lies, so what is wanted
        # instead lies in leaves further away: `_SPREAD` times as many, rounded up.
        leaves_used_up = -(-_SPREAD * over_fetch * self.num_leaves // self.num_candidates)
        num_leaves = minimum(self.num_leaves_to_search + leaves_used_up, self.num_leaves)
        return (
            num_fetched,
            minimum(num_reordered, self.num_candidates),
            self.num_leaves if every_leaf else num_leaves,
        )

    def _search_block(self, queries, k, exclude):
        """Searches so that no query lacks a candidate it could have had."""
        num_excluded = np.diff(exclude.indptr)
        sizes = self.search_sizes(k, int(num_excluded.max()))
        found = self._search_leaves(queries, k, exclude, sizes)
        if sizes[-1] == self.num_leaves:
            return found
        # The leaves visited may still hold too few candidates. All leaves together don't.
        num_expected = np.minimum(k, self.num_candidates - num_excluded)
        short = np.count_nonzero(found.positions >= 0, axis=1) < num_expected
        if short.any():
            sizes = self.search_sizes(k, int(num_excluded[short].max()), every_leaf=True)
            again = self._search_leaves(queries[short], k, exclude[short], sizes)
            found.positions[short], found.scores[short] = again
        return found

    def _search_leaves(self, queries, k, exclude, sizes):
        """Fetches candidates from the nearest leaves and keeps the `k` best allowed ones."""
        positions, scores = self._searcher.search_batched_parallel(queries, *sizes)
        positions = positions.astype(np.int32)
        # Where ScaNN found fewer than asked for, it pads with position 0 and a NaN score.
        allowed = ~np.isnan(scores) & ~contains(exclude, positions)
        # A stable sort on "not allowed" moves the allowed ones to the front, still best first.
        front = np.argsort(~allowed, axis=1, kind="stable")[:, :k]
        allowed = np.take_along_axis(allowed, front, axis=1)
        return Neighbors(
            np.where(allowed, np.take_along_axis(positions, front, axis=1), np.int32(-1)),
            np.where(allowed, np.take_along_axis(scores, front, axis=1), np.float32(-np.inf)),
        )


def _at_most(name, value, of, limit):
    """Returns `value` as an int from 1 to `limit`, the number of whatever `of` names."""
    if positive_int(name, value) > limit:
        raise ValueError(
            f"`{name}` must be between 1 and the number of {of} ({limit}). "
            f"Received: {name}={value}."
        )
    return int(value)


def _import_scann():
    """Imports ScaNN's numpy interface, only once an index is built: it loads TensorFlow."""
    try:
        from scann.scann_ops.py import scann_ops_pybind
    # Not ImportError alone: on a TensorFlow that it wasn't built for, scann raises TensorFlow's
    # NotFoundError, which can't be named here without importing TensorFlow.
    except Exception as error:
        raise ImportError(
            "`ScaNNIndex` needs the `scann` package and the TensorFlow it was built for. Install "
            'both with `pip install "tfrs-croloss[scann]"`, or use `ExactIndex`, which needs '
            f"neither. Received: {type(error).__name__}: {error}"
        ) from error
    return scann_ops_pybind
