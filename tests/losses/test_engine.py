"""`embedding_loss` equals the naive loops, and the loss of the score matrix, in every option."""

import numpy as np
import pytest

from tests.losses.embeddings import (
    ALL,
    CANDIDATES,
    DIM,
    MASKS,
    NUM_QUERIES,
    OPTIONS,
    QUERIES,
    SAMPLE_WEIGHT,
    assert_close,
    engine_of,
    matrix_of,
    naive_of,
    unit,
)
from tests.losses.gradients import MODES
from tests.losses.losses import CASES, each_loss, make_each_loss


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_every_option_equals_the_loops(options):
    make, naive_loss = CASES["scaled"]
    options = {"queries": QUERIES, "candidates": CANDIDATES, **options}
    expected = naive_of(naive_loss, **options)
    assert_close(engine_of(make(), **options, reduction=None, block_size=3), expected)


@each_loss
@pytest.mark.parametrize("options", [{}, ALL, OPTIONS["own positives and all"]])
def test_every_loss_equals_the_loops_and_the_matrix(make, naive_loss, options):
    values, gradients = naive_of(naive_loss, QUERIES, CANDIDATES, **options)
    assert_close(matrix_of(make, QUERIES, CANDIDATES, **options), (values, gradients))
    total = engine_of(make(), QUERIES, CANDIDATES, **options, block_size=3)
    assert_close(total, (values.sum(), gradients))


def test_blocks_of_any_size_are_one():
    make, naive_loss = CASES["lambda"]
    values, gradients = naive_of(naive_loss, QUERIES, CANDIDATES)
    for block_size in ("auto", 1, 2, NUM_QUERIES, 100, None):
        total = engine_of(make(), QUERIES, CANDIDATES, block_size=block_size)
        assert_close(total, (values.sum(), gradients))


def test_blocks_made_by_auto_are_one():
    queries, candidates = unit(513, DIM, seed=8), unit(600, DIM, seed=9)
    make, _ = CASES["cro"]
    one, several = (
        engine_of(make(), queries, candidates, block_size=size, reduction=None)
        for size in (None, "auto")
    )
    assert_close(several, one)


@pytest.mark.parametrize("reduction", ["sum", "sum_over_batch_size", "mean", "none", None])
@pytest.mark.parametrize("weight", [None, SAMPLE_WEIGHT, SAMPLE_WEIGHT[:, None]])
def test_reductions(reduction, weight):
    make, naive_loss = CASES["cro"]
    values, gradients = naive_of(naive_loss, QUERIES, CANDIDATES, sample_weight=weight)
    if reduction in ("none", None):
        expected, factor = values, 1
    else:
        factor = 1 if reduction == "sum" else 1 / NUM_QUERIES
        expected = values.sum() * factor
    options = {"reduction": reduction, "sample_weight": weight, "block_size": 3}
    # The reduction of the loss itself does not count.
    actual = engine_of(make(reduction="sum_over_batch_size"), QUERIES, CANDIDATES, **options)
    assert_close(actual, (expected, [factor * x for x in gradients]))


@pytest.mark.parametrize("weight", [None, SAMPLE_WEIGHT, 0 * SAMPLE_WEIGHT])
def test_the_mean_with_sample_weight_is_of_the_weights(weight):
    make, naive_loss = CASES["mml"]
    values, gradients = naive_of(naive_loss, QUERIES, CANDIDATES, sample_weight=weight)
    weight_sum = NUM_QUERIES if weight is None else sum(weight.tolist()) or 1
    options = {"reduction": "mean_with_sample_weight", "sample_weight": weight}
    actual = engine_of(make(), QUERIES, CANDIDATES, **options)
    assert_close(actual, (values.sum() / weight_sum, [x / weight_sum for x in gradients]))


@pytest.mark.parametrize("reduction", [None, "sum"])
def test_the_upstream_gradient_weighs_the_rows(reduction):
    make, naive_loss = CASES["scaled"]
    upstream = np.float32(3) if reduction else SAMPLE_WEIGHT - 1
    weight = np.broadcast_to(upstream, [NUM_QUERIES])
    values, _ = naive_of(naive_loss, QUERIES, CANDIDATES)
    _, gradients = naive_of(naive_loss, QUERIES, CANDIDATES, sample_weight=weight)
    options = {"upstream": upstream, "reduction": reduction, "block_size": 3}
    actual = engine_of(make(), QUERIES, CANDIDATES, **options)
    assert_close(actual, (values.sum() if reduction else values, gradients))


def compiled_modes(modes):
    nothing = pytest.param(None, marks=pytest.mark.skip(reason="PyTorch runs eagerly"))
    return pytest.mark.parametrize("mode", modes or [nothing])


@compiled_modes(MODES[1:3])
@make_each_loss
def test_compiled_is_eager(make, mode):
    eager = engine_of(make(), QUERIES, CANDIDATES, block_size=3)
    assert_close(engine_of(make(), QUERIES, CANDIDATES, mode=mode, block_size=3), eager)


@compiled_modes(MODES[1:])
def test_compiled_is_eager_in_all_options(mode):
    make, naive_loss = CASES["mml"]
    options = {"num_hard_negatives": 3, **ALL, "score_mask": MASKS}
    expected = naive_of(naive_loss, QUERIES, CANDIDATES, **options)
    ways = {"mode": mode, "block_size": 3, "reduction": None}
    assert_close(engine_of(make(), QUERIES, CANDIDATES, **ways, **options), expected)


@compiled_modes(MODES[1:])
def test_compiled_is_eager_with_positives_and_heads(mode):
    make, naive_loss = CASES["mml"]
    queries, options = unit(NUM_QUERIES, 2, DIM, seed=6), OPTIONS["own positives and all"]
    values, gradients = naive_of(naive_loss, queries, CANDIDATES, **options)
    actual = engine_of(make(), queries, CANDIDATES, mode=mode, **options)
    assert_close(actual, (values.sum(), gradients))
