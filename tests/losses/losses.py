"""The losses that pass the tests of every loss, each with its naive loop."""

import pytest

from tests.losses import naive
from tfrs_croloss import CosineContrastiveLoss, CROLoss, MultiMarginLoss

CRO = {"kernel": "softplus", "alpha": 1.2, "temperature": 0.2}
STEP = {"kernel": "softplus", "lambda_kernel": "step", "alpha": 1.3}
LAMBDA = {"kernel": "exponential", "lambda_kernel": "sigmoid", "num_items": 1000}
MML = {"margins": (0.0, 0.4), "weights": (1.0, 2.0), "negative_weight": 5.0}
CCL = {"margin": 0.3, "negative_weight": 10.0}


def naive_cro(options):
    return lambda scores, p, positives=(), weights=None: naive.cro_loss(
        scores, p, positives=positives, weights=weights, **options
    )


def naive_mml(margins, margin_weights, negative_weight):
    return lambda scores, p, positives=(), weights=None: naive.multi_margin_loss(
        scores, p, margins, margin_weights, 1.0, negative_weight, positives, weights
    )


CASES = {
    "cro": (lambda **kwargs: CROLoss(**CRO, **kwargs), naive_cro(CRO)),
    "scaled": (
        lambda **kwargs: CROLoss(**CRO, rank_estimate="scaled", **kwargs),
        naive_cro({**CRO, "rank_estimate": "scaled"}),
    ),
    "lambda": (lambda **kwargs: CROLoss(**LAMBDA, **kwargs), naive_cro(LAMBDA)),
    "step": (lambda **kwargs: CROLoss(**STEP, **kwargs), naive_cro(STEP)),
    "mml": (lambda **kwargs: MultiMarginLoss(**MML, **kwargs), naive_mml(*MML.values())),
    "ccl": (
        lambda **kwargs: CosineContrastiveLoss(**CCL, **kwargs),
        naive_mml((0.3,), (1.0,), 10.0),
    ),
}
each_loss = pytest.mark.parametrize(("make", "naive_loss"), CASES.values(), ids=CASES)
make_each_loss = pytest.mark.parametrize("make", [make for make, _ in CASES.values()], ids=CASES)
