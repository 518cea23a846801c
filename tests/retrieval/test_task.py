"""The task: TFRS's own in value, gradients and metrics, and what it takes beyond that."""

import collections
import itertools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from tests.losses.losses import CASES, each_loss, make_each_loss
from tests.losses.naive import cro_loss
from tests.retrieval.naive import retrieval_loss
from tfrs_croloss import CROLoss, MultiMarginLoss, SoftmaxLossAtK
from tfrs_croloss.losses import Candidates, Channel, Hinge, RetrievalLoss
from tfrs_croloss.retrieval import Retrieval

B, EXTRA, DIM = 8, 5, 4
ALL = B + EXTRA
RNG = np.random.default_rng(0)
# A temperature and log-Q take scores out of a cosine's range on purpose here.
pytestmark = pytest.mark.filterwarnings("ignore:.* takes cosines")


def unit(*shape, rng=RNG):
    x = rng.normal(size=shape)
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype("float32")


QUERIES, HEADS, CANDIDATES = unit(B, DIM), unit(B, 3, DIM), unit(ALL, DIM)
IDS = np.array([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9])
STRINGS = np.array([f"item {i}" for i in IDS])
PROBABILITY = RNG.uniform(0.01, 1, ALL).astype("float32")
WEIGHTS = RNG.uniform(size=B).astype("float32")
MASK = (RNG.uniform(size=[B, ALL]) < 0.8) | np.eye(B, ALL, dtype=bool)
# Some are absent.
CANDIDATE_WEIGHT = (RNG.uniform(0.5, 3, ALL) * (np.arange(ALL) % 6 != 4)).astype("float32")
# Of items that are not there, that are there twice, and padding.
KNOWN = np.array([[2, -1], [7, 5], [-1, -1], [9, 3], [1, 9], [77, 2], [3, 5], [8, -1]])
RAGGED = tf.ragged.constant([[k for k in row if k >= 0] for row in KNOWN.tolist()])

NEW = {  # Arguments of the task.
    "temperature": {"temperature": 0.7},
    "hard": {"num_hard_negatives": 4},
    "hits": {"remove_accidental_hits": True},
}
CALL = {  # Arguments of a call.
    "hits": {"candidate_ids": IDS},
    "strings": {"candidate_ids": STRINGS},
    "sampling": {"candidate_sampling_probability": PROBABILITY},
    "mask": {"score_mask": MASK},
    "weights": {"sample_weight": WEIGHTS},
}
SWITCHES = ["temperature", "hard", "hits", "sampling", "mask", "weights", "heads", "extras"]
SETS = [set(), {"strings", "extras"}, set(SWITCHES), {*SWITCHES, "strings"}]


def name_of(on):
    return "all" if len(on) == len(SWITCHES) else "+".join(sorted(on)) or "none"


each_switch = pytest.mark.parametrize("on", [*SETS, *({x} for x in SWITCHES)], ids=name_of)
each_pair = pytest.mark.parametrize(
    "on", [*SETS, *map(set, itertools.combinations(SWITCHES, 2))], ids=name_of
)


def options_of(on):
    """Arguments of the task, embeddings, and arguments of a call with these switches on."""
    new, call = {}, {"compute_metrics": False}
    for switch in sorted(on):  # "strings" after "hits"
        new |= NEW.get("hits" if switch == "strings" else switch, {})
        call |= CALL.get(switch, {})
    candidates = CANDIDATES
    if "extras" not in on:
        candidates = CANDIDATES[:B]
        call = {name: x[:B] if np.shape(x) == (ALL,) else x for name, x in call.items()}
        if "mask" in on:
            call["score_mask"] = MASK[:, :B]
    return new, (HEADS if "heads" in on else QUERIES, candidates), call


def value_and_gradients(task, queries, candidates, **options):
    queries, candidates = tf.convert_to_tensor(queries), tf.convert_to_tensor(candidates)
    with tf.GradientTape() as tape:
        tape.watch([queries, candidates])
        value = task(queries, candidates, **options)
    return [value, *tape.gradient(value, [queries, candidates])]


def assert_same(actual, expected, rtol=1e-5, atol=2e-5):
    """Values to `rtol`; gradients, which are differences, to an `atol` too."""
    assert len(actual) == len(expected) == 3
    np.testing.assert_allclose(actual[0], expected[0], rtol=rtol, atol=1e-6)
    for x, y in zip(actual[1:], expected[1:], strict=True):
        assert np.abs(y).max() > 1e-3
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=atol)


# Drop-in.


@each_pair
@pytest.mark.parametrize("name", ["cro", "lambda", "mml"])
def test_it_equals_the_task_of_tfrs_with_the_same_loss(name, on):
    make, _ = CASES[name]
    new, embeddings, call = options_of(on)
    actual = value_and_gradients(Retrieval(loss=make(), **new), *embeddings, **call)
    theirs = tfrs.tasks.Retrieval(loss=make(), **new)
    assert_same(actual, value_and_gradients(theirs, *embeddings, **call))


@each_pair
def test_its_default_is_the_default_of_tfrs(on):
    new, embeddings, call = options_of(on)
    actual = value_and_gradients(Retrieval(**new), *embeddings, **call)
    assert_same(actual, value_and_gradients(tfrs.tasks.Retrieval(**new), *embeddings, **call))


