"""What every retrieval loss shares: the positives, the masks, the reduction over negatives."""

import abc
from typing import Any, NamedTuple

import keras
from keras import ops

from tfrs_croloss._arguments import check_count
from tfrs_croloss._typing import Array, DType
from tfrs_croloss.losses.channels import Channel, reduced
from tfrs_croloss.losses.checks import (
    as_numbers,
    check_shape,
    check_shapes,
    check_values,
    fits,
)
from tfrs_croloss.losses.differentiation import (
    compiled,
    traced_as_written,
    value_and_derivatives,
    with_gradient,
)
from tfrs_croloss.losses.reductions import row_max, row_sum
from tfrs_croloss.losses.tensors import (
    as_tensor,
    at_least_one,
    broadcast_unranked,
    is_ranked,
    rows_of_unknown_rank,
)

# A score at or below this is absent, not very negative: TFRS writes float32's minimum / 100 into
# the scores it masks, others write -inf.
MASKED_SCORE = -1e30


class Row(NamedTuple):
    """What a loss knows of each row besides its negatives; entries are `[num_queries, 1]`.

    Attributes:
        positive: s⁺, the score of the positive.
        count: n, the number of unmasked negatives, at least 1.
        weight: Σ_j v_j, the weights of the negatives together: how many items they stand for.
        threshold: β, the score at which the query's top K ends; None unless the loss has
            `needs_threshold`. A constant to the gradient.
    """

    positive: Any
    count: Any
    weight: Any
    threshold: Any = None


class Aggregate(NamedTuple):
    """The loss of each row with its derivatives, where these are more exact by hand.

    Attributes:
        value: `[num_queries, 1]`, the loss.
        slopes: ∂loss/∂total, `[num_queries, 1]`, for each channel that is not `is_reported`.
        positive_slope: ∂loss/∂s⁺ with the totals held, `[num_queries, 1]` or a number.
    """

    value: Any
    slopes: tuple
    positive_slope: Any = 0.0


