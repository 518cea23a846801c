"""The losses that pass the tests of every loss, each with its naive loop."""

import pytest

from tests.losses import naive
from tfrs_croloss import (
    BilateralSoftmaxLoss,
    BPRLoss,
    CosineContrastiveLoss,
    CROLoss,
    MultiMarginLoss,
    PairwiseSoftmaxLoss,
    SampledSoftmaxLoss,
    SoftmaxLoss,
    SoftmaxLossAtK,
    TalosLoss,
    TripletLoss,
)

CRO = {"kernel": "softplus", "alpha": 1.2, "temperature": 0.2}
STEP = {"kernel": "softplus", "lambda_kernel": "step", "alpha": 1.3}
LAMBDA = {"kernel": "exponential", "lambda_kernel": "sigmoid", "num_items": 1000}
MML = {"margins": (0.0, 0.4), "weights": (1.0, 2.0), "negative_weight": 5.0}
CCL = {"margin": 0.3, "negative_weight": 10.0}
SSM = {"temperature": 0.3}
PSL = {"temperature": 2.0, "robust_temperature": 0.2}
RELU = {**PSL, "activation": "relu"}
BSL = {"temperature": 0.3, "positive_temperature": 0.4}
# With one threshold for all rows; tests/losses/test_thresholds.py has one for each. At a much
# smaller weight temperature a model learns to keep its positives below the threshold.
SLK = {"temperature": 0.3, "weight_temperature": 2.5, "threshold": 0.2}
TALOS = {"temperature": 0.2, "threshold": 0.2}


def naive_of(function, options):
    return lambda scores, p, positives=(), weights=None, **more: function(
        scores, p, positives=positives, weights=weights, **{**options, **more}
    )


def case(cls, function, options):
    """A loss and its naive loop, which take the same options."""
    return lambda **kwargs: cls(**options, **kwargs), naive_of(function, options)


def preset(cls, **options):
    """A loss with a temperature, and the naive loop of what it is a case of."""
    temperature = {"temperature": 0.4}
    return lambda **kwargs: cls(**temperature, **kwargs), naive_of(
        naive.cro_loss, {**options, **temperature}
    )


def naive_mml(margins, margin_weights, negative_weight):
    return lambda scores, p, positives=(), weights=None: naive.multi_margin_loss(
        scores, p, margins, margin_weights, 1.0, negative_weight, positives, weights
    )


CASES = {
    "cro": case(CROLoss, naive.cro_loss, CRO),
    "scaled": case(CROLoss, naive.cro_loss, {**CRO, "rank_estimate": "scaled"}),
    "lambda": case(CROLoss, naive.cro_loss, LAMBDA),
    "step": case(CROLoss, naive.cro_loss, STEP),
    "softmax": preset(SoftmaxLoss, kernel="exponential"),
    "bpr": preset(BPRLoss, kernel="softplus", alpha=0.0),
    "triplet": preset(TripletLoss, kernel="hinge", alpha=0.0),
    "mml": (lambda **kwargs: MultiMarginLoss(**MML, **kwargs), naive_mml(*MML.values())),
    "ccl": (
        lambda **kwargs: CosineContrastiveLoss(**CCL, **kwargs),
        naive_mml((0.3,), (1.0,), 10.0),
    ),
    "ssm": case(SampledSoftmaxLoss, naive.sampled_softmax_loss, SSM),
    "psl": case(PairwiseSoftmaxLoss, naive.pairwise_softmax_loss, PSL),
    "psl relu": case(PairwiseSoftmaxLoss, naive.pairwise_softmax_loss, RELU),
    "bsl": case(BilateralSoftmaxLoss, naive.bilateral_softmax_loss, BSL),
    "slk": case(SoftmaxLossAtK, naive.softmax_loss_at_k, SLK),
    "talos": case(TalosLoss, naive.talos_loss, TALOS),
}
each_loss = pytest.mark.parametrize(("make", "naive_loss"), CASES.values(), ids=CASES)
make_each_loss = pytest.mark.parametrize("make", [make for make, _ in CASES.values()], ids=CASES)
