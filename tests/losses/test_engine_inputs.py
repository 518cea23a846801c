"""What `embedding_loss` makes of inputs at the edge, of other dtypes, of many and of wrong ones."""

import os

import keras
import numpy as np
import pytest
from keras import ops

from tests.losses.embeddings import (
    CANDIDATES,
    DIM,
    FEW_KNOWN,
    IDS,
    INDEX,
    NUM_CANDIDATES,
    NUM_QUERIES,
    OPTIONS,
    OWN,
    QUERIES,
    SEVERAL,
    assert_close,
    engine_of,
    matrix_of,
    naive_of,
    unit,
)
from tests.losses.gradients import BACKEND, MODES, float64, value_and_gradients
from tests.losses.losses import CASES, CCL, each_loss
from tfrs_croloss import CosineContrastiveLoss, embedding_loss

CCL_LOSS = CosineContrastiveLoss(**CCL)
wide_ids = pytest.mark.skipif(BACKEND == "jax", reason="JAX has int32 alone by default")
NOTHING = {
    "all masked": {"score_mask": np.zeros(NUM_CANDIDATES, bool)},
    "no negative in the mask": {"score_mask": np.eye(NUM_QUERIES, NUM_CANDIDATES) > 0},
    "positives masked": {"score_mask": np.arange(NUM_CANDIDATES) >= NUM_QUERIES},
    "no hard negative": {"num_hard_negatives": 2, "score_mask": np.zeros(NUM_CANDIDATES, bool)},
    "no weight": {"candidate_weight": np.zeros(NUM_CANDIDATES, "float32")},
    "no positive": {"positive_index": np.full([NUM_QUERIES, 2], -1)},
    "one item": {"candidate_ids": np.full(NUM_CANDIDATES, 3)},
    "all known": {"candidate_ids": IDS, "known_positive_ids": np.tile(IDS, [NUM_QUERIES, 1])},
    "no weight of the rows": {"sample_weight": np.zeros(NUM_QUERIES, "float32")},
}


two_losses = pytest.mark.parametrize("make", [CASES["lambda"][0], CASES["mml"][0]])


@two_losses
@pytest.mark.parametrize("options", NOTHING.values(), ids=NOTHING)
def test_rows_without_a_loss_are_exactly_zero(make, options):
    values, gradients = engine_of(make(), QUERIES, CANDIDATES, reduction=None, **options)
    assert (values == 0).all()
    assert all((x == 0).all() for x in gradients)


@pytest.mark.parametrize("reduction", [None, "sum", "mean", "mean_with_sample_weight"])
def test_no_rows_have_no_loss(reduction):
    make, _ = CASES["cro"]
    value, (by_query, by_candidate) = engine_of(
        make(), QUERIES[:0], CANDIDATES, reduction=reduction, candidate_ids=IDS
    )
    assert value.shape == ((0,) if reduction is None else ())
    assert by_query.shape == (0, DIM)
    assert (by_candidate == 0).all()
    assert value.sum() == 0


@each_loss
def test_float64(make, naive_loss):
    with float64():
        queries, candidates = QUERIES.astype("float64"), CANDIDATES.astype("float64")
        options = OPTIONS["3 hard negatives and all"]
        values, gradients = naive_of(naive_loss, queries, candidates, **options)
        actual = engine_of(make(dtype="float64"), queries, candidates, **options, block_size=3)
        assert actual[0].dtype == np.float64
        assert_close(actual, (values.sum(), gradients), tolerance=1e-12)


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_half_precision_embeddings_are_raised(half):
    make, naive_loss = CASES["cro"]
    queries, candidates = (ops.cast(ops.convert_to_tensor(x), half) for x in (QUERIES, CANDIDATES))

    def function(queries, candidates):
        by_dtype.append(keras.backend.standardize_dtype(queries.dtype))
        return embedding_loss(make(), queries, candidates)

    by_dtype = []
    value, gradients = value_and_gradients(function, [queries, candidates])
    raised = [ops.convert_to_numpy(ops.cast(x, "float32")) for x in (queries, candidates)]
    values, expected = naive_of(naive_loss, *raised)
    assert by_dtype == [half]
    np.testing.assert_allclose(value, values.sum(), rtol=1e-5)
    # Handed back in half precision, of 8 bits in bfloat16.
    assert_close((value, [x.astype("float64") for x in gradients]), (value, expected), 2**-7)


