"""What the base class owes to every loss."""

import keras
import numpy as np
import pytest

from tests.losses.gradients import value_and_gradient
from tests.losses.losses import each_loss, make_each_loss
from tests.losses.naive import mean_over_positives
from tests.losses.scores import NUM_CANDIDATES, NUM_QUERIES, ONE_HOT, SCORES, naive_rows
from tfrs_croloss import CROLoss
from tfrs_croloss.losses import CandidateWeighted

MASKS = pytest.mark.parametrize("mask", [-3.4e36, -np.inf])


def rows_of(make, labels=ONE_HOT, scores=SCORES, compiled=False, **kwargs):
    """Value and gradient of each row, in float32."""
    loss = make(reduction=None, **{k: kwargs.pop(k) for k in ("max_positives",) if k in kwargs})
    return value_and_gradient(loss, labels, scores, dtype="float32", compiled=compiled, **kwargs)


def assert_rows(actual, expected, rtol=1e-5):
    np.testing.assert_allclose(actual[0], expected[0], rtol=rtol, atol=1e-6)
    np.testing.assert_allclose(actual[1], expected[1], rtol=rtol, atol=1e-6)


@each_loss
def test_default_reduction_is_a_sum_over_the_rows(make, naive_loss):
    values, gradients = naive_rows(naive_loss)
    value, gradient = value_and_gradient(make(), ONE_HOT, SCORES, dtype="float32")
    np.testing.assert_allclose(value, values.sum(), rtol=1e-5)
    np.testing.assert_allclose(gradient, gradients, rtol=1e-5, atol=1e-6)
    mean = make(reduction="sum_over_batch_size")
    value, gradient = value_and_gradient(mean, ONE_HOT, SCORES, dtype="float32")
    np.testing.assert_allclose(value, values.mean(), rtol=1e-5)
    np.testing.assert_allclose(gradient, gradients / NUM_QUERIES, rtol=1e-5, atol=1e-6)


@each_loss
@pytest.mark.parametrize("shape", [[NUM_QUERIES], [NUM_QUERIES, 1]])
def test_sample_weight_weighs_the_rows(make, naive_loss, shape):
    weight = np.arange(NUM_QUERIES, dtype="float32")
    values, gradients = naive_rows(naive_loss)
    value, gradient = value_and_gradient(
        make(), ONE_HOT, SCORES, dtype="float32", sample_weight=weight.reshape(shape)
    )
    np.testing.assert_allclose(value, weight @ values, rtol=1e-5)
    np.testing.assert_allclose(gradient, weight[:, None] * gradients, rtol=1e-5, atol=1e-6)


@each_loss
@MASKS
@pytest.mark.parametrize("compiled", [False, True])
def test_rows_without_a_loss_are_exactly_zero(make, naive_loss, mask, compiled):
    labels, scores = ONE_HOT.copy(), SCORES.copy()
    labels[0] = 0  # no positive
    scores[1][labels[1] > 0] = mask  # a masked positive
    scores[2][labels[2] == 0] = mask  # no negative
    scores[3] = mask  # all masked
    value, gradient = rows_of(make, labels, scores, compiled)
    assert (value[:4] == 0).all()
    assert (gradient[:4] == 0).all()
    values, gradients = naive_rows(naive_loss)
    assert_rows((value[4:], gradient[4:]), (values[4:], gradients[4:]))


@each_loss
@MASKS
def test_masked_candidates_change_nothing(make, naive_loss, mask):
    masked = np.concatenate([SCORES, np.full([NUM_QUERIES, 4], mask)], axis=1)
    value, gradient = rows_of(make, np.pad(ONE_HOT, [(0, 0), (0, 4)]), masked)
    assert_rows((value, gradient[:, :-4]), naive_rows(naive_loss))
    assert (gradient[:, -4:] == 0).all()


@each_loss
def test_order_of_rows_and_candidates_does_not_matter(make, naive_loss):
    random = np.random.default_rng(1)
    rows, columns = random.permutation(NUM_QUERIES), random.permutation(NUM_CANDIDATES)
    permuted = (x[rows][:, columns] for x in (ONE_HOT, SCORES))
    values, gradients = naive_rows(naive_loss)
    assert_rows(rows_of(make, *permuted), (values[rows], gradients[rows][:, columns]))


SEVERAL = [{0}, {1, 2}, {3, 0, 2}, {2, 3}, set(), set(range(4))]


