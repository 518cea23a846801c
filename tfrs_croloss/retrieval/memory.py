"""A memory of past candidates: negatives beyond the batch, at no cost of embedding them."""

from tfrs_croloss.retrieval.requirements import tf


class Memory(tf.Module):
    """A queue of candidates, the newest first.

    Every replica holds the same queue: it takes in what was gathered from all of them.

    Source: Wang et al., "Cross-Batch Memory for Embedding Learning", CVPR 2020, arXiv 1912.06798.

    Args:
        size: Candidates it holds.
    """

    def __init__(self, size):
        super().__init__(name="memory")
        self.size = size
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

    def state(self):
        """Its variables by name."""
        return {**self.columns, "filled": self.filled}

    def is_filled(self):
        """Which of its places hold a candidate yet, bool `[size]`."""
        return tf.range(self.size, dtype=tf.int64) < self.filled

    def read(self, columns):
        """The columns named, of the dtypes given; constants to the gradient.

        Args:
            columns: A dict of tensors, as the task's candidates.
        """
        return {
            name: tf.stop_gradient(tf.cast(self.columns[name].value(), x.dtype))
            for name, x in columns.items()
        }

    def push(self, columns):
        """Puts rows before those it holds, forgets the oldest, and gives the operation of that.

        Args:
            columns: A dict of tensors, as the task's candidates. A column that it lacks keeps its
                default: an id of 0, a weight and a probability of 1.
        """
        num_rows = tf.shape(columns["embedding"])[0]
        assigned = []
        for name, variable in self.columns.items():
            default = tf.zeros if name == "id" else tf.ones
            rows = columns.get(name)
            if rows is None:
                rows = default(tf.concat([[num_rows], variable.shape[1:]], 0), variable.dtype)
            rows = tf.cast(tf.stop_gradient(rows), variable.dtype)
            assigned.append(variable.assign(tf.concat([rows, variable], axis=0)[: self.size]))
        filled = tf.minimum(self.filled + tf.cast(num_rows, tf.int64), self.size)
        return tf.group(*assigned, self.filled.assign(filled))
