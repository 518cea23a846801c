"""The losses straight from embeddings: the score matrix is never held."""

from typing import Literal

import keras
from keras import ops

from tfrs_croloss._arguments import check_count
from tfrs_croloss._typing import Array, CandidateWeight, Features
from tfrs_croloss.losses.base import MASKED_SCORE, RetrievalLoss, is_masked
from tfrs_croloss.losses.blocks import into_blocks, out_of_blocks, sum_over_blocks
from tfrs_croloss.losses.channels import CANDIDATE_WEIGHT
from tfrs_croloss.losses.checks import (
    as_numbers,
    by_name,
    check_shape,
    check_weights,
    name_of_weight,
)
from tfrs_croloss.losses.differentiation import compiled, traced_as_written, with_gradient
from tfrs_croloss.losses.inputs import (
    Positives,
    as_embeddings,
    as_structures,
    check_arguments,
    row_weights,
)
from tfrs_croloss.losses.membership import is_among, is_among_ids
from tfrs_croloss.losses.reductions import largest_first
from tfrs_croloss.losses.structures import Candidates, flattened
from tfrs_croloss.losses.tensors import at_least_one

# Scores of a block under `block_size="auto"`: 8 MiB in float32, which caches hold, and rows
# enough for matrix products to be fast.
SCORES_OF_A_BLOCK = 2**21
ROWS_OF_A_BLOCK = (64, 512)


