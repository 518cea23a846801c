"""Towers: Keras models from features to embeddings, L2-normalised or not.

A query tower takes the `query` features of a batch, a dict of `user` and maybe `history`; a
candidate tower takes positions of items. Any other Keras models of these shapes fit in their place.
"""

from tfrs_croloss.retrieval.requirements import tf, tf_keras


def _embedding(num_rows, dim, name):
    # A norm of about 1 before normalisation, so that a learning rate means the same at any width.
    initializer = tf_keras.initializers.RandomNormal(stddev=dim**-0.5)
    return tf_keras.layers.Embedding(num_rows, dim, embeddings_initializer=initializer, name=name)


def _normalized(embeddings, is_wanted):
    return tf.math.l2_normalize(embeddings, axis=-1) if is_wanted else embeddings


class ItemTower(tf_keras.Model):
    """An embedding for each item, L2-normalised by default.

    Args:
        num_items: Size of the catalogue.
        dim: Width of the embeddings.
        normalize: Whether embeddings are L2-normalised, and scores cosines.

    Example:
    >>> import tensorflow as tf
    >>> from tfrs_croloss.retrieval import ItemTower
    >>> ItemTower(num_items=9066, dim=32)(tf.constant([7, 31])).shape
    TensorShape([2, 32])
    """

    def __init__(
        self, num_items: int, dim: int, name: str = "item_tower", normalize: bool = True
    ) -> None:
        super().__init__(name=name)
        self.normalize = normalize
        self.embedding = _embedding(num_items, dim, "items")

    def call(self, items):
        """Positions `[...]` to vectors `[..., dim]`."""
        return _normalized(self.embedding(items), self.normalize)


class UserTower(tf_keras.Model):
    """An embedding for each user, L2-normalised by default: with `ItemTower`, matrix factorisation.

    Args:
        num_users: Number of users.
        dim: Width of the embeddings.
        normalize: Whether embeddings are L2-normalised, and scores cosines.

    Example:
    >>> import tensorflow as tf
    >>> from tfrs_croloss.retrieval import UserTower
    >>> UserTower(num_users=671, dim=32)({"user": tf.constant([0, 3])}).shape
    TensorShape([2, 32])
    """

    def __init__(
        self, num_users: int, dim: int, name: str = "user_tower", normalize: bool = True
    ) -> None:
        super().__init__(name=name)
        self.normalize = normalize
        self.embedding = _embedding(num_users, dim, "users")

    def call(self, query):
        """A dict with positions `user` `[num_queries]` to vectors `[num_queries, dim]`."""
        return _normalized(self.embedding(query["user"]), self.normalize)


class HistoryTower(tf_keras.Model):
    """The mean of the embeddings of a user's last items, through one dense layer.

    It shares the item table, as the model of the CROLoss paper (arXiv 2208.02971) does, and knows
    users by their items alone: new users need no training.

    Args:
        item_tower: The `ItemTower` whose table it shares.
        normalize: Whether embeddings are L2-normalised, and scores cosines.

    Example:
    >>> import tensorflow as tf
    >>> from tfrs_croloss.retrieval import HistoryTower, ItemTower
    >>> tower = HistoryTower(ItemTower(num_items=9066, dim=32))
    >>> tower({"history": tf.constant([[-1, 7, 31]])}).shape  # -1 is padding
    TensorShape([1, 32])
    """

    def __init__(
        self, item_tower: ItemTower, name: str = "history_tower", normalize: bool = True
    ) -> None:
        super().__init__(name=name)
        self.normalize = normalize
        self.embedding = item_tower.embedding
        self.dense = tf_keras.layers.Dense(self.embedding.output_dim, name="dense")

    def call(self, query):
        """A dict with `history` `[num_queries, length]`, to `[num_queries, dim]`."""
        known = query["history"] >= 0
        items = self.embedding(tf.maximum(query["history"], 0))
        weights = tf.cast(known, items.dtype)[:, :, tf.newaxis]
        mean = tf.math.divide_no_nan(
            tf.reduce_sum(items * weights, axis=1), tf.reduce_sum(weights, axis=1)
        )
        return _normalized(self.dense(mean), self.normalize)
