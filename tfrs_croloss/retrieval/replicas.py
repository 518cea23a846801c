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


def rows_before(num_rows):
    """The rows of the replicas before this one, and those of all."""
    if num_replicas() == 1:
        return 0, num_rows
    context = tf.distribute.get_replica_context()
    counts = context.all_gather(tf.reshape(num_rows, [1]), axis=0)
    return tf.reduce_sum(counts[: context.replica_id_in_sync_group]), tf.reduce_sum(counts)


def gathered(columns):
    """The rows of all replicas, in the replicas' order; any number of rows on each.

    Args:
        columns: Tensors `[num_rows, ...]` in a dict. The gradient of a floating-point one comes
            back from all replicas.

    Returns:
        Such a dict of all rows, and the number of rows before those of this replica.
    """
    if num_replicas() == 1:
        return columns, 0
    offset, _ = rows_before(tf.shape(tf.nest.flatten(columns)[0])[0])
    context = tf.distribute.get_replica_context()
    return tf.nest.map_structure(lambda x: context.all_gather(x, axis=0), columns), offset