@wide_ids
def test_ids_beyond_32_bits():
    """In 32 bits these would all be 7, or each that of its neighbour."""
    make, naive_loss = CASES["scaled"]
    for wide in (7 + 2**32 * IDS.astype("int64"), 2**31 + IDS.astype("int64")):
        known = np.where(FEW_KNOWN >= 0, wide[FEW_KNOWN % NUM_CANDIDATES], -1)
        options = {"candidate_ids": wide, "known_positive_ids": known}
        expected = naive_of(naive_loss, QUERIES, CANDIDATES, **options)
        assert_close(engine_of(make(), QUERIES, CANDIDATES, reduction=None, **options), expected)


@wide_ids
def test_a_wide_id_is_not_a_narrow_one():
    make, _ = CASES["scaled"]
    options = {"candidate_ids": IDS.astype("int32")}
    expected = engine_of(make(), QUERIES, CANDIDATES, **options)
    options["known_positive_ids"] = np.tile(IDS + 2**32, [NUM_QUERIES, 1])
    assert_close(engine_of(make(), QUERIES, CANDIDATES, **options), expected)


def test_known_positives_may_be_of_no_width():
    make, naive_loss = CASES["cro"]
    options = {"candidate_ids": IDS, "known_positive_ids": np.zeros([NUM_QUERIES, 0], int)}
    for more in ({}, {"positives": OWN}):
        expected = naive_of(naive_loss, QUERIES, CANDIDATES, **options, **more)
        actual = engine_of(make(), QUERIES, CANDIDATES, reduction=None, **options, **more)
        assert_close(actual, expected)


def test_lists_are_tensors():
    make, naive_loss = CASES["cro"]
    options = {
        "positive_index": SEVERAL.tolist(),
        "candidate_ids": IDS.tolist(),
        "known_positive_ids": FEW_KNOWN.tolist(),
        "candidate_weight": [0.5] * NUM_CANDIDATES,
        "score_mask": [True] * (NUM_CANDIDATES - 1) + [False],
    }
    expected, _ = naive_of(naive_loss, QUERIES, CANDIDATES, **options)
    value = embedding_loss(make(), QUERIES.tolist(), CANDIDATES.tolist(), **options)
    np.testing.assert_allclose(float(value), expected.sum(), rtol=1e-5)


@each_loss
def test_tied_hard_negatives(make, naive_loss):
    """Each candidate stands there three times: whichever are taken, the sums are the same."""
    queries = unit(4, DIM, seed=11)
    once = unit(6, DIM, seed=12)
    candidates = np.concatenate([once, once, once])
    options = {"positive_index": np.array([3, 2, 1, 0]), "num_hard_negatives": 5}
    options["score_mask"] = np.arange(18) % 6 != np.array([[3, 2, 1, 0]]).T
    options["score_mask"][:, :6] |= np.eye(4, 6)[::-1] > 0  # the positive itself, once
    values, (by_query, by_candidate) = naive_of(naive_loss, queries, candidates, **options)
    actual, gradients = engine_of(make(), queries, candidates, reduction=None, **options)
    of_items = [x.reshape(3, 6, DIM).sum(axis=0) for x in (gradients[1], by_candidate)]
    assert_close((actual, [gradients[0], of_items[0]]), (values, [by_query, of_items[1]]))


@pytest.mark.filterwarnings("ignore:.* takes cosines")
@pytest.mark.parametrize(
    # Along "lambda", the slope of e^x itself would be beyond float32.
    "make",
    [make for name, (make, _) in CASES.items() if name != "lambda"],
)
def test_huge_scores_stay_finite(make):
    for factor in (1e2, 1e4):
        queries, candidates = factor * QUERIES, factor * CANDIDATES
        expected = matrix_of(make, queries, candidates, positive_index=INDEX)
        actual = engine_of(make(), queries, candidates, positive_index=INDEX, reduction=None)
        assert all(np.isfinite(x).all() for x in (actual[0], *actual[1]))
        assert_close(actual, expected, tolerance=1e-4)


@pytest.mark.skipif(BACKEND == "torch", reason="PyTorch runs eagerly, where this raises")
def test_a_compiled_nan_shows_in_its_row_alone():
    make, naive_loss = CASES["mml"]
    queries = QUERIES.copy()
    queries[2] = np.nan
    values, (by_query, _) = engine_of(make(), queries, CANDIDATES, mode=MODES[1], reduction=None)
    expected, (expected_by_query, _) = naive_of(naive_loss, QUERIES, CANDIDATES)
    assert np.isnan(values[2])
    others = [0, 1, 3, 4, 5, 6]
    assert_close(
        (values[others], [by_query[others]]), (expected[others], [expected_by_query[others]])
    )


