"""What the base class owes to every loss."""

import keras
import numpy as np
import pytest

from tests.losses.gradients import value_and_gradient
from tests.losses.scores import NUM_CANDIDATES, NUM_QUERIES, ONE_HOT, SCORES
from tfrs_croloss import CosineContrastiveLoss, CROLoss, MultiMarginLoss

LOSSES = [
    CROLoss(alpha=1.2, temperature=0.2, num_items=1000),
    CROLoss("exponential", lambda_kernel="sigmoid"),
    MultiMarginLoss(margins=(0.0, 0.4), weights=(1.0, 2.0), negative_weight=5.0),
    CosineContrastiveLoss(margin=0.3, negative_weight=10.0),
]
each_loss = pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)


@keras.saving.register_keras_serializable(package="tests")
def cubic(x):
    return keras.ops.relu(x + 1) ** 3


@each_loss
def test_default_reduction_is_a_sum_over_the_rows(loss):
    by_row = loss.from_config({**loss.get_config(), "reduction": None})(ONE_HOT, SCORES)
    assert by_row.shape == (NUM_QUERIES,)
    by_row = keras.ops.convert_to_numpy(by_row)
    np.testing.assert_allclose(float(loss(ONE_HOT, SCORES)), by_row.sum(), rtol=1e-6)
    mean = loss.from_config({**loss.get_config(), "reduction": "sum_over_batch_size"})
    np.testing.assert_allclose(float(mean(ONE_HOT, SCORES)), by_row.mean(), rtol=1e-6)


@each_loss
def test_sample_weight_weighs_the_rows(loss):
    weight = np.arange(NUM_QUERIES, dtype="float32")
    by_row = loss.from_config({**loss.get_config(), "reduction": None})(ONE_HOT, SCORES)
    expected = (weight * keras.ops.convert_to_numpy(by_row)).sum()
    np.testing.assert_allclose(
        float(loss(ONE_HOT, SCORES, sample_weight=weight)), expected, rtol=1e-5
    )


@each_loss
@pytest.mark.parametrize("mask", [-3.4e36, -np.inf])
def test_rows_without_a_loss_are_exactly_zero(loss, mask):
    labels, scores = ONE_HOT.copy(), SCORES.copy()
    labels[0] = 0  # no positive
    scores[1][labels[1] > 0] = mask  # a masked positive
    scores[2][labels[2] == 0] = mask  # no negative
    scores[3] = mask  # all masked
    by_row = loss.from_config({**loss.get_config(), "reduction": None})
    value, gradient = value_and_gradient(by_row, labels, scores, dtype="float32")
    assert (value[:4] == 0).all()
    assert (gradient[:4] == 0).all()
    untouched = value_and_gradient(by_row, ONE_HOT, SCORES, dtype="float32")
    np.testing.assert_allclose(value[4:], untouched[0][4:], rtol=1e-6)
    np.testing.assert_allclose(gradient[4:], untouched[1][4:], rtol=1e-6)


@each_loss
def test_a_nan_score_shows_in_its_row_alone(loss):
    scores = SCORES.copy()
    scores[2, 0] = np.nan
    by_row = loss.from_config({**loss.get_config(), "reduction": None})
    value, gradient = value_and_gradient(by_row, ONE_HOT, scores, dtype="float32")
    assert np.isnan(value).tolist() == [False, False, True, False, False, False]
    assert np.isfinite(np.delete(gradient, 2, axis=0)).all()


@each_loss
def test_config_round_trip(loss):
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert type(copy) is type(loss)
    assert copy.get_config() == loss.get_config()
    assert float(copy(ONE_HOT, SCORES)) == float(loss(ONE_HOT, SCORES))


def test_a_registered_function_survives_the_round_trip():
    loss = CROLoss(kernel=cubic)
    copy = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    assert copy.kernel.function is cubic


@each_loss
def test_low_precision_scores_are_raised(loss):
    scores = SCORES.astype("float16")
    half = float(loss(ONE_HOT, keras.ops.convert_to_tensor(scores)))
    np.testing.assert_allclose(half, float(loss(ONE_HOT, scores.astype("float32"))), rtol=1e-6)


@each_loss
@pytest.mark.parametrize(
    ("y_true", "y_pred"),
    [
        (np.ones(NUM_QUERIES), SCORES),
        (ONE_HOT, SCORES[0]),
        (np.eye(NUM_QUERIES), SCORES),
        (np.ones([NUM_QUERIES, 1]), SCORES),
    ],
)
def test_wrong_shapes_are_named(loss, y_true, y_pred):
    with pytest.raises(ValueError, match=r"y_true of shape .*y_pred of shape"):
        loss(y_true, y_pred)


@each_loss
def test_keras_fit_learns(loss):
    """Ranks 9 candidates from their features, through Keras 3's own compile and fit."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    features = rng.normal(size=[256, NUM_CANDIDATES, 4]).astype("float32")
    labels = np.eye(NUM_CANDIDATES)[(features @ [1.0, -2.0, 0.5, 0.0]).argmax(axis=1)]
    inputs = keras.Input([NUM_CANDIDATES, 4])
    scores = keras.layers.Reshape([NUM_CANDIDATES])(keras.layers.Dense(1)(inputs))
    model = keras.Model(inputs, keras.layers.Activation("tanh")(scores))
    model.compile(optimizer=keras.optimizers.Adam(0.05), loss=loss)
    model.fit(features, labels, epochs=12, batch_size=32, verbose=0)
    hits = model.predict(features, verbose=0).argmax(axis=1) == labels.argmax(axis=1)
    assert hits.mean() > 0.85
