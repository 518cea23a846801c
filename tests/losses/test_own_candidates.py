"""Candidates of a row's own, beside the shared ones or alone, against naive loops."""

import keras
import numpy as np
import pytest
from keras import ops

from tests.losses.embeddings import (
    ALL,
    CANDIDATES,
    DIM,
    IDS,
    INDEX,
    MASK,
    MASKS,
    NUM_CANDIDATES,
    NUM_QUERIES,
    OWN,
    QUERIES,
    SAMPLE_WEIGHT,
    SEVERAL,
    assert_close,
    engine_of,
    naive_of,
    unit,
)
from tests.losses.gradients import BACKEND, MODES, value_and_gradients
from tests.losses.losses import CASES, each_loss
from tests.losses.scores import ONE_HOT, SCORES
from tests.losses.test_own_losses import LOSSES
from tfrs_croloss import CROLoss, embedding_loss
from tfrs_croloss.losses import Candidates, CandidateWeighted, Channel, RetrievalLoss, Softplus

NUM_OWN, NUM_ROWS_OF_TABLE = 4, 9
RNG = np.random.default_rng(11)
TABLE = unit(NUM_ROWS_OF_TABLE, DIM, seed=12)
PLACES = RNG.integers(0, NUM_ROWS_OF_TABLE, [NUM_QUERIES, NUM_OWN])
PLACES[1], PLACES[3, 2] = -1, -1
VECTORS = unit(NUM_QUERIES, NUM_OWN, DIM, seed=13)
OWN_IDS = RNG.choice([11, 12, 16, 20, 50, 51], [NUM_QUERIES, NUM_OWN])
OWN_WEIGHT = RNG.uniform(0, 3, [NUM_QUERIES, NUM_OWN]).astype("float32")
OWN_WEIGHT[2, :2] = 0
OWN_MASK = RNG.uniform(size=[NUM_QUERIES, NUM_OWN]) < 0.7
ALL_OF_OWN = {"ids": OWN_IDS, "weight": OWN_WEIGHT, "mask": OWN_MASK}
# What is given of the shared candidates, of the rows, and of the own.
OPTIONS = {
    "defaults": ({}, {}),
    "ids": ({"candidate_ids": IDS, "positive_index": INDEX}, {"ids": OWN_IDS}),
    "masks": ({"score_mask": MASKS, "positive_index": SEVERAL}, {"mask": OWN_MASK}),
    "all": (ALL, ALL_OF_OWN),
    "2 hard negatives": ({"num_hard_negatives": 2}, {}),
    "3 hard negatives and all": ({"num_hard_negatives": 3, **ALL}, ALL_OF_OWN),
    "positives by vectors": (
        {
            "positives": OWN,
            "positive_ids": OWN_IDS[:, :1],
            "candidate_ids": IDS,
            "score_mask": MASK,
            "sample_weight": SAMPLE_WEIGHT,
        },
        {"ids": OWN_IDS},
    ),
    "two heads": ({"queries": unit(NUM_QUERIES, 2, DIM, seed=6)}, {}),
    "three heads and all": ({"queries": unit(NUM_QUERIES, 3, DIM, seed=7), **ALL}, ALL_OF_OWN),
    "alone": (
        {"candidates": np.zeros([0, DIM], "float32"), "positives": OWN, "positive_ids": [50] * 7},
        {"ids": OWN_IDS, "weight": OWN_WEIGHT},
    ),
}
each_option = pytest.mark.parametrize(("options", "of_own"), OPTIONS.values(), ids=OPTIONS)
each_form = pytest.mark.parametrize("form", ["index", "vectors"])


