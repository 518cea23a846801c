"""Retrieval losses that aim at the Recall@N you serve, for TensorFlow Recommenders and Keras.

The losses need Keras 3 with any one backend and nothing else. The rest lives in subpackages that
are imported by name when wanted: `tfrs_croloss.data`, `.index`, `.retrieval`, `.evaluation`,
`.serving` and `.tuning`. What needs more than Keras says which extra to install when it is missing.

The command `tfrs-croloss` has the losses, and Keras with them, when it first asks for one.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

# All others have them at once, registered: to load a saved model needs no more than this import.
_started_by = getattr(sys.modules.get("__main__"), "__spec__", None)
_is_command = "tfrs_croloss_cli" in (*sys.modules, getattr(_started_by, "name", None))
if TYPE_CHECKING or not _is_command:
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


def __getattr__(name: str) -> Any:
    if name not in (*__all__, "losses"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    losses = importlib.import_module("tfrs_croloss.losses")
    return losses if name == "losses" else getattr(losses, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "losses"})
