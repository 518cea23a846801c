"""Rank weights: densities, integrals and what ties the two."""

import math

import keras
import numpy as np
import pytest

from tests.losses.gradients import float64
from tests.losses.naive import rank_value, rank_weight
from tfrs_croloss.losses import ExponentialDecay, Gamma, LogNormal, PowerLaw, rank_weights

SIZE = 5000
RANKS = np.geomspace(1, SIZE + 1, 41)
WEIGHTS = [
    *(PowerLaw(alpha) for alpha in (0, 0.5, 0.999999, 1, 1.4, 3)),
    LogNormal(50),
    LogNormal(1, spread=0.5),
    Gamma(),
    Gamma(1.1, 0.1),
    ExponentialDecay(0.5),
    ExponentialDecay(10.0),
    Gamma(40, 0.5),
]
each_weight = pytest.mark.parametrize("weight", WEIGHTS, ids=lambda w: f"{w.get_config()}")


def both(weight, ranks=RANKS, size=SIZE, dtype="float64"):
    """The density of ln n and the integral at ranks, as numpy."""
    with float64():
        log_rank = keras.ops.convert_to_tensor(np.log(ranks), dtype=dtype)
        log_size = keras.ops.convert_to_tensor(np.full_like(ranks, np.log1p(size)), dtype=dtype)
        density = weight.density(log_rank, log_size)
        integral = weight.integral(log_rank, log_size)
        return tuple(keras.ops.convert_to_numpy(x) for x in (density, integral))


@each_weight
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-12)])
def test_the_integral_goes_from_0_to_the_logarithm(weight, dtype, tolerance):
    _, integral = both(weight, dtype=dtype)
    assert integral.dtype == dtype
    assert integral[0] == 0
    np.testing.assert_allclose(integral[-1], math.log(SIZE + 1), rtol=tolerance)
    assert (np.diff(integral) >= -1e-5).all()


@each_weight
def test_the_density_is_the_derivative_of_the_integral(weight):
    step = 1e-5
    density, _ = both(weight)
    above, below = (both(weight, RANKS * math.exp(sign * step))[1] for sign in (1, -1))
    np.testing.assert_allclose((above - below) / (2 * step), density, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("alpha", [0, 0.5, 0.8, 0.999999, 1, 1.2, 2, 3])
def test_the_power_law_is_the_papers(alpha):
    expected = [
        [rank * rank_weight(rank, alpha, SIZE), rank_value(rank, alpha, SIZE)] for rank in RANKS
    ]
    for dtype, tolerance in (("float32", 1e-5), ("float64", 1e-10)):
        actual = np.transpose(both(PowerLaw(alpha), dtype=dtype))
        np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance * 1e-2)


def test_alpha_is_continuous_at_1():
    at_1 = both(PowerLaw(1))
    for alpha in (1 - 1e-7, 1 + 1e-7):
        np.testing.assert_allclose(
            both(PowerLaw(alpha), dtype="float32"), at_1, rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize(
    ("concentration", "rate"), [(1.05, 0.05), (1.1, 0.1), (1.0, 0.5), (1.025, 0.025)]
)
def test_gamma_is_the_incomplete_gamma_function(concentration, rate):
    """By its series, P(a, x) ∝ Σ_k x^(a+k) / (a (a+1) … (a+k)), e^-x in front."""

    def regularised(x):
        term = math.exp(-x) * x**concentration / concentration
        total, k = term, 0
        while term > 1e-18 * total:
            k += 1
            term *= x / (concentration + k)
            total += term
        return total

    mass = np.array([regularised(100 * rate * rank / (SIZE + 1)) for rank in RANKS])
    expected = math.log(SIZE + 1) * (mass - mass[0]) / (mass[-1] - mass[0])
    _, integral = both(Gamma(concentration, rate))
    # Mass below rank 1 is no size: the quadrature starts at ln 1.
    np.testing.assert_allclose(integral, expected, rtol=1e-9, atol=1e-12)


def test_the_log_normal_is_the_normal_distribution_function():
    def phi(rank):
        return math.erf(math.log(rank / 50) / 1.5 / math.sqrt(2)) / 2

    _, integral = both(LogNormal(50))
    share = np.array([phi(rank) - phi(1) for rank in RANKS]) / (phi(SIZE + 1) - phi(1))
    np.testing.assert_allclose(integral, math.log(SIZE + 1) * share, rtol=1e-12)


@pytest.mark.parametrize("weight", [ExponentialDecay(5.0), Gamma(60, 0.3), LogNormal(3, 0.1)])
def test_small_catalogues_stay_finite(weight):
    for size in (3, 31):
        density, integral = both(weight, np.geomspace(1, size + 1, 9), size, dtype="float32")
        assert np.isfinite(density).all()
        np.testing.assert_allclose(integral[[0, -1]], [0, math.log(size + 1)], rtol=1e-5)


def test_the_log_normal_is_centred_on_its_target():
    density, _ = both(LogNormal(50, spread=0.7), ranks=np.array([49.0, 50.0, 51.0]))
    assert density.argmax() == 1
    _, integral = both(LogNormal(50, spread=0.7), ranks=np.array([50.0]))
    np.testing.assert_allclose(integral / math.log(SIZE + 1), 0.5, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.3, 1.0, 1.4])
