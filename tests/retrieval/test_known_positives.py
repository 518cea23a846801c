import numpy as np
import pytest

from tfrs_croloss.retrieval.known_positives import into_mask
from tfrs_croloss.retrieval.requirements import tf

CANDIDATES = [7, 3, 9, 3, 1, 7]
KNOWN = [[3, 8], [], [9, 7, 2, 9, 3, 5], [4], [7]]
OWN = [1, 0, 2, 3, 5]


@pytest.mark.parametrize("own", [None, OWN], ids=["positives apart", "positives among them"])
@pytest.mark.parametrize("rank", [0, 1, 2])
@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_candidates_that_are_known_are_masked(own, rank, dtype):
    rng = np.random.default_rng(rank)
    mask = [None, rng.random(6) < 0.6, rng.random([5, 6]) < 0.6][rank]
    none, actual = into_mask(
        tf.ragged.constant(KNOWN, dtype, row_splits_dtype=dtype),
        None if mask is None else tf.constant(mask),
        tf.constant(CANDIDATES, dtype),
        None if own is None else tf.constant(own),
    )
    assert none is None
    for i in range(5):
        for j in range(6):
            expected = CANDIDATES[j] not in KNOWN[i] or (own is not None and own[i] == j)
            if mask is not None:
                expected &= bool(mask[j] if rank == 1 else mask[i][j])
            assert bool(actual[i, j]) == expected


def test_a_matrix_stays():
    known, mask = tf.constant([[3, -1]]), tf.constant([True, False])
    assert into_mask(known, mask, tf.constant([3, 4])) == (known, mask)
    assert into_mask(None, None, None) == (None, None)


@pytest.mark.parametrize("num_candidates", [0, 4])
def test_no_rows_are_no_rows(num_candidates):
    known = tf.RaggedTensor.from_row_lengths(tf.zeros([0], tf.int64), tf.zeros([0], tf.int64))
    _, mask = into_mask(known, None, tf.zeros([num_candidates], tf.int64))
    assert mask.shape == (0, num_candidates)
