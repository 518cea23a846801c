"""Parts of the users and of the test items, to be measured on their own."""

import dataclasses

import numpy as np

from tfrs_croloss._arguments import check_number
from tfrs_croloss._typing import Array, SparseMatrix
from tfrs_croloss.index.membership import as_membership
from tfrs_croloss.losses.checks import check_shape


@dataclasses.dataclass(frozen=True, eq=False)
class Segment:
    """Some of the users, some of the test items, or both.

    Of the segment's users those count who have a test item in it, and of their test items those
    in it: recall is the share of these in the top N. Coverage is that of the segment's items, by
    the lists of the segment's users.

    Attributes:
        users: bool array, `[num_users]`. Those in the segment; None for all.
        items: bool array, `[num_items]`. Those in the segment; None for all.
        other_items: bool. Whether test items that are not in the catalogue belong to it.
        description: str. What it is, for the reader of the results.
    """

    users: np.ndarray | None = None
    items: np.ndarray | None = None
    other_items: bool = True
    description: str = ""

    def check(self, name, shape):
        """Raises a ValueError unless this can be a part of `shape` users and items."""
        for part, size in zip(("users", "items"), shape, strict=True):
            mask = getattr(self, part)
            if mask is None:
                continue
            kind = getattr(mask, "dtype", type(mask).__name__)
            if str(kind) != "bool" or np.shape(mask) != (size,):
                raise ValueError(
                    f"`segments[{name!r}].{part}` must be booleans of shape {(size,)}. "
                    f"Received: {kind} of shape {np.shape(mask)}"
                )

    def num_targets(self, targets, num_targets):
        """The number of each user's test items that are in the segment.

        Args:
            targets: scipy.sparse.csr_array in canonical format, `[num_users, num_items]`.
            num_targets: int array, `[num_users]`. All test items of each user.

        Returns:
            int array, `[num_users]`.
        """
        num_stored = np.diff(targets.indptr)
        num_in = num_stored
        if self.items is not None:
            up_to = np.append(0, np.cumsum(self.items[targets.indices]))
            num_in = np.diff(up_to[targets.indptr])
        if self.other_items:
            num_in = num_in + (num_targets - num_stored)
        return num_in if self.users is None else np.where(self.users, num_in, 0)


def training_segments(
    train: SparseMatrix,
    num_targets: Array,
    new_users: float = 0.25,
    head_items: float = 0.2,
    known: SparseMatrix | None = None,
) -> dict[str, Segment]:
    """New against old users and head against tail items, by the training set.

    - New users have at most as many training interactions as the first quarter of the evaluated
      users, those with test items; old users have more.
    - Head items have more training interactions than four fifths of the catalogue: its top 20 %
      by popularity, as is common (Pareto). Tail items are the others, and those test items that
      are not in the catalogue.

    Users, and items, with as many interactions as the threshold are on the side of the few: a
    quarter of the users or more are new, a fifth of the items or less are head.

    Args:
        train: scipy.sparse matrix, `[num_users, num_items]`. Its stored entries are the training
            interactions.
        num_targets: int array, `[num_users]`. The number of test items of each user.
        new_users: float in [0, 1]. The share of the users to be new.
        head_items: float in [0, 1]. The share of the items to be head.
        known: scipy.sparse matrix, `[num_users, num_items]`. Instead of `train`, for the users:
            what is known of them, where some are not trained on (`data.known`).

    Returns:
        dict of the `Segment`s `"new users"`, `"old users"`, `"head items"` and `"tail items"`,
        whose descriptions have the thresholds.

    Raises:
        TypeError: if `train` or `known` is not sparse.
        ValueError: if a share is not within [0, 1], `num_targets` is not one number a user, or no
            user has a test item.

    >>> import scipy.sparse
    >>> train = scipy.sparse.csr_array(np.array([[0, 0, 1, 0, 0], [1, 1, 1, 0, 1]]))
    >>> segments = training_segments(train, num_targets=np.array([1, 1]))
    >>> segments["new users"].users, segments["head items"].items
    (array([ True, False]), array([False, False,  True, False, False]))
    >>> segments["new users"].description
    'users with at most 1 training interaction'
    """
    for name, share in {"new_users": new_users, "head_items": head_items}.items():
        check_number(name, share, "a share from 0 to 1", lambda share: 0 <= share <= 1)
    train = as_membership("train", train, getattr(train, "shape", None))
    num_targets = np.asarray(num_targets)
    check_shape("num_targets", num_targets, train.shape[:1])
    if not num_targets.any():
        raise ValueError("`num_targets` must not all be 0. Received: zeros alone")
    what = "training" if known is None else "known"
    known = train if known is None else as_membership("known", known, train.shape)
    of_user = np.diff(known.indptr)
    few = _threshold(of_user[num_targets > 0], new_users)
    of_item = np.bincount(train.indices, minlength=train.shape[1])
    many = _threshold(of_item, 1 - head_items)
    return {
        "new users": Segment(
            users=of_user <= few, description=f"users with at most {_interactions(few, what)}"
        ),
        "old users": Segment(
            users=of_user > few, description=f"users with more than {_interactions(few, what)}"
        ),
        "head items": Segment(
            items=of_item > many,
            other_items=False,
            description=f"items with more than {_interactions(many)}",
        ),
        "tail items": Segment(
            items=of_item <= many,
            description=f"items with at most {_interactions(many)}, or not in the catalogue",
        ),
    }


def _threshold(counts, share):
    """The least of `counts` that at least this share of them does not exceed."""
    return int(np.quantile(counts, share, method="inverted_cdf"))


def _interactions(count, what="training"):
    return f"{count} {what} interaction{'s' * (count != 1)}"
