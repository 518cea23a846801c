"""Searching for the options of a loss, by their validation metric."""

import contextlib
import dataclasses
import os
import warnings

import numpy as np
from scipy import sparse
from tqdm import tqdm

from tfrs_croloss.commands.experiment.build import build_task, facts_of, load_data
from tfrs_croloss.commands.experiment.runs import read_json
from tfrs_croloss.commands.training.strategy import build_strategy
from tfrs_croloss.commands.training.trainer import Trainer
from tfrs_croloss.commands.tuning.searches import Search
from tfrs_croloss.commands.tuning.space import read_space
from tfrs_croloss.commands.tuning.tune_report import legible, print_report, write_report
from tfrs_croloss.data.dataset import Targets
from tfrs_croloss.retrieval.requirements import tf, tf_keras
from tfrs_croloss.tuning import (
    Assignment,
    BayesianOptimization,
    Hyperband,
    RandomSearch,
    build_space,
    process_role,
)

# Trials that are drawn to see whether any can be built.
NUM_CHECKED = 20


def tune(config, tuning):
    """Runs a search, or what is left of it, and writes what it found.

    Args:
        config: A `Config`, of all that is not varied.
        tuning: A `TuningOptions`.

    Returns:
        The complete `Search`; None in the workers of a search with a chief.

    Raises:
        ValueError: If the options contradict each other or the folder, or all trials failed.
    """
    role = process_role()
    if config.strategy == "multiworker" or os.environ.get("TF_CONFIG"):
        raise ValueError(
            "a trial is trained by one process: --strategy none or mirrored, and no TF_CONFIG. "
            "Several processes run trials side by side, see docs/tuning.md"
        )
    if not config.validates:
        raise ValueError(
            "--validation_share must be positive: trials are compared on validation. Received: "
            f"{config.validation_share}"
        )
    space = read_space(tuning.space, config, tuning.fix)
    strategy = build_strategy(config)
    data = load_data(config)
    search = Search(config, tuning, space, data.fingerprint())
    _check_space(search, data)
    train = _Trials(search, _without_test(data), strategy)
    if role == "worker":
        _work(search, train)
        return None
    search.check()
    search.write()
    if not search.is_complete:
        tuner = _tuner(search, train)
        with _shown(search, tuner) as on_end, warnings.catch_warnings():
            # The report says it.
            warnings.filterwarnings("ignore", message="the search space is used up")
            tuner.search(on_end)
        write_report(search, tuner.trials, tuner.is_used_up)
    print_report(search, read_json(search.results_path))
    return search


def _work(search, train):
    """Runs trials until the chief has no more; writes nothing but these."""
    if not search.is_complete:
        tuner = _tuner(search, train)
        # It writes the settings before it answers.
        tuner.wait_for_chief()
        search.check()
        tuner.search()
    search.check()
    print(f"The search in {search.folder} has ended: its chief has the results")


class _Trials:
    """Trains what a trial is assigned; called by the tuner."""

    def __init__(self, search, data, strategy):
        self.search, self.data, self.strategy = search, data, strategy

    def __call__(self, assignment):
        search = self.search
        trial = search.trial(assignment.trial_id)
        # A kill may have come between the end of the training and the tuner's note of it.
        if trial.validation is None:
            parent = assignment.continues and search.trial(assignment.continues)
            # What the trials before have left behind in TensorFlow.
            tf_keras.backend.clear_session()
            try:
                row = self._validate(search.config_of(assignment), trial, parent)
            except ValueError as error:
                trial.fail(str(error))
                raise
            trial.end(row, is_continued=search.tuning.search == "hyperband")
        return trial.validation[search.config.monitor]

    def _validate(self, config, trial, parent):
        trial.begin(config, parent)
        try:
            return Trainer(config, self.data, self.strategy).fit()
        except tf.errors.ResourceExhaustedError as error:
            raise ValueError(f"out of memory: {error.message}") from error


def _tuner(search, train):
    config, tuning = search.config, search.tuning
    common = {
        "train": train,
        "space": search.space,
        "directory": search.state,
        "objective": config.monitor,
        "seed": config.seed,
    }
    if tuning.search == "hyperband":
        validations = -(-config.epochs // config.validate_every)
        return Hyperband(
            **common, max_epochs=validations, factor=tuning.factor, max_trials=tuning.trials
        )
    kind = {"random": RandomSearch, "bayesian": BayesianOptimization}[tuning.search]
    return kind(**common, max_trials=tuning.trials)


@contextlib.contextmanager
def _shown(search, tuner):
    """A bar of the trials; gives a function that says how one ended."""
    select = search.config.monitor
    ended = sum(trial.status in ("COMPLETED", "FAILED") for trial in tuner.trials)
    with tqdm(
        total=tuner.max_trials, initial=ended, desc=search.config.name, unit=" trials"
    ) as bar:

        def on_end(trial):
            of_trial, best = search.trial(trial.trial_id), tuner.trials[0]
            if trial.score is None:
                outcome = f"failed: {of_trial.error}"
            else:
                outcome = f"{select} {trial.score:.4f}"
            values = Assignment.of(trial).values.items()
            said = " ".join(f"{name}={legible(value)}" for name, value in values)
            tqdm.write(f"trial {trial.trial_id}: {outcome}  ({said})")
            if best.score is not None:
                bar.set_postfix_str(f"best {select} {best.score:.4f}, trial {best.trial_id}")
            bar.update()

        yield on_end


def _check_space(search, data):
    """Raises what is wrong with every trial, as far as that can be said before the first."""
    parameters, facts = build_space(search.space).space, facts_of(search.config, data)
    errors = []
    for number in range(NUM_CHECKED):
        drawn = enumerate(parameters, start=number * len(parameters))
        values = {parameter.name: parameter.random_sample(seed) for seed, parameter in drawn}
        try:
            build_task(search.config_of(Assignment.from_values("0", values)), facts)
        except ValueError as error:
            errors.append(error)
    if len(errors) == NUM_CHECKED:
        raise errors[0]


def _without_test(data):
    """The data without its test set: a search can't look at what it is not given."""
    empty = Targets(
        sparse.csr_array(data.test.matrix.shape, dtype=np.int64), np.zeros_like(data.test.counts)
    )
    return dataclasses.replace(data, test=empty)
