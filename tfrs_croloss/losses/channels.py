"""Channels: what a loss compares, and how it is summed over the negatives of a row."""

from typing import Any, NamedTuple

from keras import ops

from tfrs_croloss.losses.kernels import Kernel, LogKernel
from tfrs_croloss.losses.reductions import row_max, row_sum

# Not -inf: the log-sum-exp of a row of nothing else would be NaN.
LOG_OF_NOTHING = -1e30


class Channel(NamedTuple):
    """One comparison of the negatives with their positive, by a kernel at x, affine in the scores.

    Its total over a row is Σ_j v_j · φ(x_j), or the logarithm of this sum for a `LogKernel`.

    Attributes:
        kernel: The `Kernel` φ.
        x: `[num_queries, num_candidates]`.
        slope: ∂x/∂s_j, a number or `[num_queries, 1]`.
        positive_slope: ∂x/∂s⁺, likewise; None if the positive does not enter.
    """

    kernel: Kernel
    x: Any
    slope: Any = 1.0
    positive_slope: Any = None


def summed(channel, is_negative, weight, scale):
    """Sums a channel over the negatives of each row.

    Args:
        channel: A `Channel`.
        is_negative: Bool `[num_queries, num_candidates]`.
        weight: v_j up to a factor of the row, of a shape that broadcasts; None for 1.
        scale: That factor, `[num_queries, 1]`.

    Returns:
        The total, `[num_queries, 1]`, and a function to its slopes in x_j: a factor of the row,
        `[num_queries, 1]`, and a matrix `[num_queries, num_candidates]`. They stay apart, since
        multiplying them is a pass over the matrix that few need.
    """
    kernel, x = channel.kernel, channel.x
    if not kernel.takes_minus_infinity:
        x = ops.where(is_negative, x, 0)

    def of_negatives(values):
        return ops.where(is_negative, values, 0)

    if isinstance(kernel, LogKernel):
        values = kernel.log(x)
        if weight is not None:
            values = values + ops.log(ops.where(weight > 0, weight, 1))
        largest = row_max(ops.where(is_negative, values, LOG_OF_NOTHING))
        # Masked before the exponential too: it would be inf, and its derivative NaN.
        terms = of_negatives(ops.exp(ops.where(is_negative, values - largest, 0)))
        total = row_sum(terms)
        # At least the 1 of the largest, unless the row has no negatives.
        total = ops.where(ops.equal(total, 0), 1, total)
        return (
            ops.log(scale) + largest + ops.log(total),
            lambda: (1 / total, terms * kernel.log_derivative(x)),
        )

    def weighed(values):
        return of_negatives(values if weight is None else weight * values)

    return scale * row_sum(weighed(kernel(x))), lambda: (scale, weighed(kernel.derivative(x)))
