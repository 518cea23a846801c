"""Losses that a stranger writes: values without slopes, a ratio of channels, a maximum."""

import inspect

import keras
import numpy as np
import pytest
from keras import ops

from tests.losses.embeddings import CANDIDATES, OPTIONS, QUERIES, assert_close, engine_of, naive_of
from tests.losses.gradients import (
    BACKEND,
    MODES,
    float64,
    second_derivative,
    value_and_gradient,
    value_and_gradients,
)
from tests.losses.scores import ONE_HOT, POSITIVES, SCORES, naive_rows
from tfrs_croloss import CROLoss, embedding_loss
from tfrs_croloss.losses import (
    Aggregate,
    Channel,
    Exponential,
    Hinge,
    Identity,
    LogisticPower,
    RetrievalLoss,
    RowInput,
    Softplus,
)
from tfrs_croloss.losses.base import TAKEN_NAMES


@keras.saving.register_keras_serializable(package="tests")
class Ratio(RetrievalLoss):
    """The negatives' mean of cosines, weighed by e^(s / .5): a ratio of a sum and a sum, and s⁺."""

    def compare(self, row):
        return (
            Channel(Softplus(), 2.0, positive_scale=-1.0, shift=0.1),
            Channel(Hinge(2.0), positive_scale=0),
        )

    def aggregate(self, totals, row):
        return ops.log(totals[0]) * totals[0] / totals[1] - 0.5 * row.positive * row.num_items


@keras.saving.register_keras_serializable(package="tests")
class Hardest(RetrievalLoss):
    """max(0, .2 + max_j s_j - s⁺)², and a sum that is only reported beside it."""

    def compare(self, row):
        return (
            Channel(Identity(), reduce="max"),
            Channel(Softplus(), is_reported=True),
        )

    def aggregate(self, totals, row):
        return ops.square(ops.relu(0.2 + totals[0])) + ops.stop_gradient(totals[1])


@keras.saving.register_keras_serializable(package="tests")
class Plain(RetrievalLoss):
    """ln(1 + Σ e^(3·(s_j - s⁺) + 1)), with the positive pulled half as hard."""

    def compare(self, row):
        return Channel(Exponential(), 3.0, -3.0, shift=1.0, pull=0.5)

    def aggregate(self, totals, row):
        return ops.softplus(totals[0])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def negatives_of(scores, p, positives, weights):
    for j, s in enumerate(scores):
        weight = 1.0 if weights is None else weights[j]
        if j != p and j not in positives and s > -np.inf and weight > 0:
            yield j, s, weight


def naive_ratio(scores, p, positives=(), weights=None):
    gradient, own = np.zeros(len(scores)), scores[p]
    a = b = n = 0.0
    for _, s, v in negatives_of(scores, p, positives, weights):
        a += v * np.log1p(np.exp(2 * s - own + 0.1))
        b += v * max(0.0, s + 2)
        n += v
    if n == 0:
        return 0.0, gradient
    by_a, by_b = (np.log(a) + 1) / b, -np.log(a) * a / b**2
    gradient[p] = -0.5 * n
    for j, s, v in negatives_of(scores, p, positives, weights):
        slope = v * sigmoid(2 * s - own + 0.1)
        gradient[j] = by_a * 2 * slope + by_b * v * (s > -2)
        gradient[p] -= by_a * slope
    return np.log(a) * a / b - 0.5 * own * n, gradient


def naive_hardest(scores, p, positives=(), weights=None):
    gradient, own = np.zeros(len(scores)), scores[p]
    negatives = list(negatives_of(scores, p, positives, weights))
    if not negatives:
        return 0.0, gradient
    largest = max(s for _, s, _ in negatives)
    first = min(j for j, s, _ in negatives if s == largest)
    excess = max(0.0, 0.2 + largest - own)
    gradient[first], gradient[p] = 2 * excess, -2 * excess
    reported = sum(v * np.log1p(np.exp(s - own)) for _, s, v in negatives)
    return excess**2 + reported, gradient


