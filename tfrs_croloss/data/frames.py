"""Checks a caller's DataFrame as the readers check a file."""

import numbers

import pandas as pd
import pyarrow as pa

from tfrs_croloss.data.columns import DataError, as_text, checked, find_columns


def checked_frame(frame, name="frame", wanted=()):
    """Users, items and times of a frame as the readers give them: ids as strings, times as numbers.

    Args:
        frame: A frame with the columns `user` and `item`, and maybe `time`.
        name: What the caller calls it, for the messages.
        wanted: Columns that it must have besides.

    Returns:
        A new frame of these columns, its rows in the order of `frame`, numbered from 0.

    Raises:
        DataError: If a column is missing or is there twice, or a row holds no id or no time; with
            the row, counted from 1; or if `time` is the index.
        TypeError: If it is no DataFrame.
    """
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(f"`{name}` must be a pandas DataFrame. Received: {type(frame).__name__}")
    # Times in the index are refused: without them the order would be that of the rows.
    has_times = "time" in frame or "time" in frame.index.names
    columns = ["user", "item", *wanted] + ["time"] * has_times
    find_columns(f"`{name}`", _fixes(frame, columns), list(frame.columns))

    refuse = _refuse_in(name)
    arrays = {column: _arrow(frame[column], column, refuse) for column in columns}
    for kind in ("user", "item"):
        arrays[kind] = as_text(arrays[kind], kind, kind, refuse)
    return checked(arrays, {column: column for column in columns}, refuse)


def checked_ids(values, kind, name):
    """Ids as a series of strings; errors as `checked_frame`'s.

    Args:
        values: A sequence.
        kind: `user` or `item`.
        name: What the caller calls it.
    """
    series, refuse = pd.Series(values, name=kind), _refuse_in(name)
    text = as_text(_arrow(series, kind, refuse), kind, kind, refuse)
    return checked({kind: text}, {kind: kind}, refuse)[kind]


def _refuse_in(name):
    def refuse(row, problem, fix=""):
        raise DataError(f"`{name}`", f"{problem} in row {row + 1} (`.iloc[{row}]`){fix}")

    return refuse


def _fixes(frame, columns):
    return {
        column: "It is the frame's index: .reset_index()"
        if column in frame.index.names
        else f"Rename one: .rename(columns={{…: {column!r}}})"
        for column in columns
    }


def _arrow(series, column, refuse):
    try:
        return pa.Array.from_pandas(series)
    except (pa.ArrowException, OverflowError):
        # "7" and 7 in one column, as pandas's chunks of a large CSV may leave it; or 128 bits.
        return pa.array([_text(x, row, column, refuse) for row, x in enumerate(series)])


def _text(value, row, column, refuse):
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if isinstance(value, str) or is_number:
        return str(value) if value == value else None
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return None
    refuse(row, f"expected a string or a number in column {column!r}, found {value!r}")
