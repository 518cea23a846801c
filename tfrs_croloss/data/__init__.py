"""From raw interactions to batches: reading, cleaning, splitting, encoding, tf.data."""

from tfrs_croloss._extras import require

require("tfrs_croloss.data", "pandas", "pyarrow", "scipy", "tensorflow")

from tfrs_croloss.data.batches import training_batches
from tfrs_croloss.data.dataset import RetrievalData, Targets, encode
from tfrs_croloss.data.interactions import DataError, clean, read_interactions
from tfrs_croloss.data.splits import Split, hold_out, split_interactions, split_users
from tfrs_croloss.data.vocabulary import Vocabulary

__all__ = [
    "DataError",
    "RetrievalData",
    "Split",
    "Targets",
    "Vocabulary",
    "clean",
    "encode",
    "hold_out",
    "read_interactions",
    "split_interactions",
    "split_users",
    "training_batches",
]
