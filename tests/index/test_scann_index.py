import json
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


@pytest.mark.parametrize("dim", [16, 32, 64])
def test_excluding_the_best_loses_nothing(clustered, dim):
    # The hardest exclusions: all that an unfiltered search would have returned, and more.
    candidates, queries = clustered(25_000, dim, 40)
    exact = ExactIndex(candidates)
    best = exact.search(queries, 1_000).positions
    rows = np.repeat(np.arange(40), 1_000)
    exclude = scipy.sparse.csr_array((np.ones(40_000), (rows, best.ravel())), shape=(40, 25_000))
    found = ScaNNIndex(candidates).search(queries, 50, exclude)
    assert_sound(found, candidates, queries, exclude)
    assert share_found(found, exact.search(queries, 50, exclude)) >= 0.99


@pytest.mark.parametrize("dim", [16, 64])
@pytest.mark.parametrize("target", [0.6, 0.99])
def test_searches_as_far_as_the_recall_asks(clustered, dim, target):
    candidates, queries = clustered(25_000, dim, 900)
    index = ScaNNIndex(candidates, target, sample_queries=queries[:600])
    # Other queries than those it was chosen on, a margin for chance.
    others = queries[600:]
    share = share_found(index.search(others, 100), ExactIndex(candidates).search(others, 100))
    assert share >= target - 0.01
    # Where it finds fewer than 100 at all, the search goes on: what was measured is the least.
    assert target - 0.02 <= index.measured_recall < share + (0.06 if target < 0.9 else 0.01)
    assert index.reach.leaves[0] < index.num_leaves
    settings = json.loads(json.dumps(index.settings()))
    assert settings["target_recall"] == target
    assert settings["measured_recall@100"] == index.measured_recall
    assert settings["num_leaves"] == 158
    assert settings["dimensions_per_hash"] == (1 if target == 0.99 else 2)


def test_more_candidates_than_it_was_chosen_for(clustered):
    candidates, queries = clustered(25_000, 32, 300)
    index = ScaNNIndex(candidates, sample_queries=queries[:200], k=20)
    exact = ExactIndex(candidates).search(queries[200:], 1_000)
    for k in (5, 20, 100, 1_000):
        found = index.search(queries[200:], k)
        assert np.mean(found.scores >= exact.scores[:, k - 1 : k] - 1e-4) >= 0.98


def test_too_few_leaves_are_made_up_for(clustered):
    candidates, queries = clustered(2_000, 8, 12)
    index = ScaNNIndex(candidates, num_leaves=40, target_recall=0.01, block_size=4)
    exclude = histories((12, 2_000), [0] * 6 + [1_500, 1_900, 1_995, 1_999, 2_000, 3])
    assert_sound(index.search(queries, 300, exclude), candidates, queries, exclude)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.9])
def test_allowed_candidates_alone(clustered, share):
    candidates, queries = clustered(25_000, 16, 30)
    rng = np.random.default_rng(3)
    allowed = np.flatnonzero(rng.random(25_000) < share)
    exclude = histories((30, 25_000), rng.integers(0, 300, 30))
    forbidden = np.setdiff1d(np.arange(25_000), allowed)
    everything_else = scipy.sparse.lil_array((30, 25_000))
    everything_else[:, forbidden] = 1
    expected = ExactIndex(candidates).search(queries, 50, exclude + everything_else.tocsr())
    found = ScaNNIndex(candidates).search(queries, 50, exclude, allowed=allowed)
    assert set(np.unique(found.positions)) <= {-1, *allowed}
    assert_sound(found, candidates, queries, (exclude + everything_else.tocsr()).tocsr())
    if share:
        assert share_found(found, expected) >= 0.98


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
    with pytest.raises(ValueError, match=r"`num_leaves` .* candidates \(9\)\. .*Received: 10"):
        ScaNNIndex(candidates, num_leaves=10)
    with pytest.raises(ValueError, match=r"`target_recall` must be above 0 and .*: 1\.1"):
        ScaNNIndex(candidates, target_recall=1.1)
    with pytest.raises(ValueError, match=r"`sample_queries` .* dimension \(2\).*\(4, 3\)"):
        ScaNNIndex(candidates, sample_queries=np.ones((4, 3)))
    with pytest.raises(ValueError, match=r"`sample_queries` must hold at least one"):
        ScaNNIndex(candidates, sample_queries=np.ones((0, 2)))
    for name in ("num_leaves", "k", "block_size"):
        with pytest.raises(ValueError, match=rf"`{name}` must be a positive integer. Received: 0"):
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
