"""Losses that compare with a threshold of each row: SL@K, Talos, and those of one's own."""

import numpy as np
import pytest

from tests.losses import naive
from tests.losses.embeddings import (
    ALL,
    CANDIDATES,
    DIM,
    OPTIONS,
    QUERIES,
    assert_close,
    engine_of,
    matrix_of,
    naive_of,
    unit,
)
from tests.losses.gradients import BACKEND, MODES, float64, value_and_gradient
from tests.losses.losses import CASES as ALL_CASES
from tests.losses.losses import case, make_each_loss
from tests.losses.scores import NUM_CANDIDATES, NUM_QUERIES, ONE_HOT, POSITIVES, SCORES
from tfrs_croloss import (
    PairwiseSoftmaxLoss,
    SampledSoftmaxLoss,
    SoftmaxLossAtK,
    TalosLoss,
    embedding_loss,
)
from tfrs_croloss.losses import Channel, Hinge, RetrievalLoss, RowInput

THRESHOLDS = np.array([0.3, -0.8, 0.0, 1.2, 0.5, -0.1])
OF_QUERIES = np.append(THRESHOLDS, 0.4).astype("float32")

SHARP = {"temperature": 0.2, "weight_temperature": 0.05}
CASES = {
    # These have one for all, which counts where a call brings none.
    "slk": ALL_CASES["slk"],
    "talos": ALL_CASES["talos"],
    "slk sharp": case(SoftmaxLossAtK, naive.softmax_loss_at_k, SHARP),
    "talos sharp": case(TalosLoss, naive.talos_loss, {"temperature": 0.05}),
}
each_loss = pytest.mark.parametrize(("make", "naive_loss"), CASES.values(), ids=CASES)
each_class = pytest.mark.parametrize("cls", [SoftmaxLossAtK, TalosLoss])


def naive_rows(naive_loss, scores=SCORES, thresholds=THRESHOLDS, **options):
    rows = [
        naive_loss(row.tolist(), p, threshold=float(threshold), **options)
        for row, p, threshold in zip(scores, POSITIVES, thresholds, strict=True)
    ]
    return np.array([value for value, _ in rows]), np.array([gradient for _, gradient in rows])


def rows_of(loss, scores=SCORES, dtype="float64", **options):
    return value_and_gradient(loss, ONE_HOT, scores, dtype, **options)


def assert_same(actual, expected, tolerance=1e-10):
    for x, y in zip(actual, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=max(1e-12, tolerance / 10))


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-5), ("float64", 1e-10)])
@each_loss
def test_each_row_has_its_own(make, naive_loss, dtype, tolerance, compiled):
    scores = SCORES.astype(dtype).astype("float64")
    scores[1, 4:7] = -np.inf
    thresholds = THRESHOLDS.astype(dtype)
    expected = naive_rows(naive_loss, scores, thresholds)
    loss = make(reduction=None, dtype=dtype)
    for shape in ([-1], [-1, 1]):
        given = {"threshold": thresholds.reshape(shape), "compiled": compiled}
        assert_same(rows_of(loss, scores, dtype, **given), expected, tolerance)


@each_loss
def test_beside_weights_of_rows_and_candidates(make, naive_loss):
    weight = np.linspace(0.2, 3, NUM_CANDIDATES)
    row_weight = np.linspace(0, 2, NUM_QUERIES)
    values, gradients = naive_rows(naive_loss, weights=weight)
    loss = make(reduction=None, dtype="float64")
    given = {"threshold": THRESHOLDS, "candidate_weight": weight, "sample_weight": row_weight}
    expected = row_weight * values, row_weight[:, None] * gradients
    assert_same(rows_of(loss, **given), expected)


ENGINE = {
    "defaults": {},
    "all": ALL,
    "own positives and all": OPTIONS["own positives and all"],
    "3 hard negatives and all": OPTIONS["3 hard negatives and all"],
    "heads": {"queries": unit(len(QUERIES), 2, DIM, seed=6)},
}


