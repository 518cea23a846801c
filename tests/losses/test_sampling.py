"""With candidate weights the rank estimate is unbiased, whatever the negatives were drawn by."""

import numpy as np
import pytest

from tests.losses.gradients import value_and_gradient
from tests.losses.naive import KERNELS
from tfrs_croloss import CROLoss, MultiMarginLoss

NUM_ITEMS, NUM_NEGATIVES, NUM_DRAWS = 400, 64, 4000
RNG = np.random.default_rng(0)
POPULARITY = 1 / np.arange(1, NUM_ITEMS + 1) ** 0.75
# Popular items score higher, so negatives drawn by popularity are harder than the catalogue.
CATALOGUE = 2 * POPULARITY + RNG.normal(scale=0.5, size=NUM_ITEMS)
POSITIVE = 3
DISTRIBUTIONS = {
    "uniform": np.ones(NUM_ITEMS),
    "popularity": POPULARITY,
    "log-uniform": np.log1p(1 / np.arange(1, NUM_ITEMS + 1)),
    "in-batch mixed with uniform": 0.5 * POPULARITY / POPULARITY.sum() + 0.5 / NUM_ITEMS,
}


def drawn(probability):
    """Rows with the positive in front, and weights v = 1/(M·p) given that it was not drawn."""
    probability = np.where(np.arange(NUM_ITEMS) == POSITIVE, 0, probability)
    probability = probability / probability.sum()
    items = RNG.choice(NUM_ITEMS, size=[NUM_DRAWS, NUM_NEGATIVES], p=probability)
    own = np.full([NUM_DRAWS, 1], POSITIVE)
    scores = CATALOGUE[np.concatenate([own, items], axis=1)]
    weights = np.concatenate([np.ones([NUM_DRAWS, 1]), 1 / (NUM_NEGATIVES * probability[items])], 1)
    labels = np.eye(1, NUM_NEGATIVES + 1).repeat(NUM_DRAWS, axis=0)
    return labels, scores, weights.astype("float32")


def true_sum(function):
    return sum(function(s) for j, s in enumerate(CATALOGUE) if j != POSITIVE)


@pytest.mark.parametrize("probability", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
@pytest.mark.parametrize("kernel", ["exponential", "softplus", "sigmoid", "hinge"])
def test_the_rank_is_unbiased(kernel, probability):
    """Read off e^L of α = 1, whose loss is the logarithm of the rank."""
    rank = 1 + true_sum(lambda s: KERNELS[kernel](s - CATALOGUE[POSITIVE]))
    labels, scores, weights = drawn(probability)
    # num_items makes R without weights; with them it must not enter again.
    loss = CROLoss(kernel, num_items=NUM_ITEMS, reduction=None)
    values, _ = value_and_gradient(loss, labels, scores, dtype="float32", candidate_weight=weights)
    ranks = np.exp(values.astype("float64"))
    error = ranks.std() / np.sqrt(NUM_DRAWS)
    assert abs(ranks.mean() - rank) < 4 * error
    assert error < 0.02 * rank


def test_without_weights_and_with_log_q_it_is_biased():
    """What the weights mend: negatives by popularity, as they are, and as TFRS corrects them."""
    probability = POPULARITY / POPULARITY.sum()
    rank = 1 + true_sum(lambda s: np.exp(s - CATALOGUE[POSITIVE]))
    labels, scores, _ = drawn(POPULARITY)
    loss = CROLoss("exponential", num_items=NUM_ITEMS, reduction=None)
    plain, _ = value_and_gradient(loss, labels, scores, dtype="float32")
    assert abs(np.exp(plain).mean() / rank - 1) > 0.2
    order = np.argsort(CATALOGUE)
    items = order[np.searchsorted(CATALOGUE, scores, sorter=order)]
    log_q = scores - np.log(probability[items])
    shifted, _ = value_and_gradient(loss, labels, log_q, dtype="float32")
    assert abs(np.exp(shifted).mean() / rank - 1) > 0.2


def test_a_uniform_probability_is_the_catalogue_over_the_negatives():
    labels, scores, _ = drawn(np.ones(NUM_ITEMS))
    v = np.full(NUM_NEGATIVES + 1, NUM_ITEMS / NUM_NEGATIVES, "float32")  # p = 1/N: v = N/M = R
    for estimate in ("unbiased", "scaled"):
        loss = CROLoss(alpha=1.2, num_items=NUM_ITEMS, rank_estimate=estimate)
        weighed = value_and_gradient(loss, labels, scores, dtype="float32", candidate_weight=v)
        plain = value_and_gradient(loss, labels, scores, dtype="float32")
        np.testing.assert_allclose(weighed[0], plain[0], rtol=1e-5)
        np.testing.assert_allclose(weighed[1], plain[1], rtol=1e-4, atol=1e-7)


def test_for_the_exponential_it_is_a_shift_of_the_negatives_alone():
    labels, scores, weights = drawn(POPULARITY)
    loss = CROLoss("exponential", num_items=NUM_ITEMS)
    weighed = value_and_gradient(loss, labels, scores, dtype="float32", candidate_weight=weights)
    shifted = scores + np.where(labels > 0, 0, np.log(weights))
    ratio_free = CROLoss("exponential")
    expected = value_and_gradient(ratio_free, labels, shifted, dtype="float32")
    np.testing.assert_allclose(weighed[0], expected[0], rtol=1e-5)
    np.testing.assert_allclose(weighed[1], expected[1], rtol=1e-4, atol=1e-7)


@pytest.mark.filterwarnings("ignore:MultiMarginLoss takes cosines")
@pytest.mark.parametrize("probability", DISTRIBUTIONS.values(), ids=DISTRIBUTIONS)
def test_the_mean_over_the_catalogue_is_found_by_weights(probability):
    """MML's Σvψ/Σv goes to the mean over the catalogue, as a ratio of two unbiased sums does."""
    margins, margin_weights = (-0.2, 0.4), (1.0, 2.0)
    psi = true_sum(
        lambda s: sum(w * max(0, s - m) for m, w in zip(margins, margin_weights, strict=True))
    )
    labels, scores, weights = drawn(probability)
    loss = MultiMarginLoss(margins, margin_weights, positive_weight=0.0, reduction=None)
    values, _ = value_and_gradient(loss, labels, scores, dtype="float32", candidate_weight=weights)
    mean = psi / (NUM_ITEMS - 1)
    error = values.std() / np.sqrt(NUM_DRAWS)
    # The ratio's own bias is of the order of 1/M.
    assert abs(values.mean() - mean) < 4 * error + mean / NUM_NEGATIVES
