"""Readers: every format, and an error that says where for every way a file can be wrong."""

import gzip
import lzma

import pandas as pd
import pytest

from tfrs_croloss.data import DataError, clean, read_interactions

CSV = 'who,what,when,stars\nann,"a, b",20,5\nbøb,007,10,2.5\nNA,7,10,4\n'
WHO = {"user": "who", "item": "what"}


def written(folder, name, content):
    path = folder / name
    content = content.encode() if isinstance(content, str) else content
    packed = {".gz": gzip.compress, ".xz": lzma.compress}.get(path.suffix, bytes)(content)
    path.write_bytes(packed)
    return path


@pytest.mark.parametrize("ending", ["", ".gz", ".xz"])
def test_csv_keeps_ids_as_they_are(tmp_path, ending):
    path = written(tmp_path, f"ratings.csv{ending}", CSV)
    frame = read_interactions(path, **WHO, time="when", rating="stars")
    assert frame["user"].tolist() == ["ann", "bøb", "NA"]
    assert frame["item"].tolist() == ["a, b", "007", "7"]
    assert frame["time"].tolist() == [20, 10, 10]
    assert frame["rating"].tolist() == [5, 2.5, 4]


def test_tsv_and_only_the_columns_asked_for(tmp_path):
    path = written(tmp_path, "pairs.tsv", "item\tuser\textra\n1\t2\tx\n")
    frame = read_interactions(path)
    assert frame.to_dict("list") == {"user": ["2"], "item": ["1"]}


def test_parquet(tmp_path):
    path = tmp_path / "pairs.parquet"
    pd.DataFrame({"who": [3, 1], "what": ["x", "y"], "when": [1.5, 2.5]}).to_parquet(path)
    frame = read_interactions(path, **WHO, time="when")
    assert frame.to_dict("list") == {"user": ["3", "1"], "item": ["x", "y"], "time": [1.5, 2.5]}


@pytest.mark.parametrize("ending", ["", ".gz", ".xz"])
def test_lists_of_the_lightgcn_releases(tmp_path, ending):
    path = written(tmp_path, f"train.txt{ending}", "0 5 6 7\n1\n12 5 \n")
    frame = read_interactions(path)
    assert frame["user"].tolist() == ["0", "0", "0", "12"]
    assert frame["item"].tolist() == ["5", "6", "7", "5"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", r"a\.csv: the file is empty: expected a header and rows"),
        ("a.csv", "who,what,when,stars\n", "no interactions: expected at least one row"),
        (
            "a.csv",
            "who,when,stars\n1,2,3\n",
            r"line 1: no column 'what'.*'who', 'when'",
        ),
        (
            "a.csv",
            CSV + "x,y,now,3\n",
            r"line 5: expected a finite number or .* 'when', found 'now'",
        ),
        ("a.csv", CSV + "x,y,3,inf\n", r"line 5: expected a finite number in column 'stars'"),
        (
            "a.csv",
            CSV + "x,,3,4\n",
            r"line 5: expected an id of the item in column 'what', found ''",
        ),
        ("a.csv", CSV + "\n,y,3,4\n", r"line 6: expected an id of the user in column 'who'"),
        ("a.csv", CSV + "x\n", r"line 5: expected an id of the item in column 'what', found ''"),
        (
            "a.csv",
            CSV + "x,y,3,4,5,6\n",
            r"line 5: expected as many fields as the header has, 4; found 6",
        ),
        ("a.csv", b"who,what,when,stars\n\xff\xfe,1,2,3\n", "expected UTF-8 text"),
        ("a.csv", "who,what,when,stars\nx,y,3,4,5\nx,z,3,4,5\n", "as many fields as the header"),
        ("a.csv", "who,what,when,stars\nx,y,3,4,\nx,z,3,4,\n", "as many fields as the header"),
        ("a.dat", CSV, r"unknown format '\.dat': expected \.csv"),
        ("a", CSV, "unknown format, for the name has no ending: expected .csv"),
        ("a.parquet", CSV, "the file is damaged or cut off"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path, name, content, message):
    path = written(tmp_path, name, content)
    with pytest.raises(DataError, match=message):
        read_interactions(path, **WHO, time="when", rating="stars")


def test_blank_lines_and_a_byte_order_mark_are_passed_over(tmp_path):
    path = written(tmp_path, "train.txt", "\ufeff0 1 2\n\n1 2\n\n")
    assert read_interactions(path)["user"].tolist() == ["0", "0", "1"]
    path = written(tmp_path, "train.csv", "\ufeffuser,item\n0,1\n\n1,2\n\n")
    assert read_interactions(path)["user"].tolist() == ["0", "1"]


@pytest.mark.parametrize("unit", ["s", "ns"])
def test_dates_are_times(tmp_path, unit):
    dates = ["2024-02-01", "2024-01-31T23:59:59.5+01:00", "2024-01-31 22:59:59"]
    path = written(tmp_path, "a.csv", "user,item,when\n" + "".join(f"1,2,{d}\n" for d in dates))
    times = read_interactions(path, time="when")["time"]
    assert (times.rank() == [3, 2, 1]).all()
    parquet = tmp_path / "a.parquet"
    stamps = pd.to_datetime(dates, format="ISO8601", utc=True).as_unit(unit)
    pd.DataFrame({"user": 1, "item": 2, "when": stamps}).to_parquet(parquet)
    assert read_interactions(parquet, time="when")["time"].is_monotonic_decreasing


def test_a_wrong_date(tmp_path):
    path = written(tmp_path, "a.csv", "user,item,when\n1,2,2024-02-01\n\n1,3,soon\n")
    with pytest.raises(DataError, match="line 4: expected .* ISO 8601 date .*found 'soon'"):
        read_interactions(path, time="when")


@pytest.mark.parametrize("ending", [".gz", ".xz"])
def test_a_file_that_is_cut_off(tmp_path, ending):
    path = written(tmp_path, f"a.csv{ending}", "user,item\n" + "1,2\n" * 1000)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError, match="damaged or cut off"):
        read_interactions(path)


