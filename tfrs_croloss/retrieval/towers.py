"""Towers: Keras models from features to embeddings, L2-normalised or not.

A query tower takes the `query` features of a batch, a dict of `user` and maybe `history`; a
candidate tower takes positions of items. Any other Keras models of these shapes fit in their place.
"""

from typing import Any

from tfrs_croloss._registration import register
from tfrs_croloss.retrieval.precision import at_least_float32
from tfrs_croloss.retrieval.requirements import tf, tf_keras


class _Tower(tf_keras.Model):
    """What the towers share.

    Args:
        name: Name of the tower.
        normalize: Whether embeddings are L2-normalised.
        **options: Further arguments of a Keras model.
    """

    def __init__(self, name, normalize, **options):
        super().__init__(name=name, **options)
        self.normalize = normalize

    def _table(self, num_rows, dim, name):
        # A norm of about 1 before normalisation, so that a learning rate means the same at any
        # width.
        return tf_keras.layers.Embedding(
            num_rows,
            dim,
            embeddings_initializer=tf_keras.initializers.RandomNormal(stddev=dim**-0.5),
            name=name,
            dtype=self.dtype_policy,
        )

    def _normalized(self, embeddings):
        if not self.normalize:
            return embeddings
        # In half precision the least norm would be 0, and the norm of nothing NaN.
        exact = tf.math.l2_normalize(at_least_float32(embeddings), axis=-1)
        return tf.cast(exact, embeddings.dtype)

    def get_config(self):
        return {
            "name": self.name,
            "normalize": self.normalize,
            "dtype": self.dtype_policy.name,
            "trainable": self.trainable,
        }


@register
class ItemTower(_Tower):
    """An embedding for each item, L2-normalised by default.

    Args:
        num_items: Size of the catalogue.
        dim: Width of the embeddings.
        normalize: Whether embeddings are L2-normalised, and scores cosines.
        **options: Further arguments of a Keras model, as `dtype="mixed_bfloat16"`.

    Example:
    >>> import tensorflow as tf
    >>> from tfrs_croloss.retrieval import ItemTower
    >>> ItemTower(num_items=9066, dim=32)(tf.constant([7, 31])).shape
    TensorShape([2, 32])
    """

    def __init__(
        self,
        num_items: int,
        dim: int,
        name: str = "item_tower",
        normalize: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(name, normalize, **options)
        self.embedding = self._table(num_items, dim, "items")

    def call(self, items):
        """Positions `[...]` to vectors `[..., dim]`."""
        return self._normalized(self.embedding(items))

    def get_config(self):
        table = {"num_items": self.embedding.input_dim, "dim": self.embedding.output_dim}
        return {**super().get_config(), **table}


@register
class UserTower(_Tower):
    """An embedding for each user, L2-normalised by default: with `ItemTower`, matrix factorisation.

    Args:
        num_users: Number of users.
        dim: Width of the embeddings.
        normalize: Whether embeddings are L2-normalised, and scores cosines.
        **options: Further arguments of a Keras model, as `dtype="mixed_bfloat16"`.

    Example:
    >>> import tensorflow as tf
    >>> from tfrs_croloss.retrieval import UserTower
    >>> UserTower(num_users=671, dim=32)({"user": tf.constant([0, 3])}).shape
    TensorShape([2, 32])
    """

    def __init__(
        self,
        num_users: int,
        dim: int,
        name: str = "user_tower",
        normalize: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(name, normalize, **options)
        self.embedding = self._table(num_users, dim, "users")

    def call(self, query):
        """A dict with positions `user` `[num_queries]` to vectors `[num_queries, dim]`."""
        return self._normalized(self.embedding(query["user"]))

    def get_config(self):
        table = {"num_users": self.embedding.input_dim, "dim": self.embedding.output_dim}
        return {**super().get_config(), **table}


@register
class HistoryTower(_Tower):
    """The mean of the embeddings of a user's last items, through one dense layer.

    It shares the item table, as the model of the CROLoss paper (arXiv 2208.02971) does, and knows
    users by their items alone: new users need no training.

    Args:
        item_tower: The `ItemTower` whose table it shares.
        normalize: Whether embeddings are L2-normalised, and scores cosines.
        **options: Further arguments of a Keras model, as `dtype="mixed_bfloat16"`.

    Example:
    >>> import tensorflow as tf
    >>> from tfrs_croloss.retrieval import HistoryTower, ItemTower
    >>> tower = HistoryTower(ItemTower(num_items=9066, dim=32))
    >>> tower({"history": tf.constant([[-1, 7, 31]])}).shape  # -1 is padding
    TensorShape([1, 32])
    """

    # For the commands: a batch of theirs has a `history` then.
    takes_history = True

    def __init__(
        self,
        item_tower: ItemTower,
        name: str = "history_tower",
        normalize: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(name, normalize, **options)
        self.embedding = item_tower.embedding
        self.dense = tf_keras.layers.Dense(
            self.embedding.output_dim, name="dense", dtype=self.dtype_policy
        )
        # For the config. A layer among the attributes would be a part of the tower.
        self._item_tower = lambda: item_tower

    @property
    def item_tower(self):
        """The tower whose table it shares."""
        return self._item_tower()

    def call(self, query):
        """A dict with `history` `[num_queries, length]`, to `[num_queries, dim]`."""
        known = query["history"] >= 0
        items = self.embedding(tf.maximum(query["history"], 0))
        # Half precision can't count to 300.
        exact = at_least_float32(items)
        weights = tf.cast(known, exact.dtype)[:, :, tf.newaxis]
        mean = tf.math.divide_no_nan(
            tf.reduce_sum(exact * weights, axis=1), tf.reduce_sum(weights, axis=1)
        )
        return self._normalized(self.dense(tf.cast(mean, items.dtype)))

    def get_config(self):
        """The config, with that of the item tower; in a saved model the two are one again."""
        item_tower = tf_keras.saving.serialize_keras_object(self.item_tower)
        return {**super().get_config(), "item_tower": item_tower}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """The tower of a config, whose item tower may be one that is there already."""
        item_tower = config["item_tower"]
        if isinstance(item_tower, dict):
            item_tower = tf_keras.saving.deserialize_keras_object(item_tower, custom_objects)
        return cls(**{**config, "item_tower": item_tower})
