"""Spaces with fewer combinations than a search has trials: each is tried, and none twice."""

import itertools
import random
import re
from collections import Counter

import keras_tuner
import pytest

from tests.tuning.searches import killed_at
from tfrs_croloss.tuning import Assignment, BayesianOptimization, Hyperband, RandomSearch

SIX = {"a": [1, 2, 3], "b": ["x", None]}
# By hand: keys in the order of their names.
SPACES = {
    "one value": ({"a": [7]}, [(7,)]),
    "choices": (SIX, list(itertools.product([1, 2, 3], ["x", None]))),
    "integers": ({"a": {"min": 3, "max": 9, "step": 3}}, [(3,), (6,), (9,)]),
    "logarithmic": ({"a": {"min": 1, "max": 5, "scale": "log"}}, [(i,) for i in (1, 2, 3, 4, 5)]),
    "steps": ({"a": {"min": 0.0, "max": 0.6, "step": 0.1}, "b": [True]}, [
        (x, True) for x in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
    ]),
}  # fmt: skip


def conditional():
    """A margin for one of the kernels alone."""
    space = keras_tuner.HyperParameters()
    space.Choice("kernel", ["hinge", "softplus"])
    with space.conditional_scope("kernel", ["hinge"]):
        space.Int("margin", 1, 3)
    return space


def search(kind, space, folder, score=lambda assignment: 0.1, **options):
    """The assignments of a whole search, and the search."""
    seen = []

    def train(assignment):
        seen.append(assignment)
        return score(assignment)

    tuner = kind(train, space, folder / "search", **options)
    tuner.search()
    return seen, tuner


def said(recwarn):
    """How many of how many trials, each time that the space was said to be used up."""
    found = (
        re.search(r"is used up: .* after (\d+ of \d+) trials", str(w.message)) for w in recwarn
    )
    return [match[1] for match in found if match]


def combinations_of(assignments):
    return Counter(tuple(dict(sorted(a.values.items())).values()) for a in assignments)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", [RandomSearch, BayesianOptimization])
@pytest.mark.parametrize("name", SPACES)
def test_every_combination_once_and_no_word_if_as_many_were_asked_for(
    name, kind, seed, tmp_path, recwarn
):
    space, expected = SPACES[name]
    seen, tuner = search(kind, space, tmp_path, max_trials=len(expected), seed=seed)
    assert combinations_of(seen) == Counter(expected)
    assert not tuner.is_used_up
    assert not said(recwarn)


@pytest.mark.parametrize("kind", [RandomSearch, BayesianOptimization])
def test_the_end_of_the_space_is_said(kind, tmp_path, recwarn):
    seen, tuner = search(kind, SIX, tmp_path, max_trials=40)
    assert said(recwarn) == ["6 of 40"]
    assert combinations_of(seen) == Counter(SPACES["choices"][1])
    assert tuner.is_used_up
    # Asked for more of, it says so again, and runs nothing.
    seen, _ = search(kind, SIX, tmp_path, max_trials=50)
    assert seen == []
    assert said(recwarn) == ["6 of 40", "6 of 50"]


@pytest.mark.parametrize("kind", [RandomSearch, BayesianOptimization])
def test_a_condition_leaves_out_what_is_not_active(kind, tmp_path, recwarn):
    seen, _ = search(kind, conditional(), tmp_path, max_trials=9)
    assert said(recwarn) == ["4 of 9"]
    assert combinations_of(seen) == Counter(
        [("hinge", 1), ("hinge", 2), ("hinge", 3), ("softplus",)]
    )


@pytest.mark.parametrize("kind", [RandomSearch, BayesianOptimization])
def test_a_combination_that_failed_is_not_tried_again(kind, tmp_path, recwarn):
    def score(assignment):
        if assignment.values["a"] == 2:
            raise ValueError("out of memory")
        return 0.1

    seen, tuner = search(kind, SIX, tmp_path, score, max_trials=9)
    assert said(recwarn) == ["6 of 9"]
    assert combinations_of(seen) == Counter(SPACES["choices"][1])
    assert sum(trial.status == "FAILED" for trial in tuner.trials) == 2