@pytest.mark.parametrize(
    ("loss", "block_size"),
    [
        (None, 3),
        (CROLoss(temperature=0.2), None),
        (MultiMarginLoss((0.0, 0.4), (1.0, 2.0), reduction="mean"), "auto"),
    ],
    ids=["softmax", "cro", "mml"],
)
def test_in_a_graph_of_unknown_batch_size(loss, block_size):
    new, (queries, candidates), call = options_of(set(SWITCHES))
    task, theirs = (
        cls(loss=loss, **new, **options)
        for cls, options in ((Retrieval, {"block_size": block_size}), (tfrs.tasks.Retrieval, {}))
    )
    arguments = {
        "queries": queries,
        "candidates": candidates,
        **{name: x for name, x in call.items() if name != "compute_metrics"},
    }

    specs = {name: tf.TensorSpec([None] * x.ndim, x.dtype) for name, x in arguments.items()}
    specs |= {"queries": tf.TensorSpec([None, 3, DIM]), "candidates": tf.TensorSpec([None, DIM])}

    @tf.function(input_signature=[specs])
    def graph(arguments):
        return value_and_gradients(task, **arguments, compute_metrics=False)

    for rows in (slice(None), slice(1, 6)):
        columns = np.r_[np.arange(B)[rows], np.arange(B, ALL)]
        some = {name: x[rows] if len(x) == B else x[columns] for name, x in arguments.items()}
        some["score_mask"] = some["score_mask"][:, columns]
        assert_same(graph(some), value_and_gradients(theirs, **some, compute_metrics=False))


@pytest.mark.parametrize(
    "reduction", ["sum", "sum_over_batch_size", "mean", "mean_with_sample_weight", "none", None]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@each_loss
def test_reductions(make, naive_loss, dtype, reduction):
    loss = make(reduction=reduction, dtype=dtype)
    call = {"sample_weight": WEIGHTS, "compute_metrics": False}
    actual = value_and_gradients(Retrieval(loss=loss), QUERIES, CANDIDATES, **call)
    values, by_query, _ = retrieval_loss(naive_loss, QUERIES, CANDIDATES, row_weights=WEIGHTS)
    divisor = {
        "sum_over_batch_size": B,
        "mean": B,
        "mean_with_sample_weight": WEIGHTS.sum(dtype="float64"),
    }.get(reduction, 1)
    values = values if reduction in ("none", None) else values.sum() / divisor
    assert actual[0].dtype == dtype
    np.testing.assert_allclose(actual[0], values, rtol=1e-5)
    np.testing.assert_allclose(actual[1], by_query / divisor, rtol=1e-4, atol=2e-5)
    theirs = tfrs.tasks.Retrieval(loss=loss)
    assert_same(actual, value_and_gradients(theirs, QUERIES, CANDIDATES, **call))


# Metrics.


def batch_metrics():
    return [
        tf_keras.metrics.CategoricalAccuracy(),
        tf_keras.metrics.TopKCategoricalAccuracy(k=3),
        tf_keras.metrics.CategoricalCrossentropy(from_logits=True),
    ]


@each_switch
def test_batch_metrics_are_those_of_tfrs(on):
    new, embeddings, call = options_of(on)
    ours, theirs = batch_metrics(), batch_metrics()
    task = Retrieval(batch_metrics=ours, block_size=3, **new)
    task(*embeddings, **call)
    tfrs.tasks.Retrieval(batch_metrics=theirs, **new)(*embeddings, **call)
    results = [float(metric.result()) for metric in ours]
    assert len(set(results)) > 1
    np.testing.assert_allclose(results, [float(m.result()) for m in theirs], rtol=1e-5)
    task(*embeddings, compute_batch_metrics=False, **call)
    assert [float(metric.result()) for metric in ours] == results


def test_batch_metrics_in_a_graph_over_several_batches():
    new, (queries, candidates), call = options_of(set(SWITCHES))
    ours, theirs = batch_metrics(), batch_metrics()
    task = Retrieval(batch_metrics=ours, block_size=3, **new)
    theirs_task = tfrs.tasks.Retrieval(batch_metrics=theirs, **new)
    spec = [tf.TensorSpec([None, 3, DIM]), tf.TensorSpec([None, DIM])]
    graph = tf.function(lambda q, c: task(q, c, **call), input_signature=spec)
    for sign in (1, -1):
        graph(sign * queries, candidates)
        theirs_task(sign * queries, candidates, **call)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one.result(), other.result(), rtol=1e-5)


@pytest.mark.parametrize("known", [KNOWN, RAGGED], ids=["matrix", "ragged"])
@pytest.mark.parametrize("in_batch", [True, False])
def test_batch_metrics_of_what_tfrs_does_not_know(in_batch, known):
    """The share of rows whose positive is above all its negatives, by hand."""
    metric = tf_keras.metrics.CategoricalAccuracy()
    Retrieval(batch_metrics=[metric], block_size=3)(
        QUERIES,
        CANDIDATES,
        candidate_ids=IDS,
        known_positive_ids=known,
        in_batch=in_batch,
        sample_weight=WEIGHTS,
    )
    scores = QUERIES.astype("float64") @ CANDIDATES.T
    right = []
    for i in range(B):
        negatives = [
            scores[i, j]
            for j in range(0 if in_batch else B, ALL)
            if j != i and IDS[j] != IDS[i] and IDS[j] not in KNOWN[i]
        ]
        right.append(scores[i, i] > max(negatives))
    assert 0 < sum(right) < B
    np.testing.assert_allclose(metric.result(), WEIGHTS @ right / WEIGHTS.sum(), rtol=1e-6)


@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_loss_metrics(reduction):
    metric = tf_keras.metrics.Mean()
    task = Retrieval(loss=CROLoss(reduction=reduction), loss_metrics=[metric])
    losses = [task(sign * QUERIES, CANDIDATES).numpy() for sign in (1, -1)]
    np.testing.assert_allclose(metric.result(), np.mean(losses), rtol=1e-6)


