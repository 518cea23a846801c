"""Run by `test_replicas`: virtual devices have to be made before TensorFlow starts.

Steps of SGD with the task on as many virtual CPUs as the argument says, against the naive loops,
and a training against one without a strategy. In a process of their own, for strategies of several
sizes do not share the devices of one.
"""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import sys

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from tests.losses.losses import CASES
from tests.retrieval.naive import retrieval_loss
from tfrs_croloss import CROLoss
from tfrs_croloss.losses import engine
from tfrs_croloss.retrieval import (
    InBatchNegatives,
    ItemTower,
    Retrieval,
    RetrievalModel,
    UniformNegatives,
    UserTower,
)

NUM_USERS, NUM_ITEMS, DIM, RATE = 10, 9, 4, 0.2
# On four: two each, an uneven tail 2 + 2 + 2 + 1, and one without rows 1 + 1 + 1 + 0.
BATCHES = (8, 7, 3)
RNG = np.random.default_rng(0)
USERS, ITEMS = (RNG.normal(size=[n, DIM]).astype("float32") / 2 for n in (NUM_USERS, NUM_ITEMS))
ROWS = {
    "user": RNG.integers(NUM_USERS, size=sum(BATCHES)),
    "item": RNG.integers(NUM_ITEMS, size=sum(BATCHES)),
    "known": RNG.integers(-1, NUM_ITEMS, size=[sum(BATCHES), 2]),
    "weight": RNG.uniform(size=sum(BATCHES)).astype("float32"),
}
EXTRA = np.array([2, 7, 4])
ITEM_WEIGHT = (RNG.uniform(0.5, 3, NUM_ITEMS) * (np.arange(NUM_ITEMS) != 3)).astype("float32")
PROBABILITY = RNG.uniform(0.01, 1, NUM_ITEMS).astype("float32")
SIZE = 10
MEAN = "sum_over_batch_size"

# The loss, its reduction, and what is on.
STEPS = [
    ("lambda", "sum", {"row weights", "hits", "weights", "sampling", "hard"}),
    ("cro", "mean_with_sample_weight", {"row weights", "strings", "known"}),
    ("scaled", MEAN, {"row weights", "hits", "weights", "sampling", "memory", "extras"}),
    ("mml", "sum", {"hits", "known", "memory", "extras", "alone"}),
    ("mml", MEAN, {"row weights", "hits", "extras", "apart"}),
]


class Model(tfrs.Model):
    def __init__(self, task, on):
        super().__init__()
        self.users, self.items = (
            tf_keras.layers.Embedding(
                len(x), DIM, embeddings_initializer=tf_keras.initializers.Constant(x)
            )
            for x in (USERS, ITEMS)
        )
        self.task = task
        self.on = on

    def compute_loss(self, rows, training=False):
        items = rows["item"]
        if "extras" in self.on:
            items = tf.concat([items, EXTRA], axis=0)
        name = tf.as_string if "strings" in self.on else tf.identity
        return self.task(
            self.users(rows["user"]),
            self.items(items),
            sample_weight=rows["weight"] if "row weights" in self.on else None,
            candidate_sampling_probability=(
                tf.gather(PROBABILITY, items) if "sampling" in self.on else None
            ),
            candidate_ids=name(items),
            candidate_weight=tf.gather(ITEM_WEIGHT, items) if "weights" in self.on else None,
            known_positive_ids=name(rows["known"]) if "known" in self.on else None,
            in_batch="alone" not in self.on,
            training=training,
        )


def task_of(name, reduction, on, metrics=()):
    return Retrieval(
        loss=CASES[name][0](reduction=reduction),
        remove_accidental_hits=bool(on & {"hits", "strings"}),
        num_hard_negatives=3 if "hard" in on else None,
        memory_size=SIZE if "memory" in on else 0,
        cross_replica="apart" not in on,
        loss_metrics=metrics,
    )


def batches_of(rows):
    ends = np.cumsum(BATCHES)
    for start, end in zip(ends - BATCHES, ends, strict=True):
        yield {name: x[start:end] for name, x in rows.items()}


