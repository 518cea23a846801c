"""CROLoss: a customizable loss for the Recall@N one serves."""

import math
from typing import Any, Literal

from keras import ops

from tfrs_croloss._arguments import (
    check_choice,
    check_non_negative,
    check_positive,
    check_temperature,
)
from tfrs_croloss._registration import register, serialize
from tfrs_croloss._typing import DType, Elementwise, RankFunction
from tfrs_croloss.losses import kernels, rank_weights
from tfrs_croloss.losses.base import Aggregate, RetrievalLoss
from tfrs_croloss.losses.channels import Channel
from tfrs_croloss.losses.kernels import LogKernel, Step
from tfrs_croloss.losses.rank_weights import PowerLaw, RankWeight, saturated


@register
class CROLoss(RetrievalLoss):
    """Customizable Recall@N Optimization Loss, plain and with the Lambda method.

    Recall@N asks whether the positive's rank is within N. CROLoss estimates that rank from the
    row's negatives, and weighs it by which N matter:

    ```math
    x_j = (s_j - s⁺) / temperature
    r = 1 + R · Σ_j φ(x_j),    R = N / M
    L = W_α(r) = ln(N+1) · (r^(1-α) - 1) / ((N+1)^(1-α) - 1),    ln r  for  α = 1
    ```

    where:

    - `s⁺` and `s_j` are the scores of the row's positive and of its M unmasked negatives.
    - `φ` is the comparison kernel, a smooth stand-in for the step 1[x > 0].
    - `N` is the number of items to rank among, for which the M negatives stand.
    - `α` places the weight: the larger, the smaller the N it aims at.

    With `lambda_kernel` φ₁ the rank is estimated by φ₁ and the direction taken from φ (the
    paper's Lambda method). The value reported is W_α(1 + R·Σφ₁), the gradient

    ```math
    w_α(1 + R · Σ_j φ₁(x_j)) · R · Σ_j φ'(x_j) · ∂x_j,    w_α = W_α'
    ```

    With `pull` p the positive is pulled p times as hard as its negatives together are pushed away,
    as if s⁺ were p·s⁺ + (1 - p)·stop_gradient(s⁺); the value stays the same. Below 1 the
    embeddings spread out more; docs/results-settings.md has what it gained.

    Exact special cases: exponential and α = 1 is the softmax cross-entropy; softplus and α = 0
    is BPR, hinge and α = 0 the triplet loss, both up to the constant factor ln(N+1)/N · R.

    **Sampled candidates.** Negatives that were drawn with probabilities p_j (popularity,
    log-uniform, in-batch mixed with uniform) stand for 1/(M·p_j) items each:

    ```math
    r = 1 + Σ_j v_j · φ(x_j),    v_j = 1 / (M · p_j),    E[r] = 1 + Σ_items φ(x)
    ```

    with p_j given that the item is not the row's positive. Pass these v_j as `candidate_weight` of
    the call; R is not applied again (p = 1/N gives v = N/M = R). For the exponential kernel this is
    ln(M·p_j) taken from the logits of the negatives alone. TFRS's log-Q correction
    (`candidate_sampling_probability`) takes ln p_j from the positive as well, which shifts the
    rank of every row by the popularity of its positive; for the other kernels no shift of logits
    is right at all. So leave it off, and weigh.

    **Numbers.** All is computed in ln(r), so finite scores of any size give finite values and
    gradients: where the exponential kernel leaves float32, they are held at e^80 (5.5e34).

    Source: Tang et al., "CROLoss: Towards a Customizable Loss for Retrieval Models in Recommender
    Systems", CIKM 2022, arXiv 2208.02971, and the authors' code.

    Args:
        kernel: φ: `"exponential"`, `"softplus"`, `"hinge"`, `"sigmoid"`, one of the authors'
            composites `"multi_hinge"`, `"split_sigmoid"` and `"sigmoid_hinge"`, a `Kernel`, or an
            elementwise function of `keras.ops`.
        alpha: α ≥ 0, the exponent of the paper's rank weight.
        lambda_kernel: φ₁ of the Lambda method, as `kernel`; `"sigmoid"` in the authors' runs,
            `"step"` for the count itself. None turns the method off.
        temperature: Divides the score differences. Cosine scores want about .1 (the authors'),
            raw dot products 1; at least 1e-6. Where the task already divides by a temperature,
            leave it at 1.
        num_items: N, the size of the catalogue. None means the number of items that the row's
            negatives stand for: their number, so R = 1, or the sum of their `candidate_weight`.
            Give it where masks differ from row to row.
        rank_estimate: `"unbiased"`, r = 1 + R·Σφ, or the authors' `"scaled"`, r = R·(1 + Σφ),
            whose R is the mean v_j where there are weights.
        rank_weight: A rank weight instead of the power law that `alpha` makes: `"gamma"`,
            `"exponential_decay"`, a `RankWeight` such as `LogNormal(n=50)`, or a pair of functions
            (density w, integral W) of (rank, num_items).
        pull: p ≥ 0, how hard the positive is pulled; 1 is the paper's gradient.
        max_positives: The most positives a row may have; the loss of a row is the mean over them,
            each against the row's negatives alone.
        reduction: As in `keras.losses.Loss`; `"sum"` as TFRS's own default loss.
        name: Name of the loss.
        dtype: Dtype of the computation, at least float32.

    Raises:
        ValueError: If an argument is out of range or the kernel unknown, if both `alpha` and
            `rank_weight` are given, or if `rank_weight` needs a larger `num_items`.

    Example:

    Standalone, the positive in any column:

    >>> from tfrs_croloss import CROLoss
    >>> y_true = [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    >>> y_pred = [[0.9, 0.2, 0.7], [0.3, -0.1, 0.4]]
    >>> loss = CROLoss(kernel="sigmoid", temperature=0.1)
    >>> round(float(loss(y_true, y_pred)), 4)
    0.3569

    Weights of the rows, and the loss of each:

    >>> by_row = CROLoss(kernel="sigmoid", temperature=0.1, reduction=None)
    >>> by_row(y_true, y_pred, sample_weight=[1.0, 0.5]).shape == (2,)
    True

    Candidates drawn with unequal probabilities:

    >>> import numpy as np
    >>> probability = np.array([0.2, 0.05, 0.01])
    >>> weight = 1 / (2 * probability)  # two negatives a row
    >>> round(float(loss(y_true, y_pred, candidate_weight=weight)), 4)
    2.495

    In a TFRS task, in place of its softmax, and in Keras:

    ```python
    task = tfrs.tasks.Retrieval(loss=CROLoss(temperature=0.1, lambda_kernel="sigmoid"))
    model.compile(optimizer="adam", loss=CROLoss(temperature=0.1))
    ```
    """

    def __init__(
        self,
        kernel: str | kernels.Kernel | Elementwise = "softplus",
        alpha: float = 1.0,
        lambda_kernel: str | kernels.Kernel | Elementwise | None = None,
        temperature: float = 1.0,
        num_items: float | None = None,
        rank_estimate: Literal["unbiased", "scaled"] = "unbiased",
        rank_weight: str | RankWeight | tuple[RankFunction, RankFunction] | None = None,
        pull: float = 1.0,
        max_positives: int = 1,
        reduction: str | None = "sum",
        name: str = "cro_loss",
        dtype: DType = None,
    ) -> None:
        super().__init__(max_positives, reduction=reduction, name=name, dtype=dtype)
        self.kernel = kernels.get(kernel)
        if isinstance(self.kernel, Step):
            raise ValueError(
                "`kernel` must have a slope to descend along. Received: 'step', which serves as "
                "`lambda_kernel` alone"
            )
        self.lambda_kernel = (
            None if lambda_kernel is None else kernels.get(lambda_kernel, "lambda_kernel")
        )
        power_law = PowerLaw(alpha)
        if rank_weight is not None and alpha != 1.0:
            raise ValueError(
                "`alpha` and `rank_weight` exclude each other. Received: "
                f"alpha={alpha!r}, rank_weight={rank_weight!r}"
            )
        self.rank_weight = power_law if rank_weight is None else rank_weights.get(rank_weight)
        self.temperature = check_temperature("temperature", temperature)
        self.num_items = None if num_items is None else check_positive("num_items", num_items)
        least_items = self.rank_weight.least_items
        if least_items is not None and not (num_items and num_items >= least_items):
            raise ValueError(
                "`num_items` must be given with this `rank_weight`, and be at least "
                f"{least_items}. Received: num_items={num_items!r}"
            )
        self.rank_estimate = check_choice("rank_estimate", rank_estimate, ("unbiased", "scaled"))
        self.pull = check_non_negative("pull", pull)

    @classmethod
    def for_top_n(
        cls,
        n: float,
        num_items: float,
        kernel: str | kernels.Kernel | Elementwise = "softplus",
        lambda_kernel: str | kernels.Kernel | Elementwise | None = None,
        temperature: float = 1.0,
        pull: float = 1.0,
        **options: Any,
    ) -> "CROLoss":
        """The loss whose α puts half of the weight on retrieval sizes up to `n`.

        The density n^-α has its median at `n`. This is a place to start from, not the best α: what
        it gave on two data sets stands in docs/choosing-alpha.md, and the paper's own best α for N
        of 50 to 500 has its median at 5.6. Hold it against your validation set.

        Args:
            n: The N of the Recall@N one serves, 1 < n ≤ num_items / 2.
            num_items: The size of the catalogue.
            kernel: As in `CROLoss`, like the three below.
            lambda_kernel: φ₁ of the Lambda method.
            temperature: Divides the score differences.
            pull: How hard the positive is pulled.
            **options: Further arguments of `CROLoss`.

        Raises:
            ValueError: If `n` is out of range.

        Example:

        >>> loss = CROLoss.for_top_n(50, num_items=9066, lambda_kernel="sigmoid")
        >>> round(loss.rank_weight.alpha, 2)
        1.06
        """
        alpha = PowerLaw.with_median(n, num_items).alpha
        return cls(
            kernel,
            alpha,
            lambda_kernel,
            temperature=temperature,
            num_items=num_items,
            pull=pull,
            **options,
        )

    def default_weight(self, count):
        return ops.ones_like(count) if self.num_items is None else self.num_items / count

    def compare(self, row):
        scale = 1 / self.temperature
        direction = Channel(self.kernel, scale, -scale, pull=self.pull)
        if self.lambda_kernel is None:
            return direction
        return Channel(self.lambda_kernel, scale, -scale, is_reported=True), direction

    def aggregate(self, totals, row):
        num_items = row.num_items
        if self.num_items is not None:
            num_items = self.num_items * ops.ones_like(row.num_items)
        log_size = ops.log1p(num_items)
        log_rank = self._log_rank(totals[0], row)
        # w(r) · ∂r/∂total, where w(r) is the density of ln r over r; R and φ' join it in the base.
        slope = self.rank_weight.density(log_rank, log_size)
        if isinstance(self.kernel, LogKernel):
            # The total is a logarithm: ∂r/∂total is e^total. What is held is the slope in a score.
            log_temperature = math.log(self.temperature)
            log_slope = ops.log(slope) + totals[-1] - log_rank - log_temperature
            slope = self.temperature * ops.exp(saturated(log_slope))
        else:
            slope = slope * ops.exp(-log_rank)
        return Aggregate(
            value=self.rank_weight.integral(log_rank, log_size),
            slopes=(slope,),
        )

    def _log_rank(self, total, row):
        """ln(base + Σ v·φ), exact where the sum is small and finite where it is huge."""
        # r = 1 + Σ v·φ, or R·(1 + Σφ) with R the mean v.
        log_base = ops.zeros_like(total)
        if self.rank_estimate == "scaled":
            log_base = ops.log(row.num_items / row.count)
        if isinstance(self.lambda_kernel or self.kernel, LogKernel):
            return log_base + ops.softplus(total - log_base)
        return log_base + ops.log1p(total * ops.exp(-log_base))

    def get_config(self):
        is_power_law = type(self.rank_weight) is PowerLaw
        return {
            **super().get_config(),
            "kernel": kernels.serialize(self.kernel),
            "alpha": self.rank_weight.alpha if is_power_law else 1.0,
            "lambda_kernel": (
                None if self.lambda_kernel is None else kernels.serialize(self.lambda_kernel)
            ),
            "temperature": self.temperature,
            "num_items": self.num_items,
            "rank_estimate": self.rank_estimate,
            "pull": self.pull,
            "rank_weight": None if is_power_law else serialize(self.rank_weight),
        }
