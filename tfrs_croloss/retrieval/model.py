"""The two-tower model: towers, negatives and a TFRS task."""

import numpy as np

from tfrs_croloss.retrieval.requirements import tf, tfrs

# Rows a call when embedding a whole catalogue or all users.
EMBEDDING_ROWS = 8192


class RetrievalModel(tfrs.Model):
    """Two towers trained by a `tfrs.tasks.Retrieval`, with negatives from the batch or beyond it.

    Args:
        query_tower: Keras model from the batch's `query` features to `[num_queries, dim]`.
        candidate_tower: Keras model from items to `[num_candidates, dim]`; it gets positions, or
            the rows of `item_features` at these positions.
        num_items: Size of the catalogue.
        task: A `tfrs.tasks.Retrieval`, with whichever loss.
        negatives: From a step to positions of extra candidates, `UniformNegatives` say; or None.
        in_batch: Whether the positives of other rows are negatives too.
        item_features: For a candidate tower on features: a tensor, or a dict of tensors, whose
            rows are the items of the catalogue.

    Raises:
        ValueError: If there are no negatives at all.

    Example:
    >>> import tensorflow as tf, tensorflow_recommenders as tfrs
    >>> from tfrs_croloss import CROLoss
    >>> from tfrs_croloss.retrieval import *
    >>> items = ItemTower(num_items=50, dim=8)
    >>> model = RetrievalModel(
    ...     UserTower(num_users=10, dim=8),
    ...     items,
    ...     num_items=50,
    ...     task=tfrs.tasks.Retrieval(loss=CROLoss(temperature=0.1)),
    ...     negatives=UniformNegatives(num_items=50, num_negatives=20),
    ... )
    >>> model.compile(optimizer="adam")
    >>> batch = {"query": {"user": tf.constant([0, 1])}, "item": tf.constant([7, 31])}
    >>> history = model.fit(tf.data.Dataset.from_tensors(batch), verbose=0)
    >>> model.candidate_embeddings().shape
    (50, 8)
    """

    def __init__(
        self,
        query_tower,
        candidate_tower,
        num_items,
        task,
        negatives=None,
        in_batch=True,
        item_features=None,
    ):
        super().__init__()
        if negatives is None and not in_batch:
            raise ValueError(
                "there is nothing to compare a positive with: give `negatives`, or set "
                "`in_batch=True`"
            )
        self.query_tower = query_tower
        self.candidate_tower = candidate_tower
        self.num_items = num_items
        self.task = task
        self.negatives = negatives
        self.in_batch = in_batch
        self.item_features = item_features
        # Of its own, and not the optimizer's, so that it does not depend on how that is wrapped.
        self.step = tf.Variable(0, trainable=False, dtype=tf.int64, name="step")

    def compute_loss(self, inputs, training=False):
        """The task's loss of a batch, as `tfrs.Model` asks for it.

        Args:
            inputs: A dict of `query` features, of `item` positions `[num_queries]`, and optionally
                of `sample_weight` `[num_queries]`.
            training: Whether to train.

        Returns:
            The loss, a scalar under a reduction.
        """
        items = tf.cast(inputs["item"], tf.int32)
        num_queries = tf.shape(items)[0]
        score_mask = None
        if self.negatives is not None:
            items = tf.concat([items, self.negatives(self.step)], axis=0)
            if not self.in_batch:
                score_mask = _own_positive_and_extras(num_queries, tf.shape(items)[0])
        if training:
            self.step.assign_add(1)
        return self.task(
            self.query_tower(inputs["query"], training=training),
            self.embed_items(items, training=training),
            sample_weight=inputs.get("sample_weight"),
            candidate_ids=items,
            compute_metrics=not training,
            score_mask=score_mask,
        )

    def embed_items(self, items, training=False):
        """Positions `[n]` to embeddings `[n, dim]`."""
        features = items
        if self.item_features is not None:
            features = tf.nest.map_structure(lambda x: tf.gather(x, items), self.item_features)
        return self.candidate_tower(features, training=training)

    def query_embeddings(self, query):
        """Embeds any number of queries, in blocks.

        Args:
            query: A dict of arrays, each with a row a query.

        Returns:
            A numpy array `[num_queries, dim]`.
        """
        return _in_blocks(
            lambda rows: self.query_tower({name: x[rows] for name, x in query.items()}),
            len(next(iter(query.values()))),
        )

    def candidate_embeddings(self):
        """Embeds the whole catalogue, in blocks, to a numpy array `[num_items, dim]`."""
        return _in_blocks(
            lambda rows: self.embed_items(tf.range(rows.start, rows.stop)), self.num_items
        )


def _in_blocks(embed, num_rows):
    starts = range(0, num_rows, EMBEDDING_ROWS)
    blocks = [slice(start, min(start + EMBEDDING_ROWS, num_rows)) for start in starts]
    return np.concatenate([embed(rows).numpy() for rows in blocks])


def _own_positive_and_extras(num_queries, num_candidates):
    """Masks the positives of the other rows: `[num_queries, num_candidates]`, True to keep."""
    column = tf.range(num_candidates)[tf.newaxis, :]
    row = tf.range(num_queries)[:, tf.newaxis]
    return (column == row) | (column >= num_queries)