def expected(name, reduction, on, num_replicas):
    """Both tables after the steps, the losses of the steps, and the items of the memory."""
    users, items = USERS.astype("float64"), ITEMS.astype("float64")
    held, held_ids, losses = np.zeros([0, DIM]), np.zeros(0, int), []
    for batch in batches_of(ROWS):
        row_weights = batch["weight"] if "row weights" in on else np.ones(len(batch["item"]))
        divisor = {
            MEAN: len(batch["item"]),
            "mean_with_sample_weight": row_weights.sum(dtype="float64"),
        }.get(reduction, 1)
        parts = num_replicas if "apart" in on else 1
        total, by_user, by_item = 0.0, np.zeros_like(users), np.zeros_like(items)
        for part in np.array_split(np.arange(len(batch["item"])), parts):
            some = {name: x[part] for name, x in batch.items()}
            given = np.concatenate([some["item"], EXTRA if "extras" in on else EXTRA[:0]])
            ids = np.concatenate([given, held_ids])
            values, by_query, by_candidate = retrieval_loss(
                CASES[name][1],
                users[some["user"]],
                np.concatenate([items[given], held]),
                ids=ids if on & {"hits", "strings", "known"} else None,
                known=some["known"] if "known" in on else None,
                weights=ITEM_WEIGHT[ids] if "weights" in on else None,
                probability=PROBABILITY[ids] if "sampling" in on else None,
                num_hard_negatives=3 if "hard" in on else None,
                in_batch="alone" not in on,
                row_weights=row_weights[part],
            )
            total += values.sum() / divisor
            np.add.at(by_user, some["user"], by_query / divisor)
            np.add.at(by_item, given, by_candidate[: len(given)] / divisor)
        losses.append(total)
        if "memory" in on:
            held = np.concatenate([items[batch["item"]], held])[:SIZE]
            held_ids = np.concatenate([batch["item"], held_ids])[:SIZE]
        users, items = users - RATE * by_user, items - RATE * by_item
    return users, items, losses, held, held_ids


