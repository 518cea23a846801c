"""The loss that a config names."""

from tfrs_croloss import (
    BilateralSoftmaxLoss,
    CosineContrastiveLoss,
    CROLoss,
    MultiMarginLoss,
    PairwiseSoftmaxLoss,
    SampledSoftmaxLoss,
    SoftmaxLossAtK,
    TalosLoss,
)
from tfrs_croloss.losses import PowerLaw

ITEMS = "items of the catalogue"


def build_loss(config, num_items, listed=ITEMS):
    """The `RetrievalLoss` that `config` names, with its temperature but for the softmax's.

    Args:
        config: A `Config`.
        num_items: The number of those that a list is made of.
        listed: What they are.

    Raises:
        ValueError: If an option makes no sense.
    """
    if config.for_top_n is not None and config.for_top_n > num_items:
        raise ValueError(
            f"--for_top_n must be at most the {num_items} {listed}. Received: {config.for_top_n}"
        )
    return LOSSES[config.loss](config, num_items)


def _softmax(config, num_items):
    # As TFRS has it: the task divides by the temperature.
    return CROLoss("exponential", name="softmax")


def _cro(config, num_items):
    return CROLoss(
        kernel=config.kernel,
        alpha=(
            config.alpha
            if config.for_top_n is None
            else PowerLaw.with_median(config.for_top_n, num_items).alpha
        ),
        lambda_kernel=config.lambda_kernel,
        temperature=config.temperature,
        num_items=num_items if config.scale_rank else None,
        pull=config.pull,
    )


def _mml(config, num_items):
    return MultiMarginLoss(
        margins=config.margins,
        weights=config.weights,
        positive_weight=config.positive_weight,
        negative_weight=config.negative_weight,
    )


def _ccl(config, num_items):
    return CosineContrastiveLoss(config.margins[0], config.negative_weight)


def _bpr(config, num_items):
    return CROLoss("softplus", alpha=0.0, temperature=config.temperature, name="bpr")


def _triplet(config, num_items):
    return CROLoss("hinge", alpha=0.0, temperature=config.temperature, name="triplet")


def _ssm(config, num_items):
    return SampledSoftmaxLoss(config.temperature)


def _psl(config, num_items):
    return PairwiseSoftmaxLoss(config.temperature, config.robust_temperature, config.activation)


def _bsl(config, num_items):
    return BilateralSoftmaxLoss(config.temperature, config.positive_temperature)


def _slk(config, num_items):
    return SoftmaxLossAtK(config.temperature, config.weight_temperature)


def _talos(config, num_items):
    return TalosLoss(config.temperature)


LOSSES = {
    "softmax": _softmax,
    "cro": _cro,
    "mml": _mml,
    "ccl": _ccl,
    "bpr": _bpr,
    "triplet": _triplet,
    "ssm": _ssm,
    "psl": _psl,
    "bsl": _bsl,
    "slk": _slk,
    "talos": _talos,
}