@each_loss
@pytest.mark.parametrize("max_positives", [4, 9])
def test_several_positives_are_the_mean_over_them(make, naive_loss, max_positives):
    labels = np.array([[float(j in row) for j in range(4)] for row in SEVERAL])
    scores = SCORES[:, :4].astype("float32").astype("float64")
    scores[3, 2] = -3.4e36  # a masked positive among two
    expected = [
        mean_over_positives(naive_loss, row.tolist(), positives)
        for row, positives in zip(scores, SEVERAL, strict=True)
    ]
    for compiled in (False, True):
        value, gradient = rows_of(make, labels, scores, compiled, max_positives=max_positives)
        assert_rows((value, gradient), ([v for v, _ in expected], [g for _, g in expected]))


@each_loss
def test_of_too_many_positives_compiled_code_takes_one(make, naive_loss):
    labels = ONE_HOT.copy()
    labels[0, 4] = 1
    if keras.backend.backend() == "torch":
        pytest.skip("PyTorch runs eagerly, where this raises")
    value, _ = rows_of(make, labels, compiled=True)
    either = [naive_loss(SCORES[0].tolist(), p, positives={0, 4})[0] for p in (0, 4)]
    assert min(abs(value[0] - v) for v in either) < 1e-4


@each_loss
@pytest.mark.parametrize("compiled", [False, True])
def test_candidate_weights_weigh_the_negatives(make, naive_loss, compiled):
    random = np.random.default_rng(2)
    weight = random.uniform(0.1, 5, SCORES.shape).astype("float32")
    weight[0, 3] = 0  # as good as masked
    expected = []
    for i, (row, p) in enumerate(zip(SCORES, ONE_HOT.argmax(axis=1), strict=True)):
        row = np.where(weight[i] == 0, -np.inf, row).tolist()
        expected.append(naive_loss(row, int(p), weights=weight[i].astype("float64")))
    actual = rows_of(make, compiled=compiled, candidate_weight=weight)
    assert_rows(actual, ([v for v, _ in expected], [g for _, g in expected]), rtol=2e-5)


@each_loss
def test_candidate_weights_of_one_row_serve_all(make, naive_loss):
    weight = np.linspace(0.5, 2, NUM_CANDIDATES).astype("float32")
    rows = np.tile(weight, [NUM_QUERIES, 1])
    both = rows_of(make, candidate_weight=weight), rows_of(make, candidate_weight=rows)
    np.testing.assert_array_equal(*(value for value, _ in both))
    with_row_weight = rows_of(
        make, candidate_weight=weight, sample_weight=np.full(NUM_QUERIES, 2.0, "float32")
    )
    np.testing.assert_allclose(with_row_weight[0], 2 * both[0][0], rtol=1e-6)


@each_loss
def test_compiled_is_eager(make, naive_loss):
    assert_rows(rows_of(make, compiled=True), naive_rows(naive_loss))


@make_each_loss
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_eager_call_refuses_scores_that_are_no_numbers(make, bad):
    scores = SCORES.copy()
    scores[2, 0] = bad
    with pytest.raises(ValueError, match="`y_pred` must hold finite scores.*NaN or inf"):
        make()(ONE_HOT, scores)


@make_each_loss
def test_a_compiled_nan_shows_in_its_row_alone(make):
    if keras.backend.backend() == "torch":
        pytest.skip("PyTorch runs eagerly, where this raises")
    untouched = rows_of(make)
    for column in (0, 5):  # a negative, and the positive of row 2
        scores = SCORES.copy()
        scores[2, column] = np.nan
        value, gradient = rows_of(make, scores=scores, compiled=True)
        assert np.isnan(value).tolist() == [False, False, True, False, False, False]
        others = [0, 1, 3, 4, 5]
        np.testing.assert_allclose(gradient[others], untouched[1][others], rtol=1e-5, atol=1e-6)


@make_each_loss
@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (0.5 * ONE_HOT, {}, "`y_true` must be 1 at a row's positives and 0 elsewhere"),
        (-ONE_HOT, {}, "`y_true` must be 1 at a row's positives and 0 elsewhere"),
        (np.ones_like(ONE_HOT), {}, "a row with 9 positives. Received: max_positives=1"),
        (np.ones_like(ONE_HOT), {"max_positives": 8}, "9 positives. Received: max_positives=8"),
    ],
)
def test_an_eager_call_refuses_labels_without_a_meaning(make, labels, options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)(labels, SCORES)


@make_each_loss
@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_an_eager_call_refuses_bad_candidate_weights(make, bad):
    with pytest.raises(ValueError, match="`candidate_weight` must be finite and not negative"):
        make()(ONE_HOT, SCORES, candidate_weight=np.full(SCORES.shape, bad))


