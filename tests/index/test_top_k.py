import numpy as np
import pytest

from tfrs_croloss.index.top_k import RunningTopK, top_k


def naive(scores, k):
    columns, values = [], []
    for row in scores.tolist():
        columns.append(sorted(range(len(row)), key=lambda i: (-row[i], i))[:k])
        values.append([row[i] for i in columns[-1]])
    return columns, values


@pytest.mark.parametrize("k", [1, 2, 7, 30])
def test_agrees_with_sorting_when_most_scores_are_tied(k):
    scores = np.random.default_rng(0).integers(-3, 3, size=(50, 30)).astype(np.float32)
    expected_columns, expected_scores = naive(scores, k)
    columns, values = top_k(scores.copy(), k)
    assert columns.tolist() == expected_columns
    assert values.tolist() == expected_scores
    assert (columns.dtype, values.dtype) == (np.int32, np.float32)


def test_extremes_keep_their_bits_and_their_order():
    tiny, huge = np.finfo(np.float32).smallest_subnormal, np.finfo(np.float32).max
    scores = np.array([[-np.inf, -huge, -tiny, -0.0, 0.0, tiny, huge, np.inf]], np.float32)
    expected_columns, expected_scores = naive(scores, 8)
    columns, values = top_k(scores.copy(), 8)
    # -0.0 equals 0.0, so the lower column of the two comes first.
    assert columns.tolist() == expected_columns == [[7, 6, 5, 3, 4, 2, 1, 0]]
    assert values.tolist() == expected_scores


def test_agrees_with_tensorflow():
    tf = pytest.importorskip("tensorflow")
    scores = np.random.default_rng(1).integers(0, 5, size=(20, 40)).astype(np.float32)
    expected = tf.math.top_k(scores, k=9)
    columns, values = top_k(scores.copy(), 9)
    np.testing.assert_array_equal(columns, expected.indices)
    np.testing.assert_array_equal(values, expected.values)


@pytest.mark.parametrize("widths", [[30], [7, 23], [7] + [1] * 23, [10, 10, 10]])
@pytest.mark.parametrize("order", ["as they come", "ascending", "descending"])
def test_in_blocks_as_at_once(widths, order):
    scores = np.random.default_rng(2).integers(-3, 3, size=(50, 30)).astype(np.float32)
    scores[:, ::5] = -np.inf
    if order == "ascending":
        scores[:5].sort(axis=1)  # some rows with many new ones in every block, most with few
    if order == "descending":
        scores.sort(axis=1)
    if order == "descending":
        scores = scores[:, ::-1].copy()
    best = RunningTopK(7)
    for block in np.split(scores, np.cumsum(widths)[:-1], axis=1):
        best.add(block.copy())
    columns, values = best.result()
    expected_columns, expected_scores = naive(scores, 7)
    assert values.tolist() == expected_scores
    found = values > -np.inf
    assert columns[found].tolist() == np.array(expected_columns)[found].tolist()
