import numpy as np
import pytest
import scipy.sparse

from tfrs_croloss.index.membership import as_membership, contains


def test_contains_agrees_with_sets():
    rng = np.random.default_rng(0)
    dense = rng.random((7, 11)) < 0.3
    dense[3] = False
    columns = rng.integers(-1, 11, size=(7, 5))
    found = contains(as_membership("exclude", scipy.sparse.csr_array(dense), (7, 11)), columns)
    for row in range(7):
        members = {column for column in range(11) if dense[row, column]}
        assert found[row].tolist() == [int(column) in members for column in columns[row]]


def test_minus_one_is_not_the_last_column_of_the_row_before():
    members = scipy.sparse.csr_array(np.array([[0, 1], [0, 0]]))
    assert not contains(members, np.array([[-1], [-1]])).any()


def test_no_members_and_no_rows():
    assert not contains(scipy.sparse.csr_array((2, 3)), np.zeros((2, 4), int)).any()
    assert contains(scipy.sparse.csr_array((0, 3)), np.zeros((0, 4), int)).shape == (0, 4)


def test_cells_beyond_int32():
    width = 2**30
    members = scipy.sparse.csr_array(([1, 1], ([0, 4], [1, 5])), shape=(5, width))
    columns = np.array([[1]] * 4 + [[5]], np.int32)
    assert contains(members, columns)[:, 0].tolist() == [True, False, False, False, True]


@pytest.mark.parametrize("form", ["coo", "csc", "lil", "dok", "bsr", "csr"])
def test_any_sparse_format(form):
    dense = np.array([[0, 1, 0], [1, 0, 1]])
    members = as_membership("exclude", scipy.sparse.coo_matrix(dense).asformat(form), (2, 3))
    np.testing.assert_array_equal(members.toarray() != 0, dense != 0)


def test_stored_zeros_are_members_and_the_input_stays_as_it_was():
    unsorted = scipy.sparse.csr_array(
        (np.array([0, 5, 5]), np.array([2, 0, 0]), np.array([0, 3])), shape=(1, 3)
    )
    members = as_membership("exclude", unsorted, (1, 3))
    assert members.indices.tolist() == [0, 2]
    assert unsorted.indices.tolist() == [2, 0, 0]
    assert contains(members, np.array([[0, 1, 2]])).tolist() == [[True, False, True]]


def test_errors():
    with pytest.raises(TypeError, match=r"`exclude` must be a scipy.sparse.*Received: ndarray"):
        as_membership("exclude", np.zeros((2, 3)), (2, 3))
    with pytest.raises(ValueError, match=r"shape \(2, 3\)\. Received: shape \(3, 2\)"):
        as_membership("exclude", scipy.sparse.csr_array((3, 2)), (2, 3))
