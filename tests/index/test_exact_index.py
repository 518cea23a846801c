import numpy as np
import pytest
import scipy.sparse

from tfrs_croloss.index import ExactIndex, Index, Neighbors


def integers(shape, seed, low=-3, high=4):
    """Small whole numbers, whose products are exact in float32 and often tied."""
    return np.random.default_rng(seed).integers(low, high, size=shape)


@pytest.mark.parametrize("k", [1, 4, 12, 15])
@pytest.mark.parametrize("excluding", [False, True])
def test_agrees_with_loops(naive_search, k, excluding):
    candidates, queries = integers((12, 3), 0), integers((9, 3), 1)
    exclude = None
    if excluding:
        exclude = scipy.sparse.csr_array(integers((9, 12), 2, 0, 2))
    found = ExactIndex(candidates).search(queries, k, exclude)
    positions, scores = naive_search(candidates, queries, k, exclude)
    assert isinstance(found, Neighbors)
    assert (found.positions.dtype, found.scores.dtype) == (np.int32, np.float32)
    np.testing.assert_array_equal(found.positions, positions)
    np.testing.assert_array_equal(found.scores, scores)


def test_agrees_with_loops_on_real_numbers(naive_search):
    rng = np.random.default_rng(3)
    candidates, queries = rng.normal(size=(40, 8)), rng.normal(size=(11, 8))
    found = ExactIndex(candidates).search(queries, 10)
    positions, scores = naive_search(candidates, queries, 10)
    np.testing.assert_array_equal(found.positions, positions)
    np.testing.assert_allclose(found.scores, scores, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("block_bytes", [1, 4 * 23 * 11, 4 * 23 * 16 + 5, 2**30])
def test_blocks_change_nothing(block_bytes):
    candidates, queries = integers((50, 4), 4), integers((23, 4), 5)
    exclude = scipy.sparse.random_array((23, 50), density=0.3, format="csr", rng=6)
    whole = ExactIndex(candidates).search(queries, 9, exclude)
    blocked = ExactIndex(candidates, block_bytes=block_bytes).search(queries, 9, exclude)
    np.testing.assert_array_equal(blocked.positions, whole.positions)
    np.testing.assert_array_equal(blocked.scores, whole.scores)


@pytest.mark.parametrize("allowed", [[], [3], [11, 0, 4, 4], range(12)])
def test_allowed_candidates_alone(naive_search, allowed):
    candidates, queries = integers((12, 3), 7), integers((9, 3), 8)
    exclude = scipy.sparse.csr_array(integers((9, 12), 9, 0, 2))
    found = ExactIndex(candidates).search(queries, 4, exclude, allowed=allowed)
    others = [i for i in range(12) if i not in allowed]
    excluded = exclude.toarray()
    excluded[:, others] = 1
    positions, scores = naive_search(candidates, queries, 4, scipy.sparse.csr_array(excluded))
    np.testing.assert_array_equal(found.positions, positions)
    np.testing.assert_array_equal(found.scores, scores)


def test_allowed_candidates_that_there_are_not():
    index = ExactIndex(np.ones((4, 2)))
    for wrong, what in (([4], "4"), ([-1], "-1"), ([0.5], "float64"), ([[1]], r"shape \(1, 1\)")):
        with pytest.raises(ValueError, match=f"`allowed` must be .* Received: .*{what}"):
            index.search(np.ones((1, 2)), 1, allowed=wrong)


def test_ties_at_the_last_place_go_to_the_lower_position():
    found = ExactIndex(np.ones((1000, 2))).search(np.ones((3, 2)), 5)
    assert found.positions.tolist() == [[0, 1, 2, 3, 4]] * 3


def test_everything_excluded():
    everything = scipy.sparse.csr_array(np.ones((2, 4)))
    found = ExactIndex(np.ones((4, 2))).search(np.ones((2, 2)), 3, everything)
    assert (found.positions == -1).all()
    assert (found.scores == -np.inf).all()


def test_no_queries():
    found = ExactIndex(np.ones((4, 2))).search(np.ones((0, 2)), 6)
    assert found.positions.shape == found.scores.shape == (0, 6)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int8])
