"""Shapes, dtypes and containers of what a call of the task takes: TFRS's loss for each."""

import traceback

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from tfrs_croloss import CROLoss
from tfrs_croloss.losses import engine
from tfrs_croloss.retrieval import Retrieval

B, C, DIM = 4, 6, 3
RNG = np.random.default_rng(0)
QUERIES, CANDIDATES = (RNG.normal(size=[n, DIM]).astype("float32") for n in (B, C))
PROBABILITY = RNG.uniform(0.1, 1, C).astype("float32")
WEIGHT = RNG.uniform(size=B).astype("float32")
MASK = (RNG.uniform(size=[B, C]) < 0.6) | np.eye(B, C, dtype=bool)
COLUMNS = np.array([True] * B + [False, True])
IDS = np.array([3, 1, 3, 2, 1, 7])

# Arguments by name, each with values that mean something to TFRS's task.
GIVEN = {
    "number as weight": {"sample_weight": 0.5},
    "integer as weight": {"sample_weight": 2},
    "weight [1]": {"sample_weight": np.array([0.3], "float32")},
    "weight [1, 1]": {"sample_weight": np.array([[0.3]], "float32")},
    "weight [B]": {"sample_weight": WEIGHT},
    "weight [B, 1]": {"sample_weight": WEIGHT[:, None]},
    "integers as weights": {"sample_weight": np.array([1, 0, 3, 2])},
    "number as probability": {"candidate_sampling_probability": np.float32(0.3)},
    "probability [1]": {"candidate_sampling_probability": PROBABILITY[:1]},
    "probability [C]": {"candidate_sampling_probability": PROBABILITY},
    "probability [1, C]": {"candidate_sampling_probability": PROBABILITY[None]},
    "probability of 0": {"candidate_sampling_probability": PROBABILITY * COLUMNS},
    "mask []": {"score_mask": np.True_},
    "mask [1]": {"score_mask": np.array([True])},
    "mask [C]": {"score_mask": COLUMNS},
    "mask [1, C]": {"score_mask": COLUMNS[None]},
    "mask [B, 1]": {"score_mask": np.ones([B, 1], bool)},
    "mask [B, C]": {"score_mask": MASK},
    "all": {
        "score_mask": COLUMNS,
        "candidate_sampling_probability": PROBABILITY[None],
        "sample_weight": WEIGHT[:, None],
    },
}
each_argument = pytest.mark.parametrize("name", GIVEN)
NEW = {
    "plain": {},
    "hard": {"num_hard_negatives": 2, "temperature": 0.5},
    "hits": {"remove_accidental_hits": True},
}


@pytest.fixture(autouse=True)
def not_compiled(monkeypatch):
    """To compile each of the graphs takes longer than all else."""
    monkeypatch.setattr(engine, "compiled", lambda function, is_wanted: function)


def metrics():
    return [
        tf_keras.metrics.TopKCategoricalAccuracy(k=1),
        tf_keras.metrics.CategoricalCrossentropy(from_logits=True),
    ]


def called(cls, new, given, run=lambda call, given: call(**given), **options):
    """The loss, and what the batch metrics say."""
    ids = {"candidate_ids": tf.constant(IDS)} if "remove_accidental_hits" in new else {}
    batch = metrics()
    task = cls(batch_metrics=batch, **new, **options.pop("task", {}))
    loss = run(lambda **given: task(QUERIES, CANDIDATES, **ids, **given, **options), given)
    return [float(loss), *(float(metric.result()) for metric in batch)]


def eager(call, given):
    return call(**given)


def as_tensors(call, given):
    return call(**{name: tf.constant(x) for name, x in given.items()})


def as_lists(call, given):
    return call(**{name: np.asarray(x).tolist() for name, x in given.items()})


def in_a_graph(shape_of):
    def run(call, given):
        given = {name: tf.constant(x) for name, x in given.items()}
        specs = {name: tf.TensorSpec(shape_of(x), x.dtype) for name, x in given.items()}
        return tf.function(lambda given: call(**given), input_signature=[specs])(given)

    return run


RUNS = {
    "arrays": eager,
    "tensors": as_tensors,
    "lists": as_lists,
    "unknown sizes": in_a_graph(lambda x: [None] * x.ndim),
    "unknown rank": in_a_graph(lambda x: None),
}


@pytest.mark.parametrize("run", RUNS)
@each_argument
def test_they_mean_what_they_mean_to_tfrs(name, run):
    for new in NEW.values():
        expected = called(tfrs.tasks.Retrieval, new, GIVEN[name], as_tensors)
        assert np.isfinite(expected).all()
        np.testing.assert_allclose(called(Retrieval, new, GIVEN[name], RUNS[run]), expected, 1e-5)


@each_argument
def test_beside_a_memory_that_is_empty(name):
    expected = called(tfrs.tasks.Retrieval, {}, GIVEN[name], as_tensors)
    actual = called(Retrieval, {}, GIVEN[name], task={"memory_size": 5}, training=False)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


@pytest.mark.parametrize("in_batch", [True, False])
@pytest.mark.parametrize("name", ["mask [C]", "mask [1, C]", "mask [B, 1]", "mask []"])
def test_a_mask_means_what_the_whole_one_means(name, in_batch):
    """With what TFRS lacks: a memory that holds something, and other rows' positives left out."""
    whole = {"score_mask": np.broadcast_to(GIVEN[name]["score_mask"], [B, C])}
    losses = []
    for given in (GIVEN[name], whole):
        task = Retrieval(memory_size=5)
        task(QUERIES, CANDIDATES, training=True)
        losses.append(task(QUERIES, CANDIDATES, training=True, in_batch=in_batch, **given))
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-6)


