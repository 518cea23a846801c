"""Whatever a framework calls a tensor: empty, of unknown shape, a variable, of other precision."""

import contextlib

import keras
import numpy as np
import pytest

from tests.losses.embeddings import (
    ALL,
    CANDIDATES,
    DIM,
    FEW_KNOWN,
    IDS,
    NUM_CANDIDATES,
    NUM_QUERIES,
    OPTIONS,
    OWN,
    QUERIES,
    assert_close,
    engine_of,
    naive_of,
)
from tests.losses.gradients import BACKEND, value_and_gradient
from tests.losses.losses import CASES, each_loss, make_each_loss
from tests.losses.scores import ONE_HOT, SCORES, naive_rows
from tfrs_croloss import CROLoss, embedding_loss

tensorflow = pytest.mark.skipif(BACKEND != "tensorflow", reason="of TensorFlow's graphs")
jax_only = pytest.mark.skipif(BACKEND != "jax", reason="of JAX's compilation")
torch_only = pytest.mark.skipif(BACKEND != "torch", reason="of PyTorch's autocast and compiler")
EMPTY = pytest.mark.parametrize("shape", [(0, 9), (0, 0), (6, 0)])
REDUCTIONS = (None, "sum", "sum_over_batch_size", "mean_with_sample_weight")


@make_each_loss
@EMPTY
def test_a_matrix_without_rows_or_columns_has_no_loss(make, shape):
    labels, scores = np.zeros(shape), np.zeros(shape)
    weights = {"sample_weight": np.ones(shape[0]), "candidate_weight": np.ones(shape[1])}
    for reduction in REDUCTIONS:
        for options in ({}, weights):
            loss = make(reduction=reduction)
            value, gradient = value_and_gradient(loss, labels, scores, "float32", **options)
            assert value.shape == (shape[:1] if reduction is None else ())
            assert (value == 0).all()
            assert gradient.shape == shape


@make_each_loss
def test_a_compiled_matrix_without_columns_has_no_loss(make):
    loss = make(reduction="sum_over_batch_size")
    value, gradient = value_and_gradient(
        loss, np.zeros([6, 0]), np.zeros([6, 0]), "float32", compiled=True
    )
    assert value == 0
    assert gradient.shape == (6, 0)


@pytest.mark.parametrize("positives", [None, OWN])
@pytest.mark.parametrize("num_hard_negatives", [None, 2])
@pytest.mark.parametrize("mode", ["eager", "compiled"])
def test_no_candidates_have_no_loss(positives, num_hard_negatives, mode):
    rows = 0 if positives is None else NUM_QUERIES
    options = {
        "candidate_ids": IDS[:0],
        "candidate_weight": np.ones(0, "float32"),
        "num_hard_negatives": num_hard_negatives,
    }
    if mode == "compiled":
        mode = {"tensorflow": "unknown rows", "jax": "jit", "torch": "eager"}[BACKEND]
    for known in ({}, options):
        value, gradients = engine_of(
            CROLoss("softplus"), QUERIES[:rows], CANDIDATES[:0], positives, mode=mode, **known
        )
        assert value == 0
        assert [x.shape for x in gradients[:2]] == [(rows, DIM), (0, DIM)]
        assert all((x == 0).all() for x in gradients)


@make_each_loss
@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_an_eager_call_refuses_bad_weights_of_rows(make, bad):
    weight = np.ones(NUM_QUERIES, "float32")
    weight[2] = bad
    with pytest.raises(ValueError, match="`sample_weight` must be finite and not negative"):
        make()(ONE_HOT, SCORES, sample_weight=weight[: len(SCORES)])
    with pytest.raises(ValueError, match="`sample_weight` must be finite and not negative"):
        embedding_loss(make(), QUERIES, CANDIDATES, sample_weight=weight)


def variable_of(values, framework):
    if framework == "keras":
        return keras.Variable(values)
    if BACKEND == "torch":
        import torch

        return torch.nn.Parameter(torch.tensor(values))
    import tensorflow as tf

    return tf.Variable(values)


@make_each_loss
@pytest.mark.parametrize("framework", ["keras", "own"])
def test_variables_are_taken_as_tensors(make, framework):
    if BACKEND == "jax" and framework == "own":
        pytest.skip("JAX has no variables of its own")
    scores, weight = SCORES.astype("float32"), np.linspace(0.5, 2, 9).astype("float32")
    expected = float(make()(ONE_HOT, scores, candidate_weight=weight))
    labels, scores, weight = (
        variable_of(x, framework) for x in (ONE_HOT.astype("float32"), scores, weight)
    )
    value = make()(labels, scores, candidate_weight=weight)
    np.testing.assert_allclose(float(value), expected, rtol=1e-6)
    by_array = embedding_loss(make(), QUERIES, CANDIDATES, sample_weight=np.ones(NUM_QUERIES))
    by_variable = embedding_loss(
        make(),
        variable_of(QUERIES, framework),
        variable_of(CANDIDATES, framework),
        sample_weight=variable_of(np.ones(NUM_QUERIES, "float32"), framework),
    )
    np.testing.assert_allclose(float(by_variable), float(by_array), rtol=1e-6)


