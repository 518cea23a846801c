"""Every class that the folder exports, saved by Keras and had back."""

import json

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tfrs_croloss import CROLoss, SoftmaxLossAtK, retrieval
from tfrs_croloss.retrieval import (
    AllItems,
    FusedAdam,
    HistoryTower,
    InBatchNegatives,
    ItemTower,
    MixedNegatives,
    Negatives,
    OwnNegatives,
    PopularityNegatives,
    Retrieval,
    RetrievalModel,
    Thresholds,
    UniformNegatives,
    UserTower,
)

NUM_USERS, NUM_ITEMS, DIM = 6, 20, 4
USERS, HISTORY = np.array([0, 1, 5]), np.array([[0, 1], [-1, 2], [-1, -1]])
COUNTS = np.arange(NUM_ITEMS)
BATCH = {"query": {"user": USERS, "history": HISTORY}, "item": np.array([0, 3, 9])}


def model_of(task=None, negatives=None, query=None, items=None, **options):
    items = items or ItemTower(NUM_ITEMS, DIM)
    query = query(items) if query is HistoryTower else query or UserTower(NUM_USERS, DIM)
    model = RetrievalModel(
        query, items, NUM_ITEMS, task or Retrieval(), negatives or InBatchNegatives(), **options
    )
    model.compile(optimizer=FusedAdam(0.1), run_eagerly=True)  # Faster than graphs of a few steps.
    if model.thresholds is not None:
        model.refresh_thresholds({"user": np.arange(NUM_USERS)})
    return model


def with_thresholds():
    return model_of(
        Retrieval(loss=SoftmaxLossAtK(), remove_accidental_hits=True),
        AllItems(NUM_ITEMS),
        weigh=True,
        thresholds=Thresholds(NUM_USERS, 3),
    )


# A model, or a tower, with each class of `retrieval.__all__` in it.
MODELS = {
    "RetrievalModel": lambda: model_of(
        query_dropout=0.3, reverse_task=Retrieval(loss=CROLoss()), reverse_weight=0.2
    ),
    "Retrieval": lambda: model_of(
        Retrieval(
            loss=CROLoss(temperature=0.2),
            memory_size=7,
            remove_accidental_hits=True,
            batch_metrics=tf_keras.metrics.AUC(from_logits=True),
        )
    ),
    "HistoryTower": lambda: model_of(query=HistoryTower),
    "ItemTower": lambda: model_of(items=ItemTower(NUM_ITEMS, DIM, "mine", normalize=False)),
    "UserTower": lambda: model_of(query=UserTower(NUM_USERS, DIM, dtype="mixed_bfloat16")),
    "Thresholds": with_thresholds,
    "AllItems": with_thresholds,
    "FusedAdam": model_of,
    "InBatchNegatives": lambda: model_of(negatives=InBatchNegatives(COUNTS)),
    "UniformNegatives": lambda: model_of(
        Retrieval(loss=tf_keras.losses.CategoricalCrossentropy(from_logits=True, reduction="sum")),
        UniformNegatives(NUM_ITEMS, 3, seed=4),
    ),
    "PopularityNegatives": lambda: model_of(negatives=PopularityNegatives(COUNTS, 5, beta=0.5)),
    "MixedNegatives": lambda: model_of(
        negatives=MixedNegatives([UniformNegatives(NUM_ITEMS, 3), PopularityNegatives(COUNTS, 2)])
    ),
    "OwnNegatives": lambda: model_of(
        negatives=[UniformNegatives(NUM_ITEMS, 3), OwnNegatives(PopularityNegatives(COUNTS, 2))]
    ),
}


def test_every_exported_class_is_here():
    # `Negatives` is abstract: one of the user's own stands below.
    assert {*MODELS} == {*retrieval.__all__} - {"Negatives"}


def fitted(model, steps=1):
    data = tf.data.Dataset.from_tensors(BATCH)
    return model.fit(data, epochs=steps, verbose=0).history["loss"]


