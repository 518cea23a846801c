"""The checkpoints of a run, from which it resumes and of which the best epoch's is served."""

import contextlib
import json
import tempfile
import time

from tfrs_croloss._machine import peak_memory_mb
from tfrs_croloss.commands.experiment.runs import write_json
from tfrs_croloss.commands.training.strategy import from_chief, is_chief
from tfrs_croloss.retrieval.requirements import tf


class Checkpoints:
    """What a resumed run needs, in the checkpoints `last/` and `best/`.

    A checkpoint is written whole or not at all, and holds the history with the weights, so the two
    can't disagree. `best/` keeps two: after a kill between best and last, the one before is still
    the best that `last` knows of.

    The model's count of steps is the position in the data, to the batch. Keras's BackupAndRestore
    resumes a count, too, but reads the epoch's batches from its first again.

    In a cluster all workers hold the same state, and all must call what they call here: to save,
    variables are gathered from the replicas. The chief's files are the ones that count.

    Args:
        run: The `Run` whose they are.
        config: Its `Config`.
        model: Its model, which takes the weights of `last/`, if there is one.
        fingerprint: Of the data that it is trained on.
        strategy: The strategy that trains it, or None where nothing is trained.

    Attributes:
        step: Steps that have been trained.

    Raises:
        ValueError: If it was trained on other data, or a checkpoint is damaged.
    """

    def __init__(self, run, config, model, fingerprint, strategy=None):
        self.run, self.config, self.model = run, config, model
        self.strategy = tf.distribute.get_strategy() if strategy is None else strategy
        self.is_chief = is_chief(self.strategy)
        self.data = tf.Variable(fingerprint, trainable=False)
        self.rows = tf.Variable("[]", trainable=False)
        # Mean loss of the epoch's batches up to `step`.
        self.loss = tf.Variable(0.0, trainable=False, dtype=tf.float64)
        # Of training up to `step`, and the most memory that a process of it had.
        self.seconds_saved = tf.Variable(0.0, trainable=False, dtype=tf.float64)
        self.memory_saved = tf.Variable(0.0, trainable=False, dtype=tf.float64)
        self.checkpoint = tf.train.Checkpoint(
            model=model,
            optimizer=model.optimizer,
            history=self.rows,
            data=self.data,
            loss=self.loss,
            seconds=self.seconds_saved,
            peak_memory_mb=self.memory_saved,
        )
        last = tf.train.latest_checkpoint(run.checkpoints / "last")
        (number,) = from_chief(self.strategy, [int(last.split("-")[-1]) if last else -1])
        if number >= 0:
            self._restore("last", int(number))
        self.step = int(model.step.numpy())
        self._clock = None

    def start_clock(self):
        """Training begins, or goes on."""
        self._clock = time.perf_counter() - self.seconds

    @property
    def seconds(self):
        """Wall time of training up to the last checkpoint.

        What a kill has undone is not in it: that is done, and counted, once more.
        """
        return float(self.seconds_saved.numpy())

    @property
    def peak_memory_mb(self):
        """The most memory so far that one of the processes that trained had."""
        return max(float(self.memory_saved.numpy()), peak_memory_mb())

    @property
    def history(self):
        """The validated epochs, a dict each."""
        return json.loads(self.rows.numpy())

    @property
    def is_finished(self):
        """Whether the last epoch is reached, or `patience` validations brought no better one."""
        if self.history and self.history[-1]["epoch"] >= self.config.epochs:
            return True
        scores = [self._score(row) for row in self.history]
        waited = len(scores) - 1 - scores.index(max(scores)) if scores else 0
        return waited >= self.config.patience

    def save_step(self, loss):
        """Saves the position, and the mean loss of the epoch's batches up to it."""
        self.loss.assign(loss)
        self._save("last", self.step, keep=1)

    def save_epoch(self, row):
        """Takes in an epoch that is validated, or saved where nothing is."""
        is_best = all(self._score(row) > self._score(past) for past in self.history)
        row = {**row, "seconds": self._now()}
        self.rows.assign(json.dumps([*self.history, row]))
        if is_best:
            self._save("best", row["epoch"], keep=2)
        self._save("last", self.step, keep=1)
        if self.is_chief:
            write_json(self.run.history_path, self.history)

    def restore_best(self):
        """Restores the best epoch's weights; returns its row of the history."""
        if not self.history:
            raise ValueError(
                f"{self.run.checkpoints} holds no checkpoint. Remove {self.run.folder} and train "
                "anew"
            )
        self._restore("best", self.best["epoch"])
        return self.best

    @property
    def best(self):
        """The best epoch's row of the history."""
        return max(self.history, key=self._score)

    def _score(self, row):
        """What an epoch is chosen by; without a validation set the last one is the best."""
        return row.get(self.config.monitor, row["epoch"])

    def _now(self):
        return time.perf_counter() - self._clock

    def _save(self, name, number, keep):
        self.seconds_saved.assign(self._now())
        self.memory_saved.assign(self.peak_memory_mb)
        with contextlib.ExitStack() as stack:
            folder = self.run.checkpoints / name
            if not self.is_chief:
                folder = stack.enter_context(tempfile.TemporaryDirectory())
            try:
                tf.train.CheckpointManager(self.checkpoint, folder, max_to_keep=keep).save(number)
            except tf.errors.OpError as error:
                raise OSError(f"could not write to {folder}: {error.message}") from error

    def _restore(self, name, number):
        path = str(self.run.checkpoints / name / f"ckpt-{number}")
        try:
            # First of all: other data has tables of other sizes, which would not fit.
            trained_on = tf.train.load_variable(path, "data/.ATTRIBUTES/VARIABLE_VALUE")
            if trained_on != self.data.numpy():
                raise ValueError(
                    f"the data is not what {self.run.folder} was trained on: its file, or the "
                    "package it comes from, has changed since. Train anew under another --name"
                )
            self.checkpoint.restore(path).expect_partial()
        except (tf.errors.OpError, IndexError) as error:
            raise ValueError(
                f"the checkpoint {path} is damaged or missing ({error}). Remove {self.run.folder} "
                "and train anew"
            ) from error
