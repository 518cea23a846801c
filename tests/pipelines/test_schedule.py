"""The learning rate over the epochs of a run, broken or not."""

import numpy as np
import pytest

from tests.pipelines.killing import KillAtStep, Killed, calling
from tfrs_croloss.commands.cli import main
from tfrs_croloss.retrieval.requirements import tf_keras

# (1 + cos(π · epoch / 4)) / 2
COSINE = [1.0, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2]
STEPS = 14  # An epoch's: 60 users have 14 training interactions each, and a batch has 64.


class Rates(tf_keras.callbacks.Callback):
    """Those of the epochs in their order, as training has them at each one's end."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(float(self.model.optimizer.learning_rate))


def options(train_options, tmp_path):
    rate = [
        "--optimizer.learning_rate",
        "0.02",
        "--epochs",
        "4",
        "--validate_every",
        "1",
        "--save_every",
        "5",
    ]
    return [*train_options, *rate, "--runs", str(tmp_path)]


@pytest.mark.parametrize(("schedule", "shares"), [("cosine", COSINE), ("constant", [1.0] * 4)])
def test_the_rate_of_each_epoch(schedule, shares, train_options, tmp_path):
    rates = Rates()
    with calling(rates):
        main([*options(train_options, tmp_path), "--schedule", schedule, "--name", schedule])
    np.testing.assert_allclose(rates.seen, 0.02 * np.array(shares), rtol=1e-6)


def test_a_resumed_run_goes_on_with_the_rate_of_its_epoch(train_options, tmp_path):
    rates = Rates()
    command = [*options(train_options, tmp_path), "--schedule", "cosine", "--name", "killed"]
    with calling(rates, KillAtStep(2 * STEPS + 6)), pytest.raises(Killed):
        main(command)
    assert len(rates.seen) == 2
    with calling(rates):
        main(command)
    np.testing.assert_allclose(rates.seen, 0.02 * np.array(COSINE), rtol=1e-6)