@make_each_loss
def test_scores_beyond_cosines_warn_once_where_cosines_are_meant(make, recwarn):
    loss = make()
    for factor in (1, 10, 10):
        loss(ONE_HOT, factor * SCORES)
    ours = [str(w.message) for w in recwarn if "takes cosines in [-1, 1]" in str(w.message)]
    assert len(ours) == int(loss.takes_cosines)
    assert all("a score of size 9.95 came" in text and "temperature" in text for text in ours)


@make_each_loss
@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_half_precision_scores_are_raised(make, half):
    assert make(dtype="mixed_" + half).dtype == "float32"
    scores = keras.ops.cast(keras.ops.convert_to_tensor(SCORES.astype("float32")), half)
    raised = keras.ops.convert_to_numpy(keras.ops.cast(scores, "float32"))
    for loss in (make(), make(dtype=half), make(dtype=keras.DTypePolicy("mixed_" + half))):
        assert loss.dtype == "float32"
        assert float(loss(ONE_HOT, scores)) == float(loss(ONE_HOT, raised))


@make_each_loss
def test_half_precision_as_the_default_is_raised(make):
    before = keras.config.floatx()
    keras.config.set_floatx("float16")
    try:
        assert make().dtype == "float32"
    finally:
        keras.config.set_floatx(before)


@make_each_loss
@pytest.mark.parametrize(
    ("y_true", "y_pred"),
    [
        (np.ones(NUM_QUERIES), SCORES),
        (ONE_HOT, SCORES[0]),
        (np.eye(NUM_QUERIES), SCORES),
        (np.ones([NUM_QUERIES, 1]), SCORES),
    ],
)
def test_wrong_shapes_are_named(make, y_true, y_pred):
    with pytest.raises(ValueError, match=r"y_true of shape .*y_pred of shape"):
        make()(y_true, y_pred)


@make_each_loss
@pytest.mark.parametrize(
    ("argument", "shape"),
    [
        ("candidate_weight", [NUM_QUERIES]),
        ("candidate_weight", [2, NUM_CANDIDATES]),
        ("candidate_weight", [1, 2, 3]),
        ("sample_weight", [NUM_QUERIES - 1]),
        ("sample_weight", [NUM_QUERIES, 2]),
        ("sample_weight", [NUM_QUERIES, NUM_CANDIDATES, 1]),
    ],
)
def test_wrong_shapes_of_weights_are_named(make, argument, shape):
    with pytest.raises(ValueError, match=f"`{argument}` must have one of the shapes.*Received"):
        make()(ONE_HOT, SCORES, **{argument: np.ones(shape)})


@make_each_loss
def test_a_matrix_of_sample_weights_is_refused(make):
    """It might be meant for rows or for candidates."""
    with pytest.raises(ValueError, match="`sample_weight` must have one of the shapes"):
        make()(ONE_HOT, SCORES, sample_weight=np.ones_like(SCORES))


@make_each_loss
def test_weights_that_do_not_count_may_be_anything(make):
    """1/(M·p) is inf where p is 0: at the positive, or at a masked candidate."""
    scores = SCORES.copy()
    scores[:, 7] = -np.inf
    weight = np.ones(SCORES.shape, "float32")
    expected = rows_of(make, scores=scores, candidate_weight=weight)
    weight[ONE_HOT > 0], weight[:, 7] = np.inf, np.nan
    assert_rows(rows_of(make, scores=scores, candidate_weight=weight), expected)


@make_each_loss
def test_an_empty_batch_has_no_losses(make):
    assert make(reduction=None)(ONE_HOT[:0], SCORES[:0]).shape == (0,)


def test_a_loss_of_ones_own_takes_part_in_everything():
    from tfrs_croloss.losses import Channel, Hinge, RetrievalLoss

    class Triplet(RetrievalLoss):
        def compare(self, row):
            return Channel(Hinge(0.5))

        def aggregate(self, totals, row):
            return totals[0]

    scores = SCORES.copy()
    scores[:, 6] = -np.inf
    value, gradient = rows_of(Triplet, scores=scores)
    factor = (NUM_CANDIDATES - 2) / np.log(NUM_CANDIDATES - 1)
    hinge = rows_of(lambda **kwargs: CROLoss("hinge", alpha=0, **kwargs), scores=scores)
    assert_rows((value, gradient), (factor * hinge[0], factor * hinge[1]))


