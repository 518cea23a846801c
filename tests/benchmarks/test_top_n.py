"""The measurement behind docs/choosing-alpha.md, in little."""

import json

import numpy as np
import pandas as pd
import pytest

from benchmarks.top_n import measure
from tfrs_croloss.commands.experiment.classes import spec
from tfrs_croloss.commands.experiment.options import Config

ONLY = ["for_top_n(20)", "LogNormal(20)", "MML from_quantiles, push 0.5"]


@pytest.fixture
def config(tmp_path):
    random = np.random.default_rng(0)
    rows = [(u, i) for u in range(40) for i in random.permutation(400)[:12]]
    pd.DataFrame(rows, columns=["user", "item"]).to_csv(tmp_path / "in.csv", index=False)
    return Config(
        train=str(tmp_path / "in.csv"),
        split="random",
        dim=8,
        negatives=spec("UniformNegatives", num_negatives=16),
        batch_size=64,
        epochs=2,
        temperature=0.2,
    )


def test_measures_each_setting_and_goes_on_where_it_was_cut_off(config, tmp_path):
    output = tmp_path / "out" / "small"
    measure(config, output, seeds=2, only=ONLY)
    lines = output.with_suffix(".jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert {(row["setting"], row["seed"]) for row in rows} == {
        (name, seed) for name in ["alpha 1.0", *ONLY] for seed in (0, 1)
    }
    # Cut off before the last run, which is then done again to the same numbers.
    output.with_suffix(".jsonl").write_text("\n".join(lines[:-1]) + "\n")
    measure(config, output, seeds=2, only=ONLY)
    assert [json.loads(x) for x in output.with_suffix(".jsonl").read_text().splitlines()] == rows
    table = output.with_suffix(".md").read_text()
    recalls = [row["recall"]["20"] for row in rows if row["setting"] == "alpha 1.0"]
    assert f"| alpha 1.0 | {np.mean(recalls):.4f} ± ".replace("0.", ".") in table.replace("**", "")
    assert output.with_suffix(".png").stat().st_size > 10_000


def test_one_seed_has_no_deviation(config, tmp_path):
    with pytest.raises(ValueError, match="--seeds must be at least 2. Received: 1"):
        measure(config, tmp_path / "out", seeds=1)
