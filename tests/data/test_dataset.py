"""Encoding: vocabularies, what is left out and counted, histories, the fingerprint."""

import numpy as np
import pandas as pd
import pytest

from tfrs_croloss.data import DataError, Split, Vocabulary, encode
from tfrs_croloss.index import ExactIndex


def interactions(*rows):
    return pd.DataFrame(rows, columns=["user", "item", "time"])


TRAIN = interactions(("b", "x", 5), ("a", "y", 9), ("b", "z", 1), ("b", "y", 5), ("a", "x", 2))
EMPTY = TRAIN[:0]


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["7", "12"], [7, 12]),
        ([7, 12], [7, 12]),
        (["7", "012"], ["7", "012"]),
        (["7", "1.0"], ["7", "1.0"]),
        (["-3", "1e3"], ["-3", "1e3"]),
        (["-3", "5"], [-3, 5]),
        (["-1", "x"], ["-1", "x"]),
        (["99999999999999999999", "1"], ["99999999999999999999", "1"]),
        (["ü", "a,b"], ["ü", "a,b"]),
    ],
)
def test_ids_are_integers_only_if_all_are(ids, expected):
    vocabulary = Vocabulary(ids)
    assert vocabulary.ids.tolist() == expected
    assert vocabulary.encode(ids).tolist() == [0, 1]
    assert vocabulary.decode([[1, 0]]).tolist() == [expected[::-1]]


def test_unknown_and_repeated_ids():
    assert Vocabulary(["a", "b"]).encode(["c", "b"]).tolist() == [-1, 1]
    with pytest.raises(ValueError, match="`ids` must be distinct. Received twice: 'a'"):
        Vocabulary(["a", "b", "a"])
    for padding, ids in (("-1", ["7", "-1"]), ("''", ["a", ""])):
        with pytest.raises(ValueError, match=f"`ids` must not hold {padding}"):
            Vocabulary(ids)


