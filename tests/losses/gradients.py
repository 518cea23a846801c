"""Value and gradient of a loss on any Keras backend, eager and compiled, as numpy."""

import contextlib

import keras
import numpy as np

BACKEND = keras.backend.backend()


def value_and_gradient(loss, y_true, y_pred, dtype="float64", compiled=False, **kwargs):
    """Calls `loss` on `y_pred` and differentiates the (summed) result in it.

    `compiled` means XLA on TensorFlow (and its own graphs, which must agree) and on JAX; PyTorch
    has nothing to compile for here.
    """
    y_true, y_pred = np.asarray(y_true, dtype), np.asarray(y_pred, dtype)
    return BACKENDS[BACKEND](loss, y_true, y_pred, compiled, **kwargs)


def _tensorflow(loss, y_true, y_pred, compiled, **kwargs):
    import tensorflow as tf

    def both(scores):
        with tf.GradientTape() as tape:
            tape.watch(scores)
            value = loss(tf.constant(y_true), scores, **kwargs)
        return value, tape.gradient(value, scores)

    scores = tf.constant(y_pred)
    if compiled:
        by_graph = tf.function(both)(scores)
        value, gradient = tf.function(both, jit_compile=True)(scores)
        for one, other in zip(by_graph, (value, gradient), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    else:
        value, gradient = both(scores)
    return value.numpy(), gradient.numpy()


def _jax(loss, y_true, y_pred, compiled, **kwargs):
    import jax

    def total(scores):
        value = loss(y_true, scores, **kwargs)
        return value.sum(), value

    with jax.enable_x64(y_pred.dtype == np.float64):
        both = jax.value_and_grad(total, has_aux=True)
        (_, value), gradient = (jax.jit(both) if compiled else both)(y_pred)
    return np.asarray(value), np.asarray(gradient)


def _torch(loss, y_true, y_pred, compiled, **kwargs):
    import torch

    scores = torch.tensor(y_pred, requires_grad=True)
    value = loss(torch.tensor(y_true), scores, **kwargs)
    value.sum().backward()
    return value.detach().numpy(), scores.grad.numpy()


BACKENDS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}


def float64():
    """A context in which tensors may be float64."""
    if BACKEND == "jax":
        import jax

        return jax.enable_x64(True)
    return contextlib.nullcontext()
