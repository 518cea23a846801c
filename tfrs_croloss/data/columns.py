"""Columns of ids, times and numbers: what is taken as such, and which row is not.

Files and frames of one's own pass the same checks, on Arrow's columns. What is wrong goes to a
function `refuse(row, problem, fix="")`, which knows the place of a row, counted from 0, and raises
`DataError`.
"""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tfrs_croloss._typing import StrPath

TEXT = pa.large_string()
UNITS_A_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
# A number, or what programs write where one is missing.
NUMBER_OR_NONE = (
    r"^([+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?|(?i:nan|na|n/a|<na>|null|none))$"
)
DAMAGED = "the file is damaged or cut off"
FLOATS_FIX = (
    ". A missing id makes floats of integers, and large ones lose their last digits: keep them "
    "integers where they are written, in pandas with .astype('Int64')"
)
# As Python and NumPy print them; a name in brackets, alone, may be a name.
COLLECTION = r"(?s)^(\[.*\]|\(.*\)|\{.*\})$"
SEVERAL_OR_QUOTED = r"""[\s,:'"]"""
LISTS_FIX = ". Write a row for each of its items, in pandas with .explode(…) before it is written"


class DataError(ValueError):
    """Something in the data is not as it must be; the message says where and how to mend it."""

    def __init__(self, path: StrPath, problem: str, line: int | None = None) -> None:
        place = str(path) if line is None else f"{path}, line {line}"
        super().__init__(f"{place}: {problem}")


def find_columns(place, fixes, found, line=None):
    """Refuses a file or a frame that lacks a column, or has it twice.

    Args:
        place: The file, or what the caller calls the frame.
        fixes: A dict from the columns that it must have to what to do where one is missing.
        found: The names of all that it has.
        line: Line of a file's header, where there is one.
    """
    for column, fix in fixes.items():
        count = found.count(column)
        if count != 1:
            problem = f"{'more than one' if count else 'no'} column {column!r}"
            listed = ", ".join(map(repr, found))
            fix = "Rename the others" if count else fix
            raise DataError(place, f"{problem}; there are: {listed}. {fix}", line)


def options(columns):
    """The fixes of a reader, whose options are names such as `user` of the file's columns."""
    return {column: f"Say which it is with the option `{name}`" for name, column in columns.items()}


def checked(columns, labels, refuse):
    """The columns as a frame: ids as strings, the others as numbers.

    Args:
        columns: A dict from `user`, `item`, `time` and `rating` to columns of Arrow, the ids as
            `as_text` gives them.
        labels: The names that the columns have where they come from, for the messages.
        refuse: As above.
    """
    frame = {}
    for name, column in columns.items():
        if name in ("user", "item"):
            _check_ids(column, name, labels[name], refuse)
            frame[name] = column.to_pandas()
        else:
            frame[name] = _as_numbers(column, name, labels[name], refuse)
    return pd.DataFrame(frame)


def as_text(column, name, label, refuse):
    """A column of ids as strings, missing ones null.

    It refuses types that have no unique spelling as an id.
    """
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    kind = column.type
    if pa.types.is_floating(kind):
        # As a text file has them: 2.0 and not 2.
        return pa.array(column.to_pandas().astype("str"), TEXT, from_pandas=True)
    if _is_text(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind):
        return column.cast(TEXT)
    if _is_binary(kind):
        return _decoded(column, label, refuse)
    if isinstance(kind, pa.UuidType):
        return pa.array([None if x is None else str(x) for x in column.to_pylist()], TEXT)
    if pa.types.is_null(kind) or not len(column):
        return pa.nulls(len(column), TEXT)
    _refuse_kind(column, f"an id of the {name}, a string or an integer,", label, refuse)


def _is_text(kind):
    is_kind = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(fits(kind) for fits in is_kind)


def _is_binary(kind):
    is_kind = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    return any(fits(kind) for fits in (*is_kind, pa.types.is_binary_view))


def _decoded(column, label, refuse):
    """Strings that were written as bytes."""
    try:
        return column.cast(pa.large_binary()).cast(TEXT)
    except pa.ArrowInvalid:
        for row, value in enumerate(column.to_pylist()):
            try:
                bytes.decode(value or b"")
            except UnicodeDecodeError:
                refuse(row, f"expected UTF-8 text in column {label!r}, found {value!r}")
        raise


