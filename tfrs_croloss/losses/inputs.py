"""The arguments of `embedding_loss`: checked, and made the structures that the engine takes."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from tfrs_croloss.losses.base import RetrievalLoss
from tfrs_croloss.losses.channels import CANDIDATE_WEIGHT
from tfrs_croloss.losses.checks import (
    as_ids,
    as_numbers,
    as_weight,
    by_name,
    check_embeddings,
    check_index,
    check_one_of_both,
    check_rows_alone,
    check_shape,
    check_weights,
    name_of_weight,
)
from tfrs_croloss.losses.membership import codes_of
from tfrs_croloss.losses.structures import Candidates, Rows
from tfrs_croloss.losses.tensors import at_least_one, broadcast_unranked, with_slots

REDUCTIONS = ("auto", "sum", "sum_over_batch_size", "mean", "mean_with_sample_weight", "none", None)


class Positives(NamedTuple):
    """The positives of the rows.

    Attributes:
        embeddings: `[q, max_positives, dim]`.
        index: Which candidates they are, `[q, max_positives]`, -1 for none; None if they are not
            candidates.
        ids: Integers `[q, max_positives]`, or None.
        weight: `[q, max_positives]`, or None.
        pooling_weight: Likewise.
    """

    embeddings: Any
    index: Any
    ids: Any
    weight: Any
    pooling_weight: Any


def check_arguments(loss, reduction, positives, own):
    """Raises a `ValueError` on arguments of a wrong kind, or that exclude each other."""
    if not isinstance(loss, RetrievalLoss):
        raise ValueError(
            f"`loss` must be a RetrievalLoss, e.g. CROLoss or MultiMarginLoss. Received: {loss!r}"
        )
    if reduction not in REDUCTIONS:
        raise ValueError(f"`reduction` must be one of {REDUCTIONS}. Received: {reduction!r}")
    if positives.embeddings is not None and positives.index is not None:
        raise ValueError("`positives` and `positive_index` exclude each other. Received: both")
    check_one_of_both(positives.weight, positives.pooling_weight)
    check_own(own)


def check_own(own):
    """Raises unless it is None or `Candidates` with embeddings."""
    if own is None or (isinstance(own, Candidates) and own.embeddings is not None):
        return
    raise ValueError(
        "`own` must be a tfrs_croloss.losses.Candidates with embeddings, e.g. "
        f"Candidates(embeddings, index). Received: {own!r:.100}"
    )


def as_embeddings(loss, queries, shared, positives, own):
    """All embeddings of a call, checked, in the dtype of the loss.

    Returns:
        Queries `[q, heads, dim]`, and `shared`, `positives` and `own` with their embeddings.
    """
    queries = as_numbers("queries", queries, loss.dtype)
    candidates, index, vectors = shared.embeddings, positives.index, own.embeddings
    of_positives = positives.embeddings
    if candidates is None and (vectors is None or of_positives is None):
        raise ValueError(
            "`candidates` must be given unless there are `own` ones and `positives`. Received: None"
        )
    if of_positives is not None:
        of_positives = with_slots(as_numbers("positives", of_positives, loss.dtype), 3)
    if candidates is None:
        candidates = ops.zeros((0, ops.shape(of_positives)[2]))
    candidates = as_numbers("candidates", candidates, loss.dtype, rank=2)
    if of_positives is not None and shared.mask is None and candidates.shape[0] in (0, None):
        # What stands in where there are no candidates is masked.
        shared = shared._replace(mask=ops.ones(ops.shape(candidates)[:1], dtype="bool"))
    if vectors is not None:
        rank = 3 if own.index is None else 2
        vectors = as_numbers("own.embeddings", vectors, loss.dtype, rank)
    check_embeddings(loss, queries, candidates, positives=of_positives, own=vectors)
    queries = with_slots(queries, 3)
    if of_positives is None:
        of_positives, index = _positives_among(queries, candidates, index)
    check_shape("positives", of_positives, (queries.shape[0], None, queries.shape[2]))
    if of_positives.shape[1] is None:
        raise ValueError(
            "`positive_index` and `positives` must have a known number of positives of a row. "
            "Received: a second dimension of None. Set it with tf.ensure_shape"
        )
    return (
        queries,
        shared._replace(embeddings=candidates),
        positives._replace(embeddings=of_positives, index=index),
        own._replace(embeddings=vectors),
    )


def _positives_among(queries, candidates, index):
    """The embeddings of candidates that are positives, `[q, max_positives, dim]`, and their index.

    Without an index, row i has candidate i.
    """
    num_queries, num_candidates = ops.shape(queries)[0], ops.shape(candidates)[0]
    if index is None:
        is_known = isinstance(num_queries, int) and isinstance(num_candidates, int)
        if is_known and num_candidates < num_queries:
            raise ValueError(
                "`candidates` must hold a positive for each query, or `positive_index` say which "
                f"it is. Received: {num_candidates} candidates, {num_queries} queries"
            )
        index = with_slots(ops.arange(num_queries, dtype="int32"), 2)
        return ops.expand_dims(candidates[:num_queries], axis=1), index
    index = as_ids("positive_index", index)
    check_index("positive_index", index, num_candidates)
    index = with_slots(ops.cast(index, "int32"), 2)
    check_shape("positive_index", index, (queries.shape[0], None))
    candidates = at_least_one(candidates, 0)
    return ops.take(candidates, ops.where(index >= 0, index, 0), axis=0), index


def as_structures(
    loss, queries, shared, positives, own, known_positive_ids, weight, inputs, features
):
    """What is known of the shared candidates and of the rows, checked, as tensors.

    Returns:
        `Candidates` of `[c, ...]`, `Rows`, and the features `[n, ...]` of own candidates by index.
        Embeddings, and weights that are functions, are in none of them.
    """
    candidates = shared.embeddings
    num_queries, num_candidates = queries.shape[0], candidates.shape[0]
    _check_weights_of_both(shared, own, num_candidates)
    has_positive = ops.ones(ops.shape(positives.embeddings)[:2], dtype="bool")
    if positives.index is not None:
        has_positive = positives.index >= 0
    of_own = _of_own(loss, queries, own)
    weight = _nan_out_of_range(weight, positives.index, ops.shape(candidates)[0])
    if of_own is not None:
        weight = _nan_out_of_range(weight, of_own.index, ops.shape(own.embeddings)[0])
    codes, excluded, excluded_ids = _excluded(
        queries, shared, positives, known_positive_ids, of_own
    )
    masks, weights = _masks_and_weights(loss, queries, shared)
    for mask in masks:
        if mask is not None and positives.index is not None:
            # A masked positive is absent.
            has_positive = ops.logical_and(has_positive, _at(mask, positives.index))
    columns = Candidates(
        ids=None if excluded is None else codes,
        weight=weights[0],
        mask=masks[0],
        features=_as_features("candidate_features", shared.features, num_candidates),
    )
    rows = Rows(
        weight=weight,
        has_positive=has_positive,
        positive_weight=_of_positives(loss, "positive_weight", positives.weight, has_positive),
        pooling_weight=_of_positives(
            loss, "pooling_weight", positives.pooling_weight, has_positive
        ),
        inputs=inputs,
        excluded=excluded,
        excluded_ids=excluded_ids,
        mask=masks[1],
        weights=weights[1],
        features=_as_features("row_features", features, num_queries),
        own=of_own,
    )
    if own.index is None:
        return columns, rows, None
    return columns, rows, _as_features("own.features", own.features, own.embeddings.shape[0])


def _nan_out_of_range(weight, index, bound):
    """Weights of the rows, NaN where an index points past the end: XLA would clamp it."""
    if index is None:
        return weight
    return ops.where(ops.any(index >= bound, axis=1, keepdims=True), float("nan"), weight)


def _check_weights_of_both(shared, own, num_candidates):
    """Raises unless the shared candidates and the rows' own have weights of the same names."""
    if own.embeddings is None:
        return
    of_shared, of_own = set(by_name(shared.weight)), set(by_name(own.weight))
    if CANDIDATE_WEIGHT in of_shared | of_own and own.index is None and own.ids is None:
        raise ValueError(
            "`own` must have ids where candidates are weighed: an item that is among the shared "
            "ones too counts by how often it comes from both. Received: vectors without ids"
        )
    if num_candidates != 0 and of_shared != of_own:
        raise ValueError(
            "`candidate_weight` and the weight of `own` must be given together. Received: "
            f"{', '.join(sorted(of_shared)) or 'none'} of the shared candidates, "
            f"{', '.join(sorted(of_own)) or 'none'} of the own"
        )


