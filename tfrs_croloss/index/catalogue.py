"""Items by id in an index that is replaced while it is searched."""

import threading
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse

from tfrs_croloss._arguments import check_count
from tfrs_croloss._typing import Array, Embedder
from tfrs_croloss.index.base import Index
from tfrs_croloss.index.build import build_index
from tfrs_croloss.index.validation import as_embeddings


class _Built(NamedTuple):
    """Ids and their index, which belong together: replaced as one, never changed."""

    ids: np.ndarray  # of objects; the None at the end is what position -1 finds
    positions: dict
    index: Index  # type: ignore[assignment] # hides tuple.index


class Catalogue:
    """Searches items by id, while items come, change and go.

    An index is not changed in place: ScaNN's leaves and hashes are fitted to its candidates. Every
    change builds a new one, from all items, and puts it in the place of the old one at once. Until
    then, and in searches under way, the old one answers; if the building fails, it stays. Changes
    wait for each other, searches for nothing.

    Args:
        ids: array-like of strings or of ints, `[num_items]`, each once.
        embeddings: array-like of numbers, `[num_items, embedding_dim]`, or a function that gives
            them for a list of ids: the candidate tower.
        kind: str. `"exact"` or `"scann"`.
        batch_size: int. The most ids in a call of the tower.
        **options: further arguments of the index, for `build_index`.

    Raises:
        ValueError: if an id comes twice, is of another kind than the others, or neither a string
            nor an int; if there is none; or if the embeddings don't fit the ids, or are NaN or
            infinite.

    >>> catalogue = Catalogue(["a", "b"], [[1.0, 0.0], [0.0, 1.0]])
    >>> catalogue.update(["c"], [[3.0, 0.0]])
    >>> ids, scores = catalogue.search([[1.0, 0.5]], k=2)
    >>> ids.tolist(), scores.tolist()
    ([['c', 'a']], [[3.0, 1.0]])
    >>> catalogue.update(remove=["c"])
    >>> catalogue.search([[1.0, 0.5]], k=2, exclude=[["a"]])[0].tolist()
    [['b', None]]
    """

    def __init__(
        self,
        ids: Array,
        embeddings: Array | Embedder,
        kind: str = "exact",
        batch_size: int = 4096,
        **options: Any,
    ) -> None:
        self.kind, self.options = kind, options
        self.batch_size = check_count("batch_size", batch_size)
        self._changing = threading.Lock()
        self.replace(ids, embeddings)

    def __len__(self):
        return self.index.num_candidates

    @property
    def ids(self):
        """List of the ids, in the order of the index."""
        return self._built.ids[:-1].tolist()

    @property
    def index(self):
        """The `Index` that answers now."""
        return self._built.index

    def search(
        self,
        queries: Array,
        k: int,
        exclude: Array | None = None,
        allowed: Array | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
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
            ValueError: as `Index.search`, if `exclude` has not one list a query, or if an id is
                neither a string nor an int (nor None, which is no item), e.g. a boolean or a float,
                as a mask or a column with missing values holds.
        """
        ids, positions, index = self._built
        queries = as_embeddings("queries", queries, index.embedding_dim)
        if allowed is not None:
            allowed = _known("allowed", allowed, positions)
        if exclude is not None:
            lists = _items("exclude", exclude, "one list of ids per query")
            if len(lists) != len(queries):
                raise ValueError(
                    "`exclude` must have one list of ids a query. "
                    f"Received: {len(lists)} lists, {len(queries)} queries"
                )
            rows = [_known("exclude", row, positions, "one list of ids per query") for row in lists]
            starts = np.cumsum([0, *map(len, rows)])
            columns = np.array([column for row in rows for column in row], int)
            members = np.ones(len(columns), bool), columns, starts
            exclude = scipy.sparse.csr_array(members, shape=(len(queries), index.num_candidates))
        found = index.search(queries, k, exclude, allowed)
        return ids[found.positions], found.scores

    def replace(self, ids: Array, embeddings: Array | Embedder) -> None:
        """Puts other items in the place of all.

        Args:
            ids: as at the start.
            embeddings: likewise.
        """
        with self._changing:
            ids = _as_ids("ids", ids)
            if not ids:
                raise ValueError("`ids` must hold at least one id. Received: none")
            self._build(ids, self._embedded(ids, embeddings))

    def update(
        self,
        ids: Array = (),
        embeddings: Array | Embedder = (),
        remove: Array = (),
    ) -> None:
        """Adds and removes items, as one change.

        Args:
            ids: as at the start. Those that are there already get the new embedding.
            embeddings: likewise.
            remove: array-like of ids.

        Raises:
            ValueError: if an id to remove is not there, none would be left, or as at the start.
        """
        with self._changing:
            ids, remove = _as_ids("ids", ids), _as_ids("remove", remove)
            unknown = [item for item in remove if item not in self._built.positions]
            if unknown:
                raise ValueError(f"`remove` must be of the catalogue. Received: {unknown[0]!r}")
            old, index = self.ids, self.index
            if ids:
                embeddings = self._embedded(ids, embeddings, index.embedding_dim)
            else:
                embeddings = index.candidates[:0]
            gone = {*ids, *remove}
            kept = [position for position, item in enumerate(old) if item not in gone]
            self._build(
                [old[position] for position in kept] + ids,
                np.concatenate([index.candidates[kept], embeddings]),
            )

    def _embedded(self, ids, embeddings, dim=None):
        if callable(embeddings):
            starts = range(0, len(ids), self.batch_size)
            batches = [ids[start : start + self.batch_size] for start in starts]
            embeddings = np.concatenate([np.asarray(embeddings(batch)) for batch in batches])
        embeddings = as_embeddings("embeddings", embeddings, dim)
        if len(embeddings) != len(ids):
            raise ValueError(
                "`embeddings` must have one row an id. "
                f"Received: {len(embeddings)} rows, {len(ids)} ids"
            )
        return embeddings

    def _build(self, ids, embeddings):
        kinds = {type(item).__name__ for item in ids}
        if len(kinds) > 1:
            raise ValueError(
                f"`ids` must all be of one kind. Received: {' and '.join(sorted(kinds))}"
            )
        positions = {item: position for position, item in enumerate(ids)}
        if len(positions) < len(ids):
            seen = set()
            twice = next(item for item in ids if item in seen or seen.add(item))
            raise ValueError(f"`ids` must be distinct. Received twice: {twice!r}")
        index = build_index(embeddings, self.kind, **self.options)
        self._built = _Built(np.array([*ids, None], object), positions, index)


def _items(name, ids, wanted="a list of ids"):
    """A list of what an array-like of ids, or of lists of them, holds."""
    # The letters of a string are no ids, and a matrix has no list a row.
    if isinstance(ids, str | bytes) or scipy.sparse.issparse(ids) or not np.iterable(ids):
        raise ValueError(f"`{name}` must be {wanted}. Received: {ids!r:.100}")
    # The elements of a tensor are tensors, which are equal to no id.
    ids = np.asarray(ids) if hasattr(ids, "__array__") else ids
    # Times are numbers to NumPy, and no ids.
    return [x.item() if isinstance(x, np.generic) and x.dtype.kind in "iuU" else x for x in ids]


def _as_ids(name: str, ids: Array, wanted: str = "a list of ids") -> list[Any]:
    """A list of Python's own strings or ints, which are equal where NumPy's are, too."""
    ids = _items(name, ids, wanted)
    # Equal to an int may be many a kind of number, e.g. True and 1.0.
    strange = [x for x in ids if not isinstance(x, str | int) or isinstance(x, bool)]
    if strange:
        raise ValueError(f"`{name}` must be strings or integers. Received: {strange[0]!r:.100}")
    return ids


def _known(name, ids, positions, wanted="a list of ids"):
    """The positions of those ids that there are, ascending."""
    # None is where a search found too few items.
    given = [x for x in _items(name, ids, wanted) if x is not None]
    return sorted({positions[x] for x in _as_ids(name, given) if x in positions})
