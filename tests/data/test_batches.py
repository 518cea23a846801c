"""Batches: every interaction once an epoch, histories from a loop, and the order on resuming."""

import numpy as np
import pandas as pd
import pytest

from tfrs_croloss.data import Split, encode, training_batches


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"user": rng.integers(0, 9, 100), "item": rng.integers(0, 30, 100)})
    frame = frame.drop_duplicates().astype(str)
    return encode(Split(frame, frame[:0], frame[:0]))


def elements(dataset):
    return [
        {**{k: v.numpy() for k, v in batch["query"].items()}, "item": batch["item"].numpy()}
        for batch in dataset
    ]


def test_an_epoch_has_every_interaction_once(data):
    dataset, num_batches = training_batches(data, batch_size=16, epochs=2)
    batches = elements(dataset)
    assert num_batches == -(-len(data.train_items) // 16)
    assert len(batches) == 2 * num_batches
    expected = sorted(zip(data.train_users, data.train_items, strict=True))
    orders = []
    for epoch in (batches[:num_batches], batches[num_batches:]):
        users = np.concatenate([batch["user"] for batch in epoch])
        items = np.concatenate([batch["item"] for batch in epoch])
        assert sorted(zip(users, items, strict=True)) == expected
        orders.append(items.tolist())
    assert orders[0] != orders[1]


def test_histories_are_what_came_before(data):
    dataset, _ = training_batches(data, batch_size=16, epochs=1, history_length=5)
    seen = 0
    for batch in elements(dataset):
        for user, history, item in zip(batch["user"], batch["history"], batch["item"], strict=True):
            sequence = data.train_items[data.train_users == user].tolist()
            before = sequence[: sequence.index(item)]
            assert before, "an interaction without a history"
            assert history.tolist() == [-1] * (5 - len(before[-5:])) + before[-5:]
            seen += 1
    assert seen == len(data.train_items) - len(data.users)


def test_a_resumed_epoch_is_that_of_an_unbroken_run(data):
    whole, num_batches = training_batches(data, batch_size=16, epochs=3, seed=5)
    resumed, _ = training_batches(data, batch_size=16, epochs=3, first_epoch=2, seed=5)
    whole, resumed = elements(whole), elements(resumed)
    assert len(resumed) == num_batches
    for expected, actual in zip(whole[2 * num_batches :], resumed, strict=True):
        np.testing.assert_array_equal(actual["item"], expected["item"])
    other, _ = training_batches(data, batch_size=16, epochs=1, seed=6)
    assert elements(other)[0]["item"].tolist() != whole[0]["item"].tolist()


def test_nothing_to_batch(data):
    with pytest.raises(ValueError, match="`batch_size` must be positive. Received: 0"):
        training_batches(data, batch_size=0, epochs=1)
    frame = pd.DataFrame({"user": ["a", "b"], "item": ["x", "y"]})
    single = encode(Split(frame, frame[:0], frame[:0]))
    with pytest.raises(ValueError, match="no interaction has one before it"):
        training_batches(single, batch_size=4, epochs=1, history_length=3)
