"""The losses as float64 loops, written from the papers' formulas and not from the code.

Gradients of a row are ∂L/∂s for every candidate, masked ones 0.
"""

import decimal
import math


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def relu(x):
    return max(0.0, x)


KERNELS = {
    "exponential": math.exp,
    "softplus": lambda x: math.log1p(math.exp(x)) if x < 30 else x,
    "hinge": lambda x: relu(x + 0.5),
    "sigmoid": sigmoid,
    # The authors' composites, as their code has them.
    "multi_hinge": lambda x: 0.1 * relu(x + 5) + relu(x),
    "split_sigmoid": lambda x: sigmoid(-relu(-x)) + sigmoid(relu(x / 2)) - 0.5,
    "sigmoid_hinge": lambda x: sigmoid(-relu(-x)) + relu(x / 20),
    "step": lambda x: 1.0 if x > 0 else 0.0,
}
DERIVATIVES = {
    "exponential": math.exp,
    "softplus": sigmoid,
    "hinge": lambda x: 1.0 if x + 0.5 > 0 else 0.0,
    "sigmoid": lambda x: math.exp(-x) / (1 + math.exp(-x)) ** 2,
    "multi_hinge": lambda x: (0.1 if x + 5 > 0 else 0.0) + (1.0 if x > 0 else 0.0),
    "split_sigmoid": lambda x: (
        math.exp(-x) / (1 + math.exp(-x)) ** 2
        if x < 0
        else 0.5 * math.exp(-x / 2) / (1 + math.exp(-x / 2)) ** 2
    ),
    "sigmoid_hinge": lambda x: math.exp(-x) / (1 + math.exp(-x)) ** 2 if x < 0 else 0.05,
}


def power(base, exponent):
    """In 50 digits: near α = 1 the formula takes differences of numbers near 1."""
    return decimal.Context(prec=50).power(decimal.Decimal(base), decimal.Decimal(exponent))


def rank_value(rank, alpha, size):
    """W_α(r)."""
    if alpha == 1:
        return math.log(rank)
    share = (power(rank, 1 - alpha) - 1) / (power(size + 1, 1 - alpha) - 1)
    return math.log(size + 1) * float(share)


def rank_weight(rank, alpha, size):
    """w_α(r)."""
    if alpha == 1:
        return 1 / rank
    scale = decimal.Decimal(1 - alpha) / (power(size + 1, 1 - alpha) - 1)
    return math.log(size + 1) * float(scale * power(rank, -alpha))


def is_masked(score):
    return score <= -1e30


def negatives_of(scores, positives):
    return [j for j, s in enumerate(scores) if j not in positives and not is_masked(s)]


def mean_over_positives(one_positive, scores, positives):
    """The mean of a loss of one positive, against the row's negatives, over several positives."""
    losses = [one_positive(scores, p, positives) for p in positives if not is_masked(scores[p])]
    if not losses:
        return 0.0, [0.0] * len(scores)
    value = sum(value for value, _ in losses) / len(losses)
    return value, [
        sum(slopes) / len(losses) for slopes in zip(*(g for _, g in losses), strict=True)
    ]


def cro_loss(
    scores,
    positive,
    kernel,
    alpha=1.0,
    lambda_kernel=None,
    temperature=1.0,
    num_items=None,
    rank_estimate="unbiased",
    positives=(),
    weights=None,
):
    """Value and gradient of one row and one positive.

    `positives` are the row's, for the negatives to leave them out; `weights` stand at candidates.
    """
    gradient = [0.0] * len(scores)
    negatives = negatives_of(scores, {positive, *positives})
    if is_masked(scores[positive]) or not negatives:
        return 0.0, gradient
    if weights is None:
        size = len(negatives) if num_items is None else num_items
        v = dict.fromkeys(negatives, size / len(negatives))
    else:
        v = {j: weights[j] for j in negatives}
        size = sum(v.values()) if num_items is None else num_items
    ratio = sum(v.values()) / len(negatives)
    total = 0.0
    for j in negatives:
        x = (scores[j] - scores[positive]) / temperature
        total += v[j] * KERNELS[lambda_kernel or kernel](x)
    rank = 1 + total if rank_estimate == "unbiased" else ratio + total
    for j in negatives:
        x = (scores[j] - scores[positive]) / temperature
        slope = rank_weight(rank, alpha, size) * v[j] * DERIVATIVES[kernel](x) / temperature
        gradient[j] += slope
        gradient[positive] -= slope
    return rank_value(rank, alpha, size), gradient


