"""Training a run: fit, validate, keep the best epoch, resume after a kill."""

from tqdm import tqdm

from tfrs_croloss.commands.experiment.build import build_model, load_data
from tfrs_croloss.commands.experiment.classes import built
from tfrs_croloss.commands.experiment.measure import Measure
from tfrs_croloss.commands.experiment.runs import Run, write_arrays, write_json
from tfrs_croloss.commands.reports.plots import plot_recall
from tfrs_croloss.commands.training.callbacks import (
    RefreshThresholds,
    ShowProgress,
    Validate,
    cosine_schedule,
)
from tfrs_croloss.commands.training.checkpoints import Checkpoints
from tfrs_croloss.commands.training.strategy import build_strategy, from_chief, is_chief
from tfrs_croloss.data import training_batches
from tfrs_croloss.retrieval.requirements import tf


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
        trainer = Trainer(config, load_data(config) if data is None else data, strategy)
        trainer.fit()
        if chief:
            trainer.complete()
        # The others stay until all is written: their end could take the chief down.
        from_chief(strategy, [True])
    return run if chief else None


class Trainer:
    """Trains a run, or what is left of it: it goes on from the last checkpoint in its folder.

    Args:
        config: A `Config`, whose `Run` is there.
        data: Its `RetrievalData`.
        strategy: The strategy to train with; that of TensorFlow by default.
        callbacks: Callbacks of Keras, called after the trainer's own: an epoch's `logs` have its
            validation. A run that resumes calls them for what is left.

    Attributes:
        run: The `Run`.
        model: The model, which has the last checkpoint's weights.
        measure: The `Measure` of its epochs and of the test.
        checkpoints: The `Checkpoints`.
        steps_an_epoch: Steps of a whole epoch.
    """

    def __init__(self, config, data, strategy=None, callbacks=()):
        self.config, self.data = config, data
        self.strategy = tf.distribute.get_strategy() if strategy is None else strategy
        self.run = Run.of(config)
        with self.strategy.scope():
            self.model = build_model(config, data)
        fingerprint = data.fingerprint()
        self.checkpoints = Checkpoints(self.run, config, self.model, fingerprint, self.strategy)
        self.measure = Measure(config, data)
        _, self.steps_an_epoch = self._batches()
        self.callbacks = [Validate(self)]
        if config.schedule == "cosine":
            self.callbacks.append(cosine_schedule(config))
        if self.model.thresholds is not None:
            self.callbacks.append(RefreshThresholds(self))
        self.callbacks += [*built(config.callbacks, {}), *callbacks]

    def fit(self):
        """Trains to the last epoch, or until validations gain no more.

        Returns:
            The best epoch's row of the history.
        """
        config, checkpoints = self.config, self.checkpoints
        checkpoints.start_clock()
        with self._bar() as bar:
            callbacks = [*self.callbacks, ShowProgress(bar, config.monitor)]
            while not checkpoints.is_finished:
                epoch, done = divmod(checkpoints.step, self.steps_an_epoch)
                self.model.fit(
                    # Each worker reads its replicas' parts; Keras then shards nothing itself.
                    self.strategy.distribute_datasets_from_function(self._batches_of_worker),
                    initial_epoch=epoch,
                    # What is left of a broken epoch is a fit of its own, with fewer steps.
                    epochs=epoch + 1 if done else config.epochs,
                    steps_per_epoch=self.steps_an_epoch - done,
                    callbacks=callbacks,
                    verbose=0,
                )
        return checkpoints.best

    def complete(self):
        """Measures the best epoch on the test set, and completes the run."""
        config, run, checkpoints = self.config, self.run, self.checkpoints
        # Before the best checkpoint brings back its own, and before the test adds to the memory.
        cost = {"seconds": checkpoints.seconds, "peak_memory_mb": checkpoints.peak_memory_mb}
        best = checkpoints.restore_best()
        test = self.measure.test(self.model)
        content = {
            "loss": config.loss_name,
            "seed": config.seed,
            "best_epoch": best["epoch"],
            "validation": {config.monitor: best[config.monitor]} if config.validates else {},
            "data": self.data.counts,
            "test": {"exact": test.as_dict()},
            **cost,
        }
        plot_recall({config.loss_name: content["test"]["exact"]}, run.plot_path)
        per_user = {"user": test.users.astype("int32"), **_small(test.per_user)}
        write_arrays(run.per_user_path, per_user)
        write_json(run.metrics_path, content)

    def _batches(self, step=0, num_replicas=1, replicas=None):
        config = self.config
        return training_batches(
            self.data,
            config.batch_size,
            config.epochs,
            history_length=config.history_length_of_tower,
            seed=config.seed,
            first_step=step,
            num_replicas=num_replicas,
            replicas=replicas,
            known_positives=config.mask_known,
        )

    def _batches_of_worker(self, context):
        number = context.num_replicas_in_sync
        each = number // context.num_input_pipelines
        first = context.input_pipeline_id * each
        return self._batches(self.checkpoints.step, number, range(first, first + each))[0]

    def _bar(self):
        return tqdm(
            total=self.config.epochs * self.steps_an_epoch,
            initial=self.checkpoints.step,
            desc=self.config.name,
            unit=" steps",
            mininterval=1,
            # Below another bar, that of a search, it is cleared in the end.
            leave=None,
            disable=not self.checkpoints.is_chief,
        )


def _small(per_user):
    """What a test of significance asks for, in single precision."""
    return {
        name: values.astype("float32")
        for name, values in per_user.items()
        if name.startswith(("recall@", "ndcg@"))
    }