@pytest.mark.parametrize("scale", ["linear", "log"])
def test_the_end_of_a_range_is_not_tried_twice(scale, tmp_path):
    """The more, the better: the process proposes the end again and again, and must stay in it."""
    space = {"a": {"min": 1, "max": 999, "scale": scale}, "b": {"min": 0.03, "max": 0.7}}
    space["b"]["scale"] = scale
    seen, tuner = search(
        *(BayesianOptimization, space, tmp_path, lambda a: a.values["a"] / 999 + a.values["b"]),
        max_trials=12,
    )
    assert max(combinations_of(seen).values()) == 1
    assert len(seen) == 12
    assert not tuner.is_used_up
    assert max(assignment.values["a"] for assignment in seen) == 999
    assert max(assignment.values["b"] for assignment in seen) == pytest.approx(0.7)
    assert all(assignment.values["b"] <= 0.7 for assignment in seen)


def test_what_the_process_would_repeat_gives_way_to_the_next_best(tmp_path):
    """Of a hundred values, it has tried the best of a peak, and goes on around it."""
    space = {"a": {"min": 0, "max": 99}}
    seen, _ = search(
        *(BayesianOptimization, space, tmp_path, lambda a: -abs(a.values["a"] - 40)),
        max_trials=20,
        num_initial_points=8,
    )
    assert max(combinations_of(seen).values()) == 1
    near = [assignment for assignment in seen[10:] if abs(assignment.values["a"] - 40) < 10]
    assert len(near) > 5  # of the last ten; at random two


def rising(assignment):
    """Ten is the best of few epochs, and the worst of many."""
    value = assignment.values["x"]
    return 0.5 if value == 10 else 0.1 * assignment.epochs + value / 1000


@pytest.mark.parametrize(
    ("values", "budgets"),
    [
        # Brackets of 9, 5 and 3 places at 1, 3 and 9 epochs; each keeps 9, 3, 1 or 5, 2 or 3. From
        # the second on they take what has been trained less than they begin with.
        ([10], {1: 1, 3: 1, 9: 1}),
        ([1, 10], {1: 2, 3: 2, 9: 1 + 1}),
        ([1, 2, 3, 10], {1: 4, 3: 3 + 1, 9: 1 + 1 + 2}),
        ([*range(1, 8), 10], {1: 8, 3: 3 + 5, 9: 1 + 2 + 3}),
        ([*range(1, 9), 10], {1: 9, 3: 3 + 5, 9: 1 + 2 + 3}),
    ],
)
def test_hyperband_goes_on_to_the_last_round(values, budgets, tmp_path, recwarn):
    seen, tuner = search(Hyperband, {"x": values}, tmp_path, rising, max_epochs=9)
    assert Counter(assignment.epochs for assignment in seen) == budgets
    best = Assignment.of(tuner.trials[0])
    expected = 0.9 + max(v for v in values if v < 10) / 1000 if len(values) > 1 else 0.5
    assert best.epochs == 9 or values == [10]
    assert tuner.trials[0].score == pytest.approx(expected)
    # None is trained twice as long.
    assert len({(a.values["x"], a.epochs) for a in seen}) == len(seen)
    assert said(recwarn) == [f"{len(seen)} of 23"] * (len(seen) < 23)


@pytest.mark.parametrize(
    ("failing", "budgets"),
    [
        # Of nine, two are left to go on, then one; the other seven are not tried again. The other
        # brackets have no more combinations: the one that has trained three epochs, not nine.
        (range(7), {1: 9, 3: 2, 9: 1 + 1}),
        (range(9), {1: 9}),
    ],
)
def test_hyperband_goes_on_with_those_that_did_not_fail(failing, budgets, tmp_path, recwarn):
    def score(assignment):
        if assignment.values["x"] in failing:
            raise ValueError("the loss became nan")
        return assignment.values["x"]

    seen, _ = search(Hyperband, {"x": list(range(9))}, tmp_path, score, max_epochs=9)
    assert said(recwarn) == [f"{len(seen)} of 23"]
    assert Counter(assignment.epochs for assignment in seen) == budgets


