"""Rank weights: which retrieval sizes n the loss is paid for.

A density over n turns the expected miss rate E_n[1 - Recall@n] into a function W of the
positive's rank. Everything here is in ln(rank), where ranks of any size stay exact in float32.
"""

from keras import ops

# e^80 is near the end of float32.
MAX_EXPONENT = 80.0


def saturated(exponent):
    """Holds an exponent at 80, so that e^exponent stays finite; NaN stays NaN."""
    # Not `ops.minimum`, which in Keras 3.15 turns float64 to float32 on the PyTorch backend.
    return ops.where(exponent > MAX_EXPONENT, MAX_EXPONENT, exponent)


class PowerLaw:
    """The density n^-α on 1..N+1, scaled so that W(1) = 0 and W(N+1) = ln(N+1) for every α.

    ```
    α ≠ 1:  W(r) = ln(N+1) · (r^(1-α) - 1) / ((N+1)^(1-α) - 1)
    α = 1:  W(r) = ln r
    ```

    Source: CROLoss (Tang et al., CIKM 2022, arXiv 2208.02971) and the authors' code.

    Args:
        alpha: α ≥ 0. Larger values put the weight on smaller N.

    Raises:
        ValueError: If `alpha` is negative.

    Example:

    >>> import numpy as np
    >>> rank = np.array([1.0, 10.0, 101.0])
    >>> weight = PowerLaw(alpha=2.0)
    >>> np.asarray(weight.integral(np.log(rank), np.log(101.0))).round(3)
    array([0.   , 4.195, 4.615]...)
    """

    def __init__(self, alpha=1.0):
        if not alpha >= 0:
            raise ValueError(f"`alpha` must be a non-negative number. Received: {alpha!r}")
        self.alpha = float(alpha)

    def integral(self, log_rank, log_size):
        """W of the rank.

        Args:
            log_rank: ln r, any shape.
            log_size: ln(N+1), of a shape that broadcasts with it.
        """
        power = 1.0 - self.alpha
        if power == 0.0:
            return log_rank
        return log_size * ops.expm1(saturated(power * log_rank)) / ops.expm1(power * log_size)

    def slope(self, log_rank, log_size):
        """∂W/∂ln r, which is r·w(r) for the weight w = W′; same arguments."""
        power = 1.0 - self.alpha
        if power == 0.0:
            return ops.ones_like(log_rank)
        scale = power * log_size / ops.expm1(power * log_size)
        return scale * ops.exp(saturated(power * log_rank))
