"""A small file of interactions with two camps, and runs trained on it."""

import numpy as np
import pandas as pd
import pytest

from tfrs_croloss.commands.cli import main

NUM_USERS, NUM_ITEMS = 60, 80


@pytest.fixture(scope="session")
def ratings(tmp_path_factory):
    rng = np.random.default_rng(0)
    rows = [
        (f"u{user}", item + 1000, time, rng.integers(1, 6))
        for user in range(NUM_USERS)
        for time, item in enumerate(rng.permutation(np.arange(user % 2, NUM_ITEMS, 2))[:20])
    ]
    path = tmp_path_factory.mktemp("data") / "ratings.csv"
    frame = pd.DataFrame(rows, columns=["who", "what", "when", "stars"])
    frame.sample(frac=1, random_state=0).to_csv(path, index=False)
    return path


@pytest.fixture(scope="session")
def train_options(ratings):
    return [
        *("train", "--train", str(ratings), "--user", "who", "--item", "what", "--time", "when"),
        *("--top_n", "[5,20]", "--dim", "8", "--batch_size", "64", "--epochs", "4"),
        *("--negatives", "UniformNegatives", "--negatives.num_negatives", "32"),
        *("--optimizer.learning_rate", "0.03"),
    ]


@pytest.fixture(scope="session")
def run(train_options, tmp_path_factory):
    """The folder of a complete run, for tests that only read it."""
    runs = tmp_path_factory.mktemp("runs")
    main([*train_options, "--runs", str(runs), "--name", "mine"])
    return runs / "mine"


@pytest.fixture(scope="session")
def tune_options(train_options, tmp_path_factory):
    """A search of a space with three combinations, of which one fails: its loss is not finite."""
    space = tmp_path_factory.mktemp("space") / "space.yaml"
    space.write_text("FusedAdam:\n  learning_rate: [0.01, 0.03, 1e39]\n")
    return ["tune", *train_options[1:], "--trials", "5", "--space", str(space)]


@pytest.fixture(scope="session")
def search(tune_options, tmp_path_factory):
    """The folder of a complete search, for tests that only read it."""
    runs = tmp_path_factory.mktemp("searches")
    main([*tune_options, "--runs", str(runs), "--name", "mine"])
    return runs / "mine"
