"""Which negatives a config names."""

import json

import numpy as np
import pandas as pd
import pytest

from tfrs_croloss.commands.cli import main
from tfrs_croloss.commands.experiment.build import facts_of
from tfrs_croloss.commands.experiment.classes import built, spec
from tfrs_croloss.commands.experiment.options import Config
from tfrs_croloss.commands.experiment.runs import Run
from tfrs_croloss.data import Split, encode
from tfrs_croloss.retrieval import (
    AllItems,
    InBatchNegatives,
    OwnNegatives,
    PopularityNegatives,
    UniformNegatives,
)


@pytest.fixture
def data():
    rows = [("a", "x"), ("a", "y"), ("b", "x"), ("b", "z"), ("b", "y"), ("c", "x")]
    train = pd.DataFrame(rows, columns=["user", "item"])
    return encode(Split(train, train[:0], train[:0]))


def counts_of(data, items):
    return [items.count(item) for item in data.items.ids]


def negatives_of(data, *negatives, **options):
    config = Config(negatives=list(negatives), seed=3, **options)
    return built(config.negatives, facts_of(config, data))


def test_uniform_by_default(data):
    (part,) = built(Config().negatives, facts_of(Config(seed=3), data))
    assert isinstance(part, UniformNegatives)
    assert part.get_config() == {"num_items": 3, "num_negatives": 1024, "seed": 3}


def test_all_items(data):
    (part,) = negatives_of(data, "AllItems")
    assert isinstance(part, AllItems)
    assert part.get_config() == {"num_items": 3}


def test_by_popularity(data):
    (part,) = negatives_of(data, spec("PopularityNegatives", num_negatives=5, beta=0.5))
    assert isinstance(part, PopularityNegatives)
    assert part.get_config() == {
        "item_counts": counts_of(data, "xyxzyx"),
        "num_negatives": 5,
        "beta": 0.5,
        "seed": 3,
    }


@pytest.mark.parametrize(("tower", "positives"), [("UserTower", "xyxzyx"), ("HistoryTower", "yzy")])
def test_in_batch_negatives_are_the_items_trained_on(data, tower, positives):
    """A history tower does not train on a user's first item."""
    uniform = spec("UniformNegatives", num_negatives=5)
    first, second = negatives_of(data, "InBatchNegatives", uniform, query_tower=tower)
    assert isinstance(first, InBatchNegatives)
    np.testing.assert_array_equal(first.item_counts, counts_of(data, positives))
    assert isinstance(second, UniformNegatives)


def test_a_part_of_a_part_is_filled_in(data):
    (part,) = negatives_of(
        data, spec("OwnNegatives", part=spec("PopularityNegatives", num_negatives=4))
    )
    assert isinstance(part, OwnNegatives)
    assert part.part.get_config() == {
        "item_counts": counts_of(data, "xyxzyx"),
        "num_negatives": 4,
        "beta": 0.75,
        "seed": 3,
    }


def test_known_positives_are_no_negatives(train_options, tmp_path):
    """All items are negatives, so a row has all but its user's training items."""
    options = [*train_options, "--negatives", "AllItems", "--epochs", "1", "--runs", str(tmp_path)]
    losses = {}
    for mask in ("true", "false"):
        main([*options, "--mask_known", mask, "--name", mask])
        losses[mask] = Run(tmp_path / mask).history_path.read_text()
    first, second = (json.loads(text)[0]["train_loss"] for text in losses.values())
    # Fewer negatives, a smaller rank.
    assert first < second
