"""Talos: positive and negatives against the score at which their query's top K ends."""

from tfrs_croloss._arguments import check_number
from tfrs_croloss._registration import register
from tfrs_croloss._typing import DType
from tfrs_croloss.losses.channels import Channel
from tfrs_croloss.losses.sampled_softmax_loss import SampledSoftmaxLoss
from tfrs_croloss.losses.softmax_loss_at_k import THRESHOLD
from tfrs_croloss.losses.surrogates import LogisticPower


@register
class TalosLoss(SampledSoftmaxLoss):
    """Talos: a loss for Recall@K that compares all scores with the end of the query's top K.

    ```math
    L = ln Σ_j v_j · σ(s_j - β)^(1/temperature) - ln σ(s⁺ - β)^(1/temperature)
    ```

    where:

    - `s⁺` and `s_j` are the scores of the row's positive and of its unmasked negatives, `v_j` the
      weights of these, 1 as in `SampledSoftmaxLoss`.
    - `β` is the threshold of the row: the score of its query's K-th best item, a constant. The
      paper learns it beside the model, by a quantile regression; any estimate will do here.
      `tfrs_croloss.retrieval.Thresholds` takes the exact one, over the whole catalogue.
    - `σ` is the logistic function of the scores as they are: the temperature is a power, and
      divides no score. For scores far below β it is that of `SampledSoftmaxLoss`; at β = s⁺ the
      value is that of `PairwiseSoftmaxLoss` at its temperature of 2.

    Source: Zhang et al., "Talos: Optimizing Top-K Accuracy in Recommender Systems", WWW 2026,
    arXiv 2601.19276, and the authors' code.

    Args:
        temperature: τ, at least 1e-6.
        threshold: β of the rows where a call brings none, in units of the scores that the loss
            sees; None if calls must bring them, as `threshold` of `[num_queries]`.
        max_positives: The most positives a row may have, as in `SampledSoftmaxLoss`.
        reduction: As in `keras.losses.Loss`; `"sum"` as TFRS's own default loss.
        name: Name of the loss.
        dtype: Dtype of the computation, at least float32.

    Raises:
        ValueError: If the temperature is out of range, or the threshold is no number; in a call,
            if there is no threshold.

    Example:

    >>> from tfrs_croloss.losses import TalosLoss
    >>> loss = TalosLoss(temperature=0.5)
    >>> scores = [[0.8, 0.6, 0.1]]
    >>> round(float(loss([[1, 0, 0]], scores, threshold=[0.6])), 4)  # ln(.5² + σ(-.5)²) - ln σ(.2)²
    0.2612
    """

    row_inputs = (THRESHOLD,)

    def __init__(
        self,
        temperature: float = 1.0,
        threshold: float | None = None,
        max_positives: int = 1,
        reduction: str | None = "sum",
        name: str = "talos_loss",
        dtype: DType = None,
    ) -> None:
        super().__init__(temperature, max_positives, reduction, name, dtype)
        self.kernel = LogisticPower(temperature)
        self.threshold = None if threshold is None else check_number("threshold", threshold)

    def compare(self, row):
        return Channel(self.kernel, positive_scale=0, shift=-row.inputs["threshold"])

    def aggregate(self, totals, row):
        return totals[0] - self.kernel.log(row.positive - row.inputs["threshold"])

    def get_config(self):
        return {**super().get_config(), "threshold": self.threshold}
