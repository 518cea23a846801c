"""Parquet: indexes of pandas, lists, and folders of parts."""

import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tfrs_croloss.data import DataError, read_interactions

FRAME = pd.DataFrame({"user": ["a", "b"], "item": ["x", "y"], "plays": [3, 4], "when": [9.5, 2.5]})
PAIRS = {"user": ["a", "b"], "item": ["x", "y"]}


def written(path, columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def found(path, **columns):
    return read_interactions(path, **columns).to_dict("list")


@pytest.mark.parametrize("index", ["user", "item", ["user", "item"], ["when", "user"], "plays"])
def test_an_index_of_pandas_is_a_column(tmp_path, index):
    path = tmp_path / "a.parquet"
    FRAME.set_index(index).to_parquet(path)
    expected = {**PAIRS, "time": [9.5, 2.5], "rating": [3, 4]}
    assert found(path, time="when", rating="plays") == expected


def test_an_index_that_is_a_range(tmp_path):
    path = tmp_path / "a.parquet"
    FRAME[["item"]].set_index(pd.RangeIndex(5, 9, 2, name="user")).to_parquet(path)
    assert found(path) == {"user": ["5", "7"], "item": ["x", "y"]}
    # Its words outlive it where other programs change the rows.
    pq.write_table(pq.read_table(path)[:1], path)
    with pytest.raises(DataError, match="no column 'user'; there are: 'item'"):
        read_interactions(path)


def test_an_index_without_a_name_or_beside_a_column(tmp_path):
    path = tmp_path / "a.parquet"
    FRAME.set_index(pd.Index(["p", "q"])).to_parquet(path)
    assert found(path) == PAIRS
    assert found(path, user="__index_level_0__") == {**PAIRS, "user": ["p", "q"]}
    FRAME.set_index(pd.Index(["p", "q"], name="user")).to_parquet(path)
    assert found(path) == PAIRS


def test_a_column_twice(tmp_path):
    path = tmp_path / "a.parquet"
    arrays = [pa.array(["a"]), pa.array(["x"]), pa.array(["y"])]
    pq.write_table(pa.table(arrays, names=["user", "item", "item"]), path)
    with pytest.raises(DataError, match=r"a.parquet: more than one column 'item'; there are: "):
        read_interactions(path)
    pq.write_table(pa.table([*arrays, arrays[0]], names=["user", "item", "x", "x"]), path)
    assert found(path) == {"user": ["a"], "item": ["x"]}


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.int64()),
        pa.large_list(pa.string()),
        pa.list_(pa.int64(), 2),
        pa.list_view(pa.int64()),
        pa.list_(pa.string()),
    ],
)
def test_a_list_of_items_a_user(tmp_path, kind):
    values = [[1, 2], [3, 4]] if kind.value_type == pa.int64() else [["1", "2"], ["3", "4"]]
    path = written(tmp_path / "a.parquet", {"user": ["a", "b"], "item": pa.array(values, kind)})
    assert found(path) == {"user": [*"aabb"], "item": [*"1234"]}


def test_lists_with_times_and_ratings(tmp_path):
    columns = {"user": ["a", "b", "c"], "item": [["x", "y"], [], ["z"]]}
    columns |= {"t": [[5, 6], [], [7]], "plays": [1, 2, 3], "day": [10, 20, 30]}
    path = written(tmp_path / "a.parquet", columns)
    expected = {"user": [*"aac"], "item": [*"xyz"], "rating": [1, 1, 3]}
    assert found(path, time="t", rating="plays") == expected | {"time": [5, 6, 7]}
    assert found(path, time="day", rating="plays") == expected | {"time": [10, 10, 30]}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"item": [["x"], None]}, "expected a list of items in column 'item', found None in row 2"),
        ({"item": [["x", "y"], ["z", None]]}, "an id of the item .* found None in row 2"),
        ({"item": [[["x"]], [["y"]]]}, r"an id of the item.* found \['x'\] in row 1"),
        ({"item": [[1.0], [2.0]]}, "an id of the item.* found '1.0' in row 1"),
        ({"item": [[{"id": 1}], []]}, "an id of the item.* found {'id': 1} in row 1"),
        (
            {"item": [["x"], ["y", "z"]], "t": [[1], [2]]},
            r"as many values as items in column 't', found \[2\] in row 2",
        ),
        ({"item": [["x", "y"], ["z"]], "t": [1.0, None]}, "finite .* 't', found None in row 2"),
        ({"t": [[1], [2]]}, r"finite number .* 't', found \[1\] in row 1"),
    ],
)
def test_lists_that_are_refused(tmp_path, columns, message):
    path = written(tmp_path / "a.parquet", PAIRS | columns)
    with pytest.raises(DataError, match=message):
        read_interactions(path, time="t" if "t" in columns else None)


