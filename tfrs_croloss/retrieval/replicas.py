"""What replicas of a step tell each other."""

from tfrs_croloss.retrieval.requirements import tf


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


def gathered(columns):
    """The rows of all replicas, in the replicas' order; any number of rows on each.

    Args:
        columns: A dict of tensors `[num_rows, ...]`. The gradient of a floating-point one comes
            back from all replicas.

    Returns:
        Such a dict of all rows, and the number of rows before those of this replica.
    """
    if num_replicas() == 1:
        return columns, 0
    context = tf.distribute.get_replica_context()
    counts = context.all_gather(tf.shape(next(iter(columns.values())))[:1], axis=0)
    offset = tf.reduce_sum(counts[: context.replica_id_in_sync_group])
    return {name: context.all_gather(x, axis=0) for name, x in columns.items()}, offset
