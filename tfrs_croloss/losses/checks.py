"""Checks of what a loss is called with: shapes always, values where they can be seen."""

import warnings
from collections.abc import Mapping

import keras
import numpy as np
from keras import ops

from tfrs_croloss.losses.channels import CANDIDATE_WEIGHT
from tfrs_croloss.losses.tensors import as_tensor, broadcast_unranked, fits, is_ranked

# What the rounding of bfloat16 does to a cosine of 1.
COSINE_TOLERANCE = 0.01

USUAL_CAUSE = "A learning rate too high or a norm of 0 before normalisation is the usual cause"


def check_shapes(y_true, y_pred):
    """Raises a `ValueError` unless both are matrices of one shape."""
    if len(y_true.shape) != 2 or len(y_pred.shape) != 2:
        raise ValueError(
            "`y_true` and `y_pred` must have shape [num_queries, num_candidates]. Received: "
            f"y_true of shape {tuple(y_true.shape)}, y_pred of shape {tuple(y_pred.shape)}"
        )
    if not fits(y_true, y_pred.shape):
        raise ValueError(
            "`y_true` must have the shape of `y_pred`, 1 at the positives. Received: y_true of "
            f"shape {tuple(y_true.shape)}, y_pred of shape {tuple(y_pred.shape)}"
        )


def check_shape(name, x, *shapes):
    """Raises a `ValueError` that names the argument unless it has one of the shapes."""
    if not any(fits(x, shape) for shape in shapes):
        expected = "shape" if len(shapes) == 1 else "one of the shapes"
        raise ValueError(
            f"`{name}` must have {expected} {', '.join(map(str, shapes))}. Received: shape "
            f"{tuple(x.shape)}"
        )


def check_embeddings(loss, queries, candidates, **others):
    """Raises where embeddings make no sense, as `check_values` of scores.

    Args:
        loss: The `RetrievalLoss` that was called.
        queries: `[num_queries, dim]` or `[num_queries, num_heads, dim]`.
        candidates: `[num_candidates, dim]`.
        **others: `[..., dim]` by the name of their argument, or None.

    Raises:
        ValueError: If a shape is wrong or an embedding is NaN or inf.
    """
    is_known_wrong = is_ranked(queries) and len(queries.shape) not in (2, 3)
    if is_known_wrong or len(candidates.shape) != 2:
        raise ValueError(
            "`queries` must have shape [num_queries, dim] or [num_queries, num_heads, dim], and "
            "`candidates` [num_candidates, dim]. Received: shapes "
            f"{tuple(queries.shape)} and {tuple(candidates.shape)}"
        )
    check_shape("candidates", candidates, (None, queries.shape[-1]))
    if _is_compiling():
        return
    sizes = {}
    for name, x in {"queries": queries, "candidates": candidates, **others}.items():
        if x is None:
            continue
        x = ops.stop_gradient(x)
        sizes[name] = ops.sqrt(ops.max(ops.sum(ops.square(x), axis=-1), initial=0))
    sizes = _known(sizes)
    for name, size in sizes.items():
        if not size < float("inf"):
            raise ValueError(
                f"`{name}` must be finite. Received: NaN or inf among them, or too large to be "
                f"squared. {USUAL_CAUSE}"
            )
    if sizes:
        queries = sizes.pop("queries")
        _warn_of_size(loss, queries * max(sizes.values()))


def as_numbers(name, x, dtype=None, rank=None):
    """Numbers as a tensor of this dtype, or a `ValueError` that names the argument."""
    try:
        return as_tensor(x, dtype, rank)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`{name}` must be numbers in rows of one length. Received: {x!r:.200} ({error!s:.200})"
        ) from None


