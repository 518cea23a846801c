"""keras-tuner's oracles, which decide what is tried next, made to outlive a kill at any moment."""

import json
import warnings

from keras_tuner.engine.trial import TrialStatus
from keras_tuner.oracles import BayesianOptimizationOracle, HyperbandOracle, RandomSearchOracle
from keras_tuner.src.distribute.utils import is_chief_oracle
from keras_tuner.src.engine.metrics_tracking import MetricsTracker
from threadpoolctl import threadpool_limits

from tfrs_croloss._files import replaced_file

ENDED = (TrialStatus.COMPLETED, TrialStatus.FAILED)
# In the oracle's state, beside keras-tuner's own.
SERVED = "served"


class _Durable:
    """What keras-tuner 1.4.8 lacks for a search that is killed, as a mixin of its oracles.

    keras-tuner writes its files in place, and in an order that a kill may break:

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


class BandOracle(_Durable, HyperbandOracle):
    """Trains many trials a little, and the best of them further."""

    def num_trials(self):
        """Trials of all brackets and rounds."""
        return sum(
            self._get_size(bracket, round_number)
            for bracket in range(self._get_num_brackets())
            for round_number in range(self._get_num_rounds(bracket))
        )


def _write(path, state):
    with replaced_file(path) as temporary:
        temporary.write_text(json.dumps(state))
