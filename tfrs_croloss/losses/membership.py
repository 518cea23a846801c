"""Which candidates are no negatives of a row: its positives, whatever column they stand in."""

import keras
from keras import ops

# With up to this many labels a row, comparing is faster than scattering.
FEW = 4


def labels_of(num_candidates, positive_index=None, candidate_ids=None, row_ids=None):
    """Labels of the candidates, and for each row those of the candidates that are no negatives.

    Two candidates have one label if they have one id, or are the same where there are no ids.

    Args:
        num_candidates: Their number.
        positive_index: `[num_queries, max_positives]`, -1 for none; or None.
        candidate_ids: `[num_candidates]`, or None.
        row_ids: Ids of items that are no negatives of the row, `[num_queries, n]`; or None.

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
    labels = ops.cast(ops.searchsorted(ids, candidate_ids), "int32")
    own_labels = []
    if positive_index is not None:
        label = ops.take(labels, ops.where(positive_index >= 0, positive_index, 0))
        own_labels.append(ops.where(positive_index >= 0, label, -1))
    if row_ids is not None:
        # Flat, since on TensorFlow `searchsorted` takes no matrix of values.
        label = ops.searchsorted(ids, ops.reshape(row_ids, (-1,)))
        label = ops.reshape(ops.cast(label, "int32"), ops.shape(row_ids))
        last = ops.cast(num_candidates - 1, "int32")
        found = ops.take(ids, ops.where(label < last, label, last))
        is_there = ops.equal(found, row_ids)
        own_labels.append(ops.where(is_there, label, -1))
    return labels, ops.concatenate(own_labels, axis=1) if own_labels else None


def is_among(labels, own_labels):
    """Whether each of the labels `[c]` is one of the row's `[b, n]`; bool `[b, c]`."""
    if own_labels.shape[1] is not None and 0 < own_labels.shape[1] <= FEW:
        found = False
        for slot in range(own_labels.shape[1]):
            found = ops.logical_or(found, ops.equal(labels, own_labels[:, slot : slot + 1]))
        return found
    num_rows, num_labels = ops.shape(own_labels)[0], ops.shape(labels)[0]
    row = ops.zeros_like(own_labels) + ops.arange(num_rows, dtype="int32")[:, None]
    # One column more takes in those of -1.
    column = ops.where(own_labels >= 0, own_labels, num_labels)
    hits = ops.scatter(
        ops.stack([row, column], axis=-1), ops.ones_like(own_labels), (num_rows, num_labels + 1)
    )
    # Flat, since in a loop compiled by TensorFlow's XLA a gather along axis 1 mixes up the rows.
    place = ops.arange(num_rows, dtype="int32")[:, None] * (num_labels + 1) + labels
    return ops.take(ops.reshape(hits > 0, (-1,)), place)
