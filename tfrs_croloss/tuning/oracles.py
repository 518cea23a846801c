"""keras-tuner's oracles, which decide what is tried next, made to outlive a kill at any moment."""

import json
import random
import warnings

import numpy as np
from keras_tuner.engine.hyperparameters import Fixed, Float, Int
from keras_tuner.engine.trial import TrialStatus
from keras_tuner.oracles import BayesianOptimizationOracle, HyperbandOracle, RandomSearchOracle
from keras_tuner.src.distribute.utils import is_chief_oracle
from keras_tuner.src.engine.metrics_tracking import MetricsTracker
from threadpoolctl import threadpool_limits

from tfrs_croloss._files import replaced_file
from tfrs_croloss.tuning.space import combinations, is_active

ENDED = (TrialStatus.COMPLETED, TrialStatus.FAILED)
# In the oracle's state, beside keras-tuner's own.
SERVED = "served"
# Of what keras-tuner adds to the values of a trial.
PREFIX = "tuner/"
# New combinations that the Bayesian search chooses from where it would repeat an old one.
NUM_RIVALS = 100


class _Durable:
    """What keras-tuner 1.4.8 lacks, as a mixin of its oracles.

    It takes twenty draws in a row that were tried before for the end of the space. Here the space
    is used up when no combination is left.

    It writes its files in place, and in an order that a kill may break:

    - a file that was being written is left empty: here each is replaced whole;
    - a trial that has a file and is not in the oracle's state counts as tried and is never run;
    - a trial that ended is still said to be running until the next write, and is run again;
    - a chief that starts again gives the trials that its workers are running to other workers.
    """

    def __init__(self, *args, **options):
        # keras-tuner takes a seed of 0 for none. An error when several trials fail in a row would
        # leave its lock locked; who reads the trials sees that all have failed.
        options["seed"] = options.get("seed", 0) + 1
        super().__init__(*args, max_consecutive_failed_trials=2**31, **options)
        self.verbose = 0
        # Called with each trial that has ended.
        self.on_end = None
        self._running = {}

    @property
    def is_used_up(self):
        """Whether each combination of the space has been given to a trial."""
        return self._untried(0) is None

    def _untried(self, seed):
        """A combination that no trial has had, or None if each has had one."""
        walk = combinations(self.hyperparameters.space, random.Random(seed))
        return next((values for values in walk if not self._duplicate(values)), None)

    def _random_values(self):
        values = super()._random_values()
        return self._untried(self._seed_state) if values is None else values

    def populate_space(self, trial_id):
        # A Gaussian process on a few trials is many products of tiny matrices: with a thread a core
        # they take many times as long.
        with warnings.catch_warnings(), threadpool_limits(1):
            # scikit-learn's, on a fit that did not converge.
            warnings.simplefilter("ignore")
            return super().populate_space(trial_id)

    def end_trial(self, trial):
        super().end_trial(trial)
        if self.on_end is not None:
            self.on_end(self.trials[trial.trial_id])

    def save(self):
        _write(self._get_oracle_fname(), self.get_state())

    def _save_trial(self, trial):
        _write(f"{self._get_trial_dir(trial.trial_id)}/trial.json", trial.get_state())

    def get_state(self):
        return {**super().get_state(), SERVED: is_chief_oracle()}

    def set_state(self, state):
        super().set_state(state)
        for tuner_id, trial in list(self.ongoing_trials.items()):
            if trial.status in ENDED:
                del self.ongoing_trials[tuner_id]
                if trial.trial_id not in self.end_order:
                    self.end_order.append(trial.trial_id)
            else:
                # A result that was reported before the kill would be averaged with the next one.
                trial.metrics = MetricsTracker()
        self._running = dict(self.ongoing_trials) if state[SERVED] and is_chief_oracle() else {}

    def reload(self):
        super().reload()
        self.trials = {trial_id: self.trials[trial_id] for trial_id in self.start_order}
        # Their workers may live, and report; one that was killed asks for its own again.
        self.ongoing_trials = self._running
        for trial in self._running.values():
            self._retry_queue.remove(trial.trial_id)


class RandomOracle(_Durable, RandomSearchOracle):
    """Draws each trial's values at random."""


