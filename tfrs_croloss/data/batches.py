"""tf.data batches of training interactions, in an order that a resumed run finds again."""

from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_croloss._arguments import check_count
from tfrs_croloss.data.dataset import RetrievalData


def training_batches(
    data: RetrievalData,
    batch_size: int,
    epochs: int,
    first_epoch: int = 0,
    history_length: int = 0,
    seed: int = 0,
    first_step: int = 0,
    num_replicas: int = 1,
    replicas: range | None = None,
    known_positives: bool = False,
) -> tuple[Any, int]:
    """Batches of training interactions, each epoch in an order of its own.

    The order depends on `seed` and the number of the epoch alone, so a run that resumes at a step
    sees what an unbroken one sees, on any number of replicas. A batch is cut into contiguous
    parts, one a replica, whose sizes differ by one at most; a batch smaller than `num_replicas`
    leaves some of them empty.

    With histories, an epoch has each interaction with one before it once, to be told from the items
    before it. The authors of CROLoss (Tang et al., arXiv 2208.02971; `data_iterator.py`) draw for
    each batch users instead, each with one interaction that has at least four before it: there all
    users count alike, here all interactions do.

    Args:
        data: `RetrievalData`.
        batch_size: Interactions a batch, all replicas together. The last batch of an epoch has
            what is left.
        epochs: Epochs in all, those before `first_epoch` included.
        first_epoch: Epoch to begin with.
        history_length: If positive, each interaction comes with the user's items before it, up to
            this many, and interactions with nothing before them are left out.
        seed: Of the order.
        first_step: Batches to leave out, counted from the first of `first_epoch`; they may be
            more than an epoch has.
        num_replicas: Parts that a batch is cut into.
        replicas: The replicas whose parts to give, as a `range`; all of them by default.
        known_positives: Whether each interaction comes with all of its user's training items.

    Returns:
        The `tf.data.Dataset`, whose `len` is the number of its elements, and the number of batches
        an epoch. The elements are the parts of the first batch in the order of `replicas`, then
        those of the second, and so on. An element is a dict: `item` `[part_size]`, and `query`, a
        dict of `user` `[part_size]` and, with a history, `history` `[part_size, history_length]`,
        oldest first, padded with -1 in front; and `known_positives`, a `tf.RaggedTensor`
        `[part_size, None]`, if asked for.

    Raises:
        ValueError: If `batch_size` is not positive, `first_step` is negative, `replicas` are not
            some of `num_replicas`, or no interaction has a history.

    Example:
    >>> import pandas as pd
    >>> from tfrs_croloss.data import Split, encode, training_batches
    >>> train = pd.DataFrame({"user": ["a", "a", "b"], "item": ["x", "y", "x"]})
    >>> data = encode(Split(train, train[:0], train[:0]))
    >>> dataset, num_batches = training_batches(data, batch_size=2, epochs=1)
    >>> num_batches, len(dataset), next(iter(dataset))["item"].shape
    (2, 2, TensorShape([2]))
    """
    batch_size = check_count("batch_size", batch_size)
    first_step = check_count("first_step", first_step, least=0)
    num_replicas = check_count("num_replicas", num_replicas)
    replicas = range(num_replicas) if replicas is None else replicas
    if not replicas or not 0 <= replicas[0] <= replicas[-1] < num_replicas:
        raise ValueError(
            f"`replicas` must be some of the {num_replicas} replicas. Received: {replicas}"
        )
    users, items = data.train_users.astype(np.int32), data.train_items.astype(np.int32)
    starts = data.row_starts[users].astype(np.int32)
    rows = np.arange(len(users), dtype=np.int32)
    if history_length:
        rows = rows[rows > starts]
    if not len(rows):
        raise ValueError(
            "no interaction has one before it in its user's history: use the id tower, or data "
            "with several interactions a user"
        )
    num_rows, num_batches = len(rows), -(-len(rows) // batch_size)
    first_epoch, first_step = first_epoch + first_step // num_batches, first_step % num_batches
    users, items, starts, rows = map(tf.constant, (users, items, starts, rows))
    items_of_user = tf.RaggedTensor.from_row_splits(
        items, data.row_starts[: data.num_train_users + 1].astype(np.int32)
    )

    def epoch_of(epoch):
        order = tf.random.experimental.stateless_shuffle(rows, seed=[seed, epoch])
        skipped = tf.where(epoch == first_epoch, tf.constant(first_step, tf.int64), 0)
        parts = tf.data.Dataset.range(skipped * len(replicas), num_batches * len(replicas))
        return parts.map(lambda number: batch_of(part_of(order, number)))

    def part_of(order, number):
        start = number // len(replicas) * batch_size
        size = tf.minimum(num_rows - start, batch_size)
        replica = replicas.start + number % len(replicas) * replicas.step
        return order[
            start + size * replica // num_replicas : start + size * (replica + 1) // num_replicas
        ]

    def batch_of(row):
        query = {"user": tf.gather(users, row)}
        if history_length:
            before = row[:, None] - history_length + tf.range(history_length)
            known = before >= tf.gather(starts, row)[:, None]
            query["history"] = tf.where(known, tf.gather(items, tf.maximum(before, 0)), -1)
        batch = {"query": query, "item": tf.gather(items, row)}
        if known_positives:
            batch["known_positives"] = tf.gather(items_of_user, query["user"])
        return batch

    left = max((epochs - first_epoch) * num_batches - first_step, 0)
    dataset = tf.data.Dataset.range(first_epoch, epochs).flat_map(epoch_of)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(left * len(replicas)))
    return dataset.prefetch(tf.data.AUTOTUNE), num_batches