class RetrievalLoss(keras.losses.Loss, abc.ABC):
    """Base class of losses that compare a row's positive with its negatives.

    For a row with positive score s⁺ and unmasked negative scores s_j, j = 1..n, of weight v_j:

    ```math
    S = reduce_j v_j · φ(x_j),    x_j affine in s_j and s⁺,    L = aggregate(S, row)
    ```

    where `row` has s⁺, n, Σ_j v_j and what else is known of the row. A subclass says what it
    compares, `compare` giving one or more `Channel`s, and what the totals make, `aggregate`. This
    class owns the rest:

    - Masks: scores at or below -1e30 (TFRS's masks, -inf) are absent. A row with no positive, with
      a masked positive or without an unmasked negative contributes exactly 0, and gradient 0.
    - Several positives: the loss of a row is the mean over its positives, each against the row's
      negatives alone.
    - Candidate weights: v_j = 1 unless a call brings its own.
    - Thresholds of the rows, for a loss that sets `needs_threshold`.
    - The gradient, put together from the derivatives of `aggregate` and of the kernels, so a loss
      may report one channel and descend along another (the Lambda method). On PyTorch it is
      differentiable once.
    - Empty batches: no rows have a loss of 0, under a mean too.
    - Errors: an eager call raises on scores that are NaN or +inf, on labels other than 0 and 1, on
      more positives than `max_positives`, and on weights of rows or candidates that are negative
      or not finite. Compiled code (and JAX's vmap) checks
      shapes alone: NaN then stays in its row, and of too many positives the first count.

    Args:
        max_positives: The most positives a row may have.
        reduction: As in `keras.losses.Loss`. `"sum"` by default, as the default loss of
            `tfrs.tasks.Retrieval`, so that the two swap at the same learning rate. In the `compile`
            of tf_keras (Keras 2) take None, or it ignores `sample_weight`.
        name: Name of the loss.
        dtype: Dtype of the computation, `keras.config.floatx()` by default. Half precision is
            raised to float32.

    Attributes:
        jit_compile: True. In a graph of TensorFlow the arithmetic is then compiled by XLA, which
            is faster, but compiles anew for each new shape of the scores. Set it to
            False where the number of candidates changes from batch to batch.

    Example:

    A triplet loss of its own:

    >>> from tfrs_croloss.losses import Channel, Hinge, RetrievalLoss
    >>> class Triplet(RetrievalLoss):
    ...     def compare(self, row):
    ...         return Channel(Hinge(0.5))  # x = s⁻ - s⁺
    ...
    ...     def aggregate(self, totals, row):
    ...         return totals[0]
    >>> loss = Triplet(name="triplet")
    >>> round(float(loss([[1, 0, 0]], [[0.8, 0.5, 0.1]])), 4)  # (-.3 + .5) + 0
    0.2
    """

    # Whether the scores are meant to be cosines.
    takes_cosines = False
    # Whether XLA compiles the arithmetic in a graph of TensorFlow.
    jit_compile = True
    # Whether the loss takes a threshold of each row, and the one of rows that come without.
    needs_threshold = False
    threshold = None

    def __init__(
        self,
        max_positives: int = 1,
        reduction: str | None = "sum",
        name: str | None = None,
        dtype: DType = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=_at_least_float32(dtype))
        self.max_positives = check_count("max_positives", max_positives)
        self._has_warned = False

    @abc.abstractmethod
    def compare(self, row: Row) -> Channel | tuple[Channel, ...]:
        """Says how negatives are compared with the positive of their row.

        Args:
            row: A `Row`.

        Returns:
            A `Channel` or a tuple of them. Their coefficients are constants to the gradient.
        """

    @abc.abstractmethod
    def aggregate(self, totals: tuple, row: Row) -> Any:
        """Makes the loss of each row from its channels, reduced over the negatives.

        Args:
            totals: For each channel of `compare` its total, `[num_queries, 1]`.
            row: A `Row`.

        Returns:
            The loss, `[num_queries, 1]`, which is differentiated in the totals and in s⁺; or an
            `Aggregate`, which brings its derivatives. Row by row: a mean over rows would be
            differentiated wrongly.
        """

    def default_weight(self, count):
        """v_j of negatives that come without weights: how many items each stands for.

        Args:
            count: The number of unmasked negatives, `[num_queries, 1]`.
        """
        return ops.ones_like(count)

    @traced_as_written
    def __call__(
        self,
        y_true: Array,
        y_pred: Array,
        sample_weight: Array | None = None,
        candidate_weight: Array | None = None,
        threshold: Array | None = None,
    ) -> Array:
        """Computes the loss.

        Args:
            y_true: `[num_queries, num_candidates]`, 1 at a row's positives, in any column, and 0
                elsewhere.
            y_pred: Scores `[num_queries, num_candidates]`.
            sample_weight: Weights of the rows, `[num_queries]` or `[num_queries, 1]`. Of shape
                `[num_queries, num_candidates]` it is taken as `candidate_weight`, so that Keras's
                `fit` can bring one.
            candidate_weight: v_j ≥ 0, `[num_queries, num_candidates]` or `[num_candidates]`: how
                many items each candidate stands for, 1/(M·p_j) if M negatives were drawn with
                probabilities p_j. What stands at positives and masked candidates does not count.
            threshold: β of the rows, `[num_queries]` or `[num_queries, 1]`, in units of `y_pred`:
                the score at which the query's top K ends. Losses without `needs_threshold` do not
                look at it.

        Returns:
            The loss, a scalar under a reduction and `[num_queries]` without.

        Raises:
            ValueError: If shapes do not fit, if the loss needs thresholds and there are none or,
                in an eager call, if a value is out of range.
        """
        # Keras itself would take nested lists for structures of scalars.
        y_true, y_pred = as_tensor(y_true, rank=2), as_tensor(y_pred, rank=2)
        check_shapes(y_true, y_pred)
        num_queries, num_candidates = y_pred.shape
        if sample_weight is not None:
            sample_weight = as_numbers("sample_weight", sample_weight, self.dtype)
            if not is_ranked(sample_weight):
                sample_weight = rows_of_unknown_rank(
                    "sample_weight", sample_weight, ops.shape(y_pred)[0]
                )
            is_matrix = fits(sample_weight, (num_queries, num_candidates))
            if is_matrix and sample_weight.shape[1] != 1:
                if candidate_weight is not None:
                    raise ValueError(
                        "`sample_weight` must be of shape [num_queries] where there is a "
                        f"`candidate_weight`. Received: shape {tuple(sample_weight.shape)}"
                    )
                candidate_weight, sample_weight = sample_weight, None
            else:
                check_shape("sample_weight", sample_weight, (), (num_queries,), (num_queries, 1))
        if candidate_weight is not None:
            candidate_weight = as_numbers("candidate_weight", candidate_weight, self.dtype)
            candidate_weight = broadcast_unranked(candidate_weight, ops.shape(y_pred))
            shapes = (num_candidates,), (num_queries, num_candidates)
            check_shape("candidate_weight", candidate_weight, *shapes)
        # Keras hands on `y_true` alone, in any structure.
        y_true = {
            "labels": y_true,
            "weight": candidate_weight,
            "threshold": None if threshold is None else as_tensor(threshold),
            "sample_weight": sample_weight,
        }
        y_true = {name: x for name, x in y_true.items() if x is not None}
        losses = super().__call__(y_true, y_pred, sample_weight=sample_weight)
        if num_queries == 0 and self.reduction not in (None, "none"):
            # Keras does not reduce what is empty.
            return ops.sum(losses)
        return losses

    def get_config(self):
        return {
            **super().get_config(),
            "max_positives": self.max_positives,
            "dtype": self.dtype,
        }

    def call(self, y_true, y_pred):
        """The losses `[num_queries]` that `__call__` reduces.

        Args:
            y_true: The labels, or a dict of `labels` and maybe `weight` of the candidates,
                `threshold` of the rows, and `sample_weight`, which is only checked here.
            y_pred: Scores `[num_queries, num_candidates]`.
        """
        given = dict(y_true) if isinstance(y_true, dict) else {"labels": y_true}
        threshold = self.threshold_of_rows(given.pop("threshold", None), y_pred.shape[0])
        check_values(self, **given, threshold=threshold, scores=y_pred, masked_score=MASKED_SCORE)
        given.pop("sample_weight", None)
        y_pred = at_least_one(y_pred, 1, MASKED_SCORE)
        given = {name: at_least_one(x, len(x.shape) - 1) for name, x in given.items()}
        if threshold is not None:
            given["threshold"] = threshold
        names = tuple(given)

        def of_matrix(scores, *values):
            """The losses `[num_queries]`, and the pullback to the scores."""
            losses, *slopes = compiled(self._losses_and_slopes, self.jit_compile)(
                scores, **dict(zip(names, values, strict=True))
            )
            pullback = compiled(_gradient_of_matrix, self.jit_compile)
            return losses, lambda upstream: (pullback(upstream, *slopes),)

        return with_gradient(of_matrix, (y_pred,), tuple(given.values()))

    def threshold_of_rows(self, threshold, num_queries):
        """The thresholds of a call as the loss takes them.

        Args:
            threshold: `[num_queries]` or `[num_queries, 1]`, or None.
            num_queries: Their number, None if it is not known.

        Returns:
            `[num_queries, 1]`; None where the loss needs none or has one for all rows.

        Raises:
            ValueError: If the loss needs them and there are none, or a shape does not fit.
        """
        if not self.needs_threshold:
            return None
        if threshold is None:
            if self.threshold is None:
                loss = type(self).__name__
                raise ValueError(
                    f"`threshold` must be given to {loss}: of each query the score at which its "
                    "top K ends, [num_queries]. RetrievalModel(thresholds=Thresholds(...)) keeps "
                    f"one of each user, {loss}(threshold=...) has one for all. Received: None"
                )
            return None
        threshold = as_tensor(threshold, dtype=self.dtype)
        check_shape("threshold", threshold, (num_queries,), (num_queries, 1))
        return ops.reshape(threshold, (-1, 1))

    def _losses_and_slopes(self, scores, labels, weight=None, threshold=None):
        absent = is_masked(scores)
        is_positive = ops.where(absent, False, labels > 0)
        is_negative = ops.where(absent, False, labels <= 0)
        found, columns = self._find_positives(is_positive)
        return *self.value_and_slopes(
            scores,
            ops.take_along_axis(scores, columns, axis=1),
            found,
            is_negative,
            weight,
            ops.ones_like(scores[:, :1]),
            threshold,
        ), ops.where(found, columns, -1)

    def _find_positives(self, is_positive):
        """Up to `max_positives` of each row: whether there is one, and its column."""
        num_candidates = is_positive.shape[1]
        if self.max_positives == 1:
            # An argmax is slow under XLA on a CPU.
            width = ops.shape(is_positive)[1]
            first = -row_max(ops.where(is_positive, -ops.arange(width, dtype="int32"), -width))
            return first < width, ops.where(first < width, first, 0)
        is_positive = ops.cast(is_positive, self.dtype)
        if num_candidates is None:
            # There may be fewer candidates than that.
            is_positive = ops.pad(is_positive, [[0, 0], [0, self.max_positives]])
        slots = min(self.max_positives, num_candidates or self.max_positives)
        found, columns = ops.top_k(is_positive, slots)
        return found > 0, ops.where(found > 0, columns, 0)

    def value_and_slopes(
        self, scores, positives, found, is_negative, weight, row_weight, threshold=None
    ):
        """The loss of each row and its slopes, the mean over the row's positives.

        The same over a whole score matrix, over a block of it, or over the candidates of all
        replicas.

        Args:
            scores: `[num_queries, num_candidates]`.
            positives: The scores of the rows' positives, `[num_queries, max_positives]`.
            found: Which of these a row has, bool `[num_queries, max_positives]`.
            is_negative: Which candidates are negatives, bool `[num_queries, num_candidates]`.
            weight: v_j of the candidates, of a shape that broadcasts, or None. A weight of 0 makes
                a candidate absent.
            row_weight: A factor of the results, `[num_queries, 1]`. Where it is 0, so are they.
            threshold: What `threshold_of_rows` gave.

        Returns:
            The losses `[num_queries]`; ∂loss/∂s_j as a factor of the row `[num_queries, 1]` and a
            matrix `[num_queries, num_candidates]`, 0 at candidates that are no negatives, kept
            apart so that the factor can be multiplied into embeddings instead; and ∂loss/∂s⁺
            `[num_queries, max_positives]`.
        """
        if weight is not None:
            is_negative = ops.where(weight <= 0, False, is_negative)
        count = row_sum(ops.cast(is_negative, scores.dtype))
        has_loss = ops.logical_and(found, count > 0)
        # A row of none has a weight of 0 below; there the count only has to stay finite.
        count = ops.where(count > 0, count, 1)
        num_positives = ops.sum(ops.cast(found, scores.dtype), axis=1, keepdims=True)
        share = ops.where(has_loss, row_weight / ops.where(num_positives > 0, num_positives, 1), 0)
        positives = ops.where(has_loss, positives, 0)
        if self.needs_threshold and threshold is None:
            threshold = self.threshold * ops.ones_like(count)

        losses, by_negative, by_positive = 0.0, [], []
        for slot in range(positives.shape[1]):
            positive = positives[:, slot : slot + 1]
            loss, slopes, positive_slope = self._of_one_positive(
                scores,
                positive,
                is_negative,
                count,
                weight,
                share[:, slot : slot + 1],
                threshold,
            )
            losses = losses + loss
            by_negative += slopes
            by_positive.append(positive_slope)
        if len(by_negative) != 1:
            products = (factor * matrix for factor, matrix in by_negative)
            by_negative = [(ops.ones_like(count), sum(products, ops.zeros_like(scores)))]
        return losses[:, 0], *by_negative[0], ops.concatenate(by_positive, axis=1)

    def _of_one_positive(
        self, negative, positive, is_negative, count, weight, row_weight, threshold
    ):
        """As `value_and_slopes` for one positive a row: where `compare` and `aggregate` meet.

        ∂loss/∂s_j comes as a list of factors and matrices, one for each channel that the loss
        descends along.
        """
        # A factor common to the row is kept out of the matrix.
        if weight is None:
            scale = self.default_weight(count)
            weight_sum = scale * count
        else:
            scale = row_max(ops.where(is_negative, weight, 0))
            # XLA may multiply by the reciprocal, which must not underflow.
            scale = ops.where(scale > 0, ops.where(scale < 1e36, scale, 1e36), 1)
            weight = weight / scale
            weight_sum = scale * row_sum(ops.where(is_negative, weight, 0))
            weight_sum = ops.where(weight_sum > 0, weight_sum, 1)
        row = Row(positive, count, weight_sum, threshold)

        channels = self.compare(row)
        if isinstance(channels, Channel):
            channels = (channels,)
        if weight is not None:
            self._check_that_it_weighs(channels)
        reductions = [
            reduced(channel, channel.argument(negative, positive), is_negative, weight, scale)
            for channel in channels
        ]
        totals = tuple(total for total, _ in reductions)
        value, slopes, positive_slope = self._aggregated(channels, totals, row, row_weight)

        def weighed(x):
            return ops.where(ops.not_equal(row_weight, 0), row_weight * x, 0)

        descending = [
            (channel, slopes_in_x)
            for channel, (_, slopes_in_x) in zip(channels, reductions, strict=True)
            if not channel.is_reported
        ]
        by_negative, by_positive = [], weighed(positive_slope)
        for (channel, slopes_in_x), slope in zip(descending, slopes, strict=True):
            factor, matrix = slopes_in_x()
            factor = factor * weighed(slope)
            by_negative.append((channel.scale * factor, matrix))
            if channel.positive_slope is not None:
                by_positive = by_positive + channel.positive_slope * factor * row_sum(matrix)
        return weighed(value), by_negative, by_positive

    def _aggregated(self, channels, totals, row, row_weight):
        """The `Aggregate` of the totals, differentiated if the loss gives its value alone."""
        result = self.aggregate(totals, row)
        if isinstance(result, Aggregate):
            return result
        _check_column(type(self).__name__, result, row.positive)
        # In a row without a loss a logarithm of 0 would make the second derivative NaN.
        totals = tuple(ops.where(ops.equal(row_weight, 0), 1, total) for total in totals)
        places = [i for i, channel in enumerate(channels) if not channel.is_reported]

        def value_of(positive, *inputs):
            mixed = dict(enumerate(totals)) | dict(zip(places, inputs, strict=True))
            return self.aggregate(tuple(mixed.values()), row._replace(positive=positive))

        inputs = (row.positive, *(totals[i] for i in places))
        value, (positive_slope, *slopes) = value_and_derivatives(value_of, inputs)
        return Aggregate(value, tuple(slopes), positive_slope)

    def _check_that_it_weighs(self, channels):
        if not any(x.is_weighed and x.reduction() != "max" for x in channels):
            raise ValueError(
                f"`candidate_weight` must be None for {type(self).__name__}, which has no sum over "
                "candidates to weigh. Received: weights. `score_mask` leaves candidates out"
            )


