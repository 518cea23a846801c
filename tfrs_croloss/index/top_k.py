"""The largest entries of each row, ties included, in the order of `tf.math.top_k`."""

import numpy as np

_LOW_BITS = 0xFFFFFFFF


def top_k(scores, k):
    """Returns the columns and values of the `k` largest entries of each row.

    Equal scores are ordered by column, lower first, and where they straddle the k-th place the
    lower columns are the ones returned: the rule of `tf.math.top_k`. `np.argpartition` keeps any
    of the tied columns, so a row's result would depend on the numpy version.

    The trick is to put score and column into one integer, whose order is the order wanted and
    which is never tied: the score's bits above, the column counted from the end below.

    Args:
        scores: float32 array, `[num_rows, num_columns]`, without NaN. Used as working memory:
            its contents are lost.
        k: int from 1 to `num_columns`.

    Returns:
        A pair of an int32 array of columns and a float32 array of scores, both `[num_rows, k]`,
        best first.

    >>> columns, values = top_k(np.array([[1, 3, 1, 3, 1]], np.float32), k=3)
    >>> columns.tolist(), values.tolist()
    ([[1, 3, 0]], [[3.0, 3.0, 1.0]])
    """
    num_columns = scores.shape[1]
    scores += 0.0  # Turns -0.0 into 0.0: they are equal as numbers, but not as bits.
    keys = _ordered(scores.view(np.int32)).astype(np.int64)
    keys <<= 32
    keys |= np.arange(num_columns - 1, -1, -1)
    keys.partition(num_columns - k, axis=1)
    best = np.sort(keys[:, num_columns - k :], axis=1)[:, ::-1]
    columns = (num_columns - 1 - (best & _LOW_BITS)).astype(np.int32)
    return columns, _ordered((best >> 32).astype(np.int32)).view(np.float32)


def _ordered(bits):
    """Turns float32 bits into int32 of the same order, in place, and back: its own inverse.

    IEEE floats are sign and magnitude, so as integers the negative ones come out reversed;
    flipping all their bits but the sign puts that right.
    """
    flip = bits >> 31
    flip &= 0x7FFFFFFF
    bits ^= flip
    return bits
