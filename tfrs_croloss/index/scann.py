"""Approximate search with ScaNN."""

import math

import numpy as np

from tfrs_croloss._arguments import check_count, check_number
from tfrs_croloss._typing import Array, SparseMatrix
from tfrs_croloss.index.base import Index, Neighbors
from tfrs_croloss.index.exact import exact_search
from tfrs_croloss.index.membership import contains
from tfrs_croloss.index.reach import Tuner, cost
from tfrs_croloss.index.validation import as_embeddings

# Below this, hashing has nothing to gain: ScaNN scores such a catalogue faster than it hashes it.
_MIN_HASHED_CANDIDATES = 1_000
# Below this, a tree costs recall and saves little: ScaNN's own guide starts partitioning here.
_MIN_TREE_CANDIDATES = 20_000
# From this recall on, a hash of each dimension is cheaper than one of two, which orders the
# candidates so much worse that several times as many must be scored exactly.
_MIN_FINE_RECALL = 0.95
# Queries to choose the reach on and to measure it: of half of them the standard error is about .001
# at a recall of .99.
_NUM_SAMPLES = 1024
# The reach is measured for k candidates, and for so many times k, but at least so many.
_DEEP, _MIN_DEEP = 10, 1_000
# With fewer of the candidates allowed than this, to score them all is faster.
_MIN_FILTERED_SHARE = 0.1


