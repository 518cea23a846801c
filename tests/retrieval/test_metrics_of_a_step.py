"""The metrics of a training step: of the weights before it, in a graph as in an eager call."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from tfrs_croloss import CROLoss
from tfrs_croloss.retrieval import Retrieval

# Large enough for an update of the weights to be over before a search of the items.
NUM_USERS, NUM_ITEMS, ROWS, DIM = 300, 1500, 2048, 32
RNG = np.random.default_rng(0)
DATA = {"user": RNG.integers(NUM_USERS, size=ROWS), "item": RNG.integers(NUM_ITEMS, size=ROWS)}
FOREIGN = tf_keras.losses.CategoricalCrossentropy(from_logits=True, reduction="sum")


class SilentTop(tfrs.metrics.FactorizedTopK):
    """Gives nothing back that one could wait for."""

    def update_state(self, *args, **kwargs):
        super().update_state(*args, **kwargs)


class OfTheBatch(tf_keras.metrics.Mean):
    """The sum of a tower's answers for all items, through a dataset."""

    def __init__(self, items, is_silent):
        super().__init__(name="batch")
        self.items, self.is_silent = items, is_silent

    def update_state(self, labels, scores, sample_weight=None):
        zero = tf.zeros([DIM])
        total = self.items.reduce(zero, lambda x, y: x + tf.reduce_sum(tf.abs(y), axis=0))
        update = super().update_state(total)
        return None if self.is_silent else update


class Model(tfrs.Model):
    def __init__(self, loss, is_silent):
        super().__init__()
        self.user, self.item = (
            tf_keras.layers.Embedding(n, DIM, tf_keras.initializers.RandomNormal(seed=n))
            for n in (NUM_USERS, NUM_ITEMS)
        )
        items = tf.data.Dataset.range(NUM_ITEMS).batch(128).map(self.item)
        top = SilentTop if is_silent else tfrs.metrics.FactorizedTopK
        self.task = Retrieval(
            loss=loss,
            metrics=top(items, ks=[100]),
            batch_metrics=OfTheBatch(items, is_silent) if loss is not FOREIGN else None,
            loss_metrics=tf_keras.metrics.Mean(name="mean"),
        )

    def compute_loss(self, rows, training=False):
        return self.task(self.user(rows["user"]), self.item(rows["item"]))


def measured(run_eagerly, loss=None, is_silent=False, **options):
    model = Model(loss, is_silent)
    # The learning rate moves every weight by .5 at once.
    model.compile(tf_keras.optimizers.Adagrad(0.5), run_eagerly=run_eagerly, **options)
    steps = options.get("steps_per_execution", 1)
    data = tf.data.Dataset.from_tensors(DATA).repeat(steps)
    history = model.fit(data, epochs=3, verbose=0).history
    return np.array([history[name] for name in sorted(history) if "regular" not in name])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"loss": CROLoss()},
        {"loss": FOREIGN},
        {"is_silent": True},
        {"steps_per_execution": 2},
    ],
    ids=["softmax", "CROLoss", "another loss", "silent metrics", "several steps at once"],
)
def test_a_graph_measures_what_an_eager_call_does(options):
    expected = measured(True, **options)
    # They move from step to step: what is read after the update is another number.
    assert (np.abs(np.diff(expected, axis=1)) > 0.015 * np.abs(expected[:, 1:])).all()
    # To the order of items that are equal to rounding; another step is further off.
    np.testing.assert_allclose(measured(False, **options), expected, rtol=0.01)


def test_nothing_waits_where_nothing_is_measured():
    def operations(**options):
        task = Retrieval(
            metrics=tfrs.metrics.FactorizedTopK(tf.data.Dataset.from_tensors(tf.eye(3)), ks=[1]),
            batch_metrics=tf_keras.metrics.CategoricalAccuracy(),
        )
        if not options:
            task = Retrieval()
        graph = tf.function(lambda x: task(x, x, **options)).get_concrete_function(tf.eye(3)).graph
        return [operation.type for operation in graph.get_operations()]

    none = operations(compute_metrics=False, compute_batch_metrics=False)
    assert sorted(none) == sorted(operations())
