"""A loop over blocks of rows, which `keras.ops` has in no form that all backends run well."""

import operator

import keras
from keras import ops

# Elements of a total beyond which one block at a time is enough: 16 MiB in float32.
LARGE = 2**22


def sum_over_blocks(function, rows, totals, num_kept):
    """Calls `function` on one block of rows after another.

    Args:
        function: From the tensors of a block to (what is added to `totals`, what is kept of the
            block's rows): two tuples of tensors, all of the dtype of the first of `rows`.
        rows: Tensors `[num_blocks, block_size, ...]`.
        totals: Tensors to begin the sums with, the loop's own to change.
        num_kept: How many tensors are kept.

    Returns:
        The totals, and of what is kept tensors `[num_blocks, block_size, ...]`.
    """
    return BACKENDS[keras.backend.backend()](function, rows, totals, num_kept)


def into_blocks(tensor, block_size, num_blocks):
    """Rows `[num_rows, ...]` as `[num_blocks, block_size, ...]`, zeros (False) behind the last."""
    num_missing = num_blocks * block_size - ops.shape(tensor)[0]
    if not (isinstance(num_missing, int) and num_missing == 0):
        tensor = ops.pad(tensor, [[0, num_missing]] + [[0, 0]] * (len(tensor.shape) - 1))
    return ops.reshape(tensor, (num_blocks, block_size, *ops.shape(tensor)[1:]))


def out_of_blocks(tensor, num_rows):
    """The reverse of `into_blocks`."""
    num_blocks, block_size, *rest = ops.shape(tensor)
    return ops.reshape(tensor, (num_blocks * block_size, *rest))[:num_rows]


def _tensorflow(function, rows, totals, num_kept):
    import tensorflow as tf

    num_blocks = tf.shape(rows[0])[0]
    # Two blocks at once keep the cores busy; where they are large, the memory matters more.
    is_large = any((total.shape.num_elements() or 0) > LARGE for total in totals)

    def step(i, totals, kept):
        more, results = function(*(x[i] for x in rows))
        totals = tuple(total + x for total, x in zip(totals, more, strict=True))
        return i + 1, totals, tuple(a.write(i, x) for a, x in zip(kept, results, strict=True))

    arrays = (tf.TensorArray(rows[0].dtype, num_blocks) for _ in range(num_kept))
    _, totals, kept = tf.while_loop(
        lambda i, *_: i < num_blocks,
        step,
        (0, totals, tuple(arrays)),
        parallel_iterations=1 if is_large else 2,
    )
    return totals, tuple(array.stack() for array in kept)


def _jax(function, rows, totals, num_kept):
    import jax

    if not any(isinstance(x, jax.core.Tracer) for x in (*rows, *totals)):
        # An eager call: it would compile a scan anew each time.
        return _in_python(function, rows, totals, jax.numpy.stack)

    def step(totals, block):
        more, results = function(*block)
        return tuple(total + x for total, x in zip(totals, more, strict=True)), results

    return jax.lax.scan(step, totals, rows)


def _torch(function, rows, totals, num_kept):
    import torch

    return _in_python(function, rows, totals, torch.stack)


def _in_python(function, rows, totals, stack):
    kept = []
    for block in zip(*rows, strict=True):
        more, results = function(*block)
        # In place where the backend can.
        totals = tuple(operator.iadd(total, x) for total, x in zip(totals, more, strict=True))
        kept.append(results)
    return totals, tuple(stack(x) for x in zip(*kept, strict=True))


BACKENDS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
