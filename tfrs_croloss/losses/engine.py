"""The losses straight from embeddings: the score matrix is never held."""

from typing import Literal

from keras import ops

from tfrs_croloss._arguments import check_count
from tfrs_croloss._typing import Array
from tfrs_croloss.losses.base import MASKED_SCORE, RetrievalLoss, is_masked
from tfrs_croloss.losses.blocks import into_blocks, out_of_blocks, sum_over_blocks
from tfrs_croloss.losses.checks import (
    as_ids,
    as_numbers,
    check_embeddings,
    check_numbers,
    check_shape,
)
from tfrs_croloss.losses.differentiation import compiled, traced_as_written, with_gradient
from tfrs_croloss.losses.membership import is_among, labels_of
from tfrs_croloss.losses.tensors import (
    as_tensor,
    at_least_one,
    broadcast_unranked,
    with_slots,
)

# Scores of a block under `block_size="auto"`: 8 MiB in float32, which caches hold, and rows
# enough for matrix products to be fast.
SCORES_OF_A_BLOCK = 2**21
ROWS_OF_A_BLOCK = (64, 512)

REDUCTIONS = ("auto", "sum", "sum_over_batch_size", "mean", "mean_with_sample_weight", "none", None)


@traced_as_written
def embedding_loss(
    loss: RetrievalLoss,
    queries: Array,
    candidates: Array,
    positive_index: Array | None = None,
    candidate_ids: Array | None = None,
    known_positive_ids: Array | None = None,
    candidate_weight: Array | None = None,
    sample_weight: Array | None = None,
    reduction: str | None = "auto",
    *,
    positives: Array | None = None,
    positive_ids: Array | None = None,
    score_mask: Array | None = None,
    num_hard_negatives: int | None = None,
    block_size: int | Literal["auto"] | None = "auto",
    threshold: Array | None = None,
) -> Array:
    """Computes a loss and its gradient from embeddings, a block of rows of scores at a time.

    ```
    loss(labels, queries @ candidates.T)
    ```

    in value and gradient, where `labels` has a 1 at each row's positives, and without the matrix:
    the memory grows with queries + candidates and not with their product. A block is compared
    while its scores are in cache, and its part of the gradient is summed up in the same pass:

    ```
    s = q @ C.T      g = row_weight · ∂loss/∂s      dq = g @ C      dC += g.T @ q
    ```

    So the weights of the rows and the reduction are inside. With `reduction=None` the scores are
    computed again in the backward pass. `queries`, `candidates` and `positives` are differentiated,
    once and backward; all else is constant, `sample_weight` too. All products are made in the
    dtype of the loss, float32 at least, under PyTorch's autocast too. No rows or no candidates
    have a loss of 0.

    Args:
        loss: A `RetrievalLoss`, whose own `max_positives` does not count here.
        queries: `[num_queries, dim]`, or `[num_queries, num_heads, dim]`: the score is then the
            best of the heads'.
        candidates: `[num_candidates, dim]`.
        positive_index: The candidate that is the positive of each query, `[num_queries]`, or
            several, `[num_queries, max_positives]`, each against the row's negatives alone; -1 for
            none. By default query i has candidate i.
        candidate_ids: `[num_candidates]` integers: other candidates with the id of a positive of
            the row are no negatives of it.
        known_positive_ids: `[num_queries, num_known]`, ids of items that are no negatives of the
            row either, its user's other positives say. Padded with an id that no item has, as -1.
        candidate_weight: v_j ≥ 0, `[num_candidates]` or `[num_queries, num_candidates]`: how many
            items each candidate stands for, see `CROLoss`; finite. 0 makes a candidate absent.
        sample_weight: Weights of the rows, `[num_queries]`, `[num_queries, 1]` or a number; finite
            and not negative.
        reduction: `"auto"` for that of the loss. Or `"sum"`, `"sum_over_batch_size"` or `"mean"`
            over the rows, `"mean_with_sample_weight"`, or None.
        positives: Instead of `positive_index`, embeddings `[num_queries, dim]` or
            `[num_queries, max_positives, dim]` of positives that are not among the candidates.
        positive_ids: Their ids, `[num_queries]` or `[num_queries, max_positives]`, so that
            candidates with the same are no negatives.
        score_mask: Bool, `[num_candidates]` or `[num_queries, num_candidates]`: False where a
            candidate is absent.
        num_hard_negatives: Compare with this many negatives of the highest scores alone.
        block_size: Rows of scores at a time. `"auto"` takes up to 512, or as many as hold two
            million scores but 64 at least; None takes all.
        threshold: β of the rows, `[num_queries]` or `[num_queries, 1]`, in units of the scores
            `queries @ candidates.T`, for a loss that needs one: see `SoftmaxLossAtK`.

    Returns:
        The loss, a scalar under a reduction and `[num_queries]` without.

    Raises:
        ValueError: If an argument has the wrong shape or is out of range, if there are known
            positives and no `candidate_ids`, if the loss needs thresholds and there are none or, in
            an eager call, if an embedding or a threshold is NaN or inf.

    Example:

    >>> import numpy as np
    >>> from tfrs_croloss import CROLoss, embedding_loss
    >>> queries, candidates = np.eye(2, 3), np.array([[1.0, 0, 0], [0, 0.5, 0], [0.2, 0, 1]])
    >>> loss = CROLoss()
    >>> round(float(embedding_loss(loss, queries, candidates)), 4)
    1.1883
    >>> round(float(loss(np.eye(2, 3), queries @ candidates.T)), 4)
    1.1883

    In a training step of Keras or JAX, with item ids and twice the negatives:

    ```python
    value = embedding_loss(
        CROLoss(lambda_kernel="sigmoid", temperature=0.1),
        user_tower(users),
        item_tower(ops.concatenate([items, negatives])),
        candidate_ids=ops.concatenate([items, negatives]),
    )
    ```
    """
    if not isinstance(loss, RetrievalLoss):
        raise ValueError(
            f"`loss` must be a RetrievalLoss, CROLoss or MultiMarginLoss say. Received: {loss!r}"
        )
    if reduction not in REDUCTIONS:
        raise ValueError(f"`reduction` must be one of {REDUCTIONS}. Received: {reduction!r}")
    if reduction == "auto":
        reduction = loss.reduction
    if num_hard_negatives is not None:
        num_hard_negatives = check_count("num_hard_negatives", num_hard_negatives)
    for name, ids in (("positive_ids", positive_ids), ("known_positive_ids", known_positive_ids)):
        if ids is not None and candidate_ids is None:
            raise ValueError(f"`candidate_ids` must be given with `{name}`. Received: None")
    if positives is not None and positive_index is not None:
        raise ValueError("`positives` and `positive_index` exclude each other. Received: both")
    if positive_index is not None:
        positive_index = as_ids("positive_index", positive_index)
    queries = as_tensor(queries, loss.dtype)
    candidates = as_tensor(candidates, loss.dtype, rank=2)
    if positives is not None:
        positives = with_slots(as_tensor(positives, loss.dtype), 3)
    check_embeddings(loss, queries, candidates, positives)
    queries = with_slots(queries, 3)
    num_queries, num_candidates = ops.shape(queries)[0], ops.shape(candidates)[0]
    threshold = loss.threshold_of_rows(threshold, queries.shape[0])
    if candidate_weight is not None:
        candidate_weight = as_numbers("candidate_weight", candidate_weight, loss.dtype)
    if sample_weight is not None:
        sample_weight = as_numbers("sample_weight", sample_weight, loss.dtype)
    check_numbers(
        positive_index,
        num_candidates,
        threshold,
        candidate_weight=candidate_weight,
        sample_weight=sample_weight,
    )
    one_a_candidate, one_a_score = candidates.shape[:1], (queries.shape[0], candidates.shape[0])
    candidates = at_least_one(candidates, 0)

    if positives is not None:
        check_shape("positives", positives, (queries.shape[0], None, queries.shape[2]))
        if score_mask is None and not (isinstance(num_candidates, int) and num_candidates > 0):
            # What stands in where there are no candidates is masked.
            score_mask = ops.ones((num_candidates,), dtype="bool")
        found = ops.ones(ops.shape(positives)[:2], dtype="bool")
    elif positive_index is None:
        is_known = isinstance(num_queries, int) and isinstance(num_candidates, int)
        if is_known and num_candidates < num_queries:
            raise ValueError(
                "`candidates` must hold a positive for each query, or `positive_index` say which "
                f"it is. Received: {num_candidates} candidates, {num_queries} queries"
            )
        positive_index = with_slots(ops.arange(num_queries, dtype="int32"), 2)
        positives = ops.expand_dims(candidates[:num_queries], axis=1)
        found = ops.ones_like(positive_index, dtype="bool")
    else:
        positive_index = with_slots(ops.cast(positive_index, "int32"), 2)
        check_shape("positive_index", positive_index, (queries.shape[0], None))
        found = positive_index >= 0
        positives = ops.take(candidates, ops.where(found, positive_index, 0), axis=0)
    if positives.shape[1] is None:
        raise ValueError(
            "`positive_index` and `positives` must have a known number of positives of a row. "
            "Received: a second dimension of None. Set it with tf.ensure_shape"
        )
    if candidate_ids is not None:
        candidate_ids = as_ids("candidate_ids", candidate_ids, rank=1)
        check_shape("candidate_ids", candidate_ids, one_a_candidate)
        candidate_ids = at_least_one(candidate_ids, 0)
    row_ids = []
    for name, ids in (("positive_ids", positive_ids), ("known_positive_ids", known_positive_ids)):
        if ids is not None:
            row_ids.append(with_slots(as_ids(name, ids), 2))
            check_shape(name, row_ids[-1], (queries.shape[0], None))
    labels, own_labels = labels_of(
        ops.shape(candidates)[0],
        positive_index,
        candidate_ids,
        ops.concatenate(row_ids, axis=1) if row_ids else None,
    )
    rows = {"row_weight": _row_weight(sample_weight, reduction, queries)}
    if threshold is not None:
        rows["threshold"] = threshold
    columns = {}
    if own_labels is not None:
        rows["own_labels"], columns["labels"] = own_labels, labels
    for name, value, dtype in (
        ("score_mask", score_mask, "bool"),
        ("candidate_weight", candidate_weight, loss.dtype),
    ):
        if value is not None:
            value = broadcast_unranked(as_tensor(value, dtype), (num_queries, num_candidates))
            check_shape(name, value, one_a_candidate, one_a_score)
            value = at_least_one(value, len(value.shape) - 1)
            (columns if len(value.shape) == 1 else rows)[name] = value
            if name == "score_mask" and positive_index is not None:
                # A masked positive is none.
                found = ops.logical_and(found, _at(value, positive_index))
    rows["found"] = found

    engine = _Engine(
        loss,
        num_hard_negatives,
        rows_of_a_block(block_size, num_queries, ops.shape(candidates)[0]),
        tuple(rows),
        tuple(columns),
    )
    return with_gradient(
        engine.losses if reduction in ("none", None) else engine.total,
        (queries, candidates, positives),
        (*rows.values(), *columns.values()),
        once=True,
    )


