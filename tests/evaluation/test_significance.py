import math

import numpy as np
import pytest
import scipy.stats

from tfrs_croloss.evaluation import paired_bootstrap


def test_agrees_with_a_loop():
    """The same rule, draw by draw, with draws of its own."""
    rng = np.random.default_rng(1)
    differences = rng.normal(0.03, 0.1, 40).tolist()
    means = []
    for _ in range(20_000):
        total = 0.0
        for user in rng.integers(40, size=40):
            total += differences[user]
        means.append(total / 40)
    means.sort()
    below = sum(mean <= 0 for mean in means)
    found = paired_bootstrap(differences, num_resamples=20_000)
    assert found.difference == pytest.approx(sum(differences) / 40)
    # About four deviations of a quantile of 20,000 draws.
    assert found.low == pytest.approx(means[500], abs=0.0012)
    assert found.high == pytest.approx(means[19_500], abs=0.0012)
    assert found.p == pytest.approx(2 * min(below, 20_000 - below) / 20_000, abs=0.012)


def test_of_many_users_is_the_normal_test():
    rng = np.random.default_rng(2)
    differences = rng.exponential(1, (20_000, 3)) - [1.0, 1.01, 0.95]
    found = paired_bootstrap(differences, num_resamples=4_000)
    for column, values in enumerate(differences.T.tolist()):
        mean = math.fsum(values) / len(values)
        variance = math.fsum((value - mean) ** 2 for value in values) / len(values)
        error = math.sqrt(variance / len(values))
        p = 2 * scipy.stats.norm.sf(abs(mean) / error)
        assert found.difference[column] == pytest.approx(mean)
        assert found.low[column] == pytest.approx(mean - 1.95996 * error, abs=0.15 * error)
        assert found.high[column] == pytest.approx(mean + 1.95996 * error, abs=0.15 * error)
        assert found.p[column] == pytest.approx(p, abs=0.03)


def test_p_is_uniform_where_there_is_no_difference():
    """The two models swapped at random, user by user: any p is as likely as any other."""
    rng = np.random.default_rng(3)
    size = rng.gamma(2, 0.1, (200, 1))
    differences = size * rng.choice([-1, 1], (200, 500))
    p = paired_bootstrap(differences, num_resamples=2_000).p
    assert scipy.stats.kstest(p, "uniform").pvalue > 0.01
    # Binomial of 500 at 5 %: 25 ± 4.9.
    assert 10 <= (p < 0.05).sum() <= 42


def test_p_inverts_the_interval():
    rng = np.random.default_rng(4)
    found = paired_bootstrap(rng.normal(0.1, 1, (100, 300)), num_resamples=999)
    leaves_out_zero = (found.low > 0) | (found.high < 0)
    clear = np.abs(found.p - 0.05) > 0.005
    np.testing.assert_array_equal(leaves_out_zero[clear], (found.p < 0.05)[clear])
    assert leaves_out_zero.sum() > 20


def test_no_difference_at_all_and_a_sure_one():
    found = paired_bootstrap(np.array([[0.0, 0.5]] * 9), num_resamples=99)
    np.testing.assert_allclose(found.p, [1, 2 / 100])
    np.testing.assert_allclose(found.low, [0, 0.5])
    np.testing.assert_allclose(found.high, [0, 0.5])


def test_is_the_same_again_in_blocks_of_any_size(monkeypatch):
    from tfrs_croloss.evaluation import significance

    differences = np.random.default_rng(5).normal(0, 1, (30, 2))
    one, two = paired_bootstrap(differences), paired_bootstrap(differences)
    np.testing.assert_array_equal(one.p, two.p)
    monkeypatch.setattr(significance, "BLOCK_SIZE", 7 * 30)
    blocks = paired_bootstrap(differences)
    np.testing.assert_allclose(blocks.low, one.low)
    np.testing.assert_allclose(blocks.p, one.p)


@pytest.mark.parametrize(
    ("differences", "message"),
    [
        ([], "at least one user. Received: shape (0,)"),
        (3.0, "[num_users]"),
        ([0.1, math.nan], "`differences` must be finite"),
    ],
)
def test_refuses(differences, message):
    with pytest.raises(ValueError, match="`differences`") as refused:
        paired_bootstrap(differences)
    assert message in str(refused.value)


def test_refuses_no_resamples():
    with pytest.raises((ValueError, TypeError), match="num_resamples"):
        paired_bootstrap([0.1], num_resamples=0)
