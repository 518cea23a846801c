"""Top-N evaluation of lists, whoever made them."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from tfrs_croloss._arguments import check_count
from tfrs_croloss._typing import Array, Lists, SparseMatrix
from tfrs_croloss.evaluation import metrics
from tfrs_croloss.evaluation.segments import Segment
from tfrs_croloss.index.membership import as_membership, contains

if TYPE_CHECKING:
    from tfrs_croloss.data import Targets


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
    """What an evaluation found.

    Attributes:
        metrics: dict of floats. Means over the evaluated users under `"recall@10"`, `"ndcg@10"`
            and `"mrr@10"`, and the share of the catalogue in any of their lists under
            `"coverage@10"`, for each N. Empty for a segment without users.
        per_user: dict of float64 arrays, `[num_users]`. The numbers behind the means, under the
            same keys: what a bootstrap or a paired test between two models needs.
        users: int array, `[num_users]`. Which rows of the queries were evaluated, ascending.
        segments: dict from the name of a segment to its `Evaluation`.
    """

    metrics: dict[str, float]
    per_user: dict[str, np.ndarray]
    users: np.ndarray
    segments: dict[str, "Evaluation"] = dataclasses.field(default_factory=dict)

    @property
    def num_users(self):
        """The number of users that the means are over."""
        return len(self.users)

    def as_dict(self):
        """Returns the metrics and `num_users` as plain numbers, ready for JSON."""
        return {"num_users": self.num_users, **self.metrics}


def evaluate_lists(
    lists: Lists,
    targets: "Targets | SparseMatrix",
    top_n: Array = (10, 50, 100),
    block_size: int = 16_384,
    segments: Mapping[str, Segment] | None = None,
) -> Evaluation:
    """Scores the lists that a function gives by the users' test items.

    Users without test items are neither asked for nor counted.

    Args:
        lists: function from an int array of users, rows of `targets` in ascending order, and the
            largest N to an int array `[len(users), N]`: the positions of distinct items, best
            first, -1 where a list has ended.
        targets: the users' test items, as in `evaluate`.
        top_n: int or sequence of ints. The list lengths N to measure at.
        block_size: int. The most users that `lists` is called with.
        segments: dict from names to `Segment`s. Each is measured on its own as well, over the
            users of the segment who have a test item in it.

    Returns:
        An `Evaluation`.

    Raises:
        TypeError: if the matrix of `targets` is not sparse.
        ValueError: as `evaluate`, and if lists or segments have another shape or kind.

    >>> import scipy.sparse
    >>> targets = scipy.sparse.csr_array(np.array([[1, 0, 0], [0, 0, 1]]))
    >>> bestsellers = np.array([2, 0, 1])
    >>> tail = {"tail": Segment(items=np.array([True, True, False]))}
    >>> result = evaluate_lists(
    ...     lambda users, n: np.tile(bestsellers[:n], [len(users), 1]),
    ...     targets,
    ...     top_n=(1, 2),
    ...     segments=tail,
    ... )
    >>> result.metrics["recall@1"], result.metrics["recall@2"]
    (0.5, 1.0)
    >>> result.segments["tail"].num_users, result.segments["tail"].metrics["recall@1"]
    (1, 0.0)
    """
    matrix, counts = matrix_and_counts(targets)
    targets = as_membership("targets", matrix, getattr(matrix, "shape", None))
    num_targets = _num_targets(counts, targets)
    top_n = _top_n(top_n)
    block_size = check_count("block_size", block_size)
    segments = segments or {}
    for name, segment in segments.items():
        segment.check(name, targets.shape)

    users = np.flatnonzero(num_targets)
    if len(users) == 0:
        raise ValueError(
            "`targets` must hold a test item for at least one user. "
            f"Received: none for {len(num_targets)} users"
        )
    positions = np.empty((len(users), top_n[-1]), np.int32)
    hits = np.empty(positions.shape, bool)
    for start in range(0, len(users), block_size):
        block = slice(start, start + block_size)
        rows = users[block]
        positions[block] = _checked(lists(rows, top_n[-1]), (len(rows), top_n[-1]), targets)
        hits[block] = contains(targets[rows], positions[block])

    def scored(segment):
        num_in = segment.num_targets(targets, num_targets)[users]
        chosen = np.flatnonzero(num_in)
        of_chosen, hit = positions[chosen], hits[chosen]
        if segment.items is not None:
            hit &= segment.items[of_chosen]  # Position -1 is no hit, wherever it points.
        per_user, means = {}, {}
        for n in top_n if len(chosen) else ():
            per_user[f"recall@{n}"] = metrics.recall(hit, num_in[chosen], n)
            per_user[f"ndcg@{n}"] = metrics.ndcg(hit, num_in[chosen], n)
            per_user[f"mrr@{n}"] = metrics.mrr(hit, n)
            means[f"coverage@{n}"] = metrics.coverage(of_chosen, targets.shape[1], n, segment.items)
        means = {name: float(values.mean()) for name, values in per_user.items()} | means
        return Evaluation(means, per_user, users[chosen])

    parts = {name: scored(segment) for name, segment in segments.items()}
    return dataclasses.replace(scored(Segment()), segments=parts)


def matrix_and_counts(targets):
    """The two parts of `Targets`, or of a pair; of a matrix alone it and None."""
    return targets if isinstance(targets, tuple) else (targets, None)


def _checked(positions, shape, targets):
    """What `lists` gave, if it can be positions in the catalogue."""
    positions = np.asarray(positions)
    if positions.shape != shape or positions.dtype.kind not in "iu":
        raise ValueError(
            f"`lists` must give integers of shape {shape}, a row a user. "
            f"Received: {positions.dtype} of shape {positions.shape}"
        )
    num_items = targets.shape[1]
    if positions.min() < -1 or positions.max() >= num_items:
        raise ValueError(
            f"`lists` must give positions below the number of items ({num_items}), or -1. "
            f"Received: {positions.min()} to {positions.max()}"
        )
    ordered = np.sort(positions, axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    if twice.any():
        raise ValueError(
            "`lists` must give each item once a user. "
            f"Received: {ordered[:, 1:][twice][0]} more than once"
        )
    return positions


def _num_targets(num_targets, targets):
    num_stored = np.diff(targets.indptr)
    if num_targets is None:
        return num_stored
    num_targets = np.asarray(num_targets)
    if num_targets.shape != num_stored.shape or num_targets.dtype.kind not in "iu":
        raise ValueError(
            f"`targets` must have integers as counts, of shape {num_stored.shape}, one a user. "
            f"Received: {num_targets.dtype} of shape {num_targets.shape}"
        )
    too_few = num_targets < num_stored
    if too_few.any():
        user = too_few.argmax()
        raise ValueError(
            "`targets` must count at least the stored entries of each row of its matrix. "
            f"Received: {num_targets[user]} for user {user}, who has {num_stored[user]}"
        )
    return num_targets


def _top_n(top_n):
    sizes = sorted({check_count("top_n", n) for n in np.atleast_1d(np.asarray(top_n, object))})
    if not sizes:
        raise ValueError(f"`top_n` must name at least one list length. Received: {top_n!r}")
    return sizes
