"""Sets of candidates, one a query, held as the stored entries of a sparse matrix."""

import numpy as np
import scipy.sparse

# Cells of the matrix that are held at once, a byte each: few enough to stay in the cache.
_FLAGS = 2**22


def as_membership(name, matrix, shape):
    """Returns a sparse matrix as csr with sorted, unique column indices in each row.

    Only where entries are stored matters, not their values: an explicitly stored 0 is a member
    too. The caller's matrix is never changed.

    Args:
        name: str. The argument's name, for the messages.
        matrix: scipy.sparse matrix or array of any format, `[num_rows, num_candidates]`.
        shape: tuple of two ints. The shape asked for.

    Returns:
        scipy.sparse.csr_array in canonical format, `[num_rows, num_candidates]`.

    Raises:
        TypeError: if `matrix` is not sparse.
        ValueError: if it has another shape.

    >>> coo = scipy.sparse.coo_array(([1, 1, 1], ([0, 0, 1], [2, 0, 1])), shape=(2, 3))
    >>> as_membership("exclude", coo, (2, 3)).indices.tolist()
    [0, 2, 1]
    """
    if not scipy.sparse.issparse(matrix):
        wanted, received = (
            "" if size is None else f" of shape {tuple(size)}"
            for size in (shape, getattr(matrix, "shape", None))
        )
        raise TypeError(
            f"`{name}` must be a scipy.sparse matrix{wanted}; convert it with "
            f"`scipy.sparse.csr_array({name})`. Received: {type(matrix).__name__}{received}"
        )
    if matrix.shape != shape:
        raise ValueError(
            f"`{name}` must have one row a query and one column a candidate, shape {shape}. "
            f"Received: shape {matrix.shape}"
        )
    members = scipy.sparse.csr_array(matrix)
    if not members.has_canonical_format:
        # The conversion shares a csr matrix's arrays, and sorting works in place.
        members = members.copy()
        members.sum_duplicates()
    return members


def contains(members, columns):
    """Tells which of each row's columns are members of that row.

    Args:
        members: scipy.sparse.csr_array in canonical format, `[num_rows, num_candidates]`.
        columns: int array, `[num_rows, width]`. Negative numbers stand for "nothing" and are
            members of no row.

    Returns:
        bool array, `[num_rows, width]`.

    >>> members = scipy.sparse.csr_array(np.array([[0, 1, 1], [1, 0, 0]]))
    >>> contains(members, np.array([[2, 0], [0, -1]])).tolist()
    [[True, False], [True, False]]
    """
    num_rows, num_columns = members.shape
    found = np.zeros(columns.shape, bool)
    block_size = max(1, _FLAGS // num_columns)
    # One column more, which stays False, for the negative numbers: the last is column -1.
    flags = np.zeros((min(block_size, num_rows), num_columns + 1), bool)
    for start in range(0, num_rows, block_size):
        wanted = np.maximum(columns[start : start + block_size], -1)
        starts = members.indptr[start : start + len(wanted) + 1]
        rows = np.repeat(np.arange(len(wanted)), np.diff(starts))
        stored = rows, members.indices[starts[0] : starts[-1]]
        flags[stored] = True
        found[start : start + len(wanted)] = np.take_along_axis(
            flags[: len(wanted)], wanted, axis=1
        )
        flags[stored] = False
    return found
