"""Callbacks that a test trains with, and a kill without a signal."""

import contextlib
import functools

import pytest

from tfrs_croloss.commands.training import trainer
from tfrs_croloss.retrieval.requirements import tf_keras


class Killed(BaseException):
    """Passes every `except Exception`, as a kill would."""


class KillAtStep(tf_keras.callbacks.Callback):
    """Kills the training after a step, when that is saved if it is to be."""

    def __init__(self, step):
        super().__init__()
        self.step = step

    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.step) == self.step:
            raise Killed


class KillAfterEpoch(tf_keras.callbacks.Callback):
    """Kills the training after an epoch, counted from 1, and its validation."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 == self.epoch:
            raise Killed


@contextlib.contextmanager
def calling(*callbacks):
    """Has what is trained in this block call callbacks, too."""
    with pytest.MonkeyPatch.context() as patches:
        more = functools.partial(trainer.Trainer, callbacks=callbacks)
        patches.setattr(trainer, "Trainer", more)
        yield
