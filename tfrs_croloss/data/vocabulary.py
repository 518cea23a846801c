"""Ids of users or items, and their positions, counted from 0."""

import numbers
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
        ValueError: If an id comes twice, or is the padding; or is neither a string nor an
            integer.

    Example:
    >>> import pandas as pd
    >>> from tfrs_croloss.data import Vocabulary
    >>> movies = Vocabulary.of(pd.Series([31, 1029, 31]))
    >>> movies.encode(["1029", 31, "x"])
    array([ 1,  0, -1])
    >>> movies.decode([1, 0, -1])
    array([1029,   31,   -1])
    """

    def __init__(self, ids: Any) -> None:
        self._index = pd.Index(_as_strings("ids", ids))
        if self._index.has_duplicates:
            raise ValueError(
                "`ids` must be distinct. Received twice: "
                f"{self._index[self._index.duplicated()][0]!r}"
            )
        numbers = pd.to_numeric(self._index, errors="coerce")
        is_integer = numbers.dtype.kind == "i" and (numbers.astype("str") == self._index).all()
        ids = (numbers if is_integer else self._index.astype(object)).to_numpy()
        self.padding = -1 if is_integer else ""
        if str(self.padding) in self._index:
            raise ValueError(f"`ids` must not hold {self.padding!r}: it pads lists of ids")
        # The last of all, it is what position -1 finds.
        self._ids_and_padding = np.append(ids, np.array(self.padding, ids.dtype))
        self.ids = self._ids_and_padding[:-1]

    @classmethod
    def of(cls, values):
        """The vocabulary of the distinct values, in the order of their first appearance."""
        return cls(_as_strings("values", values).unique())

    def __len__(self):
        return len(self.ids)

    def encode(self, values):
        """Positions of ids, as int64; one that is missing or not among `ids` has the position -1.

        Raises:
            ValueError: If a value is no string, no integer and not missing.
        """
        strings = _as_strings("values", values, may_miss=True)
        return self._index.get_indexer(strings).astype(np.int64)

    def decode(self, positions):
        """Ids at positions, in an array of the same shape; at -1 the padding.

        So what `Index.search` fills up with, and what `encode` gives unknown ids, is no id here
        either, as in the answers of an export.

        Raises:
            ValueError: If a position is neither -1 nor one of the ids'.
        """
        positions = np.asarray(positions)
        if not positions.size:
            return self.ids[:0].reshape(positions.shape)
        if positions.dtype.kind not in "iu":
            raise ValueError(f"`positions` must be integers. Received: {positions.dtype}")
        wrong = (positions < -1) | (positions >= len(self))
        if wrong.any():
            raise ValueError(
                f"`positions` must be from 0 to {len(self) - 1}, or -1 for the padding. Received: "
                f"{positions[wrong].flat[0]}"
            )
        return self._ids_and_padding[positions]


def _as_strings(name, values, may_miss=False):
    series = pd.Series(values)
    ids = series.dropna() if may_miss else series
    is_kind = (pd.api.types.is_integer_dtype, pd.api.types.is_string_dtype)
    if ids.hasnans or not any(fits(ids) for fits in is_kind):
        for value in ids:
            _check_id(name, value, series.dtype)
    return series.astype("str")


def _check_id(name, value, dtype):
    if isinstance(value, str | numbers.Integral) and not isinstance(value, bool):
        return
    fix = ""
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        fix = (
            ". A missing id makes floats of integers: keep them integers where they are read, in "
            "pandas with .astype('Int64')"
        )
    raise ValueError(f"`{name}` must be strings or integers. Received: {value!r}, of {dtype}{fix}")