def test_a_loss_may_descend_along_several_channels_or_none():
    from tfrs_croloss.losses import Aggregate, Channel, Hinge, RetrievalLoss, Softplus

    def loss_of(*slopes):
        class Weighed(RetrievalLoss):
            def compare(self, row):
                reported = [slope is None for slope in slopes]
                return (
                    Channel(Hinge(0.5), is_reported=reported[0]),
                    Channel(Softplus(), 2.0, -2.0, is_reported=reported[1]),
                )

            def aggregate(self, totals, row):
                value = sum(slope * x for slope, x in zip(slopes, totals, strict=True) if slope)
                # Nothing to descend along but the positive itself.
                descending = tuple(slope for slope in slopes if slope is not None)
                return Aggregate(value - row.positive, descending, positive_slope=-1.0)

        return Weighed

    labels = ONE_HOT.copy()
    labels[0, :2] = 1
    none, hinge, softplus, both = (
        rows_of(loss_of(*slopes), labels, max_positives=2)
        for slopes in ((None, None), (3.0, None), (None, 0.5), (3.0, 0.5))
    )
    positives = -labels / labels.sum(axis=1, keepdims=True)
    assert_rows(none, ((positives * SCORES).sum(axis=1), positives))
    assert_rows(both, tuple(a + b - c for a, b, c in zip(hinge, softplus, none, strict=True)))


@pytest.mark.parametrize("compiled", [False, True])
def test_huge_weights(compiled):
    """The sum of what the kernel makes of them is finite, that of the weights is not."""
    weight, labels = [1, 2e38, 2e38, 1e38], [[1, 0, 0, 0]]
    scores = [[0.5, 0.0005, 0.0005, 0.0004]]  # near to where the hinge ends
    found, expected = (
        value_and_gradient(
            CROLoss("hinge", reduction=None, dtype=dtype),
            labels,
            scores,
            dtype,
            compiled,
            candidate_weight=np.array([weight], dtype),
        )
        for dtype in ("float32", "float64")
    )
    assert_rows(found, expected, rtol=1e-3)  # of x + margin, a difference, float32 keeps 4 digits
    np.testing.assert_allclose(expected[1].sum(), 0, atol=1e-9)


@make_each_loss
def test_keras_fit_learns(make):
    """Ranks 9 candidates from their features, through Keras 3's own compile and fit."""
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    features = random.normal(size=[256, NUM_CANDIDATES, 4]).astype("float32")
    labels = np.eye(NUM_CANDIDATES)[(features @ [1.0, -2.0, 0.5, 0.0]).argmax(axis=1)]
    inputs = keras.Input([NUM_CANDIDATES, 4])
    scores = keras.layers.Reshape([NUM_CANDIDATES])(keras.layers.Dense(1)(inputs))
    model = keras.Model(inputs, keras.layers.Activation("tanh")(scores))
    model.compile(optimizer=keras.optimizers.Adam(0.05), loss=make())
    model.fit(features, labels, epochs=12, batch_size=32, verbose=0)
    hits = model.predict(features, verbose=0).argmax(axis=1) == labels.argmax(axis=1)
    assert hits.mean() > 0.85


@pytest.mark.filterwarnings("ignore:.* takes cosines")
@make_each_loss
def test_keras_fit_brings_candidate_weights(make):
    """A `sample_weight` [queries, candidates] of 0 takes a column out of the loss."""
    inputs = keras.Input([NUM_CANDIDATES])
    model = keras.Model(inputs, keras.layers.Dense(NUM_CANDIDATES, use_bias=False)(inputs))
    model.compile(optimizer=keras.optimizers.SGD(0.0), loss=CandidateWeighted(make()))
    weight = np.ones_like(SCORES)
    weight[:, 4] = 0
    weighed = model.evaluate(SCORES, ONE_HOT, sample_weight=weight, verbose=0, batch_size=6)
    scores = model.predict(SCORES, verbose=0)
    masked = np.where((np.arange(NUM_CANDIDATES) == 4) & (ONE_HOT == 0), -np.inf, scores)
    by_mask = float(make()(ONE_HOT, masked, candidate_weight=np.ones(NUM_CANDIDATES)))
    np.testing.assert_allclose(weighed, by_mask, rtol=1e-5)


@pytest.mark.parametrize("shape", [(6,), (6, 1)])
def test_in_keras_fit_candidate_weights_are_a_matrix(shape):
    """One a row would be broadcast over the columns, or be taken for one a column."""
    inputs = keras.Input([NUM_CANDIDATES])
    model = keras.Model(inputs, keras.layers.Dense(NUM_CANDIDATES)(inputs))
    model.compile(optimizer="sgd", loss=CandidateWeighted(CROLoss()))
    with pytest.raises(Exception, match="`sample_weight` must have shape"):
        model.fit(SCORES[:6], ONE_HOT[:6], sample_weight=np.ones(shape), verbose=0)
