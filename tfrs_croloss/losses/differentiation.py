"""Derivatives across backends, which `keras.ops` can attach but not take."""

import keras
from keras import ops


def with_gradient(function, x, *others):
    """Calls `function` and lets its own gradient stand for the differentiation.

    Args:
        function: From `x` `[n, m]` and `others` to values `[n]` and their gradient in `x` `[n, m]`,
            each value a function of its own row alone.
        x: A tensor `[n, m]`.
        *others: Further tensors, taken as constants. They are arguments and no closure, which JAX
            would not differentiate through under its transformations.

    Returns:
        The values `[n]`.
    """

    @ops.custom_gradient
    def values(x, *others):
        result, gradient = function(x, *others)

        def chain(*args, upstream=None):
            # TensorFlow and JAX hand over the upstream alone, PyTorch the arguments before it.
            if upstream is None:
                (upstream,) = args
            else:
                _refuse_second_derivative()
            constants = (ops.zeros_like(other) for other in others)
            return ops.expand_dims(upstream, 1) * gradient, *constants

        return result, chain

    return values(x, *others)


def _refuse_second_derivative():
    """PyTorch would take the gradient for a constant, and give a wrong second derivative."""
    import torch

    if torch.is_grad_enabled():
        raise NotImplementedError(
            "On PyTorch this loss is differentiable once. Received: create_graph=True, or a "
            "Hessian. Use the TensorFlow or JAX backend for second derivatives"
        )


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
