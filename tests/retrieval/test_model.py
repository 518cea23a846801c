"""Towers, negatives, and the model that trains them."""

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from tests.losses.naive import cro_loss
from tfrs_croloss import CROLoss, MultiMarginLoss
from tfrs_croloss.data import Split, encode, training_batches
from tfrs_croloss.evaluation import evaluate
from tfrs_croloss.index import ExactIndex
from tfrs_croloss.retrieval import (
    HistoryTower,
    ItemTower,
    RetrievalModel,
    UniformNegatives,
    UserTower,
)

NUM_USERS, NUM_ITEMS, DIM = 40, 60, 8


@pytest.fixture
def data():
    """Two camps of users, each with the items of its own camp."""
    rng = np.random.default_rng(0)
    rows = [
        (user, item)
        for user in range(NUM_USERS)
        for item in rng.permutation(np.arange(user % 2, NUM_ITEMS, 2))[:20]
    ]
    frame = pd.DataFrame(rows, columns=["user", "item"])
    is_test = np.arange(len(frame)) % 20 >= 15
    return encode(Split(frame[~is_test], frame[:0], frame[is_test]))


def model_of(loss, tower="id", **options):
    tf_keras.utils.set_random_seed(0)
    items = ItemTower(NUM_ITEMS, DIM)
    query = UserTower(NUM_USERS, DIM) if tower == "id" else HistoryTower(items)
    model = RetrievalModel(query, items, NUM_ITEMS, tfrs.tasks.Retrieval(loss=loss), **options)
    model.compile(optimizer=tf_keras.optimizers.Adam(0.03))
    return model


def test_towers_give_unit_vectors():
    items = ItemTower(NUM_ITEMS, DIM)
    vectors = [
        items(tf.range(NUM_ITEMS)),
        UserTower(NUM_USERS, DIM)({"user": tf.range(NUM_USERS)}),
        HistoryTower(items)({"history": tf.constant([[-1, -1, 3], [1, 2, 3]])}),
    ]
    for vector in vectors:
        np.testing.assert_allclose(np.linalg.norm(vector, axis=-1), 1, rtol=1e-5)


def test_history_tower_is_a_masked_mean_through_a_dense_layer():
    items = ItemTower(NUM_ITEMS, DIM)
    tower = HistoryTower(items)
    actual = tower({"history": tf.constant([[-1, 4, 7], [-1, -1, -1]])})
    table, (kernel, bias) = items.embedding.embeddings.numpy(), tower.dense.get_weights()
    expected = (table[4] + table[7]) / 2 @ kernel + bias
    np.testing.assert_allclose(actual[0], expected / np.linalg.norm(expected), rtol=1e-5)
    assert np.isfinite(actual[1]).all()
    assert tower.embedding is items.embedding


def test_uniform_negatives_are_uniform_and_depend_on_the_step_alone():
    negatives = UniformNegatives(num_items=10, num_negatives=5000, seed=3)
    draw = negatives(step=7).numpy()
    np.testing.assert_array_equal(negatives(step=7), draw)
    assert not np.array_equal(negatives(step=8), draw)
    counts = np.bincount(draw, minlength=10)
    assert counts.min() > 400
    assert counts.max() < 600
    with pytest.raises(ValueError, match="`num_negatives` must be positive. Received: 0"):
        UniformNegatives(10, 0)


@pytest.mark.parametrize("in_batch", [True, False])
@pytest.mark.parametrize("num_negatives", [0, 6])
def test_which_candidates_are_negatives(in_batch, num_negatives):
    if not in_batch and not num_negatives:
        with pytest.raises(ValueError, match="nothing to compare a positive with"):
            model_of(CROLoss(), in_batch=False)
        return
    negatives = UniformNegatives(NUM_ITEMS, num_negatives) if num_negatives else None
    model = model_of(CROLoss(alpha=1.2), negatives=negatives, in_batch=in_batch)
    users, items = np.array([0, 1, 2]), np.array([10, 11, 12])
    candidates = np.append(items, negatives(0) if negatives else []).astype(int)
    table = model.candidate_embeddings()
    scores = model.query_embeddings({"user": users}) @ table[candidates].T
    if not in_batch:
        scores[:, :3][~np.eye(3, dtype=bool)] = -np.inf
    expected = sum(cro_loss(scores[i].tolist(), i, "softplus", alpha=1.2)[0] for i in range(3))
    actual = model.compute_loss({"query": {"user": users}, "item": items})
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


@pytest.mark.parametrize("tower", ["id", "history"])
@pytest.mark.parametrize(
    "loss",
    [
        None,
        CROLoss(temperature=0.2, lambda_kernel="sigmoid"),
        MultiMarginLoss((0.0, 0.4), (1.0, 1.0), negative_weight=5.0),
    ],
    ids=["softmax", "cro", "mml"],
)
def test_it_learns_the_camps(data, tower, loss):
    model = model_of(loss, tower, negatives=UniformNegatives(NUM_ITEMS, 32), in_batch=False)
    length = 10 if tower == "history" else 0
    batches, _ = training_batches(data, batch_size=64, epochs=12, history_length=length)
    query = {"user": np.arange(NUM_USERS), "history": data.histories(10)}

    def recall():
        index = ExactIndex(model.candidate_embeddings())
        queries = model.query_embeddings(query)
        return evaluate(index, queries, data.test.matrix, exclude=data.train, top_n=15)

    before = recall().metrics["recall@15"]
    model.fit(batches, verbose=0)
    # 15 of a camp's 30 items are seen: whoever knows the camps finds every test item.
    assert before < 0.4
    assert recall().metrics["recall@15"] > 0.75


def test_towers_of_the_users_own_with_features():
    """A candidate tower on features embeds items that no one has interacted with."""
    features = {"genre": tf.constant(np.arange(NUM_ITEMS) % 4), "year": tf.ones([NUM_ITEMS, 1])}

    class GenreTower(tf_keras.Model):
        def __init__(self):
            super().__init__()
            self.genre = tf_keras.layers.Embedding(4, DIM)
            self.dense = tf_keras.layers.Dense(DIM)

        def call(self, item):
            return self.dense(tf.concat([self.genre(item["genre"]), item["year"]], axis=1))

    query = UserTower(NUM_USERS, DIM)
    model = RetrievalModel(
        query,
        GenreTower(),
        NUM_ITEMS,
        tfrs.tasks.Retrieval(loss=CROLoss()),
        item_features=features,
    )
    model.compile(optimizer=tf_keras.optimizers.Adam(0.03))
    batch = {"query": {"user": tf.range(8)}, "item": tf.range(8) % 4}
    model.fit(tf.data.Dataset.from_tensors(batch).repeat(5), verbose=0)
    embeddings = model.candidate_embeddings()
    assert embeddings.shape == (NUM_ITEMS, DIM)
    np.testing.assert_allclose(embeddings[4], embeddings[8], rtol=1e-5)