@pytest.mark.parametrize("num_items", [1000, 367_983])
def test_the_median_finds_alpha_back(alpha, num_items):
    edges = np.linspace(0, math.log1p(num_items), 200_001)
    mass = np.cumsum(np.exp((1 - alpha) * (edges[1:] + edges[:-1]) / 2))  # n^-α dn, n = e^u
    median = math.exp(edges[1:][np.searchsorted(mass, mass[-1] / 2)])
    found = PowerLaw.with_median(median, num_items).alpha
    np.testing.assert_allclose(found, alpha, atol=1e-3)


@pytest.mark.parametrize(("n", "num_items"), [(1, 100), (51, 100), (0, 100), (-3, 100), ("x", 9)])
def test_a_median_out_of_range_is_refused(n, num_items):
    with pytest.raises(ValueError, match="`n` must be .*Received"):
        PowerLaw.with_median(n, num_items)


def test_the_whole_range_of_medians_has_an_alpha():
    for n in (1.001, 2, 50, 499.9, 500):
        assert 0 <= PowerLaw.with_median(n, 1000).alpha < 1000


@keras.saving.register_keras_serializable(package="tests")
def half_of_the_inverse(rank, num_items):
    return 0.5 / rank


@keras.saving.register_keras_serializable(package="tests")
def half_of_the_logarithm(rank, num_items):
    return 0.5 * keras.ops.log(rank)


@pytest.mark.parametrize(
    "weight",
    [
        "power_law",
        "gamma",
        "exponential_decay",
        LogNormal(50, 0.7),
        (half_of_the_inverse, half_of_the_logarithm),
    ],
)
def test_round_trip(weight):
    weight = rank_weights.get(weight)
    copy = rank_weights.get(rank_weights.serialize(weight))
    np.testing.assert_array_equal(both(copy), both(weight))


def test_a_pair_of_functions_is_a_weight():
    density, integral = both(rank_weights.get((half_of_the_inverse, half_of_the_logarithm)))
    np.testing.assert_allclose(density, 0.5)
    np.testing.assert_allclose(integral, 0.5 * np.log(RANKS))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PowerLaw(-1), "`alpha` must be a non-negative number. Received: -1"),
        (lambda: PowerLaw(None), "`alpha` must be a non-negative number. Received: None"),
        (lambda: LogNormal(0.5), "`n` must be at least 1. Received: 0.5"),
        (lambda: LogNormal(5, spread=0), "`spread` must be a positive number. Received: 0"),
        (lambda: Gamma(rate=math.nan), "`rate` must be a positive number. Received: nan"),
        (lambda: rank_weights.get("normal"), "power_law, gamma, exponential_decay.*'normal'"),
        (lambda: rank_weights.get((1, 2)), "`density` must be a function.*Received: 1"),
        (
            lambda: rank_weights.serialize(rank_weights.get((lambda r, n: r, lambda r, n: r))),
            "cannot be saved.*register_keras_serializable",
        ),
    ],
)
def test_wrong_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