def naive_plain(scores, p, positives=(), weights=None):
    gradient, own, total = np.zeros(len(scores)), scores[p], 0.0
    for _, s, v in negatives_of(scores, p, positives, weights):
        total += v * np.exp(3 * (s - own) + 1)
    for j, s, v in negatives_of(scores, p, positives, weights):
        slope = 3 * v * np.exp(3 * (s - own) + 1) / (1 + total)
        gradient[j] += slope
        gradient[p] -= 0.5 * slope
    return np.log1p(total), gradient


LOSSES = {
    "ratio": (Ratio, naive_ratio),
    "max": (Hardest, naive_hardest),
    "plain": (Plain, naive_plain),
}
each = pytest.mark.parametrize(("make", "naive_loss"), LOSSES.values(), ids=LOSSES)


@each
@pytest.mark.parametrize("compiled", [False, True])
def test_value_and_gradient(make, naive_loss, compiled):
    value, gradient = value_and_gradient(make(reduction=None), ONE_HOT, SCORES, "float32", compiled)
    values, gradients = naive_rows(naive_loss)
    np.testing.assert_allclose(value, values, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradient, gradients, rtol=1e-5, atol=1e-5)


@each
def test_rows_without_negatives_are_zero(make, naive_loss):
    scores = SCORES.copy()
    scores[2] = np.where(ONE_HOT[2] > 0, SCORES[2], -np.inf)
    for compiled in (False, True):
        value, gradient = value_and_gradient(
            make(reduction=None), ONE_HOT, scores, "float32", compiled
        )
        values, gradients = naive_rows(naive_loss, scores)
        assert value[2] == 0
        assert (gradient[2] == 0).all()
        np.testing.assert_allclose(value, values, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(gradient, gradients, rtol=1e-5, atol=1e-5)


@each
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["defaults", "all", "3 hard negatives and all"])
def test_in_blocks(make, naive_loss, mode, name):
    options = {"queries": QUERIES, "candidates": CANDIDATES, **OPTIONS[name]}
    values, gradients = naive_of(naive_loss, **options)
    actual = engine_of(make(), **options, mode=mode, block_size=3)
    assert_close(actual, (values.sum(), gradients), 2e-5)


@each
def test_it_is_saved_and_found_again(make, naive_loss):
    config = keras.saving.serialize_keras_object(make(name="mine"))
    again = keras.saving.deserialize_keras_object(config)
    assert type(again) is make
    assert float(again(ONE_HOT, SCORES)) == float(make()(ONE_HOT, SCORES))


class ByHand(Ratio):
    """`Ratio` with its slopes."""

    def aggregate(self, totals, row):
        a, b = totals
        return Aggregate(
            ops.log(a) * a / b - 0.5 * row.positive * row.num_items,
            slopes=((ops.log(a) + 1) / b, -ops.log(a) * a / b**2),
            positive_slope=-0.5 * row.num_items,
        )


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["defaults", "all"])
def test_values_alone_equal_slopes_by_hand(mode, name):
    """In blocks, with rows without negatives among them ("all")."""
    options = {"queries": QUERIES, "candidates": CANDIDATES, **OPTIONS[name]}
    one, other = (
        engine_of(loss, **options, mode=mode, block_size=3) for loss in (Ratio(), ByHand())
    )
    assert_close(one, other, 1e-6)


@pytest.mark.parametrize("compiled", [False, True])
def test_values_alone_equal_slopes_by_hand_on_a_matrix(compiled):
    scores = SCORES.copy()
    scores[2] = np.where(ONE_HOT[2] > 0, SCORES[2], -np.inf)
    one, other = (
        value_and_gradient(loss(reduction=None), ONE_HOT, scores, "float32", compiled)
        for loss in (Ratio, ByHand)
    )
    for x, y in zip(one, other, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-6)


