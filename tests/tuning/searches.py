"""Searches over a function that notes what it is asked, and kills at any of their writes."""

import contextlib

from tfrs_croloss.tuning import BayesianOptimization, Hyperband, RandomSearch, oracles

SPACE = {"x": {"min": 0.0, "max": 1.0}, "kind": ["a", "b", None]}
SEARCHES = {
    "random": lambda train, folder: RandomSearch(train, SPACE, folder, max_trials=4),
    # Three at random, and one that the process proposes.
    "bayesian": lambda train, folder: BayesianOptimization(train, SPACE, folder, max_trials=4),
    # A bracket of 3 and the best of them.
    "hyperband": lambda train, folder: Hyperband(train, SPACE, folder, max_epochs=3, max_trials=4),
}


class Killed(BaseException):
    """Passes every `except Exception`, as a kill would."""


class Noted:
    """Trains nothing, and keeps the assignments."""

    def __init__(self):
        self.assignments = []

    def __call__(self, assignment):
        self.assignments.append(assignment)
        return (assignment.values["kind"] == "b") - abs(assignment.values["x"] - 0.3)

    @property
    def ids(self):
        return [assignment.trial_id for assignment in self.assignments]


@contextlib.contextmanager
def killed_at(monkeypatch, number, is_written):
    """Kills at the write of that number, before or after it; gives a list that then has one."""
    write, count, killed = oracles._write, 0, []

    def write_until_killed(path, state):
        nonlocal count
        count += 1
        if count == number and not is_written:
            killed.append(path)
            raise Killed
        write(path, state)
        if count == number:
            killed.append(path)
            raise Killed

    with monkeypatch.context() as patches:
        patches.setattr(oracles, "_write", write_until_killed)
        with contextlib.suppress(Killed):
            yield killed