@traced_as_written
def embedding_loss(
    loss: RetrievalLoss,
    queries: Array,
    candidates: Array | None,
    positive_index: Array | None = None,
    candidate_ids: Array | None = None,
    known_positive_ids: Array | None = None,
    candidate_weight: CandidateWeight = None,
    sample_weight: Array | None = None,
    reduction: str | None = "auto",
    *,
    positives: Array | None = None,
    positive_ids: Array | None = None,
    score_mask: Array | None = None,
    num_hard_negatives: int | None = None,
    block_size: int | Literal["auto"] | None = "auto",
    own: Candidates | None = None,
    positive_weight: Array | None = None,
    pooling_weight: Array | None = None,
    row_features: Array | Features | None = None,
    candidate_features: Array | Features | None = None,
    **row_inputs: Array,
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
    computed again in the backward pass. Embeddings are differentiated, once and backward: those of
    `queries`, `candidates`, `positives` and `own`. All else is constant, all weights included. All
    products are made in the dtype of the loss, float32 at least, under PyTorch's autocast too.
    Without rows or without candidates the loss is 0.

    Args:
        loss: A `RetrievalLoss`, whose own `max_positives` does not count here.
        queries: `[num_queries, dim]`, or `[num_queries, num_heads, dim]`: the score is then the
            best of the heads'.
        candidates: `[num_candidates, dim]`, those that all rows share; None if there are `own` ones
            and `positives`.
        positive_index: The candidate that is the positive of each query, `[num_queries]`, or
            several, `[num_queries, max_positives]`, each against the row's negatives alone; -1 for
            none. By default query i has candidate i.
        candidate_ids: `[num_candidates]` integers: other candidates with the id of a positive of
            the row are not negatives of it.
        known_positive_ids: `[num_queries, num_known]`, ids to exclude from the row's negatives,
            e.g. the user's other positives. Padded with an id that no item has, e.g. -1.
        candidate_weight: v_j ≥ 0, `[num_candidates]` or `[num_queries, num_candidates]`: how many
            items each candidate stands for, see `CROLoss`; finite. 0 makes a candidate absent. Or
            a function from the `row_features` of a block of rows and the `candidate_features` to
            `[block, num_candidates]`, the most that is ever held. It sees nothing else of the step:
            what it needs, e.g. embeddings, must be among the features. Or a dict from names to such
            weights, for a loss that takes several; `"candidate"` is the name of these.
        sample_weight: Weights of the rows, `[num_queries]`, `[num_queries, 1]` or a number; finite
            and not negative.
        reduction: `"auto"` for that of the loss. Or `"sum"`, `"sum_over_batch_size"` or `"mean"`
            over the rows, `"mean_with_sample_weight"`, or None.
        positives: Instead of `positive_index`, embeddings `[num_queries, dim]` or
            `[num_queries, max_positives, dim]` of positives that are not among the candidates.
        positive_ids: Their ids, `[num_queries]` or `[num_queries, max_positives]`, so that
            candidates with the same ids are not negatives.
        score_mask: Bool, `[num_candidates]` or `[num_queries, num_candidates]`: False where a
            candidate is absent.
        num_hard_negatives: Compare with this many negatives of the highest scores alone, of shared
            and own candidates together.
        block_size: Rows of scores at a time. `"auto"` takes up to 512, or as many as hold two
            million scores but 64 at least; None takes all. A row's own candidate counts for
            an eighth of as many scores as it has dimensions.
        own: `Candidates` that each row has of its own, beside the shared ones or alone. They have
            weights of the same names as the shared ones.
        positive_weight: Weights of a row's positives in the mean of their losses, of the shape of
            `positive_index`; finite and not negative.
        pooling_weight: Likewise, but the positives of a row are pooled into one. Its score is the
            mean of theirs under these weights, and it has one loss.
        row_features: A tensor or a dict of tensors `[num_queries, ...]`, for weights that are
            functions.
        candidate_features: Likewise `[num_candidates, ...]`.
        **row_inputs: What the loss wants to know of each row, `[num_queries]` or
            `[num_queries, 1]`, by the names in its `row_inputs`; e.g. `threshold`, in units of the
            scores `queries @ candidates.T`: see `SoftmaxLossAtK`.

    Returns:
        The loss, a scalar under a reduction and `[num_queries]` without.

    Raises:
        ValueError: If an argument has the wrong shape or is out of range, if there are known
            positives and no `candidate_ids`, if an input of the rows is missing or not asked for
            or, in an eager call, if an embedding or such an input is NaN or inf.

    Example:

    >>> import numpy as np
    >>> from tfrs_croloss import CROLoss, embedding_loss
    >>> queries, candidates = np.eye(2, 3), np.array([[1.0, 0, 0], [0, 0.5, 0], [0.2, 0, 1]])
    >>> loss = CROLoss()
    >>> round(float(embedding_loss(loss, queries, candidates)), 4)
    1.1883
    >>> round(float(loss(np.eye(2, 3), queries @ candidates.T)), 4)
    1.1883

    Negatives that were drawn for each row, from items that are embedded once:

    >>> from tfrs_croloss.losses import Candidates
    >>> own = Candidates(candidates, index=[[1, 2], [0, 2]])
    >>> round(float(embedding_loss(loss, queries, None, positives=candidates[:2], own=own)), 4)
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
    of_rows = Positives(positives, positive_index, positive_ids, positive_weight, pooling_weight)
    check_arguments(loss, reduction, of_rows, own)
    if num_hard_negatives is not None:
        num_hard_negatives = check_count("num_hard_negatives", num_hard_negatives)
    if reduction == "auto":
        reduction = loss.reduction
    queries, shared, positives, own = as_embeddings(
        loss,
        queries,
        Candidates(
            candidates, None, candidate_ids, candidate_weight, score_mask, candidate_features
        ),
        of_rows,
        own or Candidates(),
    )
    structures = as_structures(
        loss,
        queries,
        shared,
        positives,
        own,
        known_positive_ids=known_positive_ids,
        weight=row_weights(sample_weight, reduction, queries),
        inputs=loss.inputs_of_rows(row_inputs, queries.shape[0]),
        features=row_features,
    )
    return _run(
        loss,
        (queries, shared, positives, own),
        structures,
        is_reduced=reduction not in ("none", None),
        num_hard_negatives=num_hard_negatives,
        block_size=block_size,
    )


def _run(loss, given, structures, is_reduced, num_hard_negatives, block_size):
    """The loss in blocks of rows, of checked inputs.

    Args:
        loss: The `RetrievalLoss`.
        given: What `as_embeddings` gave.
        structures: What `as_structures` gave.
        is_reduced: Whether the losses of the rows are summed up.
        num_hard_negatives: As in `embedding_loss`.
        block_size: Likewise.
    """
    queries, shared, positives, own = given
    constants, put = flattened(structures)
    table = own.embeddings if own.index is None else at_least_one(own.embeddings, 0)
    embeddings = queries, at_least_one(shared.embeddings, 0), positives.embeddings, table
    embeddings = tuple(x for x in embeddings if x is not None)
    _, rows, _ = structures
    engine = _Engine(
        loss,
        [by_name(shared.weight), by_name(own.weight)],
        num_hard_negatives,
        rows_of_a_block(block_size, ops.shape(queries)[0], _width(shared, rows.own)),
        len(embeddings),
        put,
    )
    function = engine.total if is_reduced else engine.losses
    return with_gradient(function, embeddings, tuple(constants), once=True)


class _Engine:
    """A loss over blocks of rows of scores.

    Its methods take the embeddings: queries `[q, heads, dim]`, candidates `[c, dim]`, positives
    `[q, max_positives, dim]` and maybe the rows' own candidates. Behind them come the tensors of
    `Candidates`, `Rows` and the features of own candidates by index, into which `put` makes them.
    """

    def __init__(self, loss, weights, num_hard_negatives, block_size, num_embeddings, put):
        self.loss = loss
        # By name, of the shared candidates and of the own: for those that are functions.
        self.weights = weights
        self.num_hard_negatives = num_hard_negatives
        self.block_size = block_size
        self.num_embeddings = num_embeddings
        self.put = put

    def total(self, *tensors):
        """The sum of the losses of all rows, and its pullback to the embeddings."""
        losses, gradients = self._over_blocks(*self._parts(tensors))
        return ops.sum(losses), lambda upstream: [upstream * x for x in gradients]

    def losses(self, *tensors):
        """The losses `[q]`, and their pullback to the embeddings, which computes all again."""
        embeddings, columns, rows, features = self._parts(tensors)
        losses, _ = self._over_blocks(embeddings, columns, rows, features, with_gradients=False)

        def pullback(upstream):
            weighed = rows._replace(weight=rows.weight * ops.expand_dims(upstream, axis=1))
            return self._over_blocks(embeddings, columns, weighed, features)[1]

        return losses, pullback

    def _parts(self, tensors):
        return tensors[: self.num_embeddings], *self.put(tensors[self.num_embeddings :])

    def _over_blocks(self, embeddings, columns, rows, features_by_index, with_gradients=True):
        queries, candidates, positives, *own = embeddings
        is_by_index = rows.own is not None and rows.own.index is not None
        table = own if is_by_index else []
        of_rows, put = flattened((queries, positives, [] if is_by_index else own, rows))
        losses_and_slopes = compiled(self._losses_and_slopes, self.loss.jit_compile)

        def block(*tensors):
            queries, positives, own, rows = put(tensors)
            if is_by_index:
                own, features = _gathered((table, features_by_index), rows.own.index)
                rows = rows._replace(own=rows.own._replace(features=features))
            rows = self._with_weights(rows, columns, candidates.shape[0])
            by_head = _scores(queries, candidates, own)
            positive_by_head = _products(queries, positives)
            losses, factor, slopes, positive_slopes = losses_and_slopes(
                _best(by_head),
                _best(positive_by_head),
                rows,
                columns._replace(features=None),
            )
            if not with_gradients:
                return (), (losses,)
            by_query, by_candidate, by_positive, *by_own = _gradients(
                (queries, candidates, positives, *own),
                ops.expand_dims(factor, axis=2),
                _to_heads(slopes, by_head),
                _to_heads(positive_slopes, positive_by_head),
            )
            if not is_by_index:
                return (by_candidate,), (losses, by_query, by_positive, *by_own)
            by_table = _added_up(by_own[0], rows.own.index, table[0])
            return (by_candidate, by_table), (losses, by_query, by_positive)

        num_queries = ops.shape(queries)[0]
        num_blocks = _clip(_ceil_div(num_queries, self.block_size), 1)
        totals = [ops.transpose(candidates), *table] if with_gradients else []
        totals, (losses, *by_row) = sum_over_blocks(
            block,
            tuple(into_blocks(x, self.block_size, num_blocks) for x in of_rows),
            tuple(ops.zeros_like(x) for x in totals),
            num_kept=1 if not with_gradients else len(embeddings) - len(table),
        )
        losses = out_of_blocks(losses, num_queries)
        if not with_gradients:
            return losses, None
        by_query, by_positive, *by_own = (out_of_blocks(x, num_queries) for x in by_row)
        by_candidate, *by_table = totals
        return losses, (by_query, ops.transpose(by_candidate), by_positive, *by_own, *by_table)

    def _with_weights(self, rows, columns, num_candidates):
        """The rows with the weights that are functions computed, and without features."""
        shared, own = self.weights
        of_shared = self._computed(
            "candidate_weight",
            shared,
            rows,
            columns.features,
            num_candidates,
            [mask for mask in (columns.mask, rows.mask) if mask is not None],
        )
        rows = rows._replace(weights={**rows.weights, **of_shared})
        if rows.own is not None:
            mask = rows.own.mask
            of_own = self._computed(
                "own.weight", own, rows, rows.own.features, mask.shape[1], [mask]
            )
            of_own = rows.own._replace(weight={**rows.own.weight, **of_own}, features=None)
            rows = rows._replace(own=of_own)
        return rows._replace(features=None)

    def _computed(self, label, weights, rows, features, width, masks):
        found = {}
        for name, function in weights.items():
            if not callable(function):
                continue
            argument = name_of_weight(name, label)
            weight = as_numbers(argument, function(rows.features, features), self.loss.dtype)
            check_shape(argument, weight, (rows.weight.shape[0], width))
            # The rows that fill up the last block are zeros, of which it may have made NaN, and so
            # are the features of what is absent, e.g. in a memory that is not full yet.
            weight = ops.where(ops.equal(rows.weight, 0), 0, weight)
            for mask in masks:
                weight = ops.where(mask, weight, 0)
            found[name] = weight
        check_weights({name_of_weight(name, label): x for name, x in found.items()})
        return found

    def _losses_and_slopes(self, scores, positive_scores, rows, columns):
        """What `RetrievalLoss.value_and_slopes` says of a block."""
        num_own = 0 if rows.own is None else ops.shape(rows.own.mask)[1]
        is_negative = _is_negative(scores[:, : ops.shape(scores)[1] - num_own], rows, columns)
        weights = {name: ops.expand_dims(x, axis=0) for name, x in columns.weight.items()}
        weights |= rows.weights
        if rows.own is not None:
            for name, weight in rows.own.weight.items():
                # There are none of shared candidates where there are none of these.
                of_shared = ops.broadcast_to(weights.get(name, 1), ops.shape(is_negative))
                of_shared = ops.cast(of_shared, weight.dtype)
                weights[name] = ops.concatenate([of_shared, weight], axis=1)
            is_own = rows.own.mask
            if rows.own.ids is not None:
                is_positive = is_among_ids(rows.own.ids, rows.excluded_ids)
                is_own = ops.logical_and(is_own, ops.logical_not(is_positive))
            is_negative = ops.concatenate([is_negative, is_own], axis=1)
        losses_and_slopes = (
            self.loss.value_and_slopes if self.num_hard_negatives is None else self._of_hardest
        )
        return losses_and_slopes(scores, positive_scores, is_negative, weights, rows)

    def _of_hardest(self, scores, positive_scores, is_negative, weights, rows):
        weights = {name: ops.broadcast_to(x, ops.shape(scores)) for name, x in weights.items()}
        if CANDIDATE_WEIGHT in weights:
            is_negative = ops.logical_and(is_negative, weights[CANDIDATE_WEIGHT] > 0)
        num_rows, num_candidates = ops.shape(scores)
        hardest, columns = largest_first(
            ops.where(is_negative, scores, MASKED_SCORE),
            _clip(self.num_hard_negatives, 1, num_candidates),
        )
        losses, factor, slopes, positive_slopes = self.loss.value_and_slopes(
            hardest,
            positive_scores,
            ops.where(is_masked(hardest), False, True),
            {name: ops.take_along_axis(x, columns, axis=1) for name, x in weights.items()},
            rows,
        )
        row = ops.expand_dims(ops.arange(num_rows, dtype=columns.dtype), axis=1)
        places = ops.stack([row + ops.zeros_like(columns), columns], axis=-1)
        slopes = ops.scatter(places, slopes, (num_rows, num_candidates))
        return losses, factor, slopes, positive_slopes


def _is_negative(scores, rows, columns):
    """Which of the shared candidates are negatives, bool `[b, c]`."""
    is_negative = ops.ones_like(scores, dtype="bool")
    if columns.ids is not None:
        is_negative = ops.logical_not(is_among(columns.ids, rows.excluded))
    for mask in (columns.mask, rows.mask):
        if mask is not None:
            is_negative = ops.logical_and(is_negative, mask)
    return is_negative


def _scores(queries, candidates, own):
    """Scores of each head, with the candidates of all rows and the rows' own, `[b, heads, c]`."""
    flat = ops.reshape(queries, (-1, ops.shape(queries)[2]))
    # With @, since on PyTorch `ops.matmul` lowers float64 to float32.
    shared = flat @ ops.transpose(candidates)
    shared = ops.reshape(shared, (*ops.shape(queries)[:2], ops.shape(candidates)[0]))
    if not own:
        return shared
    return ops.concatenate([shared, *(_products(queries, x) for x in own)], axis=2)


def _products(queries, vectors):
    """Queries `[b, heads, dim]` with vectors of their rows `[b, n, dim]`: `[b, heads, n]`."""
    return ops.einsum("qhd,qnd->qhn", queries, vectors)


def _gradients(embeddings, factor, slopes, positive_slopes):
    """The gradients in the embeddings of a block, that in the candidates transposed.

    Args:
        embeddings: Queries, candidates, positives, and maybe the rows' own candidates.
        factor: `[b, 1, 1]`, of the slopes.
        slopes: In the scores of each head, `[b, heads, c]`.
        positive_slopes: In those of the positives, `[b, heads, max_positives]`.
    """
    queries, candidates, positives, *own = embeddings
    num_candidates = ops.shape(candidates)[0]
    # The factor of the row joins what is small: embeddings, not scores.
    scaled = factor * queries
    by_own, of_shared = [], slopes
    if own:
        of_shared, of_own = slopes[:, :, :num_candidates], slopes[:, :, num_candidates:]
        by_own.append(ops.einsum("qhn,qhd->qnd", of_own, scaled))
    flat = ops.reshape(of_shared, (-1, num_candidates))
    by_query = ops.reshape(flat @ candidates, ops.shape(queries))
    if own:
        by_query += ops.einsum("qhn,qnd->qhd", of_own, own[0])
    by_query = factor * by_query + ops.einsum("qhn,qnd->qhd", positive_slopes, positives)
    by_positive = ops.einsum("qhn,qhd->qnd", positive_slopes, queries)
    # Transposed, this product is the faster one.
    by_candidate = ops.transpose(ops.reshape(scaled, (-1, ops.shape(queries)[2]))) @ flat
    return by_query, by_candidate, by_positive, *by_own


def _gathered(tensors, index):
    """Rows of tensors `[n, ...]` at an index `[b, m]`: `[b, m, ...]`; at -1 anything."""
    place = ops.where(index >= 0, index, 0)
    return keras.tree.map_structure(
        lambda x: None if x is None else ops.take(x, place, axis=0), tensors
    )


def _added_up(gradients, index, table):
    """Gradients `[b, m, dim]` added up where their index says, like the table `[n, dim]`."""
    place = ops.reshape(ops.where(index >= 0, index, 0), (-1,))
    flat = ops.reshape(gradients, (-1, ops.shape(table)[1]))
    return ops.segment_sum(flat, place, ops.shape(table)[0])


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


def _width(shared, own):
    """What a row costs, in scores."""
    num_candidates, dim = ops.shape(shared.embeddings)
    if own is None:
        return num_candidates
    # The vectors of a row's own fit no cache, and few large blocks add up in a table the fastest:
    # those of a block may be eight times as many numbers as its scores, 64 MiB.
    return num_candidates + ops.shape(own.mask)[1] * dim // 8


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