@pytest.mark.skipif(BACKEND == "torch", reason="differentiable once")
@pytest.mark.parametrize("make", [Ratio, Plain])
def test_second_derivatives(make):
    """Against differences of the first, a row without negatives included."""
    scores = SCORES[:3].copy()
    scores[2] = np.where(ONE_HOT[2] > 0, SCORES[2], -np.inf)
    direction = np.random.default_rng(1).normal(size=scores.shape)
    loss, labels = make(dtype="float64"), ONE_HOT[:3]
    if make is Plain:
        # Where pull is 1 the gradient is one, and so has a symmetric derivative.
        loss.compare = lambda row: Channel(Exponential(), 3.0, -3.0, shift=1.0)

    def gradient_at(x):
        with float64():
            return value_and_gradient(loss, labels, x)[1]

    moved = np.where(np.isfinite(scores), direction, 0)
    step = 1e-5
    expected = (gradient_at(scores + step * moved) - gradient_at(scores - step * moved)) / (
        2 * step
    )
    with float64():
        actual = second_derivative(loss, labels, scores, moved)
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)
        if make is Ratio:
            by_hand = second_derivative(ByHand(dtype="float64"), labels, scores, moved)
            np.testing.assert_allclose(actual, by_hand, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("compiled", [False, True])
def test_of_equal_maxima_the_first_column_has_the_gradient(compiled):
    scores = np.array([[0.5, 0.9, 0.1, 0.9], [0.9, 0.2, 0.9, 0.9]])
    labels = np.array([[1, 0, 0, 0], [0, 1, 0, 0]])
    value, gradient = value_and_gradient(Hardest(), labels, scores, "float32", compiled)
    reported = sum(np.log1p(np.exp(x)) for x in (0.4, -0.4, 0.4, 0.7, 0.7, 0.7))
    np.testing.assert_allclose(value, 0.6**2 + 0.9**2 + reported, rtol=1e-6)
    expected = [[-1.2, 1.2, 0, 0], [1.8, -1.8, 0, 0]]
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-6)


class Made(RetrievalLoss):
    """A loss of a channel and of a function of the totals and the row."""

    def __init__(self, aggregate=lambda totals, row: totals[0], **channel):
        super().__init__(reduction=None)
        self.channel, self.function = channel, aggregate

    def compare(self, row):
        return Channel(Softplus(), **self.channel)

    def aggregate(self, totals, row):
        return self.function(totals, row)


# As many rows as columns: there a row of numbers would be broadcast over the columns.
SQUARE = np.linspace(-1, 1, 16).reshape(4, 4).astype("float32")


@pytest.mark.parametrize("name", ["scale", "positive_scale", "shift", "pull"])
@pytest.mark.parametrize("value", [np.ones(4, "float32"), np.ones([1, 4], "float32"), "1", [1.0]])
def test_coefficients_are_numbers_or_have_a_number_per_row(name, value):
    with pytest.raises(ValueError, match=rf"`{name}` of a Channel must be a number or have shape"):
        Made(**{name: value})(np.eye(4), SQUARE)
    column = np.full([4, 1], 0.5, "float32")
    of_column, of_number = (Made(**{name: x})(np.eye(4), SQUARE) for x in (column, 0.5))
    np.testing.assert_allclose(np.asarray(of_column), np.asarray(of_number), rtol=1e-6)


def test_names_of_weights_are_names():
    with pytest.raises(ValueError, match="`weight` of a Channel must be None, a name or a tuple"):
        Made(weight=3)(np.eye(4), SQUARE)


