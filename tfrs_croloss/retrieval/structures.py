"""What is known of the rows and the candidates of a step, as structures of tensors."""

from typing import Any, NamedTuple

from tfrs_croloss.losses.structures import flattened
from tfrs_croloss.retrieval.requirements import tf

# As in TFRS's log-Q correction.
LEAST_PROBABILITY = 1e-6


class StepRows(NamedTuple):
    """What is known of each row: tensors `[num_queries, ...]`, None where nothing is.

    Attributes:
        queries: Embeddings, `[num_queries, dim]` or `[num_queries, num_heads, dim]`.
        weight: A factor of its loss, `[num_queries]`.
        known_ids: Ids that are not negatives of the row, `[num_queries, num_known]` or ragged.
        mask: Bool `[num_candidates]` or `[num_queries, num_candidates]`.
        inputs: The row inputs of the loss by name.
        weights: Weights of the candidates by name that differ from row to row: tensors
            `[num_queries, num_candidates]`, and functions that give these for a block of rows.
        features: For such functions, by name.
        own: The `Candidates` that each row has of its own.
    """

    queries: Any
    weight: Any
    known_ids: Any
    mask: Any
    inputs: dict[str, Any]
    weights: dict[str, Any]
    features: dict[str, Any] | None
    own: Any


class StepCandidates(NamedTuple):
    """What is known of each candidate: tensors `[num_candidates, ...]`, None where nothing is.

    Attributes:
        embeddings: `[num_candidates, dim]`.
        ids: int64; None if no one looks at them.
        weights: Weights of the candidates by name, for all rows the same.
        probability: Sampling probabilities, for the log-Q correction.
        features: By name, for weights that are functions.
    """

    embeddings: Any
    ids: Any
    weights: dict[str, Any]
    probability: Any
    features: dict[str, Any]

    def shifted(self):
        """The embeddings, one dimension more where there are sampling probabilities."""
        if self.probability is None:
            return self.embeddings
        shift = -tf.math.log(tf.clip_by_value(self.probability, LEAST_PROBABILITY, 1.0))
        return tf.concat([self.embeddings, shift[:, tf.newaxis]], axis=1)


def mapped(function, *structures):
    """The structure of what a function makes of each tensor of structures that are alike."""
    tensors, puts = zip(*map(flattened, structures), strict=True)
    return puts[0]([function(*alike) for alike in zip(*tensors, strict=True)])
