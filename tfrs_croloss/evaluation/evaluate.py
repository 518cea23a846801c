"""Top-N evaluation of query embeddings against an index."""

import dataclasses

import numpy as np

from tfrs_croloss.evaluation import metrics
from tfrs_croloss.index.membership import as_membership, contains
from tfrs_croloss.index.validation import as_embeddings, positive_int


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """What an evaluation found.

    Attributes:
        metrics: dict of floats. Means over the evaluated users under `"recall@10"`, `"ndcg@10"`
            and `"mrr@10"`, and the share of the catalogue in any of their lists under
            `"coverage@10"`, for each N.
        per_user: dict of float64 arrays, `[num_users]`. The numbers behind the means, under the
            same keys: what a bootstrap or a paired test between two models needs.
        users: int array, `[num_users]`. Which rows of the queries were evaluated, ascending.
    """

    metrics: dict[str, float]
    per_user: dict[str, np.ndarray]
    users: np.ndarray

    @property
    def num_users(self):
        """The number of users that the means are over."""
        return len(self.users)

    def as_dict(self):
        """Returns the metrics and `num_users` as plain numbers, ready for JSON."""
        return {"num_users": self.num_users, **self.metrics}


def evaluate(
    index,
    queries,
    targets,
    exclude=None,
    num_targets=None,
    top_n=(10, 50, 100),
    block_size=1024,
):
    """Searches for each user and scores the lists by the user's test items.

    Users without test items are neither searched nor counted.

    Args:
        index: `tfrs_croloss.index.Index` over the catalogue.
        queries: array-like of numbers, `[num_users, embedding_dim]`.
        targets: scipy.sparse matrix, `[num_users, num_items]`. Its stored entries, whatever
            their value, are the users' test items.
        exclude: scipy.sparse matrix, `[num_users, num_items]`. Its stored entries are never
            recommended: the items of a user's history, say. A test item that is also excluded
            can't be hit but still counts.
        num_targets: int array, `[num_users]`. All test items of each user, including those that
            are not in the catalogue and so have no column in `targets`. By default the stored
            entries of each row of `targets`.
        top_n: int or sequence of ints. The list lengths N to measure at.
        block_size: int. Users searched at once, which bounds the memory.

    Returns:
        An `Evaluation`.

    Raises:
        TypeError: if `targets` or `exclude` is not sparse.
        ValueError: if shapes don't fit, `num_targets` is smaller than a row of `targets`, a
            number in `top_n` is not a positive integer, or no user has a test item.

    >>> import scipy.sparse
    >>> from tfrs_croloss.index import ExactIndex
    >>> index = ExactIndex(np.eye(3))
    >>> targets = scipy.sparse.csr_array(np.array([[1, 0, 0], [1, 0, 0]]))
    >>> result = evaluate(index, [[3, 2, 1], [1, 2, 3]], targets, top_n=(1, 3))
    >>> result.metrics["recall@1"], result.metrics["recall@3"], result.num_users
    (0.5, 1.0, 2)
    """
    queries = as_embeddings("queries", queries, dim=index.embedding_dim)
    shape = (len(queries), index.num_candidates)
    targets = as_membership("targets", targets, shape)
    if exclude is not None:
        exclude = as_membership("exclude", exclude, shape)
    num_targets = _num_targets(num_targets, targets)
    top_n = _top_n(top_n)
    block_size = positive_int("block_size", block_size)

    users = np.flatnonzero(num_targets)
    if len(users) == 0:
        raise ValueError(
            "`targets` must hold a test item for at least one user. "
            f"Received: none for {len(queries)} users."
        )
    positions = np.empty((len(users), top_n[-1]), np.int32)
    hits = np.empty(positions.shape, bool)
    for start in range(0, len(users), block_size):
        block = slice(start, start + block_size)
        rows = users[block]
        seen = None if exclude is None else exclude[rows]
        positions[block] = index.search(queries[rows], top_n[-1], seen).positions
        hits[block] = contains(targets[rows], positions[block])

    num_targets = num_targets[users]
    per_user, means = {}, {}
    for n in top_n:
        per_user[f"recall@{n}"] = metrics.recall(hits, num_targets, n)
        per_user[f"ndcg@{n}"] = metrics.ndcg(hits, num_targets, n)
        per_user[f"mrr@{n}"] = metrics.mrr(hits, n)
        means[f"coverage@{n}"] = metrics.coverage(positions, index.num_candidates, n)
    means = {name: float(values.mean()) for name, values in per_user.items()} | means
    return Evaluation(means, per_user, users)


def _num_targets(num_targets, targets):
    num_stored = np.diff(targets.indptr)
    if num_targets is None:
        return num_stored
    num_targets = np.asarray(num_targets)
    if num_targets.shape != num_stored.shape or num_targets.dtype.kind not in "iu":
        raise ValueError(
            f"`num_targets` must be integers of shape {num_stored.shape}, one a user. "
            f"Received: {num_targets.dtype} of shape {num_targets.shape}."
        )
    too_few = num_targets < num_stored
    if too_few.any():
        user = too_few.argmax()
        raise ValueError(
            "`num_targets` must count at least the stored entries of each row of `targets`. "
            f"Received: {num_targets[user]} for user {user}, who has {num_stored[user]}."
        )
    return num_targets


def _top_n(top_n):
    sizes = sorted({positive_int("top_n", n) for n in np.atleast_1d(np.asarray(top_n, object))})
    if not sizes:
        raise ValueError(f"`top_n` must name at least one list length. Received: top_n={top_n!r}.")
    return sizes