def naive_with_own(naive_loss, form, options, of_own):
    """A row at a time, whose own candidates stand behind the shared ones.

    Returns:
        Values `[q]`, and gradients of their sum in queries, candidates, own candidates and maybe
        positives.
    """
    options = {"queries": QUERIES, "candidates": CANDIDATES, **options}
    queries, candidates = options.pop("queries"), options.pop("candidates")
    number, positives = len(candidates), options.pop("positives", None)
    own = TABLE if form == "index" else VECTORS
    gradients = [np.zeros(x.shape) for x in (queries, candidates, own)]
    if positives is not None:
        gradients.append(np.zeros(positives.shape))
    ids, mask = options.pop("candidate_ids", None), options.pop("score_mask", None)
    weight, rows = options.pop("candidate_weight", None), options.pop("sample_weight", None)
    values = []
    for i in range(len(queries)):
        here = slice(i, i + 1)
        vectors = TABLE[PLACES[i]] if form == "index" else VECTORS[i]
        one = {}
        for name, x in options.items():
            one[name] = x if name == "num_hard_negatives" else np.asarray(x)[here]
        if positives is None:
            one.setdefault("positive_index", np.array([i]))
        else:
            one["positives"] = positives[here]
        if "ids" in of_own:
            ids_of_row = np.zeros(0, int) if ids is None else ids
            one["candidate_ids"] = np.concatenate([ids_of_row, of_own["ids"][i]])
        if "weight" in of_own:
            shared = np.zeros(0) if weight is None else weight if weight.ndim == 1 else weight[i]
            one["candidate_weight"] = np.concatenate([shared, of_own["weight"][i]])
        is_there = np.ones(number, bool) if mask is None else mask if mask.ndim == 1 else mask[i]
        of_row = of_own["mask"][i] if "mask" in of_own else np.ones(NUM_OWN, bool)
        if form == "index":
            of_row = of_row & (PLACES[i] >= 0)
        one["score_mask"] = np.concatenate([is_there, of_row])
        if rows is not None:
            one["sample_weight"] = np.ravel(rows)[here]
        value, (by_query, by_column, *by_positive) = naive_of(
            naive_loss, queries[here], np.concatenate([candidates, vectors]), **one
        )
        values.append(value[0])
        gradients[0][i] = by_query[0]
        gradients[1] += by_column[:number]
        if form == "index":
            np.add.at(gradients[2], PLACES[i], by_column[number:])
        else:
            gradients[2][i] = by_column[number:]
        if by_positive:
            gradients[3][i] = by_positive[0][0]
    return np.array(values), gradients


def engine_with_own(loss, form, options, of_own, mode="eager", **more):
    options = {"queries": QUERIES, "candidates": CANDIDATES, **options}
    positives = options.pop("positives", None)
    inputs = [options.pop("queries"), options.pop("candidates")]
    inputs.append(TABLE if form == "index" else VECTORS)
    if positives is not None:
        inputs.append(positives)

    def function(queries, candidates, own, positives=None):
        index = PLACES if form == "index" else None
        own = Candidates(own, index, **of_own)
        return embedding_loss(
            loss, queries, candidates, positives=positives, own=own, **options, **more
        )

    return value_and_gradients(function, inputs, mode)


def check(make, naive_loss, form, options, of_own, mode="eager", tolerance=1e-5):
    if form == "vectors" and "weight" in of_own:
        of_own = {"ids": OWN_IDS, **of_own}
    values, gradients = naive_with_own(naive_loss, form, options, of_own)
    actual = engine_with_own(make(), form, options, of_own, mode, block_size=3)
    assert np.abs(gradients[2]).max() > 0
    assert_close(actual, (values.sum(), gradients), tolerance)


@each_form
@each_option
def test_every_option_equals_the_loops(form, options, of_own):
    check(*CASES["scaled"], form, options, of_own)


@each_form
def test_none_are_shared(form):
    options, of_own = OPTIONS["alone"]
    values, _ = naive_with_own(CASES["cro"][1], form, options, of_own)
    own = Candidates(*((TABLE, PLACES) if form == "index" else (VECTORS,)), **of_own)
    options = {**options, "candidates": None, "own": own, "reduction": None}
    actual = embedding_loss(CASES["cro"][0](), QUERIES, **options)
    np.testing.assert_allclose(np.asarray(actual), values, rtol=1e-5, atol=1e-6)


@each_loss
@each_form
def test_every_loss(make, naive_loss, form):
    check(make, naive_loss, form, *OPTIONS["all"])


@pytest.mark.parametrize(("form", "name"), [("index", "ratio"), ("vectors", "max")])
@pytest.mark.parametrize("mode", MODES)
def test_losses_of_ones_own_compiled(form, name, mode):
    options = OPTIONS["3 hard negatives and all"]
    check(*LOSSES[name], form, *options, mode, tolerance=2e-5)


@pytest.mark.parametrize("block_size", ["auto", 1, 100, None])
def test_blocks_of_any_size_are_one(block_size):
    make, naive_loss = CASES["lambda"]
    values, gradients = naive_with_own(naive_loss, "index", *OPTIONS["all"])
    actual = engine_with_own(
        make(), "index", *OPTIONS["all"], block_size=block_size, reduction=None
    )
    assert_close(actual, (values, gradients))


