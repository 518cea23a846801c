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


class RunningTopK:
    """`top_k` of a matrix that comes in blocks of columns, from the first column to the last.

    Once k columns are there, few scores of a block are above a row's k-th best so far, and to tell
    which is one comparison each. These are collected, and sorted in when they have become many.

    Args:
        k: int of at least 1.

    >>> best = RunningTopK(k=2)
    >>> best.add(np.array([[1, 3, 2]], np.float32))
    >>> best.add(np.array([[0, 3]], np.float32))
    >>> columns, values = best.result()
    >>> columns.tolist(), values.tolist()
    ([[1, 4]], [[3.0, 3.0]])
    """

    def __init__(self, k):
        self.k = k
        self._num_columns = 0
        self._best = None
        self._rows, self._columns, self._scores = [], [], []

    def add(self, scores):
        """Takes in the next columns.

        Args:
            scores: float32 array, `[num_rows, num_columns]`, without NaN. Its contents are lost.
                The first block has at least `k` columns.
        """
        first, width = self._num_columns, scores.shape[1]
        self._num_columns += width
        if self._best is None:
            self._best = top_k(scores, self.k)
            return
        # A score that only equals the k-th best stands further back, and loses.
        above = np.flatnonzero(scores > self._best[1][:, -1:])
        rows, columns = np.divmod(above, width)
        self._rows.append(rows)
        self._columns.append(columns + first)
        self._scores.append(scores.ravel()[above])
        if sum(map(len, self._rows)) > len(scores) * self.k // 2:
            self._sort_in()

    def result(self):
        """The columns and the scores, as of `top_k`."""
        self._sort_in()
        return self._best

    def _sort_in(self):
        if not any(map(len, self._rows)):
            return
        rows, columns, scores = map(np.concatenate, (self._rows, self._columns, self._scores))
        self._rows, self._columns, self._scores = [], [], []
        order = np.argsort(rows, kind="stable")
        rows, columns, scores = rows[order], columns[order], scores[order]
        counts = np.bincount(rows, minlength=len(self._best[0]))
        # Apart, so that a few rows with many new ones don't make room in all.
        for chosen in ((counts > 0) & (counts <= self.k), counts > self.k):
            if chosen.any():
                mine = chosen[rows]
                self._sort_in_rows(chosen, counts, rows[mine], columns[mine], scores[mine])

    def _sort_in_rows(self, chosen, counts, rows, columns, scores):
        # Beside the best so far, each row's new ones, left-aligned. Columns still ascend among
        # equal scores, so `top_k` breaks ties as it should.
        counts, rows = counts[chosen], (np.cumsum(chosen) - 1)[rows]
        place = self.k + np.arange(len(rows)) - (np.cumsum(counts) - counts)[rows]
        room = ((0, 0), (0, counts.max()))
        all_columns = np.pad(self._best[0][chosen], room)
        all_scores = np.pad(self._best[1][chosen], room, constant_values=-np.inf)
        all_columns[rows, place] = columns
        all_scores[rows, place] = scores
        kept, self._best[1][chosen] = top_k(all_scores, self.k)
        self._best[0][chosen] = np.take_along_axis(all_columns, kept, axis=1)


def _ordered(bits):
    """Turns float32 bits into int32 of the same order, in place, and back: its own inverse.

    IEEE floats are sign and magnitude, so as integers the negative ones come out reversed;
    flipping all their bits but the sign puts that right.
    """
    flip = bits >> 31
    flip &= 0x7FFFFFFF
    bits ^= flip
    return bits