@pytest.mark.parametrize("options", ENGINE.values(), ids=ENGINE)
@each_loss
def test_the_engine_equals_the_loops_and_the_matrix(make, naive_loss, options):
    """In blocks of 3 rows, the last one filled up."""
    options = {"queries": QUERIES, "candidates": CANDIDATES, "threshold": OF_QUERIES, **options}
    values, gradients = naive_of(naive_loss, **options)
    assert_close(matrix_of(make, **options), (values, gradients), 2e-5)
    options["threshold"] = OF_QUERIES[:, None]
    by_row = engine_of(make(), **options, reduction=None, block_size=3)
    assert_close(by_row, (values, gradients), 2e-5)
    total = engine_of(make(), **options, block_size=3)
    assert_close(total, (values.sum(), gradients), 2e-5)


@pytest.mark.skipif(BACKEND == "torch", reason="PyTorch runs eagerly")
@pytest.mark.parametrize("mode", MODES[1:])
def test_compiled_is_eager(mode):
    make, naive_loss = CASES["slk"]
    options = {**ALL, "threshold": OF_QUERIES}
    expected = naive_of(naive_loss, QUERIES, CANDIDATES, **options)
    ways = {"mode": mode, "block_size": 3, "reduction": None}
    assert_close(engine_of(make(), QUERIES, CANDIDATES, **ways, **options), expected, 2e-5)


@each_loss
def test_float64(make, naive_loss):
    with float64():
        queries, candidates = QUERIES.astype("float64"), CANDIDATES.astype("float64")
        options = {**ALL, "threshold": OF_QUERIES.astype("float64")}
        values, gradients = naive_of(naive_loss, queries, candidates, **options)
        actual = engine_of(make(dtype="float64"), queries, candidates, **options, block_size=3)
        assert_close(actual, (values.sum(), gradients), tolerance=1e-12)


def test_a_weight_without_a_slope_is_half_the_sampled_softmax():
    value, gradient = rows_of(SampledSoftmaxLoss(0.3, reduction=None, dtype="float64"))
    flat = SoftmaxLossAtK(0.3, weight_temperature=1e12, reduction=None, dtype="float64")
    assert_same(rows_of(flat, threshold=THRESHOLDS), (value / 2, gradient / 2))


def test_a_sharp_weight_takes_positives_within_the_top_k_alone():
    value, gradient = rows_of(SampledSoftmaxLoss(0.3, reduction=None, dtype="float64"))
    within = SCORES[ONE_HOT > 0] > THRESHOLDS
    assert 0 < within.sum() < NUM_QUERIES
    sharp = SoftmaxLossAtK(0.3, weight_temperature=1e-6, reduction=None, dtype="float64")
    expected = within * value, within[:, None] * gradient
    assert_same(rows_of(sharp, threshold=THRESHOLDS), expected)


def test_talos_at_the_positive_is_the_pairwise_softmax():
    """σ(s - s⁺) / σ(0) = tanh((s - s⁺)/2) + 1: the values, and the slopes in the negatives."""
    pairwise = PairwiseSoftmaxLoss(2.0, 0.2, reduction=None, dtype="float64")
    talos = TalosLoss(0.2, reduction=None, dtype="float64")
    (value, gradient), (expected, by_pair) = (
        rows_of(talos, threshold=SCORES[ONE_HOT > 0]),
        rows_of(pairwise),
    )
    negatives = ONE_HOT == 0
    assert_same((value, gradient[negatives]), (expected, by_pair[negatives]))


def test_talos_far_below_the_threshold_is_the_sampled_softmax():
    expected = rows_of(SampledSoftmaxLoss(0.3, reduction=None, dtype="float64"))
    talos = TalosLoss(0.3, reduction=None, dtype="float64")
    assert_same(rows_of(talos, threshold=np.full(NUM_QUERIES, 40.0)), expected, 1e-8)


