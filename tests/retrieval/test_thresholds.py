"""The table of users' thresholds, and the way of its numbers to the loss."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tests.losses import naive
from tfrs_croloss import CROLoss, SoftmaxLossAtK, TalosLoss
from tfrs_croloss.retrieval import (
    HistoryTower,
    ItemTower,
    Retrieval,
    RetrievalModel,
    Thresholds,
    UniformNegatives,
    UserTower,
)

NUM_USERS, NUM_ITEMS, DIM, K = 7, 20, 4, 5
USERS = {"user": np.arange(NUM_USERS, dtype="int32")}
BATCH = {"query": {"user": tf.constant([3, 0, 3])}, "item": tf.constant([8, 19, 2])}


def model_of(loss, temperature=None, task=None, **options):
    tf_keras.utils.set_random_seed(0)
    model = RetrievalModel(
        UserTower(NUM_USERS, DIM, normalize=False),
        ItemTower(NUM_ITEMS, DIM, normalize=False),
        NUM_ITEMS,
        task or Retrieval(loss=loss, temperature=temperature, remove_accidental_hits=True),
        UniformNegatives(NUM_ITEMS, 6),
        **{"thresholds": Thresholds(NUM_USERS, K), **options},
    )
    model.compile(optimizer=tf_keras.optimizers.Adam(0.05))
    return model


def scores_of(model):
    users, items = (
        tower.embedding.embeddings.numpy().astype("float64")
        for tower in (model.query_tower, model.candidate_tower)
    )
    return users @ items.T


def kth_best(scores):
    return [sorted(row, reverse=True)[K - 1] for row in scores.tolist()]


def test_it_is_the_kth_best_of_the_catalogue():
    model = model_of(SoftmaxLossAtK())
    model.refresh_thresholds(USERS)
    found = model.thresholds.values.numpy()
    np.testing.assert_allclose(found, kth_best(scores_of(model)), rtol=1e-5)
    np.testing.assert_array_equal(model.thresholds(BATCH["query"]), found[[3, 0, 3]])
    model.query_tower.embedding.embeddings.assign_add(tf.ones([NUM_USERS, DIM]))
    np.testing.assert_array_equal(model.thresholds.values, found)
    model.refresh_thresholds(USERS)
    np.testing.assert_allclose(
        model.thresholds.values, kth_best(scores_of(model)), rtol=1e-5, atol=1e-6
    )


def test_of_histories():
    items = ItemTower(NUM_ITEMS, DIM)
    model = model_of(SoftmaxLossAtK())
    model.query_tower, model.candidate_tower = HistoryTower(items), items
    histories = np.random.default_rng(0).integers(-1, NUM_ITEMS, [NUM_USERS, 3])
    model.refresh_thresholds({**USERS, "history": histories})
    scores = model.query_embeddings({"history": histories}) @ model.candidate_embeddings().T
    np.testing.assert_allclose(model.thresholds.values, kth_best(scores), rtol=1e-5)


LOSSES = {
    "slk": (
        SoftmaxLossAtK(0.5, weight_temperature=0.3),
        lambda *row, **kwargs: naive.softmax_loss_at_k(*row, 0.5, 0.3, **kwargs),
    ),
    "talos": (
        TalosLoss(0.5),
        lambda *row, **kwargs: naive.talos_loss(*row, 0.5, **kwargs),
    ),
}


@pytest.mark.parametrize("temperature", [None, 0.25])
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("in_a_graph", [False, True])
def test_scores_and_thresholds_are_in_the_same_units(name, temperature, in_a_graph):
    """Over the task's temperature, both of them."""
    loss, naive_loss = LOSSES[name]
    model = model_of(loss, temperature)
    model.refresh_thresholds(USERS)
    scores = scores_of(model) / (temperature or 1)
    thresholds = kth_best(scores)
    negatives = model.negatives[0](model.step).numpy().tolist()
    expected = 0.0
    for user, item in ((3, 8), (0, 19), (3, 2)):
        own = [scores[user, item], *(scores[user, j] for j in negatives if j != item)]
        expected += naive_loss(own, 0, threshold=thresholds[user])[0]
    function = tf.function(model.compute_loss) if in_a_graph else model.compute_loss
    np.testing.assert_allclose(function(BATCH), expected, rtol=1e-4)


def test_a_loss_without_thresholds_takes_none():
    x = np.eye(4, dtype="float32")
    with pytest.raises(ValueError, match="`threshold` must be left out: CROLoss wants nothing of"):
        Retrieval(loss=CROLoss())(x, x, row_inputs={"threshold": np.ones(4)})
    with pytest.raises(ValueError, match="`thresholds` must be None for CROLoss, which wants none"):
        model_of(CROLoss(), thresholds=Thresholds(NUM_USERS, 2))


def test_it_trains_and_is_not_trained():
    model = model_of(SoftmaxLossAtK(0.2))
    model.refresh_thresholds(USERS)
    before = model.thresholds.values.numpy()
    data = tf.data.Dataset.from_tensors(BATCH).repeat(30)
    model.fit(data, epochs=1, verbose=0)
    np.testing.assert_array_equal(model.thresholds.values, before)
    assert all("values" not in variable.name for variable in model.trainable_variables)
    model.refresh_thresholds(USERS)
    for user, item in ((3, 8), (0, 19), (3, 2)):
        assert scores_of(model)[user, item] >= model.thresholds.values[user].numpy() - 1e-5


def test_thresholds_that_were_never_refreshed_do_not_go_unnoticed():
    model = model_of(TalosLoss())
    with pytest.raises(ValueError, match="`threshold` must be finite.*first `refresh_thresholds`"):
        model.compute_loss(BATCH)
    assert np.isnan(tf.function(model.compute_loss)(BATCH))


def test_a_checkpoint_holds_them(tmp_path):
    model, resumed = model_of(SoftmaxLossAtK()), model_of(SoftmaxLossAtK())
    model.refresh_thresholds(USERS)
    path = tf.train.Checkpoint(model=model).write(str(tmp_path / "model"))
    tf.train.Checkpoint(model=resumed).read(path).assert_existing_objects_matched()
    np.testing.assert_array_equal(resumed.thresholds.values, model.thresholds.values)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Thresholds(NUM_USERS, 0), "`k` must be a positive integer. Received: 0"),
        (
            lambda: model_of(SoftmaxLossAtK(), thresholds=Thresholds(NUM_USERS, NUM_ITEMS + 1)),
            "`thresholds` must be of a k of at most the model's 20 items. Received: k=21",
        ),
        (
            lambda: model_of(tf_keras.losses.CategoricalCrossentropy(from_logits=True)),
            "`thresholds` needs a RetrievalLoss: CROLoss.* Received: loss=<.*CategoricalCrossentro",
        ),
        (
            lambda: model_of(SoftmaxLossAtK()).refresh_thresholds({"user": np.arange(3)}),
            "`queries` must be those of all 7 users.* Received: 3 users, 20 items",
        ),
        (
            lambda: model_of(SoftmaxLossAtK(), thresholds=None).compute_loss(BATCH),
            "`threshold` must be given to SoftmaxLossAtK",
        ),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
