"""Comparison kernels φ: smooth stand-ins for the step 1[x > 0] that counts a row's rank.

x is the difference between a negative's score and the positive's, over the temperature.

Source: CROLoss (Tang et al., CIKM 2022, arXiv 2208.02971) and the authors' code, which holds the
composites that the paper does not report.
"""

import abc
import itertools
from collections.abc import Iterable, Sequence
from typing import Self

import keras
from keras import ops

from tfrs_croloss._arguments import check_non_negative, check_number, check_positive
from tfrs_croloss._registration import register, resolve
from tfrs_croloss._registration import serialize as serialize_part
from tfrs_croloss._typing import Array, Config, Elementwise
from tfrs_croloss.losses.differentiation import derivative, is_fused


class Kernel(abc.ABC):
    """A comparison kernel φ(x), increasing, and its derivative. CROLoss wants it non-negative.

    Example:

    >>> from keras import ops
    >>> from tfrs_croloss import CROLoss
    >>> from tfrs_croloss.losses import Kernel
    >>> class SquaredHinge(Kernel):
    ...     def __call__(self, x):
    ...         return ops.square(ops.relu(x + 1))
    ...
    ...     def derivative(self, x):
    ...         return 2 * ops.relu(x + 1)
    >>> round(float(CROLoss(SquaredHinge())([[1, 0]], [[0.7, 0.2]])), 4)  # ln(1 + .5²)
    0.2231
    """

    # What x is at a masked score. There a kernel that does not take it is given 0, at the price of
    # a pass over the matrix.
    takes_minus_infinity: bool = False

    @abc.abstractmethod
    def __call__(self, x: Array) -> Array:
        """φ(x), elementwise."""

    @abc.abstractmethod
    def derivative(self, x: Array) -> Array:
        """φ'(x), elementwise."""

    def get_config(self) -> Config:
        return {}

    @classmethod
    def from_config(cls, config: Config) -> Self:
        return cls(**config)


class LogKernel(Kernel):
    """A kernel given by its logarithm, where φ itself would overflow.

    A loss then sums it as the log-sum-exp of ln φ.
    """

    @abc.abstractmethod
    def log(self, x: Array) -> Array:
        """The logarithm ln φ(x), elementwise."""

    @abc.abstractmethod
    def log_derivative(self, x: Array) -> Array:
        """(ln φ)'(x), elementwise, or a number."""

    def __call__(self, x: Array) -> Array:
        return ops.exp(self.log(x))

    def derivative(self, x: Array) -> Array:
        return self(x) * self.log_derivative(x)


def _sigmoid_slope(x):
    # Not σ(x)·(1 - σ(x)), which loses the digits of large x.
    exp = ops.exp(-ops.absolute(x))
    return exp / ops.square(1 + exp)


def _log_of_one_plus(z):
    """ln(1 + z) for z in [0, 1], to the last digit but one, where XLA's own logarithms are slow.

    ```math
    ln(1 + z) = 2 artanh(t) = 2t · (1 + t²/3 + t⁴/5 + …),   t = z / (2 + z) ≤ 1/3
    ```
    """
    t = z / (2 + z)
    # Terms enough for the first that is left out to be below the dtype's precision.
    num_terms = 8 if keras.backend.standardize_dtype(z.dtype) == "float32" else 16
    series = 0.0
    for term in reversed(range(num_terms)):
        series = series * ops.square(t) + 1 / (2 * term + 1)
    return 2 * t * series


@register
class Identity(Kernel):
    """φ(x) = x: a sum of the x_j, or with `reduce="max"` the largest of them. It may be negative.

    Example:

    >>> float(Identity()(-1.5))
    -1.5
    """

    def __call__(self, x: Array) -> Array:
        return x

    def derivative(self, x: Array) -> Array:
        return ops.ones_like(x)


@register
class Exponential(LogKernel):
    """φ(x) = e^x. With α = 1 it makes CROLoss the softmax cross-entropy.

    Example:

    >>> from tfrs_croloss import CROLoss
    >>> loss = CROLoss(Exponential())  # or CROLoss("exponential")
    >>> round(float(loss([[1, 0]], [[0.5, 0.2]])), 4)  # ln(1 + e^-.3)
    0.5544
    """

    takes_minus_infinity = True

    def log(self, x: Array) -> Array:
        return x

    def log_derivative(self, x: Array) -> Array:
        return 1.0


