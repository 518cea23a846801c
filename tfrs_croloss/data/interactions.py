"""Reading interactions from files, and leaving out what is not to be learned from."""

import gzip
import lzma
import zlib
from pathlib import Path

import pandas as pd
import pyarrow as pa

from tfrs_croloss._typing import StrPath
from tfrs_croloss.data.columns import DataError
from tfrs_croloss.data.frames import checked_frame
from tfrs_croloss.data.parquet import PARQUET, read_parquet
from tfrs_croloss.data.text import read_delimited, read_lists

OPENERS = {".gz": gzip.open, ".xz": lzma.open}
SEPARATORS = {".csv": ",", ".tsv": "\t"}
LISTS = ".txt"


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
        if kind in PARQUET or path.is_dir():
            frame = read_parquet(path, columns)
        elif kind in SEPARATORS:
            frame = read_delimited(path, opener, SEPARATORS[kind], columns)
        elif kind == LISTS:
            frame = read_lists(path, opener, columns)
        else:
            raise DataError(
                path,
                f"unknown format {kind or 'without an ending'!r}: expected .csv, .tsv or .txt, "
                "each plain or ending in .gz or .xz, .parquet, or a folder of .parquet files",
            )
    except FileNotFoundError:
        raise DataError(path, "no such file") from None
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
    wanted = ["rating"] * (min_rating is not None)
    rows = checked_frame(frame, wanted=wanted)
    if min_rating is not None:
        rows = rows[rows["rating"] >= min_rating]
    num_liked = len(rows)
    if "time" in rows:
        rows = rows.sort_values("time", kind="stable")
    kept = rows.drop_duplicates(["user", "item"]).index.sort_values()
    counts = {"low_ratings": len(frame) - num_liked, "duplicates": num_liked - len(kept)}
    return frame.iloc[kept].reset_index(drop=True), counts
