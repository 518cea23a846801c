"""Multi-margin (cosine) loss, and the cosine contrastive loss as its one-margin case."""

import itertools

import keras
from keras import ops

from tfrs_croloss.losses.base import Aggregate, Channel, RetrievalLoss


@keras.saving.register_keras_serializable(package="tfrs_croloss")
class MultiMarginLoss(RetrievalLoss):
    """Multi-Margin Loss: harder negatives push more, easier ones still push.

    ```
    L = w_p · max(0, 1 - s⁺) + w_n · mean_j Σ_k w_k · max(0, s_j - m_k)
    ```

    where:

    - `s⁺` and `s_j` are the cosines of the row's positive and of its unmasked negatives, before
      any temperature or log-Q correction: leave both off in the task.
    - `m_k` are the margins and `w_k` their weights, so the slope on a negative grows in steps,
      `w_n · Σ_{k: m_k < s_j} w_k`.
    - `w_p` and `w_n` weigh the positive and the negatives.

    Source: Ozsoy, "Multi-Margin Loss", 2024, arXiv 2405.04614, and the author's code.

    Args:
        margins: m_k, cosines in increasing order. The author's for Gowalla: (.7, .8, .9).
        weights: w_k, one a margin. The author's for Gowalla: (.10, .15, .75).
        positive_weight: w_p.
        negative_weight: w_n. The author's for Gowalla: 700.
        reduction: As in `keras.losses.Loss`; `"sum"` as TFRS's own default loss.
        name: Name of the loss.
        dtype: Dtype of the computation.

    Raises:
        ValueError: If margins and weights differ in number, there are none, the margins do not
            increase, or a weight is negative.

    Example:

    >>> from tfrs_croloss import MultiMarginLoss
    >>> y_true = [[1.0, 0.0, 0.0]]
    >>> y_pred = [[0.8, 0.6, -0.2]]
    >>> loss = MultiMarginLoss(margins=(0.0, 0.5), weights=(1.0, 2.0), negative_weight=10.0)
    >>> round(float(loss(y_true, y_pred)), 4)  # .2 + 10 · (.6 + 2 · .1 + 0) / 2
    4.2
    """

    def __init__(
        self,
        margins,
        weights,
        positive_weight=1.0,
        negative_weight=1.0,
        reduction="sum",
        name="multi_margin_loss",
        dtype=None,
    ):
        super().__init__(reduction=reduction, name=name, dtype=dtype)
        margins, weights = tuple(margins), tuple(weights)
        if not margins or len(margins) != len(weights):
            raise ValueError(
                "`margins` and `weights` must be of one length, at least 1. Received: "
                f"margins={margins}, weights={weights}"
            )
        if any(not low < high for low, high in itertools.pairwise(margins)):
            raise ValueError(f"`margins` must increase. Received: margins={margins}")
        for argument, weight in [
            *(("weights", weight) for weight in weights),
            ("positive_weight", positive_weight),
            ("negative_weight", negative_weight),
        ]:
            if not weight >= 0:
                raise ValueError(f"`{argument}` must not be negative. Received: {weight!r}")
        self.margins = margins
        self.weights = weights
        self.positive_weight = positive_weight
        self.negative_weight = negative_weight

    def compare(self, negative, positive):
        steps = zip(self.margins, self.weights, strict=True)
        return (Channel(sum(weight * ops.relu(negative - margin) for margin, weight in steps)),)

    def aggregate(self, totals, count, positive):
        shortfall = ops.relu(1 - positive)
        return Aggregate(
            value=self.positive_weight * shortfall + self.negative_weight * totals[0] / count,
            slopes=(self.negative_weight / count,),
            positive_slope=-self.positive_weight * ops.cast(shortfall > 0, positive.dtype),
        )

    def get_config(self):
        return {
            **super().get_config(),
            "margins": self.margins,
            "weights": self.weights,
            "positive_weight": self.positive_weight,
            "negative_weight": self.negative_weight,
        }


@keras.saving.register_keras_serializable(package="tfrs_croloss")
class CosineContrastiveLoss(MultiMarginLoss):
    """Cosine contrastive loss: the multi-margin loss with one margin.

    ```
    L = max(0, 1 - s⁺) + w · mean_j max(0, s_j - m)
    ```

    Source: Mao et al., "SimpleX", CIKM 2021.

    Args:
        margin: m, a cosine. SimpleX's for Gowalla: .9.
        negative_weight: w. SimpleX's for Gowalla: 150.
        reduction: As in `keras.losses.Loss`; `"sum"` as TFRS's own default loss.
        name: Name of the loss.
        dtype: Dtype of the computation.

    Example:

    >>> from tfrs_croloss import CosineContrastiveLoss
    >>> loss = CosineContrastiveLoss(margin=0.5, negative_weight=10.0)
    >>> round(float(loss([[1.0, 0.0]], [[0.8, 0.6]])), 4)  # .2 + 10 · .1
    1.2
    """

    def __init__(
        self,
        margin,
        negative_weight,
        reduction="sum",
        name="cosine_contrastive_loss",
        dtype=None,
    ):
        super().__init__(
            margins=(margin,),
            weights=(1.0,),
            negative_weight=negative_weight,
            reduction=reduction,
            name=name,
            dtype=dtype,
        )

    def get_config(self):
        config = super().get_config()
        for inherited in ("margins", "weights", "positive_weight"):
            del config[inherited]
        return {**config, "margin": self.margins[0]}
