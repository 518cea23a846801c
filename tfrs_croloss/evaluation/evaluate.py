"""Top-N evaluation of query embeddings against an index."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tfrs_croloss._typing import Array, SparseMatrix
from tfrs_croloss.evaluation.lists import Evaluation, evaluate_lists, matrix_and_counts
from tfrs_croloss.evaluation.segments import Segment
from tfrs_croloss.index.base import Index
from tfrs_croloss.index.membership import as_membership
from tfrs_croloss.index.validation import as_embeddings

if TYPE_CHECKING:
    from tfrs_croloss.data import Targets


def evaluate(
    index: Index,
    queries: Array,
    targets: "Targets | SparseMatrix",
    exclude: SparseMatrix | None = None,
    top_n: int | Sequence[int] = (10, 50, 100),
    block_size: int = 16_384,
    segments: Mapping[str, Segment] | None = None,
) -> Evaluation:
    """Searches for each user and scores the lists by the user's test items.

    Users without test items are neither searched nor counted.

    Args:
        index: `tfrs_croloss.index.Index` over the catalogue.
        queries: array-like of numbers, `[num_users, embedding_dim]`.
        targets: the users' test items: the `test` or `validation` of a `RetrievalData`, or
            another pair of a matrix and counts, or a matrix alone. The matrix is a scipy.sparse
            one, `[num_users, num_items]`: its stored entries, whatever their value, are the test
            items in the catalogue. The counts, int array `[num_users]`, are of all test items of
            each user, with those that are not in the catalogue; without them the stored entries
            are all.
        exclude: scipy.sparse matrix, `[num_users, num_items]`. Its stored entries are never
            recommended: the items of a user's history, say. A test item that is also excluded
            can't be hit but still counts.
        top_n: int or sequence of ints. The list lengths N to measure at.
        block_size: int. Users handed to the index at once. The indexes of this library bound
            their memory themselves, and ScaNN's does less in a large block.
        segments: dict from names to `Segment`s, to be measured on their own as well.

    Returns:
        An `Evaluation`.

    Raises:
        TypeError: if the matrix or `exclude` is not sparse.
        ValueError: if shapes don't fit, a count is smaller than its row of the matrix, a
            number in `top_n` is not a positive integer, or no user has a test item.

    >>> import numpy as np, scipy.sparse
    >>> from tfrs_croloss.index import ExactIndex
    >>> index = ExactIndex(np.eye(3))
    >>> targets = scipy.sparse.csr_array(np.array([[1, 0, 0], [1, 0, 0]]))
    >>> result = evaluate(index, [[3, 2, 1], [1, 2, 3]], targets, top_n=(1, 3))
    >>> result.metrics["recall@1"], result.metrics["recall@3"], result.num_users
    (0.5, 1.0, 2)

    The second user's other test item is not in the catalogue:

    >>> evaluate(index, [[3, 2, 1], [1, 2, 3]], (targets, [1, 2]), top_n=3).metrics["recall@3"]
    0.75
    """
    queries = as_embeddings("queries", queries, dim=index.embedding_dim)
    shape = (len(queries), index.num_candidates)
    matrix, counts = matrix_and_counts(targets)
    matrix = as_membership("targets", matrix, shape)
    if exclude is not None:
        exclude = as_membership("exclude", exclude, shape)

    def lists(users, n):
        seen = None if exclude is None else exclude[users]
        return index.search(queries[users], n, seen).positions

    return evaluate_lists(lists, (matrix, counts), top_n, block_size, segments)