@tensorflow
@each_loss
def test_the_gradient_reaches_a_variable(make, naive_loss):
    import tensorflow as tf

    scores = tf.Variable(SCORES.astype("float32"))
    with tf.GradientTape() as tape:
        value = make()(ONE_HOT, scores)
    gradient = tape.gradient(value, scores).numpy()
    np.testing.assert_allclose(gradient, naive_rows(naive_loss)[1], rtol=1e-5, atol=1e-6)


@contextlib.contextmanager
def floatx(name):
    before = keras.config.floatx()
    keras.config.set_floatx(name)
    try:
        yield
    finally:
        keras.config.set_floatx(before)


@each_loss
@pytest.mark.parametrize("name", ["float16", "float64"])
@pytest.mark.parametrize("compiled", [False, True])
def test_keras_may_have_another_default_precision(make, naive_loss, name, compiled):
    with floatx(name):
        value, gradient = value_and_gradient(
            make(reduction=None), ONE_HOT, SCORES, "float32", compiled
        )
    values, gradients = naive_rows(naive_loss)
    np.testing.assert_allclose(value, values, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradient, gradients, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["float16", "float64"])
@pytest.mark.parametrize("options", [OPTIONS["3 hard negatives and all"], {}])
def test_the_engine_under_another_default_precision(name, options):
    make, naive_loss = CASES["cro"]
    values, gradients = naive_of(naive_loss, QUERIES, CANDIDATES, **options)
    with floatx(name):
        actual = engine_of(make(), QUERIES, CANDIDATES, block_size=3, **options)
    assert_close(actual, (values.sum(), gradients))


