"""Round trips: config, copies, pickles, and inside saved models."""

import copy
import pickle

import keras
import numpy as np
import pytest

from tests.losses.losses import make_each_loss
from tests.losses.scores import NUM_CANDIDATES, ONE_HOT, SCORES
from tfrs_croloss import CROLoss
from tfrs_croloss.losses import Hinge, LogNormal


@keras.saving.register_keras_serializable(package="tests")
def cubic(x):
    return keras.ops.relu(x + 1) ** 3


def by_keras(loss):
    return keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))


def by_config(loss):
    return type(loss).from_config(loss.get_config())


def by_pickle(loss):
    return pickle.loads(pickle.dumps(loss))


WAYS = pytest.mark.parametrize("way", [by_keras, by_config, by_pickle, copy.deepcopy])


@WAYS
@make_each_loss
def test_round_trip(make, way):
    loss = make(reduction="sum_over_batch_size", max_positives=3, dtype="float32", name="mine")
    again = way(loss)
    assert type(again) is type(loss)
    assert again.get_config() == loss.get_config()
    assert (again.reduction, again.max_positives, again.name) == ("sum_over_batch_size", 3, "mine")
    assert float(again(ONE_HOT, SCORES)) == float(loss(ONE_HOT, SCORES))


@WAYS
@pytest.mark.parametrize(
    "options",
    [
        {"kernel": cubic, "lambda_kernel": Hinge(2.0)},
        {"rank_weight": LogNormal(20, 0.7), "num_items": 500},
        {"rank_weight": "gamma", "lambda_kernel": "step", "rank_estimate": "scaled"},
        {"kernel": "multi_hinge", "alpha": 1.3, "temperature": 0.2},
    ],
    ids=["function", "log_normal", "gamma", "multi_hinge"],
)
def test_round_trip_of_parts(options, way):
    loss = CROLoss(**options)
    again = way(loss)
    assert again.get_config() == loss.get_config()
    assert float(again(ONE_HOT, SCORES)) == float(loss(ONE_HOT, SCORES))


def test_float64_stays_float64():
    assert by_keras(CROLoss(dtype="float64")).dtype == "float64"


def test_a_function_nobody_registered_works_but_says_that_it_cannot_be_saved():
    loss = CROLoss(kernel=lambda x: keras.ops.relu(x + 1) ** 3)
    assert float(loss(ONE_HOT, SCORES)) == float(CROLoss(kernel=cubic)(ONE_HOT, SCORES))
    with pytest.raises(ValueError, match="cannot be saved.*register_keras_serializable"):
        loss.get_config()


@make_each_loss
def test_inside_a_saved_model_of_keras(make, tmp_path):
    check_saved_model(keras, make(), tmp_path)


@make_each_loss
def test_inside_a_saved_model_of_tf_keras(make, tmp_path):
    tf_keras = pytest.importorskip("tf_keras", reason="TensorFlow's environment has it")
    # Found by its registration, not by the module it happens to stand in.
    assert tf_keras.saving.get_registered_object(f"tfrs_croloss>{type(make()).__name__}")
    check_saved_model(tf_keras, make(), tmp_path)


@make_each_loss
def test_tf_keras_weighs_rows_where_nothing_is_reduced(make):
    tf_keras = pytest.importorskip("tf_keras", reason="TensorFlow's environment has it")
    weight = np.arange(len(SCORES), dtype="float32")
    model = tf_keras.Sequential([tf_keras.layers.Activation("linear")])
    model.compile(loss=make(reduction=None))
    found = model.evaluate(SCORES, ONE_HOT, sample_weight=weight, verbose=0)
    expected = float(make()(ONE_HOT, SCORES, sample_weight=weight)) / len(SCORES)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def check_saved_model(library, loss, tmp_path):
    model = library.Sequential([library.layers.Dense(NUM_CANDIDATES, activation="tanh")])
    model.compile(optimizer="sgd", loss=loss)
    model.fit(SCORES, ONE_HOT, verbose=0)
    model.save(tmp_path / "model.keras")
    again = library.models.load_model(tmp_path / "model.keras")
    assert type(again.loss) is type(loss)
    assert again.loss.get_config() == loss.get_config()
    np.testing.assert_allclose(
        again.evaluate(SCORES, ONE_HOT, verbose=0), model.evaluate(SCORES, ONE_HOT, verbose=0)
    )
