"""Keras metrics of the scores of a batch, without holding all scores."""

from tfrs_croloss.losses.engine import rows_of_a_block
from tfrs_croloss.losses.membership import codes_of, is_among
from tfrs_croloss.retrieval.requirements import tf, tfrs
from tfrs_croloss.retrieval.updates import after, updated

# What TFRS gives to a candidate that is absent.
ABSENT = tfrs.layers.loss.MIN_FLOAT


class BatchMetrics:
    """Updates metrics with the labels and scores of TFRS's own task, a block of rows at a time.

    They are made here, in the dtype of the loss: TFRS's layers fail under a mixed policy.

    Args:
        metrics: Keras metrics of (labels, scores, sample_weight).
        block_size: As in `embedding_loss`.
        num_hard_negatives: How many negatives of a row the metrics see; None for all.
    """

    def __init__(self, metrics, block_size, num_hard_negatives):
        self.metrics = metrics
        self.block_size = block_size
        self.num_hard_negatives = num_hard_negatives

    def update(self, queries, candidates, ids, in_batch, sample_weight, known_ids, mask):
        """Updates the metrics with a batch, and gives a tensor that comes after that.

        Args:
            queries: `[num_queries, dim]` or `[num_queries, num_heads, dim]`.
            candidates: `[num_candidates, dim]`, this replica's.
            ids: `[num_candidates]` where candidates with the id of the positive are left out,
                else None.
            in_batch: Whether the positives of other rows are negatives.
            sample_weight: `[num_queries]`, or None.
            known_ids: `[num_queries, num_known]`, or None.
            mask: `[num_candidates]` or `[num_queries, num_candidates]`, or None.
        """
        num_queries, num_candidates = tf.shape(queries)[0], tf.shape(candidates)[0]
        row, column = tf.range(num_queries)[:, tf.newaxis], tf.range(num_candidates)[tf.newaxis]
        codes, excluded = codes_of(num_candidates, row, ids, known_ids)
        size = rows_of_a_block(self.block_size, num_queries, num_candidates)

        def update_block(start):
            def rows(x):
                return None if x is None else x[start : start + size]

            is_own = tf.equal(column, rows(row))
            absent = is_among(codes, rows(excluded)) & ~is_own
            if mask is not None:
                absent |= ~(mask if mask.shape.rank == 1 else rows(mask))
            if not in_batch:
                absent |= (column < num_queries) & ~is_own
            scores = tf.linalg.matmul(rows(queries), candidates, transpose_b=True)
            if scores.shape.rank == 3:
                scores = tf.reduce_max(scores, axis=1)
            scores = tf.where(absent, tf.cast(ABSENT, scores.dtype), scores)
            is_positive = tf.cast(is_own, scores.dtype)
            if self.num_hard_negatives is not None:
                _, hardest = tf.math.top_k(
                    tf.where(is_own, scores.dtype.max, scores),
                    tf.minimum(self.num_hard_negatives + 1, num_candidates),
                )
                is_positive, scores = (
                    tf.gather(x, hardest, batch_dims=1) for x in (is_positive, scores)
                )
            weight = rows(sample_weight)
            updates = [
                updated(metric, is_positive, scores, sample_weight=weight)
                for metric in self.metrics
            ]
            return after(updates, start + size)

        return tf.while_loop(lambda start: start < num_queries, update_block, (0,))[0]
