"""Which candidates are known positives of a row, where the rows' known positives are ragged."""

from tfrs_croloss.retrieval.requirements import tf


def into_mask(known_ids, mask, candidate_ids, positive_index=None):
    """Ragged known positives as part of the mask, `(None, mask)`; else both as they are.

    Of the many that a user may have few are among a step's candidates. So these are looked for in
    the flat list of all, where a matrix would be padding for the most part.

    Args:
        known_ids: Integers, `[num_queries, None]` or `[num_queries, num_known]`, or None.
        mask: Bool `[num_candidates]` or `[num_queries, num_candidates]`, or None.
        candidate_ids: Integers of the same dtype as the known, `[num_candidates]`.
        positive_index: The candidate of each row that stays, `[num_queries]`, or None.
    """
    if not isinstance(known_ids, tf.RaggedTensor):
        return known_ids, mask
    known_ids = known_ids.with_row_splits_dtype(tf.int64)
    num_queries, num_candidates = known_ids.nrows(), tf.size(candidate_ids, tf.int64)
    order = tf.argsort(candidate_ids)
    ids = tf.gather(candidate_ids, order)
    # Drawn twice, a candidate is there twice.
    first, end = (tf.searchsorted(ids, known_ids.values, side) for side in ("left", "right"))
    row = tf.repeat(known_ids.value_rowids(), end - first)
    column = tf.gather(order, tf.ragged.range(first, end).values)
    # Flat, since an index of one number is the fastest. Known twice, a place is there twice.
    place = row * num_candidates + tf.cast(column, tf.int64)
    stays = tf.zeros_like(place, tf.bool)
    if positive_index is not None:
        own = tf.gather(tf.cast(positive_index, tf.int64), row)
        stays = tf.equal(tf.cast(column, tf.int64), own)
    others = tf.SparseTensor(place[:, tf.newaxis], stays, [num_queries * num_candidates])
    kept = tf.sparse.to_dense(others, default_value=True, validate_indices=False)
    kept = tf.reshape(kept, [num_queries, num_candidates])
    return None, kept if mask is None else kept & mask
