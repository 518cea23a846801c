"""Bounded surrogates of the step 1[x > 0], to a power: the comparison kernels of PSL and Talos.

Each is a `LogKernel`, for a loss sums it inside a logarithm and its power leaves float32.
"""

import abc
import math

from keras import ops

from tfrs_croloss._arguments import check_temperature
from tfrs_croloss._registration import register
from tfrs_croloss._typing import Array, Config
from tfrs_croloss.losses.kernels import LogKernel, Softplus

# What a surrogate that reaches 0 is held at: 0 has no logarithm.
LEAST = 1e-6


class Surrogate(LogKernel):
    """φ(x) = σ(x)^(1/temperature), of an increasing σ ≥ 0 that a subclass gives.

    Args:
        temperature: The lower, the more the largest x of a row count alone.

    Raises:
        ValueError: If the temperature is not a number of at least 1e-6.
    """

    def __init__(self, temperature: float = 1.0) -> None:
        self.temperature = check_temperature("temperature", temperature)

    @abc.abstractmethod
    def log_surrogate(self, x: Array) -> Array:
        """The logarithm ln σ(x), elementwise."""

    @abc.abstractmethod
    def log_surrogate_derivative(self, x: Array) -> Array:
        """(ln σ)'(x), elementwise."""

    def log(self, x: Array) -> Array:
        return self.log_surrogate(x) / self.temperature

    def log_derivative(self, x: Array) -> Array:
        return self.log_surrogate_derivative(x) / self.temperature

    def get_config(self) -> Config:
        return {"temperature": self.temperature}


@register
class LogisticPower(Surrogate):
    """σ(x) = 1 / (1 + e^-x), the logistic function.

    Example:

    >>> float(LogisticPower(temperature=0.5)(0.0))  # (1/2)²
    0.25
    """

    takes_minus_infinity = True

    def log_surrogate(self, x: Array) -> Array:
        return -Softplus()(-x)

    def log_surrogate_derivative(self, x: Array) -> Array:
        return ops.sigmoid(-x)


@register
class TanhPower(Surrogate):
    """σ(x) = tanh(x) + 1, between 0 and 2, and never more than e^x.

    Example:

    >>> round(float(TanhPower(temperature=0.5)(0.5)), 4)  # (tanh(.5) + 1)²
    2.1378
    """

    takes_minus_infinity = True

    def log_surrogate(self, x: Array) -> Array:
        # tanh(x) + 1 = 2 / (1 + e^-2x), which far below is no difference of equal numbers.
        return math.log(2) - Softplus()(-2 * x)

    def log_surrogate_derivative(self, x: Array) -> Array:
        return 2 * ops.sigmoid(-2 * x)


@register
class ReluPower(Surrogate):
    """σ(x) = max(0, x + 1), held at 1e-6.

    Example:

    >>> float(ReluPower(temperature=0.5)(0.5))  # 1.5²
    2.25
    """

    takes_minus_infinity = True

    def log_surrogate(self, x: Array) -> Array:
        return ops.log(_held(x + 1))

    def log_surrogate_derivative(self, x: Array) -> Array:
        return _unless_held(x + 1, 1 / _held(x + 1))


@register
class AtanPower(Surrogate):
    """σ(x) = max(0, arctan(x) + 1), held at 1e-6; below x = -tan(1) = -1.56 it is 0.

    On JAX it has the digits of float32, in float64 too.

    Example:

    >>> float(AtanPower(temperature=0.5)(0.0))
    1.0
    """

    def log_surrogate(self, x: Array) -> Array:
        return ops.log(_held(_arctan(x) + 1))

    def log_surrogate_derivative(self, x: Array) -> Array:
        surrogate = _arctan(x) + 1
        return _unless_held(surrogate, 1 / ((1 + ops.square(x)) * _held(surrogate)))


def _arctan(x):
    # In Keras 3.15 `ops.arctan` turns float64 to float32 on JAX.
    x = ops.convert_to_tensor(x)
    return ops.cast(ops.arctan(x), x.dtype)


def _held(surrogate):
    # In this order, so that a NaN stays one.
    return ops.where(surrogate < LEAST, LEAST, surrogate)


def _unless_held(surrogate, derivative):
    return ops.where(surrogate < LEAST, 0, derivative)