def test_any_dtype_and_layout(dtype):
    candidates = np.asfortranarray(integers((6, 3), 7).astype(dtype))
    index = ExactIndex(candidates)
    assert index.candidates.dtype == np.float32
    assert index.candidates.flags.c_contiguous
    assert (index.num_candidates, index.embedding_dim) == (6, 3)
    queries = integers((8, 6), 8).astype(dtype)[::2, ::2]
    found = index.search(queries, 2)
    scores = np.sort(queries.astype(float) @ candidates.astype(float).T, axis=1)[:, :-3:-1]
    np.testing.assert_array_equal(found.scores, scores)


def test_later_changes_of_the_array_do_not_reach_the_index():
    candidates = np.eye(3, dtype=np.float32)
    index = ExactIndex(candidates)
    candidates[:] = 0.0
    assert index.search(np.eye(3), 1).positions.tolist() == [[0], [1], [2]]


def test_candidate_errors():
    with pytest.raises(ValueError, match=r"`candidates` must have shape.*Received: shape \(3,\)"):
        ExactIndex(np.ones(3))
    for empty in (np.ones((0, 4)), np.ones((4, 0))):
        with pytest.raises(ValueError, match=r"`candidates` must hold at least one row"):
            ExactIndex(empty)
    for bad in ([[1.0, 2.0], [1.0]], [["a", "b"]], [[None, {}]], scipy.sparse.csr_array((2, 2))):
        with pytest.raises(ValueError, match=r"`candidates` must be an array of numbers"):
            ExactIndex(bad)
    for bad in (np.nan, np.inf, -np.inf, 1e300):
        candidates = np.ones((5, 2))
        candidates[3, 1] = bad
        with pytest.raises(ValueError, match=r"`candidates` .* in 1 of 5 rows: 3"):
            ExactIndex(candidates)


def test_search_errors():
    index = ExactIndex(np.ones((4, 2)))
    for k in (0, -1, 2.5, None):
        with pytest.raises(ValueError, match=rf"`k` must be a positive integer. Received: {k}"):
            index.search(np.ones((1, 2)), k)
    with pytest.raises(ValueError, match=r"`queries\[None, :\]`\. Received: shape \(2,\)"):
        index.search(np.ones(2), 1)
    with pytest.raises(ValueError, match=r"dimension \(2\)\. Received: shape \(1, 3\)"):
        index.search(np.ones((1, 3)), 1)
    queries = np.ones((6, 2))
    queries[[2, 4], 0] = np.nan
    with pytest.raises(ValueError, match=r"`queries` .* in 2 of 6 rows: 2, 4$"):
        index.search(queries, 1)
    with pytest.raises(ValueError, match=r"`exclude` .* shape \(1, 4\)\. Received: .*\(1, 5\)"):
        index.search(np.ones((1, 2)), 1, scipy.sparse.csr_array((1, 5)))
    for dense, received in (
        (np.ones((1, 4)), r"ndarray of shape \(1, 4\)"),
        (np.ones((3, 2)), r"ndarray of shape \(3, 2\)"),
        ([[1, 1, 1, 1]], "list"),
    ):
        message = (
            rf"`exclude` must be a scipy.sparse matrix of shape \(1, 4\).* Received: {received}"
        )
        with pytest.raises(TypeError, match=message):
            index.search(np.ones((1, 2)), 1, dense)
    with pytest.raises(ValueError, match=r"`block_bytes` must be a positive integer"):
        ExactIndex(np.ones((4, 2)), block_bytes=0)


def test_index_is_abstract():
    with pytest.raises(TypeError, match="_search"):
        Index(np.ones((1, 1)))