class BayesianOracle(_Durable, BayesianOptimizationOracle):
    """Draws values where a Gaussian process on the trials so far expects to gain most."""

    def populate_space(self, trial_id):
        if self.is_used_up:
            return _answer(None)
        values = super().populate_space(trial_id)["values"]
        for parameter in self._active(values):
            # keras-tuner's proposals may lie past the end of a logarithmic range.
            if isinstance(parameter, Float | Int):
                values[parameter.name] = min(values[parameter.name], parameter.max_value)
        return _answer(self._best_rival() if self._duplicate(values) else values)

    def _best_rival(self):
        """Of values that no trial has had, drawn at random, those that the process prefers."""
        rivals = [self._random_values() for _ in range(NUM_RIVALS)]
        mean, deviation = self.gpr.predict(
            np.array([self._vector(values) for values in rivals]), return_std=True
        )
        return rivals[np.argmin(mean - self.beta * deviation)]

    def _vector(self, values):
        """The values as keras-tuner gives them to the process, each from 0 to 1."""
        active = self._active(values)
        return [
            parameter.value_to_prob(
                values[parameter.name] if parameter in active else parameter.default
            )
            for parameter in self.hyperparameters.space
            if not isinstance(parameter, Fixed)
        ]

    def _active(self, values):
        return [p for p in self.hyperparameters.space if is_active(p, values)]


class BandOracle(_Durable, HyperbandOracle):
    """Trains many trials a little, and the best of them further.

    keras-tuner never ends a round that has fewer trials than places, since the space has no more
    combinations or trials failed: its best then go no further. Here a round ends with the trials
    that it can have. A bracket that finds no new combinations takes those that were trained less
    than it begins with. What was done is read from the trials alone.
    """

    def num_trials(self):
        """Trials of all brackets and rounds, in a space that has enough combinations."""
        return sum(
            self._get_size(bracket, number)
            for bracket in range(self._get_num_brackets())
            for number in range(self._get_num_rounds(bracket))
        )

    def populate_space(self, trial_id):
        for bracket in reversed(range(self._get_num_brackets())):
            values = self._begun(bracket) or self._continued(bracket)
            if values is not None:
                return _answer(values)
            # The next bracket may have to know what this one has trained no further.
            if self._is_running(bracket) and self.is_used_up:
                break
        return _answer(None, is_waiting=bool(self.ongoing_trials))

    def _begun(self, bracket):
        """Values of one more trial in the bracket's first round, or None if that has all."""
        if len(self._round(bracket, 0)) == self._get_size(bracket, 0):
            return None
        epochs = self._get_epochs(bracket, 0)
        values = self._random_values()
        if values is None:
            values = self._less_trained(epochs)
        return None if values is None else values | self._place(bracket, 0)

    def _less_trained(self, epochs):
        """The first combination that was trained for fewer epochs, and did not fail, or None."""
        own, done = {}, set()
        for trial in self.trials.values():
            values = trial.hyperparameters.values
            combination = {k: v for k, v in values.items() if not k.startswith(PREFIX)}
            name = self._compute_values_hash(combination)
            own[name] = combination
            if trial.status == TrialStatus.FAILED or values["tuner/epochs"] >= epochs:
                done.add(name)
        return next((values for name, values in own.items() if name not in done), None)

    def _continued(self, bracket):
        """Values of the best trial that is sure of a place in the bracket's next round, or None.

        Called when no trial is left to begin in the first round.
        """
        places = len(self._round(bracket, 0))
        for number in range(1, self._get_num_rounds(bracket)):
            past = self._round(bracket, number - 1)
            alive = places - sum(trial.status == TrialStatus.FAILED for trial in past)
            places = min(self._get_size(bracket, number), alive)
            gone_on = {
                trial.hyperparameters.values["tuner/trial_id"]
                for trial in self._round(bracket, number)
            }
            ready = [
                trial
                for trial in past
                if trial.status == TrialStatus.COMPLETED and trial.trial_id not in gone_on
            ]
            if len(ready) > alive - places:
                sign = 1 if self.objective.direction == "max" else -1
                best = max(ready, key=lambda trial: sign * trial.score)
                values = best.hyperparameters.values | self._place(bracket, number)
                return values | {
                    "tuner/trial_id": best.trial_id,
                    "tuner/initial_epoch": self._get_epochs(bracket, number - 1),
                }
        return None

    def _place(self, bracket, number):
        return {
            "tuner/epochs": self._get_epochs(bracket, number),
            "tuner/initial_epoch": 0,
            "tuner/bracket": bracket,
            "tuner/round": number,
        }

    def _round(self, bracket, number):
        """The trials of a round, in the order of their start."""
        place = self._place(bracket, number)
        keys = ("tuner/bracket", "tuner/round")
        return [
            trial
            for trial in self.trials.values()
            if all(trial.hyperparameters.values[key] == place[key] for key in keys)
        ]

    def _is_running(self, bracket):
        return any(
            trial.hyperparameters.values["tuner/bracket"] == bracket
            for trial in self.ongoing_trials.values()
        )


def _answer(values, is_waiting=False):
    """What `populate_space` gives: values of the next trial, None for no trial."""
    nothing = TrialStatus.IDLE if is_waiting else TrialStatus.STOPPED
    return {"status": nothing if values is None else TrialStatus.RUNNING, "values": values}


def _write(path, state):
    with replaced_file(path) as temporary:
        temporary.write_text(json.dumps(state))
