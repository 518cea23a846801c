"""The parts of the measurement behind docs/performance-index.md."""

import numpy as np
import pytest

from benchmarks import index as benchmark
from tfrs_croloss.index import ExactIndex


@pytest.fixture
def items():
    return np.random.default_rng(0).normal(size=(20, 16)).astype("float32")


def test_copies_lie_at_the_cosine_said(items):
    made = benchmark.catalogue(items, 500)
    norms = np.linalg.norm(made, axis=1), np.linalg.norm(items, axis=1)
    cosines = made @ items.T / norms[0][:, None] / norms[1]
    # Each has its source at .9; others may be nearer to none of them by chance.
    np.testing.assert_allclose(np.abs(cosines - 0.9).min(axis=1), 0, atol=1e-5)
    assert np.isin(norms[0].round(4), norms[1].round(4)).all()


@pytest.mark.filterwarnings("ignore")
def test_exact_entries_find_the_same(items):
    candidates = benchmark.catalogue(items, 300)
    truth = ExactIndex(candidates).search(items, benchmark.K).positions
    for name, build in benchmark.exact_entries(candidates).items():
        found = np.asarray(build()(items))
        assert benchmark._recall(found, truth) == pytest.approx(1, abs=1e-3), name


def test_recall_and_what_is_best():
    found, truth = np.array([[1, 2, 3], [4, 5, 6]]), np.array([[1, 2, 9], [7, 8, 9]])
    assert benchmark._recall(found, truth) == pytest.approx(2 / 6)
    points = [(0.9, 10), (0.9, 20), (0.95, 15), (0.8, 12)]
    assert benchmark._best_of(points) == [(0.9, 20), (0.95, 15)]
