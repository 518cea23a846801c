"""A killed run resumes, and ends as an unbroken one."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.pipelines.killing import Killed
from tfrs_croloss.commands.cli import main
from tfrs_croloss.commands.training import checkpoints
from tfrs_croloss.retrieval.requirements import tf

OPTIONS = ["--epochs", "12", "--validate_every", "1", "--patience", "12"]
STEPS = 14  # An epoch's: 60 users have 14 training interactions each, and a batch has 64.


def test_kill_and_resume(train_options, tmp_path, capsys):
    command = [*train_options, *OPTIONS, "--runs", str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, "-m", "tfrs_croloss_cli", *command, "--name", "killed"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    history = tmp_path / "killed" / "history.json"
    deadline = time.monotonic() + 120
    while not history.exists() or len(json.loads(history.read_text())) < 3:
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "metrics.json").exists()
    before = json.loads(history.read_text())

    # Before it is complete, nothing takes it for complete.
    with pytest.raises(SystemExit) as stopped:
        main(["export", "--run", str(tmp_path / "killed")])
    assert stopped.value.code == 2
    assert "is not complete. Resume it: tfrs-croloss train" in capsys.readouterr().err

    main([*command, "--name", "killed"])
    main([*command, "--name", "unbroken"])
    after = json.loads(history.read_text())
    assert after[: len(before)] == before
    assert [row["epoch"] for row in after] == list(range(1, 13))
    killed, unbroken = (
        json.loads((tmp_path / name / "metrics.json").read_text())["test"]["exact"]
        for name in ("killed", "unbroken")
    )
    for metric in ("recall@5", "recall@20", "ndcg@20"):
        assert killed[metric] == pytest.approx(unbroken[metric], abs=0.02)


@pytest.mark.parametrize("write", ["last", "history"])
def test_a_kill_between_two_writes(write, train_options, tmp_path, monkeypatch):
    """After the best checkpoint and before the last, or before the history's copy."""
    command = [*train_options, *OPTIONS, "--runs", str(tmp_path), "--name", "killed"]
    save, write_json = tf.train.CheckpointManager.save, checkpoints.write_json

    def save_until_killed(manager, number):
        if write == "last" and manager.directory.endswith("last") and number == 4 * STEPS:
            raise Killed
        return save(manager, number)

    def write_until_killed(path, content):
        if write == "history" and path.name == "history.json" and len(content) == 4:
            raise Killed
        return write_json(path, content)

    with monkeypatch.context() as patches:
        patches.setattr(tf.train.CheckpointManager, "save", save_until_killed)
        patches.setattr(checkpoints, "write_json", write_until_killed)
        with pytest.raises(Killed):
            main(command)
    main(command)
    history = json.loads((tmp_path / "killed" / "history.json").read_text())
    assert [row["epoch"] for row in history] == list(range(1, 13))
    metrics = json.loads((tmp_path / "killed" / "metrics.json").read_text())
    best = max(history, key=lambda row: row["recall@20"])
    assert metrics["best_epoch"] == best["epoch"]
    assert metrics["validation"]["recall@20"] == best["recall@20"]


def test_a_complete_run_is_not_trained_again(run, train_options, capsys):
    written = (run / "metrics.json").stat().st_mtime_ns
    main([*train_options, "--runs", str(run.parent), "--name", run.name])
    assert (run / "metrics.json").stat().st_mtime_ns == written


def test_other_options_do_not_mix_into_a_run(run, train_options, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([*train_options, "--loss.alpha", "1.4", "--runs", str(run.parent), "--name", run.name])
    assert stopped.value.code == 2
    assert "alpha=1.4" in capsys.readouterr().err


def test_data_that_changed_is_not_taken_for_what_was_trained_on(
    ratings, train_options, tmp_path, capsys
):
    copy = tmp_path / "ratings.csv"
    copy.write_text(ratings.read_text())
    options = [str(copy) if option == str(ratings) else option for option in train_options]
    main([*options, "--runs", str(tmp_path), "--name", "mine"])
    copy.write_text(ratings.read_text() + "u0,9999,0,5\n")
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", "--run", str(tmp_path / "mine")])
    assert stopped.value.code == 2
    assert "is not what" in capsys.readouterr().err
