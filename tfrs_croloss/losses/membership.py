"""Which candidates are not negatives of a row: its positives, in whichever column they stand."""

import keras
from keras import ops

# With up to this many a row, comparing is faster than scattering.
FEW = 4


def codes_of(num_candidates, positive_index=None, candidate_ids=None, row_ids=None):
    """Codes of the candidates, and for each row those of the candidates that are not negatives.

    Candidates with the same id have the same code. Without ids each has its own.

    Args:
        num_candidates: Their number.
        positive_index: `[num_queries, max_positives]`, -1 for none; or None.
        candidate_ids: `[num_candidates]`, or None.
        row_ids: Ids to exclude from the row's negatives, `[num_queries, n]`; or None.

    Returns:
        int32 `[num_candidates]`, from 0, and int32 `[num_queries, n]`, -1 for none; None if all
        candidates are negatives.
    """
    if candidate_ids is None:
        return ops.arange(num_candidates, dtype="int32"), positive_index
    if row_ids is not None:
        dtypes = {keras.backend.standardize_dtype(x.dtype) for x in (candidate_ids, row_ids)}
        if len(dtypes) > 1:
            # The wider one: in the narrower, an id might become that of another item.
            dtype = "int64" if any(name.endswith("64") for name in dtypes) else "int32"
            candidate_ids, row_ids = ops.cast(candidate_ids, dtype), ops.cast(row_ids, dtype)
    ids = ops.sort(candidate_ids)
    # Where the first of the candidates with this id stands among the sorted.
    codes = ops.cast(ops.searchsorted(ids, candidate_ids), "int32")
    excluded = []
    if positive_index is not None:
        code = ops.take(codes, ops.where(positive_index >= 0, positive_index, 0))
        excluded.append(ops.where(positive_index >= 0, code, -1))
    if row_ids is not None:
        # Flat, since on TensorFlow `searchsorted` takes no matrix of values.
        code = ops.searchsorted(ids, ops.reshape(row_ids, (-1,)))
        code = ops.reshape(ops.cast(code, "int32"), ops.shape(row_ids))
        last = ops.cast(num_candidates - 1, "int32")
        found = ops.take(ids, ops.where(code < last, code, last))
        is_there = ops.equal(found, row_ids)
        excluded.append(ops.where(is_there, code, -1))
    return codes, ops.concatenate(excluded, axis=1) if excluded else None


def is_among(codes, excluded):
    """Whether each of the codes `[c]` is one of those that a row excludes, `[b, n]`: `[b, c]`."""
    if excluded.shape[1] is not None and 0 < excluded.shape[1] <= FEW:
        found = False
        for slot in range(excluded.shape[1]):
            found = ops.logical_or(found, ops.equal(codes, excluded[:, slot : slot + 1]))
        return found
    num_rows, num_codes = ops.shape(excluded)[0], ops.shape(codes)[0]
    row = ops.zeros_like(excluded) + ops.arange(num_rows, dtype="int32")[:, None]
    # One column more takes in those of -1.
    column = ops.where(excluded >= 0, excluded, num_codes)
    hits = ops.scatter(
        ops.stack([row, column], axis=-1), ops.ones_like(excluded), (num_rows, num_codes + 1)
    )
    # Flat, since in a loop compiled by TensorFlow's XLA a gather along axis 1 mixes up the rows.
    place = ops.arange(num_rows, dtype="int32")[:, None] * (num_codes + 1) + codes
    return ops.take(ops.reshape(hits > 0, (-1,)), place)


def is_among_ids(ids, excluded):
    """Whether each id of a row `[b, m]` is one of those that it excludes, `[b, n]`: `[b, m]`.

    An id of -1 is that of no item, and padding.
    """
    same = ops.equal(ops.expand_dims(ids, axis=2), ops.expand_dims(excluded, axis=1))
    return ops.logical_and(ops.any(same, axis=2), ops.not_equal(ids, -1))
