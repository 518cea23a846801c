"""What every retrieval loss shares: the positives, the masks, the reduction over negatives."""

import abc
import numbers
from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
from keras import ops

from tfrs_croloss._arguments import check_count
from tfrs_croloss._typing import Array, DType
from tfrs_croloss.losses.channels import CANDIDATE_WEIGHT, Channel, as_channels, reduced
from tfrs_croloss.losses.checks import (
    as_numbers,
    as_weight,
    by_name,
    check_inputs,
    check_one_of_both,
    check_rows_alone,
    check_shape,
    check_shapes,
    check_values,
    name_of_weight,
)
from tfrs_croloss.losses.differentiation import (
    compiled,
    traced_as_written,
    value_and_derivatives,
    with_gradient,
)
from tfrs_croloss.losses.reductions import row_max, row_sum
from tfrs_croloss.losses.structures import Rows, flattened
from tfrs_croloss.losses.tensors import (
    at_least_one,
    fits,
    is_ranked,
    rows_of_unknown_rank,
)

# A score at or below this is absent, not very negative: TFRS writes float32's minimum / 100 into
# the scores it masks, others write -inf.
MASKED_SCORE = -1e30


# What calls of a loss, of `embedding_loss` and of the task, and batches of a model, have as names.
TAKEN_NAMES = {
    "max_positives",
    "name",
    "dtype",
    "scores",
    "labels",
    "weights",
    "inputs",
    "masked_score",
    "block_size",
    "candidate_features",
    "candidate_ids",
    "candidate_weight",
    "candidates",
    "item",
    "known_positive_ids",
    "known_positives",
    "loss",
    "num_hard_negatives",
    "own",
    "pooling_weight",
    "positive_ids",
    "positive_index",
    "positive_weight",
    "positives",
    "queries",
    "query",
    "reduction",
    "row_features",
    "sample_weight",
    "score_mask",
    "self",
    "y_pred",
    "y_true",
}


class Row(NamedTuple):
    """What a loss knows of each row besides its negatives; entries are `[num_queries, 1]`.

    Attributes:
        positive: s⁺, the score of the positive.
        count: n, the number of unmasked negatives, at least 1.
        num_items: Σ_j v_j, how many items the negatives stand for.
        inputs: What the loss's `row_inputs` name, by name. Constants to the gradient.
    """

    positive: Any
    count: Any
    num_items: Any
    inputs: dict[str, Any]


class RowInput(NamedTuple):
    """What a loss wants to know of each row: a number that calls bring by its name.

    Attributes:
        name: The name of the argument.
        is_score: Whether it is in units of the scores, so that a task's temperature divides it too.
        hint: A sentence for the error where it is missing or not finite, with what to do.

    Example:

    >>> from tfrs_croloss.losses import Channel, Hinge, RetrievalLoss, RowInput
    >>> class Triplet(RetrievalLoss):
    ...     row_inputs = (RowInput("margin"),)
    ...
    ...     def compare(self, row):
    ...         return Channel(Hinge(0.0), shift=row.inputs["margin"])
    ...
    ...     def aggregate(self, totals, row):
    ...         return totals[0]
    >>> loss = Triplet()
    >>> round(float(loss([[1, 0, 0]], [[0.8, 0.5, 0.1]], margin=[0.5])), 4)  # (-.3 + .5) + 0
    0.2
    """

    name: str
    is_score: bool = False
    hint: str = ""


