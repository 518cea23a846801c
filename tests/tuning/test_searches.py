"""Searches end as they should, also after a kill at any of their writes."""

import json
from collections import Counter

import pytest

from tests.tuning.searches import SEARCHES, SPACE, Noted, killed_at
from tfrs_croloss.tuning import BayesianOptimization, Hyperband, RandomSearch


def outcome(tuner):
    return {
        trial.trial_id: (trial.status, trial.score, trial.hyperparameters.values)
        for trial in tuner.trials
    }


def ended(folder):
    """Trials that are said to have ended, in files that are whole."""
    trials = [json.loads(path.read_text()) for path in folder.glob("trial_*/trial.json")]
    return {trial["trial_id"] for trial in trials if trial["status"] == "COMPLETED"}


@pytest.mark.parametrize("is_written", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    # A process takes its time: it is killed in the last trials alone.
    ("kind", "number"),
    [("random", 0), ("bayesian", 16), ("hyperband", 0)],
)
def test_a_kill_at_any_write(kind, number, is_written, tmp_path, monkeypatch):
    unbroken = Noted()
    whole = SEARCHES[kind](unbroken, tmp_path / "whole")
    whole.search()
    while True:
        number += 1
        folder, first, second = tmp_path / str(number), Noted(), Noted()
        with killed_at(monkeypatch, number, is_written) as killed:
            SEARCHES[kind](first, folder).search()
        if not killed:
            break
        done = ended(folder)
        tuner = SEARCHES[kind](second, folder)
        tuner.search()
        # The same trials with the same results, each run once; that of the kill perhaps again.
        assert outcome(tuner) == outcome(whole)
        assert not done & set(second.ids)
        counts = Counter(first.ids + second.ids)
        assert set(counts) == set(unbroken.ids)
        assert sum(counts.values()) <= len(counts) + 1
        of = {assignment.trial_id: assignment for assignment in unbroken.assignments}
        assert all(of[a.trial_id] == a for a in first.assignments + second.assignments)
    assert number > 4 * len(unbroken.ids)


def test_a_search_that_has_ended_runs_nothing(tmp_path):
    RandomSearch(Noted(), SPACE, tmp_path / "s", max_trials=3).search()
    train = Noted()
    tuner = RandomSearch(train, SPACE, tmp_path / "s", max_trials=3)
    tuner.search()
    assert (train.ids, len(tuner.trials)) == ([], 3)
    more = RandomSearch(train, SPACE, tmp_path / "s", max_trials=5)
    more.search()
    assert len(train.ids) == 2
    assert len(more.trials) == 5


def test_seeds_draw_other_values(tmp_path):
    drawn = []
    for number, seed in enumerate((0, 0, 1)):
        train = Noted()
        RandomSearch(train, SPACE, tmp_path / str(number), max_trials=3, seed=seed).search()
        drawn.append([assignment.values for assignment in train.assignments])
    assert drawn[0] == drawn[1] != drawn[2]


def test_hyperband_goes_on_from_the_best(tmp_path):
    train = Noted()
    tuner = Hyperband(train, SPACE, tmp_path / "s", max_epochs=9, factor=3)
    tuner.search()
    # Of 9 epochs and factor 3: brackets of 9, 5 and 3 trials, cut to a third until one bracket's
    # worth is left (Li et al.; keras-tuner's sizes, ceil(3 / (s + 1) · 3^(s - round))).
    budgets = Counter(assignment.epochs for assignment in train.assignments)
    assert budgets == {1: 9, 3: 3 + 5, 9: 1 + 2 + 3}
    assert len(train.ids) == tuner.max_trials == 23
    of = {assignment.trial_id: assignment for assignment in train.assignments}
    scores = {trial.trial_id: trial.score for trial in tuner.trials}
    parents = [a.continues for a in of.values() if a.continues]
    assert len(parents) == len(set(parents)) == 3 + 1 + 2
    for assignment in of.values():
        if assignment.continues:
            parent = of[assignment.continues]
            assert assignment.values == parent.values
            assert assignment.initial_epoch == parent.epochs
            rivals = [a for a in of.values() if a.epochs == parent.epochs and not a.continues]
            assert (
                parent.epochs != 1
                or sum(scores[a.trial_id] > scores[parent.trial_id] for a in rivals) <= 2
            )
        else:
            assert assignment.initial_epoch == 0
    cut = Hyperband(Noted(), SPACE, tmp_path / "cut", max_epochs=9, max_trials=4)
    cut.search()
    assert len(cut.trials) == 4


