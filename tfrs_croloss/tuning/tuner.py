"""Searches of keras-tuner over a function that trains and returns a float."""

import contextlib
import io
import math
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras_tuner
from keras_tuner.engine.base_tuner import BaseTuner
from keras_tuner.engine.trial import TrialStatus
from keras_tuner.errors import FailedTrialError, FatalError
from keras_tuner.src.distribute import utils as distribution

from tfrs_croloss._typing import StrPath
from tfrs_croloss.tuning import chief
from tfrs_croloss.tuning.oracles import BandOracle, BayesianOracle, RandomOracle
from tfrs_croloss.tuning.space import build_space, decoded

# Between a worker's questions, where it waits for the trials of others.
IDLE_SECONDS = 0.5


@dataclass(frozen=True)
class Assignment:
    """What one trial is to train.

    Attributes:
        trial_id: Its name, "0007" say: the same when a killed search comes back to it.
        values: Hyperparameters by name.
        epochs: Epochs to train, those of `continues` included, as `Hyperband` grants them; None in
            the other searches.
        initial_epoch: Epochs that `continues` has trained.
        continues: Name of the trial with the same values that this one goes on from, or None.
    """

    trial_id: str
    values: dict
    epochs: int | None = None
    initial_epoch: int = 0
    continues: str | None = None

    @classmethod
    def of(cls, trial):
        """The assignment of a `keras_tuner.engine.trial.Trial`."""
        return cls.from_values(trial.trial_id, trial.hyperparameters.values)

    @classmethod
    def from_values(cls, trial_id, values):
        """The assignment of a trial with the values of a `keras_tuner.HyperParameters`."""
        # keras-tuner's own have a prefix.
        own = {name: decoded(v) for name, v in values.items() if not name.startswith("tuner/")}
        return cls(
            trial_id,
            own,
            values.get("tuner/epochs"),
            values.get("tuner/initial_epoch", 0),
            values.get("tuner/trial_id"),
        )


