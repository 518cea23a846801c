"""Run by `test_replicas`: what the rows and candidates of a step bring, on several replicas.

Steps of SGD with losses that a stranger writes, a row's own candidates, weights that are functions
and inputs of the rows, or models that bring them: on as many virtual CPUs as the first argument
says, against one device.
"""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import sys

import numpy as np
import tensorflow as tf
import tf_keras
from keras import ops

from tests.losses.losses import CASES
from tests.losses.test_own_losses import LOSSES
from tests.retrieval.task_on_replicas import (
    BATCHES,
    DIM,
    ITEM_WEIGHT,
    ITEMS,
    NUM_ITEMS,
    NUM_USERS,
    RATE,
    ROWS,
    USERS,
    Model,
    losses_of_steps,
)
from tfrs_croloss import CROLoss, SoftmaxLossAtK
from tfrs_croloss.losses import Candidates, Channel, RetrievalLoss, RowInput, Softplus
from tfrs_croloss.retrieval import (
    InBatchNegatives,
    ItemTower,
    OwnNegatives,
    PopularityNegatives,
    Retrieval,
    RetrievalModel,
    Thresholds,
    UniformNegatives,
    UserTower,
)

NUM_OWN = 3
OWN = np.random.default_rng(5).integers(NUM_ITEMS, size=[NUM_USERS, NUM_OWN])
FEATURES = np.random.default_rng(6).uniform(0.1, 2, [NUM_ITEMS, 2]).astype("float32")


class MarginOfRow(RetrievalLoss):
    """Each row has a margin of its own, named here and nowhere else."""

    row_inputs = (RowInput("margin"),)

    def compare(self, row):
        return Channel(Softplus(), shift=row.inputs["margin"])

    def aggregate(self, totals, row):
        return ops.log1p(totals[0])


def similarity(rows, columns):
    return tf.nn.relu(rows["embedding"] @ tf.transpose(columns["embedding"])) + tf.cast(
        columns["id"] % 2 + 1, tf.float32
    )


def by_features(rows, columns):
    return rows["feature"] @ tf.transpose(columns["feature"])


def by_features_of_own(rows, columns):
    return tf.einsum("qf,qmf->qm", rows["feature"], columns["feature"])


def own_by_index(model, rows, **more):
    index = tf.gather(OWN, rows["user"])
    return Candidates(model.items(tf.range(NUM_ITEMS)), index, ids=index, **more)


def own_vectors(model, rows):
    """Mixtures of an item that was drawn with the positive: in no table."""
    drawn = model.items(tf.gather(OWN, rows["user"]))
    return {"own": Candidates(0.4 * drawn + 0.6 * model.items(rows["item"])[:, tf.newaxis])}


def own_and_weights(model, rows):
    weight = tf.gather(ITEM_WEIGHT, tf.gather(OWN, rows["user"]))
    return {
        "own": own_by_index(model, rows, weight=weight),
        "candidate_weight": tf.gather(ITEM_WEIGHT, rows["item"]),
    }


def functions_of_features(model, rows):
    return {
        "candidate_weight": by_features,
        "query_features": {"feature": tf.gather(FEATURES, rows["user"] % NUM_ITEMS)},
        "candidate_features": {"feature": tf.gather(FEATURES, rows["item"])},
        "own": own_by_index(
            model, rows, weight=by_features_of_own, features={"feature": tf.constant(FEATURES)}
        ),
    }


