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


@pytest.mark.parametrize("options", [AUTHORS_YELP, WIDE])
def test_value_and_gradient_are_the_formulas(options):
    scores = SCORES.copy()
    scores[0, POSITIVES[0]] = 1.2  # beyond a cosine: no loss on the positive, and no slope
    scores[1, 4:7] = -3.4e36
    values, gradients = naive_rows(multi_margin_loss, scores, **options)
    loss = MultiMarginLoss(**options, reduction=None)
    value, gradient = value_and_gradient(loss, ONE_HOT, scores, dtype="float32")
    np.testing.assert_allclose(value, values, rtol=1e-5)
    np.testing.assert_allclose(gradient, gradients, rtol=1e-5, atol=1e-6)


def test_one_margin_is_the_cosine_contrastive_loss():
    expected = 0.0
    for row, positive in enumerate(POSITIVES):
        negatives = np.delete(SCORES[row], positive)
        expected += max(0, 1 - SCORES[row, positive])
        expected += 150 * np.mean(np.maximum(0, negatives - 0.2))
    loss = CosineContrastiveLoss(margin=0.2, negative_weight=150)
    np.testing.assert_allclose(float(loss(ONE_HOT, SCORES)), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"margins": (0.1,), "weights": (1.0, 2.0)}, "of one length"),
        ({"margins": (), "weights": ()}, "of one length"),
        ({"margins": (0.5, 0.2), "weights": (1.0, 2.0)}, "`margins` must increase"),
        ({"margins": (0.5,), "weights": (-1.0,)}, "`weights` must not be negative. Received: -1"),
        (
            {"margins": (0.5,), "weights": (1.0,), "negative_weight": -2},
            "`negative_weight` must not be negative. Received: -2",
        ),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        MultiMarginLoss(**options)
