"""Bilateral softmax loss: temperatures of their own for positive and negatives."""

from tfrs_croloss._arguments import check_temperature
from tfrs_croloss._registration import register
from tfrs_croloss._typing import DType
from tfrs_croloss.losses.channels import Channel
from tfrs_croloss.losses.sampled_softmax_loss import SampledSoftmaxLoss


@register
class BilateralSoftmaxLoss(SampledSoftmaxLoss):
    """Bilateral Softmax Loss (BSL): the sampled softmax with two temperatures.

    ```math
    L = -s⁺/τ₁ + (τ₂/τ₁) · ln Σ_j v_j · e^(s_j/τ₂)
    ```

    where:

    - `s⁺` and `s_j` are the scores of the row's positive and of its unmasked negatives, `v_j` the
      weights of these, 1 as in `SampledSoftmaxLoss`.
    - `τ₁` is `positive_temperature`, `τ₂` is `temperature`. Equal, they make the sampled softmax;
      the ratio τ₁/τ₂ is what the paper tunes beyond it.

    Source: Wu et al., "BSL: Understanding and Improving Softmax Loss for Recommendation",
    ICDE 2024, arXiv 2312.12882, for rows of one positive each, as the authors' code has it.

    Args:
        temperature: τ₂, of the negatives; at least 1e-6. Where the task already divides by a
            temperature, both are in units of that.
        positive_temperature: τ₁, likewise; None for that of the negatives.
        max_positives: The most positives a row may have, as in `SampledSoftmaxLoss`.
        reduction: As in `keras.losses.Loss`; `"sum"` as TFRS's own default loss.
        name: Name of the loss.
        dtype: Dtype of the computation, at least float32.

    Raises:
        ValueError: If a temperature is out of range.

    Example:

    >>> from tfrs_croloss.losses import BilateralSoftmaxLoss
    >>> loss = BilateralSoftmaxLoss(temperature=0.5, positive_temperature=1.0)
    >>> round(float(loss([[1, 0, 0]], [[0.8, 0.5, 0.1]])), 4)  # -.8 + .5 · ln(e^1 + e^.2)
    -0.1144
    """

    def __init__(
        self,
        temperature: float = 1.0,
        positive_temperature: float | None = None,
        max_positives: int = 1,
        reduction: str | None = "sum",
        name: str = "bilateral_softmax_loss",
        dtype: DType = None,
    ) -> None:
        super().__init__(temperature, max_positives, reduction, name, dtype)
        self.positive_temperature = check_temperature(
            "positive_temperature",
            temperature if positive_temperature is None else positive_temperature,
        )

    def compare(self, row):
        return Channel(self.kernel, 1 / self.temperature, positive_scale=0)

    def aggregate(self, totals, row):
        ratio = self.temperature / self.positive_temperature
        return ratio * totals[0] - row.positive / self.positive_temperature

    def get_config(self):
        return {**super().get_config(), "positive_temperature": self.positive_temperature}
