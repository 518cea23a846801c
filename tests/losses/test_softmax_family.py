"""The sampled softmax loss and its kin: the formulas, and what they are of each other."""

import keras
import numpy as np
import pytest

from tests.losses import naive
from tests.losses.gradients import BACKEND, float64, value_and_gradient
from tests.losses.scores import ONE_HOT, POSITIVES, SCORES, naive_rows
from tfrs_croloss import BilateralSoftmaxLoss, CROLoss, PairwiseSoftmaxLoss, SampledSoftmaxLoss
from tfrs_croloss.losses import AtanPower, LogisticPower, ReluPower, TanhPower

to_numpy = keras.ops.convert_to_numpy
WEIGHT = np.random.default_rng(5).uniform(0.2, 3, SCORES.shape)


def tolerance_of(activation, tolerance):
    """Keras has no arctangent of more than float32's digits on JAX."""
    is_coarse = BACKEND == "jax" and activation in ("atan", AtanPower)
    return max(tolerance, 2e-5) if is_coarse else tolerance


def rows_of(loss, scores=SCORES, dtype="float64", **options):
    """Values and gradients of the rows, in float64."""
    return value_and_gradient(loss, ONE_HOT, scores, dtype, **options)


def make(cls, dtype="float64", **options):
    return cls(reduction=None, dtype=dtype, **options)


def assert_same(actual, expected, rtol=1e-10):
    np.testing.assert_allclose(actual[0], expected[0], rtol=rtol, atol=1e-12)
    np.testing.assert_allclose(actual[1], expected[1], rtol=rtol, atol=1e-12)


# The settings of the papers' runs, among others.
FORMULAS = [
    (SampledSoftmaxLoss, naive.sampled_softmax_loss, {"temperature": 0.1}),
    (SampledSoftmaxLoss, naive.sampled_softmax_loss, {"temperature": 1.0}),
    *(
        (
            PairwiseSoftmaxLoss,
            naive.pairwise_softmax_loss,
            {"temperature": 2.0, "robust_temperature": power, "activation": activation},
        )
        for activation in naive.ACTIVATIONS
        for power in (0.1, 0.5)
    ),
    # Negatives at which σ is 0: their terms are, too.
    *(
        (
            PairwiseSoftmaxLoss,
            naive.pairwise_softmax_loss,
            {"temperature": 0.6, "robust_temperature": 0.5, "activation": activation},
        )
        for activation in ("relu", "atan")
    ),
    (
        BilateralSoftmaxLoss,
        naive.bilateral_softmax_loss,
        {"temperature": 0.1, "positive_temperature": 0.08},
    ),
    (
        BilateralSoftmaxLoss,
        naive.bilateral_softmax_loss,
        {"temperature": 0.2, "positive_temperature": 2.0},
    ),
]


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-5), ("float64", 1e-10)])
@pytest.mark.parametrize(("cls", "naive_loss", "options"), FORMULAS)
def test_value_and_gradient_are_the_formulas(cls, naive_loss, options, dtype, tolerance):
    scores = SCORES.astype(dtype).astype("float64")
    scores[1, 4:7], scores[2, 1:3] = -3.4e36, -np.inf
    expected = naive_rows(naive_loss, scores, **options)
    tolerance = tolerance_of(options.get("activation"), tolerance)
    value, gradient = rows_of(make(cls, dtype, **options), scores, dtype)
    assert value.dtype == gradient.dtype == dtype
    assert_same((value, gradient), expected, tolerance)


@pytest.mark.parametrize("options", [{}, {"candidate_weight": WEIGHT}], ids=["plain", "weighed"])
def test_the_softmax_is_the_sampled_softmax_and_one(options):
    """softmax = ln(1 + e^SSM), its gradient σ(SSM) times the gradient."""
    softmax = rows_of(make(CROLoss, kernel="exponential", temperature=0.3), **options)
    value, gradient = rows_of(make(SampledSoftmaxLoss, temperature=0.3), **options)
    share = 1 / (1 + np.exp(-value))
    assert_same(softmax, (np.log1p(np.exp(value)), share[:, None] * gradient))


@pytest.mark.parametrize("options", [{}, {"candidate_weight": WEIGHT}], ids=["plain", "weighed"])
def test_bilateral_with_one_temperature_is_the_sampled_softmax(options):
    expected = rows_of(make(SampledSoftmaxLoss, temperature=0.3), **options)
    for more in ({}, {"positive_temperature": 0.3}):
        loss = make(BilateralSoftmaxLoss, temperature=0.3, **more)
        assert_same(rows_of(loss, **options), expected)


