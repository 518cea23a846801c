"""Training a run: fit, validate, keep the best epoch, resume after a kill."""

import json
import math

from tqdm import tqdm

from pipelines.build import build_model, load_data
from pipelines.report import plot_recall
from pipelines.runs import Run, write_json
from tfrs_croloss.data import training_batches
from tfrs_croloss.evaluation import evaluate
from tfrs_croloss.index import build_index
from tfrs_croloss.retrieval.requirements import tf, tf_keras
from tfrs_croloss.serving import export_model


def train(config, data=None):
    """Trains what `config` says, or what is left of it, and measures it on the test set.

    Args:
        config: A `Config`.
        data: Its `RetrievalData`, where it is loaded already.

    Returns:
        The complete `Run`.
    """
    run = Run.create(config)
    if run.is_complete:
        return run
    data = load_data(config) if data is None else data
    model = build_model(config, data)
    state = _State(run, model, data.fingerprint())
    batches, batches_an_epoch = training_batches(
        data,
        config.batch,
        config.epochs,
        first_epoch=state.first_epoch,
        history_length=config.history_length_of_tower,
        seed=config.seed,
    )
    with tqdm(
        total=config.epochs * batches_an_epoch,
        initial=state.first_epoch * batches_an_epoch,
        desc=config.name,
        unit=" steps",
        mininterval=1,
    ) as bar:
        if not state.is_finished(config):
            model.fit(
                batches,
                epochs=config.epochs,
                initial_epoch=state.first_epoch,
                steps_per_epoch=batches_an_epoch,
                callbacks=[_Validation(config, data, state, bar)],
                verbose=0,
            )
    best = state.restore_best(config.select)
    content = {
        "loss": config.loss,
        "seed": config.seed,
        "best_epoch": best["epoch"],
        "validation": {config.select: best[config.select]},
        "data": data.counts,
        "test": {"exact": test_metrics(config, data, model, "exact")},
    }
    plot_recall({config.loss: content["test"]["exact"]}, run.plot_path)
    write_json(run.metrics_path, content)
    return run


def open_run(folder):
    """Opens a complete run: the `Run`, its config, data and best model.

    Raises:
        ValueError: If it is not complete, or its data has changed since.
    """
    run = Run.open(folder)
    config = run.config()
    data = load_data(config)
    model = build_model(config, data)
    _State(run, model, data.fingerprint()).restore_best(config.select)
    return run, config, data, model


def export_run(folder, index="exact", k=100, output=None):
    """Exports a complete run's best model; returns the folder of the SavedModel."""
    run, config, data, model = open_run(folder)
    path = output or run.export
    export_model(
        model,
        data,
        path,
        k=k,
        history_length=config.history_length_of_tower,
        seen=seen_items(config, data),
        search=index,
    )
    return path


def seen_items(config, data):
    """Items that a user is never shown, in the test as in the export."""
    return data.train + data.validation.matrix if config.mask_validation else data.train


def test_metrics(config, data, model, kind, top_n=None):
    """Metrics of the test set through an index of the kind named, as plain numbers."""
    return _metrics(
        config, data, model, data.test, seen_items(config, data), kind, top_n or config.top_n
    )


def _metrics(config, data, model, targets, seen, kind, top_n):
    return evaluate(
        build_index(model.candidate_embeddings(), kind),
        model.query_embeddings(data.queries(config.history_length_of_tower)),
        targets.matrix,
        exclude=seen,
        num_targets=targets.counts,
        top_n=top_n,
    ).as_dict()


class _State:
    """What a resumed run needs, in the checkpoints `last/` and `best/`.

    A checkpoint is written whole or not at all, and holds the history with the weights, so the two
    can't disagree. `best/` keeps two: after a kill between best and last, the one before is still
    the best that `last` knows of.
    """

    def __init__(self, run, model, fingerprint):
        self.run = run
        self.data = tf.Variable(fingerprint, trainable=False)
        self.rows = tf.Variable("[]", trainable=False)
        self.checkpoint = tf.train.Checkpoint(
            model=model, optimizer=model.optimizer, history=self.rows, data=self.data
        )
        self.last, self.best = (
            tf.train.CheckpointManager(self.checkpoint, run.checkpoints / name, max_to_keep=keep)
            for name, keep in (("last", 1), ("best", 2))
        )
        if self.last.latest_checkpoint is not None:
            self._restore(self.last.latest_checkpoint)

    @property
    def history(self):
        """The validated epochs, a dict each."""
        return json.loads(self.rows.numpy())

    @property
    def first_epoch(self):
        """The epoch to go on with, counted from 0."""
        return self.history[-1]["epoch"] if self.history else 0

    def is_finished(self, config):
        """Whether the last epoch is reached, or `patience` validations brought no better one."""
        if self.first_epoch >= config.epochs:
            return True
        scores = [row[config.select] for row in self.history]
        return bool(scores) and len(scores) - 1 - scores.index(max(scores)) >= config.patience

    def save(self, row, select):
        """Takes in a validated epoch."""
        is_best = all(row[select] > past[select] for past in self.history)
        self.rows.assign(json.dumps([*self.history, row]))
        try:
            if is_best:
                self.best.save(row["epoch"])
            self.last.save(row["epoch"])
        except tf.errors.OpError as error:
            raise OSError(f"could not write to {self.run.checkpoints}: {error.message}") from error
        write_json(self.run.history_path, self.history)

    def restore_best(self, select):
        """Restores the best epoch's weights; returns its row of the history."""
        if not self.history:
            raise ValueError(
                f"{self.run.checkpoints} holds no checkpoint. Remove {self.run.folder} and train "
                "anew"
            )
        best = max(self.history, key=lambda row: row[select])
        self._restore(str(self.run.checkpoints / "best" / f"ckpt-{best['epoch']}"))
        return best

    def _restore(self, path):
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


class _Validation(tf_keras.callbacks.Callback):
    """Validates, saves and stops; shows it all in the progress bar."""

    def __init__(self, config, data, state, bar):
        super().__init__()
        self.config, self.data, self.state, self.bar = config, data, state, bar

    def on_train_batch_end(self, batch, logs=None):
        self.bar.update()

    def on_epoch_end(self, epoch, logs=None):
        config, done = self.config, epoch + 1
        # Each epoch: a loss that is not finite has spoilt the weights for good.
        if not math.isfinite(logs["mean_loss"]):
            raise ValueError(
                f"the loss became {logs['mean_loss']} in epoch {done}: lower --learning_rate, or "
                "raise --temperature"
            )
        if done % config.validate_every and done < config.epochs:
            return
        data = self.data
        metrics = _metrics(
            config, data, self.model, data.validation, data.train, "exact", config.top_n
        )
        row = {"epoch": done, "train_loss": float(logs["mean_loss"]), **metrics}
        self.state.save(row, config.select)
        self.bar.set_postfix({f"validation {config.select}": f"{row[config.select]:.4f}"})
        self.model.stop_training = self.state.is_finished(config)
