"""Towers, negatives, and the model that trains them."""

import subprocess
import sys
from pathlib import Path

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
    AllItems,
    HistoryTower,
    InBatchNegatives,
    ItemTower,
    MixedNegatives,
    PopularityNegatives,
    Retrieval,
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
    model = RetrievalModel(query, items, NUM_ITEMS, Retrieval(loss=loss), **options)
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


COUNTS = np.arange(NUM_ITEMS) % 7  # Some are 0.
PARTS = {
    "in-batch": [InBatchNegatives(COUNTS)],
    "uniform": [UniformNegatives(NUM_ITEMS, 6)],
    "popularity": [PopularityNegatives(COUNTS, 6)],
    "all": [AllItems(NUM_ITEMS)],
    "in-batch and uniform": [UniformNegatives(NUM_ITEMS, 6), InBatchNegatives(COUNTS)],
    "three": [
        InBatchNegatives(COUNTS),
        MixedNegatives([UniformNegatives(NUM_ITEMS, 2), PopularityNegatives(COUNTS, 4)]),
    ],
}
USERS, ITEMS = np.array([0, 1, 2]), np.array([10, 11, 12])
BATCH = {"query": {"user": USERS}, "item": ITEMS}
FOREIGN = tf_keras.losses.CategoricalCrossentropy(from_logits=True, reduction="sum")


class WeighingTask(Retrieval):
    """Writes down what it is given."""

    def call(
        self,
        queries,
        candidates,
        sample_weight=None,
        candidate_ids=None,
        compute_metrics=True,
        candidate_weight=None,
        known_positive_ids=None,
        in_batch=True,
        training=None,
        row_inputs=None,
        own=None,
    ):
        self.taken = {
            "queries": queries,
            "candidate_ids": candidate_ids,
            "candidate_weight": candidate_weight,
            "known_positive_ids": known_positive_ids,
            "in_batch": in_batch,
            "training": training,
        }
        return tf.reduce_sum(queries) + tf.reduce_sum(candidates)


def weighing_model(negatives, **options):
    towers = UserTower(NUM_USERS, DIM), ItemTower(NUM_ITEMS, DIM)
    task = WeighingTask(remove_accidental_hits=True)
    return RetrievalModel(*towers, NUM_ITEMS, task, negatives, **options)


@pytest.mark.parametrize("name", PARTS)
def test_which_candidates_are_negatives(name):
    parts = PARTS[name]
    in_batch = any(isinstance(part, InBatchNegatives) for part in parts)
    model = model_of(CROLoss(alpha=1.2), negatives=parts)
    users, items = USERS, ITEMS
    candidates = np.concatenate([items, *(part(0) for part in parts)])
    table = model.candidate_embeddings()
    scores = model.query_embeddings({"user": users}) @ table[candidates].T
    if not in_batch:
        scores[:, :3][~np.eye(3, dtype=bool)] = -np.inf
    expected = sum(cro_loss(scores[i].tolist(), i, "softplus", alpha=1.2)[0] for i in range(3))
    actual = model.compute_loss(BATCH)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


@pytest.mark.parametrize("name", PARTS)
def test_weights_are_one_over_the_expected_counts(name):
    """By a naive loop over all that may stand among a row's candidates."""
    model = weighing_model(PARTS[name], weigh=True)
    model.step.assign(4)
    model.compute_loss(BATCH, training=True)
    items = model.task.taken["candidate_ids"].numpy()
    powers = [float(count) ** 0.75 if count else 0.0 for count in COUNTS]
    expected = []
    for item in items:
        count = {
            "in-batch": 2 * COUNTS[item] / COUNTS.sum(),
            "all": 1.0,
            "uniform": 6 / NUM_ITEMS,
            "popularity": 6 * powers[item] / sum(powers),
            "in-batch and uniform": 2 * COUNTS[item] / COUNTS.sum() + 6 / NUM_ITEMS,
            "three": (
                2 * COUNTS[item] / COUNTS.sum() + 2 / NUM_ITEMS + 4 * powers[item] / sum(powers)
            ),
        }[name]
        expected.append(1 / count if count else 0.0)
    actual = model.task.taken["candidate_weight"]
    assert actual.dtype == tf.float32
    np.testing.assert_allclose(actual, expected, rtol=1e-5)
    np.testing.assert_array_equal(items[:3], ITEMS)
    np.testing.assert_array_equal(items[3:], np.concatenate([part(4) for part in PARTS[name]]))
    assert model.task.taken["in_batch"] == ("in-batch" in name or name == "three")
    assert model.task.taken["training"] is True
    assert int(model.step) == 5