@pytest.mark.parametrize("with_ids", [False, True])
def test_factorized_metrics(with_ids):
    """The share of queries whose own item is among the best k of a catalogue, by hand."""
    catalogue = unit(20, DIM)
    own = np.arange(B) * 2
    metrics = tfrs.metrics.FactorizedTopK(
        tf.data.Dataset.from_tensor_slices((np.arange(20), catalogue)).batch(6), ks=(1, 5)
    )
    task = Retrieval(metrics=metrics, remove_accidental_hits=with_ids)
    given = np.concatenate([catalogue[own], CANDIDATES[:EXTRA]])
    ids = np.concatenate([own, np.arange(EXTRA) + 100]) if with_ids else None
    task(QUERIES, given, candidate_ids=ids, compute_metrics=False)
    assert [float(metric.result()) for metric in metrics.metrics] == [0, 0]
    task(QUERIES, given, candidate_ids=ids)
    scores = QUERIES @ catalogue.T
    above = (scores > scores[np.arange(B), own][:, None]).sum(axis=1)
    assert 0 < (above < 5).sum() < B
    expected = [(above < k).mean() for k in (1, 5)]
    np.testing.assert_allclose([metric.result() for metric in metrics.metrics], expected)


# Policies of half precision.


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
@pytest.mark.parametrize("on", [{"extras"}, {"hits"}, {"hard"}, set(SWITCHES)], ids=name_of)
def test_mixed_policies(half, on):
    """All options, accidental hits and hard negatives too, where TFRS's own task fails."""
    new, embeddings, call = options_of(on)
    embeddings = [tf.cast(x, half) for x in embeddings]
    exact = [tf.cast(x, tf.float32) for x in embeddings]
    theirs = batch_metrics()
    expected = value_and_gradients(
        tfrs.tasks.Retrieval(batch_metrics=theirs, **new), *exact, **call
    )
    tf_keras.mixed_precision.set_global_policy(f"mixed_{half}")
    try:
        ours = batch_metrics()
        actual = value_and_gradients(Retrieval(batch_metrics=ours, **new), *embeddings, **call)
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")
    assert [x.dtype.name for x in actual] == ["float32", half, half]
    np.testing.assert_allclose(actual[0], expected[0], rtol=1e-5)
    for x, y in zip(actual[1:], expected[1:], strict=True):
        np.testing.assert_allclose(tf.cast(x, tf.float32), y, rtol=1e-2, atol=1e-2)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one.result(), other.result(), rtol=1e-5)


# Beyond TFRS.

BEYOND = {
    "known positives": {"known": KNOWN},
    "weights": {"weights": CANDIDATE_WEIGHT},
    "weights of rows": {"weights": np.outer(WEIGHTS + 0.1, CANDIDATE_WEIGHT)},
    "other candidates": {"in_batch": False},
    "all": {"known": KNOWN, "weights": CANDIDATE_WEIGHT, "in_batch": False, "mask": MASK},
}


@pytest.mark.parametrize("num_hard_negatives", [None, 3])
@pytest.mark.parametrize("name", BEYOND)
@each_loss
def test_what_tfrs_does_not_know(make, naive_loss, name, num_hard_negatives):
    options = {"ids": IDS, "num_hard_negatives": num_hard_negatives, "row_weights": WEIGHTS}
    options |= {"temperature": 0.7, "probability": PROBABILITY, **BEYOND[name]}
    values, *gradients = retrieval_loss(naive_loss, QUERIES, CANDIDATES, **options)
    task = Retrieval(
        loss=make(),
        temperature=0.7,
        num_hard_negatives=num_hard_negatives,
        remove_accidental_hits=True,
        block_size=3,
    )
    actual = value_and_gradients(
        task,
        QUERIES,
        CANDIDATES,
        candidate_ids=IDS,
        known_positive_ids=options.get("known"),
        candidate_weight=options.get("weights"),
        candidate_sampling_probability=PROBABILITY,
        score_mask=options.get("mask"),
        in_batch=options.get("in_batch", True),
        sample_weight=WEIGHTS,
    )
    assert_same(actual, [values.sum(), *gradients])


def test_strings_are_known_positives_too():
    task = Retrieval()
    known = np.where(KNOWN == -1, "", np.char.add("item ", KNOWN.astype(str)))
    by_integer = task(QUERIES, CANDIDATES, candidate_ids=IDS, known_positive_ids=KNOWN)
    by_string = task(QUERIES, CANDIDATES, candidate_ids=STRINGS, known_positive_ids=known)
    assert float(by_integer) == float(by_string) < 0.99 * float(task(QUERIES, CANDIDATES))
    ragged = tf.strings.join(["item ", tf.strings.as_string(RAGGED)])
    by_ragged = task(QUERIES, CANDIDATES, candidate_ids=STRINGS, known_positive_ids=ragged)
    assert float(by_ragged) == float(by_string)


@pytest.mark.parametrize("autograph", [True, False], ids=["autograph", "no autograph"])
@pytest.mark.parametrize("known", [RAGGED, RAGGED[:, :0]], ids=["some", "none"])
def test_known_positives_may_be_ragged(known, autograph):
    task = Retrieval(loss=CROLoss(alpha=1.3))
    call = tf.function(
        lambda known: task(QUERIES, CANDIDATES, candidate_ids=IDS, known_positive_ids=known),
        input_signature=[tf.RaggedTensorSpec([None, None], known.dtype)],
        autograph=autograph,
    )
    matrix = known.to_tensor(-1).numpy()
    expected = task(QUERIES, CANDIDATES, candidate_ids=IDS, known_positive_ids=matrix)
    np.testing.assert_allclose(call(known), expected, rtol=1e-6)


