"""Training a run: fit, validate, keep the best epoch, resume after a kill."""

import contextlib
import json
import math
import tempfile
import time

import numpy as np
from scipy import sparse
from tqdm import tqdm

from tfrs_croloss._machine import peak_memory_mb
from tfrs_croloss.commands.experiment.build import build_model, load_data
from tfrs_croloss.commands.experiment.runs import Run, write_arrays, write_json
from tfrs_croloss.commands.reports.plots import plot_recall
from tfrs_croloss.commands.training.strategy import build_strategy, from_chief, is_chief
from tfrs_croloss.commands.training.thresholds import RefreshThresholds
from tfrs_croloss.data import training_batches
from tfrs_croloss.evaluation import evaluate
from tfrs_croloss.index import ExactIndex
from tfrs_croloss.retrieval.requirements import tf, tf_keras
from tfrs_croloss.serving import export_model


def train(config, data=None):
    """Trains what `config` says, or what is left of it, and measures it on the test set.

    Args:
        config: A `Config`.
        data: Its `RetrievalData`, where it is loaded already.

    Returns:
        The complete `Run`; None in the workers of a cluster that are not its chief.
    """
    strategy = build_strategy(config)
    chief = is_chief(strategy)
    run = Run.create(config, chief)
    (is_complete,) = from_chief(strategy, [run.is_complete])
    if not is_complete:
        data = load_data(config) if data is None else data
        model, state = _train(run, config, data, strategy)
        if chief:
            _measure(config, data, model, state)
        # The others stay until all is written: their end could take the chief down.
        from_chief(strategy, [True])
    return run if chief else None


def validate(run, config, data, strategy):
    """Trains what `config` says, or what is left of it, and looks at the validation set alone.

    Args:
        run: Its `Run`, which is not completed by this.
        config: A `Config`.
        data: Its `RetrievalData`.
        strategy: Of one process.

    Returns:
        The best epoch's row of the history.
    """
    _, state = _train(run, config, data, strategy)
    return state.best(config.select)


def _train(run, config, data, strategy):
    with strategy.scope():
        model = build_model(config, data)
    state = _State(run, model, data.fingerprint(), strategy)
    _fit(config, data, model, state, strategy)
    return model, state


def _fit(config, data, model, state, strategy):
    """Trains to the last epoch, or until validations gain no more."""

    def batches(step=0, num_replicas=1, replicas=None):
        return training_batches(
            data,
            config.batch,
            config.epochs,
            history_length=config.history_length_of_tower,
            seed=config.seed,
            first_step=step,
            num_replicas=num_replicas,
            replicas=replicas,
            known_positives=config.mask_known,
        )

    def of_worker(context):
        each = context.num_replicas_in_sync // context.num_input_pipelines
        first = context.input_pipeline_id * each
        return batches(state.step, context.num_replicas_in_sync, range(first, first + each))[0]

    _, batches_an_epoch = batches()
    with tqdm(
        total=config.epochs * batches_an_epoch,
        initial=state.step,
        desc=config.name,
        unit=" steps",
        mininterval=1,
        # Below another bar, that of a search, it is cleared in the end.
        leave=None,
        disable=not state.is_chief,
    ) as bar:
        callbacks = [_Progress(config, data, state, strategy, batches_an_epoch, bar)]
        if config.schedule == "cosine":
            callbacks.append(tf_keras.callbacks.LearningRateScheduler(_cosine(config)))
        if model.thresholds is not None:
            callbacks.append(RefreshThresholds(config, data, state, strategy, batches_an_epoch))
        state.start_clock()
        while not state.is_finished(config):
            epoch, done = divmod(state.step, batches_an_epoch)
            model.fit(
                # Each worker reads its replicas' parts; Keras then shards nothing itself.
                strategy.distribute_datasets_from_function(of_worker),
                initial_epoch=epoch,
                # What is left of a broken epoch is a fit of its own, with fewer steps.
                epochs=epoch + 1 if done else config.epochs,
                steps_per_epoch=batches_an_epoch - done,
                callbacks=callbacks,
                verbose=0,
            )


