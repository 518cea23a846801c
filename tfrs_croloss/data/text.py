"""Reading .csv and .tsv with a header, and .txt of lists, with the line of whatever is wrong."""

import contextlib
import csv
import io
import itertools
import sys

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from tfrs_croloss.data.blocks import blocks, count_lines, quoted_well, stream, trimmed
from tfrs_croloss.data.columns import TEXT, DataError, checked, find_columns, options

ROWS_AT_ONCE = 2**16
NO_LISTS = (
    "A .txt has a line `user item item …` for each user; a table with a header is a .csv or a .tsv"
)


class _Irregular(Exception):
    """A file that the fast parser does not read as it is to be read."""


def read_delimited(path, opener, separator, columns):
    """The columns of a .csv, quoted as RFC 4180 has it, or of a .tsv, which has no quoting.

    Arrow's parser is fast and knows no lines; Python's knows them, and takes all that is to be
    taken. So the second reads the file where the first finds anything out of the ordinary.
    """
    with _fields_of_any_size(), opener(path, "rb") as file:
        rows = _rows(path, file, separator)
        _, header_end, header = next(rows, (0, 0, None))
        if header is None:
            raise DataError(path, "the file is empty: expected a header and rows")
        find_columns(path, options(columns), header, line=header_end)
        places = [header.index(column) for column in columns.values()]
        try:
            with opener(path, "rb") as again:
                arrays = _parsed(path, again, separator, len(header), header_end, places)
            return checked(dict(zip(columns, arrays, strict=True)), columns, _irregular)
        except (_Irregular, DataError, pa.ArrowInvalid):
            lines, arrays = _read_slowly(path, rows, len(header), places)

        def refuse(row, problem, fix=""):
            raise DataError(path, problem + fix, line=int(lines[row]))

        return checked(dict(zip(columns, arrays, strict=True)), columns, refuse)


def _irregular(*_):
    raise _Irregular


@contextlib.contextmanager
def _fields_of_any_size():
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _parsed(path, file, separator, num_columns, header_end, places):
    """The columns at these places, as Arrow's parser finds them."""
    has_quotes = False

    def watched(numbered):
        nonlocal has_quotes
        for line, block in numbered:
            has_quotes |= b'"' in block
            yield line, block

    names = [str(place) for place in range(num_columns)]
    wanted = [names[place] for place in places]
    table = pyarrow.csv.read_csv(
        stream(quoted_well(path, watched(blocks(path, file)), separator)),
        pyarrow.csv.ReadOptions(column_names=names, skip_rows=header_end),
        pyarrow.csv.ParseOptions(
            delimiter=separator,
            quote_char='"' if separator == "," else False,
            newlines_in_values=separator == ",",
        ),
        pyarrow.csv.ConvertOptions(
            include_columns=list(dict.fromkeys(wanted)),
            column_types=dict.fromkeys(wanted, TEXT),
            check_utf8=False,  # It is: `blocks` has seen it.
        ),
    )
    arrays = [table[name] for name in wanted]
    bare = [pc.ascii_trim(array, " \t") for array in arrays]
    # Blanks in quotes belong to the field, and only the other parser knows which these are.
    if has_quotes and separator == "," and bare != arrays:
        _irregular()
    return bare


def _read_slowly(path, rows, num_columns, places):
    """The lines of the rows, and the columns at these places: what a row lacks is empty."""
    lines, chunks = [], [[] for _ in places]
    while some := list(itertools.islice(rows, ROWS_AT_ONCE)):
        for line, _, fields in some:
            if len(fields) > num_columns:
                problem = f"expected as many fields as the header has, {num_columns}"
                raise DataError(path, f"{problem}; found {len(fields)}", line)
            fields += [""] * (num_columns - len(fields))
        lines.append(np.array([line for line, _, _ in some]))
        for place, chunk in zip(places, chunks, strict=True):
            chunk.append(pa.array([fields[place] for _, _, fields in some], TEXT))
    return np.concatenate([np.empty(0, int), *lines]), [
        pa.chunked_array(chunk, TEXT) for chunk in chunks
    ]


def _rows(path, file, separator):
    """Each row that is not blank: its first and last line, and its fields."""
    checked_blocks = quoted_well(path, trimmed(blocks(path, file), separator), separator)
    text = io.TextIOWrapper(stream(checked_blocks), encoding="utf-8", newline="")
    quoting = csv.QUOTE_MINIMAL if separator == "," else csv.QUOTE_NONE
    reader = csv.reader(text, delimiter=separator, quoting=quoting, strict=True)
    end = 0
    for fields in reader:
        start, end = end + 1, reader.line_num
        if any(fields):
            yield start, end, fields


def read_lists(path, opener, columns):
    """Users and items of lines `user item item …`."""
    for name in ("time", "rating"):
        if name in columns:
            raise DataError(path, f"a .txt of lists has no {name} column; leave {name} out")
    users, items, lines = [], [], [np.empty(0, int)]
    with opener(path, "rb") as file:
        for first_line, block in blocks(path, file):
            if b"\t" in block:
                line = first_line + count_lines(block[: block.index(b"\t")])
                raise DataError(path, f"expected spaces between ids, found a tab. {NO_LISTS}", line)
            text = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
            text = pc.ascii_trim_whitespace(pa.array(text, TEXT))
            tokens = pc.ascii_split_whitespace(text)
            of_users = pc.list_slice(tokens, 1)
            parents = pc.list_parent_indices(of_users)
            users.append(pc.take(pc.list_element(tokens, 0), parents))
            items.append(pc.list_flatten(of_users))
            lines.append(first_line + parents.to_numpy())
    lines = np.concatenate(lines)

    def refuse(row, problem, fix=""):
        raise DataError(path, problem + fix, int(lines[row]))

    users, items = (pa.chunked_array(arrays, TEXT) for arrays in (users, items))
    for ids in (users, items):
        comma = pc.index(pc.match_substring(ids, ","), True).as_py()
        if comma >= 0:
            refuse(comma, f"expected spaces between ids, found {ids[comma].as_py()!r}. {NO_LISTS}")
    if not len(users):
        raise DataError(path, f"no interactions: expected at least one row. {NO_LISTS}")
    return checked({"user": users, "item": items}, {"user": "user", "item": "item"}, refuse)