@pytest.mark.parametrize("activation", naive.ACTIVATIONS)
def test_pairwise_goes_to_the_sampled_softmax(activation):
    """σ(x) is 1 + x + O(x²) at 0."""
    if BACKEND == "jax" and activation == "atan":
        pytest.skip("Keras's arctangent has the digits of float32 there: not enough for the limit")
    expected = rows_of(make(SampledSoftmaxLoss, temperature=0.3))
    pairwise = {"temperature": 3e5, "robust_temperature": 1e-6, "activation": activation}
    assert_same(rows_of(make(PairwiseSoftmaxLoss, **pairwise)), expected, rtol=1e-4)


def test_the_usual_pairwise_loss_is_a_power_of_the_logistic_function():
    """tanh(d/2) + 1 = 2 / (1 + e^-d)."""
    power = 1 / 0.2
    expected = []
    for row, p in zip(SCORES, POSITIVES, strict=True):
        terms = (2 / (1 + np.exp(row[p] - np.delete(row, p)))) ** power
        expected.append(np.log(terms.sum()))
    value, _ = rows_of(make(PairwiseSoftmaxLoss, temperature=2.0, robust_temperature=0.2))
    np.testing.assert_allclose(value, expected, rtol=1e-12)


@pytest.mark.parametrize("activation", naive.ACTIVATIONS)
def test_rows_whose_negatives_are_all_at_zero_are_finite(activation):
    """ln 0 in the formula: such a row has a finite loss, and pushes nothing for relu and atan."""
    scores = np.where(ONE_HOT > 0, 1.0, -1.0)
    loss = make(PairwiseSoftmaxLoss, "float32", temperature=0.5, activation=activation)
    for compiled in (False, True):
        value, gradient = rows_of(loss, scores, "float32", compiled=compiled)
        assert np.isfinite(value).all()
        assert np.isfinite(gradient).all()
        assert (gradient != 0).any() == (activation == "tanh")


def test_the_bound_of_the_paper():
    """1[x > 0] ≤ σ(x) ≤ e^x between -1 and 1, on which its theory stands."""
    with float64():
        x = keras.ops.convert_to_tensor(np.linspace(-1, 1, 201) + 1e-9, dtype="float64")
        for surrogate in (TanhPower(), ReluPower(), AtanPower()):
            values, x_values = to_numpy(surrogate(x)), to_numpy(x)
            assert (values >= (x_values > 0) - 1e-12).all()
            assert (values <= np.exp(x_values) + 1e-12).all()


SURROGATES = {
    LogisticPower: lambda x: 1 / (1 + np.exp(-x)),
    TanhPower: lambda x: np.tanh(x) + 1,
    ReluPower: lambda x: np.maximum(0, x + 1),
    AtanPower: lambda x: np.maximum(0, np.arctan(x) + 1),
}


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("temperature", [0.3, 2.0])
def test_surrogates_are_the_formulas(surrogate, temperature):
    kernel = surrogate(temperature)
    with float64():
        x = keras.ops.convert_to_tensor(np.linspace(-6, 6, 121) + 0.013, dtype="float64")
        expected = SURROGATES[surrogate](to_numpy(x))
        power = 1 / temperature
        # Held at 1e-6 where it is 0.
        rtol = tolerance_of(surrogate, 1e-7)
        expected = np.maximum(expected, 1e-6) ** power
        np.testing.assert_allclose(to_numpy(kernel(x)), expected, rtol=rtol)
        step = 1e-6
        ahead, behind = (
            np.maximum(SURROGATES[surrogate](to_numpy(x) + sign * step), 1e-6) ** power
            for sign in (1, -1)
        )
        rtol = tolerance_of(surrogate, 1e-6)
        slope = (ahead - behind) / (2 * step)
        np.testing.assert_allclose(to_numpy(kernel.derivative(x)), slope, rtol=rtol, atol=1e-8)


@pytest.mark.parametrize("surrogate", [LogisticPower, TanhPower])
def test_tails_keep_their_digits(surrogate):
    """Far below, ln σ is x, or ln 2 + 2x, where a sum with 1 would be 0."""
    log = surrogate().log(keras.ops.convert_to_tensor([-50.0], dtype="float32"))
    expected = -50.0 if surrogate is LogisticPower else np.log(2) - 100
    np.testing.assert_allclose(to_numpy(log), [expected], rtol=1e-6)


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (SampledSoftmaxLoss, {"temperature": 0}, "`temperature` must be a positive number"),
        (SampledSoftmaxLoss, {"temperature": 1e-9}, "`temperature` must be at least 1e-06"),
        (
            PairwiseSoftmaxLoss,
            {"robust_temperature": -1},
            "`robust_temperature` must be a positive number. Received: -1",
        ),
        (
            PairwiseSoftmaxLoss,
            {"activation": "elu"},
            "`activation` must be one of tanh, relu, atan. Received: 'elu'",
        ),
        (
            BilateralSoftmaxLoss,
            {"positive_temperature": float("nan")},
            "`positive_temperature` must be a positive number. Received: nan",
        ),
    ],
)
def test_wrong_arguments_are_named(cls, options, message):
    with pytest.raises(ValueError, match=message):
        cls(**options)
