"""Models trained under a mixed policy: exported and measured by float32 products."""

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import tf_keras

from tfrs_croloss import CROLoss
from tfrs_croloss.data import Split, encode, training_batches
from tfrs_croloss.evaluation import evaluate, evaluate_export
from tfrs_croloss.index import ExactIndex
from tfrs_croloss.retrieval import (
    HistoryTower,
    InBatchNegatives,
    ItemTower,
    Retrieval,
    RetrievalModel,
    UserTower,
)
from tfrs_croloss.serving import export_model

NUM_USERS, NUM_ITEMS, DIM, LENGTH, K = 6, 40, 8, 5, 4


@pytest.fixture(scope="module")
def data():
    rows = [(u, (7 * u + 3 * k) % NUM_ITEMS) for u in range(NUM_USERS) for k in range(8)]
    frame = pd.DataFrame(rows, columns=["user", "item"])
    is_test = np.arange(len(frame)) % 8 == 7
    return encode(Split(frame[~is_test], frame[:0], frame[is_test]))


class OwnTower(tf_keras.Model):
    """Half precision to the end, and no norm."""

    def __init__(self):
        super().__init__()
        self.table = tf_keras.layers.Embedding(NUM_USERS, 16)
        self.dense = tf_keras.layers.Dense(DIM)

    def call(self, query):
        return self.dense(self.table(query["user"]))


@pytest.fixture(params=["mixed_float16", "mixed_bfloat16"])
def policy(request):
    tf_keras.mixed_precision.set_global_policy(request.param)
    yield request.param
    tf_keras.mixed_precision.set_global_policy("float32")


def trained(data, tower):
    items = ItemTower(len(data.items), DIM)
    query = {"user": lambda: UserTower(NUM_USERS, DIM), "own": OwnTower}.get(
        tower, lambda: HistoryTower(items)
    )()
    task = Retrieval(loss=CROLoss(temperature=0.1), remove_accidental_hits=True)
    model = RetrievalModel(query, items, len(data.items), task, InBatchNegatives())
    model.compile(optimizer=tf_keras.optimizers.Adam(0.03), run_eagerly=True)
    length = LENGTH if tower == "history" else 0
    batches, _ = training_batches(data, 16, 2, history_length=length)
    model.fit(batches, verbose=0)
    return model, length


def best(queries, items, never):
    """The K best of the float32 products, and their scores."""
    scores = np.asarray(queries, "float32") @ np.asarray(items, "float32").T
    scores[never] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :K]
    return order, np.take_along_axis(scores, order, axis=1)


def of_towers(model, query):
    """What the towers give, call by call, as numbers of their own precision."""
    rows = [
        model.query_tower(tf.nest.map_structure(lambda x, i=i: x[i : i + 1], query))
        for i in range(len(tf.nest.flatten(query)[0]))
    ]
    items = model.candidate_tower(tf.range(model.num_items))
    assert items.dtype.size == 2
    return tf.concat(rows, 0), items


@pytest.mark.parametrize("search", ["exact", "scann"])
@pytest.mark.parametrize("tower", ["user", "history", "own"])
def test_an_export_answers_by_float32_products(data, policy, tower, search, tmp_path):
    if search == "scann":
        pytest.importorskip("scann")
    model, length = trained(data, tower)
    queries, items = of_towers(model, data.queries(length))
    folder = export_model(model, data, tmp_path, history_length=length, search=search)
    export = tf.saved_model.load(str(folder))
    nothing, k = tf.constant([[-1]], tf.int64), tf.constant(K)
    serve = export.signatures["serving_default"]
    asked = {"history": tf.constant([[-1]], tf.int64)} if length else {}
    found = serve(user_ids=tf.constant(data.users.ids), k=k, exclude=nothing, **asked)
    positions, scores = best(queries, items, data.known.toarray() > 0)
    np.testing.assert_array_equal(found["item_ids"], data.items.decode(positions))
    np.testing.assert_allclose(found["scores"], scores, rtol=1e-5, atol=1e-6)
    found = export.signatures["by_embedding"](
        queries=tf.cast(queries, tf.float32), k=k, exclude=nothing
    )
    positions, _ = best(queries, items, np.zeros([NUM_USERS, len(data.items)], bool))
    np.testing.assert_array_equal(found["item_ids"], data.items.decode(positions))
    if length:
        history = np.array([[1, 2, 3], [-1, -1, 7]])
        padded = np.pad(history, [(0, 0), (LENGTH - 3, 0)], constant_values=-1)
        # A graph rounds in other places than an eager call does.
        queries = tf.function(model.query_tower)({"history": padded, "user": np.zeros(2, int)})
        ids = np.where(history < 0, -1, data.items.decode(history))
        found = export.signatures["by_history"](
            history=tf.constant(ids, tf.int64), k=k, exclude=nothing
        )
        never = np.zeros([2, len(data.items)], bool)
        never[[0, 0, 0, 1], [1, 2, 3, 7]] = True
        positions, scores = best(queries, items, never)
        np.testing.assert_array_equal(found["item_ids"], data.items.decode(positions))
        np.testing.assert_allclose(found["scores"], scores, rtol=1e-5, atol=1e-6)


def test_an_evaluation_measures_float32_products(data, policy, tmp_path):
    model, _ = trained(data, "user")
    queries, items = of_towers(model, data.queries())
    positions, _ = best(queries, items, data.known.toarray() > 0)
    hits = data.test.matrix.toarray()[np.arange(NUM_USERS)[:, None], positions]
    expected = hits.sum() / NUM_USERS  # One test item a user.
    index = ExactIndex(model.candidate_embeddings())
    by_index = evaluate(
        index, model.query_embeddings(data.queries()), data.test, data.known, top_n=K
    )
    export_model(model, data, tmp_path)
    by_export = evaluate_export(tmp_path, data, top_n=K)
    assert by_index.metrics[f"recall@{K}"] == pytest.approx(expected)
    assert by_export.metrics[f"recall@{K}"] == pytest.approx(expected)


def test_embeddings_are_float32_at_least(data, policy):
    model, _ = trained(data, "own")
    for found in (model.candidate_embeddings(), model.query_embeddings(data.queries())):
        assert found.dtype == np.float32


@pytest.mark.parametrize("length", [300, 3])
def test_a_history_is_counted_and_none_has_no_norm(policy, length):
    """In bfloat16 256 + 1 is 256, and in float16 the least norm is 0."""
    items = ItemTower(4, DIM, normalize=False)
    tower = HistoryTower(items, normalize=False)
    history = np.zeros([2, length], int)
    history[1] = -1
    history[0, 0] = 1
    actual = tf.cast(tower({"history": tf.constant(history)}), "float32")
    table = tf.cast(items(tf.constant([0, 1])), "float32").numpy()
    mean = tf.cast((table[0] * (length - 1) + table[1]) / length, tower.dense.compute_dtype)
    expected = tf.cast(tower.dense(mean[None]), "float32")
    np.testing.assert_allclose(actual[0], expected[0], rtol=1e-2, atol=1e-2)
    np.testing.assert_array_equal(actual[1], np.zeros(DIM))
    normalized = HistoryTower(items)
    assert np.isfinite(tf.cast(normalized({"history": tf.constant(history)}), "float32")).all()
