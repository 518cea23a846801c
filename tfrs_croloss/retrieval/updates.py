"""The metrics of a step, and what has to wait for them.

Nothing orders the operations of a graph but data and the variables that they name. A metric over a
dataset that goes through the model's own tower names none: an optimizer may change the weights
before, after or while it reads them. So what the gradient is made of waits for the metrics.
"""

from tfrs_croloss.retrieval.requirements import tf


def updated(metric, *args, **kwargs):
    """Updates a metric, and gives an operation or tensor that comes after the update."""
    update = metric.update_state(*args, **kwargs)
    if tf.executing_eagerly() or tf.is_tensor(update) or isinstance(update, tf.Operation):
        return update
    # One of the user's own that gives nothing back: reads come after the writes before them.
    return tf.group(*(variable.read_value() for variable in getattr(metric, "variables", ())))


def after(updates, *tensors):
    """The tensors, once the updates are done. In an eager call they are."""
    if not updates or tf.executing_eagerly():
        return tensors
    with tf.control_dependencies(updates):
        return tuple(tf.identity(x) for x in tensors)