@pytest.mark.parametrize("in_batch", [True, False])
@pytest.mark.parametrize("shape", [[B], [B, 1]])
def test_a_masked_positive_has_no_loss_but_its_weight(in_batch, shape):
    mask = np.ones([B, ALL], dtype=bool)
    mask[[1, 4], [1, 4]] = False
    task = Retrieval(loss=CROLoss(reduction="mean_with_sample_weight"))
    actual = task(
        QUERIES,
        CANDIDATES,
        score_mask=mask,
        in_batch=in_batch,
        sample_weight=WEIGHTS.reshape(shape),
    )
    values, *_ = retrieval_loss(
        lambda *args, **kwargs: cro_loss(*args, "softplus", **kwargs),
        QUERIES,
        CANDIDATES,
        mask=mask,
        in_batch=in_batch,
        row_weights=WEIGHTS,
    )
    assert values[1] == values[4] == 0
    np.testing.assert_allclose(actual, values.sum() / WEIGHTS.sum(dtype="float64"), rtol=1e-5)


# The memory.

SIZE = 12
STEPS = (5, 8, 15, 1)  # The memory is empty, then not full, then smaller than the batch.


def memory_steps(seed=7):
    rng = np.random.default_rng(seed)
    for num_rows in STEPS:
        yield {
            "queries": unit(num_rows, DIM, rng=rng),
            "candidates": unit(num_rows + 2, DIM, rng=rng),
            "ids": rng.integers(20, size=num_rows + 2),
            "weights": rng.uniform(0.5, 3, num_rows + 2).astype("float32"),
            "probability": rng.uniform(0.01, 1, num_rows + 2).astype("float32"),
            "mask": (rng.uniform(size=[num_rows, num_rows + 2]) < 0.8)
            | np.eye(num_rows, num_rows + 2, dtype=bool),
        }


@pytest.mark.parametrize(
    ("name", "on"),
    [
        ("lambda", set()),
        ("mml", {"hits"}),
        ("cro", {"weights"}),
        ("scaled", {"hits", "weights", "sampling", "mask", "hard"}),
        ("mml", {"hits", "weights", "sampling", "mask", "hard", "alone"}),
        ("lambda", {"hits", "weights", "sampling", "mask", "hard", "alone", "graph"}),
    ],
)
def test_memory_is_a_queue_the_newest_first(name, on):
    make, naive_loss = CASES[name]
    task = Retrieval(
        loss=make(),
        memory_size=SIZE,
        remove_accidental_hits="hits" in on,
        num_hard_negatives=3 if "hard" in on else None,
    )
    in_batch = "alone" not in on

    def call(queries, candidates, ids, weights, probability, mask):
        return value_and_gradients(
            task,
            queries,
            candidates,
            candidate_ids=ids,
            candidate_weight=weights if "weights" in on else None,
            candidate_sampling_probability=probability if "sampling" in on else None,
            score_mask=mask if "mask" in on else None,
            in_batch=in_batch,
            training=True,
        )

    run = tf.function(call, reduce_retracing=True) if "graph" in on else call
    queue = collections.deque(maxlen=SIZE)
    for step in memory_steps():
        num_rows, num_given = len(step["queries"]), len(step["candidates"])
        # What is known of each candidate: of those given, then of the queue's.
        of_given = [
            {name: step[name][j] for name in ("candidates", "ids", "weights", "probability")}
            for j in range(num_given)
        ]
        of_all = {name: np.array([x[name] for x in [*of_given, *queue]]) for name in of_given[0]}
        mask = np.ones([num_rows, num_given + len(queue)], dtype=bool)
        mask[:, :num_given] = step["mask"]
        values, by_query, by_candidate = retrieval_loss(
            naive_loss,
            step["queries"],
            of_all["candidates"],
            ids=of_all["ids"] if "hits" in on else None,
            weights=of_all["weights"] if "weights" in on else None,
            probability=of_all["probability"] if "sampling" in on else None,
            mask=mask if "mask" in on else None,
            num_hard_negatives=3 if "hard" in on else None,
            in_batch=in_batch,
        )
        actual = run(**{name: tf.constant(x) for name, x in step.items()})
        assert_same(actual, [values.sum(), by_query, by_candidate[:num_given]])
        queue.extendleft(reversed(of_given[:num_rows]))
        held = np.zeros([SIZE, DIM])
        held[: len(queue)] = [x["candidates"] for x in queue]
        np.testing.assert_allclose(task.memory.columns["embedding"], held)
        assert int(task.memory.filled) == len(queue)


def test_memory_stands_still_outside_of_training_and_has_no_gradient():
    task = Retrieval(memory_size=SIZE)
    empty = task(QUERIES, CANDIDATES, training=False)
    np.testing.assert_allclose(empty, Retrieval()(QUERIES, CANDIDATES), rtol=1e-6)
    task(QUERIES, CANDIDATES, training=True)
    assert task.trainable_variables == []
    held = task.memory.columns["embedding"].numpy()
    with tf.GradientTape() as tape:
        tape.watch(task.memory.columns["embedding"])
        full = task(-QUERIES, CANDIDATES, training=False)
    assert tape.gradient(full, task.memory.columns["embedding"]) is None
    np.testing.assert_array_equal(task.memory.columns["embedding"], held)
    assert float(full) > float(Retrieval()(-QUERIES, CANDIDATES))