def multi_margin_loss(
    scores,
    positive,
    margins,
    weights,
    positive_weight,
    negative_weight,
    positives=(),
    candidate_weights=None,
):
    """Value and gradient of one row and one positive, arguments as of `cro_loss`."""
    gradient = [0.0] * len(scores)
    negatives = negatives_of(scores, {positive, *positives})
    if is_masked(scores[positive]) or not negatives:
        return 0.0, gradient
    v = {j: 1.0 if candidate_weights is None else candidate_weights[j] for j in negatives}
    v_sum = sum(v.values())
    value = positive_weight * max(0.0, 1 - scores[positive])
    if scores[positive] < 1:
        gradient[positive] = -positive_weight
    for j in negatives:
        for margin, weight in zip(margins, weights, strict=True):
            value += negative_weight * weight * v[j] * max(0.0, scores[j] - margin) / v_sum
            if scores[j] > margin:
                gradient[j] += negative_weight * weight * v[j] / v_sum
    return value, gradient


# σ and σ' of the pairwise softmax loss.
ACTIVATIONS = {
    "tanh": (lambda x: math.tanh(x) + 1, lambda x: 1 / math.cosh(x) ** 2),
    "relu": (lambda x: relu(x + 1), lambda x: 1.0 if x > -1 else 0.0),
    "atan": (lambda x: relu(math.atan(x) + 1), lambda x: 1 / (1 + x**2)),
}


def log_sum(phi, slope, scores, positive, positives, weights):
    """ln Σ_j v_j · φ(s_j) and its slopes in all scores, from φ and φ'; None without negatives."""
    negatives = negatives_of(scores, {positive, *positives})
    if is_masked(scores[positive]) or not negatives:
        return None
    v = {j: 1.0 if weights is None else weights[j] for j in negatives}
    total = sum(v[j] * phi(scores[j]) for j in negatives)
    slopes = [v[j] * slope(s) / total if j in v else 0.0 for j, s in enumerate(scores)]
    return math.log(total), slopes


def sampled_softmax_loss(scores, positive, temperature, positives=(), weights=None):
    """Value and gradient of one row and one positive, arguments as of `cro_loss`."""
    found = log_sum(
        lambda s: math.exp((s - scores[positive]) / temperature),
        lambda s: math.exp((s - scores[positive]) / temperature) / temperature,
        *(scores, positive, positives, weights),
    )
    if found is None:
        return 0.0, [0.0] * len(scores)
    value, gradient = found
    gradient[positive] = -sum(gradient)
    return value, gradient


def pairwise_softmax_loss(
    scores,
    positive,
    temperature,
    robust_temperature,
    activation="tanh",
    positives=(),
    weights=None,
):
    """Value and gradient of one row and one positive, arguments as of `cro_loss`."""
    sigma, derivative = ACTIVATIONS[activation]
    power = 1 / robust_temperature

    def x(s):
        return (s - scores[positive]) / temperature

    found = log_sum(
        lambda s: sigma(x(s)) ** power,
        lambda s: power * sigma(x(s)) ** (power - 1) * derivative(x(s)) / temperature,
        *(scores, positive, positives, weights),
    )
    if found is None:
        return 0.0, [0.0] * len(scores)
    value, gradient = found
    gradient[positive] = -sum(gradient)
    return value, gradient


def bilateral_softmax_loss(
    scores, positive, temperature, positive_temperature, positives=(), weights=None
):
    """Value and gradient of one row and one positive, arguments as of `cro_loss`."""
    found = log_sum(
        lambda s: math.exp(s / temperature),
        lambda s: math.exp(s / temperature) / temperature,
        *(scores, positive, positives, weights),
    )
    if found is None:
        return 0.0, [0.0] * len(scores)
    value, slopes = found
    ratio = temperature / positive_temperature
    gradient = [ratio * slope for slope in slopes]
    gradient[positive] = -1 / positive_temperature
    return ratio * value - scores[positive] / positive_temperature, gradient


def softmax_loss_at_k(
    scores, positive, temperature, weight_temperature, threshold, positives=(), weights=None
):
    """Value and gradient of one row and one positive, arguments as of `cro_loss`."""
    value, slopes = sampled_softmax_loss(scores, positive, temperature, positives, weights)
    if not any(slopes):
        return 0.0, slopes
    weight = sigmoid((scores[positive] - threshold) / weight_temperature)
    gradient = [weight * slope for slope in slopes]
    gradient[positive] += weight * (1 - weight) / weight_temperature * value
    return weight * value, gradient


def talos_loss(scores, positive, temperature, threshold, positives=(), weights=None):
    """Value and gradient of one row and one positive, arguments as of `cro_loss`."""
    power = 1 / temperature

    def inside(s):
        return sigmoid(s - threshold)

    found = log_sum(
        lambda s: inside(s) ** power,
        lambda s: power * inside(s) ** power * (1 - inside(s)),
        *(scores, positive, positives, weights),
    )
    if found is None:
        return 0.0, [0.0] * len(scores)
    value, gradient = found
    gradient[positive] = -power * (1 - inside(scores[positive]))
    return value - power * math.log(inside(scores[positive])), gradient