def test_a_number_weighs_the_mean_as_it_weighs_each_row():
    task = Retrieval(loss=CROLoss("exponential", reduction="mean_with_sample_weight"))
    one = task(QUERIES, CANDIDATES, sample_weight=0.5)
    rows = task(QUERIES, CANDIDATES, sample_weight=np.full(B, 0.5, "float32"))
    np.testing.assert_allclose(one, rows, rtol=1e-6)
    np.testing.assert_allclose(one, Retrieval()(QUERIES, CANDIDATES) / B, rtol=1e-6)


@pytest.mark.parametrize("heads", [1, 2])
def test_embeddings_and_ids_of_unknown_rank(heads):
    queries = np.stack([QUERIES, QUERIES[::-1]], axis=1) if heads == 2 else QUERIES
    catalogue = tf.data.Dataset.from_tensor_slices((np.arange(C), CANDIDATES)).batch(4)
    results = []
    for cls, spec in ((tfrs.tasks.Retrieval, None), (Retrieval, None)):
        metric = tfrs.metrics.FactorizedTopK(catalogue, ks=[2])
        task = cls(metrics=metric, remove_accidental_hits=True)
        call = tf.function(
            lambda q, c, ids, task=task: task(q, c[:B], candidate_ids=ids[:B]),
            input_signature=[tf.TensorSpec(spec), tf.TensorSpec(spec), tf.TensorSpec(spec, "int64")]
            if cls is Retrieval
            else None,
        )
        results.append([float(call(queries, CANDIDATES, np.arange(C))), float(metric.result()[0])])
    np.testing.assert_allclose(results[1], results[0], rtol=1e-5)
    assert (results[1][1] > 0) == (heads == 1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"candidate_sampling_probability": np.tile(PROBABILITY, (B, 1))},
            r"`candidate_sampling_probability` must have one of the shapes .* \(1, 6\). Received: "
            r"shape \(4, 6\). A number for each score .* tfrs.tasks.Retrieval takes it",
        ),
        (
            {"candidate_sampling_probability": np.ones([B, 1], "float32")},
            r"`candidate_sampling_probability` must have one of .* Received: shape \(4, 1\)",
        ),
        ({"score_mask": MASK[:, :B]}, r"`score_mask` must have one of .* shape \(4, 4\)"),
        ({"score_mask": MASK[None]}, r"`score_mask` must have one of .* shape \(1, 4, 6\)"),
        ({"sample_weight": WEIGHT[None]}, r"`sample_weight` must have one of .* shape \(1, 4\)"),
        ({"sample_weight": WEIGHT[:3]}, r"`sample_weight` must have one of .* shape \(3,\)"),
    ],
)
def test_what_means_nothing_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        Retrieval()(QUERIES, CANDIDATES, **given)


@pytest.mark.parametrize("shape", [[None, None], None])
def test_a_matrix_of_probabilities_is_refused_in_a_step_that_did_not_know(shape):
    """Square, it would pass for a row; so would a column of as many queries as candidates."""
    task = Retrieval()
    call = tf.function(
        lambda p: task(QUERIES, CANDIDATES[:B], candidate_sampling_probability=p),
        input_signature=[tf.TensorSpec(shape)],
    )
    for bad in (np.ones([B, B], "float32"), np.ones([B, 1], "float32")):
        with pytest.raises(tf.errors.InvalidArgumentError, match="must be one number a candidate"):
            call(bad)


def test_a_memory_wants_a_known_dimension():
    task = Retrieval(memory_size=3)
    call = tf.function(
        lambda q, c: task(q, c, training=True), input_signature=[tf.TensorSpec([None, None])] * 2
    )
    with pytest.raises(ValueError, match="must have a known last dimension for a memory"):
        call(QUERIES, CANDIDATES)


# Metrics.


@pytest.mark.parametrize("name", ["factorized_metrics", "batch_metrics", "loss_metrics"])
def test_metrics_are_one_or_a_list_or_none(name):
    def metric():
        if name == "factorized_metrics":
            catalogue = tf.data.Dataset.from_tensor_slices(CANDIDATES).batch(4)
            return tfrs.metrics.FactorizedTopK(catalogue, ks=[2])
        return {"batch_metrics": metrics()[1], "loss_metrics": tf_keras.metrics.Mean()}[name]

    argument = "metrics" if name == "factorized_metrics" else name
    one = metric()
    for given in (one, [one], (one,)):
        assert list(getattr(Retrieval(**{argument: given}), name)) == [one]
        task = Retrieval(**{argument: metric()})
        setattr(task, name, given)
        assert list(getattr(task, name)) == [one]
        found = list(one.metrics) if name == "factorized_metrics" else [one]
        assert [id(x) for x in task.metrics] == [id(x) for x in found]
        for x in found:
            x.reset_states()
        task(QUERIES, CANDIDATES)
        assert all(float(x.result()) > 0 for x in found)
    for nothing in (None, []):
        setattr(task, name, nothing)
        assert list(getattr(task, name)) == task.metrics == []
    for bad in ("auc", tf_keras.metrics.Mean, [one, 3]):
        with pytest.raises(ValueError, match=f"`{name}` must be a metric, .* Received: "):
            setattr(task, name, bad)


class Traced(CROLoss):
    def compare(self, row):
        self.calls = {frame.name for frame in traceback.extract_stack()}
        return super().compare(row)


def test_autograph_leaves_the_loss_alone():
    """To convert it would take longer than all else of a first step."""
    loss = Traced()
    task = Retrieval(loss=loss)
    tf.function(lambda: task(QUERIES, CANDIDATES))()
    assert "embedding_loss" in loss.calls
    assert "tf__embedding_loss" not in loss.calls
