"""The scores at which users' top K end, for losses that aim at it."""

from tfrs_croloss._arguments import check_count
from tfrs_croloss.index import ExactIndex
from tfrs_croloss.retrieval.requirements import tf


class Thresholds(tf.Module):
    """A table of β, the score of each user's k-th best item, refreshed now and then.

    ```
    β_u = the k-th largest of u · i over all items i of the catalogue
    ```

    `SoftmaxLossAtK` and `TalosLoss` compare with it. SL@K's paper estimates β from a user's
    positives and sampled negatives, Talos's by a quantile regression beside the model; here it is
    exact when it is refreshed, by a search of the whole catalogue, a user's own items included, and
    a constant until the next time. β is in units of the products of the embeddings, whatever
    temperature the task has.

    The table is a variable that is not trained: it is saved in checkpoints, and every replica has
    the same.

    Args:
        num_users: Number of users.
        k: K, at most the number of items.

    Raises:
        ValueError: If k is not a positive integer.

    Example:

    >>> import tensorflow as tf, tf_keras
    >>> from tfrs_croloss import SoftmaxLossAtK
    >>> from tfrs_croloss.retrieval import *
    >>> model = RetrievalModel(
    ...     UserTower(num_users=10, dim=8),
    ...     ItemTower(num_items=50, dim=8),
    ...     num_items=50,
    ...     task=Retrieval(loss=SoftmaxLossAtK(temperature=0.2)),
    ...     negatives=UniformNegatives(num_items=50, num_negatives=20),
    ...     thresholds=Thresholds(num_users=10, k=5),
    ... )
    >>> model.compile(optimizer="adam")
    >>> users = {"user": tf.range(10)}
    >>> refresh = tf_keras.callbacks.LambdaCallback(
    ...     on_epoch_begin=lambda epoch, logs: epoch % 5 or model.refresh_thresholds(users)
    ... )
    >>> batch = {"query": {"user": tf.constant([0, 1])}, "item": tf.constant([7, 31])}
    >>> data = tf.data.Dataset.from_tensors(batch)
    >>> history = model.fit(data, epochs=10, callbacks=[refresh], verbose=0)
    """

    def __init__(self, num_users: int, k: int) -> None:
        super().__init__(name="thresholds")
        self.k = check_count("k", k)
        # NaN, so that nobody trains with thresholds that were never refreshed.
        self.values = tf.Variable(
            tf.fill([num_users], float("nan")),
            trainable=False,
            name="values",
            # All replicas have the same.
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )

    def __call__(self, query):
        """The thresholds `[num_queries]` of a batch.

        Args:
            query: A dict with the positions `user` `[num_queries]`.
        """
        return tf.gather(self.values, query["user"])

    def refresh(self, queries, candidates):
        """Searches for the k-th best score of every user.

        Args:
            queries: Embeddings of all users in their order, `[num_users, dim]`.
            candidates: Embeddings of all items, `[num_items, dim]`.

        Raises:
            ValueError: If the users are not as many as those of the table, or the items fewer
                than k.
        """
        (num_users,) = self.values.shape
        if len(queries) != num_users or len(candidates) < self.k:
            raise ValueError(
                f"`queries` must be those of all {num_users} users, and `candidates` at least "
                f"{self.k} items. Received: {len(queries)} users, {len(candidates)} items"
            )
        self.values.assign(ExactIndex(candidates).search(queries, self.k).scores[:, -1])