@pytest.mark.skipif(BACKEND != "tensorflow", reason="of TensorFlow's graphs")
@each_form
def test_shapes_that_a_graph_does_not_know(form):
    import tensorflow as tf

    options, of_own = OPTIONS["all"]
    make, naive_loss = CASES["cro"]
    values, _ = naive_with_own(naive_loss, form, options, of_own)
    given = {"own": TABLE if form == "index" else VECTORS, "index": PLACES, **of_own}
    specs = {
        name: tf.TensorSpec([None] * np.ndim(x), tf.as_dtype(np.asarray(x).dtype))
        for name, x in given.items()
    }

    @tf.function(input_signature=[specs])
    def function(given):
        index = given["index"] if form == "index" else None
        own = Candidates(given["own"], index, **{name: given[name] for name in of_own})
        return embedding_loss(make(), QUERIES, CANDIDATES, own=own, **options, reduction=None)

    tensors = {name: tf.convert_to_tensor(x) for name, x in given.items()}
    np.testing.assert_allclose(function(tensors), values, rtol=1e-4, atol=1e-5)


def test_of_equal_maxima_the_shared_candidate_is_the_first():
    make, _ = LOSSES["max"]
    queries = np.array([[1.0, 0]], "float32")
    candidates = np.array([[0.1, 0], [0.5, 1], [0.5, 2]], "float32")
    own = np.array([[[0.5, 3], [0.5, 4]]], "float32")

    def loss(candidates, own):
        return embedding_loss(make(), queries, candidates, own=Candidates(own))

    for mode in MODES:
        _, (by_candidate, by_own) = value_and_gradients(loss, [candidates, own], mode)
        assert (np.abs(by_candidate).sum(axis=1) > 0).tolist() == [True, True, False]
        assert not by_own.any()
        hidden = candidates * [[1], [0], [0]]
        _, (_, by_own) = value_and_gradients(loss, [hidden.astype("float32"), own], mode)
        assert (np.abs(by_own[0]).sum(axis=1) > 0).tolist() == [True, False]


FEATURES = RNG.uniform(0.1, 2, [NUM_QUERIES, 3]).astype("float32")
OF_CANDIDATES = RNG.uniform(0.1, 2, [NUM_CANDIDATES, 3]).astype("float32")
OF_TABLE = RNG.uniform(0.1, 2, [NUM_ROWS_OF_TABLE, 3]).astype("float32")
OF_VECTORS = RNG.uniform(0.1, 2, [NUM_QUERIES, NUM_OWN, 3]).astype("float32")


@pytest.mark.parametrize("mode", MODES)
@each_form
def test_weights_that_are_functions_of_features(mode, form):
    """Equal to their matrix, and called a block at a time."""
    sizes = []

    def similarity(rows, columns):
        sizes.append(rows["x"].shape[0])
        return rows["x"] @ ops.transpose(columns)

    def of_own(rows, columns):
        return ops.einsum("qf,qmf->qm", rows["x"], columns)

    columns = OF_TABLE[PLACES] if form == "index" else OF_VECTORS
    given = {"ids": OWN_IDS, "mask": OWN_MASK}
    shared = {"candidate_ids": IDS, "positive_index": INDEX, "sample_weight": SAMPLE_WEIGHT}
    make, naive_loss = CASES["cro"]
    matrices = FEATURES @ OF_CANDIDATES.T, np.einsum("qf,qmf->qm", FEATURES, columns)
    values, gradients = naive_with_own(
        naive_loss,
        form,
        {**shared, "candidate_weight": matrices[0]},
        {**given, "weight": matrices[1]},
    )
    actual = engine_with_own(
        make(),
        form,
        {**shared, "candidate_weight": similarity},
        {
            **given,
            "weight": of_own,
            "features": OF_TABLE if form == "index" else OF_VECTORS,
        },
        mode,
        row_features={"x": FEATURES},
        candidate_features=OF_CANDIDATES,
        block_size=3,
    )
    assert_close(actual, (values.sum(), gradients), 2e-5)
    assert set(sizes) <= {3, None}


def test_functions_of_weights_may_make_nan_of_what_fills_up_the_last_block():
    def cosine(rows, columns):
        norm = ops.sqrt(ops.sum(ops.square(rows), axis=1, keepdims=True))
        return 1 + (rows / norm) @ ops.transpose(columns)

    options = {"row_features": QUERIES, "candidate_features": CANDIDATES}

    def function(queries, candidates, **more):
        return embedding_loss(
            CROLoss(), queries, candidates, candidate_weight=cosine, **options, **more
        )

    one, several = (
        value_and_gradients(
            lambda *x, size=size: function(*x, block_size=size), [QUERIES, CANDIDATES]
        )
        for size in (None, 5)
    )
    assert_close(several, one)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("mask", [MASKS, MASK], ids=["matrix", "row"])