class ScaNNIndex(Index):
    """Finds as many of the best candidates as wanted without scoring every one.

    Candidates are compared by asymmetric hashing, and the most promising are scored again with
    exact inner products, so the scores returned are exact. From 20,000 candidates on they are
    also partitioned into the leaves of a tree, of which only the nearest are visited; below
    1,000 ScaNN scores them all. Equal scores come in no particular order.

    How many leaves are visited and how many candidates scored exactly is chosen when the index is
    built: of what finds `target_recall` for a sample of queries, the cheapest.

    Exclusions cost no results: ScaNN knows nothing of them, so it is asked for as many more
    candidates as the query excludes, as far as that takes (the reach is measured for ten times `k`
    as well), and these are filtered. Where the exclusions make that cost more than to score all
    candidates, all are scored; so they are for a query that is left with too few.

    Source: Guo et al., "Accelerating Large-Scale Inference with Anisotropic Vector
    Quantization", ICML 2020.

    Args:
        candidates: array-like of numbers, `[num_candidates, embedding_dim]`.
        target_recall: float, above 0 and at most 1. The share to find of a query's `k` best.
        sample_queries: array-like of numbers, `[num_queries, embedding_dim]`. Queries as they will
            come, of which up to 1,024 are used; by default candidates, which may be easier to find
            than what users ask for.
        k: int. How many candidates will be asked for.
        num_leaves: int. Leaves of the tree; 1 means no tree. By default the square root of the
            number of candidates, and 1 below 20,000 candidates.
        block_size: int. Queries searched at once. Queries with as many exclusions share a block,
            since all of a block are given the over-fetch of its hungriest query.

    Attributes:
        reach: `Reach`. How far it searches.
        measured_recall: float. The share found of the `k` best of sample queries that nothing was
            chosen on.

    Raises:
        ImportError: if `scann` is missing, or was built for another TensorFlow.
        ValueError: if `candidates` is not a matrix, is empty, or holds NaN or infinity, if the
            sample queries don't fit them, or if an option is out of its range.

    >>> index = ScaNNIndex([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> positions, scores = index.search([[2.0, 1.0]], k=2)
    >>> positions.tolist(), scores.tolist()
    ([[2, 0]], [[3.0, 2.0]])
    """

    def __init__(
        self,
        candidates: Array,
        target_recall: float = 0.99,
        sample_queries: Array | None = None,
        k: int = 100,
        num_leaves: int | None = None,
        block_size: int = 512,
    ) -> None:
        super().__init__(candidates)
        self.target_recall = float(
            check_number("target_recall", target_recall, "above 0 and at most 1", _is_share)
        )
        self.k = min(check_count("k", k), self.num_candidates)
        if num_leaves is None:
            grown = self.num_candidates >= _MIN_TREE_CANDIDATES
            num_leaves = round(math.sqrt(self.num_candidates)) if grown else 1
        self.num_leaves = check_count("num_leaves", num_leaves)
        if self.num_leaves > self.num_candidates:
            raise ValueError(
                "`num_leaves` must be between 1 and the number of candidates "
                f"({self.num_candidates}). Received: {num_leaves}"
            )
        self.block_size = check_count("block_size", block_size)
        queries = self.candidates
        if sample_queries is not None:
            queries = as_embeddings("sample_queries", sample_queries, dim=self.embedding_dim)
            if not len(queries):
                raise ValueError("`sample_queries` must hold at least one query. Received: none")
        self.searcher = self._build(_import_scann())
        rows = np.random.default_rng(0).permutation(len(queries))[:_NUM_SAMPLES]
        self._choose_reach(queries[rows])

    @property
    def is_hashed(self):
        """Whether candidates are compared by their hashes first."""
        return self.num_candidates >= _MIN_HASHED_CANDIDATES

    @property
    def dimensions_per_hash(self):
        """Dimensions that share one hash of four bits."""
        return 1 if self.target_recall >= _MIN_FINE_RECALL else 2

    def settings(self):
        """What was chosen, as plain numbers, ready for JSON."""
        return {
            "num_candidates": self.num_candidates,
            "embedding_dim": self.embedding_dim,
            "num_leaves": self.num_leaves,
            "dimensions_per_hash": self.dimensions_per_hash if self.is_hashed else None,
            "reach": {name: list(pair) for name, pair in self.reach._asdict().items()},
            "target_recall": self.target_recall,
            f"measured_recall@{self.k}": self.measured_recall,
        }

    def _build(self, scann_ops):
        # The numbers to return and to score exactly are set anew with every search.
        builder = scann_ops.builder(self.candidates, self.k, "dot_product")
        if self.num_leaves > 1:
            builder.tree(self.num_leaves, self.num_leaves)
        if not self.is_hashed:
            return builder.score_brute_force().build()
        # The threshold of ScaNN's guide.
        builder.score_ah(self.dimensions_per_hash, anisotropic_quantization_threshold=0.2)
        return builder.reorder(self.k).build()

    def _choose_reach(self, queries):
        depth = min(max(_DEEP * self.k, _MIN_DEEP), self.num_candidates)
        tuner = Tuner(
            lambda queries, k, leaves, reordered: self.searcher.search_batched_parallel(
                queries, k, reordered, leaves
            )[1],
            self.num_candidates,
            self.num_leaves,
            queries,
            exact_search(self.candidates, queries, depth).scores,
            np.linalg.norm(self.candidates, axis=1).max(),
        )
        self.reach = tuner.reach(self.k, self.target_recall)
        self.measured_recall = float(tuner.recall(self.k, self.k, *self.reach.of(self.k)).mean())

    def search_sizes(self, k, over_fetch, minimum=min, maximum=max):
        """How much to ask of ScaNN so that `k` candidates stay after `over_fetch` are filtered.

        Args:
            k: int. Candidates wanted.
            over_fetch: int. The most candidates that a query of the batch excludes.
            minimum: of two sizes; `tf.minimum` if they are tensors.
            maximum: likewise.

        Returns:
            ints: candidates to fetch, to score exactly, and leaves to visit.
        """
        # ScaNN wants one at least.
        depth = maximum(minimum(k + over_fetch, self.num_candidates), 1)
        leaves, reordered = self.reach.of(depth, maximum)
        reordered = minimum(maximum(reordered, depth), self.num_candidates)
        return depth, reordered, minimum(leaves, self.num_leaves)

    def _search(
        self, queries: np.ndarray, k: int, exclude: SparseMatrix, allowed: np.ndarray | None
    ) -> Neighbors:
        share = 1 if allowed is None else len(allowed) / self.num_candidates
        if share < _MIN_FILTERED_SHARE:
            return exact_search(self.candidates, queries, k, exclude, allowed)
        positions = np.empty((len(queries), k), np.int32)
        scores = np.empty((len(queries), k), np.float32)
        by_exclusions = np.argsort(np.diff(exclude.indptr), kind="stable")
        for start in range(0, len(queries), self.block_size):
            rows = by_exclusions[start : start + self.block_size]
            positions[rows], scores[rows] = self._search_block(
                queries[rows], k, exclude[rows], allowed
            )
        return Neighbors(positions, scores)

    def _search_block(self, queries, k, exclude, allowed):
        """Searches so that no query lacks a candidate it could have had."""
        num_left = self.num_candidates - np.diff(exclude.indptr)
        wanted = k + int(np.diff(exclude.indptr).max())
        if allowed is not None:
            num_left = len(allowed) - np.diff(exclude[:, allowed].indptr)
            wanted = math.ceil(wanted * self.num_candidates / len(allowed))
        sizes = self.search_sizes(k, wanted - k)
        if self._cost(sizes) > max(self._cost(self.search_sizes(k, 0)), self.num_candidates):
            return exact_search(self.candidates, queries, k, exclude, allowed)
        found = self._search_filtered(queries, k, exclude, allowed, sizes)
        short = np.count_nonzero(found.positions >= 0, axis=1) < np.minimum(k, num_left)
        if short.any():
            again = exact_search(self.candidates, queries[short], k, exclude[short], allowed)
            found.positions[short], found.scores[short] = again
        return found

    def _cost(self, sizes):
        _, reordered, leaves = sizes
        return cost(leaves, reordered, self.num_leaves, self.num_candidates)

    def _search_filtered(self, queries, k, exclude, allowed, sizes):
        """Fetches candidates and keeps the `k` best that are not filtered."""
        positions, scores = self.searcher.search_batched_parallel(queries, *sizes)
        positions = positions.astype(np.int32)
        # Where ScaNN found fewer than asked for, it pads with position 0 and a NaN score.
        kept = ~np.isnan(scores) & ~contains(exclude, positions)
        if allowed is not None:
            is_allowed = np.zeros(self.num_candidates, bool)
            is_allowed[allowed] = True
            kept &= is_allowed[positions]
        # A stable sort on "not kept" moves the kept ones to the front, still best first.
        front = np.argsort(~kept, axis=1, kind="stable")[:, :k]
        kept = np.take_along_axis(kept, front, axis=1)
        return Neighbors(
            np.where(kept, np.take_along_axis(positions, front, axis=1), np.int32(-1)),
            np.where(kept, np.take_along_axis(scores, front, axis=1), np.float32(-np.inf)),
        )


def _is_share(number):
    return 0 < number <= 1


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
