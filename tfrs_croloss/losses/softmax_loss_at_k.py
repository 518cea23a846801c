"""SL@K: the sampled softmax, weighed by how far the positive is into its query's top K."""

from keras import ops

from tfrs_croloss._arguments import check_number, check_temperature
from tfrs_croloss._registration import register
from tfrs_croloss._typing import DType
from tfrs_croloss.losses.base import RowInput
from tfrs_croloss.losses.sampled_softmax_loss import SampledSoftmaxLoss

THRESHOLD = RowInput(
    "threshold",
    is_score=True,
    hint="It is the score at which the query's top K ends: RetrievalModel(thresholds="
    "Thresholds(...)) keeps one of each user from the first `refresh_thresholds` on, the loss's "
    "own `threshold` is one for all",
)


@register
class SoftmaxLossAtK(SampledSoftmaxLoss):
    """SL@K: a softmax loss for NDCG@K, which positives in or near the top K count in.

    ```math
    L = σ((s⁺ - β)/τ_w) · ln Σ_j v_j · e^(x_j),    x_j = (s_j - s⁺) / temperature
    ```

    where:

    - `s⁺` and `s_j` are the scores of the row's positive and of its unmasked negatives, `v_j` the
      weights of these, 1 as in `SampledSoftmaxLoss`: the logarithm, and with it the size of the
      weight's own slope, grows with the number of negatives.
    - `β` is the threshold of the row: the score of its query's K-th best item, a constant. The
      papers estimate it from a user's positives and sampled negatives; any estimate will do here.
      `tfrs_croloss.retrieval.Thresholds` takes the exact one, over the whole catalogue.
    - `σ` is the logistic function and `τ_w` is `weight_temperature`. The gradient flows through the
      weight, too: at a small τ_w a model may learn to keep its positives below β. For a large τ_w
      the loss is half the sampled softmax.

    Source: Yang et al., "Breaking the Top-K Barrier: Advancing Top-K Ranking Metrics Optimization
    in Recommender Systems", KDD 2025, arXiv 2508.05673, and the authors' IR-Benchmark, which leaves
    the normalisation of the weights out.

    Args:
        temperature: Divides the score differences; at least 1e-6. The paper's for cosines: .2, or
            .1 on Gowalla.
        weight_temperature: τ_w, at least 1e-6. The paper's for cosines: 2.5, 2.25 and 1.
        threshold: β of the rows where a call brings none, in units of the scores that the loss
            sees; None if calls must bring them, as `threshold` of `[num_queries]`.
        max_positives: The most positives a row may have, as in `SampledSoftmaxLoss`.
        reduction: As in `keras.losses.Loss`; `"sum"` as TFRS's own default loss.
        name: Name of the loss.
        dtype: Dtype of the computation, at least float32.

    Raises:
        ValueError: If a temperature is out of range, or the threshold is no number; in a call, if
            there is no threshold.

    Example:

    >>> from tfrs_croloss.losses import SoftmaxLossAtK
    >>> loss = SoftmaxLossAtK(temperature=0.5)
    >>> scores = [[0.8, 0.5, 0.1]]
    >>> round(float(loss([[1, 0, 0]], scores, threshold=[0.6])), 4)  # σ(.2) · ln(e^-.6 + e^-1.4)
    -0.1259

    In a TFRS task see `tfrs_croloss.retrieval.Thresholds`.
    """

    row_inputs = (THRESHOLD,)

    def __init__(
        self,
        temperature: float = 1.0,
        weight_temperature: float = 1.0,
        threshold: float | None = None,
        max_positives: int = 1,
        reduction: str | None = "sum",
        name: str = "softmax_loss_at_k",
        dtype: DType = None,
    ) -> None:
        super().__init__(temperature, max_positives, reduction, name, dtype)
        self.weight_temperature = check_temperature("weight_temperature", weight_temperature)
        self.threshold = None if threshold is None else check_number("threshold", threshold)

    def aggregate(self, totals, row):
        above = (row.positive - row.inputs["threshold"]) / self.weight_temperature
        return ops.sigmoid(above) * totals[0]

    def get_config(self):
        return {
            **super().get_config(),
            "weight_temperature": self.weight_temperature,
            "threshold": self.threshold,
        }