def as_ids(name, ids, rank=None):
    """Ids as a tensor of integers, or a `ValueError` that names the argument."""
    received = getattr(ids, "dtype", None) or f"{ids!r:.200}"
    try:
        tensor = as_tensor(ids, rank=rank)
        is_integer = "int" in keras.backend.standardize_dtype(tensor.dtype)
    except (TypeError, ValueError):
        is_integer, received = False, f"{ids!r:.200}"
    if not is_integer:
        raise ValueError(
            f"`{name}` must be integers in rows of one length: the positions of a vocabulary, or a "
            f"hash. Received: {received}. Fill shorter rows up with -1"
        )
    narrow = np.dtype(keras.backend.standardize_dtype(tensor.dtype))
    if isinstance(ids, np.ndarray) and not np.can_cast(ids.dtype, narrow):
        # JAX without x64 would cut them off, and make one of two.
        bounds = np.iinfo(narrow)
        if ids.size and (ids.min() < bounds.min or ids.max() > bounds.max):
            raise ValueError(
                f"`{name}` must fit into {narrow}, the widest integers of this backend. Received: "
                f"up to {ids.max()}. On JAX enable jax_enable_x64, or number the items"
            )
    return tensor


def by_name(weights):
    """Weights of candidates as a dict by name; those without a name say how many items."""
    if not isinstance(weights, Mapping):
        weights = {CANDIDATE_WEIGHT: weights}
    return {name: weight for name, weight in weights.items() if weight is not None}


def name_of_weight(name, of="candidate_weight"):
    """How a call brought the weights of this name."""
    return of if name == CANDIDATE_WEIGHT else f"{of}[{name!r}]"


def as_weight(name, weight, like, dtype, *shapes):
    """Weights as a tensor of the shape of `like`, or of one of the shapes."""
    weight = broadcast_unranked(as_numbers(name, weight, dtype), ops.shape(like))
    check_shape(name, weight, *shapes, tuple(like.shape))
    return weight


def check_one_of_both(positive_weight, pooling_weight):
    """Raises where positives are to be weighed in two ways."""
    if positive_weight is not None and pooling_weight is not None:
        raise ValueError(
            "`positive_weight` and `pooling_weight` exclude each other. Received: both"
        )


def check_rows_alone(sample_weight, num_queries):
    """Raises unless these are weights of rows."""
    try:
        check_shape("sample_weight", sample_weight, (), (num_queries,), (num_queries, 1))
    except ValueError as error:
        raise ValueError(
            f"{error}. Weights of candidates are a `candidate_weight`; through Keras's `fit` "
            "CandidateWeighted(loss) takes them"
        ) from None


def check_inputs(inputs, hints):
    """Raises, where values can be seen, on inputs of the rows that are NaN or inf.

    Args:
        inputs: Tensors by name.
        hints: What to do about it, by name.
    """
    if _is_compiling():
        return
    for name, is_bad in _known({name: _is_not_finite(x) for name, x in inputs.items()}).items():
        if is_bad:
            hint = hints[name] and f". {hints[name]}"
            raise ValueError(f"`{name}` must be finite{hint}. Received: NaN or inf among them")


def check_index(name, index, bound):
    """Raises, where values can be seen, on indices of no candidate."""
    if _is_compiling():
        return
    # Wide ones are not cut: they could come out in the range.
    is_wide = keras.backend.standardize_dtype(index.dtype) == "int64"
    index = index if is_wide else ops.cast(index, "int32")
    bound = ops.cast(bound, index.dtype)
    if _known({name: ops.any(ops.logical_or(index < -1, index >= bound))}).get(name):
        raise ValueError(f"`{name}` must be from -1 (none) to {int(bound) - 1}. Received: others")


def check_weights(weights):
    """Raises, where values can be seen, on weights by name that are negative, NaN or inf."""
    if _is_compiling():
        return
    facts = {name: _is_no_weight(ops.cast(x, "float32")) for name, x in weights.items()}
    for name, is_bad in _known(facts).items():
        if is_bad:
            raise ValueError(
                f"`{name}` must be finite and not negative. Received: NaN, inf or negative numbers"
            )