def test_a_missing_file_and_a_folder(tmp_path):
    for name in ("none.csv", "none", "none.dat"):
        with pytest.raises(DataError, match=f"{name}: no such file or folder"):
            read_interactions(tmp_path / name)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(DataError, match="expected a file, found a folder"):
        read_interactions(tmp_path / "folder.csv")


def test_a_missing_parquet_column(tmp_path):
    path = tmp_path / "pairs.parquet"
    pd.DataFrame({"user": [1]}).to_parquet(path)
    with pytest.raises(DataError, match="no column 'item'; there are: 'user'"):
        read_interactions(path)


def test_ids_that_are_floats(tmp_path):
    path = tmp_path / "pairs.parquet"
    pd.DataFrame({"user": [1.0, 2.0], "item": [3, 4]}).to_parquet(path)
    message = "expected an id of the user, a string or an integer, in column 'user'"
    with pytest.raises(DataError, match=message):
        read_interactions(path)


def test_ids_that_pandas_wrote_as_floats(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("user,item\nann,1.0\nbob,23.0\n")
    message = r"line 2: expected an id of the item, a string .* 'item', found '1.0'.*'Int64'"
    with pytest.raises(DataError, match=message):
        read_interactions(path)
    # One that is not such a number, and they are names: of versions, say.
    path.write_text("user,item\nann,1.0\nbob,1.1\n")
    assert read_interactions(path)["item"].tolist() == ["1.0", "1.1"]


def test_a_missing_id_in_parquet(tmp_path):
    path = tmp_path / "pairs.parquet"
    pd.DataFrame({"user": ["a", None], "item": ["x", "y"]}).to_parquet(path)
    with pytest.raises(
        DataError, match="expected an id of the user in column 'user', found .* in row 2"
    ):
        read_interactions(path)


@pytest.mark.parametrize("missing", [pd.NaT, None])
def test_a_missing_time_or_rating_in_parquet(tmp_path, missing):
    path = tmp_path / "pairs.parquet"
    stamps = pd.Series(pd.to_datetime(["2024-01-01", missing]))
    ratings = pd.Series([3, missing if missing is None else pd.NA], dtype="Int64")
    frame = pd.DataFrame({"user": ["a", "b"], "item": ["x", "y"], "when": stamps, "stars": ratings})
    frame.to_parquet(path)
    for column in ({"time": "when"}, {"rating": "stars"}):
        with pytest.raises(DataError, match="expected a finite number.* in row 2"):
            read_interactions(path, **column)


def test_clean_keeps_the_earliest_of_duplicates_and_counts():
    frame = pd.DataFrame(
        {
            "user": ["a", "a", "a", "b"],
            "item": ["x", "x", "y", "x"],
            "time": [9.0, 3.0, 4.0, 1.0],
            "rating": [5.0, 4.0, 1.0, 5.0],
        }
    )
    cleaned, counts = clean(frame, min_rating=3)
    assert cleaned[["user", "item", "time"]].to_numpy().tolist() == [["a", "x", 3], ["b", "x", 1]]
    assert counts == {"low_ratings": 1, "duplicates": 1}
