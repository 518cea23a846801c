"""Losses on scores `[num_queries, num_candidates]`, in `keras.ops`: any Keras 3 backend."""

from tfrs_croloss.losses.base import Aggregate, RetrievalLoss, Row
from tfrs_croloss.losses.channels import Channel
from tfrs_croloss.losses.cro_loss import CROLoss
from tfrs_croloss.losses.engine import embedding_loss
from tfrs_croloss.losses.kernels import (
    Exponential,
    Hinge,
    Kernel,
    LogKernel,
    MultiHinge,
    Sigmoid,
    SigmoidHinge,
    Softplus,
    SplitSigmoid,
    Step,
)
from tfrs_croloss.losses.multi_margin_loss import CosineContrastiveLoss, MultiMarginLoss
from tfrs_croloss.losses.rank_weights import (
    ExponentialDecay,
    FunctionWeight,
    Gamma,
    LogNormal,
    PowerLaw,
    RankWeight,
)

__all__ = [
    "Aggregate",
    "CROLoss",
    "Channel",
    "CosineContrastiveLoss",
    "Exponential",
    "ExponentialDecay",
    "FunctionWeight",
    "Gamma",
    "Hinge",
    "Kernel",
    "LogKernel",
    "LogNormal",
    "MultiHinge",
    "MultiMarginLoss",
    "PowerLaw",
    "RankWeight",
    "RetrievalLoss",
    "Row",
    "Sigmoid",
    "SigmoidHinge",
    "Softplus",
    "SplitSigmoid",
    "Step",
    "embedding_loss",
]
