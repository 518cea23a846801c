"""What TFRS's own tests ask of its task and its model, asked of ours.

The cases are those of `tasks/retrieval_test.py` and `models/base_test.py`: scores small enough to
work out the softmax by hand, a catalogue of zeros below which no positive falls, every combination
of the switches for metrics, a graph of TensorFlow 1, and `fit` and `evaluate` of whole models.
"""

import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from tfrs_croloss.retrieval import Retrieval

TOP = "factorized_top_k/top_5_categorical_accuracy"
# Queries, candidates, and the scores that they make.
PAIRS = (
    [[1.0, 2, 3], [2, 3, 4]],
    [[1.0, 1, 1], [1, 1, 0]],
    [[6.0, 3], [9, 5]],
)
EXTRA = (
    [[3.0, 2, 1], [2, 3, 4]],
    [[0.0, 1, 0], [0, 1, 1], [1, 1, 0]],
    [[2.0, 3, 5], [3, 7, 5]],
)
HEADS = (
    [[[3.0, 2, 1], [1, 2, 3]], [[2, 3, 4], [4, 3, 2]]],
    [[0.0, 1, 0], [0, 1, 1], [1, 1, 0]],
    [[2.0, 5, 5], [3, 7, 7]],  # the better of the two heads
)
CASES = {"pairs": PAIRS, "extra candidates": EXTRA, "heads": HEADS}


def softmax(scores, weights=(1, 1)):
    """Σ over rows of weight · (ln Σ exp(scores) - score of the positive)."""
    return sum(
        weight * (math.log(sum(map(math.exp, row))) - row[i])
        for i, (row, weight) in enumerate(zip(scores, weights, strict=True))
    )


def task_with_metrics():
    zeros = tf.data.Dataset.from_tensor_slices(np.zeros([20, 3], "float32"))
    return Retrieval(
        metrics=tfrs.metrics.FactorizedTopK(zeros.batch(16), ks=[5]),
        batch_metrics=[tf_keras.metrics.TopKCategoricalAccuracy(k=1, name="in_batch")],
        loss_metrics=[tf_keras.metrics.Mean(name="loss")],
    )


def results(task):
    return {metric.name: float(metric.result()) for metric in task.metrics}


