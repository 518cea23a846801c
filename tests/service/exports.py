"""Small models, their exports, and what an exact search finds with them."""

import numpy as np
import pandas as pd

from tfrs_croloss.data import Split, encode
from tfrs_croloss.index import ExactIndex
from tfrs_croloss.retrieval import (
    HistoryTower,
    InBatchNegatives,
    ItemTower,
    Retrieval,
    RetrievalModel,
    UserTower,
)

NUM_USERS, NUM_ITEMS, DIM, K, LENGTH = 30, 500, 16, 10, 6


def data_of(kind):
    """Interactions of ids that are integers, or strings."""
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, NUM_USERS, 1000), rng.integers(0, NUM_ITEMS, 1000)
    frame = pd.DataFrame({"user": users + 100, "item": items + 5000}).drop_duplicates()
    frame = frame.astype(str)
    if kind == "string":
        frame = "ü" + frame
    return encode(Split(frame, frame[:0], frame[:0]))


def model_of(data, tower="id"):
    items = ItemTower(len(data.items), DIM)
    query = UserTower(len(data.users), DIM) if tower == "id" else HistoryTower(items)
    return RetrievalModel(query, items, len(data.items), Retrieval(), InBatchNegatives())


def exact(data, model, queries, seen, k=K):
    """The ids and scores `[num_queries, k]` of an exact search."""
    found = ExactIndex(model.candidate_embeddings()).search(queries, k, seen)
    return data.items.decode(found.positions), found.scores


def users_of(data, model):
    return model.query_embeddings({"user": np.arange(len(data.users))})
