"""Channels: what a loss compares, and how it is reduced over the negatives of a row."""

import numbers
from typing import Any, NamedTuple

from keras import ops

from tfrs_croloss._typing import Elementwise
from tfrs_croloss.losses import kernels
from tfrs_croloss.losses.kernels import Kernel, LogKernel
from tfrs_croloss.losses.reductions import row_max, row_sum
from tfrs_croloss.losses.tensors import as_tensor, fits

# Not -inf: the log-sum-exp of a row of nothing else would be NaN.
LOG_OF_NOTHING = -1e30
REDUCTIONS = ("sum", "logsumexp", "max")
# The name of the weights that say how many items a candidate stands for.
CANDIDATE_WEIGHT = "candidate"


class Channel(NamedTuple):
    """One comparison of the negatives with their positive: a kernel φ, reduced over each row.

    ```math
    total = reduce_j v_j · φ(x_j),    x_j = scale · s_j + positive_scale · s⁺ + shift
    ```

    By default x is the difference s_j - s⁺. Each coefficient is a number or `[num_queries, 1]`, a
    constant to the gradient.

    Attributes:
        kernel: φ: a `Kernel`, the name of one, or a function of `keras.ops`. It may be signed, as
            `Identity` is.
        scale: The coefficient of the negative's score, not 0.
        positive_scale: The coefficient of the positive's score; 0 if it does not enter.
        shift: What is added.
        pull: A factor of the gradient in the positive's score, which the value does not show: x is
            differentiated as if ∂x/∂s⁺ were pull · positive_scale.
        reduce: `"sum"`; `"logsumexp"` for the logarithm of the sum, of a `LogKernel`, -1e30 where
            all weights are 0; or `"max"`,
            the largest φ(x_j), whose gradient goes to one negative, the first of equals by column.
            None is `"logsumexp"` for a `LogKernel` and else `"sum"`.
        weight: Which weights v_j are: `"candidate"` for those of the candidates, None for 1, the
            name of others that calls bring in a dict, or a tuple of names for their product. A
            candidate whose `"candidate"` weight is 0 is absent, whatever v_j is. A maximum has no
            weights.
        is_reported: Whether the total is for the value alone. No gradient flows through it then,
            which saves a pass over the scores.
    """

    kernel: Kernel | str | Elementwise
    scale: Any = 1.0
    positive_scale: Any = -1.0
    shift: Any = 0.0
    pull: Any = 1.0
    reduce: str | None = None
    weight: str | tuple[str, ...] | None = CANDIDATE_WEIGHT
    is_reported: bool = False

    def argument(self, negative, positive):
        """The argument x, like the negatives' scores `[num_queries, num_candidates]`."""
        x = negative
        if not _is_number(self.positive_scale, 0):
            # So of near scores the difference is scaled, and not each of them rounded before.
            x = x + (self.positive_scale / self.scale) * positive
        if not _is_number(self.scale, 1):
            x = self.scale * x
        return x if _is_number(self.shift, 0) else x + self.shift

    @property
    def coefficients(self):
        """What tells the x of one channel from that of another."""
        coefficients = self.scale, self.positive_scale, self.shift
        return tuple(x if isinstance(x, numbers.Real) else id(x) for x in coefficients)

    @property
    def positive_slope(self):
        """∂x/∂s⁺ as the gradient has it; None if the positive does not enter."""
        if _is_number(self.positive_scale, 0):
            return None
        return self.pull * self.positive_scale

    @property
    def weight_names(self):
        """The names of the weights that are multiplied; none for a maximum."""
        if self.weight is None or self.reduction() == "max":
            return ()
        return (self.weight,) if isinstance(self.weight, str) else tuple(self.weight)

    def reduction(self):
        """The value of `reduce`, or what None stands for; a `ValueError` if it can't be."""
        is_log = isinstance(self.kernel, LogKernel)
        if self.reduce is None:
            return "logsumexp" if is_log else "sum"
        if self.reduce not in REDUCTIONS or (self.reduce == "logsumexp" and not is_log):
            raise ValueError(
                f"`reduce` must be one of {', '.join(REDUCTIONS)}; logsumexp needs a LogKernel. "
                f"Received: reduce={self.reduce!r} with kernel={self.kernel!r}"
            )
        return self.reduce