# The loss, the task's arguments, and a function from the model and rows to those of a call.
STEPS = {
    **{name: (make(), {}, lambda model, rows: {}) for name, (make, _) in LOSSES.items()},
    "input of rows": (
        MarginOfRow(),
        {},
        lambda model, rows: {"row_inputs": {"margin": rows["weight"] + 0.5}},
    ),
    "own by index": (
        CASES["lambda"][0](),
        {"num_hard_negatives": 4},
        lambda model, rows: {"own": own_by_index(model, rows)},
    ),
    "own alone": (
        CASES["mml"][0](),
        {},
        lambda model, rows: {"own": own_by_index(model, rows), "in_batch": False},
    ),
    "own vectors": (CASES["cro"][0](), {"memory_size": 10}, own_vectors),
    "own and weights": (CASES["scaled"][0](), {"remove_accidental_hits": True}, own_and_weights),
    "function with a memory": (
        CASES["cro"][0](),
        {"memory_size": 10, "remove_accidental_hits": True},
        lambda model, rows: {"candidate_weight": similarity},
    ),
    "functions of features": (CASES["cro"][0](), {}, functions_of_features),
    "features with a memory": (
        CASES["cro"][0](),
        {"memory_size": 10, "memory_features": {"feature": tf.TensorSpec([2])}},
        functions_of_features,
    ),
}


class Step(Model):
    def __init__(self, task, options):
        super().__init__(task, set())
        self.options = options

    def compute_loss(self, rows, training=False):
        return self.task(
            self.users(rows["user"]),
            self.items(rows["item"]),
            candidate_ids=rows["item"],
            training=training,
            **self.options(self, rows),
        )


def trained(strategy, loss, arguments, options):
    """Both tables after steps, and the losses of these."""
    model, losses = losses_of_steps(
        strategy, lambda: Step(Retrieval(loss=loss, **arguments), options)
    )
    return model.users.embeddings.numpy(), model.items.embeddings.numpy(), losses


def model_of(loss, negatives, **options):
    towers = UserTower(NUM_USERS, DIM), ItemTower(NUM_ITEMS, DIM)
    for tower, table in zip(towers, (USERS, ITEMS), strict=True):
        tower.embedding.embeddings_initializer = tf_keras.initializers.Constant(table)
    task = Retrieval(loss=loss, remove_accidental_hits=True)
    return RetrievalModel(*towers, NUM_ITEMS, task, negatives, **options)


MODELS = {
    "own draws": lambda: model_of(
        CROLoss(temperature=0.3),
        [
            InBatchNegatives(np.arange(1, 1 + NUM_ITEMS)),
            UniformNegatives(NUM_ITEMS, 4),
            OwnNegatives(PopularityNegatives(np.arange(1, 1 + NUM_ITEMS), 5)),
        ],
        weigh=True,
    ),
    "own draws alone": lambda: model_of(
        CROLoss(temperature=0.3), OwnNegatives(UniformNegatives(NUM_ITEMS, 5))
    ),
    "input of rows": lambda: model_of(MarginOfRow(), InBatchNegatives()),
    "thresholds": lambda: model_of(
        SoftmaxLossAtK(), InBatchNegatives(), thresholds=Thresholds(NUM_USERS, 3)
    ),
}


def fitted(strategy, make):
    """Both tables after a `fit`."""
    rows = {
        "query": {"user": ROWS["user"]},
        "item": ROWS["item"],
        "margin": ROWS["weight"],
    }
    data = tf.data.Dataset.from_tensor_slices(rows).batch(BATCHES[0])
    with strategy.scope():
        model = make()
        model.compile(optimizer=tf_keras.optimizers.SGD(RATE))
        queries = {"user": np.arange(NUM_USERS)}
        model.query_embeddings(queries), model.candidate_embeddings()
    if model.thresholds is not None:
        model.refresh_thresholds(queries)
    model.fit(data, epochs=2, verbose=0)
    return model.query_embeddings(queries), model.candidate_embeddings()


def main(num_replicas, kind):
    cpus = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(
        cpus[0], [tf.config.LogicalDeviceConfiguration()] * num_replicas
    )
    one = tf.distribute.get_strategy()
    several = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(num_replicas)])
    assert several.num_replicas_in_sync == num_replicas
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    if kind == "models":
        for name, make in MODELS.items():
            for found, expected in zip(fitted(several, make), fitted(one, make), strict=True):
                np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5, err_msg=name)
        return
    for name, case in STEPS.items():
        for found, expected in zip(trained(several, *case), trained(one, *case), strict=True):
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5, err_msg=name)
        assert np.abs(expected).max() > 0


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