SPECS = {"price": tf.TensorSpec([]), "tags": tf.TensorSpec([3], tf.int32)}


def similarity(rows, columns):
    """Of a price, which the embeddings and the ids do not tell, and of tags."""
    of_tags = tf.cast(rows["tags"] @ tf.transpose(columns["tags"]), tf.float32)
    return of_tags / columns["price"] + tf.cast(columns["id"], tf.float32)


@pytest.mark.parametrize("in_a_graph", [False, True])
def test_memory_holds_features_for_functions_of_weights(in_a_graph, tmp_path):
    """As if what it holds were extra candidates of the step, with their features."""
    task = Retrieval(memory_size=SIZE, memory_features=SPECS)
    again = Retrieval.from_config(task.get_config())
    assert again.memory.feature_specs == SPECS
    plain = Retrieval()
    rng = np.random.default_rng(3)
    call = tf.function(task, reduce_retracing=True) if in_a_graph else task
    held = {
        "embedding": np.zeros([0, DIM], "float32"),
        "id": np.zeros([0], int),
        "price": np.zeros([0], "float32"),
        "tags": np.zeros([0, 3], "int32"),
    }
    for num_rows in STEPS:
        new = {
            "embedding": unit(num_rows + 2, DIM, rng=rng),
            "id": rng.integers(20, size=num_rows + 2),
            "price": rng.uniform(0.5, 3, num_rows + 2).astype("float32"),
            "tags": rng.integers(1, 5, size=[num_rows + 2, 3]).astype("int32"),
        }
        queries = unit(num_rows, DIM, rng=rng)
        options = {
            "candidate_weight": similarity,
            "query_features": {"tags": tf.constant(new["tags"][:num_rows])},
        }

        def of(candidates):
            # In another order than that of the specs.
            features = {n: tf.constant(candidates[n]) for n in reversed(SPECS)}
            return {
                "candidate_embeddings": tf.constant(candidates["embedding"]),
                "candidate_ids": tf.constant(candidates["id"]),
                "candidate_features": collections.OrderedDict(features),
            }

        expected = plain(
            queries, **of({n: np.concatenate([new[n], held[n]]) for n in held}), **options
        )
        actual = call(tf.constant(queries), **of(new), training=True, **options)
        np.testing.assert_allclose(actual, expected, rtol=1e-5)
        held = {n: np.concatenate([new[n][:num_rows], held[n]])[:SIZE] for n in held}
    path = tf.train.Checkpoint(task=task).write(str(tmp_path / "task"))
    status = tf.train.Checkpoint(task=again).read(path)
    again.build([None, DIM])
    status.assert_consumed()
    for name in SPECS:
        np.testing.assert_array_equal(again.memory.columns[f"feature_{name}"], held[name])


@pytest.mark.parametrize("is_called_before", [False, True])
@pytest.mark.parametrize("in_a_graph", [False, True])
def test_memory_is_in_a_checkpoint(tmp_path, is_called_before, in_a_graph):
    options = {"memory_size": SIZE, "remove_accidental_hits": True}
    call = {"candidate_ids": IDS, "candidate_weight": CANDIDATE_WEIGHT + 1, "training": True}
    task, again = Retrieval(**options), Retrieval(**options)
    task(QUERIES, CANDIDATES, **call)
    path = tf.train.Checkpoint(task=task).write(str(tmp_path / "task"))
    if is_called_before:
        again(-QUERIES, -CANDIDATES, **call)
    status = tf.train.Checkpoint(task=again).read(path)
    call_again = tf.function(again) if in_a_graph else again
    for _ in range(2):
        expected = task(QUERIES, CANDIDATES, **call)
        np.testing.assert_allclose(call_again(QUERIES, CANDIDATES, **call), expected, rtol=1e-6)
    status.assert_consumed()
    for name, column in task.memory.columns.items():
        np.testing.assert_array_equal(again.memory.columns[name], column)


class Model(tfrs.Model):
    def __init__(self, task, num_rows=B):
        super().__init__()
        self.queries, self.candidates = (
            tf_keras.layers.Embedding(num_rows, DIM, embeddings_initializer=constant(x))
            for x in (QUERIES, CANDIDATES[:B])
        )
        self.task = task

    def compute_loss(self, rows, training=False):
        return self.task(
            self.queries(rows),
            self.candidates(rows),
            candidate_ids=rows,
            compute_metrics=not training,
            training=training,
        )


def constant(x):
    return tf_keras.initializers.Constant(x)


