"""Comparison kernels φ: smooth stand-ins for the step 1[x > 0] that counts a row's rank.

x is the difference between a negative's score and the positive's, over the temperature.
"""

import abc

import keras
from keras import ops

from tfrs_croloss.losses.base import Channel


class Kernel(abc.ABC):
    """A comparison kernel φ(x), increasing and non-negative.

    Attributes:
        reducer: How a loss sums φ over the negatives: `"sum"`, or `"logsumexp"` of ln φ where φ
            itself would overflow.
    """

    reducer = "sum"

    @abc.abstractmethod
    def __call__(self, x):
        """φ(x), elementwise."""

    def channel(self, x):
        """What a loss reduces over the negatives: φ(x), or ln φ(x) for `"logsumexp"`."""
        return Channel(self(x), self.reducer)

    def get_config(self):
        return {}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


@keras.saving.register_keras_serializable(package="tfrs_croloss")
class Exponential(Kernel):
    """φ(x) = e^x. With α = 1 it makes CROLoss the softmax cross-entropy."""

    reducer = "logsumexp"

    def __call__(self, x):
        return ops.exp(x)

    def channel(self, x):
        return Channel(x, self.reducer)


@keras.saving.register_keras_serializable(package="tfrs_croloss")
class Softplus(Kernel):
    """φ(x) = ln(1 + e^x). With α = 0 it makes CROLoss a multiple of BPR."""

    def __call__(self, x):
        return ops.softplus(x)


@keras.saving.register_keras_serializable(package="tfrs_croloss")
class Hinge(Kernel):
    """φ(x) = max(0, x + margin). With α = 0 it makes CROLoss a multiple of the triplet loss.

    Args:
        margin: In units of x, after the temperature. The authors' .5 by default.
    """

    def __init__(self, margin=0.5):
        self.margin = margin

    def __call__(self, x):
        return ops.relu(x + self.margin)

    def get_config(self):
        return {"margin": self.margin}


@keras.saving.register_keras_serializable(package="tfrs_croloss")
class Sigmoid(Kernel):
    """φ(x) = 1 / (1 + e^-x), the closest to a count. The usual φ₁ of the Lambda method."""

    def __call__(self, x):
        return ops.sigmoid(x)


class FunctionKernel(Kernel):
    """A kernel from any function of `keras.ops`."""

    def __init__(self, function):
        self.function = function

    def __call__(self, x):
        return self.function(x)


BY_NAME = {
    "exponential": Exponential,
    "softplus": Softplus,
    "hinge": Hinge,
    "sigmoid": Sigmoid,
}


def get(kernel, argument="kernel"):
    """Makes a `Kernel` of a name, a `Kernel`, a function, or what `serialize` gave of one."""
    if isinstance(kernel, dict):
        kernel = keras.saving.deserialize_keras_object(kernel)
    if isinstance(kernel, type) and issubclass(kernel, Kernel):
        kernel = kernel()
    if isinstance(kernel, Kernel):
        return kernel
    if isinstance(kernel, str) and kernel in BY_NAME:
        return BY_NAME[kernel]()
    if callable(kernel):
        return FunctionKernel(kernel)
    raise ValueError(
        f"`{argument}` must be one of {', '.join(BY_NAME)}, a `Kernel` or a function of "
        f"`keras.ops`. Received: {kernel!r}"
    )


def serialize(kernel):
    """The config of a kernel, which `get` takes back.

    A function of the user's own must be registered with
    `keras.saving.register_keras_serializable` to be found again.
    """
    if isinstance(kernel, FunctionKernel):
        kernel = kernel.function
    return keras.saving.serialize_keras_object(kernel)
