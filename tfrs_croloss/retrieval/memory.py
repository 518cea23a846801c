"""A memory of past candidates: negatives beyond the batch, at no cost of embedding them."""

from tfrs_croloss.losses.channels import CANDIDATE_WEIGHT
from tfrs_croloss.retrieval.requirements import tf
from tfrs_croloss.retrieval.structures import StepCandidates


class Memory(tf.Module):
    """A queue of candidates, the newest first.

    Every replica holds the same queue: it takes in what was gathered from all of them.

    Source: Wang et al., "Cross-Batch Memory for Embedding Learning", CVPR 2020, arXiv 1912.06798.

    Args:
        size: Candidates it holds.
        features: Which features of them it holds: a `tf.TensorSpec` of one candidate's by name.
    """

    def __init__(self, size, features):
        super().__init__(name="memory")
        self.size = size
        self.feature_specs = features
        # Not an empty dict, for a checkpoint that is restored before they are made would take it.
        self.columns = None

    def build(self, dim):
        """Makes its variables, for embeddings of this width."""

        def variable(value, name):
            return tf.Variable(
                value,
                trainable=False,
                name=name,
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            )

        self.filled = variable(tf.zeros([], tf.int64), "filled")
        self.columns = {
            "embedding": variable(tf.zeros([self.size, dim]), "embedding"),
            "id": variable(tf.zeros([self.size], tf.int64), "id"),
            "weight": variable(tf.ones([self.size]), "weight"),
            "probability": variable(tf.ones([self.size]), "probability"),
        }
        for name, spec in self.feature_specs.items():
            name = _of_feature(name)
            self.columns[name] = variable(tf.zeros([self.size, *spec.shape], spec.dtype), name)

    def state(self):
        """Its variables by name."""
        return {**self.columns, "filled": self.filled}

    def is_filled(self):
        """Which of its places hold a candidate yet, bool `[size]`."""
        return tf.range(self.size, dtype=tf.int64) < self.filled

    def check_features(self, features):
        """Raises a `ValueError` unless it holds such features, by name, and no others."""
        for name, spec in self.feature_specs.items():
            if name not in features:
                raise ValueError(
                    f"`candidate_features[{name!r}]` must be given to a task whose memory holds "
                    f"it. Received: {', '.join(sorted(features)) or 'none'}"
                )
            x, shape = features[name], ("num_candidates", *spec.shape)
            if x.dtype != spec.dtype or not x.shape[1:].is_compatible_with(spec.shape):
                raise ValueError(
                    f"`candidate_features[{name!r}]` must be {spec.dtype.name} of shape "
                    f"[{', '.join(map(str, shape))}], as in `memory_features`. Received: "
                    f"{x.dtype.name} of shape {tuple(x.shape)}"
                )
        for name in sorted(set(features) - set(self.feature_specs)):
            dtype, shape = features[name].dtype, features[name].shape[1:]
            raise ValueError(
                f"`candidate_features[{name!r}]` must be held by the memory: Retrieval("
                f"memory_features={{{name!r}: tf.TensorSpec({shape.as_list()}, {dtype!r})}}). "
                "Received: no such name in `memory_features`"
            )

    def read(self, candidates):
        """What it holds, as `StepCandidates` like those given; constants to the gradient."""

        def held(name, like):
            if like is None:
                return None
            return tf.stop_gradient(tf.cast(self.columns[name].value(), like.dtype))

        return StepCandidates(
            embeddings=held("embedding", candidates.embeddings),
            ids=held("id", candidates.ids),
            weights={name: held("weight", x) for name, x in candidates.weights.items()},
            probability=held("probability", candidates.probability),
            features={name: held(_of_feature(name), x) for name, x in candidates.features.items()},
        )

    def push(self, candidates):
        """Puts candidates before those it holds, and forgets the oldest.

        What is not known of the new ones keeps its default: an id of 0, a weight and a probability
        of 1.

        Args:
            candidates: `StepCandidates`.

        Returns:
            The operation.
        """
        num_rows = tf.shape(candidates.embeddings)[0]
        new = {
            "embedding": candidates.embeddings,
            "id": candidates.ids,
            "weight": candidates.weights.get(CANDIDATE_WEIGHT),
            "probability": candidates.probability,
            **{_of_feature(name): x for name, x in candidates.features.items()},
        }
        assigned = []
        for name, variable in self.columns.items():
            rows = new[name]
            if rows is None:
                default = tf.zeros if name == "id" else tf.ones
                rows = default([num_rows], variable.dtype)
            rows = tf.cast(tf.stop_gradient(rows), variable.dtype)
            assigned.append(variable.assign(tf.concat([rows, variable], axis=0)[: self.size]))
        filled = tf.minimum(self.filled + tf.cast(num_rows, tf.int64), self.size)
        return tf.group(*assigned, self.filled.assign(filled))


def _of_feature(name):
    return f"feature_{name}"
