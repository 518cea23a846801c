"""Half precision: which of what is computed is not to be rounded to it."""

from tfrs_croloss.retrieval.requirements import tf


def at_least_float32(x):
    """A tensor in float32 if its dtype is narrower."""
    x = tf.convert_to_tensor(x)
    return tf.cast(x, tf.float32) if x.dtype.size < 4 else x
