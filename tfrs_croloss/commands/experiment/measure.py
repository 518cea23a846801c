"""How a model is measured: on whom, and what is left out of a list since the user has seen it."""

import numpy as np
from scipy import sparse

from tfrs_croloss.evaluation import evaluate
from tfrs_croloss.index import ExactIndex


class Measure:
    """Measures models of a config by an exact search: every item is scored.

    Args:
        config: A `Config`.
        data: Its `RetrievalData`.
    """

    def __init__(self, config, data):
        self.config, self.data = config, data

    def validation(self, model):
        """The `Evaluation` of a model on the validation set."""
        return self._evaluate(model, self.data.validation, self._seen_in_training())

    def test(self, model, top_n=None, segments=None):
        """The `Evaluation` of a model on the test set, of segments too.

        Args:
            model: The `RetrievalModel`.
            top_n: List lengths N; those of the config by default.
            segments: What `training_segments` gives, or None.
        """
        return self._evaluate(model, self.data.test, self.seen(), top_n, segments)

    def seen(self):
        """Items that a user is never shown, in the test as in the export."""
        config, seen = self.config, self._seen_in_training()
        masks_validation = config.mask_seen and config.mask_validation
        return seen + self.data.validation.matrix if masks_validation else seen

    def queries(self):
        """What the query tower is asked with, for each user."""
        return self.data.queries(self.config.history_length_of_tower)

    def _seen_in_training(self):
        known = self.data.known
        return known if self.config.mask_seen else sparse.csr_array(known.shape, dtype=np.int64)

    def _evaluate(self, model, targets, seen, top_n=None, segments=None):
        return evaluate(
            ExactIndex(model.candidate_embeddings()),
            model.query_embeddings(self.queries()),
            targets,
            exclude=seen,
            top_n=top_n or self.config.top_n,
            segments=segments,
        )
