"""Adam in one pass over an embedding table."""

from tfrs_croloss._registration import register
from tfrs_croloss.retrieval.requirements import tf, tf_keras


@register
class FusedAdam(tf_keras.optimizers.Adam):
    """Keras's Adam, a table updated by one kernel of TensorFlow instead of a pass a term.

    A step reads some rows of a table, but Adam moves all of them by their momentum:

    ```
    m ← β₁·m + (1 − β₁)·g      v ← β₂·v + (1 − β₂)·g²
    w ← w − lr · √(1 − β₂ᵗ) / (1 − β₁ᵗ) · m / (√v + ε)
    ```

    Keras writes that as a pass over the table for each term, and in a two-tower model of many
    users and items these take longer than the loss. This is the same update (Kingma and Ba,
    arXiv 1412.6980, end of section 2), to rounding, with the gradient of the rows summed to one of
    the table. State and checkpoints are those of `tf_keras.optimizers.Adam`, and so are the
    arguments; with `amsgrad` or `adaptive_epsilon`, which the kernel has not, it is Keras's update.

    Example:
    >>> import tensorflow as tf
    >>> from tfrs_croloss.retrieval import FusedAdam
    >>> table = tf.Variable(tf.ones([3, 2]))
    >>> rows = tf.IndexedSlices(tf.ones([1, 2]), tf.constant([1]), tf.constant([3, 2]))
    >>> FusedAdam(0.1).apply_gradients([(rows, table)])
    <tf.Variable 'UnreadVariable' shape=() dtype=int64, numpy=1>
    >>> table.numpy()[:, 0].round(3)
    array([1. , 0.9, 1. ], dtype=float32)
    """

    def update_step(self, gradient, variable):
        if self.amsgrad or self.adaptive_epsilon:
            super().update_step(gradient, variable)
            return
        step = tf.cast(self.iterations + 1, variable.dtype)
        number = self._index_dict[self._var_key(variable)]
        beta_1, beta_2 = (tf.cast(beta, variable.dtype) for beta in (self.beta_1, self.beta_2))
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[number].handle,
            v=self._velocities[number].handle,
            beta1_power=tf.pow(beta_1, step),
            beta2_power=tf.pow(beta_2, step),
            lr=tf.cast(self.learning_rate, variable.dtype),
            beta1=beta_1,
            beta2=beta_2,
            epsilon=tf.cast(self.epsilon, variable.dtype),
            grad=tf.convert_to_tensor(gradient),
        )