def test_hyperband_goes_on_with_what_is_left_of_a_large_space(tmp_path):
    """Eight of the first nine fail, which leaves the last bracket's rounds one trial each."""

    def score(assignment):
        if assignment.epochs == 1 and int(assignment.trial_id) < 8:
            raise ValueError("the loss became nan")
        return assignment.values["x"]

    space = {"x": {"min": 0.0, "max": 1.0}}
    seen, tuner = search(Hyperband, space, tmp_path, score, max_epochs=9)
    assert Counter(a.epochs for a in seen) == {1: 9, 3: 1 + 5, 9: 1 + 2 + 3}
    assert not tuner.is_used_up


def trained(tuner):
    return Counter((*a.values.items(), a.epochs) for a in map(Assignment.of, tuner.trials))


@pytest.mark.filterwarnings("ignore:the search space is used up")
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (RandomSearch, {"max_trials": 9}),
        (BayesianOptimization, {"max_trials": 9}),
        (Hyperband, {"max_epochs": 3}),
    ],
)
def test_a_kill_at_any_write(kind, options, tmp_path, monkeypatch):
    space = {"x": [1, 2, 3, 10]}
    _, whole = search(kind, space, tmp_path / "whole", rising_by_any, **options)
    for number in itertools.count(1):
        folder = tmp_path / str(number)
        with killed_at(monkeypatch, number, is_written=number % 2 == 0) as killed:
            search(kind, space, folder, rising_by_any, **options)
        if not killed:
            break
        _, tuner = search(kind, space, folder, rising_by_any, **options)
        assert trained(tuner) == trained(whole)
        assert all(trial.status == "COMPLETED" for trial in tuner.trials)
    assert number > 4 * len(whole.trials)


def rising_by_any(assignment):
    return rising(assignment) if assignment.epochs else assignment.values["x"]


@pytest.mark.parametrize("num_failing", [0, 3])
@pytest.mark.parametrize("seed", range(3))
def test_workers_of_a_small_space(seed, num_failing, tmp_path):
    """Three ask in any order: none gets what another has, and each is told of the end."""
    rng = random.Random(seed)
    tuner = Hyperband(rising, {"x": list(range(8))}, tmp_path / "search", max_epochs=9)
    oracle, waiting, running, taken = tuner.oracle, {"a", "b", "c"}, {}, []
    while waiting or running:
        name = rng.choice(sorted(waiting | set(running)))
        if name in running:
            trial = running.pop(name)
            assignment = Assignment.of(trial)
            trial.status = "FAILED" if assignment.values["x"] < num_failing else "COMPLETED"
            oracle.update_trial(trial.trial_id, {"objective": rising(assignment)})
            oracle.end_trial(trial)
            waiting.add(name)
            continue
        trial = oracle.create_trial(name)
        assert trial.status != "IDLE" or running
        if trial.status != "IDLE":
            waiting.remove(name)
        if trial.status == "RUNNING":
            running[name] = trial
            taken.append(Assignment.of(trial))
    assert len({(a.values["x"], a.epochs) for a in taken}) == len(taken)
    # As with one process: brackets of 9, 5 and 3 places at 1, 3 and 9 epochs.
    alive = 8 - num_failing
    budgets = {1: 8, 3: min(alive, 8), 9: min(alive, 1 + 2 + 3)}
    assert Counter(assignment.epochs for assignment in taken) == budgets
    assert Assignment.of(tuner.trials[0]).values == {"x": 7}
    assert Assignment.of(tuner.trials[0]).epochs == 9
