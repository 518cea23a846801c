import sys

import numpy as np
import pytest
import scipy.sparse

from tfrs_croloss.index import ExactIndex, ScaNNIndex


def histories(shape, sizes, seed=0):
    """Excludes `sizes[u]` random candidates of query u."""
    rng = np.random.default_rng(seed)
    columns = [rng.choice(shape[1], size, replace=False) for size in sizes]
    rows = np.repeat(np.arange(shape[0]), sizes)
    return scipy.sparse.csr_array(
        (np.ones(sum(sizes)), (rows, np.concatenate(columns))), shape=shape
    )


def share_found(found, exact):
    pairs = zip(found.positions, exact.positions, strict=True)
    return np.mean([len(set(a) & set(b)) / len(b) for a, b in pairs])


def assert_sound(found, candidates, queries, exclude):
    """Nothing excluded, nothing twice, nothing missing, scores right and in order."""
    k = found.positions.shape[1]
    for u, (positions, scores) in enumerate(zip(found.positions, found.scores, strict=True)):
        excluded = set(exclude[[u]].indices.tolist())
        here = positions[positions >= 0].tolist()
        assert len(here) == len(set(here)) == min(k, len(candidates) - len(excluded))
        assert not excluded & set(here)
        assert (positions[len(here) :] == -1).all()
        assert (scores[len(here) :] == -np.inf).all()
        expected = candidates[here].astype(float) @ queries[u].astype(float)
        np.testing.assert_allclose(scores[: len(here)], expected, rtol=1e-4, atol=1e-4)
        assert (np.diff(scores[: len(here)]) <= 0).all()


@pytest.mark.parametrize(("num_candidates", "dim"), [(3_000, 32), (25_000, 16)])
@pytest.mark.parametrize("k", [10, 100])
def test_finds_what_exact_search_finds(clustered, num_candidates, dim, k):
    candidates, queries = clustered(num_candidates, dim, 150)
    sizes = np.random.default_rng(1).integers(0, 300, 150)
    exclude = histories((150, num_candidates), sizes)
    index = ScaNNIndex(candidates, block_size=64)
    assert (index.num_leaves > 1) == (num_candidates > 20_000)
    found = index.search(queries, k, exclude)
    assert (found.positions.dtype, found.scores.dtype) == (np.int32, np.float32)
    assert_sound(found, candidates, queries, exclude)
    assert share_found(found, ExactIndex(candidates).search(queries, k, exclude)) >= 0.99


def test_excluding_the_best_loses_nothing(clustered):
    # The hardest exclusions: all that an unfiltered search would have returned, and more.
    candidates, queries = clustered(25_000, 16, 40)
    exact = ExactIndex(candidates)
    best = exact.search(queries, 1_000).positions
    rows = np.repeat(np.arange(40), 1_000)
    exclude = scipy.sparse.csr_array((np.ones(40_000), (rows, best.ravel())), shape=(40, 25_000))
    found = ScaNNIndex(candidates).search(queries, 50, exclude)
    assert_sound(found, candidates, queries, exclude)
    assert share_found(found, exact.search(queries, 50, exclude)) >= 0.99


def test_too_few_leaves_are_made_up_for(clustered):
    candidates, queries = clustered(2_000, 8, 12)
    index = ScaNNIndex(candidates, num_leaves=40, num_leaves_to_search=1, block_size=4)
    exclude = histories((12, 2_000), [0] * 6 + [1_500, 1_900, 1_995, 1_999, 2_000, 3])
    assert_sound(index.search(queries, 300, exclude), candidates, queries, exclude)


@pytest.mark.parametrize("dim", [1, 2, 7])
@pytest.mark.parametrize("num_candidates", [1, 5, 20, 1_200])
def test_tiny_catalogues(naive_search, num_candidates, dim):
    rng = np.random.default_rng(2)
    candidates, queries = rng.normal(size=(num_candidates, dim)), rng.normal(size=(6, dim))
    exclude = histories((6, num_candidates), [0, 0, 1, num_candidates // 2, 1, num_candidates])
    # Asked for everything, hashing has nothing left to miss.
    k = num_candidates + 3
    found = ScaNNIndex(candidates).search(queries, k, exclude)
    positions, scores = naive_search(candidates, queries, k, exclude)
    np.testing.assert_array_equal(found.positions, positions)
    np.testing.assert_allclose(found.scores, scores, rtol=1e-4, atol=1e-5)


def test_no_exclusions_no_queries_and_odd_blocks(clustered):
    candidates, queries = clustered(3_000, 8, 23)
    assert ScaNNIndex(candidates).search(queries[:0], 5).positions.shape == (0, 5)
    whole = ScaNNIndex(candidates).search(queries, 5)
    blocked = ScaNNIndex(candidates, block_size=7).search(queries, 5)
    np.testing.assert_array_equal(blocked.positions, whole.positions)
    assert share_found(whole, ExactIndex(candidates).search(queries, 5)) >= 0.99


def test_identical_candidates():
    found = ScaNNIndex(np.zeros((1_500, 4))).search(np.ones((2, 4)), 1_500)
    assert np.sort(found.positions, axis=1).tolist() == [list(range(1_500))] * 2


def test_option_errors():
    candidates = np.ones((9, 2))
    with pytest.raises(ValueError, match=r"`num_leaves` .* candidates \(9\)\. .*num_leaves=10"):
        ScaNNIndex(candidates, num_leaves=10)
    with pytest.raises(ValueError, match=r"`num_leaves_to_search` .* leaves \(3\)\. .*=4"):
        ScaNNIndex(candidates, num_leaves=3, num_leaves_to_search=4)
    for name in ("num_leaves", "num_leaves_to_search", "reorder_factor", "block_size"):
        with pytest.raises(ValueError, match=rf"`{name}` must be a positive integer.*{name}=0"):
            ScaNNIndex(candidates, **{name: 0})


def test_missing_scann_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "scann", None)
    monkeypatch.setitem(sys.modules, "scann.scann_ops.py", None)
    with pytest.raises(ImportError, match=r'pip install "tfrs-croloss\[scann\]".*`ExactIndex`'):
        ScaNNIndex(np.ones((3, 2)))


def test_scann_that_clashes_with_tensorflow_says_what_to_install(monkeypatch, tmp_path):
    for name in [name for name in sys.modules if name.split(".")[0] == "scann"]:
        monkeypatch.delitem(sys.modules, name)
    broken = tmp_path / "scann"
    broken.mkdir()
    (broken / "__init__.py").write_text(
        "class NotFoundError(Exception): pass\nraise NotFoundError('undefined symbol: _ZN10')"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match=r"tfrs-croloss\[scann\].*NotFoundError: undefined sym"):
        ScaNNIndex(np.ones((3, 2)))