@pytest.mark.parametrize(
    ("message", "aggregate"),
    {
        "`value` of the Aggregate": lambda t, row: Aggregate(t[0][:, 0], (ops.ones_like(t[0]),)),
        "`slopes` of the Aggregate": lambda t, row: Aggregate(t[0], (ops.ones_like(t[0][:, 0]),)),
        "`positive_slope` of the Agg": lambda t, row: Aggregate(
            t[0], (ops.ones_like(t[0]),), ops.ones_like(t[0][:, 0])
        ),
        "`aggregate` of Made must have a number per row": lambda t, row: ops.mean(
            t[0], axis=0, keepdims=True
        ),
        "`aggregate` of Made must be a tensor of keras.ops": lambda t, row: np.ones([4, 1]),
    }.items(),
)
def test_an_aggregate_has_a_number_per_row(message, aggregate):
    with pytest.raises(ValueError, match=message):
        Made(aggregate)(np.eye(4), SQUARE)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="the others know all shapes")
def test_a_mean_is_refused_where_the_number_of_rows_is_not_known():
    import tensorflow as tf

    loss = Made(lambda totals, row: ops.mean(totals[0], axis=0, keepdims=True))
    call = tf.function(loss, input_signature=[tf.TensorSpec([None, 4])] * 2)
    with pytest.raises(ValueError, match="be no sum or mean over"):
        call(np.eye(4, dtype="float32"), SQUARE)


def test_slopes_that_are_brought_now_and_then_count():
    """Both ways round: by hand they are twice what differentiation gives."""
    brings = True

    def aggregate(totals, row):
        return Aggregate(totals[0], (2 * ops.ones_like(totals[0]),)) if brings else totals[0]

    loss = Made(aggregate)
    found = []
    for brings in (True, False, False, True, True):  # noqa: B007 # read by the function above
        found.append(value_and_gradient(loss, np.eye(4), SQUARE, "float32")[1])
    for by_hand in (found[0], found[3], found[4]):
        np.testing.assert_allclose(by_hand, 2 * found[1], rtol=1e-6)
    np.testing.assert_allclose(found[2], found[1])


class MaximumAlone(RetrievalLoss):
    def compare(self, row):
        return Channel(Identity(), reduce="max")

    def aggregate(self, totals, row):
        return totals[0]


def test_a_loss_of_maxima_has_nothing_to_weigh():
    with pytest.raises(ValueError, match="`candidate_weight` must be None for MaximumAlone"):
        MaximumAlone()(ONE_HOT, SCORES, candidate_weight=np.ones(9))
    scores = SCORES.copy()
    scores[:, 4] = -np.inf
    expected = sum(
        max(s for j, s in enumerate(row) if j != p) - row[p]
        for row, p in zip(scores, POSITIVES, strict=True)
    )
    np.testing.assert_allclose(float(MaximumAlone()(ONE_HOT, scores)), expected, rtol=1e-5)


def test_a_channel_may_leave_the_weights_out():
    class Both(RetrievalLoss):
        def compare(self, row):
            return Channel(Softplus()), Channel(Softplus(), weight=None)

        def aggregate(self, totals, row):
            return totals[0] - totals[1]

    weight = np.array([1, 2, 0, 1, 1, 1, 3, 1, 1], "float32")
    expected = 0.0
    for row, p in zip(SCORES, POSITIVES, strict=True):
        for j, s in enumerate(row):
            if j != p and weight[j] > 0:
                expected += (weight[j] - 1) * np.log1p(np.exp(s - row[p]))
    actual = float(Both()(ONE_HOT, SCORES, candidate_weight=weight))
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def test_a_mean_over_rows_is_refused():
    class Mean(Plain):
        def aggregate(self, totals, row):
            return ops.mean(totals[0])

    with pytest.raises(ValueError, match=r"`aggregate` of Mean must have a number per row"):
        Mean()(ONE_HOT, SCORES)


@pytest.mark.parametrize(
    "channel",
    [Channel(Softplus(), reduce="logsumexp"), Channel(LogisticPower(), reduce="mean")],
)
def test_a_wrong_reduction_is_named(channel):
    class Wrong(Plain):
        def compare(self, row):
            return channel

    with pytest.raises(ValueError, match="`reduce` must be one of sum, logsumexp, max"):
        Wrong()(ONE_HOT, SCORES)