def _of_own(loss, queries, own):
    """The rows' own `Candidates` `[q, m, ...]`, with a mask; None if there are none."""
    if own.embeddings is None:
        return None
    shape = queries.shape[0], None
    if own.index is None:
        check_shape("own.embeddings", own.embeddings, (*shape, queries.shape[2]))
        index, mask = None, ops.ones(ops.shape(own.embeddings)[:2], dtype="bool")
    else:
        check_shape("own.embeddings", own.embeddings, (None, queries.shape[2]))
        index = as_ids("own.index", own.index, rank=2)
        check_shape("own.index", index, shape)
        check_index("own.index", index, ops.shape(own.embeddings)[0])
        index = ops.cast(index, "int32")
        mask = index >= 0
    ids = own.ids
    if ids is not None:
        ids = as_ids("own.ids", ids, rank=2)
        check_shape("own.ids", ids, tuple(mask.shape))
    if own.mask is not None:
        given = broadcast_unranked(as_numbers("own.mask", own.mask, "bool"), ops.shape(mask))
        check_shape("own.mask", given, tuple(mask.shape))
        mask = ops.logical_and(mask, given)
    weights = {}
    for name, weight in by_name(own.weight).items():
        if not callable(weight):
            label = name_of_weight(name, "own.weight")
            weights[name] = as_weight(label, weight, mask, loss.dtype)
            check_weights({label: weights[name]})
    features = None
    if own.index is None:
        features = _as_features("own.features", own.features, queries.shape[0])
    return Candidates(None, index, ids, weights, mask, features)