def test_a_reverse_task_has_items_ask_for_their_users():
    loss = CROLoss(alpha=1.2)
    towers = UserTower(NUM_USERS, DIM), ItemTower(NUM_ITEMS, DIM)
    model = RetrievalModel(
        *towers,
        NUM_ITEMS,
        Retrieval(loss=loss),
        PARTS["uniform"],
        reverse_task=Retrieval(loss=loss, remove_accidental_hits=True),
        reverse_weight=0.3,
    )
    # User 1 is there twice, and none of her own negatives.
    users, items = np.array([0, 1, 1]), np.array([10, 11, 12])
    batch = {"query": {"user": users}, "item": items, "sample_weight": np.array([1.0, 2.0, 0.5])}
    scores = model.candidate_embeddings()[items] @ model.query_embeddings({"user": users}).T
    expected = 0.0
    for i, weight in enumerate(batch["sample_weight"]):
        row = [-np.inf if j != i and users[j] == users[i] else scores[i, j] for j in range(3)]
        expected += 0.3 * weight * cro_loss(row, i, "softplus", alpha=1.2)[0]
    whole = model.compute_loss(batch)
    model.reverse_task = None
    np.testing.assert_allclose(whole - model.compute_loss(batch), expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"reverse_task": Retrieval(memory_size=4)},
            "`reverse_task` must have no memory, .* memory_size=4",
        ),
        (
            {"reverse_task": Retrieval(), "reverse_weight": -1.0},
            "`reverse_weight` must be a non-negative number. Received: -1.0",
        ),
        (
            {"reverse_task": Retrieval(), "reverse_weight": "a"},
            "`reverse_weight` must be a non-negative number. Received: 'a'",
        ),
        (
            {"reverse_task": CROLoss()},
            "`reverse_task` must be a Retrieval of tfrs_croloss.retrieval. Received: <.*CROLoss",
        ),
    ],
)
def test_a_bad_reverse_task_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        weighing_model(PARTS["uniform"], **options)


@pytest.mark.parametrize(
    ("query", "received"),
    [({"age": np.array([3, 4])}, r"\['age'\]"), (np.array([3, 4]), "ndarray")],
)
def test_a_reverse_task_wants_users(query, received):
    model = weighing_model(PARTS["uniform"], reverse_task=Retrieval())
    model.query_tower = lambda query, training: tf.zeros([2, DIM])
    message = f"`query` must be a dict with the positions of `user` .* Received: {received}"
    with pytest.raises(ValueError, match=message):
        model.compute_loss({"query": query, "item": np.array([1, 2])})


def test_dropout_is_drawn_by_the_step_and_in_training_alone():
    model = weighing_model(PARTS["uniform"], query_dropout=0.5)
    seen = []
    for step, training in ((4, True), (4, True), (5, True), (4, False)):
        model.step.assign(step)
        model.compute_loss(BATCH, training=training)
        seen.append(model.task.taken["queries"].numpy())
    whole = model.query_embeddings({"user": USERS})
    np.testing.assert_array_equal(seen[0], seen[1])
    assert (seen[0] != seen[2]).any()
    np.testing.assert_array_equal(seen[3], whole)
    kept = seen[0] != 0
    assert 0 < kept.mean() < 1
    # What is kept is scaled up to the same mean.
    np.testing.assert_allclose(seen[0][kept], 2 * whole[kept], rtol=1e-6)
    with pytest.raises(ValueError, match="`query_dropout` must be at least 0 and below 1.*1.5"):
        weighing_model(PARTS["uniform"], query_dropout=1.5)


def test_known_positives_go_to_the_task():
    model = weighing_model(PARTS["uniform"])
    known = np.array([[10, -1], [11, 3], [12, 5]])
    model.compute_loss({**BATCH, "known_positives": known})
    np.testing.assert_array_equal(model.task.taken["known_positive_ids"], known)
    assert model.task.taken["candidate_weight"] is None
    model = model_of(FOREIGN, negatives=PARTS["uniform"])
    with pytest.raises(ValueError, match="`known_positive_ids` needs a RetrievalLoss: CROLoss"):
        model.compute_loss({**BATCH, "known_positives": known})


