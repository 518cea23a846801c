"""What a call of the task takes, as tensors of one shape and dtype each."""

from collections.abc import Mapping, Sequence

import numpy as np

from tfrs_croloss.losses.checks import as_numbers, by_name, check_shape, name_of_weight
from tfrs_croloss.losses.tensors import is_ranked, with_slots
from tfrs_croloss.retrieval.requirements import tf, tfrs

# What functions of weights are given beside the features.
GIVEN_FEATURES = "embedding", "id"
# Numbers and booleans, as NumPy tells them.
KINDS = "biuf"


def as_metrics(name, metrics):
    """A list of metrics, from that, one of them or None."""
    if metrics is None:
        return []
    metrics = list(metrics) if isinstance(metrics, Sequence) else [metrics]
    for metric in metrics:
        if name in ("metrics", "factorized_metrics"):
            # A metric of labels and scores cannot take embeddings.
            fits, example = (
                isinstance(metric, tfrs.metrics.Factorized),
                "tfrs.metrics.FactorizedTopK",
            )
        else:
            fits = callable(getattr(metric, "update_state", None)) and not isinstance(metric, type)
            example = "tf_keras.metrics.Mean"
        if not fits:
            raise ValueError(
                f"`{name}` must be a metric, e.g. {example}(...), a list of them or None. "
                f"Received: {metric!r}"
            )
    return metrics


def as_specs(name, specs, memory_size):
    """The features that a memory is to hold, a `tf.TensorSpec` each by name."""
    if not specs:
        return {}
    if not memory_size:
        raise ValueError(f"`{name}` must be None without a memory. Received: memory_size=0")
    is_dict = isinstance(specs, dict) and all(isinstance(name, str) for name in specs)
    for of, spec in specs.items() if is_dict else [("", specs)]:
        is_known = isinstance(spec, tf.TensorSpec) and spec.shape.is_fully_defined()
        # Of the kinds that a file of weights takes.
        is_number = is_known and np.dtype(spec.dtype.as_numpy_dtype).kind in KINDS
        if not (is_number and of.isidentifier()):
            raise ValueError(
                f"`{name}` must be a dict from names to a tf.TensorSpec of numbers of a known "
                'shape, e.g. {"price": tf.TensorSpec([], tf.float32)}. Received: '
                f"{of!r}: {spec!r}"
            )
    return dict(specs)


def as_queries(x, dtype):
    """Queries `[q, dim]` or `[q, heads, dim]`; with heads where the rank is not known."""
    x = as_numbers("query_embeddings", x, dtype)
    return x if is_ranked(x) else with_slots(x, 3)


def as_candidates(x, dtype):
    """Candidates `[c, dim]`."""
    return as_numbers("candidate_embeddings", x, dtype, rank=2)


def as_integers(name, ids, *shape):
    """Ids as integers of 64 bits, strings by their hash.

    Args:
        name: The argument.
        ids: What came.
        *shape: What its shape must be; not checked if ragged.
    """
    if isinstance(ids, tf.RaggedTensor) and name == "known_positive_ids":
        return ids.with_flat_values(as_integers(name, ids.flat_values, None))
    try:
        ids = tf.convert_to_tensor(ids)
    except (ValueError, TypeError) as error:
        fix = ""
        if name == "known_positive_ids":
            fix = ". Where rows differ in length make a tf.RaggedTensor: tf.ragged.constant(...)"
        raise ValueError(
            f"`{name}` must make a tensor. Received: {type(ids).__name__} ({error}){fix}"
        ) from None
    if ids.dtype == tf.string:
        ids = tf.strings.to_hash_bucket_fast(ids, 2**63 - 1)
    elif not ids.dtype.is_integer:
        raise ValueError(
            f"`{name}` must be integers or strings. Received: {ids.dtype.name}. Two ids may be one "
            "number as floats; where none are, cast them: tf.cast(ids, tf.int64)"
        )
    ids = tf.cast(ids, tf.int64)
    if ids.shape.rank is None:
        return tf.ensure_shape(ids, shape)
    check_shape(name, ids, shape)
    return ids


