"""Reading Parquet: a file, or a folder of parts as Spark, Dask and pandas write them."""

import re
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tfrs_croloss.data.columns import (
    DAMAGED,
    TEXT,
    DataError,
    as_text,
    checked,
    find_columns,
    options,
)

PARQUET = (".parquet", ".pq")
# Beside them the parts are not the rows: of these tables some files are old versions.
NO_PARTS = {
    "_delta_log": "a table of Delta Lake: write its rows to Parquet with what reads such tables",
    ".hoodie": "a table of Hudi: write its rows to Parquet with what reads such tables",
    "_temporary": "a folder that is still written, or that was left half written: write it again",
}
NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"


def read_parquet(path, columns):
    """The columns of a file, or of all files below a folder one after the other."""
    parts = [(path, {})]
    if path.is_dir():
        parts = [(part, _partition(part.relative_to(path))) for part in _parts(path)]
    tables, rows = [], []
    for part, partition in parts:
        try:
            table, rows_of_part = _read_part(part, partition, columns)
        except (pa.ArrowException, OSError) as error:
            if getattr(error, "errno", None):  # It is the system's: no such file, e.g.
                raise
            raise DataError(part, f"{DAMAGED} ({error})") from None
        tables.append(table)
        rows.append(rows_of_part)
    starts = np.cumsum([0, *map(len, tables)])

    def refuse(row, problem, fix=""):
        part = np.searchsorted(starts, row, "right") - 1
        _refuse_row(parts[part][0], rows[part][row - starts[part]], problem, fix)

    try:
        table = pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        problem = f"the files of the folder differ in the type of a column ({error})"
        raise DataError(path, problem) from None
    return checked(dict(zip(table.column_names, table.columns, strict=True)), columns, refuse)


def _refuse_row(path, row, problem, fix=""):
    raise DataError(path, f"{problem} in row {row + 1}{fix}")


def _parts(path):
    """The Parquet files below a folder, part-10 after part-9."""
    for name, what in NO_PARTS.items():
        if (path / name).exists():
            raise DataError(path, f"expected a file or a folder of Parquet files, found {what}")
    files = [
        file
        for file in path.rglob("*")
        if file.is_file() and not any(map(_is_hidden, file.relative_to(path).parts))
    ]
    for file in files:
        if file.suffix.lower() not in PARQUET:
            problem = "expected a file, found a folder that holds other files than Parquet"
            raise DataError(path, f"{problem}: {file.relative_to(path)}")
    if not files:
        raise DataError(path, "expected a file, found a folder without Parquet files")
    return sorted(files, key=_natural)


def _is_hidden(name):
    """As Spark has it: what is not data, such as _SUCCESS and the files of checksums."""
    return name.startswith(".") or (name.startswith("_") and "=" not in name)


def _natural(path):
    return [int(x) if x.isdecimal() else x for x in re.split("([0-9]+)", str(path))]


def _partition(path):
    """Names and values that stand in the folders' names, as in day=7/part-0.parquet."""
    pairs = (folder.split("=", 1) for folder in path.parts[:-1] if "=" in folder)
    values = {unquote(name): unquote(value) for name, value in pairs}
    return {name: None if value == NULL_PARTITION else value for name, value in values.items()}


def _read_part(path, partition, columns):
    """A table of the columns under our names, ids as text, and the row that each row stands in."""
    # Some years are beyond nanoseconds, in which int96 would be read.
    with pq.ParquetFile(path, coerce_int96_timestamp_unit="us") as file:
        indexes = _range_indexes(file)
        stored = file.schema_arrow.names
        others = {**partition, **indexes}
        found = stored + [name for name in others if name not in stored]
        find_columns(path, options(columns), found)
        table = file.read([column for column in columns.values() if column in stored])
        num_rows = file.metadata.num_rows
    arrays = {}
    for name, column in columns.items():
        if column in stored:
            arrays[name] = table[column]
        elif column in indexes:
            arrays[name] = pa.array(indexes[column])
        else:
            arrays[name] = pa.array([partition[column]], TEXT).take(np.zeros(num_rows, int))
    rows = np.arange(num_rows)

    def refuse(row, problem, fix=""):
        _refuse_row(path, rows[row], problem, fix)

    if _is_list(arrays["item"].type):
        arrays, rows = _exploded(arrays, columns, refuse)
    for name in ("user", "item"):
        arrays[name] = as_text(arrays[name], name, columns[name], refuse)
    return pa.table(arrays), rows


def _range_indexes(file):
    """Indexes of pandas that are kept as a range, by name: they are no column of the file."""
    levels = (file.schema_arrow.pandas_metadata or {}).get("index_columns", [])
    levels = [level for level in levels if isinstance(level, dict) and level.get("name")]
    ranges = {
        level["name"]: range(level["start"], level["stop"], level["step"]) for level in levels
    }
    # Other programs keep the words about it, and change the rows.
    return {name: x for name, x in ranges.items() if len(x) == file.metadata.num_rows}


def _is_list(kind):
    is_kind = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(
        fits(kind) for fits in (*is_kind, pa.types.is_list_view, pa.types.is_large_list_view)
    )


def _exploded(arrays, columns, refuse):
    """A row for each item of the lists; the other columns are lists alike, or as they are."""
    arrays = {name: pa.chunked_array(array).combine_chunks() for name, array in arrays.items()}
    lists, label = arrays["item"], columns["item"]
    if lists.null_count:
        row = pc.index(lists.is_null(), True).as_py()
        refuse(row, f"expected a list of items in column {label!r}, found None")
    rows, lengths = pc.list_parent_indices(lists), pc.list_value_length(lists)
    exploded = {}
    for name, array in arrays.items():
        if not _is_list(array.type):
            exploded[name] = array.take(rows)
            continue
        is_other = pc.not_equal(pc.fill_null(pc.list_value_length(array), -1), lengths)
        row = pc.index(is_other, True).as_py()
        if row >= 0:
            found = f"found {array[row].as_py()!r}"
            refuse(row, f"expected as many values as items in column {columns[name]!r}, {found}")
        exploded[name] = pc.list_flatten(array)
    return exploded, rows.to_numpy()
