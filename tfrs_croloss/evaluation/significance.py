"""Whether one model is better than another, or only luckier with the users it was measured on."""

import dataclasses

import numpy as np

from tfrs_croloss._arguments import check_count
from tfrs_croloss._typing import Array

# Draws held at once, which bounds the memory.
BLOCK_SIZE = 2**22


@dataclasses.dataclass(frozen=True, eq=False)
class PairedBootstrap:
    """What resampling the users says of a mean difference; arrays of the columns' shape.

    Attributes:
        difference: The mean over the users.
        low: Lower end of the 95 % interval: the 2.5 % quantile of the resampled means.
        high: Upper end, the 97.5 % quantile.
        p: Two-sided p-value of no difference, at most 1 and at least 2 / (num_resamples + 1).
    """

    difference: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray


def paired_bootstrap(
    differences: Array, num_resamples: int = 10_000, seed: int = 0
) -> PairedBootstrap:
    """Tests a mean difference between two models over the same users.

    Users are drawn with replacement, as many as there are, and the mean of their differences is
    taken; `num_resamples` times. The interval is that of the percentiles, and p inverts it:

    ```math
    p = min(1, 2 · min(1 + #(mean* ≤ 0), 1 + #(mean* ≥ 0)) / (num_resamples + 1))
    ```

    where:

    - mean* is the mean difference of a resample.

    So p is below 0.05 about where the interval leaves 0 out. What is drawn are users, not seeds:
    give the differences averaged over seeds, and the result says how far it would carry over to
    other users of the kind. All columns share their resamples. Source: Efron and Tibshirani, *An
    Introduction to the Bootstrap*, 1993, chapters 13 and 15.

    Args:
        differences: array-like of numbers, `[num_users]` or `[num_users, num_columns]`, a metric
            of one model less that of the other, for each user.
        num_resamples: int, ≥ 1.
        seed: int. Of the resamples.

    Returns:
        A `PairedBootstrap`.

    Raises:
        ValueError: if there are no users, or a number is not finite.

    >>> found = paired_bootstrap([0.1, 0.3, -0.1, 0.2, 0.1, 0.2])
    >>> round(float(found.difference), 3), bool(found.low > 0), bool(found.p < 0.05)
    (0.133, True, True)
    """
    differences = np.asarray(differences, np.float64)
    if differences.ndim not in (1, 2) or len(differences) == 0:
        raise ValueError(
            "`differences` must have shape [num_users] or [num_users, num_columns], with at least "
            f"one user. Received: shape {differences.shape}"
        )
    if not np.isfinite(differences).all():
        raise ValueError("`differences` must be finite. Received: NaN or inf among them")
    num_resamples = check_count("num_resamples", num_resamples)
    num_users = len(differences)
    rng = np.random.default_rng(seed)
    means = np.empty((num_resamples, *differences.shape[1:]))
    block_size = max(1, BLOCK_SIZE // num_users)
    for start in range(0, num_resamples, block_size):
        size = min(block_size, num_resamples - start)
        # How often each user is drawn: one product then serves all columns.
        drawn = rng.integers(num_users, size=(size, num_users))
        drawn += np.arange(size)[:, np.newaxis] * num_users
        counts = np.bincount(drawn.ravel(), minlength=size * num_users).reshape(size, num_users)
        means[start : start + size] = counts @ differences / num_users
    low, high = np.quantile(means, [0.025, 0.975], axis=0)
    # A mean that is 0 but for its rounding is 0.
    tiny = 1e-12 * np.abs(differences).max(axis=0)
    below, above = ((sign * means <= tiny).sum(axis=0) for sign in (1, -1))
    p = np.minimum(1, 2 * (1 + np.minimum(below, above)) / (num_resamples + 1))
    return PairedBootstrap(differences.mean(axis=0), low, high, p)
