"""Run by `test_model`: virtual devices have to be made before TensorFlow starts.

Steps of SGD of a `RetrievalModel` with L2 losses under a MirroredStrategy on two virtual CPUs,
against the same on one.
"""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tfrs_croloss import CROLoss, SoftmaxLossAtK
from tfrs_croloss.retrieval import (
    InBatchNegatives,
    PopularityNegatives,
    Retrieval,
    RetrievalModel,
    Thresholds,
    UniformNegatives,
)

NUM_USERS, NUM_ITEMS, DIM = 10, 12, 4
RNG = np.random.default_rng(0)
# Split in 2 + 2, 3 + 2 and 1 + 0: the second is uneven, the last leaves a replica without any.
BATCHES = (4, 5, 1)
USERS, ITEMS = RNG.integers(NUM_USERS, size=10), RNG.integers(NUM_ITEMS, size=10)
COUNTS = np.arange(1, NUM_ITEMS + 1)
L2 = 0.3


class Tower(tf_keras.Model):
    def __init__(self, num_rows):
        super().__init__()
        self.embedding = tf_keras.layers.Embedding(
            num_rows,
            DIM,
            embeddings_initializer=tf.constant_initializer(
                np.random.default_rng(num_rows).normal(size=[num_rows, DIM])
            ),
            embeddings_regularizer=tf_keras.regularizers.L2(L2),
        )

    def call(self, rows, training=False):
        return self.embedding(rows["user"] if isinstance(rows, dict) else rows)


class WeightTask(Retrieval):
    """Its loss is the weights of a replica's own positives."""

    def call(
        self, queries, candidates, candidate_weight=None, candidate_ids=None, training=None, **_
    ):
        return tf.reduce_sum(candidate_weight[: tf.shape(queries)[0]])


def model_of(task, negatives, **options):
    model = RetrievalModel(
        Tower(NUM_USERS), Tower(NUM_ITEMS), NUM_ITEMS, task, negatives, **options
    )
    model.compile(optimizer=tf_keras.optimizers.SGD(0.05))
    return model


def retrieval_model():
    negatives = [UniformNegatives(NUM_ITEMS, 5), PopularityNegatives(COUNTS, 4)]
    return model_of(Retrieval(loss=CROLoss(), remove_accidental_hits=True), negatives)


def model_with_foreign_loss(negatives=None, **options):
    loss = tf_keras.losses.CategoricalCrossentropy(from_logits=True, reduction="sum")
    task = Retrieval(loss=loss, remove_accidental_hits=True)
    return model_of(task, negatives or UniformNegatives(NUM_ITEMS, 5), **options)


def check_foreign_loss_is_refused():
    """Where it would have to see the positives of other replicas, before anything is trained."""
    foreign = model_with_foreign_loss().task
    for make in (
        lambda: model_with_foreign_loss(InBatchNegatives()),
        lambda: model_with_foreign_loss(reverse_task=foreign),
    ):
        with pytest.raises(ValueError, match="`cross_replica=True` needs a RetrievalLoss: CROLoss"):
            make()
    foreign.cross_replica = False
    model_of(foreign, InBatchNegatives(), reverse_task=foreign)


def model_with_thresholds():
    """Each user with a threshold of its own, in units of the scores before the temperature."""
    task = Retrieval(loss=SoftmaxLossAtK(0.5), temperature=0.7, remove_accidental_hits=True)
    model = model_of(task, UniformNegatives(NUM_ITEMS, 5), thresholds=Thresholds(NUM_USERS, 3))
    model.refresh_thresholds({"user": np.arange(NUM_USERS)})
    return model


def model_with_reverse_task():
    tasks = [Retrieval(loss=CROLoss(), remove_accidental_hits=True) for _ in range(2)]
    negatives = UniformNegatives(NUM_ITEMS, 5)
    return model_of(tasks[0], negatives, reverse_task=tasks[1], reverse_weight=0.3)


def fitted(model):
    def batches():
        start = 0
        for size in BATCHES:
            rows = slice(start, start + size)
            yield {"query": {"user": USERS[rows]}, "item": ITEMS[rows]}
            start += size

    spec = tf.TensorSpec([None], tf.int64)
    data = tf.data.Dataset.from_generator(
        batches, output_signature={"query": {"user": spec}, "item": spec}
    )
    model.fit(data, epochs=1, verbose=0)
    return [model.query_tower.embedding.embeddings, model.candidate_tower.embedding.embeddings]


def main():
    cpus = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(
        cpus[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
    makers = (
        retrieval_model,
        model_with_thresholds,
        model_with_reverse_task,
        model_with_foreign_loss,
    )
    on_one = [make() for make in makers]
    tables = [fitted(model) for model in on_one]
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    assert strategy.num_replicas_in_sync == 2
    with strategy.scope():
        on_two = [make() for make in makers]
        check_foreign_loss_is_refused()
        # Out of a replica they are whole.
        np.testing.assert_allclose(sum(on_two[0].losses), sum(retrieval_model().losses), rtol=1e-6)
    for model, expected in zip(on_two, tables, strict=True):
        for actual, table in zip(fitted(model), expected, strict=True):
            np.testing.assert_allclose(actual, table, rtol=1e-5, atol=1e-6)
    for model in (on_one[1], on_two[1]):
        # Of the trained model: on every replica the third of a user's scores.
        model.refresh_thresholds({"user": np.arange(NUM_USERS)})
        users, items = (
            tower.embedding.embeddings.numpy()
            for tower in (model.query_tower, model.candidate_tower)
        )
        third = np.sort(users @ items.T, axis=1)[:, -3]
        for copy in strategy.experimental_local_results(model.thresholds.values):
            np.testing.assert_allclose(copy, third, rtol=1e-5, atol=1e-6)
    one, two = on_one[0], on_two[0]
    assert one.step.numpy() == two.step.numpy() == len(BATCHES)
    np.testing.assert_allclose(sum(two.losses), sum(one.losses), rtol=1e-5)

    # In-batch negatives are those of all replicas: 5 rows, so 4 others, on either of them.
    with strategy.scope():
        weighing = model_of(
            WeightTask(remove_accidental_hits=True), InBatchNegatives(COUNTS), weigh=True
        )

    def part(context):
        rows = slice(0, 3) if context.replica_id_in_sync_group == 0 else slice(3, 5)
        return {"query": {"user": USERS[rows]}, "item": ITEMS[rows]}

    parts = strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(part(context)["item"])
    )
    step = tf.function(
        lambda items: strategy.run(
            lambda x: weighing.compute_loss({"query": {"user": x % NUM_USERS}, "item": x}), (items,)
        )
    )
    sums = strategy.experimental_local_results(step(parts))
    for actual, rows in zip(sums, (ITEMS[:3], ITEMS[3:5]), strict=True):
        np.testing.assert_allclose(actual, (COUNTS.sum() / COUNTS[rows] / 4).sum(), rtol=1e-5)


if __name__ == "__main__":
    main()