def test_functions_of_weights_may_make_nan_of_what_is_absent(mode, mask):
    """The memory of a task is masked until it is full, and its features are zeros."""
    mask = mask & (np.arange(NUM_CANDIDATES) != 8)
    features = np.arange(1, 1 + NUM_CANDIDATES).astype("float32")
    features[8] = 0

    def rarity(rows, columns):
        return ops.ones_like(rows[:, :1]) / columns

    weight = 1 / np.where(features > 0, features, 1)
    make, naive_loss = CASES["cro"]
    options = {"score_mask": mask, "positive_index": INDEX}
    values, gradients = naive_of(
        naive_loss,
        QUERIES,
        CANDIDATES,
        candidate_weight=np.broadcast_to(weight, [NUM_QUERIES, NUM_CANDIDATES]),
        **options,
    )
    actual = engine_of(
        make(),
        QUERIES,
        CANDIDATES,
        mode=mode,
        candidate_weight=rarity,
        row_features=QUERIES,
        candidate_features=features,
        **options,
    )
    assert_close(actual, (values.sum(), gradients), 2e-5)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="its variables know who reads them")
@pytest.mark.parametrize("is_compiled", [False, True])
def test_functions_of_weights_may_read_variables(is_compiled):
    """Which are constants: no gradient flows through weights."""
    import tensorflow as tf

    sharpness = tf.Variable(0.5)

    def function(queries, candidates):
        weight = lambda rows, columns: tf.exp(sharpness * rows @ tf.transpose(columns))  # noqa: E731
        with tf.GradientTape() as tape:
            tape.watch([queries, candidates])
            value = embedding_loss(
                CROLoss(),
                queries,
                candidates,
                candidate_weight=weight,
                row_features=queries,
                candidate_features=candidates,
                block_size=3,
            )
        return value, tape.gradient(value, [queries, candidates, sharpness])

    call = tf.function(function) if is_compiled else function
    value, (*gradients, in_variable) = call(tf.constant(QUERIES), tf.constant(CANDIDATES))
    expected = engine_of(
        CROLoss(), QUERIES, CANDIDATES, candidate_weight=np.exp(0.5 * QUERIES @ CANDIDATES.T)
    )
    assert_close((value.numpy(), [x.numpy() for x in gradients]), expected)
    assert in_variable is None


@pytest.mark.skipif(BACKEND == "torch", reason="PyTorch runs eagerly, where this raises")
@pytest.mark.parametrize("of_own", [False, True])
def test_a_compiled_index_out_of_range_shows_in_its_row_alone(of_own):
    def losses(index, mode):
        if of_own:
            own = {"own": Candidates(TABLE, index), "positive_index": INDEX}
            return engine_of(CROLoss(), QUERIES, CANDIDATES, mode=mode, reduction=None, **own)[0]
        options = {"positive_index": index, "reduction": None}
        return engine_of(CROLoss(), QUERIES, CANDIDATES, mode=mode, **options)[0]

    right = PLACES if of_own else np.array(INDEX)
    wrong = right.copy()
    wrong[2] = 99
    found, expected = losses(wrong, MODES[-1]), losses(right, "eager")
    assert np.isnan(found[2])
    np.testing.assert_allclose(np.delete(found, 2), np.delete(expected, 2), rtol=1e-5)


@keras.saving.register_keras_serializable(package="tests")
class Similar(RetrievalLoss):
    """A sum of all, one under other weights, and one under both."""

    def compare(self, row):
        return (
            Channel(Softplus(), weight=None),
            Channel(Softplus(), weight="similarity"),
            Channel(Softplus(), weight=("candidate", "similarity")),
        )

    def aggregate(self, totals, row):
        return totals[0] + 3 * totals[1] - totals[2]


def naive_similar(row, p, weight, similarity):
    return sum(
        np.log1p(np.exp(s - row[p])) * (1 + 3 * similarity[j] - weight[j] * similarity[j])
        for j, s in enumerate(row)
        if j != p and weight[j] > 0
    )


