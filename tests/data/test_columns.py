"""What a column may hold, in a file, in Parquet and in a frame of one's own."""

import datetime
import re
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tfrs_croloss.data import (
    DataError,
    Split,
    clean,
    encode,
    hold_out,
    read_interactions,
    split_interactions,
    split_users,
)


def of_csv(folder, **columns):
    """Reads a .csv of these texts."""
    path, columns = folder / "a.csv", {"user": ["a", "b"], "item": ["x", "y"]} | columns
    rows = [",".join(row) for row in [list(columns), *zip(*columns.values(), strict=True)]]
    path.write_text("\n".join(rows) + "\n")
    return read_interactions(path, time="time" if "time" in columns else None)


def of_parquet(folder, **columns):
    path, columns = folder / "a.parquet", {"user": ["a", "b"], "item": ["x", "y"]} | columns
    pq.write_table(pa.table(columns), path)
    return read_interactions(path, time="time" if "time" in columns else None)


FLOATS = "an id of the user, a string or an integer, in column 'user', found '{}'.*'Int64'"


@pytest.mark.parametrize(
    ("ids", "row"),
    [
        (["1.0", "23.0"], 0),
        (["1.", "2."], 0),
        (["1.00", "-2.00"], 0),
        (["1e5", "2e5"], 0),
        (["1.2345678901234568e+18", "23.0"], 0),
        (["1.2345678901234568E18", "2.0"], 0),
        (["1.5e1", "2.0"], 0),
        (["100001", "1e+05"], 1),  # R and Arrow write an exponent where it is shorter
        (["NaN", "1.0"], 1),
        (["NA", "1.0"], 1),
    ],
)
def test_ids_that_have_become_floats(tmp_path, ids, row):
    with pytest.raises(
        DataError, match=f"line {row + 2}: expected {FLOATS.format(re.escape(ids[row]))}"
    ):
        of_csv(tmp_path, user=ids)
    for function in (clean, split_interactions, split_users, hold_out):
        with pytest.raises(DataError, match=f"`frame`: .*in row {row + 1} .*'Int64'"):
            function(pd.DataFrame({"user": ids, "item": ["x", "y"]}))


@pytest.mark.parametrize(
    "ids",
    [
        ["1.0", "1.1"],
        ["7e3", "a7e3"],
        ["1e5", "f"],
        ["1e-3", "2.0"],
        ["1e999", "2.0"],
        ["NA", "nan"],
        ["7", "-12"],
        ["007", "7"],
    ],
)
def test_ids_that_are_names(tmp_path, ids):
    assert of_csv(tmp_path, user=ids)["user"].tolist() == ids
    assert of_parquet(tmp_path, user=ids)["user"].tolist() == ids


@pytest.mark.parametrize(
    ("ids", "found"),
    [
        ([1.0, 2.0], "'1.0'"),
        ([1.5e18, 2.0], r"'1.5e\+18'"),
        (np.array([1, 2], np.float32), "'1.0'"),
        ([Decimal("1.00"), Decimal("2.00")], "'1.00'"),
        ([True, False], "True"),
        ([{"id": 1}, {"id": 2}], "{'id': 1}"),
        ([["p"], ["q"]], r"\['p'\]"),
        ([datetime.date(2024, 1, 1)] * 2, "datetime.date"),
        (["['p' 'q']", "['r']"], ".*print of a list"),
        (["[1 2 3]", "[2 3]"], r"'\[1 2 3\]'"),
        (["(1, 2)", "(3,)"], r"'\(1, 2\)'"),
        (["{'id': 1}", "{'id': 2}"], '"{'),
    ],
)
def test_what_is_no_id(tmp_path, ids, found):
    with pytest.raises(DataError, match=r"a.parquet: expected an id.* 'user', found .*in row 1"):
        of_parquet(tmp_path, user=ids)
    with pytest.raises(DataError, match=r"`frame`: expected an id.*in row 1 \(`.iloc\[0\]`\)"):
        clean(pd.DataFrame({"user": ids, "item": ["x", "y"]}))
    frame = pd.DataFrame({"user": ids, "item": ["x", "y"]})
    with pytest.raises(DataError, match="`split.test`: expected an id of the user"):
        encode(Split(FRAME, FRAME[:0], frame))


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        ([1.5, 2.0], ["1.5", "2.0"]),
        ([Decimal("1.10"), Decimal("2.00")], ["1.10", "2.00"]),
        ([Decimal(10**20), Decimal(2)], ["100000000000000000000", "2"]),
        (pa.array([2**64 - 1, 1], pa.uint64()), ["18446744073709551615", "1"]),
        ([b"a", "ü".encode()], ["a", "ü"]),
        (pa.array(["p", "q"]).dictionary_encode(), ["p", "q"]),
        (pa.array(["p", "q"], pa.string_view()), ["p", "q"]),
        (["[red]", "[/]"], ["[red]", "[/]"]),
        (["(1, 2)", "7"], ["(1, 2)", "7"]),
    ],
)
def test_ids_of_parquet(tmp_path, ids, expected):
    assert of_parquet(tmp_path, user=ids)["user"].tolist() == expected


