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


def test_held_out_users_are_in_no_batch():
    """The batches are those of the data without them, whatever their histories are."""
    rng = np.random.default_rng(1)
    sizes = np.repeat(range(9), rng.integers(2, 9, 9))
    frame = pd.DataFrame({"user": sizes, "item": rng.integers(0, 30, len(sizes))}).astype(str)
    frame = frame.drop_duplicates()
    history = pd.DataFrame({"user": ["new"] * 20 + ["other"], "item": [*frame["item"][:20], "0"]})
    empty = frame[:0]
    without, data = encode(Split(frame, empty, empty)), encode(Split(frame, empty, empty, history))
    assert len(data.history_users) == 21
    options = {"batch_size": 7, "epochs": 2, "history_length": 4, "known_positives": True}
    expected, actual = (training_batches(each, **options) for each in (without, data))
    assert actual[1] == expected[1]
    for own, other in zip(actual[0], expected[0], strict=True):
        assert own["query"]["user"].numpy().max() < data.num_train_users
        for name in ("user", "history"):
            np.testing.assert_array_equal(own["query"][name], other["query"][name])
        np.testing.assert_array_equal(own["item"], other["item"])
        assert own["known_positives"].to_list() == other["known_positives"].to_list()


def test_known_positives_are_the_items_of_the_user(data):
    dataset, _ = training_batches(data, batch_size=16, epochs=1, known_positives=True)
    for batch in dataset:
        known = batch["known_positives"].to_list()
        assert len(known) == len(batch["item"])
        for user, row in zip(batch["query"]["user"].numpy(), known, strict=True):
            assert row == data.train_items[data.train_users == user].tolist()


def test_a_resumed_epoch_is_that_of_an_unbroken_run(data):
    whole, num_batches = training_batches(data, batch_size=16, epochs=3, seed=5)
    resumed, _ = training_batches(data, batch_size=16, epochs=3, first_epoch=2, seed=5)
    whole, resumed = elements(whole), elements(resumed)
    assert len(resumed) == num_batches
    for expected, actual in zip(whole[2 * num_batches :], resumed, strict=True):
        np.testing.assert_array_equal(actual["item"], expected["item"])
    other, _ = training_batches(data, batch_size=16, epochs=1, seed=6)
    assert elements(other)[0]["item"].tolist() != whole[0]["item"].tolist()


@pytest.mark.parametrize("first_step", [0, 1, 6, 7, 10])
def test_a_run_resumed_at_a_step_goes_on_with_the_very_next_batch(data, first_step):
    whole, num_batches = training_batches(data, batch_size=16, epochs=3, seed=5)
    resumed, same = training_batches(data, batch_size=16, epochs=3, seed=5, first_step=first_step)
    whole, resumed = elements(whole), elements(resumed)
    assert num_batches == same == len(whole) // 3
    assert len(resumed) == len(whole) - first_step
    for expected, actual in zip(whole[first_step:], resumed, strict=True):
        for name in ("user", "item"):
            np.testing.assert_array_equal(actual[name], expected[name])


@pytest.mark.parametrize(
    "workers",
    [
        [range(1)],
        [range(2)],
        [range(1), range(1, 2)],
        [range(2), range(2, 4)],
        [range(3), range(3, 6), range(6, 9)],  # more than the last batch has rows
    ],
    ids=str,
)
def test_the_parts_of_all_replicas_are_the_batches(data, workers):
    """Contiguous and in order: nothing twice, nothing lost, from any step on."""
    batch_size, first_step, num_replicas = 17, 3, workers[-1].stop
    options = {"batch_size": batch_size, "epochs": 2, "history_length": 4, "first_step": first_step}
    whole, num_batches = training_batches(data, **options)
    whole = elements(whole)
    parts = [
        elements(training_batches(data, num_replicas=num_replicas, replicas=own, **options)[0])
        for own in workers
    ]
    assert len(whole) == 2 * num_batches - first_step
    assert 0 < len(whole[-1]["item"]) < 9
    for own, of_worker in zip(workers, parts, strict=True):
        assert len(of_worker) == len(own) * len(whole)
    for number, batch in enumerate(whole):
        of_batch = [
            of_worker[number * len(own) + place]
            for own, of_worker in zip(workers, parts, strict=True)
            for place in range(len(own))
        ]
        sizes = [len(part["item"]) for part in of_batch]
        assert max(sizes) - min(sizes) <= 1
        for name in ("user", "item", "history"):
            joined = np.concatenate([part[name] for part in of_batch])
            np.testing.assert_array_equal(joined, batch[name])


def test_nothing_to_batch(data):
    with pytest.raises(ValueError, match="`batch_size` must be a positive integer. Received: 0"):
        training_batches(data, batch_size=0, epochs=1)
    with pytest.raises(ValueError, match="`first_step` must be a non-negative int.*: -1"):
        training_batches(data, batch_size=4, epochs=1, first_step=-1)
    for replicas in (range(0), range(1, 3), range(-1, 1)):
        with pytest.raises(ValueError, match="`replicas` must be some of the 2 replicas. Received"):
            training_batches(data, batch_size=4, epochs=1, num_replicas=2, replicas=replicas)
    frame = pd.DataFrame({"user": ["a", "b"], "item": ["x", "y"]})
    single = encode(Split(frame, frame[:0], frame[:0]))
    with pytest.raises(ValueError, match="no interaction has one before it"):
        training_batches(single, batch_size=4, epochs=1, history_length=3)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"first_epoch": 1},
        {"first_epoch": 3},
        {"first_step": 2},
        {"first_step": 8},
        {"first_epoch": 1, "first_step": 20},
        {"first_step": 1, "num_replicas": 3},
        {"num_replicas": 4, "replicas": range(1, 3)},
        {"history_length": 3, "known_positives": True},
    ],
)
def test_the_dataset_knows_its_length(data, options):
    dataset, _ = training_batches(data, batch_size=16, epochs=3, **options)
    assert len(dataset) == int(dataset.cardinality()) == sum(1 for _ in dataset)
