"""The losses inside the real `tfrs.tasks.Retrieval`, with each thing it does to scores."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from tests.losses import naive
from tfrs_croloss import CROLoss, MultiMarginLoss

B, EXTRA, DIM = 8, 5, 4
RNG = np.random.default_rng(0)


def unit(*shape):
    x = RNG.normal(size=shape)
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype("float32")


QUERIES, CANDIDATES = unit(B, DIM), unit(B + EXTRA, DIM)
IDS = np.array([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9])
MML = {"margins": (-0.2, 0.3), "weights": (0.5, 1.0), "negative_weight": 3.0}
CRO = {"kernel": "softplus", "alpha": 1.3, "temperature": 0.5}
LAMBDA = {"kernel": "exponential", "lambda_kernel": "sigmoid", "num_items": 1000}
LOSSES = {
    "cro": (CROLoss(**CRO), lambda s, p: naive.cro_loss(s, p, **CRO)),
    "lambda": (CROLoss(**LAMBDA), lambda s, p: naive.cro_loss(s, p, **LAMBDA)),
    "mml": (
        MultiMarginLoss(**MML),
        lambda s, p: naive.multi_margin_loss(s, p, positive_weight=1.0, **MML),
    ),
}
each_loss = pytest.mark.parametrize("name", LOSSES)
# A temperature and log-Q take scores out of a cosine's range on purpose here.
pytestmark = pytest.mark.filterwarnings("ignore:MultiMarginLoss takes cosines")


def expected(name, scores, weights=None):
    weights = np.ones(B) if weights is None else weights
    by_row = [LOSSES[name][1](scores[i].tolist(), i)[0] for i in range(B)]
    return float(np.dot(weights, by_row))


@each_loss
def test_alone_with_extra_candidates(name):
    task = tfrs.tasks.Retrieval(loss=LOSSES[name][0])
    actual = task(QUERIES, CANDIDATES, compute_metrics=False)
    np.testing.assert_allclose(actual, expected(name, QUERIES @ CANDIDATES.T), rtol=1e-5)


@each_loss
def test_temperature(name):
    task = tfrs.tasks.Retrieval(loss=LOSSES[name][0], temperature=0.7)
    actual = task(QUERIES, CANDIDATES, compute_metrics=False)
    np.testing.assert_allclose(actual, expected(name, QUERIES @ CANDIDATES.T / 0.7), rtol=1e-5)


@each_loss
def test_accidental_hits_and_score_mask_are_absent(name):
    task = tfrs.tasks.Retrieval(loss=LOSSES[name][0], remove_accidental_hits=True)
    keep = RNG.uniform(size=[B, B + EXTRA]) < 0.7
    keep[np.arange(B), np.arange(B)] = True
    scores = QUERIES @ CANDIDATES.T
    for i in range(B):
        for j in range(B + EXTRA):
            if (i != j and IDS[i] == IDS[j]) or not keep[i, j]:
                scores[i, j] = -np.inf
    actual = task(
        QUERIES, CANDIDATES, candidate_ids=tf.constant(IDS), score_mask=keep, compute_metrics=False
    )
    np.testing.assert_allclose(actual, expected(name, scores), rtol=1e-5)


@each_loss
def test_hard_negatives(name):
    task = tfrs.tasks.Retrieval(loss=LOSSES[name][0], num_hard_negatives=3)
    scores = QUERIES @ CANDIDATES.T
    for i in range(B):
        hardest = sorted((j for j in range(B + EXTRA) if j != i), key=lambda j: -scores[i, j])
        scores[i, hardest[3:]] = -np.inf
    actual = task(QUERIES, CANDIDATES, compute_metrics=False)
    np.testing.assert_allclose(actual, expected(name, scores), rtol=1e-5)


@each_loss
def test_sampling_probability_and_sample_weight(name):
    task = tfrs.tasks.Retrieval(loss=LOSSES[name][0])
    probability = RNG.uniform(0.01, 1, B + EXTRA).astype("float32")
    weights = RNG.uniform(size=B).astype("float32")
    actual = task(
        QUERIES,
        CANDIDATES,
        sample_weight=weights,
        candidate_sampling_probability=probability,
        compute_metrics=False,
    )
    scores = QUERIES @ CANDIDATES.T - np.log(probability)
    np.testing.assert_allclose(actual, expected(name, scores, weights), rtol=1e-5)


@each_loss
def test_several_heads(name):
    queries = unit(B, 2, DIM)
    task = tfrs.tasks.Retrieval(loss=LOSSES[name][0])
    actual = task(queries, CANDIDATES, compute_metrics=False)
    scores = np.einsum("qhd,cd->qhc", queries, CANDIDATES).max(axis=1)
    np.testing.assert_allclose(actual, expected(name, scores), rtol=1e-5)


@each_loss
def test_in_a_graph_of_unknown_batch_size_and_under_xla(name):
    task = tfrs.tasks.Retrieval(loss=LOSSES[name][0])
    loss, _ = LOSSES[name]
    signature = [tf.TensorSpec([None, DIM]), tf.TensorSpec([None, DIM])]
    graph = tf.function(lambda q, c: task(q, c, compute_metrics=False), input_signature=signature)
    compiled = tf.function(
        lambda q, c: loss(tf.eye(B, B + EXTRA), tf.matmul(q, c, transpose_b=True)),
        jit_compile=True,
    )
    eager = task(QUERIES, CANDIDATES, compute_metrics=False)
    for function in (graph, compiled):
        np.testing.assert_allclose(function(QUERIES, CANDIDATES), eager, rtol=1e-5)


TASK_OPTIONS = {
    "temperature": 0.7,
    "num_hard_negatives": 4,
    "remove_accidental_hits": True,
}
SWITCHES = [*TASK_OPTIONS, "sampling", "mask", "weights", "heads"]


@each_loss
@pytest.mark.parametrize(
    "on",
    [set(), *map(set, itertools.combinations(SWITCHES, 2)), set(SWITCHES)],
    ids=lambda on: "all" if len(on) == len(SWITCHES) else "+".join(sorted(on)) or "none",
)
def test_options_together_in_value_and_gradient(name, on):
    """As TFRS orders them: temperature, log-Q, accidental hits, mask, hard negatives."""
    random = np.random.default_rng(1)
    queries = unit(B, 3, DIM) if "heads" in on else QUERIES
    probability = random.uniform(0.01, 1, B + EXTRA).astype("float32")
    weights = random.uniform(size=B).astype("float32") if "weights" in on else np.ones(B, "float32")
    keep = (random.uniform(size=[B, B + EXTRA]) < 0.8) | np.eye(B, B + EXTRA, dtype=bool)
    task = tfrs.tasks.Retrieval(
        loss=LOSSES[name][0], **{key: TASK_OPTIONS[key] for key in on & TASK_OPTIONS.keys()}
    )

    by_head = np.einsum("qhd,cd->qhc", queries.reshape(B, -1, DIM), CANDIDATES).astype("float64")
    head, scores = by_head.argmax(axis=1), by_head.max(axis=1)
    divisor = TASK_OPTIONS["temperature"] if "temperature" in on else 1.0
    scores = scores / divisor
    if "sampling" in on:
        scores -= np.log(probability)
    for i, j in np.ndindex(*scores.shape):
        hit = "remove_accidental_hits" in on and i != j and IDS[i] == IDS[j]
        if hit or ("mask" in on and not keep[i, j]):
            scores[i, j] = -np.inf
    if "num_hard_negatives" in on:
        for i in range(B):
            hardest = sorted((j for j in range(B + EXTRA) if j != i), key=lambda j: -scores[i, j])
            scores[i, hardest[TASK_OPTIONS["num_hard_negatives"] :]] = -np.inf
    rows = [LOSSES[name][1](scores[i].tolist(), i) for i in range(B)]
    by_query = np.zeros_like(queries.reshape(B, -1, DIM), "float64")
    for i, j in np.ndindex(*scores.shape):
        slope = weights[i] * rows[i][1][j] / divisor
        by_query[i, head[i, j]] += slope * CANDIDATES[j]

    given = tf.constant(queries)
    with tf.GradientTape() as tape:
        tape.watch(given)
        actual = task(
            given,
            CANDIDATES,
            sample_weight=weights if "weights" in on else None,
            candidate_ids=tf.constant(IDS),
            candidate_sampling_probability=probability if "sampling" in on else None,
            score_mask=keep if "mask" in on else None,
            compute_metrics=False,
        )
    np.testing.assert_allclose(actual, weights @ [value for value, _ in rows], rtol=1e-5)
    gradient = tf.reshape(tape.gradient(actual, given), by_query.shape)
    np.testing.assert_allclose(gradient, by_query, rtol=1e-4, atol=1e-5)


@each_loss
@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_mixed_precision_policies(name, half):
    """In what TFRS's own task can do with them: float16 fails there with accidental hits."""
    queries, candidates = (tf.cast(x, half) for x in (QUERIES, CANDIDATES))
    tf_keras.mixed_precision.set_global_policy(f"mixed_{half}")
    try:
        task = tfrs.tasks.Retrieval(
            loss=LOSSES[name][0], remove_accidental_hits=half == "bfloat16", temperature=0.5
        )
        with tf.GradientTape() as tape:
            tape.watch(queries)
            actual = task(
                queries, candidates, candidate_ids=tf.constant(IDS), compute_metrics=False
            )
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")
    assert actual.dtype == tf.float32
    gradient = tape.gradient(actual, queries)
    assert gradient.dtype == queries.dtype
    assert np.isfinite(tf.cast(gradient, tf.float32)).all()
    scores = tf.cast(tf.matmul(queries, candidates, transpose_b=True) / 0.5, tf.float64).numpy()
    if half == "bfloat16":
        scores[np.equal.outer(IDS[:B], IDS) & ~np.eye(B, B + EXTRA, dtype=bool)] = -np.inf
    np.testing.assert_allclose(actual, expected(name, scores), rtol=1e-4)