def test_bytes_of_parquet_that_are_not_utf8(tmp_path):
    with pytest.raises(DataError, match=r"expected UTF-8 text in column 'user'.* in row 2"):
        of_parquet(tmp_path, user=[b"a", b"Jos\xe9"])


# By hand: 2,932,896 days of 86,400 s after 1970; 171,664 and 719,162 days before.
FAR = {"9999-12-31": 253402214400.0, "1500-01-01": -14831769600.0, "0001-01-01": -62135596800.0}
NOW = {"2024-01-01": 1704067200.0}


@pytest.mark.parametrize("date", FAR)
def test_dates_of_all_years(tmp_path, date):
    expected = [NOW["2024-01-01"], FAR[date]]
    texts = ["2024-01-01", date]
    days = [datetime.date.fromisoformat(x) for x in texts]
    stamps = [datetime.datetime.fromisoformat(x) for x in texts]
    assert of_csv(tmp_path, time=texts)["time"].tolist() == expected
    for times in (
        texts,
        days,
        pa.array(days, pa.date64()),
        pa.array(stamps, pa.timestamp("s")),
        pa.array(stamps, pa.timestamp("us", "Europe/Berlin")),
    ):
        assert of_parquet(tmp_path, time=times)["time"].tolist() == expected
    frame = pd.DataFrame({"user": "a", "item": ["x", "y"], "time": days})
    test = split_interactions(frame, "last", validation=0).test["item"].tolist()
    assert test == ["y" if FAR[date] > 0 else "x"]


def test_dates_that_spark_writes_as_int96(tmp_path):
    path = tmp_path / "a.parquet"
    table = pa.table({"user": ["a"], "item": ["x"], "t": [datetime.datetime(9999, 12, 31)]})
    pq.write_table(table, path, use_deprecated_int96_timestamps=True)
    assert read_interactions(path, time="t")["time"].tolist() == [FAR["9999-12-31"]]


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (["2024-01-01T00:00:00.123456789", "9999-12-31"], [1704067200.123456, 253402214400.0]),
        (["2024-01-01T01:00:00+01:00", "2024-01-01 00:00:00Z"], [1704067200.0] * 2),
        (["9007199254740993", "-5"], [9007199254740993, -5]),
        (["+5", "1e3"], [5, 1000]),
    ],
)
def test_times_of_text(tmp_path, times, expected):
    assert of_csv(tmp_path, time=times)["time"].tolist() == expected


