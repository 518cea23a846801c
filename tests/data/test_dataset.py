"""Encoding: vocabularies, what is left out and counted, histories, the fingerprint."""

import numpy as np
import pandas as pd
import pytest

from tfrs_croloss.data import DataError, Split, Vocabulary, encode


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


def test_nothing_to_train_on():
    with pytest.raises(DataError, match="no interactions are left to train on"):
        encode(Split(EMPTY, EMPTY, TRAIN))
