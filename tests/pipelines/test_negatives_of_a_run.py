"""Which negatives a config names."""

import json

import numpy as np
import pandas as pd
import pytest

from tfrs_croloss.commands.cli import main
from tfrs_croloss.commands.experiment.build import build_negatives
from tfrs_croloss.commands.experiment.options import Config
from tfrs_croloss.commands.experiment.runs import Run
from tfrs_croloss.data import Split, encode
from tfrs_croloss.retrieval import AllItems, InBatchNegatives, PopularityNegatives, UniformNegatives


@pytest.fixture
def data():
    rows = [("a", "x"), ("a", "y"), ("b", "x"), ("b", "z"), ("b", "y"), ("c", "x")]
    train = pd.DataFrame(rows, columns=["user", "item"])
    return encode(Split(train, train[:0], train[:0]))


def counts_of(data, items):
    return [items.count(item) for item in data.items.ids]


def test_uniform_by_default(data):
    (part,) = build_negatives(Config(negatives=5, seed=3), data)
    assert isinstance(part, UniformNegatives)
    assert part.get_config() == {"num_items": 3, "num_negatives": 5, "seed": 3}


def test_all_items(data):
    (part,) = build_negatives(Config(negatives=0, sampling="all"), data)
    assert isinstance(part, AllItems)
    assert part.get_config() == {"num_items": 3}


def test_by_popularity(data):
    config = Config(negatives=5, sampling="popularity", sampling_beta=0.5, seed=3)
    (part,) = build_negatives(config, data)
    assert isinstance(part, PopularityNegatives)
    assert part.get_config() == {
        "item_counts": counts_of(data, "xyxzyx"),
        "num_negatives": 5,
        "beta": 0.5,
        "seed": 3,
    }


@pytest.mark.parametrize(("tower", "positives"), [("id", "xyxzyx"), ("history", "yzy")])
def test_in_batch_negatives_are_the_items_trained_on(data, tower, positives):
    """A history tower does not train on a user's first item."""
    first, second = build_negatives(Config(negatives=5, in_batch=True, tower=tower), data)
    assert isinstance(first, InBatchNegatives)
    np.testing.assert_array_equal(first.item_counts, counts_of(data, positives))
    assert isinstance(second, UniformNegatives)
    assert len(build_negatives(Config(negatives=0, in_batch=True), data)) == 1


def test_no_negative_power():
    with pytest.raises(ValueError, match="--sampling_beta must not be negative. Received: -1"):
        Config(sampling_beta=-1)


def test_known_positives_are_no_negatives(train_options, tmp_path):
    """All items are negatives, so a row has all but its user's training items."""
    options = [*train_options, "--sampling", "all", "--epochs", "1", "--runs", str(tmp_path)]
    losses = {}
    for mask in ("true", "false"):
        main([*options, "--mask_known", mask, "--name", mask])
        losses[mask] = Run(tmp_path / mask).history_path.read_text()
    first, second = (json.loads(text)[0]["train_loss"] for text in losses.values())
    # Fewer negatives, a smaller rank.
    assert first < second