class _Engine:
    """A loss over blocks of rows of scores.

    Its methods take queries `[q, heads, dim]`, candidates `[c, dim]`, positives
    `[q, max_positives, dim]` and then what the names say: `rows`, whose first axis is that of the
    queries, and `columns` `[c]`.
    """

    def __init__(self, loss, num_hard_negatives, block_size, rows, columns):
        self.loss = loss
        self.num_hard_negatives = num_hard_negatives
        self.block_size = block_size
        self.rows = rows
        self.columns = columns

    def total(self, *tensors):
        """The sum of the losses of all rows, and its pullback to the embeddings."""
        losses, gradients = self._over_blocks(*tensors)
        return ops.sum(losses), lambda upstream: [upstream * x for x in gradients]

    def losses(self, *tensors):
        """The losses `[q]`, and their pullback to the embeddings, which computes all again."""
        losses, _ = self._over_blocks(*tensors, with_gradients=False)

        def pullback(upstream):
            *embeddings, row_weight = tensors[:4]
            row_weight = row_weight * ops.expand_dims(upstream, axis=1)
            return self._over_blocks(*embeddings, row_weight, *tensors[4:])[1]

        return losses, pullback

    def _over_blocks(self, queries, candidates, positives, *parts, with_gradients=True):
        rows, columns = parts[: len(self.rows)], parts[len(self.rows) :]
        columns = dict(zip(self.columns, columns, strict=True))
        losses_and_slopes = compiled(self._losses_and_slopes, self.loss.jit_compile)

        def block(queries, positives, *rows):
            flat = ops.reshape(queries, (-1, ops.shape(queries)[2]))
            # With @, since on PyTorch `ops.matmul` lowers float64 to float32.
            by_head = flat @ ops.transpose(candidates)
            by_head = ops.reshape(by_head, (*ops.shape(queries)[:2], ops.shape(candidates)[0]))
            own_by_head = ops.einsum("qhd,qpd->qhp", queries, positives)
            losses, factor, slopes, own_slopes = losses_and_slopes(
                _best(by_head),
                _best(own_by_head),
                **dict(zip(self.rows, rows, strict=True)),
                **columns,
            )
            if not with_gradients:
                return (), (losses,)
            slopes, own_slopes = _to_heads(slopes, by_head), _to_heads(own_slopes, own_by_head)
            flat_slopes = ops.reshape(slopes, (-1, ops.shape(candidates)[0]))
            # The factor of the row joins what is small: embeddings, not scores.
            factor = ops.expand_dims(factor, axis=2)
            by_query = factor * ops.reshape(flat_slopes @ candidates, ops.shape(queries))
            by_query += ops.einsum("qhp,qpd->qhd", own_slopes, positives)
            by_positive = ops.einsum("qhp,qhd->qpd", own_slopes, queries)
            # Transposed, this product is the faster one.
            by_candidate = (
                ops.transpose(ops.reshape(factor * queries, ops.shape(flat))) @ flat_slopes
            )
            return (by_candidate,), (losses, by_query, by_positive)

        num_queries = ops.shape(queries)[0]
        num_blocks = _clip(_ceil_div(num_queries, self.block_size), 1)
        totals, (losses, *by_row) = sum_over_blocks(
            block,
            tuple(into_blocks(x, self.block_size, num_blocks) for x in (queries, positives, *rows)),
            (ops.zeros_like(ops.transpose(candidates)),) if with_gradients else (),
            num_kept=3 if with_gradients else 1,
        )
        losses = out_of_blocks(losses, num_queries)
        if not with_gradients:
            return losses, None
        by_query, by_positive = (out_of_blocks(x, num_queries) for x in by_row)
        return losses, (by_query, ops.transpose(totals[0]), by_positive)

    def _losses_and_slopes(
        self,
        scores,
        own_scores,
        row_weight,
        found,
        own_labels=None,
        labels=None,
        score_mask=None,
        candidate_weight=None,
        threshold=None,
    ):
        """What `RetrievalLoss.value_and_slopes` says of a block."""
        is_negative = ops.ones_like(scores, dtype="bool")
        if labels is not None:
            is_negative = ops.logical_not(is_among(labels, own_labels))
        if score_mask is not None:
            is_negative = ops.logical_and(is_negative, score_mask)
        if candidate_weight is not None and len(candidate_weight.shape) == 1:
            candidate_weight = ops.expand_dims(candidate_weight, axis=0)
        losses_and_slopes = (
            self.loss.value_and_slopes if self.num_hard_negatives is None else self._of_hardest
        )
        return losses_and_slopes(
            scores, own_scores, found, is_negative, candidate_weight, row_weight, threshold
        )

    def _of_hardest(self, scores, own_scores, found, is_negative, weight, row_weight, threshold):
        if weight is not None:
            weight = ops.broadcast_to(weight, ops.shape(scores))
            is_negative = ops.logical_and(is_negative, weight > 0)
        num_rows, num_candidates = ops.shape(scores)
        hardest, columns = ops.top_k(
            ops.where(is_negative, scores, MASKED_SCORE),
            _clip(self.num_hard_negatives, 1, num_candidates),
        )
        losses, factor, slopes, own_slopes = self.loss.value_and_slopes(
            hardest,
            own_scores,
            found,
            ops.where(is_masked(hardest), False, True),
            None if weight is None else ops.take_along_axis(weight, columns, axis=1),
            row_weight,
            threshold,
        )
        rows = ops.expand_dims(ops.arange(num_rows, dtype=columns.dtype), axis=1)
        places = ops.stack([rows + ops.zeros_like(columns), columns], axis=-1)
        slopes = ops.scatter(places, slopes, (num_rows, num_candidates))
        return losses, factor, slopes, own_slopes