def check_values(
    loss,
    scores,
    labels,
    weights=None,
    positive_weight=None,
    pooling_weight=None,
    sample_weight=None,
    *,
    masked_score,
):
    """Raises where values make no sense, and warns once about scores that are no cosines.

    In compiled code there are no values to look at: nothing happens.

    Args:
        loss: The `RetrievalLoss` that was called.
        scores: `[num_queries, num_candidates]`.
        labels: `[num_queries, num_candidates]`.
        weights: Weights of the candidates by name, that broadcast with `scores`.
        positive_weight: Weights of the positives, where they stand in `scores`, or None.
        pooling_weight: Likewise.
        sample_weight: Weights of the rows, or None.
        masked_score: Scores at or below it are absent.

    Raises:
        ValueError: If a score is NaN or +inf, a label neither 0 nor 1, a row has more positives
            than the loss takes, or a weight is negative, NaN or inf.
    """
    if _is_compiling():
        return
    # JAX knows the values of what it does not differentiate.
    labels, scores = ops.stop_gradient(labels), ops.stop_gradient(scores)
    absent = scores <= masked_score
    size = ops.where(absent, 0, ops.absolute(scores))
    positives = ops.sum(ops.where(absent, 0, labels), axis=1)
    facts = {
        "scores": ops.any(ops.logical_not(size < float("inf"))),
        "labels": ops.any(ops.logical_not(ops.logical_or(labels == 0, labels == 1))),
        "positives": ops.any(positives > loss.max_positives),
        "cosines": ops.any(size > 1 + COSINE_TOLERANCE),
    }
    facts = _known(facts)
    if not facts:
        return
    if facts["scores"]:
        raise ValueError(
            "`y_pred` must hold finite scores, or -inf where a candidate is masked. Received: NaN "
            f"or inf among them. {USUAL_CAUSE}"
        )
    if facts["labels"]:
        raise ValueError(
            "`y_true` must be 1 at a row's positives and 0 elsewhere. Received: other values "
            "(soft labels have no meaning here; weigh rows with `sample_weight`)"
        )
    if facts["positives"]:
        raise ValueError(
            f"`y_true` has a row with {int(ops.max(positives))} positives. Received: "
            f"max_positives={loss.max_positives}. Give the loss the most that a row can have"
        )
    if facts["cosines"]:
        _warn_of_size(loss, float(ops.max(size)))
    # What stands at positives and masked candidates does not count.
    of_negatives = {
        name_of_weight(name): ops.where(absent, 0, ops.where(labels > 0, 0, x))
        for name, x in (weights or {}).items()
    }
    of_positives = {
        name: ops.where(absent, 0, ops.where(labels > 0, x, 0))
        for name, x in (("positive_weight", positive_weight), ("pooling_weight", pooling_weight))
        if x is not None
    }
    of_rows = {} if sample_weight is None else {"sample_weight": sample_weight}
    check_weights({**of_negatives, **of_positives, **of_rows})


def _is_no_weight(x):
    x = ops.stop_gradient(x)
    return ops.logical_not(ops.all(ops.logical_and(x >= 0, x < float("inf"))))


def _is_not_finite(x):
    return ops.any(ops.logical_not(ops.absolute(ops.stop_gradient(x)) < float("inf")))


def _warn_of_size(loss, size):
    """Warns once of scores that are no cosines, where the loss takes such."""
    if size > 1 + COSINE_TOLERANCE and loss.takes_cosines and not loss._has_warned:
        loss._has_warned = True
        warnings.warn(
            f"{type(loss).__name__} takes cosines in [-1, 1]; a score of size {size:.3g} came. "
            "Normalise both embeddings, and leave the task's `temperature` and "
            "`candidate_sampling_probability` off: they rescale and shift the scores before the "
            "loss sees them",
            stacklevel=6,  # the caller of the loss
        )


def _is_compiling():
    """Whether a graph is being made, where there are no values to look at.

    JAX tells by the tensors alone: see `_known`.
    """
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        return not tf.executing_eagerly()
    if keras.backend.backend() == "torch":
        import torch

        return torch.compiler.is_compiling()
    return False


def _known(facts):
    """A dict of boolean tensors as booleans, empty if they have no values (yet)."""
    if not facts:
        return {}
    try:
        values = ops.convert_to_numpy(ops.stack(list(facts.values())))
    except (NotImplementedError, RuntimeError, TypeError, ValueError):
        # A symbol of a TensorFlow graph, a tracer of JAX or torch.func, PyTorch's "meta" device.
        return {}
    return dict(zip(facts, values.tolist(), strict=True))
