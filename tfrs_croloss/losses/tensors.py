"""What a call brings, as tensors of the backend: of a known rank, with a first row or column."""

import keras
from keras import ops


def as_tensor(x, dtype=None, rank=None):
    """Makes a tensor of an array, a list, a number, a tensor or a variable of any framework.

    Args:
        x: What came.
        dtype: Its new dtype, None for its own.
        rank: Its rank, where a graph of TensorFlow does not know it yet.
    """
    x = ops.convert_to_tensor(x, dtype=dtype)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        # Keras leaves a `tf.Variable` as it is, which is not a tensor to all operations.
        x = tf.convert_to_tensor(x)
        if rank is not None and not is_ranked(x):
            x = tf.ensure_shape(x, [None] * rank)
    return x


def is_ranked(x):
    """Whether the rank is known, which only a graph of TensorFlow may not."""
    return getattr(x.shape, "rank", 0) is not None


def fits(x, shape):
    """Whether the shape of `x` is the one given, as far as both are known."""
    if not is_ranked(x):
        return True
    return len(x.shape) == len(shape) and all(
        a is None or b is None or a == b for a, b in zip(x.shape, shape, strict=True)
    )


def broadcast_unranked(x, shape):
    """`x` in this shape where its own rank is not known; else `x` as it is."""
    return x if is_ranked(x) else ops.broadcast_to(x, shape)


def rows_of_unknown_rank(name, x, num_rows):
    """A number a row, or one for all, flat; the step fails with the argument's name on all else."""
    import tensorflow as tf

    x = tf.reshape(x, [-1])
    size = tf.size(x)
    return _asserted(
        x,
        tf.logical_or(tf.equal(size, 1), tf.equal(size, num_rows)),
        f"`{name}` of unknown rank must hold a number per row; tf.ensure_shape gives it a rank",
    )


def like_scores(name, x, scores):
    """A matrix of the shape of the scores, where a graph of TensorFlow may not know it yet."""
    if is_ranked(x) and (len(x.shape) != 2 or None not in (*x.shape, *scores.shape)):
        return x
    import tensorflow as tf

    # Which says no where the ranks differ.
    is_like = tf.raw_ops.Equal(x=tf.shape(x), y=tf.shape(scores), incompatible_shape_error=False)
    x = _asserted(
        x,
        tf.logical_and(tf.equal(tf.rank(x), 2), tf.reduce_all(is_like)),
        f"`{name}` must have shape [num_queries, num_candidates]",
    )
    return tf.ensure_shape(x, [None, None])


def _asserted(x, condition, message):
    """`x`, and the message as the error of the step unless the condition holds."""
    import tensorflow as tf

    with tf.control_dependencies([tf.debugging.Assert(condition, [message])]):
        return tf.identity(x)


def with_slots(x, rank):
    """`[num_rows, ...]` as `[num_rows, 1, ...]`, unless it has this rank already."""
    if is_ranked(x):
        return x if len(x.shape) == rank else ops.expand_dims(x, axis=1)
    import tensorflow as tf

    shape = tf.shape(x)
    end = tf.size(shape) - (rank - 2)
    slots = tf.reduce_prod(shape[1:end], keepdims=True)
    x = tf.reshape(x, tf.concat([shape[:1], slots, shape[end:]], axis=0))
    return tf.ensure_shape(x, [None] * rank)


def at_least_one(x, axis, value=0):
    """Puts one more of `value` behind an axis of size 0: few operations take a tensor of nothing.

    Args:
        x: A tensor.
        axis: The axis, which stays as it is if its size is not 0.
        value: The number or boolean that is put there.
    """
    size = ops.shape(x)[axis]
    if isinstance(size, int) and size > 0:
        return x
    missing = ops.cast(ops.equal(size, 0), "int32") if not isinstance(size, int) else 1
    widths = [[0, 0]] * len(x.shape)
    widths[axis] = [0, missing]
    return ops.pad(x, widths, constant_values=value)