def test_in_fit():
    """Two steps of SGD by hand; the memory of the second holds the batch of the first."""
    make, naive_loss = CASES["lambda"]
    mean = tf_keras.metrics.Mean(name="loss_of_the_task")
    task = Retrieval(
        loss=make(), loss_metrics=[mean], remove_accidental_hits=True, memory_size=SIZE
    )
    model = Model(task)
    model.compile(optimizer=tf_keras.optimizers.SGD(0.1))
    rows = np.array([0, 3, 5, 7, 1, 2, 3])
    history = model.fit(tf.data.Dataset.from_tensor_slices(rows).batch(4), verbose=0)

    queries, candidates = (x.astype("float64") for x in (QUERIES, CANDIDATES[:B]))
    held, held_ids, totals = np.zeros([0, DIM]), np.zeros(0), []
    for batch in (rows[:4], rows[4:]):
        positives = candidates[batch]
        values, by_query, by_candidate = retrieval_loss(
            naive_loss,
            queries[batch],
            np.concatenate([positives, held]),
            ids=np.concatenate([batch, held_ids]),
        )
        totals.append(values.sum())
        queries[batch] -= 0.1 * by_query
        held, held_ids = positives, batch
        candidates[batch] -= 0.1 * by_candidate[: len(batch)]
    np.testing.assert_allclose(model.queries.embeddings, queries, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model.candidates.embeddings, candidates, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(history.history["loss_of_the_task"], np.mean(totals), rtol=1e-5)
    # Evaluation leaves the memory as it is.
    before = task.memory.columns["embedding"].numpy()
    model.evaluate(tf.data.Dataset.from_tensor_slices(rows).batch(4), verbose=0)
    np.testing.assert_array_equal(task.memory.columns["embedding"], before)


# Losses that are not ours.


def test_a_foreign_loss_is_that_of_tfrs():
    new, embeddings, call = options_of(set(SWITCHES))
    results = []
    for cls in (Retrieval, tfrs.tasks.Retrieval):
        loss = tf_keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=0.1, reduction="sum"
        )
        metrics = [*batch_metrics(), tf_keras.metrics.Mean()]
        task = cls(loss=loss, batch_metrics=metrics[:-1], loss_metrics=metrics[-1:], **new)
        found = value_and_gradients(task, *embeddings, **call)
        results.append((found, [float(metric.result()) for metric in metrics]))
    assert_same(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]


# Configs.


@keras.saving.register_keras_serializable(package="tests.retrieval")
class Triplet(RetrievalLoss):
    def compare(self, row):
        return Channel(Hinge(0.5))

    def aggregate(self, totals, row):
        return totals[0]


def check_round_trip(loss):
    task = Retrieval(
        loss=loss,
        batch_metrics=[tf_keras.metrics.TopKCategoricalAccuracy(k=3)],
        loss_metrics=[tf_keras.metrics.Mean(name="mean")],
        temperature=0.7,
        num_hard_negatives=4,
        remove_accidental_hits=True,
        name="mine",
        block_size=3,
        cross_replica=False,
        memory_size=SIZE if isinstance(loss, RetrievalLoss) else 0,
    )
    config = json.loads(json.dumps(tf_keras.layers.serialize(task)))
    again = tf_keras.layers.deserialize(config)
    assert type(again) is Retrieval
    assert again.get_config() == task.get_config()
    assert (again.name, again.block_size, again.cross_replica) == ("mine", 3, False)
    for _ in range(2):  # The second call sees the memory.
        values = [
            float(x(QUERIES, CANDIDATES, candidate_ids=IDS, training=True)) for x in (task, again)
        ]
        assert values[0] == values[1] > 0
    for name in ("batch_metrics", "loss_metrics"):
        (one,), (other,) = getattr(task, name), getattr(again, name)
        assert float(one.result()) == float(other.result()) > 0


@make_each_loss
def test_round_trip(make):
    check_round_trip(make(reduction="sum_over_batch_size", name="my_loss"))


@pytest.mark.parametrize(
    "loss",
    [
        None,
        Triplet(),
        tf_keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
    ],
    ids=["default", "own", "foreign"],
)
def test_round_trip_of_other_losses(loss):
    if loss is not None:
        check_round_trip(loss)
    else:
        again = Retrieval.from_config(json.loads(json.dumps(Retrieval().get_config())))
        theirs = tfrs.tasks.Retrieval()(QUERIES, CANDIDATES)
        np.testing.assert_allclose(again(QUERIES, CANDIDATES), theirs, rtol=1e-5)


# Losses that are no `RetrievalLoss`.

FOREIGN = tf_keras.losses.CategoricalCrossentropy(from_logits=True, reduction="sum")


@pytest.mark.parametrize("in_a_graph", [False, True])
@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("mask", [None, "matrix", "one for all rows"])
def test_a_foreign_loss_without_in_batch_negatives(mask, heads, in_a_graph):
    """By a loop over what stands in a row: its positive and the extra candidates."""
    mask = {"matrix": MASK, "one for all rows": np.arange(ALL) != B + 1}.get(mask)
    queries = QUERIES if heads == 1 else HEADS
    scores = np.einsum("qhd,cd->qhc", queries.reshape(B, heads, DIM), CANDIDATES).max(axis=1)
    kept = np.broadcast_to(True if mask is None else mask, [B, ALL])
    expected = 0.0
    for i, row in enumerate(scores.astype("float64") / 0.7):
        others = [row[j] for j in range(B, ALL) if kept[i, j]]
        assert kept[i, i]
        assert others
        expected += np.log(sum(np.exp([row[i], *others]))) - row[i]
    metric = tf_keras.metrics.CategoricalCrossentropy(from_logits=True)
    task = Retrieval(loss=FOREIGN, temperature=0.7, batch_metrics=metric)
    call = tf.function(task) if in_a_graph else task
    actual = call(queries, CANDIDATES, in_batch=False, score_mask=mask)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)
    np.testing.assert_allclose(metric.result(), expected / B, rtol=1e-5)


@pytest.mark.parametrize("loss", [None, Triplet(), FOREIGN], ids=["default", "own", "foreign"])
def test_its_arguments_can_be_read(loss):
    new = {"temperature": 0.7, "num_hard_negatives": 4, "remove_accidental_hits": True}
    task = Retrieval(loss=loss, **new)
    assert {name: getattr(task, name) for name in new} == new
    assert task.loss is loss or (loss is None and isinstance(task.loss, CROLoss))
    assert (task.memory_size, task.cross_replica) == (0, True)


