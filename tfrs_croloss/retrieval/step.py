"""The arguments of a call of the task: checked, and made the structures that it works with."""

from tfrs_croloss.losses.channels import CANDIDATE_WEIGHT
from tfrs_croloss.losses.checks import as_numbers, by_name
from tfrs_croloss.losses.differentiation import traced_as_written
from tfrs_croloss.losses.inputs import check_own
from tfrs_croloss.retrieval.arguments import (
    as_candidates,
    as_features,
    as_integers,
    as_mask,
    as_probabilities,
    as_queries,
    as_row_weights,
    as_weights,
    check_one_kind,
)
from tfrs_croloss.retrieval.requirements import tf
from tfrs_croloss.retrieval.structures import StepCandidates, StepRows


@traced_as_written
def as_step(
    task,
    queries,
    candidates,
    in_batch,
    sample_weight,
    probability,
    candidate_ids,
    mask,
    candidate_weight,
    known_positive_ids,
    row_inputs,
    own,
    query_features,
    candidate_features,
):
    """The `StepRows` and the `StepCandidates` of what a `task` was called with."""
    check_own(own)
    queries = as_queries(queries, task.loss.dtype)
    candidates = as_candidates(candidates, task.loss.dtype)
    check_sizes(task, queries.shape[0], candidates.shape[0], in_batch or own is not None)
    of_candidates, of_scores = as_weights(candidate_weight, queries.dtype)
    features = as_features("candidate_features", candidate_features, candidates) or {}
    _check_memory(task.memory, of_candidates, features)
    ids, known_ids = _ids(task, candidate_ids, known_positive_ids, queries, candidates)
    own_ids = None if own is None else own.ids
    if own_ids is not None and ids is None:
        raise ValueError(
            "`candidate_ids` must be given with the ids of `own`, which are compared with those of "
            "the positives. Received: None"
        )
    if own_ids is not None and isinstance(known_ids, tf.RaggedTensor):
        # Part of a mask they would be of the shared candidates alone.
        known_ids = known_ids.to_tensor(-1)
    rows = StepRows(
        queries=queries,
        weight=as_row_weights(sample_weight, queries),
        known_ids=known_ids,
        mask=as_mask(mask, queries, candidates),
        inputs=_row_inputs(task, row_inputs, probability),
        weights=of_scores,
        features=as_features("query_features", query_features, queries),
        own=_own(task.loss.dtype, own, probability, candidate_ids),
    )
    is_called = any(map(callable, of_scores.values()))
    are_compared = task.remove_accidental_hits or known_ids is not None or own_ids is not None
    return rows, StepCandidates(
        embeddings=candidates,
        # What no one looks at is not sent to other replicas.
        ids=ids if is_called or are_compared else None,
        weights=of_candidates,
        probability=as_probabilities(probability, candidates),
        features=features,
    )


def check_sizes(task, num_queries, num_candidates, has_others):
    """Raises where there are fewer candidates than positives, or no negatives."""
    if None in (num_queries, num_candidates):
        return
    has_others = has_others or task.memory is not None
    if num_candidates < num_queries + (0 if has_others else 1):
        raise ValueError(
            "`candidate_embeddings` must hold the positive of each query, and more with "
            "`in_batch=False`, no memory and no own candidates. Received: "
            f"{num_candidates} candidates for {num_queries} queries"
        )


def _row_inputs(task, row_inputs, probability):
    """The inputs of the rows, those that are scores over the temperature."""
    if row_inputs is None:
        return {}
    if not isinstance(row_inputs, dict):
        raise ValueError(
            '`row_inputs` must be a dict, e.g. {"threshold": thresholds}. '
            f"Received: {row_inputs!r:.100}"
        )
    scores = {wanted.name for wanted in task.loss.row_inputs if wanted.is_score}
    for name in sorted(scores & set(row_inputs)):
        if probability is not None:
            raise ValueError(
                f"`{name}` and `candidate_sampling_probability` exclude each other: the log-Q "
                f"correction shifts the scores away from the {name}. Received: both. Weigh the "
                "candidates with `candidate_weight` instead"
            )
    return {
        name: task.over_temperature(tf.cast(x, task.loss.dtype)) if name in scores else x
        for name, x in row_inputs.items()
        if x is not None
    }


def _own(dtype, own, probability, candidate_ids):
    """The rows' own candidates, with ids like those of the others."""
    if own is None:
        return None
    if probability is not None:
        raise ValueError(
            "`own` and `candidate_sampling_probability` exclude each other: the log-Q correction "
            "would be of some candidates alone. Received: both. Weigh the candidates with "
            "`candidate_weight` instead"
        )
    embeddings = as_numbers("own.embeddings", own.embeddings, dtype)
    ids = None
    if own.ids is not None:
        ids = as_integers("own.ids", own.ids, None, None)
        check_one_kind("own.ids", own.ids, candidate_ids)
    features = as_features("own.features", own.features, embeddings)
    if any(callable(weight) for weight in by_name(own.weight).values()):
        features = {"embedding": tf.stop_gradient(embeddings), **(features or {})}
    return own._replace(embeddings=embeddings, ids=ids, features=features)


def _check_memory(memory, weights, features):
    """Raises on what a memory does not hold."""
    if memory is None:
        return
    memory.check_features(features)
    others = sorted(set(weights) - {CANDIDATE_WEIGHT})
    if others:
        raise ValueError(
            f"`candidate_weight[{others[0]!r}]` must be a function with a memory, which holds no "
            "such weights. Received: an array. A function finds it in `candidate_features`"
        )


def _ids(task, candidate_ids, known_ids, queries, candidates):
    """Both as integers."""
    if candidate_ids is None:
        if task.remove_accidental_hits or known_ids is not None:
            raise ValueError(
                "`candidate_ids` must be given with `remove_accidental_hits` and with "
                "`known_positive_ids`. Received: None"
            )
        return None, None
    ids = as_integers("candidate_ids", candidate_ids, candidates.shape[0])
    if known_ids is None:
        return ids, None
    known = as_integers("known_positive_ids", known_ids, queries.shape[0], None)
    check_one_kind("known_positive_ids", known_ids, candidate_ids)
    return ids, known
