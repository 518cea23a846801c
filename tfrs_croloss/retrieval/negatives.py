"""Negatives beyond the batch."""

from tfrs_croloss.retrieval.requirements import tf


class UniformNegatives:
    """Items drawn uniformly with replacement, shared by all queries of a batch.

    A step's draw depends on `seed` and the step alone, so a resumed run draws what an unbroken one
    draws.

    Args:
        num_items: Size of the catalogue.
        num_negatives: Items a step.
        seed: Of the draws.

    Raises:
        ValueError: If a number is not positive.

    Example:
    >>> from tfrs_croloss.retrieval import UniformNegatives
    >>> UniformNegatives(num_items=9066, num_negatives=4)(step=0).shape
    TensorShape([4])
    """

    def __init__(self, num_items, num_negatives, seed=0):
        for argument, value in (("num_items", num_items), ("num_negatives", num_negatives)):
            if value < 1:
                raise ValueError(f"`{argument}` must be positive. Received: {value}")
        self.num_items = num_items
        self.num_negatives = num_negatives
        self.seed = seed

    def __call__(self, step):
        """Positions of items, int32 `[num_negatives]`."""
        seed = tf.stack([tf.cast(self.seed, tf.int64), tf.cast(step, tf.int64)])
        return tf.random.stateless_uniform(
            [self.num_negatives], seed, maxval=self.num_items, dtype=tf.int32
        )
