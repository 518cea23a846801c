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


# How a function of several inputs is called. PyTorch has nothing to compile for here.
MODES = {
    "tensorflow": ("eager", "graph", "xla", "unknown rows", "unknown rows by xla"),
    "jax": ("eager", "jit", "scan"),
    "torch": ("eager",),
}[BACKEND]


def second_derivative(loss, labels, scores, direction, compiled=False):
    """H · direction, which is the gradient of gradient · direction, for H is symmetric."""
    if BACKEND == "jax":
        import jax

        gradient = jax.grad(lambda x: (jax.grad(lambda y: loss(labels, y))(x) * direction).sum())
        return np.asarray((jax.jit(gradient) if compiled else gradient)(scores))
    import tensorflow as tf

    def gradient(x):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                value = loss(labels, x)
            product = tf.reduce_sum(inner.gradient(value, x) * direction)
        return outer.gradient(product, x)

    return (tf.function(gradient) if compiled else gradient)(tf.constant(scores)).numpy()


def value_and_gradients(function, inputs, mode="eager", upstream=None):
    """The value of `function(*inputs)` and its gradients in the inputs, as numpy.

    `upstream` weighs the entries of the value, 1 each by default.
    """
    results = BACKENDS_OF_SEVERAL[BACKEND](function, inputs, mode, upstream)
    value, *gradients = (np.array(keras.ops.convert_to_numpy(x)) for x in results)
    return value, gradients


def _tensorflow_of_several(function, inputs, mode, upstream):
    import tensorflow as tf

    def both(*inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            value = function(*inputs)
        return value, *tape.gradient(value, inputs, output_gradients=upstream)

    inputs = [tf.convert_to_tensor(x) for x in inputs]
    if mode == "eager":
        return both(*inputs)
    signature = None
    if "unknown" in mode:
        signature = [tf.TensorSpec([None, *x.shape[1:]], x.dtype) for x in inputs]
    return tf.function(both, input_signature=signature, jit_compile="xla" in mode)(*inputs)


def _jax_of_several(function, inputs, mode, upstream):
    import jax

    def both(*inputs):
        value, pullback = jax.vjp(function, *inputs)
        return value, *pullback(keras.ops.ones_like(value) if upstream is None else upstream)

    def scanned(*inputs):
        # One step, and all of the derivative inside it.
        return jax.lax.scan(lambda carry, x: (carry, function(*x)), 0.0, inputs)[1][0]

    inputs = [jax.numpy.asarray(x) for x in inputs]
    if mode == "scan":
        value, pullback = jax.vjp(scanned, *(x[None] for x in inputs))
        ones = keras.ops.ones_like(value)
        return value, *(x[0] for x in pullback(ones if upstream is None else upstream))
    return (jax.jit(both) if mode == "jit" else both)(*inputs)


def _torch_of_several(function, inputs, mode, upstream):
    import torch

    inputs = [torch.as_tensor(x).detach().requires_grad_() for x in inputs]
    value = function(*inputs)
    upstream = torch.ones_like(value) if upstream is None else torch.as_tensor(upstream)
    return value.detach(), *torch.autograd.grad(value, inputs, upstream)


BACKENDS_OF_SEVERAL = {
    "tensorflow": _tensorflow_of_several,
    "jax": _jax_of_several,
    "torch": _torch_of_several,
}
