"""Multi-margin (cosine) loss, and the cosine contrastive loss as its one-margin case."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from keras import ops

from tfrs_croloss._arguments import check_non_negative, check_number, check_positive
from tfrs_croloss._registration import register
from tfrs_croloss._typing import Array, DType
from tfrs_croloss.losses.base import MASKED_SCORE, Aggregate, RetrievalLoss
from tfrs_croloss.losses.channels import Channel
from tfrs_croloss.losses.checks import COSINE_TOLERANCE
from tfrs_croloss.losses.kernels import MultiHinge


@register
class MultiMarginLoss(RetrievalLoss):
    """Multi-Margin Loss: harder negatives push more, easier ones still push.

    ```math
    L = w_p · max(0, 1 - s⁺) + w_n · mean_j Σ_k w_k · max(0, s_j - m_k)
    ```

    where:

    - `s⁺` and `s_j` are the cosines of the row's positive and of its unmasked negatives, before
      any temperature or log-Q correction: leave both off in the task.
    - `m_k` are the margins and `w_k` their weights, so the slope on a negative grows in steps,
      `w_n · Σ_{k: m_k < s_j} w_k`.
    - `w_p` and `w_n` weigh the positive and the negatives.

    Negatives drawn with probabilities p_j stand for v_j = 1/(M·p_j) items each: pass these as
    `candidate_weight` of the call, and the mean over the negatives becomes that over the
    catalogue, Σ_j v_j · ψ(s_j) / Σ_j v_j with ψ the sum over the margins.

    Source: Ozsoy, "Multi-Margin Loss", 2024, arXiv 2405.04614, and the author's code.

    Args:
        margins: m_k, cosines in increasing order. The author's for Gowalla: (.7, .8, .9).
        weights: w_k, one a margin. The author's for Gowalla: (.10, .15, .75).
        positive_weight: w_p.
        negative_weight: w_n. The author's for Gowalla: 700.
        max_positives: The most positives a row may have; the loss of a row is the mean over them,
            each against the row's negatives alone.
        reduction: As in `keras.losses.Loss`; `"sum"` as TFRS's own default loss.
        name: Name of the loss.
        dtype: Dtype of the computation.

    Raises:
        ValueError: If margins and weights differ in number, there are none, the margins do not
            increase, or a weight is negative. A score beyond a cosine warns once, in an eager call.

    Example:

    Standalone:

    >>> from tfrs_croloss import MultiMarginLoss
    >>> y_true = [[1.0, 0.0, 0.0]]
    >>> y_pred = [[0.8, 0.6, -0.2]]
    >>> loss = MultiMarginLoss(margins=(0.0, 0.5), weights=(1.0, 2.0), negative_weight=10.0)
    >>> round(float(loss(y_true, y_pred)), 4)  # .2 + 10 · (.6 + 2 · .1 + 0) / 2
    4.2

    A masked candidate, and weights of the rows:

    >>> masked = [[0.8, 0.6, -3.4e36]]
    >>> round(float(loss(y_true, masked, sample_weight=[0.5])), 4)  # .5 · (.2 + 10 · .8 / 1)
    4.1

    In a TFRS task and in Keras, on normalised embeddings, margins read off a model's cosines:

    ```python
    loss = MultiMarginLoss.from_quantiles(cosines)
    task = tfrs.tasks.Retrieval(loss=loss)
    model.compile(optimizer="adam", loss=loss)
    ```
    """

    takes_cosines = True

    def __init__(
        self,
        margins: Sequence[float],
        weights: Sequence[float],
        positive_weight: float = 1.0,
        negative_weight: float = 1.0,
        max_positives: int = 1,
        reduction: str | None = "sum",
        name: str = "multi_margin_loss",
        dtype: DType = None,
    ) -> None:
        super().__init__(max_positives, reduction=reduction, name=name, dtype=dtype)
        self.kernel = MultiHinge(margins, weights)
        self.positive_weight = check_non_negative("positive_weight", positive_weight)
        self.negative_weight = check_non_negative("negative_weight", negative_weight)

    @classmethod
    def from_quantiles(
        cls,
        scores: Array,
        quantiles: Sequence[float] = (0.25, 0.5, 0.75),
        weights: Sequence[float] | None = None,
        push: float = 1.0,
        **options: Any,
    ) -> Self:
        """The loss whose margins lie at quantiles of the negatives' cosines.

        A margin above all cosines does nothing and one below them is a constant push, so where
        margins belong depends on the data and the model. Take the scores of a model that has been
        trained, if briefly, by any loss; a new model's cosines are noise. What it gave on two data
        sets stands in docs/choosing-alpha.md.

        `negative_weight` is set so that, on these very scores, the negatives of a row together
        push `push` times as much as the positive pulls:

        ```math
        w_n = push · w_p / Σ_k w_k · (1 - quantile_k)
        ```

        Args:
            scores: Cosines of queries with their negatives, any shape. Masked ones are left out.
            quantiles: Where the margins lie, in increasing order between 0 and 1.
            weights: w_k, one a quantile; equal, and 1 together, by default.
            push: Push of the negatives over the pull of the positive. With too little the
                embeddings collapse into one: with negatives from the batch that was much below a
                half, with uniform ones 1 already was, and high quantiles with a push of 3 were
                best (notebooks/3-margins.ipynb).
            **options: Further arguments of the loss, but `negative_weight`.

        Raises:
            ValueError: If a quantile is not between 0 and 1, two margins would be one, or all
                quantiles are 1.

        Example:

        >>> import numpy as np
        >>> cosines = np.linspace(-1, 1, 201)
        >>> loss = MultiMarginLoss.from_quantiles(cosines, (0.5, 0.9))
        >>> [round(margin, 6) for margin in loss.kernel.margins]
        [0.0, 0.8]
        >>> round(loss.negative_weight, 4)  # 1 / (.5 · .5 + .5 · .1)
        3.3333
        """
        if "negative_weight" in options:
            raise ValueError(
                "`negative_weight` follows from `push`. Received: both, negative_weight="
                f"{options['negative_weight']!r}"
            )
        quantiles = [
            check_number("quantiles", q, "from 0 to 1", lambda q: 0 <= q <= 1)
            for q in np.atleast_1d(quantiles)
        ]
        if not quantiles:
            raise ValueError("`quantiles` must be at least one. Received: none")
        scores = np.asarray(ops.convert_to_numpy(scores), "float64").ravel()
        scores = scores[~(scores <= MASKED_SCORE)]
        if not scores.size or not (np.abs(scores) <= 1 + COSINE_TOLERANCE).all():
            raise ValueError(
                "`scores` must hold cosines in [-1, 1], masked ones aside. Received: "
                f"{scores.size} unmasked scores between {scores.min(initial=np.inf):.4g} and "
                f"{scores.max(initial=-np.inf):.4g}"
            )
        margins = np.quantile(scores, quantiles).tolist()
        if len(set(margins)) < len(margins):
            raise ValueError(
                "`quantiles` must lie on different scores. Received: the quantiles "
                f"{quantiles}, on {margins}"
            )
        if weights is None:
            weights = [1 / len(margins)] * len(margins)
        loss = cls(margins, weights, **options)
        slope = sum(w * (1 - q) for w, q in zip(loss.kernel.weights, quantiles, strict=True))
        if not slope > 0:
            raise ValueError(
                f"`quantiles` must leave negatives above a margin. Received: {quantiles} with "
                f"weights {weights}"
            )
        loss.negative_weight = check_positive("push", push) * loss.positive_weight / slope
        return loss

    def compare(self, row):
        return Channel(self.kernel, positive_scale=0)

    def aggregate(self, totals, row):
        shortfall, share = ops.relu(1 - row.positive), self.negative_weight / row.num_items
        return Aggregate(
            value=self.positive_weight * shortfall + share * totals[0],
            slopes=(share,),
            positive_slope=-self.positive_weight * ops.cast(shortfall > 0, shortfall.dtype),
        )

    def get_config(self):
        return {
            **super().get_config(),
            "margins": self.kernel.margins,
            "weights": self.kernel.weights,
            "positive_weight": self.positive_weight,
            "negative_weight": self.negative_weight,
        }


@register
class CosineContrastiveLoss(MultiMarginLoss):
    """Cosine contrastive loss: the multi-margin loss with one margin.

    ```math
    L = max(0, 1 - s⁺) + w · mean_j max(0, s_j - m)
    ```

    where s⁺ and s_j are the cosines of the row's positive and of its unmasked negatives.

    Source: Mao et al., "SimpleX", CIKM 2021.

    Args:
        margin: m, a cosine. SimpleX's for Gowalla: .9.
        negative_weight: w. SimpleX's for Gowalla: 150.
        max_positives: The most positives a row may have, as in `MultiMarginLoss`.
        reduction: As in `keras.losses.Loss`; `"sum"` as TFRS's own default loss.
        name: Name of the loss.
        dtype: Dtype of the computation.

    Raises:
        ValueError: If the margin is not a number or the weight negative.

    Example:

    >>> from tfrs_croloss import CosineContrastiveLoss
    >>> loss = CosineContrastiveLoss(margin=0.5, negative_weight=10.0)
    >>> round(float(loss([[1.0, 0.0]], [[0.8, 0.6]])), 4)  # .2 + 10 · .1
    1.2
    """

    def __init__(
        self,
        margin: float,
        negative_weight: float,
        max_positives: int = 1,
        reduction: str | None = "sum",
        name: str = "cosine_contrastive_loss",
        dtype: DType = None,
    ) -> None:
        super().__init__(
            margins=(margin,),
            weights=(1.0,),
            negative_weight=negative_weight,
            max_positives=max_positives,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )

    @classmethod
    def from_quantiles(  # type: ignore[override] # one margin, so no weights
        cls, scores: Array, quantiles: Sequence[float] = (0.5,), push: float = 1.0, **options: Any
    ) -> Self:
        """The loss whose margin lies at a quantile, as `MultiMarginLoss.from_quantiles`."""
        found = MultiMarginLoss.from_quantiles(scores, quantiles, push=push)
        if len(found.kernel.margins) != 1:
            raise ValueError(f"`quantiles` must be a single one. Received: {quantiles}")
        return cls(found.kernel.margins[0], found.negative_weight, **options)

    def get_config(self):
        config = super().get_config()
        for inherited in ("margins", "weights", "positive_weight"):
            del config[inherited]
        return {**config, "margin": self.kernel.margins[0]}
