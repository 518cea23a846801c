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
        [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_epoch_against_its_products(tmp_path):
    rng = np.random.default_rng(0)
    ids = {"user": np.repeat(np.arange(40), 10), "item": rng.integers(0, 100, 400)}
    pd.DataFrame(ids).to_csv(tmp_path / "in.csv", index=False)
    output = tmp_path / "epoch.json"
    small = ["--run.dim", 8, "--run.batch", 64, "--run.negatives", 16, "--epochs", 1]
    out = run("epoch", "--run.train", tmp_path / "in.csv", *small, "--output", output)
    found = json.loads(output.read_text())
    seconds = found["seconds"]
    assert f"{found['steps']} steps an epoch" in out
    assert seconds["step"] > 0
    assert seconds["ratio"] == pytest.approx(
        seconds["step"] / (seconds["products"] + seconds["update"])
    )


def test_what_two_workers_send_each_other():
    batch, negatives, dim = 64, 32, 64
    out = run("traffic", "--items", 1000, "--batch", batch, "--negatives", negatives)
    (sent,) = re.findall(r"([\d,]+) bytes a worker and step", out)
    # A gradient's row for each user and item of its half of the batch, and for each negative.
    rows = batch // 2 + batch // 2 + negatives
    assert int(sent.replace(",", "")) > rows * dim * 4