def test_weights_by_other_names():
    similarity = RNG.uniform(0, 2, SCORES.shape).astype("float32")
    weight = RNG.uniform(0.1, 2, SCORES.shape[1]).astype("float32")
    weight[2] = 0
    positives = ONE_HOT.argmax(axis=1)
    for of_items in (np.ones_like(weight), weight):
        expected = [
            naive_similar(row, p, of_items, near)
            for row, p, near in zip(SCORES, positives, similarity, strict=True)
        ]
        given = {"similarity": similarity}
        if of_items is weight:
            given["candidate"] = weight
        actual = Similar(reduction=None)(ONE_HOT, SCORES, candidate_weight=given)
        np.testing.assert_allclose(np.asarray(actual), expected, rtol=1e-5)
    queries, candidates = np.eye(len(SCORES), dtype="float32"), np.array(SCORES.T, "float32")
    actual = embedding_loss(
        Similar(reduction=None), queries, candidates, positives, candidate_weight=given
    )
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=1e-5)


def test_names_of_weights_are_checked():
    with pytest.raises(ValueError, match="must be a dict with the weights 'similarity' for Simil"):
        Similar()(ONE_HOT, SCORES)
    given = {"similarity": np.ones(9), "similar": np.ones(9)}
    with pytest.raises(ValueError, match="of the name 'candidate' or 'similarity'. Received: 'sim"):
        Similar()(ONE_HOT, SCORES, candidate_weight=given)
    bad = {"similarity": np.full(9, -1.0)}
    with pytest.raises(ValueError, match=r"`candidate_weight\['similarity'\]` must be finite"):
        Similar()(ONE_HOT, SCORES, candidate_weight=bad)
    with pytest.raises(ValueError, match=r"`candidate_weight\['similarity'\]` must be finite"):
        embedding_loss(Similar(), QUERIES, CANDIDATES, candidate_weight={"similarity": -IDS})


BAD = {
    "`own` must be a tfrs_croloss": {"own": VECTORS},
    "`own` must be a .* with embeddings": {"own": Candidates(index=PLACES)},
    "`own` must have ids where candidates are weighed": {
        "own": Candidates(VECTORS, weight=OWN_WEIGHT),
        "candidate_weight": np.ones(NUM_CANDIDATES),
    },
    "and the weight of `own` must be given together. Received: none of the shared": {
        "own": Candidates(VECTORS, ids=OWN_IDS, weight=OWN_WEIGHT),
        "candidate_ids": IDS,
    },
    "given together. Received: candidate of the shared candidates, none of the own": {
        "own": Candidates(TABLE, PLACES),
        "candidate_weight": np.ones(NUM_CANDIDATES),
    },
    "`own.index` must be from -1": {"own": Candidates(TABLE, PLACES + 1)},
    "`own.index` must (be from -1 .none. to 8|fit into int32)": {
        "own": Candidates(TABLE, PLACES.astype("int64") + 2**32)
    },
    "`own.index` must be integers": {"own": Candidates(TABLE, PLACES / 2)},
    "`own.index` must have shape": {"own": Candidates(TABLE, PLACES[:3])},
    "`own.embeddings` must have shape": {"own": Candidates(VECTORS[:3])},
    "`own.embeddings` must be numbers in rows of one length": {
        "own": Candidates([[[1.0] * DIM], [[1.0] * DIM] * 2])
    },
    "`own.mask` must be numbers in rows of one length": {
        "own": Candidates(VECTORS, mask=[[True], [True, False]])
    },
    "`own.ids` must have shape": {
        "own": Candidates(VECTORS, ids=OWN_IDS[:, :2]),
        "candidate_ids": IDS,
    },
    "`own.mask` must have shape": {"own": Candidates(VECTORS, mask=OWN_MASK[0])},
    "`own.weight` must be finite and not negative": {
        "own": Candidates(TABLE, PLACES, weight=-1 - OWN_WEIGHT),
        "candidate_weight": np.ones(NUM_CANDIDATES),
    },
    "must be given with the ids of `own`": {"own": Candidates(VECTORS, ids=OWN_IDS)},
    "`own` must be finite": {"own": Candidates(VECTORS * np.nan)},
    "`candidates` must be given unless": {"own": Candidates(VECTORS), "candidates": None},
    "`candidate_features` must have shape": {
        "candidate_weight": lambda rows, columns: rows @ ops.transpose(columns),
        "candidate_features": FEATURES[:2],
    },
    "`candidate_weight` must have shape": {
        "candidate_weight": lambda rows, columns: ops.ones((2, 3)),
    },
    r"`candidate_weight` must have shape \(7, 11\). Received: shape \(7, 1\)": {
        "candidate_weight": lambda rows, columns: ops.ones((NUM_QUERIES, 1)),
    },
    r"`own.weight` must have shape \(7, 4\). Received: shape \(7, 1\)": {
        "own": Candidates(TABLE, PLACES, weight=lambda rows, columns: ops.ones((NUM_QUERIES, 1))),
        "candidate_weight": np.ones(NUM_CANDIDATES),
    },
    "`own` by index must have ids where those of other candidates are compared": {
        "own": Candidates(TABLE, PLACES),
        "candidate_ids": IDS,
    },
    "`candidate_weight` must be finite and not negative": {
        "candidate_weight": lambda rows, columns: -ops.ones((NUM_QUERIES, NUM_CANDIDATES)),
    },
}


