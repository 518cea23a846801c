"""Ids of users or items, and their positions, counted from 0."""

from typing import Any

import numpy as np
import pandas as pd


class Vocabulary:
    """Ids and their positions.

    Ids that are all integers are given back as integers, others as strings: "7" and 7 are one id,
    "007" is another.

    Args:
        ids: Distinct ids, in the order of their positions.

    Attributes:
        ids: The ids, int64 or strings.
        padding: What stands for no id where lists of ids are padded: -1 or "".

    Raises:
        ValueError: If an id comes twice, or is the padding.

    Example:
    >>> import pandas as pd
    >>> from tfrs_croloss.data import Vocabulary
    >>> movies = Vocabulary.of(pd.Series([31, 1029, 31]))
    >>> movies.encode(["1029", 31, "x"])
    array([ 1,  0, -1])
    >>> movies.decode([1, 0])
    array([1029,   31])
    """

    def __init__(self, ids: Any) -> None:
        self._index = pd.Index(_as_strings(ids))
        if self._index.has_duplicates:
            raise ValueError(
                "`ids` must be distinct. Received twice: "
                f"{self._index[self._index.duplicated()][0]!r}"
            )
        numbers = pd.to_numeric(self._index, errors="coerce")
        is_integer = numbers.dtype.kind == "i" and (numbers.astype("str") == self._index).all()
        self.ids = (numbers if is_integer else self._index.astype(object)).to_numpy()
        self.padding = -1 if is_integer else ""
        if str(self.padding) in self._index:
            raise ValueError(f"`ids` must not hold {self.padding!r}: it pads lists of ids")

    @classmethod
    def of(cls, values):
        """The vocabulary of the distinct values, in the order of their first appearance."""
        return cls(_as_strings(values).unique())

    def __len__(self):
        return len(self.ids)

    def encode(self, values):
        """Positions of ids, -1 for unknown ones, as int64."""
        return self._index.get_indexer(_as_strings(values)).astype(np.int64)

    def decode(self, positions):
        """Ids at positions, in an array of the same shape."""
        return self.ids[np.asarray(positions)]


def _as_strings(values):
    return pd.Series(values).astype("str")
