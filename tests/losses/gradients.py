"""Value and gradient of a loss on any Keras backend, as numpy."""

import keras
import numpy as np


def value_and_gradient(loss, y_true, y_pred, dtype="float64", **kwargs):
    """Calls `loss` on `y_pred` and differentiates the (summed) result in it."""
    y_true, y_pred = np.asarray(y_true, dtype), np.asarray(y_pred, dtype)
    return BACKENDS[keras.backend.backend()](loss, y_true, y_pred, **kwargs)


def _tensorflow(loss, y_true, y_pred, **kwargs):
    import tensorflow as tf

    scores = tf.constant(y_pred)
    with tf.GradientTape() as tape:
        tape.watch(scores)
        value = loss(tf.constant(y_true), scores, **kwargs)
    return value.numpy(), tape.gradient(value, scores).numpy()


def _jax(loss, y_true, y_pred, **kwargs):
    import jax

    def total(scores):
        value = loss(y_true, scores, **kwargs)
        return value.sum(), value

    with jax.enable_x64(y_pred.dtype == np.float64):
        (_, value), gradient = jax.value_and_grad(total, has_aux=True)(y_pred)
    return np.asarray(value), np.asarray(gradient)


def _torch(loss, y_true, y_pred, **kwargs):
    import torch

    scores = torch.tensor(y_pred, requires_grad=True)
    value = loss(torch.tensor(y_true), scores, **kwargs)
    value.sum().backward()
    return value.detach().numpy(), scores.grad.numpy()


BACKENDS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
