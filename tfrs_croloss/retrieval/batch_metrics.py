"""Keras metrics of the scores of a batch, without holding all scores."""

from tfrs_croloss.losses.engine import rows_of_a_block
from tfrs_croloss.losses.membership import is_among, labels_of
from tfrs_croloss.retrieval.requirements import tf, tfrs


class BatchMetrics:
    """Updates metrics by TFRS's own task, one block of rows after another.

    Args:
        metrics: Keras metrics of (labels, scores, sample_weight).
        block_size: As in `embedding_loss`.
        **options: Further arguments of `tfrs.tasks.Retrieval`.
    """

    def __init__(self, metrics, block_size, **options):
        self.block_size = block_size
        self.task = tfrs.tasks.Retrieval(
            loss=lambda y_true, y_pred, sample_weight: 0.0, batch_metrics=metrics, **options
        )

    def update(self, queries, columns, in_batch, sample_weight, known_ids, mask):
        """Updates the metrics with a batch.

        Args:
            queries: `[num_queries, dim]` or `[num_queries, num_heads, dim]`.
            columns: A dict of what is known of each candidate of this replica.
            in_batch: Whether the positives of other rows are negatives.
            sample_weight: `[num_queries]`, or None.
            known_ids: `[num_queries, num_known]`, or None.
            mask: `[num_queries, num_candidates]`, or None.
        """
        ids = columns.get("id")
        num_queries, num_candidates = tf.shape(queries)[0], tf.shape(columns["embedding"])[0]
        labels, known = labels_of(num_candidates, None, ids, known_ids)
        size = rows_of_a_block(self.block_size, num_queries, num_candidates)
        column = tf.range(num_candidates)[tf.newaxis]

        def update_block(start):
            def rows(x):
                return None if x is None else x[start : start + size]

            def rolled(x, axis=0):
                # TFRS takes the first candidate for the positive of the first query.
                return None if x is None else tf.roll(x, -start, axis)

            row = rows(tf.range(num_queries))[:, tf.newaxis]
            keep = tf.ones_like(column == row) if mask is None else rows(mask)
            if known is not None:
                keep &= ~is_among(labels, rows(known)) | (column == row)
            if not in_batch:
                keep &= (column >= num_queries) | (column == row)
            self.task(
                rows(queries),
                rolled(columns["embedding"]),
                sample_weight=rows(sample_weight),
                candidate_sampling_probability=rolled(columns.get("probability")),
                candidate_ids=rolled(ids),
                score_mask=rolled(keep, axis=1),
                compute_metrics=False,
            )
            return (start + size,)

        tf.while_loop(lambda start: start < num_queries, update_block, (0,))
