"""Sampled softmax loss, and what the losses that change a part of it share."""

from tfrs_croloss._arguments import check_temperature
from tfrs_croloss._registration import register
from tfrs_croloss._typing import DType
from tfrs_croloss.losses.base import RetrievalLoss
from tfrs_croloss.losses.channels import Channel
from tfrs_croloss.losses.kernels import Exponential, LogKernel


@register
class SampledSoftmaxLoss(RetrievalLoss):
    """Sampled softmax (SL, SSM): the softmax cross-entropy without the positive's own term.

    ```math
    L = ln Σ_j v_j · e^(x_j),    x_j = (s_j - s⁺) / temperature
    ```

    where:

    - `s⁺` and `s_j` are the scores of the row's positive and of its unmasked negatives.
    - `v_j` is 1: the papers sum over the sampled negatives as they are. Negatives drawn with
      probabilities p_j stand for 1/(M·p_j) items each: pass these as `candidate_weight`.

    The softmax cross-entropy, TFRS's default and `CROLoss("exponential")`, is ln(1 + e^L): it lets
    go of a row whose positive is far above, while this loss goes on below 0 and pushes all rows
    alike. As a mean over the negatives, which some papers write, it is less by ln M, and has the
    same gradient.

    Source: Wu et al., "On the Effectiveness of Sampled Softmax Loss for Item Recommendation",
    TOIS 2024, arXiv 2201.02327.

    Args:
        temperature: Divides the score differences; at least 1e-6. Where the task already divides
            by a temperature, leave it at 1.
        max_positives: The most positives a row may have; the loss of a row is the mean over them,
            each against the row's negatives alone.
        reduction: As in `keras.losses.Loss`; `"sum"` as TFRS's own default loss.
        name: Name of the loss.
        dtype: Dtype of the computation, at least float32.

    Raises:
        ValueError: If the temperature is out of range.

    Example:

    >>> from tfrs_croloss.losses import SampledSoftmaxLoss
    >>> loss = SampledSoftmaxLoss(temperature=0.5)
    >>> round(float(loss([[1, 0, 0]], [[0.8, 0.5, 0.1]])), 4)  # ln(e^-.6 + e^-1.4)
    -0.2289
    """

    def __init__(
        self,
        temperature: float = 1.0,
        max_positives: int = 1,
        reduction: str | None = "sum",
        name: str = "sampled_softmax_loss",
        dtype: DType = None,
    ) -> None:
        super().__init__(max_positives, reduction=reduction, name=name, dtype=dtype)
        self.temperature = check_temperature("temperature", temperature)
        # What stands for e^x in subclasses.
        self.kernel: LogKernel = Exponential()

    def compare(self, row):
        return Channel(self.kernel, 1 / self.temperature, -1 / self.temperature)

    def aggregate(self, totals, row):
        # The total of a `LogKernel` is the logarithm of the sum.
        return totals[0]

    def get_config(self):
        return {**super().get_config(), "temperature": self.temperature}
