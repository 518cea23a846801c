"""Rank weights: which retrieval sizes n the loss is paid for.

A density p over n turns the expected miss rate E_n[1 - Recall@n] into a function W of the
positive's rank, with W' = p up to a factor. Everything here is in ln(rank), where ranks of any size
stay exact in float32.
"""

import abc
import math
from typing import Self

import keras
import numpy as np
from keras import ops

from tfrs_croloss._arguments import check_non_negative, check_number, check_positive
from tfrs_croloss._registration import register, resolve, serialize
from tfrs_croloss._typing import Array, Config, RankFunction

# e^80 is near the end of float32.
MAX_EXPONENT = 80.0

# Nodes and weights of Gauss and Legendre's quadrature, brought from -1..1 to 0..1.
NODES, NODE_WEIGHTS = np.polynomial.legendre.leggauss(96)
NODES, NODE_WEIGHTS = (NODES + 1) / 2, NODE_WEIGHTS / 2


def saturated(exponent):
    """Holds an exponent at 80, so that e^exponent stays finite; NaN stays NaN."""
    # Not `ops.minimum`, which in Keras 3.15 turns float64 to float32 on the PyTorch backend.
    return ops.where(exponent > MAX_EXPONENT, MAX_EXPONENT, exponent)


class RankWeight(abc.ABC):
    """A density over the retrieval sizes n, 1 ≤ n ≤ N+1, and its integral W.

    Both are scaled so that W(1) = 0 and W(N+1) = ln(N+1), as the paper scales its own: the size of
    the loss does not depend on the density.

    Attributes:
        least_items: The least N it makes sense for, which the loss must then be told; None if any.
    """

    least_items: float | None = None

    @abc.abstractmethod
    def density(self, log_rank: Array, log_size: Array) -> Array:
        """The density of ln n at ln r: dW/d ln r, which is r · w(r) for w = W'.

        Args:
            log_rank: ln r, any shape.
            log_size: ln(N+1), of a shape that broadcasts with it.
        """

    @abc.abstractmethod
    def integral(self, log_rank: Array, log_size: Array) -> Array:
        """W(r), with the arguments of `density`."""

    def get_config(self) -> Config:
        return {}

    @classmethod
    def from_config(cls, config: Config) -> Self:
        return cls(**config)


@register
class PowerLaw(RankWeight):
    """The density n^-α, the paper's.

    ```math
    α ≠ 1:  W(r) = ln(N+1) · (r^(1-α) - 1) / ((N+1)^(1-α) - 1)
    α ≠ 1:  w(r) = (1-α) · ln(N+1) · r^(-α) / ((N+1)^(1-α) - 1)
    α = 1:  W(r) = ln r,    w(r) = 1/r
    ```

    Source: CROLoss (Tang et al., CIKM 2022, arXiv 2208.02971) and the authors' code.

    Args:
        alpha: α ≥ 0. Larger values put the weight on smaller n.

    Raises:
        ValueError: If `alpha` is negative.

    Example:

    >>> import numpy as np
    >>> rank = np.array([1.0, 10.0, 101.0])
    >>> weight = PowerLaw(alpha=2.0)
    >>> np.asarray(weight.integral(np.log(rank), np.log(101.0))).round(3)
    array([0.   , 4.195, 4.615]...)
    """

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = check_non_negative("alpha", alpha)

    @classmethod
    def with_median(cls, n: float, num_items: float) -> Self:
        """The power law with half of its mass on retrieval sizes up to `n`.

        Args:
            n: The median, 1 < n ≤ num_items / 2: beyond, α would be negative.
            num_items: N, the size of the catalogue.

        Raises:
            ValueError: If `n` is out of this range.

        Example:

        >>> round(PowerLaw.with_median(22, num_items=367_983).alpha, 2)
        1.2
        """
        num_items = check_positive("num_items", num_items)
        if not 1 < check_number("n", n) <= num_items / 2:
            raise ValueError(
                "`n` must be more than 1 and at most num_items / 2 to be the median of a density "
                f"n^-alpha with alpha >= 0. Received: n={n}, num_items={num_items}. Give `alpha` "
                "itself: about 3 for n = 1, 0 for n beyond half of the catalogue"
            )

        def mass_up_to_n(alpha):
            power = 1 - alpha
            if power == 0:
                return math.log(n) / math.log1p(num_items)
            return math.expm1(power * math.log(n)) / math.expm1(power * math.log1p(num_items))

        # The mass grows with α, from at most a half at α = 0.
        low, high = 0.0, 1.0
        while mass_up_to_n(high) < 0.5:
            high *= 2
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if mass_up_to_n(middle) < 0.5 else (low, middle)
        return cls(alpha=high)

    def density(self, log_rank: Array, log_size: Array) -> Array:
        power = 1.0 - self.alpha
        if power == 0.0:
            return ops.ones_like(log_rank)
        scale = power * log_size / ops.expm1(power * log_size)
        return scale * ops.exp(saturated(power * log_rank))

    def integral(self, log_rank: Array, log_size: Array) -> Array:
        power = 1.0 - self.alpha
        if power == 0.0:
            return log_rank
        return log_size * ops.expm1(saturated(power * log_rank)) / ops.expm1(power * log_size)

    def get_config(self) -> Config:
        return {"alpha": self.alpha}


