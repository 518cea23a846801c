"""Losses on scores `[num_queries, num_candidates]`, in `keras.ops`: any Keras 3 backend."""

from tfrs_croloss.losses.base import Aggregate, Channel, RetrievalLoss
from tfrs_croloss.losses.cro_loss import CROLoss
from tfrs_croloss.losses.kernels import Exponential, Hinge, Kernel, Sigmoid, Softplus
from tfrs_croloss.losses.multi_margin_loss import CosineContrastiveLoss, MultiMarginLoss
from tfrs_croloss.losses.rank_weights import PowerLaw

__all__ = [
    "Aggregate",
    "CROLoss",
    "Channel",
    "CosineContrastiveLoss",
    "Exponential",
    "Hinge",
    "Kernel",
    "MultiMarginLoss",
    "PowerLaw",
    "RetrievalLoss",
    "Sigmoid",
    "Softplus",
]
