"""Two-tower retrieval models on `tfrs.tasks.Retrieval`."""

from tfrs_croloss.retrieval.fused_adam import FusedAdam
from tfrs_croloss.retrieval.model import RetrievalModel
from tfrs_croloss.retrieval.negatives import (
    AllItems,
    InBatchNegatives,
    MixedNegatives,
    Negatives,
    OwnNegatives,
    PopularityNegatives,
    UniformNegatives,
)
from tfrs_croloss.retrieval.task import Retrieval
from tfrs_croloss.retrieval.thresholds import Thresholds
from tfrs_croloss.retrieval.towers import HistoryTower, ItemTower, UserTower

__all__ = [
    "AllItems",
    "FusedAdam",
    "HistoryTower",
    "InBatchNegatives",
    "ItemTower",
    "MixedNegatives",
    "Negatives",
    "OwnNegatives",
    "PopularityNegatives",
    "Retrieval",
    "RetrievalModel",
    "Thresholds",
    "UniformNegatives",
    "UserTower",
]
