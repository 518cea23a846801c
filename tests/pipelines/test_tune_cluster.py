"""A search by several processes: keras-tuner's chief, and workers of which one is killed."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent import futures

import pytest
import yaml

from tfrs_croloss.commands.cli import main
from tfrs_croloss.commands.training.cluster import free_ports

pytestmark = pytest.mark.slow

NUM_TRIALS = 5


@pytest.fixture
def start(train_options, tmp_path):
    """Starts a process of the cluster; its output goes to <name>.txt."""
    (port,) = free_ports(1)
    space = tmp_path / "space.yaml"
    space.write_text("CROLoss: {temperature: {min: 0.1, max: 0.4}, batch_size: [64, 128]}\n")
    command = [
        sys.executable,
        "-m",
        "tfrs_croloss_cli",
        "tune",
        *train_options[1:],
        "--space",
        str(space),
    ]
    command += ["--trials", str(NUM_TRIALS), "--epochs", "6", "--validate_every", "1"]
    command += ["--patience", "6", "--runs", str(tmp_path), "--name", "tuned"]
    processes = []

    def run(tuner_id, name, *options):
        environment = {
            **os.environ,
            "KERASTUNER_TUNER_ID": tuner_id,
            "KERASTUNER_ORACLE_IP": "127.0.0.1",
            "KERASTUNER_ORACLE_PORT": str(port),
        }
        with (tmp_path / f"{name}.txt").open("w") as output:
            processes.append(
                subprocess.Popen(
                    [*command, *options], env=environment, stdout=output, stderr=output
                )
            )
        return processes[-1]

    yield run
    for process in processes:
        process.kill()
        process.wait()


def wait_until(condition, *processes, seconds=900):
    deadline = time.monotonic() + seconds
    while not condition():
        assert all(process.poll() is None for process in processes), "it ended too soon"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def taken(path):
    """The trials that a worker took up, from its progress bars."""
    return sorted(set(re.findall(r"^(\d+):", path.read_text().replace("\r", "\n"), re.MULTILINE)))


def test_two_workers_and_a_chief(start, tmp_path):
    chief = start("chief", "chief")
    killed = start("worker-0", "killed")
    other = start("worker-1", "other")
    trials = tmp_path / "tuned" / "trials"

    def is_training():
        """Whether worker 0 has trained a part of a trial."""
        histories = [trials / trial / "history.json" for trial in taken(tmp_path / "killed.txt")]
        return any(
            path.exists() and not path.with_name("validation.json").exists() for path in histories
        )

    wait_until(is_training, chief, killed, other)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    (broken,) = (
        trial
        for trial in taken(tmp_path / "killed.txt")
        if not (trials / trial / "validation.json").exists()
    )
    before = json.loads((trials / broken / "history.json").read_text())
    again = start("worker-0", "again")
    for process in (chief, other, again):
        assert process.wait(timeout=900) == 0, (tmp_path / "chief.txt").read_text()

    # Each trial was taken by one worker, but that of the kill, which its worker came back to.
    by = {name: taken(tmp_path / f"{name}.txt") for name in ("killed", "other", "again")}
    counts = Counter(itertools.chain(*by.values()))
    assert counts == {str(number): 1 + (str(number) == broken) for number in range(NUM_TRIALS)}
    assert broken in by["killed"]
    assert broken in by["again"]
    results = json.loads((tmp_path / "tuned" / "trials.json").read_text())["trials"]
    assert sorted(trial["trial"] for trial in results) == sorted(counts)
    assert all(trial["error"] is None for trial in results)
    # Each trained its epochs once; what was trained before the kill is kept.
    for trial in counts:
        history = json.loads((trials / trial / "history.json").read_text())
        assert [row["epoch"] for row in history] == list(range(1, 7))
    history = json.loads((trials / broken / "history.json").read_text())
    assert history[: len(before)] == before

    # The chief alone writes what was found: one table in its output, none in theirs.
    best = max(results, key=lambda trial: trial["objective"])
    config = yaml.safe_load((tmp_path / "tuned" / "config.yaml").read_text())
    assert results[0] == best
    temperature = best["values"]["CROLoss.temperature"]
    assert config["loss"]["init_args"]["temperature"] == temperature
    said = (tmp_path / "chief.txt").read_text()
    assert said.count("The best trial's options") == 1
    assert all(f"trial {trial}: recall@20" in said for trial in counts)
    for name in by:
        assert "best trial's options" not in (tmp_path / f"{name}.txt").read_text()

    # Who comes late is told, chief or worker.
    written = (tmp_path / "tuned" / "trials.json").stat().st_mtime_ns
    assert start("worker-2", "late").wait(timeout=300) == 0
    assert "has ended" in (tmp_path / "late.txt").read_text()
    assert (tmp_path / "tuned" / "trials.json").stat().st_mtime_ns == written


def test_two_chiefs_of_one_port(train_options, tmp_path, monkeypatch, capsys):
    import grpc

    server = grpc.server(futures.ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    monkeypatch.setenv("KERASTUNER_TUNER_ID", "chief")
    monkeypatch.setenv("KERASTUNER_ORACLE_IP", "127.0.0.1")
    monkeypatch.setenv("KERASTUNER_ORACLE_PORT", str(port))
    try:
        with pytest.raises(SystemExit) as stopped:
            main(["tune", *train_options[1:], "--runs", str(tmp_path), "--name", "two"])
    finally:
        server.stop(None)
    assert stopped.value.code == 2
    assert f"the chief can't listen on 127.0.0.1:{port}" in capsys.readouterr().err