def test_derivatives_that_are_given_are_taken():
    class Slopes(CROLoss):
        def aggregate(self, totals, row):
            return Aggregate(totals[0], slopes=(3.0,), positive_slope=-1.0)

    _, gradient = value_and_gradient(Slopes("softplus"), ONE_HOT, SCORES, "float32")
    for row, p, slopes in zip(SCORES, POSITIVES, gradient, strict=True):
        by_negative = [3 * sigmoid(s - row[p]) for j, s in enumerate(row) if j != p]
        np.testing.assert_allclose(np.delete(slopes, p), by_negative, rtol=1e-5)
        np.testing.assert_allclose(slopes[p], -1 - sum(by_negative), rtol=1e-5)


def triplet(channel, **options):
    class Triplet(RetrievalLoss):
        def compare(self, row):
            return channel

        def aggregate(self, totals, row):
            return totals[0]

    return Triplet(**options)


def test_a_kernel_may_be_a_name_or_a_function():
    expected = float(triplet(Channel(Softplus()))(ONE_HOT, SCORES))
    for kernel in ("softplus", ops.softplus):
        assert float(triplet(Channel(kernel))(ONE_HOT, SCORES)) == pytest.approx(expected, 1e-6)


@pytest.mark.parametrize("kernel", [Softplus(), Exponential()])
def test_a_weight_of_0_of_another_name_adds_nothing(kernel):
    """A LogKernel has logarithms of weights."""
    weight = np.array([1, 2, 0, 1, 0.5, 0, 3, 1, 1], "float32")
    loss = triplet(Channel(kernel, weight="similarity"), reduction=None)
    actual, gradient = value_and_gradient(
        loss, ONE_HOT, SCORES, "float32", candidate_weight={"similarity": weight}
    )
    for i, (row, p) in enumerate(zip(SCORES, POSITIVES, strict=True)):
        negatives = [j for j in range(len(row)) if j != p]
        phi = np.log1p if isinstance(kernel, Softplus) else float
        total = sum(weight[j] * phi(np.exp(row[j] - row[p])) for j in negatives)
        expected = np.log(total) if isinstance(kernel, Exponential) else total
        np.testing.assert_allclose(actual[i], expected, rtol=1e-5)
        assert all((gradient[i, j] == 0) == (weight[j] == 0) for j in negatives)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (None, "`compare` of Triplet must give a Channel or a tuple of them. Received: None"),
        ((), "`compare` of Triplet must give a Channel"),
        ((Softplus(),), "`compare` of Triplet must give a Channel"),
        (Channel("soft"), "`kernel` must be one of"),
        (Channel(Softplus(), 0.0), "`scale` of a Channel must not be 0"),
    ],
)
def test_what_is_no_channel_is_named(found, message):
    with pytest.raises(ValueError, match=message):
        triplet(found)(ONE_HOT, SCORES)


def test_an_aggregate_without_a_value_is_named():
    class Nothing(Plain):
        def aggregate(self, totals, row):
            pass

    with pytest.raises(ValueError, match="`aggregate` of Nothing must be a .* Received: None"):
        Nothing()(ONE_HOT, SCORES)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (RowInput("margin"), r"`row_inputs` of Wanting must be a tuple, e.g. \(RowInput"),
        (("margin",), "`row_inputs` of Wanting must be a tuple"),
        ((RowInput("item"),), "must be a name that calls and batches have no other use for"),
        ((RowInput("candidate_weight"),), "must be a name that calls and batches have no other"),
        ((RowInput("a b"),), "must be a name"),
    ],
)
def test_inputs_of_rows_of_wrong_names(inputs, message):
    class Wanting(Plain):
        row_inputs = inputs

    with pytest.raises(ValueError, match=message):
        Wanting()


