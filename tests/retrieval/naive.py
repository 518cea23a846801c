"""The loss of the retrieval task as a float64 loop, its gradients put together from the slopes."""

import math

import numpy as np


def retrieval_loss(
    naive_loss,
    queries,
    candidates,
    ids=None,
    known=None,
    weights=None,
    probability=None,
    mask=None,
    temperature=1.0,
    num_hard_negatives=None,
    in_batch=True,
    row_weights=None,
):
    """Losses of the rows, and the gradients of their sum in queries and candidates.

    Query i has candidate i; the candidates after those are everybody's negatives. Everything that
    stands at a candidate is an array `[num_candidates]`, or `[num_queries, num_candidates]`.
    """
    queries, candidates = (np.asarray(x, "float64") for x in (queries, candidates))
    heads = queries if queries.ndim == 3 else queries[:, np.newaxis]
    values = np.zeros(len(queries))
    by_query, by_candidate = np.zeros_like(heads), np.zeros_like(candidates)
    for i, row in enumerate(heads):
        v = None
        if weights is not None:
            v = [float(x) for x in (weights if np.ndim(weights) == 1 else weights[i])]
        best = [int(np.argmax(row @ candidate)) for candidate in candidates]
        scores = []
        for j, candidate in enumerate(candidates):
            score = float(row[best[j]] @ candidate) / temperature
            if probability is not None:
                score -= math.log(probability[j])
            is_absent = mask is not None and not mask[i][j]
            if j != i:
                is_absent |= not in_batch and j < len(queries)
                is_absent |= ids is not None and ids[j] == ids[i]
                is_absent |= known is not None and ids[j] in known[i]
                is_absent |= v is not None and v[j] == 0
            scores.append(-math.inf if is_absent else score)
        if num_hard_negatives is not None:
            order = sorted((j for j in range(len(scores)) if j != i), key=lambda j: -scores[j])
            for j in order[num_hard_negatives:]:
                scores[j] = -math.inf
        values[i], slopes = naive_loss(scores, i, weights=v)
        row_weight = 1.0 if row_weights is None else float(row_weights[i])
        values[i] *= row_weight
        for j, slope in enumerate(slopes):
            slope *= row_weight / temperature
            by_query[i, best[j]] += slope * candidates[j]
            by_candidate[j] += slope * row[best[j]]
    return values, by_query.reshape(queries.shape), by_candidate