@pytest.mark.parametrize("message", BAD)
def test_what_is_wrong_is_named(message):
    options = {"candidates": CANDIDATES, **BAD[message]}
    with pytest.raises(ValueError, match=message):
        embedding_loss(CROLoss(), QUERIES, **options)


def test_sample_weights_of_candidates_have_two_axes():
    """Where there are as many rows as columns, one axis might be of either."""
    loss, labels = CandidateWeighted(CROLoss()), np.eye(3)
    with pytest.raises(ValueError, match=r"`sample_weight` must have shape \(3, 3\)"):
        loss(labels, labels / 2, sample_weight=np.ones(3))
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(loss))
    weight = RNG.uniform(size=[3, 3])
    expected = float(CROLoss()(labels, labels / 2, candidate_weight=weight))
    assert float(again(labels, labels / 2, sample_weight=weight)) == expected


def test_a_wrong_shape_is_named_as_the_argument():
    with pytest.raises(ValueError, match="`candidate_weight` must have one of the shapes"):
        CROLoss()(ONE_HOT, SCORES, candidate_weight=np.ones(4))


def test_functions_are_for_features():
    with pytest.raises(ValueError, match="functions of features are for `embedding_loss`"):
        CROLoss()(ONE_HOT, SCORES, candidate_weight=lambda rows, columns: 1)


@pytest.mark.parametrize("dtype", ["int32", "uint32", "int64"])
def test_an_absent_positive_excludes_nothing(dtype):
    """The id that stands for it is that of no item, unsigned or not."""
    index = np.stack([INDEX, np.full(NUM_QUERIES, -1)], axis=1)
    ids = np.where(OWN_IDS == 11, 0, OWN_IDS).astype(dtype)
    values = [
        embedding_loss(
            CROLoss(reduction=None),
            QUERIES,
            CANDIDATES,
            index if with_absent else INDEX,
            candidate_ids=IDS.astype(dtype),
            own=Candidates(VECTORS, ids=ids),
        )
        for with_absent in (False, True)
    ]
    np.testing.assert_array_equal(*map(np.asarray, values))


def test_vectors_that_are_no_items_have_an_id_of_their_own():
    """-1, which pads known positives, too."""
    known = np.full([NUM_QUERIES, 2], -1)
    values = [
        embedding_loss(
            CROLoss(reduction=None),
            QUERIES,
            CANDIDATES,
            candidate_ids=IDS,
            known_positive_ids=known,
            own=Candidates(VECTORS, ids=ids),
        )
        for ids in (np.full(OWN_IDS.shape, -1), None)
    ]
    np.testing.assert_array_equal(*map(np.asarray, values))


def test_ids_of_positives_for_own_candidates_alone():
    """Shared candidates are compared by theirs, where these are given."""
    own = Candidates(VECTORS, ids=OWN_IDS)
    options = {"positives": OWN, "positive_ids": OWN_IDS[:, 0], "reduction": None}
    values, _ = naive_with_own(
        CASES["cro"][1],
        "vectors",
        {"positives": OWN, "positive_ids": OWN_IDS[:, :1], "candidate_ids": IDS + 1000},
        {"ids": OWN_IDS},
    )
    actual = embedding_loss(CASES["cro"][0](), QUERIES, CANDIDATES, own=own, **options)
    np.testing.assert_allclose(np.asarray(actual), values, rtol=1e-5)


def test_a_table_of_nothing():
    own = Candidates(np.zeros([0, DIM]), np.full([NUM_QUERIES, 2], -1))
    with_none = embedding_loss(CROLoss(), QUERIES, CANDIDATES, own=own)
    assert float(with_none) == pytest.approx(
        float(embedding_loss(CROLoss(), QUERIES, CANDIDATES)), 1e-6
    )
