"""Items by id in an index that is replaced while it is searched."""

import threading
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy.sparse

from tfrs_croloss.index.base import Index
from tfrs_croloss.index.build import build_index
from tfrs_croloss.index.validation import as_embeddings, positive_int


class _Built(NamedTuple):
    """Ids and their index, which belong together: replaced as one, never changed."""

    ids: pd.Index
    index: Index


class Catalogue:
    """Searches items by id, while items come, change and go.

    An index is not changed in place: ScaNN's leaves and hashes are fitted to its candidates. Every
    change builds a new one, from all items, and puts it in the place of the old one at once. Until
    then, and in searches under way, the old one answers; if the building fails, it stays. Changes
    wait for each other, searches for nothing.

    Args:
        ids: array-like of strings or ints, `[num_items]`, each once.
        embeddings: array-like of numbers, `[num_items, embedding_dim]`, or a function that gives
            them for a batch of ids: the candidate tower.
        kind: str. `"exact"` or `"scann"`.
        batch_size: int. Ids in a call of the tower.
        **options: further arguments of the index, for `build_index`.

    Raises:
        ValueError: if an id comes twice, there is none, or the embeddings don't fit the ids.

    >>> catalogue = Catalogue(["a", "b"], [[1.0, 0.0], [0.0, 1.0]])
    >>> catalogue.add(["c"], [[3.0, 0.0]])
    >>> ids, scores = catalogue.search([[1.0, 0.5]], k=2)
    >>> ids.tolist(), scores.tolist()
    ([['c', 'a']], [[3.0, 1.0]])
    >>> catalogue.remove(["c"])
    >>> catalogue.search([[1.0, 0.5]], k=2, exclude=[["a"]])[0].tolist()
    [['b', None]]
    """

    def __init__(self, ids, embeddings, kind="exact", batch_size=4096, **options):
        self.kind, self.options = kind, options
        self.batch_size = positive_int("batch_size", batch_size)
        self._changing = threading.Lock()
        self._built = self._build(*self._embedded(ids, embeddings))

    def __len__(self):
        return len(self.ids)

    @property
    def ids(self):
        """Array of the ids, in the order of the index."""
        return self._built.ids.to_numpy()

    @property
    def index(self):
        """The `Index` that answers now."""
        return self._built.index

    def search(self, queries, k, exclude=None, allowed=None):
        """Returns the best items of each query.

        Args:
            queries: array-like of numbers, `[num_queries, embedding_dim]`.
            k: int. Items to return.
            exclude: for each query, a list of ids never to return to it. Unknown ones are ignored:
                what is no item any more can't come back.
            allowed: list of the only ids to return, for all queries; unknown ones likewise.

        Returns:
            ids, as an array of objects, and scores, as float32, both `[num_queries, k]`, best
            first. Where fewer than `k` remain: None, and -inf.

        Raises:
            ValueError: as `Index.search`, or if `exclude` has not one list a query.
        """
        ids, index = self._built
        if allowed is not None:
            allowed = _known(ids, allowed)
        if exclude is not None:
            if len(exclude) != len(queries):
                raise ValueError(
                    "`exclude` must have one list of ids a query. "
                    f"Received: {len(exclude)} lists, {len(queries)} queries."
                )
            columns = [np.unique(_known(ids, row)) for row in exclude]
            starts = np.cumsum([0, *map(len, columns)])
            columns = np.concatenate([np.empty(0, int), *columns])
            members = np.ones(len(columns), bool), columns, starts
            exclude = scipy.sparse.csr_array(members, shape=(len(queries), len(ids)))
        found = index.search(queries, k, exclude, allowed)
        # Position -1 is the None at the end.
        return np.append(ids.to_numpy().astype(object), None)[found.positions], found.scores

    def replace(self, ids, embeddings):
        """Puts other items in the place of all.

        Args:
            ids: as at the start.
            embeddings: likewise.
        """
        with self._changing:
            self._built = self._build(*self._embedded(ids, embeddings))

    def add(self, ids, embeddings):
        """Adds items, and gives those that are there already a new embedding.

        Args:
            ids: as at the start.
            embeddings: likewise.
        """
        with self._changing:
            ids, embeddings = self._embedded(ids, embeddings)
            old, index = self._built
            kept = ~old.isin(ids)
            self._built = self._build(
                old[kept].append(ids), np.concatenate([index.candidates[kept], embeddings])
            )

    def remove(self, ids):
        """Removes items.

        Args:
            ids: array-like of ids.

        Raises:
            ValueError: if one of them is not there, or none would be left.
        """
        with self._changing:
            old, index = self._built
            ids = pd.Index(ids)
            unknown = ids[~ids.isin(old)]
            if len(unknown):
                raise ValueError(f"`ids` must be of the catalogue. Received: {unknown[0]!r}.")
            kept = ~old.isin(ids)
            self._built = self._build(old[kept], index.candidates[kept])

    def _embedded(self, ids, embeddings):
        ids = pd.Index(ids)
        if callable(embeddings):
            batches = [
                np.asarray(embeddings(ids[start : start + self.batch_size].to_numpy()))
                for start in range(0, len(ids), self.batch_size)
            ]
            embeddings = np.concatenate(batches) if batches else np.empty((0, 0))
        embeddings = as_embeddings("embeddings", embeddings)
        if len(embeddings) != len(ids):
            raise ValueError(
                "`embeddings` must have one row an id. "
                f"Received: {len(embeddings)} rows, {len(ids)} ids."
            )
        if not ids.is_unique:
            twice = ids[ids.duplicated()][0]
            raise ValueError(f"`ids` must be each given once. Received twice: {twice!r}.")
        return ids, embeddings

    def _build(self, ids, embeddings):
        return _Built(ids, build_index(embeddings, self.kind, **self.options))


def _known(ids, wanted):
    """Positions of those of the wanted ids that there are."""
    positions = ids.get_indexer(pd.Index(wanted))
    return positions[positions >= 0]
