"""The learning rate over the epochs of a run, broken or not."""

import numpy as np
import pytest

from tfrs_croloss.commands.cli import main
from tfrs_croloss.commands.training import trainer

# (1 + cos(π · epoch / 4)) / 2
COSINE = [1.0, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2]
STEPS = 14  # An epoch's: 60 users have 14 training interactions each, and a batch has 64.


@pytest.fixture
def rates(monkeypatch):
    """Those of the epochs in their order, as training has them at each one's end."""
    seen = []
    end = trainer._Progress.on_epoch_end

    def on_epoch_end(self, epoch, logs=None):
        seen.append(float(self.model.optimizer.learning_rate))
        return end(self, epoch, logs)

    monkeypatch.setattr(trainer._Progress, "on_epoch_end", on_epoch_end)
    return seen


class Killed(BaseException):
    """Passes every `except Exception`, as a kill would."""


def options(train_options, tmp_path):
    rate = [
        "--learning_rate",
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
def test_the_rate_of_each_epoch(schedule, shares, train_options, tmp_path, rates):
    main([*options(train_options, tmp_path), "--schedule", schedule, "--name", schedule])
    np.testing.assert_allclose(rates, 0.02 * np.array(shares), rtol=1e-6)


def test_a_resumed_run_goes_on_with_the_rate_of_its_epoch(
    train_options, tmp_path, rates, monkeypatch
):
    command = [*options(train_options, tmp_path), "--schedule", "cosine", "--name", "killed"]
    save = trainer.tf.train.CheckpointManager.save

    def save_until_killed(manager, number):
        if number > 2 * STEPS + 6:
            raise Killed
        return save(manager, number)

    with monkeypatch.context() as patches:
        patches.setattr(trainer.tf.train.CheckpointManager, "save", save_until_killed)
        with pytest.raises(Killed):
            main(command)
    assert len(rates) == 2
    main(command)
    np.testing.assert_allclose(rates, 0.02 * np.array(COSINE), rtol=1e-6)
