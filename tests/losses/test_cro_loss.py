"""CROLoss against the formula, its special cases, and what TFRS does to scores."""

import itertools

import keras
import numpy as np
import pytest

from tests.losses.gradients import value_and_gradient
from tests.losses.naive import KERNELS, cro_loss
from tests.losses.scores import ONE_HOT, POSITIVES, SCORES, naive_rows
from tfrs_croloss import CROLoss
from tfrs_croloss.losses import Softplus

ALPHAS = (0, 0.5, 0.8, 0.999999, 1, 1.2, 2, 3)
OPTIONS = list(
    itertools.product(KERNELS, (None, "sigmoid", "softplus"), (None, 5000), ("unbiased", "scaled"))
)


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize(("kernel", "lambda_kernel", "num_items", "rank_estimate"), OPTIONS)
def test_value_and_gradient_are_the_formulas(
    kernel, lambda_kernel, num_items, rank_estimate, alpha
):
    options = {
        "kernel": kernel,
        "alpha": alpha,
        "lambda_kernel": lambda_kernel,
        "temperature": 0.3,
        "num_items": num_items,
        "rank_estimate": rank_estimate,
    }
    values, gradients = naive_rows(cro_loss, **options)
    loss = CROLoss(**options, reduction=None, dtype="float32")
    value, gradient = value_and_gradient(loss, ONE_HOT, SCORES, dtype="float32")
    np.testing.assert_allclose(value, values, rtol=2e-5, atol=1e-5)
    np.testing.assert_allclose(gradient, gradients, rtol=1e-4, atol=1e-5 * np.abs(gradients).max())


@pytest.mark.parametrize("alpha", ALPHAS)
def test_float64_is_exact(alpha):
    options = {"kernel": "softplus", "alpha": alpha, "temperature": 0.3, "num_items": 5000}
    values, gradients = naive_rows(cro_loss, **options)
    loss = CROLoss(**options, reduction=None, dtype="float64")
    value, gradient = value_and_gradient(loss, ONE_HOT, SCORES)
    # The naive α = .999999 loses digits itself: (N+1)^1e-6 - 1.
    tolerance = 1e-9 if alpha == 0.999999 else 1e-12
    np.testing.assert_allclose(value, values, rtol=tolerance, atol=1e-12)
    np.testing.assert_allclose(gradient, gradients, rtol=tolerance, atol=1e-12)


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


@pytest.mark.parametrize("kernel", KERNELS)
def test_lambda_with_one_kernel_is_the_plain_loss(kernel):
    plain = value_and_gradient(CROLoss(kernel, alpha=1.3), ONE_HOT, SCORES, dtype="float32")
    twice = value_and_gradient(
        CROLoss(kernel, alpha=1.3, lambda_kernel=kernel), ONE_HOT, SCORES, dtype="float32"
    )
    np.testing.assert_allclose(twice[0], plain[0], rtol=1e-6)
    np.testing.assert_allclose(twice[1], plain[1], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("mask", [-3.4e36, -np.inf])
@pytest.mark.parametrize("kernel", KERNELS)
def test_masked_scores_are_absent(kernel, mask):
    masked = np.concatenate([SCORES, np.full([len(SCORES), 4], mask)], axis=1)
    labels = np.pad(ONE_HOT, [(0, 0), (0, 4)])
    loss = CROLoss(kernel, alpha=1.4)
    value, gradient = value_and_gradient(loss, ONE_HOT, SCORES, dtype="float32")
    with_mask, gradient_with_mask = value_and_gradient(loss, labels, masked, dtype="float32")
    np.testing.assert_allclose(with_mask, value, rtol=1e-6)
    np.testing.assert_allclose(gradient_with_mask[:, :-4], gradient, rtol=1e-5, atol=1e-7)
    assert (gradient_with_mask[:, -4:] == 0).all()


@pytest.mark.parametrize("kernel", KERNELS)
def test_order_of_the_candidates_does_not_matter(kernel):
    order = np.random.default_rng(1).permutation(SCORES.shape[1])
    loss = CROLoss(kernel, alpha=0.7, lambda_kernel="sigmoid")
    value, gradient = value_and_gradient(loss, ONE_HOT, SCORES, dtype="float32")
    permuted = value_and_gradient(loss, ONE_HOT[:, order], SCORES[:, order], dtype="float32")
    np.testing.assert_allclose(permuted[0], value, rtol=1e-5)
    np.testing.assert_allclose(permuted[1], gradient[:, order], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("alpha", [0, 0.8, 1, 1.4])
def test_large_scores_stay_finite(kernel, alpha):
    loss = CROLoss(kernel, alpha=alpha, lambda_kernel="sigmoid" if alpha == 1.4 else None)
    value, gradient = value_and_gradient(loss, ONE_HOT, 1e4 * SCORES, dtype="float32")
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_functions_and_classes_are_kernels():
    class_value = CROLoss("softplus", alpha=1.2)(ONE_HOT, SCORES)
    for kernel in (keras.ops.softplus, Softplus, Softplus()):
        assert float(CROLoss(kernel, alpha=1.2)(ONE_HOT, SCORES)) == float(class_value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel": "gauss"}, "exponential, softplus, hinge, sigmoid.*Received: 'gauss'"),
        ({"lambda_kernel": 3}, "`lambda_kernel` must be one of.*Received: 3"),
        ({"alpha": -1}, "`alpha` must be a non-negative number. Received: -1"),
        ({"temperature": 0}, "`temperature` must be a positive number. Received: 0"),
        ({"num_items": 0}, "`num_items` must be None or positive. Received: 0"),
        ({"rank_estimate": "biased"}, "must be 'unbiased' or 'scaled'. Received: 'biased'"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        CROLoss(**options)
