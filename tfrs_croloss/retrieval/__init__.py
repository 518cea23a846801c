"""Two-tower retrieval models on `tfrs.tasks.Retrieval`."""

from tfrs_croloss.retrieval.model import RetrievalModel
from tfrs_croloss.retrieval.negatives import UniformNegatives
from tfrs_croloss.retrieval.towers import HistoryTower, ItemTower, UserTower

__all__ = ["HistoryTower", "ItemTower", "RetrievalModel", "UniformNegatives", "UserTower"]