class BelowThreshold(RetrievalLoss):
    """A loss of one's own: negatives above the threshold less .5."""

    row_inputs = (RowInput("threshold"),)

    def compare(self, row):
        return Channel(Hinge(0.5), positive_scale=0, shift=-row.inputs["threshold"])

    def aggregate(self, totals, row):
        return totals[0]


def test_a_loss_of_ones_own():
    value, gradient = rows_of(BelowThreshold(reduction=None, dtype="float64"), threshold=THRESHOLDS)
    for i, (row, p) in enumerate(zip(SCORES, POSITIVES, strict=True)):
        over = [j for j in range(NUM_CANDIDATES) if j != p and row[j] > THRESHOLDS[i] - 0.5]
        np.testing.assert_allclose(value[i], sum(row[j] - THRESHOLDS[i] + 0.5 for j in over))
        assert np.flatnonzero(gradient[i]).tolist() == over


@each_class
def test_a_loss_without_its_thresholds_says_how_to_bring_them(cls):
    message = f"`threshold` must be given to {cls.__name__}.*Thresholds.*the loss's own `threshold`"
    with pytest.raises(ValueError, match=message):
        cls()(ONE_HOT, SCORES)
    with pytest.raises(ValueError, match=message):
        embedding_loss(cls(), QUERIES, CANDIDATES)
    with pytest.raises(ValueError, match="`threshold` must be a finite number. Received: nan"):
        cls(threshold=float("nan"))


@each_class
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_thresholds_that_are_no_numbers_are_refused(cls, bad):
    thresholds = OF_QUERIES.copy()
    thresholds[2] = bad
    with pytest.raises(ValueError, match="`threshold` must be finite.*first `refresh_thresholds`"):
        cls()(ONE_HOT, SCORES, threshold=thresholds[:NUM_QUERIES])
    with pytest.raises(ValueError, match="`threshold` must be finite.*first `refresh_thresholds`"):
        embedding_loss(cls(), QUERIES, CANDIDATES, threshold=thresholds)


@each_class
@pytest.mark.parametrize("shape", [[NUM_QUERIES - 1], [1, NUM_QUERIES], [NUM_QUERIES, 2], []])
def test_wrong_shapes_are_named(cls, shape):
    with pytest.raises(ValueError, match="`threshold` must have one of the shapes"):
        cls()(ONE_HOT, SCORES, threshold=np.zeros(shape))
    with pytest.raises(ValueError, match="`threshold` must have one of the shapes"):
        embedding_loss(cls(), QUERIES[:NUM_QUERIES], CANDIDATES, threshold=np.zeros(shape))


@make_each_loss
def test_losses_that_want_none_refuse_them(make):
    """Under a name that nobody wants, e.g. a misspelt one, an input would do nothing."""
    loss = make()
    wanted = "threshold" if loss.row_inputs else "nothing"
    for name in ("threshold", "treshold"):
        if name == wanted:
            continue
        given = {name: np.zeros(NUM_QUERIES)}
        message = f"`{name}` must be left out: {type(loss).__name__} wants {wanted} of the rows"
        with pytest.raises(ValueError, match=message):
            loss(ONE_HOT, SCORES, **given)
        with pytest.raises(ValueError, match=message):
            embedding_loss(loss, QUERIES, CANDIDATES, **given)


def test_it_is_a_constant():
    """On TensorFlow: no gradient flows into it, as into a variable of the model it might."""
    if BACKEND != "tensorflow":
        pytest.skip("of TensorFlow's tape")
    import tensorflow as tf

    threshold, scores = tf.Variable(THRESHOLDS), tf.constant(SCORES)
    with tf.GradientTape() as tape:
        tape.watch(scores)
        value = SoftmaxLossAtK(dtype="float64")(ONE_HOT, scores, threshold=threshold)
    by_scores, by_threshold = tape.gradient(value, [scores, threshold])
    assert by_threshold is None
    assert np.abs(by_scores).max() > 0