@tensorflow
@each_loss
def test_a_graph_of_tensorflow_1(make, naive_loss):
    """There `==` between tensors is Python's identity."""
    import tensorflow as tf

    labels = ONE_HOT.copy()
    labels[0] = 0
    values, gradients = naive_rows(naive_loss)
    values[0], gradients[0] = 0, 0
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        scores = tf.constant(SCORES, tf.float32)
        value = make(max_positives=2, reduction=None)(labels, scores)
        actual = session.run([value, tf.gradients(value, scores)[0]])
    np.testing.assert_allclose(actual[0], values, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(actual[1], gradients, rtol=1e-5, atol=1e-6)


@tensorflow
@pytest.mark.parametrize("name", ["all", "few known", "own positives and all", "two heads"])
def test_the_engine_in_a_graph_of_tensorflow_1(name):
    import tensorflow as tf

    make, naive_loss = CASES["lambda"]
    options = {"queries": QUERIES, "candidates": CANDIDATES, **OPTIONS[name]}
    values, gradients = naive_of(naive_loss, **options)
    queries, candidates = options.pop("queries"), options.pop("candidates")
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        inputs = [tf.constant(queries), tf.constant(candidates)]
        value = embedding_loss(make(), *inputs, reduction="mean_with_sample_weight", **options)
        actual = session.run([value, *tf.gradients(value, inputs)])
    total = np.sum(options.get("sample_weight", np.ones(NUM_QUERIES)))
    value, *by_input = (x * total for x in actual)
    assert_close((value, by_input), (values.sum(), gradients[:2]))


UNKNOWN = {"no shape": None, "no sizes": "rank"}


@tensorflow
@pytest.mark.parametrize("known", UNKNOWN.values(), ids=UNKNOWN)
@pytest.mark.parametrize("name", ["defaults", "all", "two heads", "own positives"])
def test_embeddings_of_unknown_shape(known, name):
    import tensorflow as tf

    make, naive_loss = CASES["cro"]
    options = {"queries": QUERIES, "candidates": CANDIDATES, **OPTIONS[name]}
    if name == "all":
        # One positive a row: how many there are must be known.
        options.update(positive_index=np.arange(NUM_QUERIES), known_positive_ids=FEW_KNOWN)
    values, _ = naive_of(naive_loss, **options)
    options = {key: np.asarray(x) for key, x in options.items()}
    fixed = {key: options.pop(key) for key in ("positive_index", "positives") & options.keys()}

    def function(tensors):
        return embedding_loss(make(reduction=None), **tensors, **fixed)

    signature = {
        key: tf.TensorSpec(None if known is None else [None] * x.ndim, x.dtype)
        for key, x in options.items()
    }
    actual = tf.function(function, input_signature=[signature])(
        {key: tf.constant(x) for key, x in options.items()}
    )
    np.testing.assert_allclose(actual, values, rtol=1e-5, atol=1e-6)


@tensorflow
def test_the_number_of_positives_must_be_known():
    import tensorflow as tf

    function = tf.function(
        lambda index: embedding_loss(CROLoss(), QUERIES, CANDIDATES, index),
        input_signature=[tf.TensorSpec([None, None], tf.int32)],
    )
    with pytest.raises(ValueError, match="known number of positives of a row.*tf.ensure_shape"):
        function(tf.zeros([NUM_QUERIES, 2], tf.int32))


@tensorflow
@each_loss
def test_a_matrix_of_unknown_shape(make, naive_loss):
    import tensorflow as tf

    values, _ = naive_rows(naive_loss)
    weight = np.linspace(0, 2, len(values)).astype("float32")
    function = tf.function(
        lambda y, s, w, v: make()(y, s, sample_weight=w, candidate_weight=v),
        input_signature=[tf.TensorSpec(None, tf.float32)] * 4,
    )
    labels, scores = ONE_HOT.astype("float32"), SCORES.astype("float32")
    expected = float(make()(labels, scores, candidate_weight=np.ones(9, "float32")))
    for candidate_weight in (np.ones(9, "float32"), np.ones_like(scores)):
        actual = function(labels, scores, np.ones(6, "float32"), candidate_weight)
        np.testing.assert_allclose(actual, expected, rtol=1e-5)
    with pytest.raises(tf.errors.InvalidArgumentError, match="`sample_weight` of unknown rank"):
        function(labels, scores, np.ones_like(scores), candidate_weight)
    function = tf.function(
        lambda y, s, w: make()(y, s, sample_weight=w),
        input_signature=[tf.TensorSpec(None, tf.float32)] * 3,
    )
    np.testing.assert_allclose(function(labels, scores, weight), weight @ values, rtol=1e-5)


@torch_only
@pytest.mark.parametrize("half", ["float16", "bfloat16"])
@pytest.mark.parametrize("reduction", ["sum", None])
def test_autocast_lowers_no_product(half, reduction):
    import torch

    make, naive_loss = CASES["cro"]
    values, gradients = naive_of(naive_loss, QUERIES, CANDIDATES, **ALL)
    with torch.autocast("cpu", dtype=getattr(torch, half)):
        actual = engine_of(make(), QUERIES, CANDIDATES, reduction=reduction, **ALL)
    expected = values if reduction is None else values.sum()
    assert_close(actual, (expected, gradients))


@torch_only
def test_autocast_does_not_overflow():
    import torch

    # s⁺ = 0, s⁻ = 90,000, beyond half precision: ln(1 + softplus(90,000)) = ln(90,001).
    queries = torch.tensor([[300.0, 0.0]])
    candidates = torch.tensor([[0.0, 300.0], [300.0, 0.0]])
    with torch.autocast("cpu", dtype=torch.float16):
        value = embedding_loss(CROLoss(), queries, candidates)
    np.testing.assert_allclose(float(value), np.log(90001), rtol=1e-6)


@torch_only
@pytest.mark.parametrize("name", ["cro", "lambda", "mml"])
def test_one_graph_of_torch_compile(name):
    """Python's part alone is compiled here: code for the processor takes a minute."""
    import torch

    make, naive_loss = CASES[name]

    def of_matrix(scores):
        return make()(torch.tensor(ONE_HOT, dtype=torch.float32), scores)

    def of_embeddings(queries):
        return embedding_loss(make(), queries, torch.tensor(CANDIDATES))

    of_rows, of_scores = naive_of(naive_loss, QUERIES, CANDIDATES), naive_rows(naive_loss)
    for function, x, value, gradient in (
        (of_matrix, SCORES, of_scores[0], of_scores[1]),
        (of_embeddings, QUERIES, of_rows[0], of_rows[1][0]),
    ):
        x = torch.tensor(x, dtype=torch.float32, requires_grad=True)
        torch._dynamo.reset()
        compiled = torch.compile(function, backend="eager", fullgraph=True)(x)
        compiled.backward()
        np.testing.assert_allclose(float(compiled), value.sum(), rtol=1e-5)
        np.testing.assert_allclose(x.grad, gradient, rtol=1e-4, atol=1e-5)


@jax_only
def test_an_eager_call_compiles_nothing_again():
    import jax

    compiled = []

    def listener(event, duration, **kwargs):
        if "compile" in event:
            compiled.append(event)

    def step():
        gradient = jax.grad(lambda x: embedding_loss(CROLoss(), x, CANDIDATES, block_size=3))
        return gradient(jax.numpy.asarray(QUERIES))

    step()
    jax.monitoring.register_event_duration_secs_listener(listener)
    try:
        jax.jit(lambda x: x + NUM_CANDIDATES)(1.0)
        assert compiled  # the listener hears of compilation
        compiled.clear()
        step()
    finally:
        jax.monitoring.clear_event_listeners()
    assert compiled == []


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_blocks_follow_the_reduction_of_the_loss(reduction):
    make, naive_loss = CASES["cro"]
    weight = np.linspace(0, 3, NUM_QUERIES).astype("float32")
    values, _ = naive_of(naive_loss, QUERIES, CANDIDATES, sample_weight=weight)
    expected = {
        None: values,
        "sum": values.sum(),
        "sum_over_batch_size": values.mean(),
        "mean_with_sample_weight": values.sum() / weight.sum(),
    }[reduction]
    actual = embedding_loss(make(reduction=reduction), QUERIES, CANDIDATES, sample_weight=weight)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(actual), expected, rtol=1e-5)
