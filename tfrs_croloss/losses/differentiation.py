"""Derivatives across backends, which `keras.ops` can attach but not take."""

import keras
from keras import ops


def with_gradient(function, x):
    """Calls `function` and lets its own gradient stand for the differentiation.

    Args:
        function: From `x` `[n, m]` to values `[n]` and their gradient in `x` `[n, m]`, each value a
            function of its own row alone.
        x: A tensor `[n, m]`.

    Returns:
        The values `[n]`.
    """

    @ops.custom_gradient
    def values(x):
        result, gradient = function(x)

        def chain(*args, upstream=None):
            # TensorFlow and JAX hand over the upstream alone, PyTorch the arguments before it.
            upstream = args[0] if upstream is None else upstream
            return ops.expand_dims(upstream, 1) * gradient

        return result, chain

    return values(x)


def derivative(function, x):
    """The derivative of an elementwise function of `keras.ops`, of the shape of `x`."""
    return BACKENDS[keras.backend.backend()](function, x)


def _tensorflow(function, x):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(x)
        values = function(x)
    return tape.gradient(values, x, unconnected_gradients="zero")


def _jax(function, x):
    import jax

    values, chain = jax.vjp(function, x)
    return chain(ops.ones_like(values))[0]


def _torch(function, x):
    import torch

    # The gradient of a loss is put together where PyTorch records nothing.
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        total = function(x).sum()
        return torch.autograd.grad(total, x)[0] if total.requires_grad else torch.zeros_like(x)


BACKENDS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
