"""CROLoss against the formula, its special cases, and what it is told."""

import itertools

import keras
import numpy as np
import pytest

from tests.losses.gradients import value_and_gradient
from tests.losses.naive import DERIVATIVES, KERNELS, cro_loss, rank_weight
from tests.losses.scores import ONE_HOT, POSITIVES, SCORES, naive_rows
from tfrs_croloss import CROLoss
from tfrs_croloss.losses import Gamma, LogNormal, Softplus

ALPHAS = (0, 0.5, 0.8, 0.999999, 1, 1.2, 2, 3)
DIRECTIONS = tuple(DERIVATIVES)
OPTIONS = list(
    itertools.product(DIRECTIONS, (None, "sigmoid"), (None, 5000), ("unbiased", "scaled"))
)
# Every other kernel as φ₁, once.
OPTIONS += [("softplus", kernel, 5000, "unbiased") for kernel in KERNELS if kernel != "sigmoid"]
TOLERANCES = {"float32": 1e-5, "float64": 1e-10}


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize(("kernel", "lambda_kernel", "num_items", "rank_estimate"), OPTIONS)
def test_value_and_gradient_are_the_formulas(
    kernel, lambda_kernel, num_items, rank_estimate, dtype
):
    """For every α: elementwise, by ratio, wherever the exact gradient is not 0."""
    for alpha in ALPHAS:
        options = {
            "kernel": kernel,
            "alpha": alpha,
            "lambda_kernel": lambda_kernel,
            "temperature": 0.3,
            "num_items": num_items,
            "rank_estimate": rank_estimate,
        }
        scores = SCORES.astype(dtype)
        values, gradients = naive_rows(cro_loss, scores.astype("float64"), **options)
        loss = CROLoss(**options, reduction=None, dtype=dtype)
        value, gradient = value_and_gradient(loss, ONE_HOT, scores, dtype=dtype)
        assert value.dtype == gradient.dtype == dtype
        tolerance = TOLERANCES[dtype]
        np.testing.assert_allclose(value, values, rtol=tolerance, atol=tolerance * 1e-2)
        np.testing.assert_allclose(gradient, gradients, rtol=tolerance, atol=1e-12)


def slopes(values, step=1e-6):
    """Central differences of the rows' values in each score, a column at a time."""
    result = np.zeros_like(SCORES)
    for column in range(SCORES.shape[1]):
        moved = step * np.eye(SCORES.shape[1])[column]
        result[:, column] = (values(SCORES + moved) - values(SCORES - moved)) / (2 * step)
    return result


def assert_gradient_is_the_slope(loss):
    _, gradient = value_and_gradient(loss, ONE_HOT, SCORES)
    expected = slopes(lambda scores: value_and_gradient(loss, ONE_HOT, scores)[0])
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("alpha", [0, 0.8, 1, 1.4])
@pytest.mark.parametrize("kernel", DIRECTIONS)
def test_gradient_is_the_slope_of_the_value(kernel, alpha):
    options = {"temperature": 0.3, "num_items": 100, "reduction": None, "dtype": "float64"}
    assert_gradient_is_the_slope(CROLoss(kernel, alpha, **options))


@pytest.mark.parametrize("rank_weight", [LogNormal(5), Gamma()], ids=["log_normal", "gamma"])
@pytest.mark.parametrize("kernel", ["exponential", "sigmoid"])
def test_gradient_is_the_slope_of_the_value_with_other_rank_weights(kernel, rank_weight):
    options = {"num_items": 50, "reduction": None, "dtype": "float64"}
    assert_gradient_is_the_slope(CROLoss(kernel, rank_weight=rank_weight, **options))


@pytest.mark.parametrize("kernel", DIRECTIONS)
def test_lambda_gradient_is_the_slope_of_the_sum_times_the_frozen_weight(kernel):
    """The value of the method is no primitive of its gradient; Σφ times the frozen weight is."""
    loss = CROLoss(kernel, 1.2, lambda_kernel="sigmoid", num_items=100, dtype="float64")
    _, gradient = value_and_gradient(loss, ONE_HOT, SCORES)

    def sums(name, scores):
        rows = zip(scores, POSITIVES, strict=True)
        return np.array(
            [sum(KERNELS[name](s - row[p]) for s in np.delete(row, p)) for row, p in rows]
        )

    ratio = 100 / (SCORES.shape[1] - 1)
    ranks = 1 + ratio * sums("sigmoid", SCORES)
    frozen = np.array([ratio * rank_weight(rank, 1.2, 100) for rank in ranks])
    expected = slopes(lambda scores: frozen * sums(kernel, scores))
    np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-7)


