"""Splitting interactions into train, validation and test: each user's, or by users."""

from typing import NamedTuple

import numpy as np
import pandas as pd

from tfrs_croloss._arguments import check_choice, check_number
from tfrs_croloss.data.frames import checked_frame

# Fewer than this and a user keeps all for training: one to learn from is too few to validate on.
MIN_TRAIN_FOR_VALIDATION = 3
# Of a user who is held out: one to ask with and one to find.
MIN_HELD_OUT = 2


class Split(NamedTuple):
    """Frames of interactions, their rows in the order they came in.

    Attributes:
        train: What is trained on.
        validation: What is to be found in the validation.
        test: What is to be found in the test.
        history: What is known, and not trained on, of users who are held out: users without any
            interaction in `train`. Empty where no user is.
    """

    train: pd.DataFrame
    validation: pd.DataFrame
    test: pd.DataFrame
    history: pd.DataFrame = pd.DataFrame({"user": [], "item": []}, dtype=str)


def split_interactions(
    frame: pd.DataFrame, by: str = "time", test: float = 0.2, validation: float = 0.1, seed: int = 0
) -> Split:
    """Splits each user's interactions into train, validation and test.

    Args:
        frame: Interactions, as `read_interactions` gives them, or a frame of one's own with the
            columns `user` and `item`, and maybe `time`. Its index does not matter.
        by: `"time"`, each user's last interactions are the test and those before them the
            validation (ties, and frames without times, in the order of the file); `"random"`; or
            `"last"`, leave-last-out: the last one is the test, the one before it the validation.
        test: Share of a user's interactions, rounded half up; at least one stays for training. By
            "last", anything but 0 means one.
        validation: Share of a user's interactions, rounded half up and at least one, from users
            with at least three interactions left; 0 for no validation.
        seed: Of the random order.

    Returns:
        A `Split`.

    Raises:
        DataError: If the frame lacks a column, or a row holds what the readers would refuse.
        ValueError: If `by` is unknown or the shares do not leave a training set.

    Example:
    >>> import pandas as pd
    >>> from tfrs_croloss.data import split_interactions
    >>> frame = pd.DataFrame({"user": ["a"] * 10, "item": [str(i) for i in range(10)]})
    >>> [len(part) for part in split_interactions(frame)]
    [7, 1, 2, 0]
    """
    return _split(frame, by, test, validation, seed, added_in_rounding=0.5)


def _split(frame, by, test, validation, seed, added_in_rounding):
    check_choice("by", by, ("time", "random", "last"))
    _check_shares(test, validation)
    rows, frame = checked_frame(frame), frame.reset_index(drop=True)
    from_end, num_rows = _places_from_end(rows, by, seed)
    if by == "last":
        num_test, num_validation = (np.full_like(num_rows, bool(s)) for s in (test, validation))
    else:
        num_test = np.floor(num_rows * test + 0.5).astype(int)
        num_validation = np.floor(num_rows * validation + added_in_rounding).astype(int)
        num_validation = np.maximum(num_validation, 1) if validation else num_validation
    num_test = np.minimum(num_test, num_rows - 1)
    num_left = num_rows - num_test
    num_validation = np.where(
        num_left >= MIN_TRAIN_FOR_VALIDATION, np.minimum(num_validation, num_left - 1), 0
    )
    is_test = from_end < num_test
    is_train = from_end >= num_test + num_validation
    return Split(frame[is_train], frame[~is_train & ~is_test], frame[is_test])