class FunctionTuner(BaseTuner):
    """A search over any function: take `RandomSearch`, `BayesianOptimization` or `Hyperband`.

    keras-tuner's own tuners build and fit Keras 3 models. This one leaves all that to a function,
    so a tf_keras model, several processes or no neural network at all will do.

    The search is kept in `directory`. Killed at any moment and made again with the same arguments,
    it knows all trials that have ended, and comes back to those that have not with the same
    `trial_id`; what such a trial had trained is kept if `train` keeps it.

    With keras-tuner's environment variables `KERASTUNER_TUNER_ID`, `KERASTUNER_ORACLE_IP` and
    `KERASTUNER_ORACLE_PORT` set, the process whose id contains "chief" keeps the search and the
    others run its trials: see docs/tuning.md.

    Args:
        oracle: One of `tfrs_croloss.tuning.oracles`.
        train: Function of an `Assignment` that returns the objective, a finite float. A
            `ValueError` from it, or a number that is not finite, makes the trial count as failed,
            and the search goes on. Any other error ends the search, which may be resumed.
        directory: Folder of the search.
    """

    def __init__(
        self, oracle: Any, train: Callable[[Assignment], float], directory: StrPath
    ) -> None:
        directory = Path(directory)
        process_role()  # Says what is wrong with the environment.
        # It says that it reloads.
        with contextlib.redirect_stdout(io.StringIO()):
            super().__init__(oracle, directory=str(directory.parent), project_name=directory.name)
        self._train = train
        self._has_asked = False

    @property
    def is_worker(self):
        """Whether another process, the chief, keeps the search."""
        return process_role() == "worker"

    @property
    def trials(self):
        """All trials, as keras-tuner has them, the best first and those not completed last.

        A worker does not know them.
        """
        sign = -1 if self.oracle.objective.direction == "max" else 1

        def place(trial):
            is_scored = trial.status == TrialStatus.COMPLETED
            return (0, sign * trial.score) if is_scored else (1, 0.0)

        return sorted(self.oracle.trials.values(), key=place)

    @property
    def max_trials(self):
        """Trials in all, those that have ended included."""
        return self.oracle.max_trials

    @property
    def is_used_up(self):
        """Whether there are fewer trials than `max_trials`, as no combination is left to try."""
        return len(self.oracle.trials) < self.max_trials and self.oracle.is_used_up

    def search(self, on_end=None):
        """Runs the trials, or what is left of them; in a chief, waits until workers have.

        No combination of values is tried twice. If there are fewer of them than trials, the search
        tries each, warns, and ends.

        Args:
            on_end: Called with each trial that has ended; not in a worker.

        Raises:
            OSError: If the chief can't listen, or a worker lost its chief.
        """
        if not self.is_worker:
            self.oracle.on_end = on_end
        if process_role() == "chief":
            self.save()
            chief.serve(self.oracle)
        else:
            try:
                with self._connected():
                    super().search()
            except _EndOfSearchError as end:
                raise end.__cause__ from None
        if not self.is_worker and self.is_used_up:
            warnings.warn(
                "the search space is used up: no combination of values is left after "
                f"{len(self.oracle.trials)} of {self.max_trials} trials",
                stacklevel=2,
            )

    def wait_for_chief(self):
        """In a worker, returns as soon as the chief answers; elsewhere at once."""
        with self._connected():
            self.oracle.get_space()

    def run_trial(self, trial):
        """Called by keras-tuner: the objective of a trial."""
        try:
            objective = float(self._train(Assignment.of(trial)))
        except ValueError as error:
            raise FailedTrialError(str(error)) from error
        except Exception as error:
            raise _EndOfSearchError from error
        if not math.isfinite(objective):
            raise FailedTrialError(f"the objective is {objective}")
        return objective

    def pre_create_trial(self):
        # No trial since the last question: the oracle waits for other workers' results. keras-tuner
        # asks again at once, as fast as it can.
        if self._has_asked:
            time.sleep(IDLE_SECONDS)
        self._has_asked = True

    def on_trial_begin(self, trial):
        self._has_asked = False

    def on_search_begin(self):
        # Not only after the first trial: a kill before would forget it.
        self.save()

    # The oracle's file is all there is to save, and a worker saves nothing. keras-tuner asks for a
    # file of the tuner, under its id: a search would be forgotten where another id resumes it.

    def save(self):
        if not self.is_worker:
            self.oracle.save()

    def reload(self):
        if not self.is_worker:
            self.oracle.reload()

    def _get_tuner_fname(self):
        return str(Path(self.project_dir) / "oracle.json")

    @contextlib.contextmanager
    def _connected(self):
        if not self.is_worker:
            yield
            return
        import grpc

        try:
            yield
        except grpc.RpcError as error:
            raise OSError(
                f"the chief at {chief.address()} does not answer ({error.code().name}). Start it "
                "and this worker again: no trial that has ended is lost"
            ) from error


class RandomSearch(FunctionTuner):
    """Tries values drawn at random, each trial for itself.

    Args:
        train: Function of an `Assignment` that returns a float.
        space: The search space, `keras_tuner.HyperParameters` or what `build_space` takes.
        directory: Folder of the search.
        max_trials: Trials in all. More of them may be asked for when a search is resumed.
        objective: Name of the number that `train` returns.
        direction: "max" or "min".
        seed: Of the values.

    Example:

    >>> import tempfile
    >>> from tfrs_croloss.tuning import RandomSearch
    >>> def train(assignment):
    ...     return -((assignment.values["x"] - 3) ** 2)
    >>> space = {"x": {"min": 0, "max": 9}}
    >>> tuner = RandomSearch(train, space, tempfile.mkdtemp() + "/search", max_trials=10)
    >>> tuner.search()
    >>> tuner.trials[0].hyperparameters.values, float(tuner.trials[0].score)
    ({'x': 3}, 0.0)
    """

    def __init__(
        self,
        train: Callable[[Assignment], float],
        space: Mapping[str, Any],
        directory: StrPath,
        max_trials: int = 30,
        objective: str = "objective",
        direction: str = "max",
        seed: int = 0,
    ) -> None:
        oracle = RandomOracle(
            objective=keras_tuner.Objective(objective, direction),
            max_trials=max_trials,
            hyperparameters=_space(space),
            seed=seed,
        )
        super().__init__(oracle, train, directory)