def _cosine(config):
    """The learning rate of an epoch, counted from 0, which a resumed run finds again."""
    return lambda epoch: config.learning_rate * (1 + math.cos(math.pi * epoch / config.epochs)) / 2


def _measure(config, data, model, state):
    """Measures the best epoch on the test set, and completes the run."""
    run = state.run
    # Before the best checkpoint brings back its own, and before the test adds to the memory.
    cost = {"seconds": state.seconds, "peak_memory_mb": state.peak_memory_mb}
    best = state.restore_best(config.select)
    test = evaluate_exactly(config, data, model)
    content = {
        "loss": config.loss,
        "seed": config.seed,
        "best_epoch": best["epoch"],
        "validation": {config.select: best[config.select]} if config.validates else {},
        "data": data.counts,
        "test": {"exact": test.as_dict()},
        **cost,
    }
    plot_recall({config.loss: content["test"]["exact"]}, run.plot_path)
    write_arrays(run.per_user_path, {"user": test.users.astype("int32"), **_small(test.per_user)})
    write_json(run.metrics_path, content)


def _small(per_user):
    """What a test of significance asks for, in single precision."""
    return {
        name: values.astype("float32")
        for name, values in per_user.items()
        if name.startswith(("recall@", "ndcg@"))
    }


def open_run(folder, data=None):
    """Opens a complete run: the `Run`, its config, data and best model.

    Args:
        folder: Folder of the run.
        data: Its `RetrievalData`, where it is loaded already.

    Raises:
        ValueError: If it is not complete, or its data has changed since.
    """
    run = Run.open(folder)
    config = run.config()
    data = load_data(config) if data is None else data
    model = build_model(config, data)
    _State(run, model, data.fingerprint()).restore_best(config.select)
    return run, config, data, model


def export_run(folder, output=None, **options):
    """Exports a complete run's best model; returns the folder of the SavedModel."""
    run, config, data, model = open_run(folder)
    return export(config, data, model, output or run.export, **options)


def export(config, data, model, path, index="exact", k=100, target_recall=0.99, version=None):
    """Exports the model of a run; returns the folder of the SavedModel."""
    return export_model(
        model,
        data,
        path,
        k=k,
        history_length=config.history_length_of_tower,
        seen=seen_items(config, data),
        search=index,
        target_recall=target_recall,
        version=version,
        mask_history=config.mask_seen,
    )


def seen_items(config, data):
    """Items that a user is never shown, in the test as in the export."""
    seen = _seen_in_validation(config, data)
    masks_validation = config.mask_seen and config.mask_validation
    return seen + data.validation.matrix if masks_validation else seen


def _seen_in_validation(config, data):
    return data.known if config.mask_seen else sparse.csr_array(data.known.shape, dtype=np.int64)


def evaluate_exactly(config, data, model, top_n=None, segments=None):
    """The `Evaluation` of a run's model on the test set, every item scored."""
    return _evaluate(
        config, data, model, data.test, seen_items(config, data), top_n or config.top_n, segments
    )


def _evaluate(config, data, model, targets, seen, top_n, segments=None):
    return evaluate(
        ExactIndex(model.candidate_embeddings()),
        model.query_embeddings(data.queries(config.history_length_of_tower)),
        targets,
        exclude=seen,
        top_n=top_n,
        segments=segments,
    )


