"""Searches as a person runs them: what they write, resumed after a kill, and what they refuse."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml

from tfrs_croloss.commands.cli import main
from tfrs_croloss.commands.experiment import measure
from tfrs_croloss.commands.experiment.options import Config
from tfrs_croloss.commands.training.trainer import Trainer
from tfrs_croloss.commands.tuning import tune

OBJECTIVE = "recall@20"
USED_UP = "The search space is used up: all 3 combinations of its values have been tried."


def trials_of(search):
    return json.loads((search / "trials.json").read_text())["trials"]


def error_of(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(command)
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_it_writes_all_it_says(search):
    files = {path.name for path in search.iterdir()}
    assert files == {
        *("config.yaml", "search.yaml", "trials", "keras-tuner"),
        *("trials.md", "trials.json", "importance.png"),
    }
    assert (search / "importance.png").read_bytes().startswith(b"\x89PNG")
    trials = trials_of(search)
    rates = sorted(trial["values"]["FusedAdam.learning_rate"] for trial in trials)
    assert rates == [0.01, 0.03, 1e39]
    first, second, failed = (trial["objective"] for trial in trials)
    assert first >= second
    assert first > 0.3  # at random: 20 of 66 unseen, of which 2 are right
    assert failed is None
    assert "the loss became" in trials[2]["error"]
    for trial in trials[:2]:
        folder = search / "trials" / trial["trial"]
        history = json.loads((folder / "history.json").read_text())
        assert trial["objective"] == max(row[OBJECTIVE] for row in history)
        # No checkpoints, of which all together would be large, and no test.
        assert {path.name for path in folder.iterdir()} == {
            *("config.yaml", "history.json", "validation.json"),
        }
    table = (search / "trials.md").read_text().splitlines()
    rows = [line.split("|")[1:3] for line in table if line.startswith("| ")]
    assert [trial.strip() for trial, _ in rows] == ["trial", *(t["trial"] for t in trials)]
    assert [number.strip() for _, number in rows] == [
        *(OBJECTIVE, f"{first:.4f}", f"{second:.4f}", "failed"),
    ]
    assert any("failed: the loss became" in line for line in table)
    # Five trials were asked for.
    assert USED_UP in table


def test_the_best_config_trained_from_nothing_gives_its_number(search, tmp_path, capsys):
    config = search / "config.yaml"
    best = trials_of(search)[0]
    content = yaml.safe_load(config.read_text())
    assert (
        content["optimizer"]["init_args"]["learning_rate"]
        == best["values"]["FusedAdam.learning_rate"]
    )
    assert (content["name"], content["runs"]) == ("mine-best", str(search.parent))
    main(["train", "--config", str(config), "--runs", str(tmp_path)])
    metrics = json.loads((tmp_path / "mine-best" / "metrics.json").read_text())
    assert metrics["validation"][OBJECTIVE] == pytest.approx(best["objective"], abs=0.02)
    assert metrics["best_epoch"] == best["best_epoch"]


def test_a_search_that_is_complete_is_shown_and_not_run_again(search, tune_options, capsys):
    written = {path: path.stat().st_mtime_ns for path in search.rglob("*.json")}
    main([*tune_options, "--runs", str(search.parent), "--name", search.name])
    assert {path: path.stat().st_mtime_ns for path in search.rglob("*.json")} == written
    out = capsys.readouterr().out
    assert f"{trials_of(search)[0]['objective']:.4f}" in out
    assert "on several seeds" in out
    assert USED_UP in out.splitlines()


def test_kill_9_and_resume(train_options, tmp_path, capsys):
    """The trial that was killed goes on from its checkpoint, those before it are kept."""
    space = tmp_path / "space.yaml"
    space.write_text("CROLoss: {temperature: {min: 0.1, max: 0.4}}\n")
    command = ["tune", *train_options[1:], "--epochs", "8", "--validate_every", "1"]
    command += ["--patience", "8", "--search", "bayesian", "--trials", "2", "--space", str(space)]
    command += ["--runs", str(tmp_path), "--name", "killed"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tfrs_croloss_cli", *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    trials = tmp_path / "killed" / "trials"
    history = trials / "1" / "history.json"
    deadline = time.monotonic() + 200
    while not history.exists() or len(json.loads(history.read_text())) < 2:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (trials / "1" / "validation.json").exists()
    before = json.loads(history.read_text())
    first = (trials / "0" / "validation.json").stat().st_mtime_ns
    taken = []

    class Noted(Trainer):
        def fit(self):
            taken.append((self.config.name, self.checkpoints.step))
            return super().fit()

    with pytest.MonkeyPatch.context() as patches:
        patches.setattr(tune, "Trainer", Noted)
        main(command)
    ((name, step),) = taken
    assert name == "1"
    assert step >= 2 * 14  # 60 users have 14 training interactions each, and a batch has 64
    after = json.loads(history.read_text())
    assert after[: len(before)] == before
    assert [row["epoch"] for row in after] == list(range(1, 9))
    assert (trials / "0" / "validation.json").stat().st_mtime_ns == first
    assert sorted(trial["trial"] for trial in trials_of(tmp_path / "killed")) == ["0", "1"]


def test_hyperband_goes_on_from_checkpoints(train_options, tmp_path, capsys):
    space = tmp_path / "space.yaml"
    space.write_text("FusedAdam: {learning_rate: {min: 0.001, max: 0.1, scale: log}}\n")
    command = ["tune", *train_options[1:], "--epochs", "6", "--validate_every", "2"]
    command += ["--search", "hyperband", "--trials", "4", "--space", str(space)]
    main([*command, "--runs", str(tmp_path), "--name", "band"])
    trials = {trial["trial"]: trial for trial in trials_of(tmp_path / "band")}
    # Three validations make two brackets; the first has three trials of one, and the best of them
    # goes on to three.
    assert [trials[str(number)]["epochs"] for number in range(4)] == [2, 2, 2, 6]
    short = [trials[str(number)] for number in range(3)]
    parent = max(short, key=lambda trial: trial["objective"])
    assert trials["3"]["continues"] == parent["trial"]
    assert trials["3"]["values"] == parent["values"]

    def history(trial):
        path = tmp_path / "band" / "trials" / trial["trial"] / "history.json"
        return json.loads(path.read_text())

    assert history(trials["3"])[:1] == history(parent)
    assert [row["epoch"] for row in history(trials["3"])] == [2, 4, 6]
    assert not list((tmp_path / "band" / "trials").glob("*/checkpoints"))
    # From nothing it gives what it gave in two parts.
    config = str(tmp_path / "band" / "config.yaml")
    main(["train", "--config", config, "--epochs", "6", "--name", "whole"])
    whole = json.loads((tmp_path / "whole" / "history.json").read_text())
    for row, other in zip(whole, history(trials["3"]), strict=True):
        assert row[OBJECTIVE] == pytest.approx(other[OBJECTIVE], abs=0.02)


def test_all_failing_is_an_error(tune_options, tmp_path, capsys):
    space = tmp_path / "space.yaml"
    # Each by the options themselves, or by what comes of them.
    space.write_text("FusedAdam: {learning_rate: [1e39]}\ncommon: {history_length: [0, 32]}\n")
    command = [*tune_options, "--space", str(space), "--trials", "2", "--runs", str(tmp_path)]
    for _ in range(2):
        err = error_of([*command, "--name", "none"], capsys)
        assert "all 2 trials failed, trial 0 with: " in err
    errors = [path.read_text() for path in sorted((tmp_path / "none").glob("trials/*/error.txt"))]
    assert {error.split()[0] for error in errors} == {"the", "--history_length"}
    assert not (tmp_path / "none" / "config.yaml").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--loss.alpha", "1.4"], "holds a search with other options (loss was CROLoss("),
        (["--search", "bayesian"], "search was random, is bayesian"),
        (["--loss", "SoftmaxLoss", "--fix", "[batch_size]"], "space was"),
        (["--loss", "SoftmaxLoss", "--fix", "[CROLoss.alpha]"], "--fix must name what"),
        (["--strategy", "multiworker"], "a trial is trained by one process"),
        (["--trials", "0"], "--trials must be positive. Received: 0"),
        (["--validation_share", "0"], "--validation_share must be positive"),
        (["--search", "hyperband", "--factor", "1"], "--factor must be at least 2. Received: 1"),
        (["--space", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_what_is_refused(options, message, search, tune_options, capsys):
    command = [*tune_options, "--runs", str(search.parent), "--name", search.name]
    if "--loss" in options:
        command = [part for part in command if not part.endswith("space.yaml")]
        command.remove("--space")
    assert message in error_of([*command, *options], capsys)


def test_the_folder_of_a_run_is_refused(run, tune_options, capsys):
    command = [*tune_options, "--runs", str(run.parent), "--name", run.name]
    assert "mine holds a run. Choose another --name" in error_of(command, capsys)


def test_data_that_changed(search, tune_options, ratings, tmp_path, capsys):
    old = ratings.read_text()
    try:
        ratings.write_text(old + "u0,9999,0,5\n")
        command = [*tune_options, "--runs", str(search.parent), "--name", search.name]
        assert "the data is not what" in error_of(command, capsys)
    finally:
        ratings.write_text(old)


def test_options_that_exclude_each_other_are_said_before_any_trial(tune_options, tmp_path, capsys):
    command = ["tune", *tune_options[1:-2], "--loss", "TalosLoss", "--runs", str(tmp_path)]
    assert "--threshold_k must be given for --loss TalosLoss" in error_of(command, capsys)
    assert not (tmp_path / "tune").exists()


def test_a_config_of_train_is_taken_and_the_test_set_never_seen(run, tmp_path, monkeypatch, capsys):
    seen = []
    evaluate = measure.evaluate

    class Noted(Trainer):
        def fit(self):
            seen.append(self.data)
            return super().fit()

    def noted_evaluate(index, queries, targets, **options):
        seen.append(targets)
        return evaluate(index, queries, targets, **options)

    monkeypatch.setattr(tune, "Trainer", Noted)
    monkeypatch.setattr(measure, "evaluate", noted_evaluate)
    space = tmp_path / "space.yaml"
    space.write_text("CROLoss: {temperature: [0.2]}\n")
    command = ["tune", "--config", str(run / "config.yaml"), "--space", str(space)]
    command += ["--trials", "1", "--epochs", "1", "--runs", str(tmp_path), "--name", "of-config"]
    main(command)
    config = yaml.safe_load((tmp_path / "of-config" / "config.yaml").read_text())
    expected = yaml.safe_load((run / "config.yaml").read_text())
    expected["loss"]["init_args"]["temperature"] = 0.2
    expected |= {"epochs": 1, "runs": str(tmp_path), "name": "of-config-best"}
    assert Config(**config) == Config(**expected)
    # It was measured once, on the validation set, with no test set at hand.
    data, targets = seen
    assert targets is data.validation
    assert not data.test.counts.any()
    assert not data.test.matrix.nnz