@register
class LogNormal(RankWeight):
    """A bell over ln n, centred on the N one serves.

    ```math
    W(r) = ln(N+1) · (Φ(z(r)) - Φ(z(1))) / (Φ(z(N+1)) - Φ(z(1))),    z(r) = (ln r - ln n) / spread
    ```

    where Φ is the normal distribution function.

    Args:
        n: The target N, ≥ 1. The loss must know its `num_items`, at least n.
        spread: Standard deviation of ln n, > 0. With 1, two thirds of the weight lie between
            n / 2.7 and 2.7 · n.

    Raises:
        ValueError: If an argument is out of range.

    Example:

    >>> from tfrs_croloss import CROLoss
    >>> from tfrs_croloss.losses import LogNormal
    >>> weight = LogNormal(n=50, spread=1.5)
    >>> loss = CROLoss(lambda_kernel="step", rank_weight=weight, num_items=99)
    >>> round(float(loss([[1, 0, 0, 0]], [[0.5, 0.8, 0.1, 0.2]])), 3)  # r = 1 + 99/3 · 1
    2.694
    """

    def __init__(self, n: float, spread: float = 1.5) -> None:
        self.n = self.least_items = check_number("n", n, "at least 1", lambda n: n >= 1)
        self.spread = check_positive("spread", spread)

    def density(self, log_rank: Array, log_size: Array) -> Array:
        bell = ops.exp(-0.5 * ops.square(self._z(log_rank))) / math.sqrt(2 * math.pi)
        return log_size * bell / (self.spread * self._mass(log_size))

    def integral(self, log_rank: Array, log_size: Array) -> Array:
        return log_size * self._mass(log_rank) / self._mass(log_size)

    def _z(self, log_rank):
        return (log_rank - math.log(self.n)) / self.spread

    def _mass(self, log_rank):
        """The mass of the bell between ln 1 and ln r."""
        at_rank, at_one = (
            ops.erf(self._z(x) / math.sqrt(2)) for x in (log_rank, ops.zeros_like(log_rank))
        )
        return (at_rank - at_one) / 2

    def get_config(self) -> Config:
        return {"n": self.n, "spread": self.spread}


@register
class Gamma(RankWeight):
    """A gamma density on the rank's percentage of the catalogue, from the authors' code.

    ```math
    q = 100 · r / (N+1),    density  of  q ∝ q^(concentration - 1) · e^(-rate · q)
    ```

    The authors take the percentage of the hard rank: `CROLoss(rank_weight="gamma",
    lambda_kernel="step")`. They also try (1, .05), (1.025, .025), (1.1, .1) and (1.1, .05). The
    integral is a quadrature; W stands still beyond r = 100 · (N+1).

    Args:
        concentration: Shape of the density, > 0; 1 is the exponential density.
        rate: Per percent, > 0.

    Raises:
        ValueError: If an argument is not positive.

    Example:

    >>> from tfrs_croloss import CROLoss
    >>> loss = CROLoss(rank_weight=Gamma(1.1, 0.1), lambda_kernel="step", num_items=99)
    >>> round(float(loss([[1, 0, 0, 0]], [[0.1, 0.8, 0.5, 0.2]])), 3)  # last: ln(99 + 1)
    4.605
    """

    def __init__(self, concentration: float = 1.05, rate: float = 0.05) -> None:
        self.concentration = check_positive("concentration", concentration)
        self.rate = check_positive("rate", rate)

    def density(self, log_rank: Array, log_size: Array) -> Array:
        mass = self._mass(log_size, log_size)
        return log_size * self._bell(log_rank, log_size) / mass

    def integral(self, log_rank: Array, log_size: Array) -> Array:
        log_end = log_size + math.log(100)
        log_rank = ops.where(log_rank > log_end, log_end, log_rank)
        return log_size * self._mass(log_rank, log_size) / self._mass(log_size, log_size)

    def _bell(self, log_rank, log_size):
        """The density of ln q over its maximum on 1 ≤ r ≤ N+1."""
        # Not `full_like`, which fails on the placeholders of Keras's PyTorch backend.
        log_end = math.log(100 * self.rate) + ops.zeros_like(log_size)
        log_start = log_end - log_size
        log_mode = math.log(self.concentration) + ops.zeros_like(log_size)
        log_mode = ops.where(log_mode > log_end, log_end, log_mode)
        log_mode = ops.where(log_mode < log_start, log_start, log_mode)
        exponent = self._exponent(log_start + log_rank) - self._exponent(log_mode)
        return ops.exp(saturated(exponent))

    def _exponent(self, log_x):
        return self.concentration * log_x - ops.exp(saturated(log_x))

    def _mass(self, log_rank, log_size):
        log_ranks = ops.expand_dims(log_rank, -1) * ops.cast(NODES, log_rank.dtype)
        values = self._bell(log_ranks, ops.expand_dims(log_size, -1))
        return log_rank * ops.sum(values * ops.cast(NODE_WEIGHTS, log_rank.dtype), axis=-1)

    def get_config(self) -> Config:
        return {"concentration": self.concentration, "rate": self.rate}


