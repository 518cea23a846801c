"""Splits against a loop over the users."""

import math

import numpy as np
import pandas as pd
import pytest

from tfrs_croloss.data import hold_out, split_interactions, split_users


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
    assert [pairs(part) for part in split] == [*expected_by_time(frame, 0.2, 0.1), set()]


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


@pytest.fixture
def many():
    """Users of 1 to 12 interactions, mixed up, and times with ties."""
    rng = np.random.default_rng(0)
    users = rng.permutation(np.repeat([f"u{i}" for i in range(70)], 1 + np.arange(70) % 12))
    times = rng.integers(0, 5, len(users)).astype(float)
    return pd.DataFrame({"user": users, "item": np.arange(len(users)).astype(str), "time": times})


@pytest.mark.parametrize("has_times", [True, False])
@pytest.mark.parametrize(
    ("test", "validation", "history"), [(0.1, 0.1, 0.8), (0.3, 0.2, 0.05), (0.25, 0, 0.95)]
)
def test_by_users(many, has_times, test, validation, history):
    frame = many if has_times else many.drop(columns="time")
    split = split_users(frame, test, validation, history, seed=1)
    users = {name: set(getattr(split, name)["user"]) for name in split._fields}
    assert users["history"] == users["validation"] | users["test"]
    assert not users["validation"] & users["test"]
    assert not users["train"] & users["history"]
    sizes = frame.groupby("user").size()
    can_be_held_out = (sizes >= 2).sum()
    assert len(users["test"]) == math.floor(can_be_held_out * test + 0.5)
    assert len(users["validation"]) == math.floor(can_be_held_out * validation + 0.5)
    assert set(sizes[sizes == 1].index) <= users["train"]
    expected = {name: set() for name in split._fields}
    for user in frame["user"].unique():
        rows = [row for row in frame.itertuples() if row.user == user]
        if has_times:
            rows.sort(key=lambda row: row.time)
        part = next(name for name in ("train", "validation", "test") if user in users[name])
        num_history = 0
        if part != "train":
            num_history = min(max(1, math.floor(len(rows) * history)), len(rows) - 1)
        expected["history"] |= {(user, row.item) for row in rows[:num_history]}
        expected[part] |= {(user, row.item) for row in rows[num_history:]}
    assert {name: pairs(getattr(split, name)) for name in split._fields} == expected
    assert sum(map(len, split)) == len(frame)
    for part in split:
        assert part["item"].astype(int).is_monotonic_increasing  # the order they came in


def test_the_users_are_drawn_by_the_seed(many):
    first, again, other = (split_users(many, 0.3, seed=seed) for seed in (1, 1, 2))
    assert pairs(first.test) == pairs(again.test)
    assert pairs(first.history) == pairs(again.history)
    assert set(first.test["user"]) != set(other.test["user"])


def test_someone_is_trained_on():
    frame = pd.DataFrame({"user": list("aabb"), "item": list("wxyz")})
    split = split_users(frame, test=0.6, validation=0.3)
    assert [len(part) for part in split] == [2, 0, 1, 1]
    single = split_users(frame[1:3], test=0.6, validation=0.3)
    assert [len(part) for part in single] == [2, 0, 0, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test": 0.9}, "shares that leave a training set. Received: test=0.9, validation=0.1"),
        ({"history": 0}, "`history` must be a share between 0 and 1. Received: 0"),
        ({"history": 1.0}, "`history` must be a share between 0 and 1. Received: 1.0"),
    ],
)
def test_wrong_shares_of_users_are_named(many, options, message):
    with pytest.raises(ValueError, match=message):
        split_users(many, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "date"}, "`by` must be one of time, random, last. Received: 'date'"),
        ({"test": 0.9}, "shares that leave a training set. Received: test=0.9, validation=0.1"),
        ({"test": -0.1}, "shares that leave a training set"),
    ],
)
def test_wrong_arguments_are_named(frame, options, message):
    with pytest.raises(ValueError, match=message):
        split_interactions(frame, **options)