def test_names_that_are_taken_are_those_of_the_calls():
    calls = embedding_loss, RetrievalLoss.__call__
    arguments = {name for call in calls for name in inspect.signature(call).parameters}
    assert arguments - {"row_inputs"} <= TAKEN_NAMES


@pytest.mark.parametrize("compiled", [False, True])
def test_a_maximum_in_float64(compiled):
    loss = triplet(Channel(Hinge(0.5), reduce="max"), dtype="float64")
    scores, labels = np.array([[0.8, 0.7, 0.1]]), np.array([[1, 0, 0]])
    with float64():
        value, gradient = value_and_gradient(loss, labels, scores, "float64", compiled)
    np.testing.assert_allclose(value, 0.4, rtol=1e-12)
    np.testing.assert_array_equal(gradient, [[-1, 1, 0]])


def test_a_nan_stays_in_its_row_where_nothing_is_checked():
    loss = triplet(Channel(Identity(), reduce="max"), reduction=None)
    scores = np.array([[0.8, np.nan, 0.1], [0.5, 0.7, 0.1]], "float32")
    labels = np.array([[1, 0, 0], [1, 0, 0]], "float32")
    if BACKEND == "torch":
        pytest.skip("it runs eagerly, where a NaN is refused")
    value, gradient = COMPILED[BACKEND](loss, labels, scores)
    assert np.isnan(value[0])
    assert np.isnan(gradient[0]).any()
    np.testing.assert_allclose(value[1], 0.2, rtol=1e-6)
    np.testing.assert_allclose(gradient[1], [-1, 1, 0])


def _by_xla(loss, labels, scores):
    import tensorflow as tf

    @tf.function(jit_compile=True)
    def both(scores):
        with tf.GradientTape() as tape:
            tape.watch(scores)
            value = loss(labels, scores)
        return value, tape.gradient(value, scores)

    return (x.numpy() for x in both(tf.constant(scores)))


def _by_jit(loss, labels, scores):
    import jax

    value = jax.jit(lambda x: loss(labels, x))
    gradient = jax.jit(jax.grad(lambda x: loss(labels, x).sum()))
    return np.asarray(value(scores)), np.asarray(gradient(scores))


COMPILED = {"tensorflow": _by_xla, "jax": _by_jit}


@pytest.mark.parametrize("number", [4, 60])
def test_of_equal_scores_the_lower_columns_are_mined(number):
    values = np.array([0.1, *np.random.default_rng(0).integers(0, 3, number) / 4])
    candidates = np.stack([values, np.arange(number + 1)], axis=1).astype("float32")
    queries = np.array([[1.0, 0]], "float32")
    order = sorted(range(1, number + 1), key=lambda j: -values[j])  # a stable sort
    for k in (1, 3, number):
        for channel in (Channel(Identity(), reduce="max"), Channel(Identity())):
            _, (_, by_candidate) = value_and_gradients(
                lambda q, c, channel=channel, k=k: embedding_loss(
                    triplet(channel), q, c, [0], num_hard_negatives=k
                ),
                [queries, candidates],
            )
            mined = order[:1] if channel.reduce == "max" else order[:k]
            assert set(np.flatnonzero(by_candidate[1:, 0]) + 1) == set(mined)


def test_a_maximum_takes_no_weights_and_slopes_are_counted():
    with pytest.raises(ValueError, match="`weight` of a Channel must be left out for a maximum"):
        triplet(Channel(Identity(), reduce="max", weight="near"))(ONE_HOT, SCORES)

    class Few(Plain):
        def aggregate(self, totals, row):
            return Aggregate(totals[0], ())

    with pytest.raises(ValueError, match="`slopes` of the Aggregate of Few must be .* Received: 0"):
        Few()(ONE_HOT, SCORES)
    for name in ("scores", "max_positives", "jit_compile", "reduction"):
        with pytest.raises(ValueError, match="must be a name that calls and batches"):
            type("Wanting", (Plain,), {"row_inputs": (RowInput(name),)})()