class BayesianOptimization(FunctionTuner):
    """Tries values where a Gaussian process on the trials so far expects to gain most.

    The first trials, `num_initial_points`, are random. Choices without an order are numbers to the
    process, in the order of the list.

    Args:
        train: Function of an `Assignment` that returns a float.
        space: The search space, `keras_tuner.HyperParameters` or what `build_space` takes.
        directory: Folder of the search.
        max_trials: Trials in all. More of them may be asked for when a search is resumed.
        num_initial_points: Random trials at first; by default a third of `max_trials`, where
            keras-tuner takes three a hyperparameter, which may be all of them.
        objective: Name of the number that `train` returns.
        direction: "max" or "min".
        seed: Of the values.
    """

    def __init__(
        self,
        train: Callable[[Assignment], float],
        space: Mapping[str, Any],
        directory: StrPath,
        max_trials: int = 30,
        num_initial_points: int | None = None,
        objective: str = "objective",
        direction: str = "max",
        seed: int = 0,
    ) -> None:
        oracle = BayesianOracle(
            objective=keras_tuner.Objective(objective, direction),
            max_trials=max_trials,
            num_initial_points=num_initial_points or max(3, max_trials // 3),
            hyperparameters=_space(space),
            seed=seed,
        )
        super().__init__(oracle, train, directory)


class Hyperband(FunctionTuner):
    """Trains many trials a little and the best of them further, bracket after bracket.

    A trial that goes further is a new one, with `continues`, `initial_epoch` and a larger `epochs`
    in its `Assignment`: `train` goes on from where the other stopped, or trains from nothing.

    In a small space, rounds have fewer trials than places. A bracket that finds no new combination
    begins with those that were trained for fewer epochs than it grants at first; it has the fewer
    trials, or none.

    Source: Li et al., "Hyperband", JMLR 18 (2018).

    Args:
        train: Function of an `Assignment` that returns a float.
        space: The search space, `keras_tuner.HyperParameters` or what `build_space` takes.
        directory: Folder of the search.
        max_epochs: The most epochs that a trial is granted.
        factor: A round keeps about one trial of so many, and trains it so many times as long.
        max_trials: Trials in all, if they are to be fewer than the brackets have.
        objective: Name of the number that `train` returns.
        direction: "max" or "min".
        seed: Of the values.
    """

    def __init__(
        self,
        train: Callable[[Assignment], float],
        space: Mapping[str, Any],
        directory: StrPath,
        max_epochs: int,
        factor: int = 3,
        max_trials: int | None = None,
        objective: str = "objective",
        direction: str = "max",
        seed: int = 0,
    ) -> None:
        oracle = BandOracle(
            objective=keras_tuner.Objective(objective, direction),
            max_epochs=max_epochs,
            factor=factor,
            hyperparameters=_space(space),
            seed=seed,
        )
        oracle.max_trials = min(max_trials or math.inf, oracle.num_trials())
        super().__init__(oracle, train, directory)


def process_role():
    """What this process is by keras-tuner's environment variables: chief, worker or single.

    Raises:
        ValueError: If some of them are set and others are not.
    """
    try:
        if not distribution.has_chief_oracle():
            return "single"
    except RuntimeError as error:
        raise ValueError(str(error)) from None
    return "chief" if distribution.is_chief_oracle() else "worker"


class _EndOfSearchError(FatalError):
    """keras-tuner lets this one through, and takes any other for a failed trial."""


def _space(space):
    return space if isinstance(space, keras_tuner.HyperParameters) else build_space(space)
