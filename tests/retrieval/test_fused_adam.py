"""The fused update against Adam's formula, and against Keras's Adam in all that it inherits."""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tfrs_croloss.retrieval import FusedAdam

NUM_ROWS, DIM, STEPS = 7, 3, 5


def gradients(is_sparse, seed=0):
    """A gradient a step: rows with repetitions, or a whole table."""
    rng = np.random.default_rng(seed)
    for _ in range(STEPS):
        if is_sparse:
            rows = rng.integers(NUM_ROWS, size=4)
            values = rng.normal(size=[4, DIM])
            yield tf.IndexedSlices(
                tf.constant(values, tf.float32), tf.constant(rows), tf.constant([NUM_ROWS, DIM])
            )
        else:
            yield tf.constant(rng.normal(size=[NUM_ROWS, DIM]), tf.float32)


def naive(w, learning_rate, beta_1=0.9, beta_2=0.999, epsilon=1e-7, is_sparse=True):
    """Kingma and Ba's update in float64, element by element."""
    w = w.astype(np.float64)
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, gradient in enumerate(gradients(is_sparse), start=1):
        g = np.zeros_like(w)
        if is_sparse:
            for row, value in zip(gradient.indices.numpy(), gradient.values.numpy(), strict=True):
                g[row] += value
        else:
            g += gradient.numpy()
        for place in np.ndindex(w.shape):
            m[place] = beta_1 * m[place] + (1 - beta_1) * g[place]
            v[place] = beta_2 * v[place] + (1 - beta_2) * g[place] ** 2
            rate = learning_rate * np.sqrt(1 - beta_2**t) / (1 - beta_1**t)
            w[place] -= rate * m[place] / (np.sqrt(v[place]) + epsilon)
    return w


def start():
    return np.random.default_rng(1).normal(size=[NUM_ROWS, DIM]).astype(np.float32)


def trained(optimizer, is_sparse=True):
    table = tf.Variable(start())
    optimizer.build([table])
    step = tf.function(lambda gradient: optimizer.apply_gradients([(gradient, table)]))
    for gradient in gradients(is_sparse):
        step(gradient)
    return table.numpy()


@pytest.mark.parametrize("is_sparse", [True, False])
def test_is_the_formula(is_sparse):
    options = {"beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-3}
    found = trained(FusedAdam(0.1, **options), is_sparse)
    np.testing.assert_allclose(
        found, naive(start(), 0.1, **options, is_sparse=is_sparse), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weight_decay": 0.1},
        {"clipnorm": 0.5},
        {"use_ema": True, "ema_overwrite_frequency": 2},
        {"amsgrad": True},
        {"adaptive_epsilon": True, "epsilon": 0.1},
        {"jit_compile": True},
        {"learning_rate": tf_keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)},
    ],
    ids=lambda options: "-".join(options) or "plain",
)
def test_is_keras_adam(options):
    options = {"learning_rate": 0.1, **options}
    np.testing.assert_allclose(
        trained(FusedAdam(**options)),
        trained(tf_keras.optimizers.Adam(**options)),
        rtol=1e-5,
        atol=1e-6,
    )


def test_a_checkpoint_of_keras_adam_goes_on(tmp_path):
    table, other = tf.Variable(start()), tf.Variable(start())
    keras_adam, fused = tf_keras.optimizers.Adam(0.1), FusedAdam(0.1)
    for optimizer, variable in ((keras_adam, table), (fused, other)):
        optimizer.build([variable])
    first, *others = gradients(True)
    keras_adam.apply_gradients([(first, table)])
    path = tf.train.Checkpoint(table=table, optimizer=keras_adam).save(tmp_path / "adam")
    tf.train.Checkpoint(table=other, optimizer=fused).restore(path).assert_consumed()
    for gradient in others:
        keras_adam.apply_gradients([(gradient, table)])
        fused.apply_gradients([(gradient, other)])
    np.testing.assert_allclose(other, table, rtol=1e-5, atol=1e-6)


def test_a_saved_config_finds_it():
    config = tf_keras.optimizers.serialize(FusedAdam(0.1, beta_1=0.8))
    found = tf_keras.optimizers.deserialize(config)
    assert type(found) is FusedAdam
    assert found.beta_1 == 0.8
