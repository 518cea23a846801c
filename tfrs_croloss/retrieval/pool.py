"""The candidates of a step, from wherever they come."""

from tfrs_croloss.retrieval.replicas import gathered
from tfrs_croloss.retrieval.requirements import tf
from tfrs_croloss.retrieval.structures import mapped


class Pool:
    """What queries are compared with: positives of all rows, extra candidates, the memory.

    Args:
        candidates: The `StepCandidates` of this replica, the positives of its queries first.
        num_queries: Queries of this replica.
        in_batch: Whether positives are candidates of other rows.
        cross_replica: Whether those of other replicas are, too.
        memory: A `Memory`, or None.

    Attributes:
        candidates: `StepCandidates` of all sources.
        positives: Those of this replica's queries.
        everyone: The positives of all replicas.
        positive_index: The candidate that is the positive of each query; None unless `in_batch`.
        present: Which candidates there are, bool `[num_candidates]`; None if all.
    """

    def __init__(self, candidates, num_queries, in_batch, cross_replica, memory):
        self.num_queries = num_queries
        self.positives = mapped(lambda x: x[:num_queries], candidates)
        extras = mapped(lambda x: x[num_queries:], candidates)
        # What no one looks at is not sent.
        is_gathered = cross_replica and (in_batch or memory is not None)
        self.everyone, self.offset = (
            gathered(self.positives) if is_gathered else (self.positives, 0)
        )
        self.in_batch = in_batch
        self.memory_size = 0 if memory is None else memory.size

        sources = [self.everyone] if in_batch else []
        sources.append(extras)
        if memory is not None:
            sources.append(memory.read(candidates))
        self.candidates = mapped(lambda *parts: tf.concat(parts, axis=0), *sources)
        self.positive_index = self.offset + tf.range(num_queries) if in_batch else None
        self.present = None
        if memory is not None:
            before = tf.shape(self.candidates.embeddings)[0] - memory.size
            self.present = tf.concat([tf.ones([before], tf.bool), memory.is_filled()], axis=0)

    def weights(self, weights):
        """Weights of row x candidate by name, those of positives that are no candidates cut off."""
        if self.in_batch:
            return weights
        return {
            name: weight if callable(weight) else weight[:, self.num_queries :]
            for name, weight in weights.items()
        }

    def mask(self, mask):
        """A mask `[..., num_candidates]` of this replica's candidates, widened to all."""
        if mask is None:
            return self.present
        own, extras = mask[..., : self.num_queries], mask[..., self.num_queries :]
        parts = []
        if self.in_batch:
            after = tf.shape(self.everyone.embeddings)[0] - self.offset - self.num_queries
            parts += [_all(mask, self.offset), own, _all(mask, after)]
        mask = tf.concat([*parts, extras, _all(mask, self.memory_size)], axis=-1)
        return mask if self.present is None else mask & self.present


def _all(mask, width):
    return tf.ones(tf.concat([tf.shape(mask)[:-1], [width]], axis=0), tf.bool)