@pytest.mark.parametrize(
    ("times", "line"),
    [
        (["5", "9999-12-31", "6"], 3),
        (["2024-01-01", "6", "9999-12-31"], 3),
        (["2024-01-01", "now", "2024-01-01"], 3),
        (["today", "2024-01-01", "2024-01-01"], 2),
        (["2024-01-01", "2024-01-01", "10000-01-01"], 4),
        (["1", "2", "True"], 4),
        (["1", "0x10", "2"], 3),
        (["1.5", "2", "0X10"], 4),
    ],
)
def test_times_of_text_that_are_none(tmp_path, times, line):
    columns = {"user": ["a"] * 3, "item": ["x", "y", "z"], "time": times}
    found = times[line - 2]
    with pytest.raises(DataError, match=f"line {line}: .* ISO 8601 date .*'time', found '{found}'"):
        of_csv(tmp_path, **columns)
    with pytest.raises(DataError, match=f"`frame`: .*'time', found '{found}' in row {line - 1} "):
        split_interactions(pd.DataFrame(columns))


@pytest.mark.parametrize(
    "times",
    [
        [True, False],
        [[1], [2]],
        pa.array([1, 2], pa.time32("s")),
        pa.array([None, 2.0]),
        [{"a": 1}] * 2,
    ],
)
def test_times_of_parquet_that_are_none(tmp_path, times):
    with pytest.raises(DataError, match="expected a finite number or an ISO 8601 .* in row 1"):
        of_parquet(tmp_path, time=times)


FRAME = pd.DataFrame({"user": ["a"] * 4, "item": list("wxyz")})
STEPS = {
    "clean": clean,
    "split_interactions": split_interactions,
    "split_users": split_users,
    "hold_out": hold_out,
    "encode": lambda frame: encode(Split(frame, FRAME[:0], FRAME[:0])),
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"user": ["a", None, "b", "b"]},
            "an id of the user in column 'user', found None in row 2",
        ),
        ({"user": pd.array([1, 2, None, 3], "Int64")}, "'user', found None in row 3"),
        ({"user": [1.0, np.nan, 2.0, 3.0]}, "'user', found None in row 2"),
        ({"item": ["w", "", "y", "z"]}, "an id of the item in column 'item', found '' in row 2"),
        ({"item": pd.Series([1, True, "a", 2], dtype=object)}, "'item', found True in row 2"),
        ({"user": [1j, 2, 3, 4]}, r"a number in column 'user', found 1j in row 1"),
        ({"time": [1j, 2, 3, 4]}, r"a number in column 'time', found 1j in row 1"),
        ({"time": [4, np.nan, 2, 1]}, "a finite number or .*'time', found None in row 2"),
        ({"time": [4, 3, np.inf, 1]}, "'time', found inf in row 3"),
        ({"time": pd.to_datetime(["2024-01-01", None] * 2)}, "'time', found None in row 2"),
    ],
)
def test_frames_pass_the_checks_of_files(step, columns, message):
    frame = FRAME.assign(**columns).set_axis([7, 7, 3, 1])
    with pytest.raises(DataError, match=message):
        STEPS[step](frame)


@pytest.mark.parametrize("step", STEPS)
def test_frames_without_the_columns(step):
    for frame, message in (
        (FRAME.rename(columns={"user": "userId"}), "no column 'user'; there are: 'userId'"),
        (FRAME.assign(time=1).set_index("time"), r"no column 'time'.*: .reset_index\(\)"),
        (FRAME.set_index("user"), r"no column 'user'.*the frame's index: .reset_index\(\)"),
        (pd.concat([FRAME, FRAME["item"]], axis=1), "more than one column 'item'"),
    ):
        with pytest.raises(DataError, match=message):
            STEPS[step](frame)


@pytest.mark.parametrize("step", STEPS)
def test_what_is_no_frame(step):
    with pytest.raises(TypeError, match="must be a pandas DataFrame. Received: dict"):
        STEPS[step]({"user": ["a"], "item": ["x"]})


def test_integers_of_128_bits():
    frame = pd.DataFrame({"user": [2**70, 1, 2**70 + 1], "item": [1, 2, 1]})
    assert clean(frame)[1]["duplicates"] == 0
    users = encode(Split(frame, FRAME[:0], FRAME[:0])).users.ids.tolist()
    assert users == ["1180591620717411303424", "1", "1180591620717411303425"]
    assert last(FRAME.assign(time=[1, 2**70, 2, 3])) == ["x"]