def test_exponential_with_alpha_1_is_the_softmax_cross_entropy():
    softmax = keras.losses.CategoricalCrossentropy(from_logits=True, reduction="sum")
    expected = value_and_gradient(softmax, ONE_HOT, 30 * SCORES, dtype="float32")
    actual = value_and_gradient(CROLoss("exponential"), ONE_HOT, 30 * SCORES, dtype="float32")
    np.testing.assert_allclose(actual[0], expected[0], rtol=1e-6)
    np.testing.assert_allclose(actual[1], expected[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("kernel", "pairwise"),
    [
        ("softplus", lambda d: np.log1p(np.exp(-d))),  # BPR: -ln σ(s⁺ - s⁻)
        ("hinge", lambda d: np.maximum(0, 0.5 - d)),  # triplet, margin .5
    ],
)
def test_alpha_0_is_a_multiple_of_the_pairwise_loss(kernel, pairwise):
    num_negatives = SCORES.shape[1] - 1
    expected = 0.0
    for row, positive in enumerate(POSITIVES):
        for j in range(SCORES.shape[1]):
            if j != positive:
                expected += pairwise(SCORES[row, positive] - SCORES[row, j])
    actual = CROLoss(kernel, alpha=0, dtype="float32")(ONE_HOT, SCORES)
    factor = np.log(num_negatives + 1) / num_negatives
    np.testing.assert_allclose(float(actual), factor * expected, rtol=1e-5)


@pytest.mark.parametrize("kernel", DIRECTIONS)
def test_lambda_with_one_kernel_is_the_plain_loss(kernel):
    plain = value_and_gradient(CROLoss(kernel, alpha=1.3), ONE_HOT, SCORES, dtype="float32")
    twice = value_and_gradient(
        CROLoss(kernel, alpha=1.3, lambda_kernel=kernel), ONE_HOT, SCORES, dtype="float32"
    )
    np.testing.assert_allclose(twice[0], plain[0], rtol=1e-6)
    np.testing.assert_allclose(twice[1], plain[1], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("lambda_kernel", [None, "sigmoid"])
def test_pull_scales_the_gradient_of_the_positive_alone(lambda_kernel):
    options = {"kernel": "softplus", "alpha": 1.2, "lambda_kernel": lambda_kernel}
    values, expected = naive_rows(cro_loss, SCORES, **options)
    expected = np.where(ONE_HOT, 0.8 * np.asarray(expected), expected)
    loss = CROLoss(**options, pull=0.8, reduction=None)
    value, gradient = value_and_gradient(loss, ONE_HOT, SCORES)
    np.testing.assert_allclose(value, values, rtol=1e-5)
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-12)


def test_lambda_reports_the_rank_by_its_own_kernel():
    plain = CROLoss("sigmoid", alpha=1.3, num_items=100)
    lambda_ = CROLoss("exponential", alpha=1.3, num_items=100, lambda_kernel="sigmoid")
    assert float(lambda_(ONE_HOT, SCORES)) == float(plain(ONE_HOT, SCORES))


def test_steps_count_the_rank():
    """φ₁ = 1[x > 0] reports W_α of the rank itself."""
    loss = CROLoss(alpha=1.0, lambda_kernel="step", reduction=None)
    ranks = [(row >= row[p]).sum() for row, p in zip(SCORES, POSITIVES, strict=True)]
    value, gradient = value_and_gradient(loss, ONE_HOT, SCORES, dtype="float32")
    np.testing.assert_allclose(value, np.log(ranks), rtol=1e-6)
    assert (gradient != 0).all()


@pytest.mark.parametrize("alpha", ALPHAS)
def test_the_worst_rank_costs_the_logarithm_of_the_catalogue(alpha):
    """A positive below all of M negatives, at a sharp temperature, stands at N + 1."""
    scores = np.where(ONE_HOT > 0, -1.0, 1.0)
    loss = CROLoss("sigmoid", alpha, temperature=0.01, num_items=5000, reduction=None)
    value, _ = value_and_gradient(loss, ONE_HOT, scores, dtype="float32")
    np.testing.assert_allclose(value, np.log(5001), rtol=1e-5)
    best, _ = value_and_gradient(loss, ONE_HOT, -scores, dtype="float32")
    np.testing.assert_allclose(best, 0, atol=1e-6)


def test_items_of_the_catalogue_default_to_the_rows_own_negatives():
    given = CROLoss(alpha=1.4, num_items=SCORES.shape[1] - 1)
    assert float(CROLoss(alpha=1.4)(ONE_HOT, SCORES)) == float(given(ONE_HOT, SCORES))


@pytest.mark.parametrize("temperature", [1.0, 1e-3, 1e-6])
@pytest.mark.parametrize("lambda_kernel", [None, "sigmoid", "softplus", "exponential"])
@pytest.mark.parametrize("kernel", DIRECTIONS)
def test_scores_of_any_size_stay_finite(kernel, lambda_kernel, temperature):
    for alpha, num_items in itertools.product((0, 0.6, 1, 1.4, 3), (10**9, 20)):
        loss = CROLoss(
            kernel, alpha, lambda_kernel, temperature, num_items=num_items, reduction=None
        )
        for scores in (1e4 * SCORES, np.sign(SCORES), 0 * SCORES):
            value, gradient = value_and_gradient(loss, ONE_HOT, scores, dtype="float32")
            assert np.isfinite(value).all()
            assert np.isfinite(gradient).all()


@pytest.mark.parametrize("alpha", [0, 0.8, 1, 1.4])
def test_large_differences_are_exact_where_float32_holds_them(alpha):
    """Exponentials of differences up to ±60, against the formula."""
    scores = 30 * SCORES
    options = {"kernel": "exponential", "alpha": alpha, "num_items": 1000}
    values, gradients = naive_rows(cro_loss, scores.astype("float32").astype("float64"), **options)
    loss = CROLoss(**options, reduction=None)
    value, gradient = value_and_gradient(loss, ONE_HOT, scores, dtype="float32")
    np.testing.assert_allclose(value, values, rtol=1e-4)
    np.testing.assert_allclose(gradient, gradients, rtol=2e-4, atol=1e-12)


def test_functions_and_classes_are_kernels():
    class_value = value_and_gradient(CROLoss("softplus", 1.2), ONE_HOT, SCORES, dtype="float32")
    for kernel in (keras.ops.softplus, Softplus, Softplus()):
        other = value_and_gradient(CROLoss(kernel, 1.2), ONE_HOT, SCORES, dtype="float32")
        np.testing.assert_allclose(other[0], class_value[0], rtol=1e-6)
        np.testing.assert_allclose(other[1], class_value[1], rtol=1e-5)


def test_for_top_n_places_the_median():
    loss = CROLoss.for_top_n(22, num_items=367_983, lambda_kernel="sigmoid", temperature=0.2)
    # Of p(n) ∝ n^-1.2 on 1 ≤ n ≤ 367,984, the half lies below 22.
    np.testing.assert_allclose(loss.rank_weight.alpha, 1.2, atol=0.005)
    assert (loss.num_items, loss.temperature) == (367_983, 0.2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel": "gauss"}, "exponential, softplus, hinge.*sigmoid.*Received: 'gauss'"),
        ({"kernel": "step"}, "`kernel` must have a slope.*`lambda_kernel`"),
        ({"lambda_kernel": 3}, "`lambda_kernel` must be one of.*Received: 3"),
        ({"alpha": -1}, "`alpha` must be a non-negative number. Received: -1"),
        ({"alpha": None}, "`alpha` must be a non-negative number. Received: None"),
        ({"alpha": 2, "rank_weight": "gamma"}, "exclude each other. Received: alpha=2"),
        ({"rank_weight": "normal"}, "`rank_weight` must be one of power_law.*Received: 'normal'"),
        ({"rank_weight": LogNormal(50)}, "`num_items` must be given.*at least 50.*num_items=None"),
        ({"rank_weight": LogNormal(50), "num_items": 49}, "at least 50. Received: num_items=49"),
        ({"temperature": 0}, "`temperature` must be a positive number. Received: 0"),
        ({"temperature": 1e-7}, "`temperature` must be at least 1e-06. Received: 1e-07"),
        ({"temperature": "x"}, "`temperature` must be a positive number. Received: 'x'"),
        ({"num_items": 0}, "`num_items` must be a positive number. Received: 0"),
        ({"rank_estimate": "biased"}, "must be one of unbiased, scaled. Received: 'biased'"),
        ({"pull": -1}, "`pull` must be a non-negative number. Received: -1"),
        ({"max_positives": 0}, "`max_positives` must be a positive integer. Received: 0"),
        ({"max_positives": 1.5}, "`max_positives` must be a positive integer. Received: 1.5"),
        ({"dtype": "int32"}, "`dtype` must be a floating-point type. Received: 'int32'"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        CROLoss(**options)


def test_for_top_n_refuses_more_than_half_of_the_catalogue():
    with pytest.raises(ValueError, match="`n` must be.*num_items=100.*Give `alpha`"):
        CROLoss.for_top_n(51, num_items=100)