@each_loss
def test_an_eager_call_refuses_nan_embeddings(name):
    task = tfrs.tasks.Retrieval(loss=LOSSES[name][0])
    queries = QUERIES.copy()
    queries[2, 1] = np.nan
    with pytest.raises(ValueError, match="`y_pred` must hold finite scores"):
        task(queries, CANDIDATES, compute_metrics=False)


class TutorialModel(tfrs.Model):
    """The model of TFRS's basic retrieval tutorial, on integer ids."""

    def __init__(self, loss, num_users, num_items):
        super().__init__()
        self.user_model = tf_keras.layers.Embedding(num_users, 32)
        self.item_model = tf_keras.layers.Embedding(num_items, 32)
        self.task = tfrs.tasks.Retrieval(loss=loss)

    def compute_loss(self, features, training=False):
        return self.task(
            self.user_model(features["user"]),
            self.item_model(features["item"]),
            compute_metrics=not training,
        )


def test_swapped_into_the_tutorial_nothing_else_changed_it_learns():
    """Adagrad(0.1), batches of 4096 and 3 epochs, as with TFRS's own default loss."""
    from tfrs_croloss.commands.experiment.build import movielens

    frame, _ = movielens()
    users, items = (frame[name].factorize()[0] for name in ("user", "item"))
    order = np.random.default_rng(0).permutation(len(frame))
    train, test = order[:80_000], order[80_000:82_000]
    recalls = {}
    for name, loss in {"default": None, "CROLoss": CROLoss()}.items():
        tf_keras.utils.set_random_seed(0)
        model = TutorialModel(loss, users.max() + 1, items.max() + 1)
        model.compile(optimizer=tf_keras.optimizers.Adagrad(0.1))
        rows = {"user": users[train], "item": items[train]}
        dataset = tf.data.Dataset.from_tensor_slices(rows).shuffle(80_000, seed=0).batch(4096)
        model.fit(dataset, epochs=3, verbose=0)
        scores = model.user_model(users[test]).numpy() @ model.item_model.embeddings.numpy().T
        own = scores[np.arange(len(test)), items[test]]
        recalls[name] = ((scores > own[:, None]).sum(axis=1) < 100).mean()
    # A model that stands still is at 100 / 9066 = .011.
    assert recalls["default"] > 0.05
    assert recalls["CROLoss"] > 0.9 * recalls["default"]