@register
class ExponentialDecay(Gamma):
    """An exponential density on the rank's percentage of the catalogue, from the authors' code.

    ```math
    q = 100 · r / (N+1),    density  of  q ∝ e^(-rate · q)
    ```

    Args:
        rate: Per percent, > 0. The authors try .1, .2 and .5.

    Raises:
        ValueError: If the rate is not positive.

    Example:

    >>> from tfrs_croloss import CROLoss
    >>> loss = CROLoss(rank_weight="exponential_decay", lambda_kernel="step", num_items=99)
    >>> round(float(loss([[1, 0, 0, 0]], [[0.1, 0.8, 0.5, 0.2]])), 3)  # last: ln(99 + 1)
    4.605
    """

    def __init__(self, rate: float = 0.1) -> None:
        super().__init__(concentration=1.0, rate=rate)

    def get_config(self) -> Config:
        return {"rate": self.rate}


@register
class FunctionWeight(RankWeight):
    """A rank weight from a pair of functions of the rank itself, in `keras.ops`.

    Args:
        density: w(r), a function of (rank, num_items).
        integral: W(r), a function of (rank, num_items), with W' = w and W(1) = 0.

    Example:

    >>> from keras import ops
    >>> from tfrs_croloss import CROLoss
    >>> halved = (lambda r, n: 0.5 / r, lambda r, n: 0.5 * ops.log(r))
    >>> loss, double = CROLoss(rank_weight=halved), CROLoss()
    >>> scores = [[0.2, 0.5, 0.1]]
    >>> round(float(double([[1, 0, 0]], scores)) / float(loss([[1, 0, 0]], scores)), 4)
    2.0
    """

    def __init__(self, density: RankFunction, integral: RankFunction) -> None:
        functions = [
            keras.saving.deserialize_keras_object(function)
            if isinstance(function, dict)
            else function
            for function in (density, integral)
        ]
        for argument, function in zip(("density", "integral"), functions, strict=True):
            if not callable(function):
                raise ValueError(
                    f"`{argument}` must be a function of (rank, num_items). Received: {function!r}"
                )
        self._density, self._integral = functions

    def density(self, log_rank: Array, log_size: Array) -> Array:
        rank = ops.exp(saturated(log_rank))
        return rank * self._density(rank, ops.expm1(log_size))

    def integral(self, log_rank: Array, log_size: Array) -> Array:
        return self._integral(ops.exp(saturated(log_rank)), ops.expm1(log_size))

    def get_config(self) -> Config:
        return {
            "density": serialize(self._density),
            "integral": serialize(self._integral),
        }


BY_NAME = {"power_law": PowerLaw, "gamma": Gamma, "exponential_decay": ExponentialDecay}


def get(rank_weight):
    """Makes a `RankWeight` of a name, a `RankWeight`, a pair of functions, or a config of one."""
    rank_weight = resolve(rank_weight, RankWeight, BY_NAME)
    if isinstance(rank_weight, RankWeight):
        return rank_weight
    if isinstance(rank_weight, tuple | list) and len(rank_weight) == 2:
        return FunctionWeight(*rank_weight)
    raise ValueError(
        f"`rank_weight` must be one of {', '.join(BY_NAME)}, a `RankWeight` such as "
        "LogNormal(n=50), or a pair of functions (density, integral) of (rank, num_items). "
        f"Received: {rank_weight!r}"
    )