def _best(by_head):
    """Scores `[q, heads, c]` to those of the best head `[q, c]`."""
    return by_head[:, 0] if by_head.shape[1] == 1 else ops.amax(by_head, axis=1)


def _to_heads(slopes, by_head):
    """Slopes `[q, c]` in the scores of the best head, which tied heads share."""
    slopes = ops.expand_dims(slopes, axis=1)
    if by_head.shape[1] == 1:
        return slopes
    is_best = ops.cast(ops.equal(by_head, ops.amax(by_head, axis=1, keepdims=True)), by_head.dtype)
    return slopes * is_best / ops.sum(is_best, axis=1, keepdims=True)


def _at(x, index):
    """What stands at indices `[q, n]` of `x`, `[c]` or `[q, c]`; at those below 0, anything."""
    index = ops.where(index >= 0, index, 0)
    return ops.take(x, index) if len(x.shape) == 1 else ops.take_along_axis(x, index, axis=1)


def _row_weight(sample_weight, reduction, queries):
    """The weights of the rows and the reduction in one factor, `[num_queries, 1]`."""
    weight = ones = ops.ones((ops.shape(queries)[0], 1), dtype=queries.dtype)
    if sample_weight is not None:
        weight = sample_weight
        check_shape("sample_weight", weight, (), (queries.shape[0],), (queries.shape[0], 1))
        weight = ops.reshape(weight, (-1, 1)) * ones
    if reduction in ("mean", "sum_over_batch_size"):
        return weight / ops.sum(ones)
    if reduction == "mean_with_sample_weight":
        total = ops.sum(weight)
        # As Keras: 0 where no row has a weight.
        is_none = ops.equal(total, 0)
        return ops.where(is_none, 0, weight / ops.where(is_none, 1, total))
    return weight


def rows_of_a_block(block_size, num_queries, num_candidates):
    """Rows of a block under `block_size`: blocks of one size, so that few rows are padding."""
    if block_size is None:
        return _clip(num_queries, 1)
    if block_size == "auto":
        block_size = _clip(SCORES_OF_A_BLOCK // _clip(num_candidates, 1), *ROWS_OF_A_BLOCK)
    else:
        block_size = check_count("block_size", block_size)
    return _clip(_ceil_div(num_queries, _clip(_ceil_div(num_queries, block_size), 1)), 1)


def _ceil_div(x, y):
    return -(-x // y)


def _clip(x, low, high=None):
    """Clips a size: a number, or a tensor where a graph of TensorFlow does not know it yet."""
    if isinstance(x, int) and (high is None or isinstance(high, int)):
        return max(low, x if high is None else min(x, high))
    x = ops.maximum(x, low)
    return x if high is None else ops.minimum(x, high)
