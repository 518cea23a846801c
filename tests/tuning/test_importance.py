"""The measure of importance, against a loop over its formula."""

import numpy as np
import pytest

from tfrs_croloss.tuning import importances


def naive_share(groups, objectives):
    """(H - k + 1) / (n - k), H of Kruskal and Wallis from ranks, without ties in the objective."""
    order = sorted(objectives)
    ranks = [order.index(objective) + 1 for objective in objectives]
    names, n = sorted(set(groups)), len(ranks)
    h = 0.0
    for name in names:
        own = [rank for rank, group in zip(ranks, groups, strict=True) if group == name]
        h += sum(own) ** 2 / len(own)
    h = 12 / (n * (n + 1)) * h - 3 * (n + 1)
    return max(0.0, (h - len(names) + 1) / (n - len(names)))


def test_against_the_formula():
    rng = np.random.default_rng(0)
    kinds = rng.choice(["a", "b", "c"], 30).tolist()
    numbers = rng.uniform(size=30).tolist()
    objectives = [(kind == "b") + rng.normal(0, 0.5) for kind in kinds]
    values = [{"number": x, "kind": k} for x, k in zip(numbers, kinds, strict=True)]
    found = importances(values, objectives)
    assert list(found) == ["kind", "number"]
    assert found["kind"].share == pytest.approx(naive_share(kinds, objectives))
    thirds = [sorted(numbers).index(x) // 10 for x in numbers]
    assert found["number"].share == pytest.approx(naive_share(thirds, objectives))
    assert found["kind"].p_value < 0.01 < found["number"].p_value


def test_the_share_of_noise_is_none():
    rng = np.random.default_rng(1)
    shares = []
    for _ in range(200):
        values = [{"x": x} for x in rng.uniform(size=30)]
        found = importances(values, rng.normal(size=30))
        shares.append(found["x"].share)
    assert np.median(shares) < 0.02


def test_a_peak_in_the_middle_is_seen():
    x = np.linspace(0, 1, 21)
    (found,) = importances([{"x": v} for v in x], -np.abs(x - 0.5)).values()
    assert found.share > 0.6


def test_trials_are_ranked_within_their_budget():
    """Epochs make all the difference, and x the rest of it."""
    values = [{"x": i % 2} for i in range(12)]
    objectives = [100 * (i >= 6) + i % 2 + i / 100 for i in range(12)]
    blind = importances(values, objectives)["x"].share
    assert importances(values, objectives, [1] * 6 + [9] * 6)["x"].share > 0.6 > blind


@pytest.mark.parametrize(
    ("values", "objectives"),
    [([], []), ([{"x": 1}] * 9, range(9)), ([{"x": i % 2} for i in range(9)], [0.5] * 9)],
    ids=["no trials", "one value", "one objective"],
)
def test_what_says_nothing(values, objectives):
    assert importances(values, list(objectives)) == {}


def test_groups_of_less_than_three_trials_are_left_out():
    values = [{"x": i % 2, "y": i % 3} for i in range(8)]
    assert list(importances(values, range(8))) == ["x"]