def check_one_kind(name, ids, candidate_ids):
    """Raises where ids could never match those of the candidates, one integers, one strings."""
    if candidate_ids is None:
        return
    kinds = [
        (x if tf.is_tensor(x) else tf.convert_to_tensor(x)).dtype == tf.string
        for x in (ids, candidate_ids)
    ]
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"`candidate_ids` and `{name}` must both be integers or both strings: an item would "
            "never match itself. Received: one of each"
        )


def as_row_weights(weights, queries):
    """Weights `[q]` of the rows, from these, `[q, 1]` or a number; None stays."""
    if weights is None:
        return None
    num_queries = queries.shape[0]
    shapes = (), (1,), (num_queries,), (1, 1), (num_queries, 1)
    weights = _as_tensor("sample_weight", weights, queries.dtype, shapes)
    return tf.broadcast_to(tf.reshape(weights, [-1]), tf.shape(queries)[:1])


def as_probabilities(probabilities, candidates):
    """One `[c]` a candidate, from these, `[1, c]` or one for all; None stays."""
    if probabilities is None:
        return None
    name, num_candidates = "candidate_sampling_probability", candidates.shape[0]
    shapes = (), (1,), (num_candidates,), (1, 1), (1, num_candidates)
    fix = ". A number for each score is more than embeddings hold; tfrs.tasks.Retrieval takes it"
    x = _as_tensor(name, probabilities, candidates.dtype, shapes, fix)
    if x.shape.rank not in (0, 1):
        # What the graph does not know is seen in the step: a row, not a column or a matrix.
        shape = tf.concat([[1], tf.shape(x)], axis=0)
        is_row = tf.debugging.assert_equal(
            tf.size(x), shape[-1], f"`{name}` must be one number a candidate{fix}"
        )
        with tf.control_dependencies([] if is_row is None else [is_row]):
            x = tf.identity(x)
    return tf.broadcast_to(tf.reshape(x, [-1]), tf.shape(candidates)[:1])


def as_weights(candidate_weight, dtype):
    """Weights by name: those `[c]`, and those that differ from row to row.

    The latter are `[q, c]`, or functions.
    """
    of_candidates, of_scores = {}, {}
    for name, weight in by_name(candidate_weight).items():
        if callable(weight):
            of_scores[name] = weight
            continue
        weight = _as_tensor(name_of_weight(name), weight, dtype, ((None,), (None, None)))
        (of_scores if weight.shape.rank == 2 else of_candidates)[name] = weight
    return of_candidates, of_scores


def as_features(name, features, rows):
    """A dict of features as tensors with a row each; None stays."""
    if features is None:
        return None
    if not isinstance(features, Mapping):
        raise ValueError(f"`{name}` must be a dict of tensors. Received: {features!r:.100}")
    found = {}
    # In one order, whatever the dict's.
    for key in sorted(features):
        label = f"{name}[{key!r}]"
        if key in GIVEN_FEATURES:
            raise ValueError(
                f"`{name}` must have other names than those of what functions of weights are given "
                f"anyway, {' and '.join(GIVEN_FEATURES)}. Received: {key!r}"
            )
        found[key] = as_numbers(label, features[key])
        if found[key].shape.rank is not None:
            check_shape(label, found[key], (rows.shape[0], *found[key].shape[1:]))
    return found


def as_mask(mask, queries, candidates):
    """A mask `[c]` or `[q, c]`, from all that broadcasts to the scores; None stays."""
    if mask is None:
        return None
    q, c = queries.shape[0], candidates.shape[0]
    shapes = (), (1,), (c,), (1, 1), (1, c), (q, 1), (q, c)
    mask = _as_tensor("score_mask", mask, tf.bool, shapes)
    shape = tf.stack([tf.shape(queries)[0], tf.shape(candidates)[0]])
    if mask.shape.rank in (0, 1) or (mask.shape.rank == 2 and mask.shape[0] == 1):
        # One for all rows needs no matrix.
        mask, shape = tf.reshape(mask, [-1]), shape[1:]
    return tf.broadcast_to(mask, shape)


def _as_tensor(name, x, dtype, shapes, fix=""):
    x = as_numbers(name, x, dtype)
    if x.shape.rank is not None:
        try:
            check_shape(name, x, *shapes)
        except ValueError as error:
            raise ValueError(f"{error}{fix}") from None
    return x