def split_users(
    frame: pd.DataFrame,
    test: float = 0.1,
    validation: float = 0.1,
    history: float = 0.8,
    seed: int = 0,
) -> Split:
    """Splits the users into train, validation and test: strong generalisation.

    Users of the validation and of the test are held out: nothing of them is trained on. The oldest
    of a held-out user's interactions are the history that the query tower is asked with, the rest
    is to be found. Only a tower on histories knows such users.

    This is the protocol of the CROLoss paper (Tang et al., arXiv 2208.02971; authors' code,
    `data_iterator.py`), whose users are split 80/10/10. There, every item has a place in the
    catalogue, and a user may have an item twice; `encode` makes the catalogue of the items that are
    trained on, where the others stay misses, and `clean` leaves the first of each.

    Args:
        frame: Interactions, as `read_interactions` gives them. Where there is no time the order of
            the file counts, as it does for ties.
        test: Share of the users with at least two interactions, rounded half up. Users with one
            have no history and stay in the training set.
        validation: Likewise.
        history: Share of a held-out user's interactions, rounded down, but one at least is history
            and one is to be found.
        seed: Of the users' random order.

    Returns:
        A `Split`. Of the users with at least two interactions one at least is trained on.

    Raises:
        DataError: If the frame lacks a column, or a row holds what the readers would refuse.
        ValueError: If the shares do not leave a training set, or `history` not both parts.

    Example:
    >>> import pandas as pd
    >>> from tfrs_croloss.data import split_users
    >>> frame = pd.DataFrame({"user": list("abcdefghij") * 5, "item": range(50)})
    >>> split = split_users(frame, test=0.2)
    >>> split.train["user"].nunique(), split.test["user"].nunique()
    (7, 2)
    >>> [len(part) for part in split]
    [35, 1, 2, 12]
    """
    _check_shares(test, validation)
    check_number("history", history, "a share between 0 and 1", lambda share: 0 < share < 1)
    rows, frame = checked_frame(frame), frame.reset_index(drop=True)
    user = pd.factorize(rows["user"])[0]
    can_be_held_out = np.flatnonzero(np.bincount(user) >= MIN_HELD_OUT)
    order = np.random.default_rng(seed).permutation(can_be_held_out)
    num_test, num_validation = (int(len(order) * share + 0.5) for share in (test, validation))
    held_out = order[: max(len(order) - 1, 0)][: num_test + num_validation]
    is_held_out, is_test = np.isin(user, held_out), np.isin(user, held_out[:num_test])
    from_end, num_rows = _places_from_end(rows, "time", seed)
    num_history = np.clip(np.floor(num_rows * history), 1, num_rows - 1)
    is_history = is_held_out & (num_rows - 1 - from_end < num_history)
    is_target = is_held_out & ~is_history
    return Split(
        frame[~is_held_out],
        frame[is_target & ~is_test],
        frame[is_target & is_test],
        frame[is_history],
    )


def hold_out(frame: pd.DataFrame, by: str = "random", validation: float = 0.1, seed: int = 0):
    """Splits a training file into train and validation, where the test is a file of its own.

    Args:
        frame: The training file's interactions.
        by: As in `split_interactions`.
        validation: Share of a user's interactions in the training file, rounded down as the
            benchmarks with a test file do (IR-Benchmark), but at least one; as in
            `split_interactions` from users with at least three.
        seed: Of the random order.

    Returns:
        The two frames.

    Raises:
        DataError: If the frame lacks a column, or a row holds what the readers would refuse.
        ValueError: If `by` is unknown or the share leaves no training set.

    Example:
    >>> import pandas as pd
    >>> from tfrs_croloss.data import hold_out
    >>> frame = pd.DataFrame({"user": ["a"] * 10, "item": [str(i) for i in range(10)]})
    >>> [len(part) for part in hold_out(frame, validation=0.3)]
    [7, 3]
    """
    split = _split(frame, by, 0, validation, seed, added_in_rounding=0)
    return split.train, split.validation


def _check_shares(test, validation):
    if not (0 <= test and 0 <= validation and test + validation < 1):
        raise ValueError(
            "`test` and `validation` must be shares that leave a training set. Received: "
            f"test={test}, validation={validation}"
        )


def _places_from_end(rows, by, seed):
    """For each row its place from the end of its user's sequence, and the sequence's length."""
    user = pd.factorize(rows["user"])[0]
    if by == "random":
        within_user = np.random.default_rng(seed).permutation(len(rows))
    elif "time" in rows:
        within_user = rows["time"].to_numpy()
    else:
        within_user = np.arange(len(rows))
    order = np.lexsort((within_user, user))  # stable: ties stay in the order of the file
    num_rows = np.bincount(user)
    ends = np.cumsum(num_rows)
    from_end = np.empty(len(rows), int)
    from_end[order] = ends[user[order]] - 1 - np.arange(len(rows))
    return from_end, num_rows[user]