def test_what_was_not_found_is_no_item():
    names, numbers = Vocabulary(["a", "b"]), Vocabulary([31, 7])
    assert names.decode([[1, -1], [-1, 0]]).tolist() == [["b", ""], ["", "a"]]
    assert numbers.decode([0, -1]).tolist() == [31, -1]
    assert names.decode(-1) == ""
    assert names.decode(names.encode(["b", "zzz", None])).tolist() == ["b", "", ""]
    found = ExactIndex(np.eye(2)).search([[2.0, 1.0]], k=3)
    assert names.decode(found.positions).tolist() == [["a", "b", ""]]
    assert names.decode(np.empty([0, 3])).shape == (0, 3)


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        ([0, 2], "from 0 to 1, or -1 for the padding. Received: 2"),
        ([0, -2], "Received: -2"),
        (np.array([2**64 - 1], np.uint64), "Received: 18446744073709551615"),
        ([0.0], "`positions` must be integers. Received: float64"),
        ([True, False], "`positions` must be integers. Received: bool"),
    ],
)
def test_positions_outside_the_catalogue(positions, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary(["a", "b"]).decode(positions)


@pytest.mark.parametrize("ids", [[1.0, 2.0], [1, None], [True, False]])
def test_floats_are_no_ids(ids):
    for function in (Vocabulary, Vocabulary.of, Vocabulary([1, 2]).encode):
        name = "ids" if function is Vocabulary else "values"
        with pytest.raises(ValueError, match=f"`{name}` must be strings or integers. Received: "):
            function(ids)
    assert Vocabulary([1, 2]).encode([]).tolist() == []


@pytest.mark.parametrize(
    ("ids", "found"),
    [
        (["a", None], "nan"),
        ([["a"], ["b"]], r"\['a'\]"),
        ([True, "x"], "True"),
        (pd.Series([1.0, "a"], dtype=object), "1.0, .*'Int64'"),
        ([b"a"], "b'a'"),
        (pd.Series([1, None], dtype="Int64"), "<NA>"),
    ],
)
def test_what_is_no_id_of_a_vocabulary(ids, found):
    for function in (Vocabulary, Vocabulary.of):
        with pytest.raises(ValueError, match=f"` must be strings or integers. Received: {found}"):
            function(ids)


def test_training_rows_are_by_user_and_time():
    data = encode(Split(TRAIN, EMPTY, EMPTY))
    assert data.users.ids.tolist() == ["b", "a"]
    assert data.items.decode(data.train_items).tolist() == ["z", "x", "y", "x", "y"]
    assert data.row_starts.tolist() == [0, 3, 5]
    assert data.train.toarray().tolist() == [[1, 1, 1], [1, 1, 0]]
    histories = data.histories(4)
    assert data.items.decode(histories[0, 1:]).tolist() == ["z", "x", "y"]
    assert histories[0, 0] == -1
    assert histories[1, :2].tolist() == [-1, -1]
    assert data.items.decode(data.histories(1)[:, 0]).tolist() == ["y", "y"]


def test_what_cannot_be_hit_is_counted():
    test = interactions(
        ("a", "z", 0),  # can be hit
        ("a", "new", 0),  # a miss, whatever is retrieved
        ("a", "x", 0),  # repeated from train: left out
        ("c", "x", 0),  # an unknown user: left out
        ("c", "new", 0),
        ("a", "new", 1),  # repeated
        ("b", "new", 0),  # another user's miss
    )
    data = encode(Split(TRAIN, EMPTY, test))
    a, z = data.users.encode(["a"])[0], data.items.encode(["z"])[0]
    assert data.test.counts[a] == 2
    assert data.test.counts.sum() == 3
    assert np.argwhere(data.test.matrix.toarray()).tolist() == [[a, z]]
    assert data.counts == {
        "users": 2,
        "items": 3,
        "train_interactions": 5,
        "validation_users": 0,
        "validation_interactions": 0,
        "validation_unseen_items": 0,
        "validation_unknown_users": 0,
        "validation_repeated": 0,
        "test_users": 2,
        "test_interactions": 3,
        "test_unseen_items": 2,
        "test_unknown_users": 2,
        "test_repeated": 2,
    }


def test_a_validation_item_is_no_test_item():
    held_out = interactions(("a", "z", 0))
    data = encode(Split(TRAIN, held_out, held_out))
    assert data.validation.counts.sum() == 1
    assert data.test.counts.sum() == 0
    assert data.counts["test_repeated"] == 1


def test_more_items_than_in_the_training_set():
    test = interactions(("a", "cold", 0))
    data = encode(Split(TRAIN, EMPTY, test), more_items=["cold", "x"])
    assert data.items.ids.tolist() == ["x", "y", "z", "cold"]
    assert data.test.matrix.toarray()[1].tolist() == [0, 0, 0, 1]
    assert data.counts["test_unseen_items"] == 0


HISTORY = interactions(("d", "z", 4), ("c", "y", 2), ("c", "new", 3), ("c", "x", 1))
TARGETS = interactions(("c", "z", 9), ("c", "x", 9), ("c", "other", 9), ("d", "y", 9))


def test_held_out_users_are_known_and_not_trained_on():
    data = encode(Split(TRAIN, EMPTY, TARGETS, HISTORY))
    without = encode(Split(TRAIN, EMPTY, EMPTY))
    assert data.users.ids.tolist() == ["b", "a", "d", "c"]
    assert data.num_train_users == without.num_train_users == 2
    # The catalogue, too, is of the training set.
    assert data.items.ids.tolist() == without.items.ids.tolist()
    for name in ("train_users", "train_items"):
        np.testing.assert_array_equal(getattr(data, name), getattr(without, name))
    assert data.history_users.tolist() == [2, 3, 3]
    assert data.items.decode(data.history_items).tolist() == ["z", "x", "y"]
    assert data.row_starts.tolist() == [0, 3, 5, 6, 8]
    x, y, z = data.items.encode(["x", "y", "z"])
    assert data.train.toarray().tolist() == [[1, 1, 1], [1, 1, 0], [0, 0, 0], [0, 0, 0]]
    known = [{x, y, z}, {x, y}, {z}, {x, y}]
    assert [set(np.flatnonzero(row)) for row in data.known.toarray()] == known
    np.testing.assert_array_equal(data.histories(3)[:2], without.histories(3))
    assert data.queries(3)["history"][2:].tolist() == [[-1, -1, z], [-1, x, y]]
    # An item of the history is none to be found, one of no catalogue is a miss.
    assert np.argwhere(data.test.matrix.toarray()).tolist() == sorted([[2, y], [3, z]])
    assert data.test.counts.tolist() == [0, 0, 1, 2]
    expected = {"users": 4, "train_interactions": 5, "held_out_users": 2}
    expected |= {"history_interactions": 4, "history_unseen_items": 1}
    expected |= {"test_repeated": 1, "test_unseen_items": 1, "test_unknown_users": 0}
    assert expected.items() <= data.counts.items()


def test_a_user_of_whose_history_nothing_is_in_the_catalogue():
    history = interactions(("c", "new", 1))
    data = encode(Split(TRAIN, EMPTY, interactions(("c", "z", 2)), history))
    assert data.queries(2)["history"][2].tolist() == [-1, -1]
    assert data.test.counts.tolist() == [0, 0, 1]


def test_a_history_of_a_user_who_is_trained_on():
    with pytest.raises(ValueError, match=r"users who are not in `split.train`. Received: 'a' in"):
        encode(Split(TRAIN, EMPTY, EMPTY, interactions(("c", "x", 1), ("a", "z", 1))))


def test_an_item_of_no_catalogue_is_not_taken_for_one_of_it():
    """Not for the last item of the user before, whose place is the one before their first."""
    train = interactions(("b", "x", 1), ("a", "x", 1), ("a", "y", 2))
    validation, test = interactions(("a", "new", 3)), interactions(("b", "y", 3))
    data = encode(Split(train, validation, test))
    assert data.counts["test_repeated"] == 0
    assert data.test.counts.tolist() == [1, 0]


def test_queries_are_what_a_tower_takes():
    data = encode(Split(TRAIN, EMPTY, EMPTY))
    assert data.queries().keys() == {"user"}
    np.testing.assert_array_equal(data.queries(2)["history"], data.histories(2))


def test_fingerprint_sees_ids_and_order():
    split = Split(TRAIN, EMPTY, EMPTY)
    fingerprint = encode(split).fingerprint()
    assert encode(split).fingerprint() == fingerprint
    renamed = TRAIN.replace({"item": {"x": "w"}})
    later = TRAIN.assign(time=[5, 1, 1, 5, 2])
    for other in (renamed, later):
        assert encode(Split(other, EMPTY, EMPTY)).fingerprint() != fingerprint
    assert encode(Split(TRAIN, EMPTY, interactions(("a", "z", 0)))).fingerprint() != fingerprint


def test_fingerprint_sees_histories():
    later = HISTORY.assign(time=[4, 0, 3, 1])  # Other users' orders are the same.
    histories = (HISTORY, later, HISTORY[1:])
    found = {encode(Split(TRAIN, EMPTY, EMPTY, history)).fingerprint() for history in histories}
    assert len(found) == 3


def test_nothing_to_train_on():
    with pytest.raises(DataError, match="no interactions are left to train on"):
        encode(Split(EMPTY, EMPTY, TRAIN))