# Errors.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": "softmax"}, "`loss` must be a Keras loss, or None. Received: 'softmax'"),
        ({"loss": CROLoss}, r"`loss` must be a Keras loss, .*CROLoss'>. Make one: CROLoss\(\)"),
        ({"num_hard_negatives": 0}, "`num_hard_negatives` must be a positive integer. Received: 0"),
        ({"num_hard_negatives": -1}, "`num_hard_negatives` must be a positive integer"),
        ({"num_hard_negatives": 1.5}, "`num_hard_negatives` must be a positive integer"),
        ({"temperature": 0.0}, "`temperature` must be a positive number. Received: 0.0"),
        ({"block_size": 0}, "`block_size` must be a positive integer. Received: 0"),
        ({"block_size": "all"}, "`block_size` must be a positive integer. Received: 'all'"),
        ({"memory_features": SPECS}, "`memory_features` must be None without a memory"),
        (
            {"memory_size": 3, "memory_features": {"name": tf.TensorSpec([], tf.string)}},
            "`memory_features` must be a dict from names to a tf.TensorSpec of numbers of a known",
        ),
        (
            {"memory_size": 3, "memory_features": {"a/b": tf.TensorSpec([])}},
            "`memory_features` must be a dict .* Received: 'a/b': TensorSpec",
        ),
        (
            {"memory_size": 3, "memory_features": {"tags": tf.TensorSpec([None])}},
            "`memory_features` must be a dict from names to a tf.TensorSpec of numbers of a known",
        ),
        ({"memory_size": -3}, "`memory_size` must be a positive integer. Received: -3"),
        ({"memory_size": 3, "loss": FOREIGN}, "`memory_size` needs a RetrievalLoss: CROLoss"),
    ],
)
def test_wrong_arguments_of_the_task(options, message):
    with pytest.raises(ValueError, match=message):
        Retrieval(**options)


