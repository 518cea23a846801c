"""Reading interactions from files, with errors that say where and what was expected."""

import gzip
import lzma
import re
import warnings
import zlib
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tfrs_croloss._typing import StrPath

OPENERS = {".gz": gzip.open, ".xz": lzma.open}
SEPARATORS = {".csv": ",", ".tsv": "\t"}
PARQUET = (".parquet", ".pq")
LISTS = ".txt"


class DataError(ValueError):
    """Something in the data is not as it must be; the message says where and how to mend it."""

    def __init__(self, path: StrPath, problem: str, line: int | None = None) -> None:
        place = str(path) if line is None else f"{path}, line {line}"
        super().__init__(f"{place}: {problem}")


def read_interactions(
    path: StrPath,
    *,
    user: str = "user",
    item: str = "item",
    time: str | None = None,
    rating: str | None = None,
) -> pd.DataFrame:
    r"""Reads (user, item) pairs, with times and ratings if asked for.

    The format follows from the file's name: `.csv` and `.tsv` with a header, `.parquet`, or `.txt`
    with one user a line (`user item item …`, as in the LightGCN releases). Any but Parquet may end
    in `.gz` or `.xz`. The rows keep the order of the file; blank lines are passed over.

    Args:
        path: The file.
        user: Name of the column of user ids. Ids are strings or integers, and kept as strings.
        item: Name of the column of item ids.
        time: Name of a column to order by, numbers or ISO 8601 dates, or None. Not for `.txt`.
        rating: Name of a numeric column, or None. Not for `.txt`.

    Returns:
        A `pandas.DataFrame` with the columns `user`, `item` and, if asked for, `time`, `rating`.

    Raises:
        DataError: If the file is missing, empty or damaged, lacks a column, or holds a missing id
            or a time or rating that is no number; with the line, counted from 1 (an id with a line
            break in it counts as one line).

    Example:
    >>> import tempfile, pathlib
    >>> from tfrs_croloss.data import read_interactions
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "ratings.csv"
    >>> _ = path.write_text("who,what,stars\nann,7,5\nbob,8,3.5\n")
    >>> read_interactions(path, user="who", item="what", rating="stars")
      user item  rating
    0  ann    7     5.0
    1  bob    8     3.5
    """
    path = Path(path)
    columns = {"user": user, "item": item, "time": time, "rating": rating}
    columns = {name: column for name, column in columns.items() if column is not None}
    suffixes = [suffix.lower() for suffix in path.suffixes]
    opener = OPENERS.get(suffixes[-1] if suffixes else "", open)
    kind = suffixes[-1 if opener is open else -2] if len(suffixes) > (opener is not open) else ""
    try:
        if kind in PARQUET:
            frame = _read_parquet(path, columns)
        elif kind in SEPARATORS:
            frame = _read_delimited(path, opener, SEPARATORS[kind], columns)
        elif kind == LISTS:
            frame = _read_lists(path, opener, columns)
        else:
            raise DataError(
                path,
                f"unknown format {kind or 'without an ending'!r}: expected .csv, .tsv or .txt, "
                "each plain or ending in .gz or .xz, or .parquet",
            )
    except FileNotFoundError:
        raise DataError(path, "no such file") from None
    except IsADirectoryError:
        raise DataError(path, "expected a file, found a folder") from None
    except UnicodeDecodeError as error:
        raise DataError(path, f"expected UTF-8 text ({error})") from None
    except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError, pa.ArrowException) as error:
        raise DataError(path, f"the file is damaged or cut off ({error})") from None
    if frame.empty:
        raise DataError(path, "no interactions: expected at least one row")
    return frame


def clean(frame: pd.DataFrame, min_rating: float | None = None):
    """Leaves out low ratings, and all but the first of rows with the same user and item.

    Args:
        frame: As `read_interactions` gives it.
        min_rating: Least rating to keep, in the units of the `rating` column; None keeps all.

    Returns:
        The frame, and the number of rows left out by reason: `low_ratings`, `duplicates`. The
        first of several is the earliest where there is a time, else the first of the file.

    Example:
    >>> import pandas as pd
    >>> from tfrs_croloss.data import clean
    >>> frame = pd.DataFrame({"user": ["a", "a"], "item": ["x", "x"], "rating": [4.0, 5.0]})
    >>> clean(frame, min_rating=3)[1]
    {'low_ratings': 0, 'duplicates': 1}
    """
    num_rows = len(frame)
    if min_rating is not None:
        frame = frame[frame["rating"] >= min_rating]
    num_liked = len(frame)
    if "time" in frame:
        frame = frame.sort_values("time", kind="stable")
    frame = frame.drop_duplicates(["user", "item"]).sort_index()
    counts = {"low_ratings": num_rows - num_liked, "duplicates": num_liked - len(frame)}
    return frame.reset_index(drop=True), counts