class Aggregate(NamedTuple):
    """The loss of each row with its derivatives, where these are more exact by hand.

    Attributes:
        value: `[num_queries, 1]`, the loss.
        slopes: ∂loss/∂total, `[num_queries, 1]` or a number, for each channel that is not
            `is_reported`.
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

    where `row` has s⁺, n, Σ_j v_j and what else is known of the row. A subclass gives these two:
    `compare` makes one or more `Channel`s, `aggregate` the loss from their totals S. This class
    owns the rest:

    - Masks: scores at or below -1e30 (TFRS's masks, -inf) are absent. A row with no positive, with
      a masked positive or without an unmasked negative contributes exactly 0, and gradient 0.
    - Several positives: the loss of a row is the mean over its positives, each against the row's
      negatives alone. The mean may have weights, or the positives be pooled into one score.
    - Candidate weights: v_j is 1 (`default_weight`) unless a call brings weights. A channel may ask
      for others by name.
    - Inputs of the rows, e.g. a threshold, for a loss that names them in `row_inputs`. If the loss
      has an attribute of that name, it is the value for calls that bring none.
    - The gradient, put together from the derivatives of `aggregate` and of the kernels, so a loss
      may report one channel and descend along another (the Lambda method). On PyTorch it is
      differentiable once.
    - Empty batches: the loss of no rows is 0, under a mean too.
    - Errors: an eager call raises on scores that are NaN or +inf, on labels other than 0 and 1, on
      more positives than `max_positives`, on weights that are negative or not finite, and on inputs
      of the rows that are not finite. Compiled code (and JAX's vmap) checks shapes alone: NaN then
      stays in its row, and of too many positives the first count.

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
    # What the loss wants to know of each row.
    row_inputs: tuple[RowInput, ...] = ()

    def __init__(
        self,
        max_positives: int = 1,
        reduction: str | None = "sum",
        name: str | None = None,
        dtype: DType = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=_at_least_float32(dtype))
        self.max_positives = check_count("max_positives", max_positives)
        _check_row_inputs(type(self).__name__, self.row_inputs)
        self._has_warned = False
        self._gives_values = False

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
            `Aggregate`, which brings its derivatives. A row's loss must depend on its own totals
            alone: what mixes rows, such as a mean over them, would be differentiated wrongly.
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
        candidate_weight: Array | Mapping[str, Array] | None = None,
        *,
        positive_weight: Array | None = None,
        pooling_weight: Array | None = None,
        **row_inputs: Array,
    ) -> Array:
        """Computes the loss.

        Args:
            y_true: `[num_queries, num_candidates]`, 1 at a row's positives, in any column, and 0
                elsewhere.
            y_pred: Scores `[num_queries, num_candidates]`.
            sample_weight: Weights of the rows, `[num_queries]` or `[num_queries, 1]`.
            candidate_weight: v_j ≥ 0, `[num_queries, num_candidates]` or `[num_candidates]`: how
                many items each candidate stands for, 1/(M·p_j) if M negatives were drawn with
                probabilities p_j. What stands at positives and masked candidates does not count.
                For a loss that takes weights of other names, a dict of them; these are then its
                `"candidate"`.
            positive_weight: Weights of a row's positives in the mean of their losses,
                `[num_queries, num_candidates]`, read at the positives. Constant to the gradient.
            pooling_weight: Likewise, but the positives of a row are pooled into one. Its score is
                the mean of theirs under these weights, and it has one loss.
            **row_inputs: What the loss wants to know of each row, `[num_queries]` or
                `[num_queries, 1]`, by the names in its `row_inputs`, e.g. `threshold`.

        Returns:
            The loss, a scalar under a reduction and `[num_queries]` without.

        Raises:
            ValueError: If shapes do not fit, if an input of the rows is missing or not asked for,
                if weights have names that the loss does not take or, in an eager call, if a value
                is out of range.
        """
        # Keras itself would take nested lists for structures of scalars.
        y_true, y_pred = as_numbers("y_true", y_true, rank=2), as_numbers("y_pred", y_pred, rank=2)
        check_shapes(y_true, y_pred)
        num_queries, num_candidates = y_pred.shape
        for name, weight in by_name(candidate_weight).items():
            if callable(weight):
                raise ValueError(
                    f"`{name_of_weight(name)}` must be an array where the scores are given: "
                    f"functions of features are for `embedding_loss`. Received: {weight!r}"
                )
        weights = {
            name: as_weight(name_of_weight(name), weight, y_pred, self.dtype, (num_candidates,))
            for name, weight in by_name(candidate_weight).items()
        }
        of_positives = {"positive_weight": positive_weight, "pooling_weight": pooling_weight}
        check_one_of_both(**of_positives)
        for name, weight in of_positives.items():
            if weight is not None:
                of_positives[name] = as_weight(name, weight, y_pred, self.dtype)
        if sample_weight is not None:
            sample_weight = as_numbers("sample_weight", sample_weight, self.dtype)
            if not is_ranked(sample_weight):
                sample_weight = rows_of_unknown_rank(
                    "sample_weight", sample_weight, ops.shape(y_pred)[0]
                )
            check_rows_alone(sample_weight, num_queries)
        # Keras hands on `y_true` alone, in any structure.
        given = {
            "labels": y_true,
            "weights": weights,
            **of_positives,
            "inputs": self.inputs_of_rows(row_inputs, num_queries),
            "sample_weight": sample_weight,
        }
        given = {name: x for name, x in given.items() if x is not None}
        losses = super().__call__(given, y_pred, sample_weight=sample_weight)
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
            y_true: The labels, or a dict of `labels` and of what else `__call__` takes.
            y_pred: Scores `[num_queries, num_candidates]`.
        """
        if not isinstance(y_true, dict):
            y_true = {"labels": y_true, "inputs": self.inputs_of_rows({}, y_pred.shape[0])}
        given = dict(y_true)
        inputs = given.pop("inputs", {})
        check_values(self, y_pred, masked_score=MASKED_SCORE, **given)
        given.pop("sample_weight", None)
        y_pred = at_least_one(y_pred, 1, MASKED_SCORE)
        given = keras.tree.map_structure(lambda x: at_least_one(x, len(x.shape) - 1), given)
        constants, put = flattened({**given, "inputs": inputs})

        def of_matrix(scores, *constants):
            """The losses `[num_queries]`, and the pullback to the scores."""
            losses, *slopes = compiled(self._losses_and_slopes, self.jit_compile)(
                scores, **put(constants)
            )
            pullback = compiled(_gradient_of_matrix, self.jit_compile)
            return losses, lambda upstream: (pullback(upstream, *slopes),)

        return with_gradient(of_matrix, (y_pred,), tuple(constants))

    def inputs_of_rows(self, given, num_queries):
        """The `row_inputs` that a call brings, by name, each `[num_queries, 1]`.

        One that it does not bring is left out if the loss has an attribute of that name, which is
        then the value of all rows.

        Args:
            given: A dict of `[num_queries]` or `[num_queries, 1]`.
            num_queries: Their number, None if it is not known.

        Raises:
            ValueError: If one is missing, a name is unknown, a shape does not fit or, in an eager
                call, if one is NaN or inf.
        """
        names = [wanted.name for wanted in self.row_inputs]
        for name, x in given.items():
            if name not in names and x is not None:
                raise ValueError(
                    f"`{name}` must be left out: {type(self).__name__} wants "
                    f"{' and '.join(names) or 'nothing'} of the rows. Received: {name}"
                )
        inputs = {}
        for wanted in self.row_inputs:
            x = given.get(wanted.name)
            if x is not None:
                x = as_numbers(wanted.name, x, self.dtype)
                check_shape(wanted.name, x, (num_queries,), (num_queries, 1))
                inputs[wanted.name] = ops.reshape(x, (-1, 1))
            elif getattr(self, wanted.name, None) is None:
                raise ValueError(
                    f"`{wanted.name}` must be given to {type(self).__name__}, [num_queries]"
                    f"{wanted.hint and '. '}{wanted.hint}. Received: None"
                )
        check_inputs(inputs, {wanted.name: wanted.hint for wanted in self.row_inputs})
        return inputs

    def _losses_and_slopes(
        self, scores, labels, inputs, weights=None, positive_weight=None, pooling_weight=None
    ):
        absent = is_masked(scores)
        is_positive = ops.where(absent, False, labels > 0)
        is_negative = ops.where(absent, False, labels <= 0)
        has_positive, columns = self._find_positives(is_positive)

        def at_positives(x):
            return None if x is None else ops.take_along_axis(x, columns, axis=1)

        rows = Rows(
            ops.ones_like(scores[:, :1]),
            has_positive,
            at_positives(positive_weight),
            at_positives(pooling_weight),
            inputs,
        )
        found = self.value_and_slopes(
            scores, at_positives(scores), is_negative, weights or {}, rows
        )
        return *found, ops.where(has_positive, columns, -1)

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
        has_positive, columns = ops.top_k(is_positive, slots)
        return has_positive > 0, ops.where(has_positive > 0, columns, 0)

    def value_and_slopes(self, scores, positives, is_negative, weights, rows):
        """The loss of each row and its slopes, the mean over the row's positives.

        The same over a whole score matrix, over a block of it, or over the candidates of all
        replicas.

        Args:
            scores: `[num_queries, num_candidates]`.
            positives: The scores of the rows' positives, `[num_queries, max_positives]`.
            is_negative: Which candidates are negatives, bool `[num_queries, num_candidates]`.
            weights: Weights of the candidates by name, of shapes that broadcast with the scores.
                One of 0 under `"candidate"` makes a candidate absent.
            rows: The `Rows`.

        Returns:
            The losses `[num_queries]`; ∂loss/∂s_j as a factor of the row `[num_queries, 1]` and a
            matrix `[num_queries, num_candidates]`, 0 at candidates that are not negatives, kept
            apart so that the factor can be multiplied into embeddings instead; and ∂loss/∂s⁺
            `[num_queries, max_positives]`.
        """
        if CANDIDATE_WEIGHT in weights:
            is_negative = ops.where(weights[CANDIDATE_WEIGHT] <= 0, False, is_negative)
        count = row_sum(ops.cast(is_negative, scores.dtype))
        share = _shares(rows, scores.dtype)
        has_loss = ops.logical_and(share > 0, count > 0)
        # A row of none has a weight of 0 below; there the count only has to stay finite.
        count = ops.where(count > 0, count, 1)
        positives = ops.where(has_loss, positives, 0)
        inputs = {
            name: rows.inputs[name] if name in rows.inputs else getattr(self, name) + 0 * count
            for name, *_ in self.row_inputs
        }
        # A factor common to the row is kept out of the matrix.
        scaled = {name: _scaled(weight, is_negative) for name, weight in weights.items()}
        num_items = self._num_items(scaled, is_negative, count)

        def of_one(positive, row_weight):
            row = Row(positive, count, num_items, inputs)
            return self._of_one_positive(scores, is_negative, scaled, row, row_weight)

        if rows.pooling_weight is not None:
            share = ops.where(has_loss, share, 0)
            has_any = ops.any(has_loss, axis=1, keepdims=True)
            loss, by_negative, slope = of_one(
                ops.sum(share * positives, axis=1, keepdims=True),
                ops.where(has_any, rows.weight, 0),
            )
            losses, by_positive = loss, share * slope
        else:
            share = ops.where(has_loss, rows.weight * share, 0)
            losses, by_negative, slopes = 0.0, [], []
            for slot in range(positives.shape[1]):
                here = slice(slot, slot + 1)
                loss, more, slope = of_one(positives[:, here], share[:, here])
                losses = losses + loss
                by_negative += more
                slopes.append(slope)
            by_positive = ops.concatenate(slopes, axis=1)
        if len(by_negative) != 1:
            products = (factor * matrix for factor, matrix in by_negative)
            by_negative = [(ops.ones_like(count), sum(products, ops.zeros_like(scores)))]
        return losses[:, 0], *by_negative[0], by_positive

    def _of_one_positive(self, scores, is_negative, scaled, row, row_weight):
        """As `value_and_slopes` for one positive a row: where `compare` and `aggregate` meet.

        ∂loss/∂s_j comes as a list of factors and matrices, one for each channel that the loss
        descends along.
        """
        channels = as_channels(self.compare(row), type(self).__name__, row.count)
        self._check_names(channels, scaled)
        # Where several channels have one x, an eager call makes it once.
        arguments = {}
        for channel in channels:
            if channel.coefficients not in arguments:
                arguments[channel.coefficients] = channel.argument(scores, row.positive)
        reductions = [
            reduced(
                channel,
                arguments[channel.coefficients],
                is_negative,
                *self._weighing(channel, scaled, row.count),
            )
            for channel in channels
        ]
        totals = tuple(total for total, _ in reductions)
        has_loss = ops.not_equal(row_weight, 0)
        value, slopes, positive_slope = self._aggregated(channels, totals, row, has_loss)
        self._check_aggregate(channels, value, slopes, positive_slope, row.count)

        def weighed(x):
            return ops.where(has_loss, row_weight * x, 0)

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

    def _num_items(self, scaled, is_negative, count):
        """Σ_j v_j: how many items the negatives of a row stand for."""
        if CANDIDATE_WEIGHT not in scaled:
            return self.default_weight(count) * count
        weight, scale = scaled[CANDIDATE_WEIGHT]
        num_items = scale * row_sum(ops.where(is_negative, weight, 0))
        return ops.where(num_items > 0, num_items, 1)

    def _weighing(self, channel, scaled, count):
        """The weights of a channel, None for 1, and their factor of the row."""
        weight = scale = None
        for name in channel.weight_names:
            if name in scaled:
                more, factor = scaled[name]
                weight = more if weight is None else weight * more
            else:
                factor = self.default_weight(count)
            scale = factor if scale is None else scale * factor
        return weight, ops.ones_like(count) if scale is None else scale

    def _aggregated(self, channels, totals, row, has_loss):
        """The `Aggregate` of the totals, differentiated if the loss gives its value alone."""
        if not self._gives_values:
            result = self.aggregate(totals, row)
            if isinstance(result, Aggregate):
                return result
            # From now on an eager call computes it once, unless it brings slopes after all.
            self._gives_values = True
        # In a row without a loss a logarithm of 0 would make the second derivative NaN.
        totals = tuple(ops.where(has_loss, total, 1) for total in totals)
        places = [i for i, channel in enumerate(channels) if not channel.is_reported]

        def value_of(positive, *inputs):
            mixed = dict(enumerate(totals)) | dict(zip(places, inputs, strict=True))
            result = self.aggregate(tuple(mixed.values()), row._replace(positive=positive))
            if isinstance(result, Aggregate):
                self._gives_values, result = False, result.value
            _check_column(f"`aggregate` of {type(self).__name__}", result, positive)
            return result

        inputs = (row.positive, *(totals[i] for i in places))
        value, (positive_slope, *slopes) = value_and_derivatives(value_of, inputs)
        if not self._gives_values:
            return self.aggregate(totals, row)
        return Aggregate(value, tuple(slopes), positive_slope)

    def _check_aggregate(self, channels, value, slopes, positive_slope, column):
        """Raises where an `Aggregate` is not made of a number per row for each of its parts."""
        of = f"of the Aggregate of {type(self).__name__}"
        num_descending = sum(not channel.is_reported for channel in channels)
        if len(slopes) != num_descending:
            raise ValueError(
                f"`slopes` {of} must be one for each channel that is not `is_reported`, "
                f"{num_descending}. Received: {len(slopes)}"
            )
        _check_column(f"`value` {of}", value, column)
        for name, x in [("positive_slope", positive_slope), *(("slopes", x) for x in slopes)]:
            if not isinstance(x, numbers.Real):
                _check_column(f"`{name}` {of}", x, column)

    def _check_names(self, channels, weights):
        """Raises where weights are given that no channel takes, or a channel's are missing."""
        taken = {name for channel in channels for name in channel.weight_names}
        loss = type(self).__name__
        for name in weights:
            if not taken:
                raise ValueError(
                    f"`candidate_weight` must be None for {loss}, which has no sum over candidates "
                    "to weigh. Received: weights. `score_mask` leaves candidates out"
                )
            if name not in taken:
                raise ValueError(
                    f"`candidate_weight` must hold weights for {loss} of the name "
                    f"{' or '.join(map(repr, sorted(taken)))}. Received: {name!r}"
                )
        for name in sorted(taken - {CANDIDATE_WEIGHT} - set(weights)):
            raise ValueError(
                f"`candidate_weight` must be a dict with the weights {name!r} for {loss}. "
                f"Received: {', '.join(sorted(weights)) or 'none'}"
            )


