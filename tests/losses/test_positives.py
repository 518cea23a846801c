"""Weights of a row's several positives, and positives that are pooled into one score."""

import numpy as np
import pytest
from keras import ops

from tests.losses.embeddings import CANDIDATES, NUM_QUERIES, QUERIES, SEVERAL, assert_close
from tests.losses.gradients import MODES, value_and_gradients
from tests.losses.losses import CASES, each_loss, make_each_loss
from tfrs_croloss import embedding_loss

WEIGHT = np.random.default_rng(1).uniform(0, 3, SEVERAL.shape).astype("float32")
WEIGHT[3, 0] = 0  # one of two
WEIGHT[1] = 0  # all of them
ROW_WEIGHT = np.linspace(0.5, 2, NUM_QUERIES).astype("float32")


def naive(naive_loss, pooled):
    values = np.zeros(NUM_QUERIES)
    gradients = np.zeros(QUERIES.shape), np.zeros(CANDIDATES.shape)
    for i, query in enumerate(QUERIES.astype("float64")):
        scores = CANDIDATES.astype("float64") @ query
        own = {p: 0.0 for p in SEVERAL[i] if p >= 0}
        for p, weight in zip(SEVERAL[i], WEIGHT[i], strict=True):
            if p >= 0:
                own[p] += weight
        total = sum(own.values())
        if total == 0:
            continue
        negatives = [j for j in range(len(scores)) if j not in own]
        slopes = np.zeros(len(scores))
        if pooled:
            score = sum(weight / total * scores[p] for p, weight in own.items())
            values[i], found = naive_loss([score, *scores[negatives]], 0)
            slopes[negatives] = found[1:]
            for p, weight in own.items():
                slopes[p] = weight / total * found[0]
        else:
            for p, weight in own.items():
                value, found = naive_loss([scores[p], *scores[negatives]], 0)
                values[i] += weight / total * value
                slopes[p] += weight / total * found[0]
                slopes[negatives] += weight / total * np.array(found[1:])
        values[i] *= ROW_WEIGHT[i]
        gradients[0][i] = ROW_WEIGHT[i] * slopes @ CANDIDATES
        gradients[1][:] += ROW_WEIGHT[i] * np.outer(slopes, query)
    return values, gradients


@each_loss
@pytest.mark.parametrize("name", ["positive_weight", "pooling_weight"])
def test_the_matrix_and_blocks_equal_the_loops(make, naive_loss, name):
    expected = naive(naive_loss, name == "pooling_weight")
    labels = np.zeros([NUM_QUERIES, len(CANDIDATES)], "float32")
    matrix = np.full_like(labels, 7)  # elsewhere it does not count
    for i, row in enumerate(SEVERAL):
        for p in {p for p in row if p >= 0}:
            labels[i, p] = 1
            matrix[i, p] = WEIGHT[i][row == p].sum()

    def by_matrix(queries, candidates):
        loss = make(reduction=None, max_positives=3)
        scores = queries @ ops.transpose(candidates)
        return loss(labels, scores, sample_weight=ROW_WEIGHT, **{name: matrix})

    assert_close(value_and_gradients(by_matrix, [QUERIES, CANDIDATES]), expected, 2e-5)

    def by_blocks(queries, candidates):
        return embedding_loss(
            make(reduction=None),
            queries,
            candidates,
            SEVERAL,
            sample_weight=ROW_WEIGHT,
            block_size=3,
            **{name: WEIGHT},
        )

    for mode in MODES if make is CASES["lambda"][0] else MODES[:1]:
        assert_close(value_and_gradients(by_blocks, [QUERIES, CANDIDATES], mode), expected, 2e-5)


@make_each_loss
def test_equal_weights_are_the_mean(make):
    one, other = (
        value_and_gradients(
            lambda q, c, weight=weight: embedding_loss(
                make(), q, c, SEVERAL, positive_weight=weight
            ),
            [QUERIES, CANDIDATES],
        )
        for weight in (None, np.full(SEVERAL.shape, 5.0))
    )
    assert_close(one, other)


@make_each_loss
def test_bad_weights_are_named(make):
    for name in ("positive_weight", "pooling_weight"):
        with pytest.raises(ValueError, match=f"`{name}` must be finite and not negative"):
            embedding_loss(make(), QUERIES, CANDIDATES, SEVERAL, **{name: -1 - WEIGHT})
        with pytest.raises(ValueError, match=f"`{name}` must have shape"):
            embedding_loss(make(), QUERIES, CANDIDATES, SEVERAL, **{name: WEIGHT[:, :2]})
        labels = np.eye(3, 4)
        with pytest.raises(ValueError, match=f"`{name}` must be finite and not negative"):
            make()(labels, labels / 2, **{name: -labels})
        with pytest.raises(ValueError, match=f"`{name}` must have shape"):
            make()(labels, labels / 2, **{name: np.ones(3)})


def test_two_ways_are_one_too_many():
    both = {"positive_weight": WEIGHT, "pooling_weight": WEIGHT}
    with pytest.raises(ValueError, match="exclude each other. Received: both"):
        embedding_loss(CASES["cro"][0](), QUERIES, CANDIDATES, SEVERAL, **both)
    labels = np.eye(3, 4)
    with pytest.raises(ValueError, match="exclude each other. Received: both"):
        CASES["cro"][0]()(labels, labels / 2, positive_weight=labels, pooling_weight=labels)
