"""Splits against a loop over the users."""

import math

import numpy as np
import pandas as pd
import pytest

from tfrs_croloss.data import hold_out, split_interactions


@pytest.fixture
def frame():
    rng = np.random.default_rng(0)
    sizes = [1, 2, 3, 4, 5, 10, 21, 40]
    users = rng.permutation(np.repeat([f"u{i}" for i in range(len(sizes))], sizes))
    times = rng.integers(0, 12, len(users)).astype(float)  # with ties
    return pd.DataFrame({"user": users, "item": np.arange(len(users)).astype(str), "time": times})


def pairs(part):
    return set(zip(part["user"], part["item"], strict=True))


def expected_by_time(frame, test, validation):
    parts = ([], [], [])
    for user in frame["user"].unique():
        rows = [row for row in frame.itertuples() if row.user == user]
        rows.sort(key=lambda row: row.time)  # Python's sort is stable
        num_test = min(math.floor(len(rows) * test + 0.5), len(rows) - 1)
        left = len(rows) - num_test
        num_validation = min(max(1, math.floor(len(rows) * validation + 0.5)), left - 1)
        num_validation = num_validation if left >= 3 else 0
        bounds = (left - num_validation, left)
        for place, row in enumerate(rows):
            part = 0 if place < bounds[0] else 1 if place < bounds[1] else 2
            parts[part].append((row.user, row.item))
    return [set(part) for part in parts]


def test_by_time(frame):
    split = split_interactions(frame, by="time", test=0.2, validation=0.1)
    assert [pairs(part) for part in split] == expected_by_time(frame, 0.2, 0.1)


def test_without_times_the_order_of_the_file_counts():
    frame = pd.DataFrame({"user": ["a", "b"] * 10, "item": [str(i) for i in range(20)]})
    split = split_interactions(frame)
    assert split.test["item"].tolist() == ["16", "17", "18", "19"]
    assert split.validation["item"].tolist() == ["14", "15"]


def test_leave_last_out(frame):
    split = split_interactions(frame, by="last")
    sizes = frame.groupby("user").size()
    assert len(split.test) == (sizes >= 2).sum()
    assert len(split.validation) == (sizes >= 4).sum()  # three are left after the test
    for user, rows in frame.groupby("user"):
        in_time = rows.sort_values("time", kind="stable")["item"].tolist()
        assert split.test.loc[split.test["user"] == user, "item"].tolist() == in_time[1:][-1:]


def test_at_random(frame):
    split = split_interactions(frame, by="random", seed=1)
    sizes = [len(part) for part in split_interactions(frame, by="time")]
    assert [len(part) for part in split] == sizes
    assert pairs(split.train) | pairs(split.validation) | pairs(split.test) == pairs(frame)
    again = split_interactions(frame, by="random", seed=1)
    assert pairs(again.test) == pairs(split.test)
    other = split_interactions(frame, by="random", seed=2)
    assert pairs(other.test) != pairs(split.test)


@pytest.mark.parametrize("by", ["time", "random", "last"])
def test_hold_out_leaves_no_test(frame, by):
    train, validation = hold_out(frame, by=by, validation=0.1)
    assert pairs(train) | pairs(validation) == pairs(frame)
    assert not pairs(train) & pairs(validation)
    for user, size in frame.groupby("user").size().items():
        held_out = (validation["user"] == user).sum()
        share = 1 if by == "last" else max(1, int(size * 0.1))
        assert held_out == (0 if size < 3 else share)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "date"}, "`by` must be 'time', 'random' or 'last'. Received: 'date'"),
        ({"test": 0.9}, "shares that leave a training set. Received: test=0.9, validation=0.1"),
        ({"test": -0.1}, "shares that leave a training set"),
    ],
)
def test_wrong_arguments_are_named(frame, options, message):
    with pytest.raises(ValueError, match=message):
        split_interactions(frame, **options)
