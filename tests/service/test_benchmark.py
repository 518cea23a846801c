"""The measurement behind docs/performance-serving.md, in little."""

import json

import numpy as np
import pandas as pd
import pytest

from benchmarks.expected import Expected
from benchmarks.serving import measure
from tfrs_croloss.commands.cli import main


def test_measures_a_run(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    rows = [(u, i) for u in range(40) for i in random.permutation(400)[:12]]
    pd.DataFrame(rows, columns=["user", "item"]).to_csv(tmp_path / "in.csv", index=False)
    data = ("--train", str(tmp_path / "in.csv"), "--split", "random", "--top_n", "[5]")
    quick = ("--dim", "8", "--batch_size", "64", "--epochs", "1")
    main(["train", *data, *quick, "--runs", str(tmp_path), "--name", "run"])
    output = tmp_path / "out" / "small"
    measure(str(tmp_path / "run"), output, k=5, seconds=0.2, requests=500)
    results = json.loads(output.with_suffix(".json").read_text())
    assert results["answers"] >= 500
    assert results["failed"] == results["wrong"] == results["end"]["wrong"] == 0
    assert results["swap"]["seconds"] > 0
    assert results["end"]["exit_code"] == 0
    page = output.with_suffix(".md").read_text()
    assert f"| 32 | {results['load'][-1]['requests_per_second']:.0f} |" in page


@pytest.fixture
def expected(tmp_path):
    """Two versions; in the first b and c are equal."""
    scores = [[[0.1, 0.7, 0.7, 0.5]], [[-np.inf, 0.7, 0.6, 0.9]]]
    path = tmp_path / "expected.npz"
    np.savez(path, users=["u"], items=["a", "b", "c", "d"], scores=scores)
    return Expected(path, k=3)


@pytest.mark.parametrize(
    ("items", "scores", "versions"),
    [
        (["b", "c", "d"], [0.7, 0.7, 0.5], [1]),
        (["c", "b", "d"], [0.7, 0.7, 0.5], [1]),
        (["d", "b", "c"], [0.9, 0.7, 0.6], [2]),
        (["d", "b", "c"], [0.9, 0.7, 0.61], []),
        (["b", "c", "a"], [0.7, 0.7, 0.5], []),
        (["b", "d", "c"], [0.7, 0.7, 0.5], []),
        (["b", "b", "d"], [0.7, 0.7, 0.5], []),
        (["b", "x", "d"], [0.7, 0.7, 0.5], []),
        (["b", "c"], [0.7, 0.7], []),
    ],
)
def test_tells_right_from_wrong(expected, items, scores, versions):
    assert expected.versions(0, items, scores) == versions
