"""Checks of the values that a loss is called with, where they can be seen."""

import warnings

from keras import ops

# What the rounding of bfloat16 does to a cosine of 1.
COSINE_TOLERANCE = 0.01


def check(loss, labels, scores, weight, masked_score):
    """Raises where values make no sense, and warns once about scores that are no cosines.

    In compiled code there are no values to look at: nothing happens.

    Args:
        loss: The `RetrievalLoss` that was called.
        labels: `[num_queries, num_candidates]`.
        scores: `[num_queries, num_candidates]`.
        weight: Weights of the candidates, that broadcast with `scores`, or None.
        masked_score: Scores at or below it are absent.

    Raises:
        ValueError: If a score is NaN or +inf, a label neither 0 nor 1, a row has more positives
            than the loss takes, or a weight is negative, NaN or inf.
    """
    present = ops.logical_not(scores <= masked_score)
    size = ops.where(present, ops.absolute(scores), 0)
    facts = {
        "scores": ops.any(ops.logical_not(size < float("inf"))),
        "labels": ops.any(ops.logical_and(labels != 0, labels != 1)),
        "positives": ops.max(ops.sum(labels, axis=1), initial=0),
        "largest": ops.max(size, initial=0),
    }
    if weight is not None:
        facts["weights"] = ops.logical_not(
            ops.all(ops.logical_and(weight >= 0, weight < float("inf")))
        )
    facts = _numbers(facts)
    if facts is None:
        return
    if facts["scores"]:
        raise ValueError(
            "`y_pred` must hold finite scores, or -inf where a candidate is masked. Received: NaN "
            "or inf among them. A learning rate too high or a norm of 0 before normalisation is "
            "the usual cause"
        )
    if facts["labels"]:
        raise ValueError(
            "`y_true` must be 1 at a row's positives and 0 elsewhere. Received: other values "
            "(soft labels have no meaning here; weigh rows with `sample_weight`)"
        )
    if facts["positives"] > loss.max_positives:
        raise ValueError(
            f"`y_true` has a row with {facts['positives']:.0f} positives. Received: "
            f"max_positives={loss.max_positives}. Give the loss the most that a row can have"
        )
    if facts.get("weights"):
        raise ValueError(
            "`candidate_weight` must be finite and not negative. Received: other values"
        )
    if loss.takes_cosines and facts["largest"] > 1 + COSINE_TOLERANCE and not loss.has_warned:
        loss.has_warned = True
        warnings.warn(
            f"{type(loss).__name__} takes cosines in [-1, 1]; a score of size "
            f"{facts['largest']:.3g} came. Normalise both embeddings, and leave the task's "
            "`temperature` and `candidate_sampling_probability` off: they rescale and shift the "
            "scores before the loss sees them",
            stacklevel=2,
        )


def _numbers(facts):
    """A dict of scalar tensors as floats, or None if they have no values (yet)."""
    stacked = ops.stack([ops.cast(fact, "float32") for fact in facts.values()])
    try:
        numbers = ops.convert_to_numpy(stacked)
    except (NotImplementedError, TypeError):  # a symbol of a TensorFlow graph, a JAX tracer
        return None
    return dict(zip(facts, numbers.tolist(), strict=True))
