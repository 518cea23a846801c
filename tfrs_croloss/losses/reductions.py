"""Sums and maxima over the candidates of a row.

XLA on a CPU adds a row up one number after another, each waiting for the one before. Folded to an
eighth first, elementwise, most of the work runs in vectors.
"""

import functools

import keras
from keras import ops

FOLDS = 8


def row_sum(x):
    """`[q, c]` to `[q, 1]`."""
    folded, rest = _folded(x, ops.add)
    total = ops.sum(folded, axis=1, keepdims=True)
    return total if rest is None else total + ops.sum(rest, axis=1, keepdims=True)


def row_max(x):
    """`[q, c]` to `[q, 1]`; 0 where there are no candidates."""
    if 0 in x.shape:
        # Of nothing Keras's PyTorch backend takes no maximum.
        return ops.sum(x, axis=1, keepdims=True)
    if keras.backend.backend() == "torch":
        # In Keras 3.15 `ops.maximum` would turn float64 to float32.
        return ops.amax(x, axis=1, keepdims=True)
    folded, rest = _folded(x, ops.maximum)
    # The rest may be empty: one more of the folded does no harm.
    rest = folded[:, :1] if rest is None else ops.concatenate([folded[:, :1], rest], axis=1)
    return ops.maximum(
        ops.amax(folded, axis=1, keepdims=True), ops.amax(rest, axis=1, keepdims=True)
    )


def largest_first(x, k):
    """The k largest of each row and their columns; of equals the lower column first."""
    if keras.backend.backend() != "torch":
        return ops.top_k(x, k)
    # PyTorch's `topk` takes any of equals.
    columns = ops.argsort(-x, axis=1)[:, :k]
    return ops.take_along_axis(x, columns, axis=1), columns


def _folded(x, combine):
    """The columns folded to an eighth, and the less than eight that are left over."""
    width = ops.shape(x)[1] // FOLDS
    if isinstance(width, int) and width < FOLDS:
        return x, None
    parts = [x[:, i * width : (i + 1) * width] for i in range(FOLDS)]
    return functools.reduce(combine, parts), x[:, FOLDS * width :]