def embeddings(model):
    return model.query_embeddings(BATCH["query"]), model.candidate_embeddings()


@pytest.mark.parametrize("name", MODELS)
def test_a_model_loads_and_trains_on_as_if_nothing_had_happened(name, tmp_path):
    """So all is there: weights, optimizer, memory, thresholds, the step that draws."""
    model = MODELS[name]()
    fitted(model, 2)
    model.save(tmp_path / "model.keras")
    again = tf_keras.models.load_model(tmp_path / "model.keras")
    assert type(again) is RetrievalModel
    assert again.get_config() == model.get_config()
    for _ in range(2):
        for x, y in zip(embeddings(model), embeddings(again), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(fitted(model, 2), fitted(again, 2), rtol=1e-5)
    assert len(again.optimizer.variables) == len(model.optimizer.variables) > 1


@pytest.mark.parametrize("file", ["tower.keras", "tower"], ids=["keras", "SavedModel"])
@pytest.mark.parametrize("name", ["HistoryTower", "ItemTower", "UserTower"])
def test_a_tower_loads_alone(name, file, tmp_path):
    cls = getattr(retrieval, name)
    assert issubclass(cls, tf_keras.Model)
    tower, given = {
        "HistoryTower": (HistoryTower(ItemTower(NUM_ITEMS, DIM)), {"history": HISTORY}),
        "ItemTower": (ItemTower(NUM_ITEMS, DIM), BATCH["item"]),
        "UserTower": (UserTower(NUM_USERS, DIM, normalize=False), {"user": USERS}),
    }[name]
    given = tf.nest.map_structure(tf.constant, given)
    expected = tower(given)
    tower.save(tmp_path / file)
    again = tf_keras.models.load_model(tmp_path / file)
    assert type(again) is cls
    np.testing.assert_allclose(again(given), expected, rtol=1e-6)


@pytest.mark.parametrize("is_file", [True, False], ids=["file", "config"])
def test_a_history_tower_shares_its_table_again(is_file, tmp_path):
    model = model_of(query=HistoryTower)
    fitted(model)
    if is_file:
        model.save(tmp_path / "model.keras")
        again = tf_keras.models.load_model(tmp_path / "model.keras")
    else:
        again = RetrievalModel.from_config(json.loads(json.dumps(model.get_config())))
    assert again.query_tower.embedding is again.candidate_tower.embedding
    apart = model_of(query=HistoryTower(ItemTower(NUM_ITEMS, DIM)))
    again = RetrievalModel.from_config(apart.get_config())
    assert again.query_tower.embedding is not again.candidate_tower.embedding


def test_a_table_that_would_be_two_is_not_saved(tmp_path):
    items = ItemTower(NUM_ITEMS, DIM)

    class Features(tf_keras.Model):
        def __init__(self, table):
            super().__init__()
            self.table = table

        def call(self, items):
            return 2 * self.table(items)

        def get_config(self):
            return {"table": None}

    for candidates in (Features(items.embedding), items.embedding):
        model = model_of(query=HistoryTower(items), items=candidates)
        fitted(model)
        with pytest.raises(ValueError, match="`query_tower` cannot be saved: its table is a part"):
            model.save(tmp_path / "model.keras")


def test_a_frozen_tower_stays_frozen(tmp_path):
    model = model_of(query=UserTower(NUM_USERS, DIM))
    model.query_tower.trainable = False
    fitted(model)
    model.save(tmp_path / "model.keras")
    again = tf_keras.models.load_model(tmp_path / "model.keras")
    assert [x.name for x in again.trainable_variables] == ["item_tower/items/embeddings:0"]


@tf_keras.saving.register_keras_serializable("tests.retrieval")
class NameTower(tf_keras.Model):
    """Of strings, which Keras does not build again by itself."""

    def __init__(self, vocabulary):
        super().__init__()
        self.vocabulary = vocabulary
        self.lookup = tf_keras.layers.StringLookup(vocabulary=vocabulary)
        self.table = tf_keras.layers.Embedding(len(vocabulary) + 1, DIM)

    def call(self, query):
        return self.table(self.lookup(query["name"]))

    def get_config(self):
        return {"vocabulary": self.vocabulary}


@tf_keras.saving.register_keras_serializable("tests.retrieval")
class FeatureTower(tf_keras.Model):
    def __init__(self):
        super().__init__()
        self.genre = tf_keras.layers.StringLookup(vocabulary=["a", "é"])
        self.table = tf_keras.layers.Embedding(3, DIM)
        self.dense = tf_keras.layers.Dense(DIM)

    def call(self, item):
        return self.dense(tf.concat([self.table(self.genre(item["genre"])), item["year"]], 1))


def test_towers_of_ones_own_and_features_load(tmp_path):
    features = {"genre": np.array(["a", "é"] * (NUM_ITEMS // 2)), "year": tf.ones([NUM_ITEMS, 1])}
    model = model_of(query=NameTower(["x", "y"]), items=FeatureTower(), item_features=features)
    query = {"name": np.array(["x", "y", "z"])}
    data = tf.data.Dataset.from_tensors({"query": query, "item": BATCH["item"]})
    model.fit(data, verbose=0)
    model.save(tmp_path / "model.keras")
    again = tf_keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again.query_embeddings(query), model.query_embeddings(query))
    np.testing.assert_allclose(again.candidate_embeddings(), model.candidate_embeddings())
    np.testing.assert_array_equal(again.item_features["genre"], tf.constant(features["genre"]))


class PartOfOnesOwn(Negatives):
    num_items, num_negatives = NUM_ITEMS, 2

    def __call__(self, step):
        return tf.constant([1, 2])

    def probability(self, items):
        return tf.fill(tf.shape(items), 0.5)

    def get_config(self):
        return {}


class TowerWithoutConfig(tf_keras.Model):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, query):
        return self.layer(query["user"])


class OwnTask(Retrieval):
    def __init__(self, extra):
        super().__init__()
        self.extra = extra


class OwnModel(RetrievalModel):
    def __init__(self, extra):
        super().__init__(
            UserTower(3, DIM), ItemTower(3, DIM), extra, Retrieval(), InBatchNegatives()
        )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: model_of(negatives=PartOfOnesOwn()),
            "`negatives` cannot be saved: .*Decorate",
        ),
        (
            lambda: model_of(query=TowerWithoutConfig(tf_keras.layers.Embedding(9, DIM))),
            "`query_tower` cannot be saved: no TowerWithoutConfig can be made of .* 'layer'",
        ),
        (
            lambda: model_of(OwnTask(3)),
            "`task` cannot be saved: no OwnTask can be made of its config, .* 'extra'",
        ),
        (
            lambda: model_of(Retrieval(temperature=tf.Variable(0.5))),
            "`task` cannot be saved: .*tf.Variable",
        ),
        (
            lambda: model_of(reverse_task=Retrieval(loss=CROLoss(kernel=lambda x: x))),
            "`reverse_task` cannot be saved: .*Decorate the function",
        ),
        (lambda: OwnModel(3), "`model` cannot be saved: no OwnModel can be made .* 'extra'"),
    ],
)
def test_what_cannot_be_loaded_is_not_saved(make, message, tmp_path):
    with pytest.raises(ValueError, match=f"{message}.*save_weights.*export_model"):
        make().save(tmp_path / "model.keras")


@pytest.mark.parametrize(
    ("file", "save_format"), [("model", None), ("model", "tf"), ("model.h5", None)]
)
def test_other_formats_are_refused(file, save_format, tmp_path):
    with pytest.raises(ValueError, match='`filepath` must end in ".keras": .*export_model'):
        model_of().save(tmp_path / file, save_format=save_format)
