"""Splitting each user's interactions into train, validation and test."""

from typing import NamedTuple

import numpy as np
import pandas as pd

# Fewer than this and a user keeps all for training: one to learn from is too few to validate on.
MIN_TRAIN_FOR_VALIDATION = 3


class Split(NamedTuple):
    """Three frames of interactions, their rows in the order they came in."""

    train: pd.DataFrame
    validation: pd.DataFrame
    test: pd.DataFrame


def split_interactions(
    frame: pd.DataFrame, by: str = "time", test: float = 0.2, validation: float = 0.1, seed: int = 0
) -> Split:
    """Splits each user's interactions into train, validation and test.

    Args:
        frame: Interactions, as `read_interactions` gives them.
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
        ValueError: If `by` is unknown or the shares do not leave a training set.

    Example:
    >>> import pandas as pd
    >>> from tfrs_croloss.data import split_interactions
    >>> frame = pd.DataFrame({"user": ["a"] * 10, "item": [str(i) for i in range(10)]})
    >>> [len(part) for part in split_interactions(frame)]
    [7, 1, 2]
    """
    return _split(frame, by, test, validation, seed, added_in_rounding=0.5)


def _split(frame, by, test, validation, seed, added_in_rounding):
    if by not in ("time", "random", "last"):
        raise ValueError(f"`by` must be 'time', 'random' or 'last'. Received: {by!r}")
    if not (0 <= test and 0 <= validation and test + validation < 1):
        raise ValueError(
            "`test` and `validation` must be shares that leave a training set. Received: "
            f"test={test}, validation={validation}"
        )
    frame = frame.reset_index(drop=True)
    from_end, num_rows = _places_from_end(frame, by, seed)
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
        ValueError: If `by` is unknown or the share leaves no training set.

    Example:
    >>> import pandas as pd
    >>> from tfrs_croloss.data import hold_out
    >>> frame = pd.DataFrame({"user": ["a"] * 10, "item": [str(i) for i in range(10)]})
    >>> [len(part) for part in hold_out(frame, validation=0.3)]
    [7, 3]
    """
    train, held_out, _ = _split(frame, by, 0, validation, seed, added_in_rounding=0)
    return train, held_out


def _places_from_end(frame, by, seed):
    """For each row its place from the end of its user's sequence, and the sequence's length."""
    user = pd.factorize(frame["user"])[0]
    if by == "random":
        within_user = np.random.default_rng(seed).permutation(len(frame))
    elif "time" in frame:
        within_user = frame["time"].to_numpy()
    else:
        within_user = np.arange(len(frame))
    order = np.lexsort((within_user, user))  # stable: ties stay in the order of the file
    num_rows = np.bincount(user)
    ends = np.cumsum(num_rows)
    from_end = np.empty(len(frame), int)
    from_end[order] = ends[user[order]] - 1 - np.arange(len(frame))
    return from_end, num_rows[user]