def _refuse_kind(column, expected, label, refuse):
    row = max(pc.index(column.is_valid(), True).as_py(), 0)
    problem = f"expected {expected} in column {label!r}, found {column[row].as_py()!r}"
    refuse(row, problem, f". The column's type is {column.type}")


def _check_ids(text, name, label, refuse):
    expected = f"expected an id of the {name}"
    missing = pc.equal(pc.fill_null(text, ""), "")
    for row, what, fix in (
        (pc.index(missing, True).as_py(), "", ""),
        (_first_float(text), ", a string or an integer,", FLOATS_FIX),
        (_first_list(text), ", and not the print of a list,", LISTS_FIX),
    ):
        if row >= 0:
            found = text[row].as_py()
            refuse(row, f"{expected}{what} in column {label!r}, found {found!r}", fix)


def _first_list(text):
    """The row of the first with several elements or a quote, where all are prints of lists."""
    # The first that is a name ends it, which is mostly the first of all.
    for some in (text[:1], text):
        if not pc.all(pc.match_substring_regex(some, COLLECTION)).as_py():
            return -1
    return pc.index(pc.match_substring_regex(text, SEVERAL_OR_QUOTED), True).as_py()


def _first_float(text):
    """The row of the first float among ids that are all whole numbers; -1 without one.

    Where any id is something else, such as 1.1 or a7e3, they are names.
    """
    others = text.filter(pc.invert(pc.ascii_is_decimal(text)))
    # The first that is a name ends it, which is mostly the first of all.
    for some in (others[:1], others):
        if not len(some) or not pc.all(pc.match_substring_regex(some, NUMBER_OR_NONE)).as_py():
            return -1
    numbers = pd.to_numeric(others.to_pandas(), errors="coerce").dropna().astype("float64")
    if not (numbers % 1 == 0).all():
        return -1
    return pc.index(pc.match_substring_regex(text, r"\.|[0-9][eE]"), True).as_py()


def _as_numbers(column, name, label, refuse):
    """A column of numbers or, for times, of dates as well: these as seconds since 1970."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    expected = "a finite number" + (" or an ISO 8601 date" if name == "time" else "")
    kind = column.type
    if _is_text(kind):
        parsed = _numbers_of_text(column, may_be_dates=name == "time")
    elif name == "time" and _is_date(kind):
        parsed = _seconds(column)
    elif (
        pa.types.is_decimal(kind)
        or pa.types.is_null(kind)
        or (name == "rating" and pa.types.is_boolean(kind))
    ):
        parsed = column.cast(pa.float64()).to_pandas()
    elif pa.types.is_integer(kind) or pa.types.is_floating(kind):
        parsed = column.to_pandas()
    else:
        _refuse_kind(column, expected, label, refuse)
    bad = ~np.isfinite(parsed.to_numpy("float64", na_value=np.nan))
    if bad.any():
        row = int(bad.argmax())
        found = column[row].as_py()
        refuse(row, f"expected {expected} in column {label!r}, found {found!r}")
    return parsed


def _is_date(kind):
    is_kind = (pa.types.is_date, pa.types.is_timestamp, pa.types.is_duration)
    return any(fits(kind) for fits in is_kind)


def _seconds(column):
    """Dates as they are stored: in nanoseconds they would end in 2262."""
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("s"))
    counts = column.cast(pa.int64()).to_pandas()
    return counts / UNITS_A_SECOND[column.type.unit]


def _numbers_of_text(column, may_be_dates):
    # Arrow takes 0x10 for 16; no other format here has such.
    column = pc.if_else(pc.match_substring(column, "x", ignore_case=True), None, column)
    for kind in (pa.int64(), pa.float64()):
        try:
            return column.cast(kind).to_pandas()
        except pa.ArrowInvalid:
            pass
    text = column.to_pandas()
    dates = _seconds_of_text(text) if may_be_dates else None
    if dates is not None and dates.notna().all():
        return dates
    numbers = pd.to_numeric(text, errors="coerce")
    # Where neither fits every row, the one that fits more says which row is wrong.
    return numbers if dates is None or numbers.count() >= dates.count() else dates


def _seconds_of_text(text):
    # Digits beyond microseconds are dropped: with them the years would end in 2262. And "now" is a
    # date to pandas.
    text = text.where(text.str.match("[0-9]")).str.replace(r"(\.\d{6})\d+", r"\1", regex=True)
    dates = pd.to_datetime(text, errors="coerce", format="ISO8601", utc=True)
    return (dates - pd.Timestamp("1970-01-01", tz="UTC")) / pd.Timedelta(seconds=1)