@pytest.mark.parametrize("name", PARTS)
def test_a_foreign_loss_sees_the_same_negatives(name):
    """The softmax cross-entropy of Keras, by a loop over what may stand in a row."""
    parts = PARTS[name]
    model = model_of(FOREIGN, negatives=parts)
    candidates = np.concatenate([ITEMS, *(part(0) for part in parts)])
    table = model.candidate_embeddings().astype("float64")
    scores = model.query_embeddings({"user": USERS}) @ table[candidates].T
    in_batch = any(isinstance(part, InBatchNegatives) for part in parts)
    expected = 0.0
    for i, row in enumerate(scores):
        kept = [s for j, s in enumerate(row) if in_batch or j == i or j >= len(ITEMS)]
        expected += np.log(sum(np.exp(kept))) - row[i]
    np.testing.assert_allclose(model.compute_loss(BATCH), expected, rtol=1e-5)
    np.testing.assert_allclose(tf.function(model.compute_loss)(BATCH), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("task", "received"),
    [
        (None, "None"),
        (CROLoss(), "<.*CROLoss"),
        (tfrs.tasks.Retrieval(), "<tensorflow_recommenders.tasks.retrieval.Retrieval"),
        (Retrieval, "<class 'tfrs_croloss.retrieval.task.Retrieval'>"),
    ],
)
def test_another_task_is_refused(task, received):
    towers = UserTower(NUM_USERS, DIM), ItemTower(NUM_ITEMS, DIM)
    message = (
        rf"`task` must be a Retrieval of .* Received: {received}.* Retrieval\(loss=...\) takes"
    )
    with pytest.raises(ValueError, match=f"{message}.* into a tfrs.Model of your own"):
        RetrievalModel(*towers, NUM_ITEMS, task, PARTS["uniform"])


def test_a_memory_of_features_is_refused():
    task = Retrieval(memory_size=3, memory_features={"price": tf.TensorSpec([])})
    with pytest.raises(ValueError, match="`task` must have no `memory_features`.* Received: price"):
        RetrievalModel(UserTower(3, 2), ItemTower(4, 2), 4, task, InBatchNegatives())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: weighing_model([]),
            "`negatives` must hold a part .* nothing else to compare",
        ),
        (
            lambda: weighing_model(None),
            "`negatives` must hold a part .* nothing else to compare",
        ),
        (
            lambda: weighing_model(UniformNegatives(7, 2)),
            "`negatives` must be of the model's 60 items. Received: UniformNegatives of 7",
        ),
        (
            lambda: weighing_model(InBatchNegatives(), weigh=True),
            "`item_counts` of InBatchNegatives must be given",
        ),
        (
            lambda: model_of(FOREIGN, negatives=PARTS["uniform"], weigh=True),
            "`weigh` needs a RetrievalLoss: CROLoss.* Received: loss=<.*CategoricalCrossentropy",
        ),
        *(
            (
                lambda options=options: RetrievalModel(
                    UserTower(NUM_USERS, DIM),
                    ItemTower(NUM_ITEMS, DIM),
                    NUM_ITEMS,
                    Retrieval(**options),
                    PARTS["uniform"],
                    weigh=True,
                ),
                message,
            )
            for options, message in (
                ({}, "`task` must have `remove_accidental_hits=True` for `weigh=True`"),
                (
                    {"remove_accidental_hits": True, "memory_size": 3},
                    "`weigh` must be False with a task that has a memory.*memory_size=3",
                ),
            )
        ),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_checkpoint_goes_on_where_it_was(tmp_path):
    model, resumed = (weighing_model(PARTS["three"], weigh=True) for _ in range(2))
    model.compute_loss(BATCH, training=True)
    path = tf.train.Checkpoint(model=model).write(str(tmp_path / "model"))
    resumed.compute_loss(BATCH)
    tf.train.Checkpoint(model=resumed).read(path).assert_existing_objects_matched()
    for one in (model, resumed):
        one.compute_loss(BATCH)
    for name in ("candidate_ids", "candidate_weight"):
        np.testing.assert_array_equal(model.task.taken[name], resumed.task.taken[name])


def test_two_replicas_step_as_one():
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "tests.retrieval.model_on_two_replicas"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("tower", ["id", "history"])
@pytest.mark.parametrize(
    "loss",
    [
        None,
        CROLoss(temperature=0.2, lambda_kernel="sigmoid"),
        MultiMarginLoss((0.0, 0.4), (1.0, 1.0), negative_weight=5.0),
        tf_keras.losses.CategoricalCrossentropy(from_logits=True, reduction="sum"),
    ],
    ids=["softmax", "cro", "mml", "foreign"],
)
def test_it_learns_the_camps(data, tower, loss):
    model = model_of(loss, tower, negatives=UniformNegatives(NUM_ITEMS, 32))
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
        Retrieval(loss=CROLoss()),
        InBatchNegatives(),
        item_features=features,
    )
    model.compile(optimizer=tf_keras.optimizers.Adam(0.03))
    batch = {"query": {"user": tf.range(8)}, "item": tf.range(8) % 4}
    model.fit(tf.data.Dataset.from_tensors(batch).repeat(5), verbose=0)
    embeddings = model.candidate_embeddings()
    assert embeddings.shape == (NUM_ITEMS, DIM)
    np.testing.assert_allclose(embeddings[4], embeddings[8], rtol=1e-5)
