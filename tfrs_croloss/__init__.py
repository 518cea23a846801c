"""Retrieval losses that aim at the Recall@N you serve, for TensorFlow Recommenders and Keras.

The losses need Keras 3 with any one backend and nothing else. The rest lives in subpackages that
are imported by name when wanted: `tfrs_croloss.data`, `.index`, `.retrieval`, `.evaluation`,
`.serving` and `.tuning`. What needs more than Keras says which extra to install when it is missing.
"""

from tfrs_croloss.losses import (
    BilateralSoftmaxLoss,
    BPRLoss,
    CosineContrastiveLoss,
    CROLoss,
    MultiMarginLoss,
    PairwiseSoftmaxLoss,
    RetrievalLoss,
    SampledSoftmaxLoss,
    SoftmaxLoss,
    SoftmaxLossAtK,
    TalosLoss,
    TripletLoss,
    embedding_loss,
)

__version__ = "0.1.0"

__all__ = [
    "BPRLoss",
    "BilateralSoftmaxLoss",
    "CROLoss",
    "CosineContrastiveLoss",
    "MultiMarginLoss",
    "PairwiseSoftmaxLoss",
    "RetrievalLoss",
    "SampledSoftmaxLoss",
    "SoftmaxLoss",
    "SoftmaxLossAtK",
    "TalosLoss",
    "TripletLoss",
    "embedding_loss",
]