def test_bayesian_optimisation_comes_closer_than_its_random_start(tmp_path):
    def train(assignment):
        return (assignment.values["x"] - 0.3) ** 2 + (assignment.values["y"] - 0.7) ** 2

    space = {name: {"min": 0.0, "max": 1.0} for name in "xy"}
    tuner = BayesianOptimization(
        train, space, tmp_path / "s", max_trials=10, num_initial_points=5, direction="min"
    )
    tuner.search()
    by_id = sorted(tuner.trials, key=lambda trial: trial.trial_id)
    assert tuner.trials[0].score == min(trial.score for trial in by_id)
    assert tuner.trials[0].score < 0.01 < min(trial.score for trial in by_id[:5])


def test_failures_do_not_end_a_search(tmp_path):
    """Nor do several in a row, at which keras-tuner gives up."""

    def train(assignment):
        number = int(assignment.trial_id)
        if number in (0, 1, 2, 3):
            raise ValueError("the loss became nan")
        return float("nan") if number == 5 else float(number)

    seen = []
    tuner = RandomSearch(train, SPACE, tmp_path / "s", max_trials=8)
    tuner.search(on_end=lambda trial: seen.append((trial.trial_id, trial.status)))
    assert [trial.trial_id for trial in tuner.trials[:3]] == ["7", "6", "4"]
    assert [trial.status for trial in tuner.trials] == ["COMPLETED"] * 3 + ["FAILED"] * 5
    failed = {trial.trial_id: trial.message for trial in tuner.trials[3:]}
    assert "the loss became nan" in failed["0"]
    assert "the objective is nan" in failed["5"]
    assert seen == [
        (str(number), "COMPLETED" if number in (4, 6, 7) else "FAILED") for number in range(8)
    ]


def test_an_error_that_is_not_the_trials_ends_the_search(tmp_path):
    def full(assignment):
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space left"):
        RandomSearch(full, SPACE, tmp_path / "s", max_trials=2).search()
    train = Noted()
    RandomSearch(train, SPACE, tmp_path / "s", max_trials=2).search()
    assert train.ids == ["0", "1"]


def test_an_environment_that_lacks_the_port(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    with pytest.raises(ValueError, match="KERASTUNER_ORACLE_PORT"):
        RandomSearch(Noted(), SPACE, tmp_path / "s")


def ask(folder, *tuner_ids):
    """What a search that is made again gives to those who ask in turn."""
    tuner = RandomSearch(Noted(), SPACE, folder, max_trials=4)
    return [tuner.oracle.create_trial(tuner_id).trial_id for tuner_id in tuner_ids]


def test_a_chief_that_starts_again_leaves_trials_to_their_workers(tmp_path, monkeypatch):
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", "1")
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")
    assert ask(tmp_path / "s", "a", "b") == ["0", "1"]
    # Worker a may be training still, or ask for its trial again; another gets a new one.
    assert ask(tmp_path / "s", "c", "b", "a") == ["2", "1", "0"]
    # Without a chief there are no workers: this process runs what they left.
    for name in ("ORACLE_IP", "ORACLE_PORT", "TUNER_ID"):
        monkeypatch.delenv(f"KERASTUNER_{name}")
    train = Noted()
    RandomSearch(train, SPACE, tmp_path / "s", max_trials=4).search()
    assert sorted(train.ids) == ["0", "1", "2", "3"]


def test_a_chief_gives_out_the_trial_that_a_single_process_left(tmp_path, monkeypatch):
    assert ask(tmp_path / "s", "tuner0") == ["0"]
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", "1")
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")
    assert ask(tmp_path / "s", "a", "b") == ["0", "1"]


def test_nothing_is_printed(tmp_path, capfd):
    for _ in range(2):
        RandomSearch(Noted(), SPACE, tmp_path / "s", max_trials=2).search()
    assert capfd.readouterr() == ("", "")
