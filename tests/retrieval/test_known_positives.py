import numpy as np
import pytest

from tfrs_croloss.retrieval.known_positives import among
from tfrs_croloss.retrieval.requirements import tf


@pytest.mark.parametrize(("most", "width"), [(0, 8), (8, 8), (9, 16), (64, 64), (65, 128)])
def test_what_is_left_is_what_is_among_the_candidates(most, width):
    rng = np.random.default_rng(0)
    others = rng.integers(0, 5000, 10), rng.integers(0, most + 1, 5)
    candidates = rng.permutation(np.r_[:most, *others])
    known = [list(range(most)), [9000], [], rng.permutation(6000).tolist()]
    known[-1] = [k for k in known[-1] if k not in candidates or k < most]
    actual = among(tf.ragged.constant(known, tf.int64), tf.constant(candidates, tf.int64)).numpy()
    assert actual.shape == (4, width)
    for row, all_of_row in zip(actual, known, strict=True):
        expected = [k for k in all_of_row if k in candidates]
        assert row.tolist() == expected + [-1] * (width - len(expected))


def test_a_matrix_stays():
    known = tf.constant([[3, -1]])
    assert among(known, tf.constant([3, 4])) is known
    assert among(None, None) is None


def test_no_rows_are_no_rows():
    known = tf.RaggedTensor.from_row_lengths(tf.zeros([0], tf.int64), tf.zeros([0], tf.int64))
    assert among(known, tf.zeros([0], tf.int64)).shape == (0, 8)
