"""MultiMarginLoss and its one-margin case against the formula."""

import numpy as np
import pytest

from tests.losses.gradients import value_and_gradient
from tests.losses.naive import multi_margin_loss
from tests.losses.scores import ONE_HOT, POSITIVES, SCORES, naive_rows
from tfrs_croloss import CosineContrastiveLoss, MultiMarginLoss

AUTHORS_YELP = {
    "margins": (0.6, 0.7, 0.8, 0.9),
    "weights": (0.05, 0.15, 0.20, 0.60),
    "positive_weight": 1.0,
    "negative_weight": 400.0,
}
WIDE = {
    "margins": (-0.5, 0.0, 0.4),
    "weights": (1.0, 0.0, 2.0),
    "positive_weight": 3.0,
    "negative_weight": 0.5,
}


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-10)])
@pytest.mark.parametrize("options", [AUTHORS_YELP, WIDE], ids=["yelp", "wide"])
def test_value_and_gradient_are_the_formulas(options, dtype, tolerance):
    scores = SCORES.astype(dtype).astype("float64")
    scores[0, POSITIVES[0]] = 1.001  # beyond a cosine: no loss on the positive, and no slope
    scores[1, 4:7] = -3.4e36
    values, gradients = naive_rows(multi_margin_loss, scores, **options)
    loss = MultiMarginLoss(**options, reduction=None, dtype=dtype)
    value, gradient = value_and_gradient(loss, ONE_HOT, scores, dtype=dtype)
    assert value.dtype == gradient.dtype == dtype
    np.testing.assert_allclose(value, values, rtol=tolerance)
    np.testing.assert_allclose(gradient, gradients, rtol=tolerance, atol=1e-12)


def test_one_margin_is_the_cosine_contrastive_loss():
    expected = 0.0
    for row, positive in enumerate(POSITIVES):
        negatives = np.delete(SCORES[row], positive)
        expected += max(0, 1 - SCORES[row, positive])
        expected += 150 * np.mean(np.maximum(0, negatives - 0.2))
    loss = CosineContrastiveLoss(margin=0.2, negative_weight=150)
    np.testing.assert_allclose(float(loss(ONE_HOT, SCORES)), expected, rtol=1e-6)


def test_quantiles_of_the_cosines_are_the_margins_and_balance_the_push():
    cosines = np.random.default_rng(0).uniform(-1, 1, [40, 50]).astype("float32")
    masked = np.concatenate([cosines, np.full([40, 3], -3.4e36, "float32")], axis=1)
    loss = MultiMarginLoss.from_quantiles(
        masked, (0.5, 0.9), (1.0, 3.0), push=0.5, positive_weight=2.0
    )
    expected = sorted(cosines.ravel())
    for margin, place in zip(loss.kernel.margins, (0.5, 0.9), strict=True):
        np.testing.assert_allclose(margin, expected[int(place * 1999)], atol=2e-3)
    assert (loss.kernel.weights, loss.positive_weight) == ((1.0, 3.0), 2.0)
    # On those very cosines a row's negatives together push as much as .5 times the positive's 2.
    scores = np.concatenate([np.zeros([40, 1]), cosines], axis=1)
    _, gradient = value_and_gradient(loss, np.eye(1, 51).repeat(40, 0), scores, dtype="float32")
    np.testing.assert_allclose(gradient[:, 1:].sum(), 40, rtol=1e-2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"margins": (0.1,), "weights": (1.0, 2.0)}, "of one length"),
        ({"margins": (), "weights": ()}, "of one length"),
        ({"margins": 0.5, "weights": 1.0}, "must be sequences of numbers. Received: margins=0.5"),
        ({"margins": (0.5, 0.2), "weights": (1.0, 2.0)}, "`margins` must increase"),
        (
            {"margins": (0.5,), "weights": (-1.0,)},
            "`weights` must be a non-negative number. Received: -1",
        ),
        (
            {"margins": (0.5,), "weights": (1.0,), "negative_weight": -2},
            "`negative_weight` must be a non-negative number. Received: -2",
        ),
        (
            {"margins": (0.5,), "weights": (1.0,), "positive_weight": float("nan")},
            "`positive_weight` must be a non-negative number. Received: nan",
        ),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        MultiMarginLoss(**options)


def test_one_quantile_makes_a_cosine_contrastive_loss():
    cosines = np.linspace(-1, 1, 201)
    loss = CosineContrastiveLoss.from_quantiles(cosines, 0.75, push=2.0)
    assert isinstance(loss, CosineContrastiveLoss)
    np.testing.assert_allclose(loss.kernel.margins, [0.5])
    np.testing.assert_allclose(loss.negative_weight, 2 / 0.25)
    with pytest.raises(ValueError, match="`quantiles` must be a single one"):
        CosineContrastiveLoss.from_quantiles(cosines, (0.5, 0.75))


def test_a_negative_weight_beside_the_push_is_refused():
    with pytest.raises(ValueError, match="`negative_weight` follows from `push`"):
        MultiMarginLoss.from_quantiles(np.linspace(-1, 1, 9), negative_weight=7.0)


@pytest.mark.parametrize(
    ("scores", "quantiles", "message"),
    [
        ([0.1, np.nan], (0.5,), r"`scores` must hold cosines in \[-1, 1\].*between nan and nan"),
        ([-3.4e36], (0.5,), r"`scores` must hold cosines in \[-1, 1\].*0 unmasked"),
        ([0.1, 3.0], (0.5,), r"`scores` must hold cosines in \[-1, 1\].*between 0.1 and 3"),
        ([0.1, 0.2], (0.5, 1.5), "`quantiles` must be from 0 to 1. Received: 1.5"),
        ([0.1, 0.2], (), "`quantiles` must be at least one"),
        ([0.1, 0.1], (0.5, 0.9), "`quantiles` must lie on different scores"),
        ([0.1, 0.2], (1.0,), "`quantiles` must leave negatives above a margin"),
    ],
)
def test_wrong_quantiles_are_named(scores, quantiles, message):
    with pytest.raises(ValueError, match=message):
        MultiMarginLoss.from_quantiles(np.array(scores), quantiles)
