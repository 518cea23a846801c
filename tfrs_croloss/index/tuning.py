"""Choosing how far a ScaNN index has to search for the recall that is wanted."""

import numpy as np

# Two float32 sums of the same products, in another order, differ by less.
_ROUNDING = 1e-5


def measured_recall(index, exact, queries, k):
    """The share of the `k` best candidates that an index finds.

    A candidate that scores as high as the k-th best counts as found, whichever it is: among equal
    scores there is no right one.

    Args:
        index: `Index`.
        exact: float32 array, `[num_queries]`. The score of each query's k-th best candidate.
        queries: float32 array, `[num_queries, embedding_dim]`.
        k: int.
    """
    threshold = exact - _ROUNDING * np.abs(exact)
    return float(np.mean(index.search(queries, k).scores >= threshold[:, np.newaxis]))


def least(is_enough, high):
    """The least number from 1 to `high` that is enough; `high` if none below is.

    Args:
        is_enough: function of an int, False up to some number and True from there on.
        high: int. Taken to be enough.

    >>> least(lambda n: n >= 37, high=1_000)
    37
    """
    low = 0
    # From below, by doubling: what is enough is cheap to try, what is far too much is not.
    step = 1
    while step < high and not is_enough(step):
        low, step = step, 2 * step
    high = min(step, high)
    while high - low > 1:
        middle = (low + high) // 2
        if is_enough(middle):
            high = middle
        else:
            low = middle
    return high