def test_a_score_beyond_cosines_warns_where_cosines_are_meant():
    with pytest.warns(UserWarning, match="a score of size 3 came"):
        embedding_loss(CosineContrastiveLoss(**CCL), 3 * QUERIES, CANDIDATES)
    with pytest.warns(UserWarning, match="a score of size 2 came"):
        embedding_loss(CosineContrastiveLoss(**CCL), QUERIES, CANDIDATES, positives=2 * OWN)


def peak_memory():
    """This process's most bytes so far since the last call, on Linux."""
    with open("/proc/self/status") as status:
        sizes = dict(line.split(":", 1) for line in status)
    with open("/proc/self/clear_refs", "w") as refs:
        refs.write("5")
    return 1024 * int(sizes["VmHWM"].split()[0])


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="of Linux")
def test_many_candidates_in_little_memory():
    """A matrix of 410 MB, of which a tape would hold ten, against a loop over the rows."""
    num_queries, num_candidates, margin = 512, 200_000, 0.4
    queries, candidates = unit(num_queries, DIM, seed=13), unit(num_candidates, DIM, seed=14)
    wide = candidates.astype("float64")
    expected, by_query = 0.0, []
    for i, query in enumerate(queries.astype("float64")):
        scores = wide @ query
        own, scores[i] = scores[i], -1
        over = np.flatnonzero(scores > margin)
        factor = 10 / (num_candidates - 1)
        expected += 1 - own + factor * (scores[over] - margin).sum()
        by_query.append(factor * wide[over].sum(axis=0) - wide[i])
    loss = CosineContrastiveLoss(margin=margin, negative_weight=10.0)
    peak_memory()
    before = peak_memory()
    value, gradients = engine_of(loss, queries, candidates)
    assert peak_memory() - before < 2**30
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_allclose(gradients[0], by_query, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["candidate_ids", "known_positive_ids", "positive_index"])
@pytest.mark.parametrize("bad", ["strings", "floats"])
def test_ids_are_integers(name, bad):
    arguments = {
        "candidate_ids": np.arange(len(CANDIDATES)),
        "known_positive_ids": np.zeros([len(QUERIES), 1], "int32"),
        "positive_index": np.arange(len(QUERIES)),
    }
    arguments[name] = arguments[name].astype("str" if bad == "strings" else "float32")
    with pytest.raises(ValueError, match=f"`{name}` must be integers"):
        embedding_loss(CCL_LOSS, QUERIES, CANDIDATES, **arguments)


@pytest.mark.skipif(BACKEND != "jax", reason="the others have integers of 64 bits")
def test_ids_that_jax_would_cut_off_are_refused():
    ids = np.arange(len(CANDIDATES)) + 2**32
    with pytest.raises(ValueError, match="`candidate_ids` must fit into int32"):
        embedding_loss(CCL_LOSS, QUERIES, CANDIDATES, candidate_ids=ids)


def test_one_weight_for_all_rows_and_weights_that_are_integers():
    expected = embedding_loss(CCL_LOSS, QUERIES, CANDIDATES)
    half = embedding_loss(CCL_LOSS, QUERIES, CANDIDATES, sample_weight=0.5)
    np.testing.assert_allclose(ops.convert_to_numpy(half), 0.5 * ops.convert_to_numpy(expected))
    ones = np.ones(len(CANDIDATES), "int32")
    weighed = embedding_loss(CCL_LOSS, QUERIES, CANDIDATES, candidate_weight=ones)
    np.testing.assert_allclose(
        ops.convert_to_numpy(weighed), ops.convert_to_numpy(expected), rtol=1e-6
    )


@pytest.mark.skipif(BACKEND != "tensorflow", reason="the others have no such choice")
@pytest.mark.parametrize("jit_compile", [True, False])
def test_xla_can_be_left_out(jit_compile):
    import tensorflow as tf

    loss = CosineContrastiveLoss(**CCL)
    loss.jit_compile = jit_compile
    for function in (
        lambda q, c: embedding_loss(loss, q, c),
        lambda q, c: loss(
            tf.eye(*(tf.shape(x)[0] for x in (q, c))), tf.matmul(q, c, transpose_b=True)
        ),
    ):
        graph = tf.function(function).get_concrete_function(
            *(tf.TensorSpec(x.shape, "float32") for x in (QUERIES, CANDIDATES))
        )
        functions = graph.graph.as_graph_def().library.function
        compiled = [f for f in functions if f.attr["_XlaMustCompile"].b]
        assert bool(compiled) == jit_compile
        queries, candidates = (tf.cast(x, "float32") for x in (QUERIES, CANDIDATES))
        np.testing.assert_allclose(
            graph(queries, candidates), function(queries, candidates), rtol=1e-5
        )
