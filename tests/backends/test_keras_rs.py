"""The losses in the two-tower retrieval model of keras-rs's tutorials, with its layers."""

import keras
import numpy as np
import pytest

from tfrs_croloss import CROLoss, MultiMarginLoss, embedding_loss

keras_rs = pytest.importorskip("keras_rs", reason="keras-rs is of `make test-backends`")
ops = keras.ops

NUM_USERS, NUM_ITEMS, NUM_GROUPS = 96, 64, 8


class RetrievalModel(keras.Model):
    """The tutorial's model; its sequential sibling's `compute_loss`, with keras-rs's options."""

    def __init__(self, loss, num_hard_negatives=None, normalize=False):
        super().__init__()
        self.user_embedding = keras.layers.Embedding(NUM_USERS, 16)
        self.candidate_embedding = keras.layers.Embedding(NUM_ITEMS, 16)
        self.retrieval = keras_rs.layers.BruteForceRetrieval(k=8, return_scores=False)
        self.hard_negatives = None
        if num_hard_negatives:
            self.hard_negatives = keras_rs.layers.HardNegativeMining(num_hard_negatives)
        self.normalize = normalize
        self.loss_fn = loss

    def build(self, input_shape):
        self.user_embedding.build(input_shape)
        self.candidate_embedding.build(input_shape)
        self.retrieval.candidate_embeddings = self.candidate_embedding.embeddings
        self.retrieval.build(input_shape)
        super().build(input_shape)

    def call(self, inputs, training=False):
        user_embeddings = self.user_embedding(inputs)
        result = {"user_embeddings": user_embeddings}
        if not training:
            result["predictions"] = self.retrieval(user_embeddings)
        return result

    def compute_loss(self, x, y, y_pred, sample_weight, training=True):
        queries = y_pred["user_embeddings"]
        candidates = self.candidate_embedding(y)
        if self.normalize:
            queries, candidates = (keras.utils.normalize(x) for x in (queries, candidates))
        scores = ops.matmul(queries, ops.transpose(candidates))
        labels = ops.eye(*ops.shape(scores))
        if self.hard_negatives is not None:
            scores, labels = self.hard_negatives(scores, labels)
        return self.loss_fn(labels, scores, sample_weight)


LOSSES = {
    "cro": lambda: {"loss": CROLoss(alpha=1.2)},
    "lambda": lambda: {"loss": CROLoss(lambda_kernel="sigmoid")},
    "hard negatives": lambda: {"loss": CROLoss(), "num_hard_negatives": 12},
    "mml": lambda: {
        "loss": MultiMarginLoss((0.0, 0.3, 0.6), (0.2, 0.3, 0.5), negative_weight=4.0),
        "normalize": True,
    },
}


@pytest.mark.parametrize("options", LOSSES.values(), ids=LOSSES)
def test_the_tutorial_model_learns_which_group_a_user_is_of(options):
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    users = random.integers(NUM_USERS, size=4096)
    items = random.integers(NUM_ITEMS // NUM_GROUPS, size=4096) * NUM_GROUPS + users % NUM_GROUPS
    model = RetrievalModel(**options())
    model.compile(optimizer=keras.optimizers.Adagrad(0.1))
    history = model.fit(users, items, batch_size=64, epochs=6, verbose=0)
    losses = history.history["loss"]
    assert losses[-1] < losses[0]
    found = model.predict(np.arange(NUM_USERS), verbose=0)["predictions"]
    right = (found % NUM_GROUPS == np.arange(NUM_USERS)[:, None] % NUM_GROUPS).mean()
    assert right > 0.8  # at random 1 in 8


def test_accidental_hits_that_its_layer_leaves_in_and_the_ids_take_out():
    """The row's own item stands among its negatives, twice: docs/troubleshooting.md says so."""
    labels = np.eye(3, 5, dtype="float32")
    scores = np.random.default_rng(0).normal(size=[3, 5]).astype("float32")
    ids = np.array([7, 8, 9, 7, 8])
    after = keras_rs.layers.RemoveAccidentalHits()(scores, labels, ids)
    # Still negatives: where this fails, the page's line has gone out of date.
    np.testing.assert_array_equal(after, scores)
    # By hand: item 7 is no negative of row 0, nor 8 of row 1.
    masked = np.where((ids == ids[:3, None]) & (labels == 0), -np.inf, scores)
    embeddings = np.linalg.qr(np.random.default_rng(1).normal(size=[8, 8]))[0].astype("float32")
    queries, candidates = scores @ embeddings[:5], embeddings[:5]
    loss = CROLoss(alpha=1.2)
    by_ids = embedding_loss(loss, queries, candidates, candidate_ids=ids)
    np.testing.assert_allclose(by_ids, loss(labels, masked), rtol=1e-5)
    assert abs(loss(labels, after) / loss(labels, masked) - 1) > 0.05
