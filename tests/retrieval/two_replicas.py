"""Run by `test_distribution`: virtual devices have to be made before TensorFlow starts.

One step of SGD under a MirroredStrategy on two virtual CPUs, against the naive loops.
"""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from tests.losses import naive
from tfrs_croloss import CROLoss, MultiMarginLoss

ROWS, DIM = 16, 4
RNG = np.random.default_rng(0)
USERS, ITEMS = (RNG.normal(size=[ROWS, DIM]).astype("float32") / 4 for _ in range(2))
CRO = {"kernel": "softplus", "alpha": 1.3, "temperature": 0.5, "lambda_kernel": "sigmoid"}
MML = {"margins": (-0.1, 0.1), "weights": (0.5, 1.0), "negative_weight": 3.0}
LOSSES = {
    "cro": (
        lambda **kwargs: CROLoss(**CRO, **kwargs),
        lambda s, p: naive.cro_loss(s, p, **CRO),
    ),
    "mml": (
        lambda **kwargs: MultiMarginLoss(**MML, **kwargs),
        lambda s, p: naive.multi_margin_loss(s, p, positive_weight=1.0, **MML),
    ),
}


class Model(tfrs.Model):
    def __init__(self, loss):
        super().__init__()
        self.user_model, self.item_model = (
            tf_keras.layers.Embedding(ROWS, DIM, embeddings_initializer=tf.constant_initializer(x))
            for x in (USERS, ITEMS)
        )
        self.task = tfrs.tasks.Retrieval(loss=loss)

    def compute_loss(self, rows, training=False):
        return self.task(self.user_model(rows), self.item_model(rows), compute_metrics=False)


def stepped(naive_loss, num_replicas, divisor):
    """The users after one step: each replica sees the negatives of its own rows alone."""
    users = USERS.astype("float64")
    for rows in np.split(np.arange(ROWS), num_replicas):
        scores = USERS[rows].astype("float64") @ ITEMS[rows].T
        for i, row in enumerate(rows):
            _, slopes = naive_loss(scores[i].tolist(), i)
            users[row] -= np.array(slopes) @ ITEMS[rows] / divisor
    return users


def main():
    cpus = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(
        cpus[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    assert strategy.num_replicas_in_sync == 2
    for make, naive_loss in LOSSES.values():
        # A sum is over the rows of all replicas, a mean is their mean.
        for reduction, divisor in (("sum", 1), ("sum_over_batch_size", ROWS)):
            with strategy.scope():
                model = Model(make(reduction=reduction))
                model.compile(optimizer=tf_keras.optimizers.SGD(1.0))
            data = tf.data.Dataset.range(ROWS).batch(ROWS)
            model.fit(data, epochs=1, verbose=0)
            np.testing.assert_allclose(
                model.user_model.embeddings, stepped(naive_loss, 2, divisor), rtol=1e-5, atol=1e-6
            )


if __name__ == "__main__":
    main()