def part_of(rows):
    """The rows of this replica: as many as of the others, or one more on the first ones."""
    context = tf.distribute.get_replica_context()
    i, count = context.replica_id_in_sync_group, context.num_replicas_in_sync
    total = tf.shape(rows["item"])[0]
    start, end = (k * (total // count) + tf.minimum(k, total % count) for k in (i, i + 1))
    return {name: x[start:end] for name, x in rows.items()}


SIGNATURE = {name: tf.TensorSpec([None, *x.shape[1:]], x.dtype) for name, x in ROWS.items()}


def losses_of_steps(strategy, make):
    """The model that `make` gives after steps of SGD on all batches, and the losses of these."""
    with strategy.scope():
        model = make()
        optimizer = tf_keras.optimizers.SGD(RATE)
        model.users(0), model.items(0)
        optimizer.build(model.trainable_variables)

    @tf.function(input_signature=[SIGNATURE])
    def step(rows):
        def on_replica(rows):
            with tf.GradientTape() as tape:
                loss = model.compute_loss(part_of(rows), training=True)
            optimizer.minimize(loss, model.trainable_variables, tape)
            return loss

        return strategy.run(on_replica, (rows,))

    shares = [strategy.experimental_local_results(step(batch)) for batch in batches_of(ROWS)]
    return model, [sum(x.numpy() for x in y) for y in shares]


def check_steps(strategy, name, reduction, on):
    def make():
        return Model(task_of(name, reduction, on, [tf_keras.metrics.Mean()]), on)

    model, found = losses_of_steps(strategy, make)
    users, items, losses, held, held_ids = expected(
        name, reduction, on, strategy.num_replicas_in_sync
    )
    np.testing.assert_allclose(found, losses, rtol=1e-5)
    (metric,) = model.task.loss_metrics
    np.testing.assert_allclose(metric.result(), np.mean(losses), rtol=1e-5)
    np.testing.assert_allclose(model.users.embeddings, users, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(model.items.embeddings, items, rtol=1e-5, atol=1e-5)
    if "memory" in on:
        columns = model.task.memory.columns
        np.testing.assert_allclose(columns["embedding"], held, rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(columns["id"], held_ids)
        if "weights" in on:
            np.testing.assert_allclose(columns["weight"], ITEM_WEIGHT[held_ids])
            np.testing.assert_allclose(columns["probability"], PROBABILITY[held_ids])
        assert model.task.memory.filled.numpy() == SIZE


def check_rows(strategy):
    """Where nothing is reduced, each replica has the losses of its rows."""
    on = {"row weights", "extras"}
    with strategy.scope():
        model = Model(task_of("cro", None, on), on)
    step = tf.function(
        lambda rows: strategy.run(lambda: model.compute_loss(part_of(rows))),
        input_signature=[SIGNATURE],
    )
    for batch in batches_of(ROWS):
        given = np.concatenate([batch["item"], EXTRA])
        values, *_ = retrieval_loss(
            CASES["cro"][1],
            USERS[batch["user"]],
            ITEMS[given],
            row_weights=batch["weight"],
        )
        parts = strategy.experimental_local_results(step(batch))
        np.testing.assert_allclose(np.concatenate(parts), values, rtol=1e-5)


def check_errors(strategy):
    """The message of an error in a replica reaches the caller."""
    batch = next(batches_of(ROWS))
    foreign = tf_keras.losses.CategoricalCrossentropy(from_logits=True, reduction="sum")
    cases = {
        "`cross_replica=True` needs a RetrievalLoss.*CategoricalCrossentropy": {"loss": foreign},
        "`memory_size` must be 0 with `cross_replica=False` on several replicas.*Received: 3": {
            "memory_size": 3,
            "cross_replica": False,
        },
        r"`candidate_weight` must have shape \[num_candidates\], or be a function, where": {
            "candidate_weight": lambda items: tf.ones([tf.shape(items)[0]] * 2)
        },
        "`candidate_ids` must be integers or strings. Received: float32": {
            "remove_accidental_hits": True,
            "candidate_ids": lambda items: tf.cast(items, tf.float32),
        },
    }
    for message, options in cases.items():
        call = {name: f for name, f in options.items() if callable(f) and name != "loss"}
        with strategy.scope():
            task = Retrieval(**{n: x for n, x in options.items() if n not in call})

        @tf.function
        def step(rows, task=task, call=call):
            def loss(rows):
                rows = part_of(rows)
                users, items = tf.gather(USERS, rows["user"]), tf.gather(ITEMS, rows["item"])
                options = {name: f(rows["item"]) for name, f in call.items()}
                return task(users, items, training=True, **options)

            return strategy.run(loss, (rows,))

        with pytest.raises(ValueError, match=message):
            step(batch)


def low_rank(num_users=120, num_items=150, rank=4, likes=20):
    """Users' favourites under a model of low rank, and for each user four of them left out."""
    rng = np.random.default_rng(3)
    scores = rng.normal(size=[num_users, rank]) @ rng.normal(size=[rank, num_items])
    best = rng.permuted(np.argsort(-scores, axis=1)[:, :likes], axis=1)
    return best[:, 4:], best[:, :4], num_items


def recall(strategy):
    """Recall@20 of the favourites left out, after a training."""
    train, test, num_items = low_rank()
    users = np.repeat(np.arange(len(train)), train.shape[1])
    rows = {"query": {"user": users}, "item": train.ravel()}
    data = tf.data.Dataset.from_tensor_slices(rows).shuffle(len(users), seed=1)
    data = data.batch(251)  # Uneven on 2 and on 4, and so is the last, of 163.
    tf_keras.utils.set_random_seed(0)
    with strategy.scope():
        model = RetrievalModel(
            UserTower(len(train), 8),
            ItemTower(num_items, 8),
            num_items,
            Retrieval(loss=CROLoss(temperature=0.2), remove_accidental_hits=True, memory_size=100),
            [InBatchNegatives(), UniformNegatives(num_items, 16)],
        )
        model.compile(optimizer=tf_keras.optimizers.Adam(0.03))
        # Variables that are there already save tracing it all twice.
        model.query_embeddings({"user": np.zeros(1, int)}), model.candidate_embeddings()
        model.task.build([None, 8])
        model.optimizer.build(model.trainable_variables)
    model.fit(data, epochs=20, verbose=0)
    queries = model.query_embeddings({"user": np.arange(len(train))})
    scores = queries @ model.candidate_embeddings().T
    np.put_along_axis(scores, train, -np.inf, axis=1)
    top = np.argsort(-scores, axis=1)[:, :20]
    return np.mean(
        [np.isin(left_out, found).mean() for left_out, found in zip(test, top, strict=True)]
    )


def main(num_replicas):
    cpus = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(
        cpus[0], [tf.config.LogicalDeviceConfiguration()] * num_replicas
    )
    strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(num_replicas)])
    assert strategy.num_replicas_in_sync == num_replicas
    # Optimizing the graphs of four replicas takes longer than running them.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    # So does compiling, for each device and shape: on two is enough.
    compiled, engine.compiled = engine.compiled, lambda function, is_wanted: function
    for name, reduction, on in STEPS if num_replicas == 2 else STEPS[::2]:
        print(name, reduction, sorted(on), flush=True)
        check_steps(strategy, name, reduction, on)
    if num_replicas == 2:
        check_errors(strategy)
        engine.compiled = compiled
        check_steps(tf.distribute.get_strategy(), *STEPS[2])
        check_rows(strategy)
    recalls = [recall(one) for one in (tf.distribute.get_strategy(), strategy)]
    print(recalls, flush=True)
    assert recalls[0] > 0.5  # By chance it is 20 / 134.
    np.testing.assert_allclose(*recalls, atol=0.02)


if __name__ == "__main__":
    main(int(sys.argv[1]))
