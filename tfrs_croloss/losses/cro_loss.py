"""CROLoss: a customizable loss for the Recall@N one serves."""

import keras
from keras import ops

from tfrs_croloss.losses import kernels
from tfrs_croloss.losses.base import Aggregate, RetrievalLoss
from tfrs_croloss.losses.rank_weights import PowerLaw, saturated


@keras.saving.register_keras_serializable(package="tfrs_croloss")
class CROLoss(RetrievalLoss):
    """Customizable Recall@N Optimization Loss, plain and with the Lambda method.

    Recall@N asks whether the positive's rank is within N. CROLoss estimates that rank from the
    row's negatives, and weighs it by which N matter:

    ```
    x_j = (s_j - s⁺) / temperature
    r   = 1 + R · Σ_j φ(x_j)                           R = N / M
    L   = W_α(r) = ln(N+1) · (r^(1-α) - 1) / ((N+1)^(1-α) - 1),    ln r for α = 1
    ```

    where:

    - `s⁺` and `s_j` are the scores of the row's positive and of its M unmasked negatives.
    - `φ` is the comparison kernel, a smooth stand-in for the step 1[x > 0].
    - `N` is the number of items to rank among, for which the M negatives stand.
    - `α` places the weight: the larger, the smaller the N it aims at.

    With `lambda_kernel` φ₁ the rank is estimated by φ₁ and the direction taken from φ (the
    paper's Lambda method). The value reported is W_α(1 + R·Σφ₁), the gradient

    ```
    w_α(1 + R · Σ_j φ₁(x_j)) · R · Σ_j φ'(x_j) · ∂x_j                  w_α = W_α'
    ```

    Exact special cases: exponential and α = 1 is the softmax cross-entropy; softplus and α = 0
    is BPR, hinge and α = 0 the triplet loss, both up to the constant factor ln(N+1)/N · R.

    Source: Tang et al., "CROLoss: Towards a Customizable Loss for Retrieval Models in Recommender
    Systems", CIKM 2022, arXiv 2208.02971, and the authors' code.

    Args:
        kernel: φ: `"exponential"`, `"softplus"`, `"hinge"`, `"sigmoid"`, a `Kernel`, or a
            function of `keras.ops`.
        alpha: α ≥ 0, the exponent of the rank weight.
        lambda_kernel: φ₁ of the Lambda method, as `kernel`; `"sigmoid"` in the authors' runs.
            None turns the method off.
        temperature: Divides the score differences. Cosine scores want about .1 (the authors'),
            raw dot products 1. Where the task already divides by a temperature, leave it at 1.
        num_items: N, the size of the catalogue. None means the row's own number of unmasked
            negatives, so R = 1; give it where masks differ from row to row.
        rank_estimate: `"unbiased"`, r = 1 + R·Σφ, or the authors' `"scaled"`, r = R·(1 + Σφ).
        reduction: As in `keras.losses.Loss`; `"sum"` as TFRS's own default loss.
        name: Name of the loss.
        dtype: Dtype of the computation.

    Raises:
        ValueError: If an argument is out of range, or the kernel unknown.

    Example:

    Standalone, the positive in any column:

    >>> from tfrs_croloss import CROLoss
    >>> y_true = [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    >>> y_pred = [[0.9, 0.2, 0.7], [0.3, -0.1, 0.4]]
    >>> loss = CROLoss(kernel="sigmoid", temperature=0.1)
    >>> round(float(loss(y_true, y_pred)), 4)
    0.3569

    In a TFRS task, in place of its softmax:

    ```python
    task = tfrs.tasks.Retrieval(loss=CROLoss(temperature=0.1, lambda_kernel="sigmoid"))
    ```
    """

    def __init__(
        self,
        kernel="softplus",
        alpha=1.0,
        lambda_kernel=None,
        temperature=1.0,
        num_items=None,
        rank_estimate="unbiased",
        reduction="sum",
        name="cro_loss",
        dtype=None,
    ):
        super().__init__(reduction=reduction, name=name, dtype=dtype)
        if not temperature > 0:
            raise ValueError(f"`temperature` must be a positive number. Received: {temperature!r}")
        if num_items is not None and not num_items > 0:
            raise ValueError(f"`num_items` must be None or positive. Received: {num_items!r}")
        if rank_estimate not in ("unbiased", "scaled"):
            raise ValueError(
                f"`rank_estimate` must be 'unbiased' or 'scaled'. Received: {rank_estimate!r}"
            )
        self.kernel = kernels.get(kernel)
        self.lambda_kernel = (
            None if lambda_kernel is None else kernels.get(lambda_kernel, "lambda_kernel")
        )
        self.rank_weight = PowerLaw(alpha)
        self.temperature = temperature
        self.num_items = num_items
        self.rank_estimate = rank_estimate

    def compare(self, negative, positive):
        x = (negative - positive) / self.temperature
        direction = self.kernel.channel(x)
        if self.lambda_kernel is None:
            return (direction,)
        return (self.lambda_kernel.channel(x), direction)

    def aggregate(self, totals, count, positive):
        num_items = count if self.num_items is None else ops.full_like(count, self.num_items)
        log_size = ops.log1p(num_items)
        log_ratio = ops.log(num_items / count)
        # The first channel estimates the rank. The last gives the direction: the derivative of
        # the rank by it, and so the plain gradient where the two are one.
        log_rank = self._log_rank(self.lambda_kernel or self.kernel, totals[0], log_ratio)
        log_slope = log_ratio - log_rank
        if self.kernel.reducer == "logsumexp":
            log_slope = log_slope + totals[-1]
        slope = self.rank_weight.slope(log_rank, log_size) * ops.exp(saturated(log_slope))
        return Aggregate(
            value=self.rank_weight.integral(log_rank, log_size),
            slopes=(0.0,) * (len(totals) - 1) + (slope,),
        )

    def _log_rank(self, kernel, total, log_ratio):
        """ln(1 + R·Σφ), or ln(R·(1 + Σφ)), exact where Σφ is small and finite where it is huge."""
        scaled = self.rank_estimate == "scaled"
        log_base = log_ratio if scaled else 0.0
        log_factor = 0.0 if scaled else log_ratio
        if kernel.reducer == "logsumexp":
            return log_base + ops.softplus(log_factor + total)
        return log_base + ops.log1p(ops.exp(log_factor) * total)

    def get_config(self):
        return {
            **super().get_config(),
            "kernel": kernels.serialize(self.kernel),
            "alpha": self.rank_weight.alpha,
            "lambda_kernel": kernels.serialize(self.lambda_kernel),
            "temperature": self.temperature,
            "num_items": self.num_items,
            "rank_estimate": self.rank_estimate,
        }