def last(frame):
    return split_interactions(frame, "last", validation=0).test["item"].tolist()


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (["9", "10", "2", "1"], "x"),
        (["2024-01-04", "2024-01-01", "9999-12-31", "2024-01-03"], "y"),
        (pd.Series([1, "10", 9, 2], dtype=object), "x"),
        (pd.to_timedelta([1, 2, 3, 40], unit="D"), "z"),
        (
            pd.to_datetime(["2024-01-02 00:00", "2024-01-02 01:00"] * 2).tz_localize("Asia/Tokyo"),
            "z",
        ),
    ],
)
def test_times_of_frames_are_in_order(times, expected):
    assert last(FRAME.assign(time=times)) == [expected]
    data = encode(Split(FRAME.assign(time=times), FRAME[:0], FRAME[:0]))
    assert data.items.decode(data.train_items)[-1] == expected


def test_a_number_and_its_text_are_one_id():
    """As pandas leaves them in one column when it reads a large file in chunks."""
    frame = pd.DataFrame({"user": pd.Series([1, "1", "1", 1], dtype=object), "item": list("xxyz")})
    cleaned, counts = clean(frame)
    assert cleaned["item"].tolist() == ["x", "y", "z"]
    assert counts["duplicates"] == 1
    assert last(frame) == ["z"]
    assert encode(Split(frame[2:], frame[:1], FRAME[:0])).validation.counts.tolist() == [1]


@pytest.mark.parametrize(
    "index",
    [
        [4, 3, 2, 1],
        [0, 0, 0, 0],
        [np.nan, 1, 0, np.nan],
        pd.Index(list("dcba"), name="user"),
        pd.MultiIndex.from_arrays([[4, 3, 2, 1], list("aabb")], names=["when", "item"]),
        pd.DatetimeIndex(["2024-01-02", "2024-01-01"] * 2),
    ],
)
def test_rows_keep_their_order_whatever_the_index(index):
    frame = FRAME.set_axis(index) if isinstance(index, list) else FRAME.set_index(index)
    assert clean(frame)[0]["item"].tolist() == list("wxyz")
    assert last(frame) == last(clean(frame)[0]) == ["z"]
    split = split_users(pd.concat([frame, frame.assign(user="b")]), test=0.5, validation=0)
    assert split.history["item"].tolist() + split.test["item"].tolist() == list("wxyz")
    data = encode(Split(frame, frame[:0], frame[:0]))
    assert data.items.decode(data.train_items).tolist() == list("wxyz")
    timed = frame.assign(time=[2, 1, 2, 1], rating=[5, 3, 5, 1])
    cleaned, counts = clean(pd.concat([timed, timed.assign(time=0)]), min_rating=2)
    # The earlier ones are those of the second half.
    assert cleaned[["item", "time"]].to_numpy().tolist() == [["w", 0], ["x", 0], ["y", 0]]
    assert counts == {"low_ratings": 2, "duplicates": 3}


def test_ratings_of_frames():
    frame = FRAME.assign(rating=["5", "10", "3", "1"])
    assert clean(frame, min_rating=4)[0]["item"].tolist() == ["w", "x"]
    with pytest.raises(DataError, match="finite number in column 'rating', found None in row 1"):
        clean(FRAME.assign(rating=[None, 5, 4, 3]), min_rating=4)
    with pytest.raises(DataError, match="no column 'rating'"):
        clean(FRAME, min_rating=4)


def test_more_items_pass_the_checks():
    with pytest.raises(ValueError, match="`more_items` must be a list of ids. Received: 'abc'"):
        encode(Split(FRAME, FRAME[:0], FRAME[:0]), more_items="abc")
    with pytest.raises(DataError, match="`more_items`: expected an id of the item.* in row 2"):
        encode(Split(FRAME, FRAME[:0], FRAME[:0]), more_items=["p", None])
    data = encode(Split(FRAME, FRAME[:0], FRAME[:0]), more_items=(x for x in "pw"))
    assert data.items.ids.tolist() == list("wxyzp")