@pytest.mark.parametrize("name", ["ds", "ds.parquet", "ds.csv"])
def test_a_folder_of_parts(tmp_path, name):
    folder = tmp_path / name
    for number in (10, 0, 9):
        columns = {"user": [f"u{number}"], "item": ["x"], "other": [number]}
        written(folder / f"part-{number}.snappy.parquet", columns)
    empty = {"user": pa.array([], pa.string()), "item": pa.array([], pa.string())}
    written(folder / "part-2.parquet", empty)
    for other in ("_SUCCESS", "._SUCCESS.crc", "_metadata", ".part-0.parquet.crc"):
        (folder / other).write_bytes(b"none")
    assert found(folder) == {"user": ["u0", "u9", "u10"], "item": ["x"] * 3}


def test_partitions_are_columns_of_strings(tmp_path):
    for number, user in enumerate(("007", "a%20b")):
        columns = {"item": [f"i{number}"]}
        written(tmp_path / "ds" / f"user={user}" / f"_day=2024-01-0{number + 1}" / "0.pq", columns)
    expected = {"user": ["007", "a b"], "item": ["i0", "i1"], "time": [1704067200, 1704153600]}
    assert found(tmp_path / "ds", time="_day") == expected
    none = tmp_path / "ds" / "user=__HIVE_DEFAULT_PARTITION__" / "_day=2024-01-01" / "0.pq"
    written(none, {"item": ["x"]})
    with pytest.raises(DataError, match=f"{none.parent}.*an id of the user.* found None in row 1"):
        read_interactions(tmp_path / "ds")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("part-0.csv", "found a folder that holds other files than Parquet: part-0.csv"),
        ("sub/000000_0", "found a folder that holds other files than Parquet: sub/000000_0"),
        ("_delta_log/0.json", "found a table of Delta Lake"),
        (".hoodie/hoodie.properties", "found a table of Hudi"),
        ("_temporary/0/part-0.parquet", "left half written"),
        ("part-1.parquet", "part-1.parquet: the file is damaged or cut off"),
    ],
)
def test_folders_that_are_refused(tmp_path, name, message):
    written(tmp_path / "ds" / "part-0.parquet", PAIRS)
    (tmp_path / "ds" / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "ds" / name).write_bytes(b"none")
    with pytest.raises(DataError, match=message):
        read_interactions(tmp_path / "ds")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"user": ["a"]}, "1.parquet: no column 'item'; there are: 'user'"),
        ({"user": ["a", None], "item": ["x", "y"]}, "1.parquet: .*'user', found None in row 2"),
        ({"user": [7.0], "item": ["x"], "t": [1]}, "1.parquet: .*'user', found '7.0' in row 1"),
        (
            {"user": [7], "item": ["x"], "t": [datetime.datetime(2024, 1, 1)]},
            "ds: the files of the folder differ in the type of a column",
        ),
    ],
)
def test_an_error_in_a_folder_names_the_part(tmp_path, columns, message):
    written(tmp_path / "ds" / "0.parquet", {"user": [1, 2, 3], "item": [*"xyz"], "t": [1, 2, 3]})
    written(tmp_path / "ds" / "1.parquet", columns)
    with pytest.raises(DataError, match=message):
        read_interactions(tmp_path / "ds", time="t" if "t" in columns else None)


def test_parts_of_other_types(tmp_path):
    written(tmp_path / "ds" / "0.parquet", {"user": [1], "item": ["x"], "t": [1]})
    written(tmp_path / "ds" / "1.parquet", {"user": ["u"], "item": [b"y"], "t": [1.5]})
    assert found(tmp_path / "ds", time="t") == {
        "user": ["1", "u"],
        "item": ["x", "y"],
        "time": [1.0, 1.5],
    }


def test_a_damaged_page(tmp_path):
    numbers = np.arange(10_000)
    path = written(tmp_path / "a.parquet", {"user": numbers, "item": numbers})
    content = path.read_bytes()
    path.write_bytes(content[:500] + bytes(500) + content[1000:])
    with pytest.raises(DataError, match=r"a.parquet: the file is damaged or cut off"):
        read_interactions(path)