def _check_column(name, value, column):
    """Raises unless the value of an `aggregate` has a number a row."""
    if not fits(value, (column.shape[0], 1)):
        raise ValueError(
            f"`aggregate` of {name} must give a loss per row, [num_queries, 1], and no sum or mean "
            f"over rows. Received: shape {tuple(value.shape)}"
        )


def _gradient_of_matrix(upstream, factor, matrix, by_positive, columns):
    """The gradient in a score matrix, from what `value_and_slopes` says of it."""
    upstream = ops.expand_dims(upstream, axis=1)
    gradient = upstream * factor * matrix
    places = ops.arange(ops.shape(matrix)[1], dtype=columns.dtype)
    for slot in range(columns.shape[1]):
        here = ops.equal(places, columns[:, slot : slot + 1])
        gradient = ops.where(here, upstream * by_positive[:, slot : slot + 1], gradient)
    return gradient


def is_masked(scores):
    """Which candidates are absent by their score."""
    # "unless at or below", so that a NaN score counts as present and shows. Users of it take
    # `where`, since TensorFlow's optimizer takes not (a <= b) for a > b.
    return scores <= MASKED_SCORE


def _at_least_float32(dtype):
    """A dtype or policy as the name of a dtype of 32 bits or more."""
    if dtype is None:
        dtype = keras.config.floatx()
    if not isinstance(dtype, str | keras.DTypePolicy):
        dtype = keras.backend.standardize_dtype(dtype)
    compute_dtype = keras.dtype_policies.get(dtype).compute_dtype
    if compute_dtype in ("float16", "bfloat16"):
        return "float32"
    if compute_dtype not in ("float32", "float64"):
        raise ValueError(f"`dtype` must be a floating-point type. Received: {dtype!r}")
    return compute_dtype
