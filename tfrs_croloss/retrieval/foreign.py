"""Losses that are not a `RetrievalLoss`: TFRS's own task calls them on the whole matrix."""

from tfrs_croloss.losses import RetrievalLoss
from tfrs_croloss.retrieval.requirements import tf


def check_not_foreign(argument, loss):
    """Raises a ValueError if an argument needs a `RetrievalLoss`, and the loss is another."""
    if not isinstance(loss, RetrievalLoss):
        raise ValueError(
            f"`{argument}` needs a RetrievalLoss: CROLoss, MultiMarginLoss, or one of your own. "
            f"Received: loss={loss!r}. The softmax cross-entropy is CROLoss('exponential')"
        )


def without_positives_of_others(mask, num_queries, num_candidates):
    """A mask without in-batch negatives: of a row its own positive and the extra candidates.

    Args:
        mask: Bool, what broadcasts to the scores, True to keep; or None.
        num_queries: Rows of the scores. Their positives are the first candidates, in their order.
        num_candidates: Columns of the scores.

    Returns:
        Bool `[num_queries, num_candidates]`.
    """
    column = tf.range(num_candidates)[tf.newaxis, :]
    row = tf.range(num_queries)[:, tf.newaxis]
    kept = tf.equal(column, row) | (column >= num_queries)
    return kept if mask is None else kept & tf.cast(mask, tf.bool)
