"""A comparison from end to end: killed, resumed, with a loss that fails; its numbers by loops."""

import contextlib
import io
import itertools
import json
import math
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from tfrs_croloss.commands.cli import main
from tfrs_croloss.commands.experiment.runs import Run

pytestmark = pytest.mark.slow

SEEDS = (0, 1)
OURS = {"lambda_kernel": "sigmoid", "temperature": 0.1}
LOSSES = {
    "softmax": {"loss": "SoftmaxLoss", "temperature": 0.2},
    "broken": {"loss": {"class_path": "CROLoss", "init_args": {"temperature": 1e-42}}},
    "CRO": {"loss": {"class_path": "CROLoss", "init_args": OURS}, "batch_size": 128},
}


@pytest.fixture(scope="module")
def common(ratings):
    data = {"train": ratings.name, "user": "who", "item": "what", "time": "when"}
    drawn = {"class_path": "UniformNegatives", "init_args": {"num_negatives": 32}}
    model = {"dim": 8, "negatives": [drawn], "batch_size": 64}
    budget = {"epochs": 6, "validate_every": 1, "patience": 6}
    return {
        **data,
        **model,
        **budget,
        "split": "random",
        "top_n": [5, 20],
        "monitor": "recall@20",
    }


@pytest.fixture(scope="module")
def compared(common, ratings, tmp_path_factory):
    """What came of a comparison that was killed in its second run, and of the same again."""
    folder = tmp_path_factory.mktemp("compared")
    file = folder / "three losses.yaml"
    file.write_text(
        yaml.safe_dump({"common": common, "losses": LOSSES, "seeds": 2}, sort_keys=False)
    )
    command = ["compare", "--config", str(file), "--data", str(ratings.parent)]
    command += ["--runs", str(folder)]
    runs = folder / "three losses"
    killed = subprocess.Popen(
        [sys.executable, "-m", "tfrs_croloss_cli", *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    history, deadline = runs / "softmax-1" / "history.json", time.monotonic() + 300
    while not history.exists() or len(json.loads(history.read_text())) < 2:
        assert killed.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    children = Path(f"/proc/{killed.pid}/task/{killed.pid}/children").read_text().split()
    commands = [Path(f"/proc/{child}/cmdline").read_text() for child in children]
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    while any(Path(f"/proc/{child}/cmdline").exists() for child in children):
        assert time.monotonic() < deadline, "a run outlived the comparison that started it"
        time.sleep(0.01)
    before = {
        "runs": sum("tfrs_croloss_cli" in command for command in commands),
        "history": json.loads(history.read_text()),
        "written": (runs / "softmax-0" / "metrics.json").stat().st_mtime_ns,
        "results": (runs / "results.json").exists(),
        "complete": (runs / "softmax-1" / "metrics.json").exists(),
    }
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as stopped,
    ):
        main(command)
    return {
        "before": before,
        "code": stopped.value.code,
        "out": out.getvalue(),
        "err": err.getvalue(),
        "folder": runs,
        "results": json.loads((runs / "results.json").read_text()),
        "metrics": {
            name: [read(runs / f"{name}-{seed}" / "metrics.json") for seed in SEEDS]
            for name in ("softmax", "CRO")
        },
    }


def read(path):
    return json.loads(path.read_text())


def test_the_results_do_not_say_where_the_data_lay(compared, ratings):
    results = compared["results"]
    assert results["common"]["train"] == ratings.name
    assert results["losses"]["CRO"]["config"]["train"] == ratings.name
    assert (
        str(ratings.parent) not in (compared["folder"] / "results.md").read_text().split("```")[2]
    )


def test_a_killed_comparison_goes_on(compared):
    before, folder = compared["before"], compared["folder"]
    assert before["runs"] == 1
    assert not before["results"]
    assert not before["complete"]
    assert (folder / "softmax-0" / "metrics.json").stat().st_mtime_ns == before["written"]
    history = read(folder / "softmax-1" / "history.json")
    assert history[: len(before["history"])] == before["history"]
    assert [row["epoch"] for row in history] == list(range(1, 7))
    # The time of both processes, without what the first had not saved.
    seconds = [row["seconds"] for row in history]
    assert all(a < b for a, b in itertools.pairwise(seconds))
    metrics = compared["metrics"]["softmax"][1]
    assert seconds[-1] <= metrics["seconds"] < seconds[-1] + 10
    assert "softmax-0, complete" in compared["out"]


def test_a_loss_that_fails_takes_no_other_down(compared):
    assert compared["code"] == 1
    assert compared["results"]["failures"].keys() == {"broken-0", "broken-1"}
    for run in ("broken-0", "broken-1"):
        assert re.search(
            f"^error: {run}: `temperature` must be at least", compared["err"], re.MULTILINE
        )
    assert list(compared["results"]["losses"]) == ["softmax", "CRO"]
    assert "broken-1: `temperature` must be" in (compared["folder"] / "results.md").read_text()


def test_means_deviations_and_costs(compared):
    for name, metrics in compared["metrics"].items():
        found = compared["results"]["losses"][name]
        assert found["seeds"] == list(SEEDS)
        for metric in ("recall@5", "recall@20", "ndcg@5", "ndcg@20", "mrr@20", "coverage@5"):
            values = [each["test"]["exact"][metric] for each in metrics]
            assert found["test"]["exact"][metric] == values
            assert found["mean"][metric] == pytest.approx(statistics.fmean(values))
            assert found["deviation"][metric] == pytest.approx(statistics.stdev(values))
        for key in ("seconds", "peak_memory_mb"):
            assert found[key] == [each[key] for each in metrics]
            assert min(found[key]) > 0
        # TensorFlow alone has some 400 MB.
        assert 200 < min(found["peak_memory_mb"]) < max(found["peak_memory_mb"]) + 1 < 3000
        assert found["best_epochs"] == [each["best_epoch"] for each in metrics]


def test_metrics_of_users_and_their_significance(compared):
    users, values = {}, {}
    for name in ("softmax", "CRO"):
        for seed in SEEDS:
            arrays = np.load(compared["folder"] / f"{name}-{seed}" / "per_user.npz")
            assert set(arrays) == {"user", "recall@5", "recall@20", "ndcg@5", "ndcg@20"}
            assert all(x.dtype == np.float32 for key, x in arrays.items() if key != "user")
            users[name, seed] = arrays["user"].tolist()
            values[name, seed] = {key: arrays[key].tolist() for key in arrays}
            test = compared["metrics"][name][seed]["test"]["exact"]
            assert len(users[name, seed]) == test["num_users"]
            for metric in set(arrays) - {"user"}:
                mean = math.fsum(values[name, seed][metric]) / test["num_users"]
                assert mean == pytest.approx(test[metric], rel=1e-5)
    # A random split, and the same for both seeds.
    assert len(set(map(tuple, users.values()))) == 1
    significance = compared["results"]["losses"]["CRO"]["significance"]
    for metric in ("recall@5", "recall@20", "ndcg@5", "ndcg@20"):
        differences, before = [], []
        for user in range(len(users["CRO", 0])):
            ours, theirs = (
                sum(values[name, seed][metric][user] for seed in SEEDS) / 2
                for name in ("CRO", "softmax")
            )
            differences.append(ours - theirs)
            before.append(theirs)
        found = significance[metric]
        mean, error = statistics.fmean(differences), statistics.stdev(differences) / 60**0.5
        assert found["difference"] == pytest.approx(mean, abs=1e-6)
        assert found["relative"] == pytest.approx(mean / statistics.fmean(before), abs=1e-5)
        low, high = found["interval"]
        assert low == pytest.approx(mean - 1.96 * error, abs=0.4 * error)
        assert high == pytest.approx(mean + 1.96 * error, abs=0.4 * error)
        assert (found["p"] < 0.04) <= (low > 0 or high < 0)
        assert found["seeds"] == list(SEEDS)
    assert "significance" not in compared["results"]["losses"]["softmax"]


def test_all_else_is_the_same(compared, ratings):
    """But for what a loss has of its own, and the table shows."""
    configs = {
        (name, seed): vars(Run(compared["folder"] / f"{name}-{seed}").config())
        for name in ("softmax", "CRO")
        for seed in SEEDS
    }
    first = configs["softmax", 0]
    assert first["split_seed"] == 0
    for (name, seed), config in configs.items():
        differing = {key for key in config if config[key] != first[key]} - {"name", "seed"}
        assert differing <= LOSSES["softmax"].keys() | LOSSES[name].keys()
        assert config["seed"] == seed
    assert configs["CRO", 0]["batch_size"] == 128
    written = compared["results"]["losses"]["CRO"]["config"]
    used = {key: configs["CRO", 1][key] for key in written}
    assert used["train"] == str(ratings)
    # The data by its name in the file, wherever it lay.
    assert written == {**used, "train": ratings.name}
    assert configs["CRO", 1].keys() - written.keys() == {"name", "seed", "runs"}
    for text in (compared["out"], (compared["folder"] / "results.md").read_text()):
        assert "loss=CROLoss(lambda_kernel=sigmoid, temperature=0.1), batch_size=128" in text


def test_what_is_printed_and_written(compared):
    folder, results, out = compared["folder"], compared["results"], compared["out"]
    mean, deviation = (results["losses"]["CRO"][x] for x in ("mean", "deviation"))
    assert out.splitlines()[-1] == (
        f"Recall@20 {mean['recall@20']:.4f} ± {deviation['recall@20']:.4f}  "
        f"NDCG@20 {mean['ndcg@20']:.4f} ± {deviation['ndcg@20']:.4f}  (2 seeds)"
    )
    for n in (5, 20):
        assert re.search(rf"^CRO (beats|falls|does not).* the softmax at recall@{n}: ", out, re.M)
    text = (folder / "results.md").read_text()
    assert text.index(results["command"]) < text.index("| loss |")
    for metric in ("recall@5", "recall@20", "ndcg@5", "ndcg@20"):
        assert f"{mean[metric]:.4f} ± {deviation[metric]:.4f}" in text
    assert results["machine"]["cpu"] in text
    for name in ("recall", "training", "gradient"):
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert not (folder / "alpha.png").exists()


def test_other_options_do_not_mix_into_a_comparison(compared, common, ratings, tmp_path, capsys):
    file = tmp_path / "other.yaml"
    file.write_text(yaml.safe_dump({"common": {**common, "dim": 4}, "losses": LOSSES}))
    with pytest.raises(SystemExit) as stopped:
        main(
            [
                *("compare", "--config", str(file), "--data", str(ratings.parent)),
                *("--runs", str(compared["folder"].parent), "--name", compared["folder"].name),
            ]
        )
    assert stopped.value.code == 2
    assert "other options (dim was 8, is 4). Choose another" in capsys.readouterr().err
