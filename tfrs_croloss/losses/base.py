"""What every retrieval loss shares: the positive, the masks, the reduction over negatives."""

import abc
from typing import Any, NamedTuple

import keras
from keras import ops

# A score at or below this is absent, not very negative: TFRS writes float32's minimum / 100 into
# the scores it masks, others write -inf.
MASKED_SCORE = -1e30


class Channel(NamedTuple):
    """One quantity that a loss sums over the negatives of a row.

    Attributes:
        values: `[num_queries, num_candidates]`, one value a negative.
        reducer: `"sum"`, or `"logsumexp"` when `values` are logarithms whose plain sum would
            overflow.
    """

    values: Any
    reducer: str = "sum"


class Aggregate(NamedTuple):
    """A row's loss and its slopes, from the totals of its channels.

    Attributes:
        value: `[num_queries, 1]`, the loss that is reported.
        slopes: for each channel, ∂loss/∂total, `[num_queries, 1]`.
        positive_slope: ∂loss/∂s⁺ with the totals held, `[num_queries, 1]` or 0.
    """

    value: Any
    slopes: tuple
    positive_slope: Any = 0.0


class RetrievalLoss(keras.losses.Loss, abc.ABC):
    """Base class of losses that compare a row's positive with its negatives.

    For a row with positive score s⁺ and unmasked negative scores s_j, j = 1..n:

    ```
    S_c = reduce_j  compare(s_j, s⁺)_c          loss = aggregate(S, n, s⁺)
    ```

    A subclass gives these two functions and nothing else. This class finds the positive, leaves
    masked candidates out, and turns the slopes that `aggregate` gives into gradients, so a loss
    may descend along another direction than that of the value it reports (the Lambda method).

    Scores at or below -1e30 (TFRS's masks, -inf) are absent. A row with no positive, with a
    masked positive or without an unmasked negative contributes exactly 0, and gradient 0.

    Args:
        reduction: As in `keras.losses.Loss`. `"sum"` by default, as the default loss of
            `tfrs.tasks.Retrieval`, so that the two swap at the same learning rate.
        name: Name of the loss.
        dtype: Dtype of the computation, `keras.config.floatx()` by default; scores of a lower
            precision are raised to it.

    Example:

    >>> from keras import ops
    >>> from tfrs_croloss.losses import Aggregate, Channel, RetrievalLoss
    >>> class Triplet(RetrievalLoss):
    ...     def compare(self, negative, positive):
    ...         return (Channel(ops.relu(negative - positive + 0.5)),)
    ...
    ...     def aggregate(self, totals, count, positive):
    ...         return Aggregate(totals[0], slopes=(1.0,))
    >>> loss = Triplet(name="triplet")
    >>> round(float(loss([[1, 0, 0]], [[0.8, 0.5, 0.1]])), 4)  # (-.3 + .5) + 0
    0.2
    """

    def __init__(self, reduction="sum", name=None, dtype=None):
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    @abc.abstractmethod
    def compare(self, negative, positive):
        """Compares negatives with the positive of their row.

        Args:
            negative: Scores `[num_queries, num_candidates]`.
            positive: Scores `[num_queries, 1]`.

        Returns:
            A tuple of `Channel`s.
        """

    @abc.abstractmethod
    def aggregate(self, totals, count, positive):
        """Makes the row's loss from what `compare` gave, reduced over its negatives.

        Args:
            totals: For each channel of `compare`, `[num_queries, 1]`.
            count: Number of the row's unmasked negatives, `[num_queries, 1]`, at least 1.
            positive: The positive's score, `[num_queries, 1]`.

        Returns:
            An `Aggregate`.
        """

    def call(self, y_true, y_pred):
        """Computes the loss of each row.

        Args:
            y_true: `[num_queries, num_candidates]`, 1 at the row's positive, in any column, and
                0 elsewhere.
            y_pred: Scores `[num_queries, num_candidates]`.

        Returns:
            `[num_queries]` losses.

        Raises:
            ValueError: If the two are not matrices of one shape.
        """
        # Keras's `__call__` leaves nested lists as lists of scalars.
        y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
        _check_shapes(y_true, y_pred)
        # "not at or below", so that a NaN score counts as present and shows.
        present = ops.logical_not(y_pred <= MASKED_SCORE)
        is_positive = ops.logical_and(y_true > 0, present)
        is_negative = ops.logical_and(y_true <= 0, present)
        has_loss = ops.logical_and(
            ops.any(is_positive, axis=1, keepdims=True), ops.any(is_negative, axis=1, keepdims=True)
        )
        # Rows without a loss lose their negatives too: everything below then stays finite there,
        # which a mask on the result alone would not give the gradients.
        is_negative = ops.logical_and(is_negative, has_loss)
        positive = ops.sum(ops.where(is_positive, y_pred, 0), axis=1, keepdims=True)
        negative = ops.where(is_negative, y_pred, positive)
        count = ops.sum(ops.cast(is_negative, y_pred.dtype), axis=1, keepdims=True)

        channels = self.compare(negative, positive)
        totals = tuple(_reduce(channel, is_negative) for channel in channels)
        value, slopes, positive_slope = self.aggregate(
            tuple(ops.stop_gradient(total) for total in totals),
            ops.where(count > 0, count, 1),
            ops.stop_gradient(positive),
        )
        losses = value + _zero_with_slope(positive, positive_slope)
        for total, slope in zip(totals, slopes, strict=True):
            losses = losses + _zero_with_slope(total, slope)
        return ops.squeeze(ops.where(has_loss, losses, 0), axis=1)


def _reduce(channel, is_negative):
    """Reduces a channel over a row's negatives, to `[num_queries, 1]`."""
    if channel.reducer == "sum":
        return ops.sum(ops.where(is_negative, channel.values, 0), axis=1, keepdims=True)
    if channel.reducer == "logsumexp":
        # Not -inf: a row of nothing else would have NaN gradients.
        values = ops.where(is_negative, channel.values, MASKED_SCORE)
        return ops.logsumexp(values, axis=1, keepdims=True)
    raise ValueError(
        f"The reducer of a `Channel` must be 'sum' or 'logsumexp'. Received: {channel.reducer!r}"
    )


def _zero_with_slope(x, slope):
    """Exactly 0, with the derivative `slope` in `x`."""
    return slope * (x - ops.stop_gradient(x))


def _check_shapes(y_true, y_pred):
    if len(y_true.shape) != 2 or len(y_pred.shape) != 2:
        raise ValueError(
            "`y_true` and `y_pred` must have shape [num_queries, num_candidates]. Received: "
            f"y_true of shape {tuple(y_true.shape)}, y_pred of shape {tuple(y_pred.shape)}"
        )
    for labels, scores in zip(y_true.shape, y_pred.shape, strict=True):
        if labels is not None and scores is not None and labels != scores:
            raise ValueError(
                "`y_true` must be one-hot and of the shape of `y_pred`. Received: y_true of "
                f"shape {tuple(y_true.shape)}, y_pred of shape {tuple(y_pred.shape)}"
            )
