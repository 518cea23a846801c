"""Of the known positives of a row, those among the candidates: few of the many that a user has."""

from tfrs_croloss.retrieval.requirements import tf

# What no candidate has: ids are positions, or hashes, and neither is negative.
PADDING = -1
LEAST_WIDTH = 8


def among(known_ids, candidate_ids):
    """Leaves out what is not among the candidates.

    Where users have up to hundreds of positives and most have few, that is most of a padded matrix.

    Args:
        known_ids: Integers, a `tf.RaggedTensor` `[num_queries, None]`; a matrix or None stays.
        candidate_ids: Integers of the same dtype, `[num_candidates]`.

    Returns:
        `[num_queries, width]`, padded. The width is a power of two, so that what XLA compiles by
        shape is compiled a few times only.
    """
    if not isinstance(known_ids, tf.RaggedTensor):
        return known_ids
    ids = tf.sort(candidate_ids)
    place = tf.searchsorted(ids, known_ids.values)
    is_there = tf.gather(ids, tf.minimum(place, tf.shape(ids)[0] - 1)) == known_ids.values
    found = tf.ragged.boolean_mask(known_ids, known_ids.with_values(is_there)).to_tensor(PADDING)
    width = tf.cast(tf.maximum(tf.shape(found)[1], LEAST_WIDTH), tf.float32)
    width = tf.cast(2.0 ** tf.math.ceil(tf.math.log(width) / tf.math.log(2.0)), tf.int32)
    return tf.pad(found, [[0, 0], [0, width - tf.shape(found)[1]]], constant_values=PADDING)
