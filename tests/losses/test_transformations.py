"""The losses inside what a backend does to functions: JAX's transformations, second derivatives,
TensorFlow's graphs of unknown shape."""

import numpy as np
import pytest
from keras import ops

from tests.losses.gradients import BACKEND, float64, second_derivative, value_and_gradient
from tests.losses.losses import CASES, each_loss, make_each_loss
from tests.losses.naive import mean_over_positives
from tests.losses.scores import NUM_CANDIDATES, ONE_HOT, SCORES
from tfrs_croloss import CROLoss

X = SCORES.astype("float32")
LABELS = ONE_HOT.astype("float32")
WEIGHT = np.linspace(0.5, 2, NUM_CANDIDATES).astype("float32")


@pytest.mark.skipif(BACKEND != "jax", reason="a test of JAX's own transformations")
@make_each_loss
def test_gradients_through_the_transformations_of_jax(make):
    import jax

    loss = make()
    _, expected = value_and_gradient(loss, LABELS, X, dtype="float32", candidate_weight=WEIGHT)

    def of(labels, scores, weight):
        return loss(labels, scores, candidate_weight=weight)

    def scanned(labels, scores, weight):
        step = lambda total, row: (total + of(row[0][None], row[1][None], weight), None)  # noqa: E731
        return jax.lax.scan(step, 0.0, (labels, scores))[0]

    def mapped(labels, scores, weight):
        return jax.vmap(lambda y, x: of(y[None], x[None], weight))(labels, scores).sum()

    for function in (jax.jit(of), jax.checkpoint(of), scanned, mapped):
        for gradient_of in (jax.grad(function, 1), jax.jit(jax.grad(function, 1))):
            gradient = gradient_of(LABELS, X, WEIGHT)
            np.testing.assert_allclose(gradient, expected, rtol=1e-4, atol=1e-5)


def hard_rows():
    """Ties, masked scores, a row without negatives, and negatives far below."""
    scores = np.concatenate([SCORES, np.tile(SCORES[:1], [4, 1])])
    ties, masked, without, far_below = scores[-4:]
    ties[1:3] = ties[0]
    masked[1], masked[2] = -np.inf, -3.4e36
    without[1:] = -np.inf
    far_below[1:] -= 2000
    labels = np.concatenate([ONE_HOT, np.tile(np.eye(NUM_CANDIDATES)[:1], [4, 1])])
    return scores, labels


@pytest.mark.skipif(BACKEND == "torch", reason="differentiable once, and says so")
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        CASES["cro"][0],
        CASES["scaled"][0],
        lambda **options: CROLoss("exponential", temperature=0.5, **options),
        lambda **options: CROLoss(lambda x: x * ops.sigmoid(x) + 1, **options),
    ],
)
def test_second_derivatives(make, compiled):
    """The change of the gradient along a direction, against its central differences."""
    loss, (scores, labels) = make(dtype="float64"), hard_rows()
    direction = np.random.default_rng(3).normal(size=scores.shape)
    step = 1e-5
    ahead, behind = (
        value_and_gradient(loss, labels, scores + sign * step * direction)[1] for sign in (1, -1)
    )
    expected = (ahead - behind) / (2 * step)
    with float64():
        actual = second_derivative(loss, labels, scores, direction, compiled)
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.skipif(BACKEND != "torch", reason="the others have second derivatives")
def test_a_second_derivative_is_refused():
    import torch

    scores = torch.tensor(SCORES, requires_grad=True)
    with pytest.raises(NotImplementedError, match="differentiable once"):
        torch.autograd.grad(CROLoss(dtype="float64")(ONE_HOT, scores), scores, create_graph=True)


@pytest.mark.skipif(
    BACKEND != "tensorflow", reason="of TensorFlow's graphs: the others know all shapes"
)
@each_loss
def test_graphs_of_unknown_shape(make, naive_loss):
    import tensorflow as tf

    loss = make(reduction=None, max_positives=6)
    unknown = tf.TensorSpec([None, None])

    @tf.function(input_signature=[unknown, unknown, unknown])
    def both(labels, scores, weight):
        with tf.GradientTape() as tape:
            tape.watch(scores)
            value = loss(labels, scores, candidate_weight=weight)
        return value, tape.gradient(value, scores)

    for width in (4, NUM_CANDIDATES):  # fewer candidates than positives there may be, and more
        labels = LABELS[:, :width].copy()
        labels[1, [0, 3]] = 1
        value, gradient = both(labels, X[:, :width], np.tile(WEIGHT[:width], [len(X), 1]))
        for i, row in enumerate(X[:, :width].astype("float64")):
            naive = mean_over_positives(
                lambda s, p, positives: naive_loss(s, p, positives, WEIGHT.astype("float64")),
                row.tolist(),
                set(np.flatnonzero(labels[i])),
            )
            np.testing.assert_allclose(value[i], naive[0], rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(gradient[i], naive[1], rtol=1e-4, atol=1e-5)