def _read_delimited(path, opener, separator, columns):
    with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
        try:
            # Strings first: a wrong number is then found with its line, "007" stays "007" and
            # a user called "NA" stays a user.
            with warnings.catch_warnings(category=pd.errors.ParserWarning, action="error"):
                frame = pd.read_csv(
                    file,
                    sep=separator,
                    dtype=str,
                    keep_default_na=False,
                    skip_blank_lines=False,
                    index_col=False,
                )
        except pd.errors.EmptyDataError:
            raise DataError(path, "the file is empty: expected a header and rows") from None
        except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
            raise DataError(path, f"expected as many fields as the header has ({error})") from None
    _check_columns(path, columns, list(frame.columns), line=1)
    frame = frame[~(frame.isna() | (frame == "")).all(axis=1)]
    return _checked(path, frame, columns, first_line=2)


def _read_parquet(path, columns):
    # The schema first: a missing column should not cost the reading of the others.
    _check_columns(path, columns, pq.read_schema(path).names)
    frame = pd.read_parquet(path, columns=list(dict.fromkeys(columns.values())))
    return _checked(path, frame, columns, first_line=1, unit="row")


def _read_lists(path, opener, columns):
    for name in ("time", "rating"):
        if name in columns:
            raise DataError(path, f"a .txt of lists has no {name} column; leave {name} out")
    with opener(path, "rt", encoding="utf-8-sig") as file:
        lines = pc.utf8_trim_whitespace(pa.array(file.read().splitlines(), pa.string()))
    tokens = pc.utf8_split_whitespace(lines.filter(pc.not_equal(lines, "")))
    items = pc.list_slice(tokens, 1)
    users = pc.take(pc.list_element(tokens, 0), pc.list_parent_indices(items))
    return pd.DataFrame({"user": users.to_pandas(), "item": pc.list_flatten(items).to_pandas()})


def _check_columns(path, columns, found, line=None):
    for name, column in columns.items():
        if column not in found:
            raise DataError(
                path,
                f"no column {column!r} for the {name}; the file has: {', '.join(found)}. "
                f"Say which it is with the option `{name}`",
                line=line,
            )


def _checked(path, frame, columns, first_line, unit="line"):
    """The wanted columns under their common names: ids as strings, the others as numbers."""

    def refuse(bad, expected):
        row = bad.to_numpy().argmax()
        place, found = source.index[row] + first_line, source.iloc[row]
        problem = f"expected {expected} in column {column!r}, found {found!r}"
        if unit == "line":
            raise DataError(path, problem + fix, line=place)
        raise DataError(path, f"{problem} in row {place}{fix}")

    checked = {}
    for name, column in columns.items():
        source, fix = frame[column], ""
        if name in ("user", "item"):
            checked[name] = source.astype("str")
            bad = source.isna() | (checked[name] == "")
            expected = f"an id of the {name}"
            # As a string 1.0 would be another id than 1.
            if not bad.any() and _are_floats(source):
                bad, expected = source.notna(), f"{expected}, a string or an integer,"
                fix = ". A missing id makes floats of pandas's integers: .astype('Int64')"
        else:
            checked[name] = _times(source) if name == "time" else _numbers(source)
            bad = source.isna() | ~(checked[name].astype("float64").abs() < float("inf"))
            expected = "a finite number" + (" or an ISO 8601 date" if name == "time" else "")
        if bad.any():
            refuse(bad, expected)
    return pd.DataFrame(checked).reset_index(drop=True)


def _are_floats(ids):
    """Whether all ids are floats, or texts such as 1.0 and 23.0."""
    is_float = re.compile(r"-?[0-9]+\.0").fullmatch
    # It ends at the first that is none, which is mostly the first of all.
    return pd.api.types.is_float_dtype(ids) or all(is_float(str(x)) for x in ids)


def _numbers(source):
    return pd.to_numeric(source, errors="coerce")


def _times(source):
    times = _numbers(source)
    if times.notna().all():
        return times
    dates = pd.to_datetime(source, errors="coerce", format="ISO8601", utc=True)
    seconds = (dates - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(seconds=1)
    # Where neither fits every row, the one that fits more says which row is wrong.
    return times if times.count() >= seconds.count() else seconds