def _excluded(queries, shared, positives, known_positive_ids, own):
    """The candidates that are not negatives of a row: its positives and known positives.

    Returns:
        Codes of the candidates `[c]`; the codes that each row excludes `[q, n]`, None if all are
        negatives; and the ids that it excludes, None unless the rows' own candidates have ids.
    """
    candidate_ids, candidates = shared.ids, at_least_one(shared.embeddings, 0)
    own_ids = None if own is None else own.ids
    is_compared = not (candidate_ids is positives.ids is known_positive_ids is None)
    if own is not None and own.index is not None and own_ids is None and is_compared:
        raise ValueError(
            "`own` by index must have ids where those of other candidates are compared: a row may "
            "have drawn its positive. Received: None"
        )
    row_ids = []
    for name, ids in (("positive_ids", positives.ids), ("known_positive_ids", known_positive_ids)):
        if ids is None:
            continue
        # Those of positives may be compared with the ids of own candidates alone.
        has_others = name != "positive_ids" and shared.embeddings.shape[0] != 0
        if candidate_ids is None and (own_ids is None or has_others):
            raise ValueError(f"`candidate_ids` must be given with `{name}`. Received: None")
        row_ids.append(with_slots(as_ids(name, ids), 2))
        check_shape(name, row_ids[-1], (queries.shape[0], None))
    if candidate_ids is not None:
        candidate_ids = as_ids("candidate_ids", candidate_ids, rank=1)
        check_shape("candidate_ids", candidate_ids, shared.embeddings.shape[:1])
        candidate_ids = at_least_one(candidate_ids, 0)
    of_rows = None
    if row_ids and candidate_ids is not None:
        of_rows = ops.concatenate(row_ids, axis=1)
    codes, excluded = codes_of(ops.shape(candidates)[0], positives.index, candidate_ids, of_rows)
    if own_ids is None:
        return codes, excluded, None
    if positives.index is not None and candidate_ids is not None:
        ids = ops.take(candidate_ids, ops.where(positives.index >= 0, positives.index, 0))
        # No id may be equal to that of no positive.
        dtype = keras.backend.standardize_dtype(ids.dtype)
        nothing = np.array(np.iinfo(dtype).min or np.iinfo(dtype).max, dtype)
        row_ids.append(ops.where(positives.index >= 0, ids, nothing))
    if not row_ids:
        raise ValueError(
            "`positive_ids` or `candidate_ids` must be given with the ids of `own`, which are "
            "compared with those of the positives. Received: None"
        )
    return codes, excluded, ops.concatenate(row_ids, axis=1)


