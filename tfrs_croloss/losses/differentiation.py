"""Derivatives across backends, which `keras.ops` can attach but not take."""

import contextlib
import contextvars

import keras
from keras import ops

_IS_FUSED = contextvars.ContextVar("is_fused", default=False)


def with_gradient(function, inputs, constants=(), once=False):
    """Calls `function` and lets its own pullback stand for the differentiation.

    Args:
        function: From `inputs` and `constants` to a tensor and its pullback, a function from the
            upstream gradient to the gradients in the inputs.
        inputs: Tensors to differentiate in.
        constants: Further tensors. They are arguments and no closure, which JAX would not
            differentiate through under its transformations. Variables of TensorFlow that
            `function` reads are constants too.
        once: Whether the tape of an eager call of TensorFlow leaves `function` out. It would hold
            all that is computed on the way, for second derivatives.

    Returns:
        The tensor.
    """

    @ops.custom_gradient
    def result_of(*tensors):
        if once and _is_taped():
            tensors = [ops.stop_gradient(x) for x in tensors]
        with _without_autocast(tensors[0]):
            result, pullback = function(*tensors)

        def chain(*args, upstream=None, variables=()):
            # TensorFlow and JAX hand over the upstream alone, PyTorch the arguments before it.
            if upstream is None:
                (upstream,) = args
            else:
                _refuse_second_derivative()
            with _without_autocast(upstream):
                gradients = pullback(upstream)
            gradients = *gradients, *(_no_gradient(constant) for constant in constants)
            # TensorFlow wants two lists where `function` reads variables.
            return (gradients, [None] * len(variables)) if variables else gradients

        return result, chain

    return result_of(*inputs, *constants)


def _without_autocast(x):
    """Keeps PyTorch's autocast from lowering matrix products of float32 to half precision."""
    if keras.backend.backend() != "torch":
        return contextlib.nullcontext()
    import torch

    if not torch.amp.is_autocast_available(x.device.type):
        # The device "meta", on which Keras infers shapes.
        return contextlib.nullcontext()
    return torch.autocast(x.device.type, enabled=False)


def _is_taped():
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return tf.executing_eagerly()


def _no_gradient(constant):
    """JAX wants zeros, of a dtype of their own where the constant is an integer."""
    if keras.backend.backend() != "jax":
        return None
    import jax
    import numpy as np

    if jax.numpy.issubdtype(constant.dtype, jax.numpy.inexact):
        return ops.zeros_like(constant)
    return np.zeros(constant.shape, jax.dtypes.float0)


def _refuse_second_derivative():
    """PyTorch would take the gradient for a constant, and give a wrong second derivative."""
    import torch

    if torch.is_grad_enabled():
        raise NotImplementedError(
            "On PyTorch this loss is differentiable once. Received: create_graph=True, or a "
            "Hessian. Use the TensorFlow or JAX backend for second derivatives"
        )


def traced_as_written(function):
    """Keeps TensorFlow's AutoGraph from rewriting a function and all that it calls.

    There is nothing in them to rewrite, and looking for it takes longer than all else in the first
    step of a `fit`.
    """
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    return tf.autograph.experimental.do_not_convert(function)


def is_fused():
    """Whether XLA makes one pass over memory of many operations."""
    if keras.backend.backend() == "tensorflow":
        return _IS_FUSED.get()
    return keras.backend.backend() == "jax"


def compiled(function, is_wanted):
    """In a graph of TensorFlow, the function by XLA: one pass over memory for many operations.

    JAX compiles what is under `jax.jit` anyway. An eager call stays as it is.
    """
    if not is_wanted or keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    if not tf.inside_function():
        return function

    def traced(*args, **kwargs):
        token = _IS_FUSED.set(True)
        try:
            return function(*args, **kwargs)
        finally:
            _IS_FUSED.reset(token)

    return tf.function(traced, jit_compile=True, autograph=False)


def derivative(function, x):
    """The derivative of an elementwise function of `keras.ops`, of the shape of `x`."""
    return value_and_derivatives(function, (x,))[1][0]


def value_and_derivatives(function, inputs):
    """The value of an elementwise function of several tensors, and its derivative in each."""
    return BACKENDS[keras.backend.backend()](function, inputs)


def _tensorflow(function, inputs):
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(inputs)
        value = function(*inputs)
    return value, tape.gradient(value, inputs, unconnected_gradients="zero")


def _jax(function, inputs):
    import jax

    value, chain = jax.vjp(function, *inputs)
    return value, chain(ops.ones_like(value))


def _torch(function, inputs):
    import torch

    # The gradient of a loss is put together where PyTorch records nothing.
    with torch.enable_grad():
        inputs = [x.detach().requires_grad_() for x in inputs]
        value = function(*inputs)
        if not value.requires_grad:
            return value, [torch.zeros_like(x) for x in inputs]
        gradients = torch.autograd.grad(value.sum(), inputs, materialize_grads=True)
    return value.detach(), gradients


BACKENDS = {"tensorflow": _tensorflow, "jax": _jax, "torch": _torch}
