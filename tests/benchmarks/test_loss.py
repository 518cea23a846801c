"""The measurement behind docs/performance.md, in little."""

import json

import numpy as np
import pytest

from benchmarks import loss as benchmark
from benchmarks.backends import backend

KEPT = ("exponential (softmax)", benchmark.SAMPLED)


def test_measures_and_writes(tmp_path, monkeypatch, capsys):
    losses = {name: benchmark.LOSSES[name] for name in KEPT}
    monkeypatch.setattr(benchmark, "LOSSES", losses)
    output = tmp_path / "out" / "loss"
    benchmark.main(["--small", "--rounds", "1", "--output", str(output)])
    results = json.loads(output.with_suffix(".json").read_text())
    by_embeddings = results["ms"]["64 x 128, from embeddings"]
    assert by_embeddings.keys() == {benchmark.PEER, *KEPT, benchmark.FLOOR}
    assert all(x > 0 for table in results["ms"].values() for x in table.values())
    assert all(found["bytes"] >= 0 for found in results["memory"].values())
    ratio = by_embeddings[KEPT[0]] / by_embeddings[benchmark.PEER]
    text = output.with_suffix(".md").read_text()
    assert f"| {KEPT[0]} | {by_embeddings[KEPT[0]]:.1f} | {ratio:.2f} |" in text
    assert text.split("**")[1] in capsys.readouterr().out
    assert output.with_suffix(".png").stat().st_size > 10_000


def test_peers_compute_the_softmax():
    """What is compared is the same: TFRS, keras-rs, our task on the matrix and from embeddings."""
    queries, candidates = benchmark.embeddings(8, 16)
    scores = np.asarray(queries, "float64") @ np.asarray(candidates, "float64").T
    values = np.log(np.exp(scores).sum(axis=1)) - np.diag(scores)
    functions = benchmark.peers(num_sampled=4)
    for name in (benchmark.PEER, "keras-rs primitives"):
        np.testing.assert_allclose(functions[name](queries, candidates), values.sum(), rtol=1e-5)
    run = backend("cpu")
    by_query, by_candidate = run.gradients_of(functions[benchmark.PEER])(queries, candidates)
    blocked = benchmark.blocked(benchmark.CROLoss("exponential"))
    for ours, theirs in zip(
        run.gradients_of(blocked)(queries, candidates), (by_query, by_candidate), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_says_what_is_wrong(capsys):
    with pytest.raises(SystemExit):
        benchmark.main(["--rounds", "0"])
    assert "--rounds must be positive. Received: 0" in capsys.readouterr().err
    with pytest.raises(ValueError, match="`--device gpu` needs a GPU that TensorFlow sees"):
        benchmark.main(["--device", "gpu", "--small"])
