"""What every index over candidate embeddings promises."""

import abc
from typing import NamedTuple

import numpy as np
import scipy.sparse

from tfrs_croloss._arguments import check_count
from tfrs_croloss._typing import Array, SparseMatrix
from tfrs_croloss.index.membership import as_membership
from tfrs_croloss.index.validation import as_embeddings, as_positions


class Neighbors(NamedTuple):
    """The best candidates of each query, best first.

    Attributes:
        positions: int32 array, `[num_queries, k]`. Row numbers into the candidates; -1 where the
            query has no further candidate.
        scores: float32 array, `[num_queries, k]`. Inner products; -inf where the position is -1.
    """

    positions: np.ndarray
    scores: np.ndarray


class Index(abc.ABC):
    """Finds the candidates with the largest inner product for each query.

    `search` checks the arguments and fills up what is missing; a subclass implements `_search`
    and may rely on arguments that fit together.

    Args:
        candidates: array-like of numbers, `[num_candidates, embedding_dim]`. Copied as float32,
            so that changing the array later doesn't change the index.

    Raises:
        ValueError: if `candidates` is not a matrix, is empty, or holds NaN or infinity.
    """

    def __init__(self, candidates: Array) -> None:
        self.candidates = as_embeddings("candidates", candidates, copy=True)
        if self.candidates.size == 0:
            raise ValueError(
                "`candidates` must hold at least one row and one column. "
                f"Received: shape {self.candidates.shape}"
            )

    @property
    def num_candidates(self):
        """The number of candidates."""
        return self.candidates.shape[0]

    @property
    def embedding_dim(self):
        """The dimension that queries share with the candidates."""
        return self.candidates.shape[1]

    def search(
        self,
        queries: Array,
        k: int,
        exclude: SparseMatrix | None = None,
        allowed: Array | None = None,
    ) -> Neighbors:
        """Returns the `k` best candidates of each query.

        Args:
            queries: array-like of numbers, `[num_queries, embedding_dim]`.
            k: int. How many candidates to return. It may exceed the number of candidates.
            exclude: scipy.sparse matrix, `[num_queries, num_candidates]`. Its stored entries,
                whatever their value, are candidates never to return for that query: the items
                a user has already seen, say.
            allowed: array-like of ints. Positions of the only candidates to return, for all
                queries: what is in stock, say. By default all.

        Returns:
            `Neighbors` of shape `[num_queries, k]`. Where fewer than `k` candidates remain for a
            query, its row ends in positions of -1 with scores of -inf.

        Raises:
            TypeError: if `exclude` is not sparse.
            ValueError: if `k` is not a positive integer, the shapes don't fit the candidates,
                `queries` holds NaN or infinity, or `allowed` a position that there is not.
        """
        queries = as_embeddings("queries", queries, dim=self.embedding_dim)
        k = check_count("k", k)
        shape = (len(queries), self.num_candidates)
        if exclude is None:
            exclude = scipy.sparse.csr_array(shape, dtype=bool)
        exclude = as_membership("exclude", exclude, shape)
        if allowed is not None:
            allowed = as_positions("allowed", allowed, self.num_candidates)

        most = self.num_candidates if allowed is None else len(allowed)
        found = Neighbors(np.empty((len(queries), 0), np.int32), np.empty((len(queries), 0), "f4"))
        if most:
            found = self._search(queries, min(k, most), exclude, allowed)
        beyond = ((0, 0), (0, max(0, k - most)))
        return Neighbors(
            np.pad(found.positions, beyond, constant_values=-1),
            np.pad(found.scores, beyond, constant_values=-np.inf),
        )

    @abc.abstractmethod
    def _search(
        self, queries: np.ndarray, k: int, exclude: SparseMatrix, allowed: np.ndarray | None
    ) -> Neighbors:
        """Searches with checked arguments.

        Args:
            queries: float32 array, `[num_queries, embedding_dim]`. There may be none.
            k: int from 1 to the number of candidates that are allowed.
            exclude: scipy.sparse.csr_array in canonical format, `[num_queries, num_candidates]`.
            allowed: int array of at least `k` positions, ascending, or None for all.

        Returns:
            `Neighbors` of shape `[num_queries, k]`, already -1 and -inf where candidates ran out.
        """
