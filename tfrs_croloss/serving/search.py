"""Top-k search in a TensorFlow graph, without the items that a query has seen."""

import numpy as np
import tensorflow as tf

from tfrs_croloss.index import ScaNNIndex


class ExactSearch(tf.Module):
    """Scores every candidate, with ops that every TensorFlow has.

    Args:
        candidates: Embeddings `[num_candidates, dim]`.
    """

    def __init__(self, candidates):
        super().__init__()
        self.candidates = tf.Variable(candidates, trainable=False)

    def __call__(self, queries, seen, k):
        """Finds the best unseen candidates.

        Args:
            queries: `[num_queries, dim]`.
            seen: Ragged int32 `[num_queries, None]`, positions never to return.
            k: How many, int32 from 0 to the number of candidates.

        Returns:
            `positions` and `scores` `[num_queries, k]`, best first. Where fewer than k are unseen
            the tail has position -1 and score -inf.
        """
        scores = tf.matmul(queries, self.candidates, transpose_b=True)
        places = tf.stack([tf.cast(seen.value_rowids(), tf.int32), seen.values], axis=1)
        masked = tf.fill([tf.shape(places)[0]], tf.constant(-np.inf))
        scores = tf.tensor_scatter_nd_update(scores, places, masked)
        scores, positions = tf.math.top_k(scores, k)
        return tf.where(scores == -np.inf, -1, positions), scores


class ScaNNSearch(tf.Module):
    """ScaNN's search op; whoever loads the model must have imported `scann`.

    Args:
        candidates: Embeddings `[num_candidates, dim]`.
    """

    def __init__(self, candidates):
        super().__init__()
        index = ScaNNIndex(candidates)
        self.sizes = index.search_sizes
        from scann import scann_ops

        self._scann_ops = scann_ops
        self.state = index.build(scann_ops).serialize_to_module()

    def __call__(self, queries, seen, k):
        """As `ExactSearch`, up to ScaNN's recall."""
        searcher = self._scann_ops.searcher_from_module(self.state)
        # One query more, since ScaNN's op takes no empty batch.
        num_queries = tf.shape(queries)[0]
        queries = tf.pad(queries, [[0, 1], [0, 0]])
        seen = tf.concat([seen, tf.ragged.constant([[]], tf.int32)], axis=0)
        most_seen = tf.reduce_max(tf.concat([[0], seen.row_lengths()], axis=0))
        sizes = self.sizes(tf.cast(k, tf.int64), most_seen, minimum=tf.minimum, maximum=tf.maximum)
        positions, scores = searcher.search_batched(
            queries, *(tf.cast(size, tf.int32) for size in sizes)
        )
        # The leaves visited may hold fewer than k candidates.
        missing = [[0, 0], [0, tf.maximum(k - tf.shape(positions)[1], 0)]]
        positions = tf.pad(tf.cast(positions, tf.int32), missing)
        scores = tf.pad(scores, missing, constant_values=np.nan)
        # Sorted rows, so that a binary search tells whether a candidate was seen.
        past_the_end = tf.int32.max
        seen = tf.sort(seen.to_tensor(past_the_end), axis=1)
        seen = tf.pad(seen, [[0, 0], [0, 1]], constant_values=past_the_end)
        place = tf.searchsorted(seen, positions)
        is_seen = tf.gather(seen, place, batch_dims=1) == positions
        # ScaNN pads with NaN where it finds fewer than asked for.
        scores = tf.where(is_seen | tf.math.is_nan(scores), -np.inf, scores)
        scores, order = tf.math.top_k(scores, k)
        positions = tf.where(scores == -np.inf, -1, tf.gather(positions, order, batch_dims=1))
        return positions[:num_queries], scores[:num_queries]
