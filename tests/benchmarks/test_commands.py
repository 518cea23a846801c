"""Benchmarks that nothing else runs, by their commands on little data."""

import json
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from tests.pages import ROOT

pytestmark = pytest.mark.slow


def run(module, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def interactions(tmp_path):
    rng = np.random.default_rng(0)
    items = [rng.permutation(100)[:10] for _ in range(40)]
    ids = {"user": np.repeat(np.arange(40), 10), "item": np.concatenate(items)}
    path = tmp_path / "in.csv"
    pd.DataFrame(ids).to_csv(path, index=False)
    return path


def test_an_epoch_against_its_products(interactions, tmp_path):
    output = tmp_path / "epoch.json"
    small = ["--run.dim", 8, "--run.batch_size", 64, "--epochs", 1]
    out = run("benchmarks.epoch", "--run.train", interactions, *small, "--output", output)
    found = json.loads(output.read_text())
    seconds = found["seconds"]
    assert f"{found['steps']} steps an epoch" in out
    assert seconds["step"] > 0
    assert seconds["ratio"] == pytest.approx(
        seconds["step"] / (seconds["products"] + seconds["update"])
    )


def test_the_indexes_of_a_run(interactions, tmp_path):
    small = ["--split", "random", "--dim", 8, "--epochs", 1]
    run("pipelines", "train", "--train", interactions, *small, "--runs", tmp_path, "--name", "run")
    output = tmp_path / "index"
    size = ["--num_candidates", 25_000, "--num_queries", 16, "--rounds", 1, "--peers", "false"]
    out = run("benchmarks.index", "--run", tmp_path / "run", *size, "--output", output)
    rows = json.loads(output.with_suffix(".json").read_text())["rows"]
    assert {row["kind"] for row in rows} == {"exact", "approximate"}
    for row in rows:
        assert f"| {row['index']} |" in out
        assert row["queries a second"] > 0
        # Few samples say little of what a target gives, but something is found.
        assert row["recall"] > (0.99 if row["kind"] == "exact" else 0.5), row
    assert output.with_suffix(".png").exists()


def test_what_two_workers_send_each_other():
    batch, negatives, dim = 64, 32, 64
    out = run("benchmarks.traffic", "--items", 1000, "--batch", batch, "--negatives", negatives)
    (sent,) = re.findall(r"([\d,]+) bytes a worker and step", out)
    # A gradient's row for each user and item of its half of the batch, and for each negative.
    rows = batch // 2 + batch // 2 + negatives
    assert int(sent.replace(",", "")) > rows * dim * 4


def test_a_rows_own_candidates(tmp_path):
    """It compares the gradients of both forms with plain TensorFlow's itself."""
    output = tmp_path / "own.md"
    out = run("benchmarks.own", "--rounds", 1, "--small", "--output", output)
    assert output.read_text() in out
    assert re.search(r"\| ours by index, softmax \| \d+ \|", out)