@pytest.mark.parametrize("in_a_graph", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_losses_and_metrics(name, in_a_graph):
    queries, candidates, scores = CASES[name]
    task = task_with_metrics()
    has_top = name != "heads"
    for of_catalogue, of_batch in ((True, True), (False, True), (True, False)):
        for metric in task.metrics:
            metric.reset_states()

        def call(of_catalogue=of_catalogue, of_batch=of_batch):
            return task(
                tf.constant(queries),
                tf.constant(candidates),
                compute_metrics=of_catalogue,
                compute_batch_metrics=of_batch,
            )

        loss = (tf.function(call) if in_a_graph else call)()
        np.testing.assert_allclose(loss, softmax(scores), rtol=1e-5)
        # One of the two rows has its positive on top.
        expected = {
            TOP: float(of_catalogue and has_top),
            "in_batch": 0.5 * of_batch,
            "loss": float(loss),
        }
        assert results(task) == pytest.approx(expected, rel=1e-5)


def test_row_weights():
    queries, candidates, scores = PAIRS
    task, weights = task_with_metrics(), [0.7, 0.3]
    loss = task(tf.constant(queries), tf.constant(candidates), sample_weight=tf.constant(weights))
    np.testing.assert_allclose(loss, softmax(scores, weights), rtol=1e-5)
    expected = {TOP: 1.0, "in_batch": 0.7, "loss": softmax(scores, weights)}
    assert results(task) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_a_graph_of_tensorflow_1(name):
    queries, candidates, scores = CASES[name]
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        task = task_with_metrics()
        given = tf.constant(queries)
        loss = task(query_embeddings=given, candidate_embeddings=tf.constant(candidates))
        (slope,) = tf.gradients(loss, given)
        for x in (task, *task.metrics):
            session.run([variable.initializer for variable in x.variables])
        value, slope = session.run((loss, slope))
        found = {metric.name: session.run(metric.result()) for metric in task.metrics}
    np.testing.assert_allclose(value, softmax(scores), rtol=1e-5)
    expected = {TOP: float(name != "heads"), "in_batch": 0.5, "loss": float(value)}
    assert found == pytest.approx(expected, rel=1e-5)
    given = tf.constant(queries)
    with tf.GradientTape() as tape:
        tape.watch(given)
        value = tfrs.tasks.Retrieval()(given, tf.constant(candidates))
    np.testing.assert_allclose(slope, tape.gradient(value, given), rtol=1e-4, atol=1e-6)


def test_a_memory_in_a_graph_of_tensorflow_1():
    """The second batch, of one row, has the two positives of the first beside its own."""
    queries, candidates, _ = PAIRS
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        task = Retrieval(memory_size=4)
        given = [tf.compat.v1.placeholder(tf.float32, [None, 3]) for _ in range(2)]
        loss = task(*given, training=True)
        session.run(tf.compat.v1.global_variables_initializer())
        losses = [
            session.run(loss, dict(zip(given, (queries[rows], candidates[rows]), strict=True)))
            for rows in (slice(2), slice(1))
        ]
    np.testing.assert_allclose(losses, [softmax(PAIRS[2]), softmax([[6, 6, 3]], [1])], rtol=1e-5)


RNG = np.random.default_rng(0)
ROWS, OTHERS = (RNG.normal(size=[10, 3]).astype("float32") for _ in range(2))
CLICKS = RNG.integers(2, size=10)


def fitted(model, *rows):
    data = tf.data.Dataset.from_tensor_slices(rows).batch(2)
    model.compile()
    model.fit(data, verbose=0)
    return model.evaluate(data, return_dict=True, verbose=0)


class TwoTowers(tfrs.Model):
    def __init__(self):
        super().__init__()
        self.query, self.candidate = tf_keras.layers.Dense(16), tf_keras.layers.Dense(16)
        catalogue = tf.data.Dataset.from_tensor_slices(OTHERS).batch(10).map(self.candidate)
        self.task = Retrieval(metrics=tfrs.metrics.FactorizedTopK(catalogue, ks=[5]))

    def compute_loss(self, rows, training=False):
        return self.task(
            query_embeddings=self.query(rows[0]), candidate_embeddings=self.candidate(rows[1])
        )


def test_a_model_of_towers():
    measured = fitted(TwoTowers(), ROWS, OTHERS)
    assert measured["loss"] > 0
    assert measured["total_loss"] == measured["loss"]
    assert 0 < measured[TOP] < 1


class TwoTasks(TwoTowers):
    def __init__(self):
        super().__init__()
        self.click = tf_keras.layers.Dense(1, activation="sigmoid")
        self.of_clicks = tfrs.tasks.Ranking(metrics=[tf_keras.metrics.AUC(name="auc")])

    def compute_loss(self, rows, training=False):
        clicks = self.click(tf.concat(rows[:2], axis=1))
        return super().compute_loss(rows) + self.of_clicks(predictions=clicks, labels=rows[2])


def test_beside_a_ranking_task():
    measured = fitted(TwoTasks(), ROWS, OTHERS, CLICKS)
    assert measured["loss"] > 0
    assert 0 < measured[TOP] < 1
    assert 0 <= measured["auc"] <= 1


class Penalty(tf_keras.layers.Layer):
    def call(self, x):
        self.add_loss(1000.0)
        return x


class WithPenalty(TwoTowers):
    def __init__(self):
        super().__init__()
        self.penalty = Penalty()

    def compute_loss(self, rows, training=False):
        return super().compute_loss([self.penalty(rows[0]), rows[1]])


def test_regularization_losses():
    measured = fitted(WithPenalty(), ROWS, OTHERS)
    assert measured["regularization_loss"] == 1000
    assert measured["total_loss"] == pytest.approx(measured["loss"] + 1000)