@register
class Softplus(Kernel):
    """φ(x) = ln(1 + e^x). With α = 0 it makes CROLoss a multiple of BPR.

    Example:

    >>> round(float(Softplus()(0.0)), 4)
    0.6931
    """

    takes_minus_infinity = True

    def __call__(self, x: Array) -> Array:
        # At 0 both count as above, so that a second derivative is right there too.
        above, size = ops.where(x < 0, 0, x), ops.where(x < 0, -x, x)
        log_of_one_plus = _log_of_one_plus if is_fused() else ops.log1p
        return above + log_of_one_plus(ops.exp(-size))

    def derivative(self, x: Array) -> Array:
        return ops.sigmoid(x)


@register
class Hinge(Kernel):
    """φ(x) = max(0, x + margin). With α = 0 it makes CROLoss a multiple of the triplet loss.

    Args:
        margin: In units of x, after the temperature. The authors' .5 by default; their code also
            tries 5.

    Raises:
        ValueError: If the margin is not a number.

    Example:

    >>> float(Hinge(margin=2.0)(-1.5))
    0.5
    """

    takes_minus_infinity = True

    def __init__(self, margin: float = 0.5) -> None:
        self.margin = check_number("margin", margin)

    def __call__(self, x: Array) -> Array:
        return ops.relu(x + self.margin)

    def derivative(self, x: Array) -> Array:
        return ops.cast(x > -self.margin, x.dtype)

    def get_config(self) -> Config:
        return {"margin": self.margin}


@register
class MultiHinge(Kernel):
    """φ(x) = Σ_k w_k · max(0, x - m_k): convex, its slope grows by w_k at each margin m_k.

    The authors' composite .1 · relu(x + 5) + relu(x) by default. The multi-margin loss is a mean
    of this kernel over the negatives' cosines.

    Args:
        margins: m_k, increasing, in units of x.
        weights: w_k ≥ 0, one a margin.

    Raises:
        ValueError: If margins and weights differ in number, there are none, the margins do not
            increase, or a weight is negative.

    Example:

    >>> round(float(MultiHinge()(2.0)), 4)  # .1 · 7 + 2
    2.7
    """

    takes_minus_infinity = True

    def __init__(
        self, margins: Sequence[float] = (-5.0, 0.0), weights: Sequence[float] = (0.1, 1.0)
    ) -> None:
        if not (isinstance(margins, Iterable) and isinstance(weights, Iterable)):
            raise ValueError(
                "`margins` and `weights` must be sequences of numbers. Received: "
                f"margins={margins!r}, weights={weights!r}"
            )
        margins = tuple(check_number("margins", margin) for margin in margins)
        weights = tuple(check_non_negative("weights", weight) for weight in weights)
        if not margins or len(margins) != len(weights):
            raise ValueError(
                "`margins` and `weights` must be of one length, at least 1. Received: "
                f"margins={margins}, weights={weights}"
            )
        if any(not low < high for low, high in itertools.pairwise(margins)):
            raise ValueError(f"`margins` must increase. Received: margins={margins}")
        self.margins = margins
        self.weights = weights

    def __call__(self, x: Array) -> Array:
        return sum(weight * ops.relu(x - margin) for margin, weight in self._steps())

    def derivative(self, x: Array) -> Array:
        return sum(weight * ops.cast(x > margin, x.dtype) for margin, weight in self._steps())

    def _steps(self):
        return zip(self.margins, self.weights, strict=True)

    def get_config(self) -> Config:
        return {"margins": self.margins, "weights": self.weights}


@register
class Sigmoid(Kernel):
    """φ(x) = σ(x) = 1 / (1 + e^-x), near to a count. The usual φ₁ of the Lambda method.

    Example:

    >>> float(Sigmoid()(0.0))
    0.5
    """

    takes_minus_infinity = True

    def __call__(self, x: Array) -> Array:
        return ops.sigmoid(x)

    def derivative(self, x: Array) -> Array:
        return _sigmoid_slope(x)