def _shares(rows, dtype):
    """What each positive counts for among those of its row, `[num_queries, max_positives]`."""
    counts = ops.cast(rows.has_positive, dtype)
    for weight in (rows.positive_weight, rows.pooling_weight):
        if weight is not None:
            counts = ops.where(rows.has_positive, weight, 0)
    total = ops.sum(counts, axis=1, keepdims=True)
    return counts / ops.where(total > 0, total, 1)


def _scaled(weight, is_negative):
    """Weights over the largest of their row, and that."""
    scale = row_max(ops.where(is_negative, weight, 0))
    # XLA may multiply by the reciprocal, which must not underflow.
    scale = ops.where(scale > 0, ops.where(scale < 1e36, scale, 1e36), 1)
    return weight / scale, scale


def _check_row_inputs(name, inputs):
    """Raises unless they are `RowInput`s, of names that calls and batches leave free."""
    is_tuple = isinstance(inputs, (tuple, list)) and not isinstance(inputs, RowInput)
    for wanted in inputs if is_tuple else (None,):
        if not isinstance(wanted, RowInput):
            raise ValueError(
                f'`row_inputs` of {name} must be a tuple, e.g. (RowInput("margin"),). '
                f"Received: {inputs!r}"
            )
        is_taken = wanted.name in TAKEN_NAMES or hasattr(RetrievalLoss, wanted.name)
        if is_taken or not wanted.name.isidentifier():
            raise ValueError(
                f"`name` of a RowInput must be a name that calls and batches have no other use "
                f"for. Received: {wanted.name!r}"
            )


def _check_column(what, value, column):
    """Raises unless it is a tensor with a number per row."""
    if not keras.ops.is_tensor(value):
        raise ValueError(
            f"{what} must be a tensor of keras.ops, of a number per row, [num_queries, 1]. "
            f"Received: {value!r:.100} ({type(value).__name__})"
        )
    # A mean over the rows of a graph that does not know their number would pass for one row.
    is_one = column.shape[0] is None and value.shape[:1] == (1,)
    if is_one or not fits(value, (column.shape[0], 1)):
        raise ValueError(
            f"{what} must have a number per row, [num_queries, 1], and be no sum or mean over "
            f"rows. Received: shape {tuple(value.shape)}"
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