class _State:
    """What a resumed run needs, in the checkpoints `last/` and `best/`.

    A checkpoint is written whole or not at all, and holds the history with the weights, so the two
    can't disagree. `best/` keeps two: after a kill between best and last, the one before is still
    the best that `last` knows of.

    The model's count of steps is the position in the data, to the batch. Keras's BackupAndRestore
    resumes a count, too, but reads the epoch's batches from its first again.

    In a cluster all workers hold the same state, and all must call what they call here: to save,
    variables are gathered from the replicas. The chief's files are the ones that count.
    """

    def __init__(self, run, model, fingerprint, strategy=None):
        self.run, self.model = run, model
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

    def is_finished(self, config):
        """Whether the last epoch is reached, or `patience` validations brought no better one."""
        if self.history and self.history[-1]["epoch"] >= config.epochs:
            return True
        scores = [_score(row, config.select) for row in self.history]
        return bool(scores) and len(scores) - 1 - scores.index(max(scores)) >= config.patience

    def save_step(self, loss):
        """Saves the position, and the mean loss of the epoch's batches up to it."""
        self.loss.assign(loss)
        self._save("last", self.step, keep=1)

    def save_epoch(self, row, select):
        """Takes in an epoch that is validated, or saved where nothing is."""
        is_best = all(_score(row, select) > _score(past, select) for past in self.history)
        row = {**row, "seconds": self._now()}
        self.rows.assign(json.dumps([*self.history, row]))
        if is_best:
            self._save("best", row["epoch"], keep=2)
        self._save("last", self.step, keep=1)
        if self.is_chief:
            write_json(self.run.history_path, self.history)

    def restore_best(self, select):
        """Restores the best epoch's weights; returns its row of the history."""
        if not self.history:
            raise ValueError(
                f"{self.run.checkpoints} holds no checkpoint. Remove {self.run.folder} and train "
                "anew"
            )
        best = self.best(select)
        self._restore("best", best["epoch"])
        return best

    def _now(self):
        return time.perf_counter() - self._clock

    def best(self, select):
        """The best epoch's row of the history."""
        return max(self.history, key=lambda row: _score(row, select))

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


def _score(row, select):
    """What an epoch is chosen by; without a validation set the last one is the best."""
    return row.get(select, row["epoch"])


class _Progress(tf_keras.callbacks.Callback):
    """Validates, saves and stops; shows it all in the progress bar."""

    def __init__(self, config, data, state, strategy, batches_an_epoch, bar):
        super().__init__()
        self.config, self.data, self.state, self.bar = config, data, state, bar
        self.strategy, self.batches_an_epoch = strategy, batches_an_epoch

    def on_epoch_begin(self, epoch, logs=None):
        # Of the epoch's batches before this fit: their number, and their mean loss.
        self.before = self.state.step % self.batches_an_epoch
        self.loss_before = float(self.state.loss.numpy()) if self.before else 0.0

    def on_train_batch_end(self, batch, logs=None):
        self.state.step += 1
        self.bar.update()
        # An epoch's last step is saved with its validation.
        if self.state.step % self.batches_an_epoch:
            self._save_step()

    def on_epoch_end(self, epoch, logs=None):
        config, done = self.config, epoch + 1
        loss = self._mean_loss()
        # Each epoch: a loss that is not finite has spoilt the weights for good.
        if not math.isfinite(loss):
            raise ValueError(
                f"the loss became {loss} in epoch {done}: lower --learning_rate, or "
                "raise --temperature"
            )
        if done % config.validate_every and done < config.epochs:
            self._save_step()
            return
        row = {"train_loss": loss}
        if config.validates:
            data = self.data
            seen = _seen_in_validation(config, data)
            found = _evaluate(config, data, self.model, data.validation, seen, config.top_n)
            row.update(found.as_dict())
        # The last bits may differ from machine to machine, and all must stop at the same epoch.
        agreed = zip(row.items(), from_chief(self.strategy, list(row.values())), strict=True)
        row = {name: type(own)(number) for (name, own), number in agreed}
        self.state.save_epoch({"epoch": done, **row}, config.select)
        if config.validates:
            self.bar.set_postfix({f"validation {config.select}": f"{row[config.select]:.4f}"})
        self.model.stop_training = self.state.is_finished(config)

    def _save_step(self):
        if self.config.save_every and self.state.step % self.config.save_every == 0:
            self.state.save_step(self._mean_loss())

    def _mean_loss(self):
        """Mean over the epoch's batches so far; in a cluster all workers must ask for it."""
        # Not from the logs, which Keras adds up over workers and not over local replicas. The task
        # gives the metric the loss of the whole batch on each replica.
        (metric,) = (metric for metric in self.model.metrics if metric.name == "mean_loss")
        loss = float(metric.result())
        steps = (self.state.step - 1) % self.batches_an_epoch + 1
        return loss + (self.loss_before - loss) * self.before / steps