@register
class SplitSigmoid(Kernel):
    """φ(x) = σ(below · x) for x < 0 and σ(above · x) for x ≥ 0: two sigmoids that meet at ½.

    The authors' composites σ(-relu(-x)) + σ(relu(x/2)) - ½ by default, and
    σ(-relu(-x/2)) + σ(relu(x)) - ½ with `below=0.5, above=1.0`.

    Args:
        below: Slope factor of a negative below the positive, > 0.
        above: Slope factor of a negative above the positive, > 0.

    Raises:
        ValueError: If a factor is not positive.

    Example:

    >>> [round(float(SplitSigmoid()(x)), 4) for x in (-2.0, 2.0)]  # σ(-2), σ(1)
    [0.1192, 0.7311]
    """

    takes_minus_infinity = True

    def __init__(self, below: float = 1.0, above: float = 0.5) -> None:
        self.below = check_positive("below", below)
        self.above = check_positive("above", above)

    def __call__(self, x: Array) -> Array:
        return ops.sigmoid(self._bent(x))

    def derivative(self, x: Array) -> Array:
        slope = _sigmoid_slope(self._bent(x))
        return ops.where(x < 0, self.below * slope, self.above * slope)

    def _bent(self, x):
        return ops.where(x < 0, self.below * x, self.above * x)

    def get_config(self) -> Config:
        return {"below": self.below, "above": self.above}


@register
class SigmoidHinge(Kernel):
    """φ(x) = σ(x) for x < 0 and ½ + slope · x for x ≥ 0.

    The authors' composite σ(-relu(-x)) + relu(x/20) by default: unlike the sigmoid's, its slope
    does not vanish for negatives far above the positive.

    Args:
        slope: Slope above the positive, ≥ 0.

    Raises:
        ValueError: If the slope is negative.

    Example:

    >>> [round(float(SigmoidHinge()(x)), 4) for x in (-2.0, 2.0)]  # σ(-2), ½ + 2/20
    [0.1192, 0.6]
    """

    takes_minus_infinity = True

    def __init__(self, slope: float = 0.05) -> None:
        self.slope = check_non_negative("slope", slope)

    def __call__(self, x: Array) -> Array:
        return ops.where(x < 0, ops.sigmoid(x), 0.5 + self.slope * x)

    def derivative(self, x: Array) -> Array:
        return ops.where(x < 0, _sigmoid_slope(x), self.slope * ops.ones_like(x))

    def get_config(self) -> Config:
        return {"slope": self.slope}


@register
class Step(Kernel):
    """φ(x) = 1[x > 0], the count itself: a φ₁ of the Lambda method.

    It has no slope, so it serves as `lambda_kernel` alone.

    Example:

    >>> from tfrs_croloss import CROLoss
    >>> loss = CROLoss(lambda_kernel="step")
    >>> round(float(loss([[1, 0, 0]], [[0.5, 0.8, 0.2]])), 4)  # ln 2: the positive ranks second
    0.6931
    """

    takes_minus_infinity = True

    def __call__(self, x: Array) -> Array:
        # A NaN must not count as below.
        return ops.where(ops.isnan(x), x, ops.cast(x > 0, x.dtype))

    def derivative(self, x: Array) -> Array:
        return ops.zeros_like(x)


class FunctionKernel(Kernel):
    """A kernel from any elementwise function of `keras.ops`; the backend differentiates it.

    One that overflows, as e^x beyond x = 88, needs a `LogKernel`.
    """

    def __init__(self, function: Elementwise) -> None:
        self.function = function

    def __call__(self, x: Array) -> Array:
        values = ops.cast(ops.convert_to_tensor(self.function(x)), x.dtype)
        if values.shape != x.shape:
            raise ValueError(
                "`kernel` must be an elementwise function of `keras.ops`. Received: a function "
                f"from shape {tuple(x.shape)} to shape {tuple(values.shape)}"
            )
        return values

    def derivative(self, x: Array) -> Array:
        return derivative(self, x)


BY_NAME = {
    "exponential": Exponential,
    "softplus": Softplus,
    "hinge": Hinge,
    "multi_hinge": MultiHinge,
    "sigmoid": Sigmoid,
    "split_sigmoid": SplitSigmoid,
    "sigmoid_hinge": SigmoidHinge,
    "step": Step,
}


def get(kernel, argument="kernel"):
    """Makes a `Kernel` of a name, a `Kernel`, a function, or what `serialize` gave of one."""
    kernel = resolve(kernel, Kernel, BY_NAME)
    if isinstance(kernel, Kernel):
        return kernel
    if callable(kernel):
        return FunctionKernel(kernel)
    raise ValueError(
        f"`{argument}` must be one of {', '.join(BY_NAME)}, a `Kernel` or a function of "
        f"`keras.ops`. Received: {kernel!r}"
    )


def serialize(kernel):
    """The config of a kernel, which `get` takes back.

    Raises:
        ValueError: If it is a function that a saved model could not find again.
    """
    if isinstance(kernel, FunctionKernel):
        kernel = kernel.function
    return serialize_part(kernel)
