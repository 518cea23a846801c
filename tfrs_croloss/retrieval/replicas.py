"""What replicas of a step tell each other."""

from tfrs_croloss.retrieval.requirements import tf
from tfrs_croloss.retrieval.structures import mapped


def num_replicas():
    """Replicas of the step that is being computed; 1 outside of one."""
    context = tf.distribute.get_replica_context()
    return 1 if context is None else context.num_replicas_in_sync


def summed(x):
    """The sum of a number over the replicas, float32. It is not differentiated."""
    # Not every device adds integers up.
    x = tf.stop_gradient(tf.cast(x, tf.float32))
    if num_replicas() == 1:
        return x
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, x)


def rows_before(num_rows):
    """The rows of the replicas before this one, and those of all."""
    if num_replicas() == 1:
        return 0, num_rows
    context = tf.distribute.get_replica_context()
    counts = context.all_gather(tf.reshape(num_rows, [1]), axis=0)
    return tf.reduce_sum(counts[: context.replica_id_in_sync_group]), tf.reduce_sum(counts)


def gathered(candidates):
    """The candidates of all replicas, in the replicas' order; any number of them on each.

    Args:
        candidates: `StepCandidates`. The gradient of the embeddings comes back from all replicas.

    Returns:
        Those of all, and the number of candidates before those of this replica.
    """
    if num_replicas() == 1:
        return candidates, 0
    offset, _ = rows_before(tf.shape(candidates.embeddings)[0])
    context = tf.distribute.get_replica_context()
    return mapped(lambda x: context.all_gather(x, axis=0), candidates), offset
