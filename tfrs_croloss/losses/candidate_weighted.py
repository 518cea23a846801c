"""Weights of candidates through Keras's `fit`, which has no argument for them."""

import keras

from tfrs_croloss._registration import register
from tfrs_croloss._typing import Array
from tfrs_croloss.losses.base import RetrievalLoss
from tfrs_croloss.losses.checks import as_numbers, check_shape
from tfrs_croloss.losses.tensors import like_scores


@register
class CandidateWeighted(keras.losses.Loss):
    """A retrieval loss that reads the `sample_weight` of a call as its `candidate_weight`.

    Keras's `fit` brings a loss labels, scores and sample weights, and nothing else. In this wrapper
    the sample weights are v_j of the candidates, `[num_queries, num_candidates]`; the rows have no
    weights then. It is for Keras 3: the `compile` of tf_keras weighs by itself what a loss returns.

    Args:
        loss: A `RetrievalLoss`.
        name: Name of the loss; that of `loss` by default.

    Raises:
        ValueError: If `loss` is not a `RetrievalLoss`; in a call, what that raises.

    Example:

    >>> from tfrs_croloss.losses import CandidateWeighted, CROLoss
    >>> loss = CandidateWeighted(CROLoss())
    >>> labels, scores, weights = [[1, 0, 0]], [[0.8, 0.5, 0.1]], [[0.0, 2.0, 1.0]]
    >>> round(float(loss(labels, scores, sample_weight=weights)), 4)  # ln(1 + 2 · φ(-.3) + φ(-.7))
    0.921
    >>> round(float(CROLoss()(labels, scores, candidate_weight=weights)), 4)
    0.921

    In Keras's `fit`, whose `sample_weight` is then that of the candidates:

    ```python
    from tfrs_croloss.losses import CandidateWeighted

    model.compile(optimizer="adam", loss=CandidateWeighted(CROLoss()))
    ```
    """

    def __init__(self, loss: RetrievalLoss, name: str | None = None) -> None:
        if isinstance(loss, dict):
            loss = keras.saving.deserialize_keras_object(loss)
        if not isinstance(loss, RetrievalLoss):
            raise ValueError(f"`loss` must be a RetrievalLoss, e.g. CROLoss(). Received: {loss!r}")
        super().__init__(name=name or loss.name, reduction=loss.reduction, dtype=loss.dtype)
        self.loss = loss

    def __call__(self, y_true: Array, y_pred: Array, sample_weight: Array | None = None) -> Array:
        """The loss, of labels, scores and weights `[num_queries, num_candidates]`."""
        if sample_weight is not None:
            # One a row would pass for one a column where there are as many.
            y_pred = as_numbers("y_pred", y_pred, rank=2)
            sample_weight = like_scores(
                "sample_weight", as_numbers("sample_weight", sample_weight), y_pred
            )
            check_shape("sample_weight", sample_weight, tuple(y_pred.shape))
        return self.loss(y_true, y_pred, candidate_weight=sample_weight)

    def call(self, y_true, y_pred):
        """The losses `[num_queries]`, without weights."""
        return self.loss.call(y_true, y_pred)

    def get_config(self):
        return {"loss": keras.saving.serialize_keras_object(self.loss), "name": self.name}
