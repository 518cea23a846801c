"""Reading interactions from files, and leaving out what is not to be learned from."""

import gzip
import lzma
import zlib
from pathlib import Path

import pandas as pd
import pyarrow as pa

from tfrs_croloss._typing import StrPath
from tfrs_croloss.data.columns import DAMAGED, DataError
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

    The format follows from the file's name, and only the columns asked for are kept:

    - `.csv`: a header, and fields between commas, quoted as RFC 4180 has it. A quote elsewhere is
      an error. Blanks around a field are left out, those in quotes kept.
    - `.tsv`: a header, and fields between tabs. There is no quoting: a quote is a character like
      any other. Blanks around a field are left out.
    - `.txt`: a line for each user, `user item item …` with spaces between, as in the LightGCN
      releases. Ids with a comma are refused: such lines are a `.csv`'s.
    - `.parquet` or `.pq`: a file, or a folder of any name that holds such files: the parts that
      Spark, Dask or pandas write. They are read in the order of their names, part-10 after part-9;
      what a folder's name says (`day=7`) is a column of strings. An index of pandas is a column. A
      list of items is a row for each of them, with the row's time and rating, or with those of
      lists as long.

    Text is UTF-8, and may be packed: `.csv.gz`, `.csv.xz`. The rows keep the order of the file.
    Rows without anything in any field are passed over.

    Args:
        path: The file or folder.
        user: Name of the column of user ids. Ids are strings or integers, and kept as strings.
        item: Name of the column of item ids.
        time: Name of a column to order by, or None: numbers, or dates as in ISO 8601, which become
            seconds since 1970 (UTC where they have no zone). Not for `.txt`.
        rating: Name of a numeric column, or None. Not for `.txt`.

    Returns:
        A `pandas.DataFrame` with the columns `user`, `item` and, if asked for, `time`, `rating`.

    Raises:
        DataError: If the file is missing, empty, damaged, not UTF-8 or not of its format, if it
            lacks a column or has it twice, or if a row holds no id, or a time or rating that is no
            number; with the line or the row, counted from 1. Ids that are all whole numbers, and
            some of them written as floats (1.0, 1e5), are refused: a missing id makes floats of
            integers, and large ones are then no longer told apart. With one such as 1.1 or a7e3
            among them they are names.

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
        elif not path.exists():
            raise FileNotFoundError
        else:
            found = f" {kind!r}" if kind else ", for the name has no ending"
            raise DataError(
                path,
                f"unknown format{found}: expected .csv, .tsv or .txt, "
                "each plain or ending in .gz or .xz, .parquet, or a folder of .parquet files",
            )
    except FileNotFoundError:
        raise DataError(path, "no such file or folder") from None
    except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError, pa.ArrowException) as error:
        raise DataError(path, f"{DAMAGED} ({error})") from None
    if frame.empty:
        raise DataError(path, "no interactions: expected at least one row")
    return frame


def clean(frame: pd.DataFrame, min_rating: float | None = None):
    """Leaves out low ratings, and all but the first of rows with the same user and item.

    Args:
        frame: As `read_interactions` gives it, or one of one's own with the columns `user` and
            `item`, and maybe `time` and `rating`. Its index does not matter.
        min_rating: Least rating to keep, in the units of the `rating` column; None keeps all.

    Returns:
        The frame, its rows in the order they came in, and the number of rows left out by reason:
        `low_ratings`, `duplicates`. The first of several is the earliest where there is a time,
        else the first of the frame.

    Raises:
        DataError: If the frame lacks a column or has it twice, or a row holds what the readers
            would refuse.

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
