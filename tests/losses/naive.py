"""The losses as float64 loops, written from the papers' formulas and not from the code.

Gradients of a row are ∂L/∂s for every candidate, masked ones 0.
"""

import math

KERNELS = {
    "exponential": math.exp,
    "softplus": lambda x: math.log(1 + math.exp(x)) if x < 30 else x,
    "hinge": lambda x: max(0.0, x + 0.5),
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
}
DERIVATIVES = {
    "exponential": math.exp,
    "softplus": lambda x: 1 / (1 + math.exp(-x)),
    "hinge": lambda x: 1.0 if x + 0.5 > 0 else 0.0,
    "sigmoid": lambda x: math.exp(-x) / (1 + math.exp(-x)) ** 2,
}


def rank_value(rank, alpha, size):
    """W_α(r)."""
    if alpha == 1:
        return math.log(rank)
    return math.log(size + 1) * (rank ** (1 - alpha) - 1) / ((size + 1) ** (1 - alpha) - 1)


def rank_weight(rank, alpha, size):
    """w_α(r)."""
    if alpha == 1:
        return 1 / rank
    return (1 - alpha) * math.log(size + 1) * rank**-alpha / ((size + 1) ** (1 - alpha) - 1)


def is_masked(score):
    return score <= -1e30


def negatives_of(scores, positive):
    return [j for j, s in enumerate(scores) if j != positive and not is_masked(s)]


def cro_loss(
    scores,
    positive,
    kernel,
    alpha=1.0,
    lambda_kernel=None,
    temperature=1.0,
    num_items=None,
    rank_estimate="unbiased",
):
    """Value and gradient of one row."""
    gradient = [0.0] * len(scores)
    negatives = negatives_of(scores, positive)
    if is_masked(scores[positive]) or not negatives:
        return 0.0, gradient
    size = len(negatives) if num_items is None else num_items
    ratio = size / len(negatives)
    total = 0.0
    for j in negatives:
        total += KERNELS[lambda_kernel or kernel]((scores[j] - scores[positive]) / temperature)
    rank = 1 + ratio * total if rank_estimate == "unbiased" else ratio * (1 + total)
    for j in negatives:
        x = (scores[j] - scores[positive]) / temperature
        slope = rank_weight(rank, alpha, size) * ratio * DERIVATIVES[kernel](x) / temperature
        gradient[j] += slope
        gradient[positive] -= slope
    return rank_value(rank, alpha, size), gradient


def multi_margin_loss(scores, positive, margins, weights, positive_weight, negative_weight):
    """Value and gradient of one row."""
    gradient = [0.0] * len(scores)
    negatives = negatives_of(scores, positive)
    if is_masked(scores[positive]) or not negatives:
        return 0.0, gradient
    value = positive_weight * max(0.0, 1 - scores[positive])
    if scores[positive] < 1:
        gradient[positive] = -positive_weight
    for j in negatives:
        for margin, weight in zip(margins, weights, strict=True):
            value += negative_weight * weight * max(0.0, scores[j] - margin) / len(negatives)
            if scores[j] > margin:
                gradient[j] += negative_weight * weight / len(negatives)
    return value, gradient
