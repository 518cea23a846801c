"""Channels: what a loss compares, and how it is summed over the negatives of a row."""

from typing import Any, NamedTuple

from keras import ops

from tfrs_croloss.losses.kernels import Kernel, LogKernel
from tfrs_croloss.losses.reductions import row_log_sum_exp, row_sum

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


def total_of(channel, is_negative, weight, scale):
    """Σ_j v_j · φ(x_j) of each row, or its logarithm; `[num_queries, 1]`."""
    if isinstance(channel.kernel, LogKernel):
        values = _log_values(channel, is_negative, weight)
        return ops.log(scale) + row_log_sum_exp(values)
    values = _weighed(channel.kernel(channel.x), is_negative, weight)
    return scale * row_sum(values)


def slopes_of(channel, is_negative, weight, scale, total, slope):
    """The slope `[num_queries, 1]` in the total, passed on to each x_j."""
    if isinstance(channel.kernel, LogKernel):
        share = ops.exp(_log_values(channel, is_negative, weight) - (total - ops.log(scale)))
        return slope * share * channel.kernel.log_derivative(channel.x)
    return slope * scale * _weighed(channel.kernel.derivative(channel.x), is_negative, weight)


def _weighed(values, is_negative, weight):
    """v_j times the values, 0 at candidates that are no negatives."""
    return ops.where(is_negative, values if weight is None else weight * values, 0)


def _log_values(channel, is_negative, weight):
    """ln(v_j · φ(x_j)), and next to nothing at candidates that are no negatives."""
    values = channel.kernel.log(channel.x)
    if weight is not None:
        values = values + ops.log(ops.where(weight > 0, weight, 1))
    return ops.where(is_negative, values, LOG_OF_NOTHING)
