"""Pairwise softmax loss: the sampled softmax with a tighter surrogate in place of e^x."""

from collections.abc import Callable

from tfrs_croloss._arguments import check_choice, check_temperature
from tfrs_croloss._registration import register
from tfrs_croloss._typing import DType
from tfrs_croloss.losses.sampled_softmax_loss import SampledSoftmaxLoss
from tfrs_croloss.losses.surrogates import AtanPower, ReluPower, Surrogate, TanhPower

ACTIVATIONS: dict[str, Callable[[float], Surrogate]] = {
    "tanh": TanhPower,
    "relu": ReluPower,
    "atan": AtanPower,
}


@register
class PairwiseSoftmaxLoss(SampledSoftmaxLoss):
    """Pairwise Softmax Loss (PSL): a surrogate nearer to the step than the softmax's e^x.

    ```math
    L = ln Σ_j v_j · σ(x_j)^(1/robust_temperature),    x_j = (s_j - s⁺) / temperature
    ```

    where:

    - `s⁺` and `s_j` are the scores of the row's positive and of its unmasked negatives, `v_j` the
      weights of these, 1 as in `SampledSoftmaxLoss`.
    - `σ(x)` is tanh(x) + 1, max(0, x + 1) or arctan(x) + 1. Each is between the step 1[x > 0] and
      e^x for x in [-1, 1]. So cosines, whose differences are within 2, want the temperature 2 of
      the paper's runs: x is the difference of the halved cosines, and tanh(·/2) the usual pick.
    - `robust_temperature` is the paper's τ*, the one to tune. For a large `temperature` the loss
      goes to the sampled softmax's at `temperature` · `robust_temperature`.

    A σ of 0 has no logarithm: it is held at 1e-6, without a slope.

    Source: Yang et al., "PSL: Rethinking and Improving Softmax Loss from Pairwise Perspective for
    Recommendation", NeurIPS 2024, arXiv 2411.00163. Of the authors' two forms this is the one that
    is robust in the negatives: `method=1` in their IR-Benchmark, its default.

    Args:
        temperature: τ, divides the score differences: 2 for cosines, and not below, where relu and
            atan are 0 for easy negatives; at least 1e-6.
        robust_temperature: τ*, at least 1e-6.
        activation: σ: `"tanh"`, `"relu"` or `"atan"`.
        max_positives: The most positives a row may have, as in `SampledSoftmaxLoss`.
        reduction: As in `keras.losses.Loss`; `"sum"` as TFRS's own default loss.
        name: Name of the loss.
        dtype: Dtype of the computation, at least float32.

    Raises:
        ValueError: If a temperature is out of range or the activation unknown.

    Example:

    >>> from tfrs_croloss.losses import PairwiseSoftmaxLoss
    >>> loss = PairwiseSoftmaxLoss(robust_temperature=0.5)
    >>> round(float(loss([[1, 0]], [[0.8, 0.5]])), 4)  # 2 · ln(tanh(-.15) + 1)
    -0.3225
    """

    def __init__(
        self,
        temperature: float = 2.0,
        robust_temperature: float = 0.1,
        activation: str = "tanh",
        max_positives: int = 1,
        reduction: str | None = "sum",
        name: str = "pairwise_softmax_loss",
        dtype: DType = None,
    ) -> None:
        super().__init__(temperature, max_positives, reduction, name, dtype)
        self.robust_temperature = check_temperature("robust_temperature", robust_temperature)
        self.activation = check_choice("activation", activation, ACTIVATIONS)
        self.kernel = ACTIVATIONS[activation](robust_temperature)

    def get_config(self):
        return {
            **super().get_config(),
            "robust_temperature": self.robust_temperature,
            "activation": self.activation,
        }