def _masks_and_weights(loss, queries, shared):
    """The masks and the weights of shared candidates, by whether they are `[c]` or `[q, c]`.

    Returns:
        A mask `[c]` and one `[q, c]`, None where there is none; and a dict of weights by name of
        each shape, without those that are functions.
    """
    sizes = ops.shape(queries)[0], ops.shape(shared.embeddings)[0]
    num_queries, num_candidates = queries.shape[0], shared.embeddings.shape[0]
    masks, weights = [None, None], [{}, {}]

    def shaped(name, x):
        x = broadcast_unranked(x, sizes)
        check_shape(name, x, (num_candidates,), (num_queries, num_candidates))
        axis = len(x.shape) - 1
        return axis, at_least_one(x, axis)

    if shared.mask is not None:
        axis, mask = shaped("score_mask", as_numbers("score_mask", shared.mask, "bool"))
        masks[axis] = mask
    for name, weight in by_name(shared.weight).items():
        if not callable(weight):
            label = name_of_weight(name)
            weight = as_numbers(label, weight, loss.dtype)
            check_weights({label: weight})
            axis, weights_of_axis = shaped(label, weight)
            weights[axis][name] = weights_of_axis
    return masks, weights


def _of_positives(loss, name, weight, has_positive):
    """Weights of the positives `[q, max_positives]`; None stays."""
    if weight is None:
        return None
    weight = as_numbers(name, weight, loss.dtype)
    check_weights({name: weight})
    weight = with_slots(weight, 2)
    check_shape(name, weight, tuple(has_positive.shape))
    return weight


def _as_features(name, features, num_rows):
    """Features as tensors with a row each; None stays."""
    if features is None:
        return None
    if isinstance(features, Mapping):
        # In one order, whatever the dict's.
        return {
            key: _as_features(f"{name}[{key!r}]", features[key], num_rows)
            for key in sorted(features)
        }
    features = as_numbers(name, features)
    check_shape(name, features, (num_rows, *features.shape[1:]))
    return at_least_one(features, 0)


def _at(x, index):
    """What stands at indices `[q, n]` of `x`, `[c]` or `[q, c]`; at those below 0, anything."""
    index = ops.where(index >= 0, index, 0)
    return ops.take(x, index) if len(x.shape) == 1 else ops.take_along_axis(x, index, axis=1)


def row_weights(sample_weight, reduction, queries):
    """The weights of the rows and the reduction in one factor, `[q, 1]`."""
    weight = ones = ops.ones((ops.shape(queries)[0], 1), dtype=queries.dtype)
    if sample_weight is not None:
        weight = as_numbers("sample_weight", sample_weight, queries.dtype)
        check_weights({"sample_weight": weight})
        check_rows_alone(weight, queries.shape[0])
        weight = ops.reshape(weight, (-1, 1)) * ones
    if reduction in ("mean", "sum_over_batch_size"):
        return weight / ops.sum(ones)
    if reduction == "mean_with_sample_weight":
        total = ops.sum(weight)
        # As Keras: 0 where no row has a weight.
        is_none = ops.equal(total, 0)
        return ops.where(is_none, 0, weight / ops.where(is_none, 1, total))
    return weight