WRONG_CALLS = {
    "no ids": ({"remove_accidental_hits": True}, {}, "`candidate_ids` must be given with"),
    "no ids of known": ({}, {"known_positive_ids": KNOWN}, "`candidate_ids` must be given with"),
    "float ids": (
        {"remove_accidental_hits": True},
        {"candidate_ids": IDS / 2},
        "`candidate_ids` must be integers or strings. Received: float64",
    ),
    "float known": (
        {},
        {"candidate_ids": IDS, "known_positive_ids": KNOWN / 2},
        "`known_positive_ids` must be integers or strings. Received: float64",
    ),
    "few ids": (
        {"remove_accidental_hits": True},
        {"candidate_ids": IDS[:B]},
        r"`candidate_ids` must have shape \(13,\). Received: shape \(8,\)",
    ),
    "flat known": (
        {},
        {"candidate_ids": IDS, "known_positive_ids": KNOWN[:, 0]},
        r"`known_positive_ids` must have shape \(8, None\). Received: shape \(8,\)",
    ),
    "known in lists of their own lengths": (
        {},
        {"candidate_ids": IDS, "known_positive_ids": [[1], [2, 3], *[[4]] * (B - 2)]},
        r"`known_positive_ids` must make .* list .* make a tf.RaggedTensor: tf.ragged.constant",
    ),
    "few probabilities": (
        {},
        {"candidate_sampling_probability": PROBABILITY[:B]},
        r"`candidate_sampling_probability` must have one of the shapes .* Received: shape \(8,\)",
    ),
    "narrow mask": ({}, {"score_mask": MASK[:, :B]}, "`score_mask` must have one of the shapes"),
    "few weights": (
        {},
        {"candidate_weight": CANDIDATE_WEIGHT[:B]},
        "`candidate_weight` must have one of the shapes",
    ),
    "memory without training": ({"memory_size": 4}, {}, "`training` must be given to a task with"),
    "ids of two kinds": (
        {},
        {"candidate_ids": IDS, "known_positive_ids": KNOWN.astype("str")},
        "`candidate_ids` and `known_positive_ids` must both be integers or both strings",
    ),
    "matrix of weights with a memory": (
        {"memory_size": 4},
        {"candidate_weight": np.ones([B, ALL], "float32"), "training": True},
        r"`candidate_weight` must have shape \[num_candidates\], or be a func.*\(8, 13\)",
    ),
    "no negatives": (
        {},
        {"candidate_embeddings": CANDIDATES[:B], "in_batch": False},
        "`candidate_embeddings` must hold the positive of each query, and more with `in_batch=Fa",
    ),
    "foreign loss and no negatives": (
        {"loss": FOREIGN},
        {"candidate_embeddings": CANDIDATES[:B], "in_batch": False},
        "`candidate_embeddings` must hold the positive of each query, and more with `in_batch=Fa",
    ),
    "foreign loss and no positives": (
        {"loss": FOREIGN},
        {"candidate_embeddings": CANDIDATES[: B - 1]},
        "`candidate_embeddings` must hold the positive .* Received: 7 candidates for 8 queries",
    ),
    "no positives": (
        {},
        {"candidate_embeddings": CANDIDATES[: B - 1]},
        "`candidate_embeddings` must hold the positive .* Received: 7 candidates for 8 queries",
    ),
    **{
        f"foreign loss and {name}": (
            {"loss": FOREIGN},
            {name: value, "candidate_ids": IDS},
            f"`{name}` needs a RetrievalLoss: CROLoss",
        )
        for name, value in {
            "candidate_weight": CANDIDATE_WEIGHT,
            "known_positive_ids": KNOWN,
            "row_inputs": {"threshold": np.zeros(B, "float32")},
            "own": Candidates(CANDIDATES, np.zeros([B, 2], int)),
            "query_features": {"x": QUERIES},
            "candidate_features": {"x": CANDIDATES},
        }.items()
    },
    "no thresholds": (
        {"loss": SoftmaxLossAtK()},
        {},
        r"`threshold` must be given to SoftmaxLossAtK.*RetrievalModel\(thresholds=Thresholds",
    ),
    "few thresholds": (
        {"loss": SoftmaxLossAtK()},
        {"row_inputs": {"threshold": np.zeros(B - 1, "float32")}},
        r"`threshold` must have one of the shapes \(8,\), \(8, 1\). Received: shape \(7,\)",
    ),
    "own candidates that are none": (
        {},
        {"own": CANDIDATES},
        "`own` must be a tfrs_croloss.losses.Candidates with embeddings",
    ),
    "own ids of another kind": (
        {"remove_accidental_hits": True},
        {
            "candidate_ids": np.arange(ALL).astype(str),
            "own": Candidates(CANDIDATES, np.zeros([B, 2], int), ids=np.zeros([B, 2], int)),
        },
        "`candidate_ids` and `own.ids` must both be integers or both strings",
    ),
    "own ids alone": (
        {},
        {"own": Candidates(CANDIDATES, np.zeros([B, 2], int), ids=np.zeros([B, 2], int))},
        "`candidate_ids` must be given with the ids of `own`",
    ),
    "own candidates by index without ids": (
        {"remove_accidental_hits": True},
        {"candidate_ids": IDS, "own": Candidates(CANDIDATES, np.zeros([B, 2], int))},
        "`own` by index must have ids",
    ),
    "own candidates and log-Q": (
        {},
        {
            "own": Candidates(CANDIDATES, np.zeros([B, 2], int)),
            "candidate_sampling_probability": PROBABILITY,
        },
        "`own` and `candidate_sampling_probability` exclude each other",
    ),
    "inputs of rows that are no dict": (
        {"loss": SoftmaxLossAtK()},
        {"row_inputs": np.zeros(B)},
        "`row_inputs` must be a dict",
    ),
    "features that the memory does not hold": (
        {"memory_size": 3},
        {"candidate_features": {"x": CANDIDATES}, "training": True},
        r"`candidate_features\['x'\]` must be held by the memory: Retrieval\(memory_features="
        r"\{'x': tf.TensorSpec\(\[4\], tf.float32\)\}\)",
    ),
    "features that the memory lacks": (
        {"memory_size": 3, "memory_features": {"x": tf.TensorSpec([4])}},
        {"training": True},
        r"`candidate_features\['x'\]` must be given to a task whose memory holds it",
    ),
    "features of another shape than those of the memory": (
        {"memory_size": 3, "memory_features": {"x": tf.TensorSpec([])}},
        {"candidate_features": {"x": CANDIDATES}, "training": True},
        r"`candidate_features\['x'\]` must be float32 of shape \[num_candidates\], as in",
    ),
    "features of another type than those of the memory": (
        {"memory_size": 3, "memory_features": {"x": tf.TensorSpec([4], tf.int32)}},
        {"candidate_features": {"x": CANDIDATES}, "training": True},
        r"must be int32 of shape \[num_candidates, 4\], as in .* Received: float32 of shape",
    ),
    "features with a name that is given": (
        {},
        {"candidate_features": {"embedding": CANDIDATES}},
        "`candidate_features` must have other names .* embedding and id. Received: 'embedding'",
    ),
    "ragged features": (
        {},
        {"query_features": {"x": tf.ragged.constant([[1.0], [2.0, 3.0]])}},
        r"`query_features\['x'\]` must be numbers in rows of one length",
    ),
    "a ragged mask": (
        {},
        {"score_mask": [[True], [True, False]]},
        "`score_mask` must be numbers in rows of one length",
    ),
    "ragged ids of own candidates": (
        {},
        {
            "candidate_ids": IDS,
            "own": Candidates(CANDIDATES, [[0]] * B, ids=tf.ragged.constant([[1], [1, 2]])),
        },
        "`own.ids` must make a tensor",
    ),
    "features that are no dict": (
        {},
        {"query_features": QUERIES},
        "`query_features` must be a dict of tensors",
    ),
    "thresholds and log-Q": (
        {"loss": SoftmaxLossAtK()},
        {
            "row_inputs": {"threshold": np.zeros(B)},
            "candidate_sampling_probability": PROBABILITY,
        },
        "`threshold` and `candidate_sampling_probability` exclude each other",
    ),
}


@pytest.mark.parametrize("in_a_graph", [False, True])
@pytest.mark.parametrize(("new", "call", "message"), WRONG_CALLS.values(), ids=WRONG_CALLS)
def test_wrong_calls(new, call, message, in_a_graph):
    call = {"candidate_embeddings": CANDIDATES, **call}
    task = Retrieval(**new)
    with pytest.raises(ValueError, match=message):
        (tf.function(lambda: task(QUERIES, **call)) if in_a_graph else task)(
            *(() if in_a_graph else (QUERIES,)), **({} if in_a_graph else call)
        )


def test_a_learned_temperature():
    temperature = tf.Variable(0.5)
    task = Retrieval(temperature=temperature)
    with tf.GradientTape() as tape:
        loss = task(QUERIES, CANDIDATES)
    slope = tape.gradient(loss, temperature)
    step = 1e-2
    values = [float(Retrieval(temperature=0.5 + x)(QUERIES, CANDIDATES)) for x in (-step, step)]
    np.testing.assert_allclose(loss, Retrieval(temperature=0.5)(QUERIES, CANDIDATES), rtol=1e-6)
    np.testing.assert_allclose(slope, (values[1] - values[0]) / (2 * step), rtol=1e-2)
