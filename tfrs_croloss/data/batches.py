"""tf.data batches of training interactions, in an order that a resumed run finds again."""

import numpy as np
import tensorflow as tf


def training_batches(data, batch_size, epochs, first_epoch=0, history_length=0, seed=0):
    """Batches of training interactions, each epoch in an order of its own.

    The order depends on `seed` and the number of the epoch alone, so a run that resumes at
    `first_epoch` sees what an unbroken one sees.

    Args:
        data: `RetrievalData`.
        batch_size: Interactions a batch. The last batch of an epoch has what is left.
        epochs: Epochs in all, those before `first_epoch` included.
        first_epoch: Epoch to begin with.
        history_length: If positive, each interaction comes with the user's items before it, up to
            this many, and interactions with nothing before them are left out.
        seed: Of the order.

    Returns:
        The `tf.data.Dataset` and its number of batches an epoch. An element is a dict: `item`
        `[batch_size]`, and `query`, a dict of `user` `[batch_size]` and, with a history, `history`
        `[batch_size, history_length]`, oldest first, padded with -1 in front.

    Raises:
        ValueError: If `batch_size` is not positive or no interaction has a history.

    Example:
    >>> import pandas as pd
    >>> from tfrs_croloss.data import Split, encode, training_batches
    >>> train = pd.DataFrame({"user": ["a", "a", "b"], "item": ["x", "y", "x"]})
    >>> data = encode(Split(train, train[:0], train[:0]))
    >>> dataset, num_batches = training_batches(data, batch_size=2, epochs=1)
    >>> num_batches, next(iter(dataset))["item"].shape
    (2, TensorShape([2]))
    """
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be positive. Received: {batch_size}")
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
    num_batches = -(-len(rows) // batch_size)
    users, items, starts, rows = map(tf.constant, (users, items, starts, rows))

    def epoch_of(epoch):
        order = tf.random.experimental.stateless_shuffle(rows, seed=[seed, epoch])
        batches = tf.data.Dataset.range(num_batches)
        return batches.map(lambda i: batch_of(order[i * batch_size : (i + 1) * batch_size]))

    def batch_of(row):
        query = {"user": tf.gather(users, row)}
        if history_length:
            before = row[:, None] - history_length + tf.range(history_length)
            known = before >= tf.gather(starts, row)[:, None]
            query["history"] = tf.where(known, tf.gather(items, tf.maximum(before, 0)), -1)
        return {"query": query, "item": tf.gather(items, row)}

    dataset = tf.data.Dataset.range(first_epoch, epochs).flat_map(epoch_of)
    return dataset.prefetch(tf.data.AUTOTUNE), num_batches