def as_channels(channels, loss, column):
    """What a `compare` gave as a tuple of channels, with kernels.

    Args:
        channels: A `Channel` or a tuple of them.
        loss: Name of the loss, for the error.
        column: Any tensor `[num_queries, 1]`.

    Raises:
        ValueError: If they are something else, a coefficient of the negative is 0, or one is
            neither a number nor `[num_queries, 1]`.
    """
    channels = (channels,) if isinstance(channels, Channel) else channels
    is_tuple = isinstance(channels, (tuple, list)) and channels
    if not (is_tuple and all(isinstance(channel, Channel) for channel in channels)):
        raise ValueError(
            f"`compare` of {loss} must give a Channel or a tuple of them. Received: {channels!r}"
        )
    made = []
    for channel in channels:
        if _is_number(channel.scale, 0):
            raise ValueError(
                f"`scale` of a Channel must not be 0, or no negative enters. Received: {channel!r}"
            )
        coefficients = {
            name: _as_coefficient(name, getattr(channel, name), column)
            for name in ("scale", "positive_scale", "shift", "pull")
        }
        made.append(channel._replace(kernel=kernels.get(channel.kernel), **coefficients))
        names = (channel.weight,) if isinstance(channel.weight, str) else channel.weight or ()
        if not (isinstance(names, tuple) and all(isinstance(name, str) for name in names)):
            raise ValueError(
                "`weight` of a Channel must be None, a name or a tuple of names. "
                f"Received: {channel.weight!r}"
            )
        if channel.reduce == "max" and channel.weight not in (None, CANDIDATE_WEIGHT):
            raise ValueError(
                "`weight` of a Channel must be left out for a maximum, which weighs nothing. "
                f"Received: {channel.weight!r}"
            )
    return tuple(made)


def _as_coefficient(name, x, column):
    """A number, or a tensor `[num_queries, 1]`; all else is refused, for it would be broadcast."""
    if isinstance(x, numbers.Real):
        return x
    shape = getattr(x, "shape", None)
    if shape is None or not (len(shape) == 0 or fits(x, (column.shape[0], 1))):
        came = f"{x!r}" if shape is None else f"shape {tuple(shape)}"
        raise ValueError(
            f"`{name}` of a Channel must be a number or have shape [num_queries, 1]. "
            f"Received: {came}"
        )
    return as_tensor(x, column.dtype)


def _is_number(x, value):
    return isinstance(x, numbers.Real) and x == value


def reduced(channel, x, is_negative, weight, scale):
    """Reduces a channel over the negatives of each row.

    Args:
        channel: A `Channel`.
        x: What `channel.argument` gives, `[num_queries, num_candidates]`.
        is_negative: Bool `[num_queries, num_candidates]`.
        weight: v_j up to a factor of the row, of a shape that broadcasts; None for 1.
        scale: That factor, `[num_queries, 1]`.

    Returns:
        The total, `[num_queries, 1]`, and a function to its slopes in x_j: a factor of the row,
        `[num_queries, 1]`, and a matrix `[num_queries, num_candidates]`. They stay apart, since
        multiplying them is a pass over the matrix that few need.
    """
    if not channel.kernel.takes_minus_infinity:
        x = ops.where(is_negative, x, 0)
    return REDUCERS[channel.reduction()](channel.kernel, x, is_negative, weight, scale)


def _sum(kernel, x, is_negative, weight, scale):
    def weighed(values):
        return ops.where(is_negative, values if weight is None else weight * values, 0)

    return scale * row_sum(weighed(kernel(x))), lambda: (scale, weighed(kernel.derivative(x)))


def _log_sum_exp(kernel, x, is_negative, weight, scale):
    values = kernel.log(x)
    if weight is not None:
        is_negative = ops.where(weight <= 0, False, is_negative)
        values = values + ops.log(ops.where(weight > 0, weight, 1))
    largest = row_max(ops.where(is_negative, values, LOG_OF_NOTHING))
    # Masked before the exponential too: it would be inf, and its derivative NaN.
    terms = ops.where(is_negative, ops.exp(ops.where(is_negative, values - largest, 0)), 0)
    total = row_sum(terms)
    # At least the 1 of the largest, unless the row has no negatives.
    total = ops.where(ops.equal(total, 0), 1, total)
    return (
        ops.log(scale) + largest + ops.log(total),
        lambda: (1 / total, terms * kernel.log_derivative(x)),
    )


def _max(kernel, x, is_negative, weight, scale):
    values = kernel(x)
    largest = row_max(ops.where(is_negative, values, -float("inf")))
    largest = ops.where(largest > -float("inf"), largest, 0)
    # XLA's maximum leaves NaN out, and it has to stay in its row.
    num_nan = row_sum(ops.cast(ops.where(is_negative, ops.isnan(values), False), x.dtype))
    largest = ops.where(num_nan > 0, float("nan"), largest)

    def slopes():
        columns = ops.arange(ops.shape(x)[1], dtype="int32")
        last = ops.shape(x)[1]
        is_largest = ops.where(is_negative, ops.equal(values, largest), False)
        first = -row_max(ops.where(is_largest, -columns, -last))
        is_first = ops.where(is_largest, ops.equal(columns, first), False)
        # 1, and NaN where the largest is.
        return 1 + 0 * largest, ops.where(is_first, kernel.derivative(x), 0)

    return largest, slopes


REDUCERS = {"sum": _sum, "logsumexp": _log_sum_exp, "max": _max}
