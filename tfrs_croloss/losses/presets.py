"""Losses that everyone knows, as the cases of `CROLoss` that they are."""

from typing import Any, ClassVar

from tfrs_croloss._registration import register
from tfrs_croloss._typing import DType
from tfrs_croloss.losses.base import RetrievalLoss
from tfrs_croloss.losses.cro_loss import CROLoss


class _Preset(CROLoss):
    """A `CROLoss` of which the temperature alone is chosen.

    Attributes:
        settings: The arguments of `CROLoss` that are not.
        default_name: Name of a loss that is given none.
    """

    settings: ClassVar[dict[str, Any]]
    default_name: str

    def __init__(
        self,
        temperature: float = 1.0,
        max_positives: int = 1,
        reduction: str | None = "sum",
        name: str | None = None,
        dtype: DType = None,
    ) -> None:
        super().__init__(
            **self.settings,
            temperature=temperature,
            max_positives=max_positives,
            reduction=reduction,
            name=name or self.default_name,
            dtype=dtype,
        )

    def get_config(self):
        return {**RetrievalLoss.get_config(self), "temperature": self.temperature}


@register
class SoftmaxLoss(_Preset):
    """The softmax cross-entropy of the positive among its negatives, TFRS's default loss.

    ```math
    L = ln(1 + Σ_j v_j · e^(x_j)),    x_j = (s_j - s⁺) / temperature
    ```

    where `s⁺` and `s_j` are the scores of the row's positive and of its unmasked negatives, and
    `v_j` their weights, 1 by default. It is `CROLoss("exponential")`.

    Source: CROLoss (Tang et al., CIKM 2022, arXiv 2208.02971), section 3.3; `tfrs.tasks.Retrieval`.

    Args:
        temperature: Divides the score differences; at least 1e-6. Where the task already divides
            by a temperature, leave it at 1.
        max_positives: As in `RetrievalLoss`, like the three below.
        reduction: As in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, at least float32.

    Example:

    >>> from tfrs_croloss import SoftmaxLoss
    >>> loss = SoftmaxLoss(temperature=0.5)
    >>> round(float(loss([[1, 0, 0]], [[0.9, 0.4, 0.9]])), 4)  # ln(1 + e^-1 + 1)
    0.862
    """

    settings: ClassVar[dict[str, Any]] = {"kernel": "exponential"}
    default_name = "softmax"


@register
class BPRLoss(_Preset):
    """Bayesian Personalized Ranking: the logistic loss of each negative against the positive.

    ```math
    L = ln(N+1) / N · Σ_j v_j · ln(1 + e^(x_j)),    x_j = (s_j - s⁺) / temperature
    ```

    where `s⁺` and `s_j` are the scores of the row's positive and of its unmasked negatives, `v_j`
    their weights, 1 by default, and N = Σ_j v_j. The factor before the sum is that of
    `CROLoss("softplus", alpha=0)`, which it is; Adam does not see it.

    Source: Rendle et al., "BPR: Bayesian Personalized Ranking from Implicit Feedback", UAI 2009,
    arXiv 1205.2618; CROLoss (arXiv 2208.02971), section 3.3.

    Args:
        temperature: Divides the score differences; at least 1e-6. 1 is the paper's.
        max_positives: As in `RetrievalLoss`, like the three below.
        reduction: As in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, at least float32.

    Example:

    >>> from tfrs_croloss import BPRLoss
    >>> round(float(BPRLoss()([[1, 0, 0]], [[0.5, 0.5, 0.5]])), 4)  # ln 3 / 2 · 2 · ln 2
    0.7615
    """

    settings: ClassVar[dict[str, Any]] = {"kernel": "softplus", "alpha": 0.0}
    default_name = "bpr"


@register
class TripletLoss(_Preset):
    """The triplet loss: each negative is to stay a margin below the positive.

    ```math
    L = ln(N+1) / N · Σ_j v_j · max(0, x_j + 1/2),    x_j = (s_j - s⁺) / temperature
    ```

    So the margin is half the temperature, in units of the scores. `s⁺` and `s_j` are the scores of
    the row's positive and of its unmasked negatives, `v_j` their weights, 1 by default, and
    N = Σ_j v_j. It is `CROLoss("hinge", alpha=0)`.

    Source: CROLoss (Tang et al., CIKM 2022, arXiv 2208.02971), section 3.3.

    Args:
        temperature: Twice the margin; at least 1e-6.
        max_positives: As in `RetrievalLoss`, like the three below.
        reduction: As in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: Dtype of the computation, at least float32.

    Example:

    >>> from tfrs_croloss import TripletLoss
    >>> loss = TripletLoss(temperature=0.4)  # a margin of .2
    >>> round(float(loss([[1, 0, 0]], [[0.8, 0.7, 0.1]])), 4)  # ln 3 / 2 · .1 / .4
    0.1373
    """

    settings: ClassVar[dict[str, Any]] = {"kernel": "hinge", "alpha": 0.0}
    default_name = "triplet"
