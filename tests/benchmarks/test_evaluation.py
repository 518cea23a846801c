"""The measurement behind docs/performance-evaluation.md, in little."""

import json

import numpy as np
import pytest

from benchmarks import evaluation as benchmark


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    parts = {"train.txt": slice(10), "test.txt": slice(10, 15)}
    rows = [rng.permutation(400) for _ in range(80)]
    for name, part in parts.items():
        lines = [" ".join(map(str, [user, *row[part]])) for user, row in enumerate(rows)]
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    return [str(tmp_path / name) for name in parts]


def test_measures_and_writes(files, tmp_path, monkeypatch, capsys):
    kept = (benchmark.OURS, benchmark.FLOOR)
    entries = {name: benchmark.ENTRIES[name] for name in kept}
    monkeypatch.setattr(benchmark, "ENTRIES", entries)
    output = tmp_path / "out" / "evaluation"
    benchmark.measure(*files, rounds=1, output=output)
    results = json.loads(output.with_suffix(".json").read_text())
    assert results["users"] == 80
    ours, floor = (results["entries"][name] for name in kept)
    assert ours["seconds"] > 0
    assert ours["bytes"] > 0
    assert ours["ratio"] == pytest.approx(ours["seconds"] / floor["seconds"])
    text = output.with_suffix(".md").read_text()
    assert f"| {benchmark.OURS} | {ours['seconds']:.2f} | {ours['ratio']:.2f} |" in text
    assert text in capsys.readouterr().out


def test_every_entry_runs(files):
    inputs = benchmark.load(*files, "user", "item")
    for prepare in benchmark.ENTRIES.values():
        prepare(*inputs)()


def test_no_rounds(files):
    with pytest.raises(ValueError, match=r"--rounds must be positive\. Received: 0"):
        benchmark.measure(*files, rounds=0)
