"""The searches in a graph against the indexes in numpy."""

import numpy as np
import pytest
import tensorflow as tf

from tfrs_croloss.index import ExactIndex, ScaNNIndex
from tfrs_croloss.serving import search as graph
from tfrs_croloss.serving.search import ExactSearch, ScaNNSearch


def ragged(rows):
    values = [item for row in rows for item in row]
    lengths = [len(row) for row in rows]
    return tf.RaggedTensor.from_row_lengths(tf.constant(values, tf.int32), lengths)


def searched(search, queries, seen, k):
    """Through a graph in which nothing is known of the shapes, as in an export."""
    spec = tf.TensorSpec([None, queries.shape[1]])
    k_spec = tf.TensorSpec([], tf.int32)
    seen_spec = tf.RaggedTensorSpec([None, None], tf.int32)
    function = tf.function(search.__call__, input_signature=[spec, seen_spec, k_spec])
    found = function(tf.constant(queries, tf.float32), ragged(seen), tf.constant(k))
    return [x.numpy() for x in found]


def naive(candidates, queries, seen, k):
    positions, scores = [], []
    for query, excluded in zip(queries, seen, strict=True):
        all_scores = [sum(a * b for a, b in zip(query, c, strict=True)) for c in candidates]
        left = [i for i in range(len(candidates)) if i not in excluded]
        best = sorted(left, key=lambda i: (-all_scores[i], i))[:k]
        positions.append(best + [-1] * (k - len(best)))
        scores.append([all_scores[i] for i in best] + [-np.inf] * (k - len(best)))
    return positions, scores


@pytest.mark.parametrize("num_candidates", [1, 31, 32, 33, 200])
@pytest.mark.parametrize("block_bytes", [1, 4 * 224 * 3, 2**28])
def test_exact_with_ties_exclusions_and_blocks(monkeypatch, num_candidates, block_bytes):
    monkeypatch.setattr(graph, "_BLOCK_BYTES", block_bytes)
    rng = np.random.default_rng(0)
    candidates = rng.integers(-2, 3, size=(num_candidates, 3))
    queries = rng.integers(-2, 3, size=(7, 3))
    seen = [rng.integers(0, num_candidates, size=n).tolist() for n in (0, 1, 5, 0, 40, 9, 2)]
    seen[3] = list(range(num_candidates))
    for k in {0, 1, num_candidates // 2, num_candidates}:
        positions, scores = searched(ExactSearch(candidates), queries, seen, k)
        assert positions.shape == scores.shape == (7, k)
        expected, expected_scores = naive(candidates, queries, seen, k)
        assert positions.tolist() == expected
        assert scores.tolist() == expected_scores


@pytest.mark.parametrize("search", [ExactSearch, ScaNNSearch])
def test_no_queries(search):
    positions, scores = searched(search(np.eye(4, dtype="float32")), np.zeros((0, 4)), [], 3)
    assert positions.shape == scores.shape == (0, 3)


@pytest.mark.parametrize("num_candidates", [500, 3_000, 25_000])
def test_scann_serves_what_was_measured(num_candidates):
    rng = np.random.default_rng(1)
    candidates = rng.normal(size=(num_candidates, 16)).astype("float32")
    queries = rng.normal(size=(40, 16)).astype("float32")
    search = ScaNNSearch(candidates, sample_queries=queries)
    positions, scores = searched(search, queries, [[]] * 40, 50)
    # The very same searcher: the same answers, its misses too.
    found = search.index.search(queries, 50)
    np.testing.assert_array_equal(positions, found.positions)
    np.testing.assert_array_equal(scores, found.scores)
    assert search.describe()["measured_recall@100"] == search.index.measured_recall


def test_scann_where_the_leaves_visited_hold_fewer_than_k():
    rng = np.random.default_rng(0)
    candidates = rng.normal(size=(3_000, 8)).astype("float32")
    queries = rng.normal(size=(4, 8)).astype("float32")
    search = ScaNNSearch(candidates, num_leaves=60, target_recall=0.01, k=5)
    best = ExactIndex(candidates).search(queries, 3_000).positions
    seen = [best[0, :700].tolist(), [], best[2].tolist(), best[3, 1:].tolist() * 2]
    for k in (100, 2_999, 3_000):
        positions, scores = searched(search, queries, seen, k)
        left = [2_300, 3_000, 0, 1]
        for row, (found, excluded) in enumerate(zip(positions, seen, strict=True)):
            number = min(k, left[row])
            assert (found[:number] >= 0).all()
            assert (found[number:] == -1).all()
            assert (scores[row, number:] == -np.inf).all()
            assert len(set(found[:number])) == number
            assert not set(excluded) & set(found)
            np.testing.assert_allclose(
                scores[row, :number],
                candidates[found[:number]] @ queries[row],
                rtol=1e-4,
                atol=1e-5,
            )
    # All leaves were searched, and all of them scored exactly.
    assert isinstance(search.index, ScaNNIndex)
    np.testing.assert_array_equal(positions[0, :2_300], best[0, 700:])
