"""Replicas and workers: the same training as on one device, also when processes are killed.

Whatever needs devices or workers of its own runs as a command, as a person would run it.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tests.pipelines.killing import KillAtStep, Killed, calling
from tfrs_croloss.commands.cli import main
from tfrs_croloss.commands.experiment.options import Config
from tfrs_croloss.commands.training import cluster

pytestmark = pytest.mark.slow

# 60 users have 14 training interactions each, and a batch has 64 of them: 13 batches and a tail.
STEPS_AN_EPOCH = 14
STEPS = 4 * STEPS_AN_EPOCH


def command(*options):
    return [sys.executable, "-m", "tfrs_croloss_cli", *options]


def completed(*options):
    done = subprocess.run(command(*options), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


def variables(run):
    """What the last checkpoint of a run holds, by name."""
    path = tf.train.latest_checkpoint(run / "checkpoints" / "last")
    return {name: tf.train.load_variable(path, name) for name, _ in tf.train.list_variables(path)}


def assert_same_training(run, expected, num_steps, atol):
    """The same steps, weights, moments, losses and test metrics, up to rounding."""
    actual = variables(run)
    assert actual["model/step/.ATTRIBUTES/VARIABLE_VALUE"] == num_steps
    assert actual["optimizer/_iterations/.ATTRIBUTES/VARIABLE_VALUE"] == num_steps
    compared = 0
    for name, value in variables(expected).items():
        if "embedding" in name or "dense" in name or "optimizer" in name:
            np.testing.assert_allclose(actual[name], value, rtol=1e-4, atol=atol, err_msg=name)
            compared += 1
    assert compared > 6  # two tables, and two moments of each
    histories = [json.loads((folder / "history.json").read_text()) for folder in (run, expected)]
    for row, other in zip(*histories, strict=True):
        assert row.pop("seconds") > 0
        assert other.pop("seconds") > 0
        assert row == pytest.approx(other, rel=1e-4)
    metrics, others = (
        json.loads((folder / "metrics.json").read_text())["test"]["exact"]
        for folder in (run, expected)
    )
    assert metrics == pytest.approx(others)


def children(process):
    """The commands that it has started; not what reads its stderr."""
    path = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    return [
        int(child) for child in path.read_text().split() if "tfrs_croloss_cli" in command_of(child)
    ]


def command_of(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except FileNotFoundError:
        return ""


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert process.poll() is None, "it ended too soon"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return found


@contextlib.contextmanager
def started(*options, stderr=subprocess.DEVNULL):
    """A command that runs, with no process of it left in the end."""
    process = subprocess.Popen(command(*options), stdout=subprocess.DEVNULL, stderr=stderr)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def in_the_second_epoch(run):
    """Whether a checkpoint stands in the middle of the second epoch, or later."""

    def condition():
        saved = (run / "checkpoints" / "last").glob("*.index")
        return any(int(path.stem.split("-")[1]) > STEPS_AN_EPOCH for path in saved)

    return condition


@pytest.fixture(scope="module")
def unbroken(train_options, tmp_path_factory):
    """The folder of a run by two workers that nothing disturbed."""
    runs = tmp_path_factory.mktemp("cluster")
    completed(*train_options, "--strategy", "multiworker", "--runs", str(runs), "--name", "two")
    return runs / "two"


def test_two_workers_train_what_one_device_trains(unbroken, run):
    assert_same_training(unbroken, run, STEPS, atol=1e-4)
    files = {path.name for path in unbroken.iterdir()}
    assert files == {
        *("config.yaml", "history.json", "checkpoints", "metrics.json", "per_user.npz"),
        "recall.png",
    }


def test_two_replicas_train_what_one_device_trains(run, train_options, tmp_path):
    options = ["--strategy", "mirrored", "--replicas", "2", "--runs", str(tmp_path)]
    completed(*train_options, *options, "--name", "mirrored")
    assert_same_training(tmp_path / "mirrored", run, STEPS, atol=1e-4)


def test_a_tail_that_leaves_a_replica_nothing(train_options, tmp_path, capsys):
    # 60 × 13 interactions have a history: one is left for the second batch, and three replicas.
    options = [*train_options, "--query_tower", "HistoryTower", "--batch_size", "779"]
    options += ["--runs", str(tmp_path)]
    completed(*options, "--strategy", "mirrored", "--replicas", "3", "--name", "three")
    main([*options, "--name", "one"])
    assert_same_training(tmp_path / "three", tmp_path / "one", 4 * 2, atol=1e-4)


def test_kill_9_of_a_worker(unbroken, train_options, tmp_path):
    """In the middle of an epoch: no step is lost, and none is taken twice."""
    run, said = tmp_path / "killed", tmp_path / "stderr"
    options = ["--strategy", "multiworker", "--save_every", "3", "--runs", str(tmp_path)]
    with (
        said.open("w") as stderr,
        started(*train_options, *options, "--name", "killed", stderr=stderr) as launcher,
    ):
        wait_until(in_the_second_epoch(run), launcher)
        first = children(launcher)
        os.kill(first[1], signal.SIGKILL)
        wait_until(lambda: "start again" in said.read_text(), launcher)
        assert not any(map(is_alive, first))
        assert launcher.wait(timeout=120) == 0
    assert "worker 1 of 2 died of signal 9; all start again" in said.read_text()
    assert said.read_text().count("start again") == 1
    assert_same_training(run, unbroken, STEPS, atol=1e-6)


def test_kill_9_of_the_launcher(run, train_options, tmp_path, capsys):
    """No process is left, and another number of replicas takes up the run within the epoch."""
    options = [*train_options, "--save_every", "3", "--runs", str(tmp_path), "--name", "killed"]
    with started(*options, "--strategy", "multiworker") as launcher:
        wait_until(in_the_second_epoch(tmp_path / "killed"), launcher)
        workers = children(launcher)
    assert len(workers) == 2
    deadline = time.monotonic() + 10
    while any(map(is_alive, workers)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not (tmp_path / "killed" / "metrics.json").exists()
    main(options)
    assert_same_training(tmp_path / "killed", run, STEPS, atol=1e-4)


def test_ctrl_c_and_sigterm_leave_no_worker(train_options, tmp_path):
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 128 + signal.SIGTERM)):
        options = ["--strategy", "multiworker", "--runs", str(tmp_path), "--name", "stopped"]
        with started(*train_options, *options) as launcher:
            workers = wait_until(lambda: children(launcher)[1:] and children(launcher), launcher)
            launcher.send_signal(number)
            assert launcher.wait(timeout=30) == code
            assert not any(map(is_alive, workers))


def test_an_error_in_the_data_is_said_once_and_not_tried_again(train_options, tmp_path):
    options = ["--strategy", "multiworker", "--user", "whom", "--runs", str(tmp_path)]
    done = subprocess.run(
        command(*train_options, *options), capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 2
    assert done.stderr.count("no column 'whom'") == 1
    assert "start again" not in done.stderr


@pytest.mark.parametrize("killed_at", [20, 28])
def test_a_kill_within_an_epoch_or_before_its_validation(
    killed_at, run, train_options, tmp_path, monkeypatch, capsys
):
    """The resumed run ends as the unbroken one, its losses over whole epochs included."""
    options = [*train_options, "--save_every", "6", "--runs", str(tmp_path), "--name", "killed"]
    with calling(KillAtStep(killed_at)), pytest.raises(Killed):
        main(options)
    last = tmp_path / "killed" / "checkpoints" / "last"
    # Not at 28 = 2 epochs: that is saved with its validation.
    assert Path(tf.train.latest_checkpoint(last)).name == f"ckpt-{killed_at // 6 * 6}"
    main(options)
    assert_same_training(tmp_path / "killed", run, STEPS, atol=1e-6)


@pytest.fixture
def launch(tmp_path, monkeypatch):
    """Launches two workers that run a piece of Python each instead of training."""

    def run(code_of_0, code_of_1):
        code = (
            "import json, os, sys, time; from pathlib import Path\n"
            f"folder = Path({str(tmp_path)!r})\n"
            "index = json.loads(os.environ['TF_CONFIG'])['task']['index']\n"
            "if index == 1: (folder / 'starts').open('a').write('x')\n"
            f"exec([{code_of_0!r}, {code_of_1!r}][index])"
        )
        monkeypatch.setattr(cluster, "COMMAND", [sys.executable, "-c", code])
        cluster.launch(Config(strategy="multiworker", runs=str(tmp_path), name="run"))

    return run


def test_workers_that_keep_dying(launch, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        launch("time.sleep(60)", "sys.exit('no such thing')")
    assert stopped.value.code == 1
    assert (tmp_path / "starts").read_text() == "x" * 4
    err = capsys.readouterr().err
    assert "error: worker 1 of 2 died with exit code 1, and 4 starts in a row" in err
    assert err.count("no such thing") == 1


def test_workers_that_die_after_a_checkpoint_each_time(launch, tmp_path):
    launch(
        "sys.exit()",
        "last = folder / 'run' / 'checkpoints' / 'last'\n"
        "last.mkdir(parents=True, exist_ok=True)\n"
        "starts = (folder / 'starts').read_text()\n"
        "(last / 'checkpoint').write_text(starts)\n"
        "sys.exit(len(starts) < 7)",
    )
    assert (tmp_path / "starts").read_text() == "x" * 7


def test_workers_that_do_not_start(launch, monkeypatch, capsys):
    monkeypatch.setattr(cluster, "STARTUP_SECONDS", 0.5)
    with pytest.raises(SystemExit):
        launch("time.sleep(60)", "time.sleep(60)")
    assert "worker 0 of 2 did not start within 0.5 s" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "tf_config", "message"),
    [
        (["--workers", "0"], "", "--workers must be positive. Received: 0"),
        (["--replicas", "0"], "", "--replicas must be positive. Received: 0"),
        (["--save_every", "-1"], "", "--save_every must not be negative. Received: -1"),
        (["--strategy", "multiworker"], "{", "TF_CONFIG must be JSON such as"),
        (
            [],
            '{"cluster": {"chief": ["a:1"], "worker": ["b:1"]}}',
            "TF_CONFIG describes a cluster of 2 tasks, each of which would write the whole run. "
            "Add --strategy multiworker, or unset TF_CONFIG. Received: --strategy none",
        ),
        (["--strategy", "mirrored", "--replicas", "3"], "", "train in a process of its own"),
    ],
)
def test_options_that_can_not_be(
    options, tf_config, message, run, train_options, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("TF_CONFIG", tf_config)
    with pytest.raises(SystemExit) as stopped:
        main([*train_options, *options, "--runs", str(tmp_path)])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
