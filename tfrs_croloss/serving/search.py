"""Top-k search in a TensorFlow graph, without the items that a query has seen."""

import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfrs_croloss.index import ScaNNIndex

# Candidates of a group, of whose scores only the largest is compared with those of others.
_GROUP = 32
# Scores of a block of queries, as bytes.
_BLOCK_BYTES = 256 * 2**20


class ExactSearch(tf.Module):
    """Scores every candidate, with ops that every TensorFlow has.

    `tf.math.top_k` over all scores takes several times as long as to compute them. Here it is given
    the largest score of each group of candidates: the k best candidates are in the k best groups.
    Groups are of neighbors, so that equal scores come lower position first, as from `top_k`. In
    memory the first of each group lie beside each other, then the second: so the largest is found
    by comparing whole rows.

    Args:
        candidates: Embeddings `[num_candidates, dim]`.
    """

    def __init__(self, candidates):
        super().__init__()
        self.num_candidates, dim = candidates.shape
        self.num_groups = -(-self.num_candidates // _GROUP)
        grouped = np.zeros((self.num_groups * _GROUP, dim), np.float32)
        grouped[: self.num_candidates] = candidates
        grouped = grouped.reshape(self.num_groups, _GROUP, dim).swapaxes(0, 1).reshape(-1, dim)
        self.candidates = tf.Variable(grouped, trainable=False)

    def describe(self):
        """What the search is, as plain numbers, ready for JSON."""
        return {"search": "exact", "num_candidates": self.num_candidates}

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
        num_queries = tf.shape(queries)[0]
        block_size = max(1, _BLOCK_BYTES // (4 * self.num_groups * _GROUP))
        # An empty batch is a block, too.
        num_blocks = tf.maximum(1, -(-num_queries // block_size))

        def search_block(block, positions, scores):
            rows = slice(block * block_size, tf.minimum((block + 1) * block_size, num_queries))
            found = self._search_block(queries[rows], seen[rows], k)
            return block + 1, positions.write(block, found[0]), scores.write(block, found[1])

        _, positions, scores = tf.while_loop(
            lambda block, *_: block < num_blocks,
            search_block,
            (0, _blocks(num_blocks, tf.int32), _blocks(num_blocks, tf.float32)),
            parallel_iterations=1,
        )
        return positions.concat(), scores.concat()

    def _search_block(self, queries, seen, k):
        num_queries = tf.shape(queries)[0]
        scores = tf.matmul(queries, self.candidates, transpose_b=True)
        rows, positions = tf.cast(seen.value_rowids(), tf.int32), seen.values
        # The places at the end that no candidate fills.
        padding = tf.range(self.num_candidates, self.num_groups * _GROUP)
        rows = tf.concat([rows, tf.repeat(tf.range(num_queries), tf.size(padding))], 0)
        positions = tf.concat([positions, tf.tile(padding, [num_queries])], 0)
        columns = positions % _GROUP * self.num_groups + positions // _GROUP
        masked = tf.fill(tf.shape(rows), tf.constant(-np.inf))
        scores = tf.tensor_scatter_nd_update(scores, tf.stack([rows, columns], 1), masked)

        scores = tf.reshape(scores, [num_queries, _GROUP, self.num_groups])
        _, groups = tf.math.top_k(tf.reduce_max(scores, 1), tf.minimum(k, self.num_groups))
        groups = tf.sort(groups, axis=1)
        columns = tf.repeat(groups[:, tf.newaxis], _GROUP, axis=1)
        best = tf.gather(scores, columns, axis=2, batch_dims=2)
        # Again in the order of the positions.
        best = tf.reshape(tf.transpose(best, [0, 2, 1]), [num_queries, -1])
        positions = groups[:, :, tf.newaxis] * _GROUP + tf.range(_GROUP)
        positions = tf.reshape(positions, [num_queries, -1])
        scores, order = tf.math.top_k(best, k)
        positions = tf.gather(positions, order, batch_dims=1)
        return tf.where(scores == -np.inf, -1, positions), scores


class ScaNNSearch(tf.Module):
    """ScaNN's search op; whoever loads the model must have imported `scann`.

    Args:
        candidates: Embeddings `[num_candidates, dim]`.
        **options: Further arguments of `ScaNNIndex`.
    """

    def __init__(self, candidates, **options):
        super().__init__()
        # Trained once: what is served is what was measured.
        self.index = ScaNNIndex(candidates, **options)
        from scann import scann_ops

        self._scann_ops = scann_ops
        self.state = scann_ops.ScannState(_tensors(self.index.searcher))

    def describe(self):
        """What the search is, as plain numbers, ready for JSON."""
        # Whoever finds that the model does not load finds here what is missing.
        return {"search": "scann", "needs": "import scann", **self.index.settings()}

    def __call__(self, queries, seen, k):
        """As `ExactSearch`, up to ScaNN's recall."""
        num_queries, num_items = tf.shape(queries)[0], self.index.num_candidates
        # One query more, since ScaNN's op takes no empty batch.
        queries = tf.pad(queries, [[0, 1], [0, 0]])
        seen = tf.concat([seen, tf.ragged.constant([[]], tf.int32)], axis=0)
        most_seen = tf.reduce_max(seen.row_lengths())
        # Sorted rows, so that a binary search tells whether a candidate was seen.
        seen = tf.pad(
            tf.sort(seen.to_tensor(num_items), axis=1), [[0, 0], [0, 1]], constant_values=num_items
        )
        sizes = self.index.search_sizes(
            tf.cast(k, tf.int64), most_seen, minimum=tf.minimum, maximum=tf.maximum
        )
        sizes = [tf.cast(size, tf.int32) for size in sizes]
        searcher = self._scann_ops.searcher_from_module(self.state)
        positions, scores = _search_unseen(searcher, queries, seen, k, sizes)
        # A query whose leaves held fewer than it could have had is searched in all of them.
        num_seen = tf.math.count_nonzero(seen[:, 1:] != seen[:, :-1], axis=1, dtype=tf.int32)
        num_found = tf.math.count_nonzero(positions >= 0, axis=1, dtype=tf.int32)
        short = tf.where(num_found < tf.minimum(k, num_items - num_seen))

        def again():
            rows = short[:, 0]
            sizes_of_all = sizes[0], num_items, self.index.num_leaves
            found = _search_unseen(
                searcher, tf.gather(queries, rows), tf.gather(seen, rows), k, sizes_of_all
            )
            return tuple(
                tf.tensor_scatter_nd_update(old, short, new)
                for old, new in zip((positions, scores), found, strict=True)
            )

        positions, scores = tf.cond(tf.size(short) > 0, again, lambda: (positions, scores))
        return positions[:num_queries], scores[:num_queries]


def _search_unseen(searcher, queries, seen, k, sizes):
    """The best k that are not seen, of as many as the sizes say."""
    positions, scores = searcher.search_batched(queries, *sizes)
    # It finds fewer than asked for where the leaves hold no more.
    missing = [[0, 0], [0, tf.maximum(k - tf.shape(positions)[1], 0)]]
    positions = tf.pad(tf.cast(positions, tf.int32), missing)
    scores = tf.pad(scores, missing, constant_values=np.nan)
    place = tf.searchsorted(seen, positions)
    is_seen = tf.gather(seen, place, batch_dims=1) == positions
    scores = tf.where(is_seen | tf.math.is_nan(scores), -np.inf, scores)
    scores, order = tf.math.top_k(scores, k)
    positions = tf.gather(positions, order, batch_dims=1)
    return tf.where(scores == -np.inf, -1, positions), scores


def _blocks(size, dtype):
    return tf.TensorArray(dtype, size, infer_shape=False, element_shape=[None, None])


def _tensors(searcher):
    """A searcher of ScaNN's numpy interface, as its TensorFlow interface holds it."""
    with tempfile.TemporaryDirectory() as folder:
        searcher.serialize(folder, relative_path=True)
        path = Path(folder)

        def message(name):
            file = path / f"{name}.pb"
            return [file.read_bytes()] if file.exists() else b""

        def array(name, dtype):
            file = path / f"{name}.npy"
            # What a searcher has none of is a scalar.
            return np.load(file) if file.exists() else np.zeros((), dtype)

        return (
            message("scann_config"),
            message("serialized_partitioner"),
            array("datapoint_to_token", np.int32),
            message("ah_codebook"),
            array("hashed_dataset", np.uint8),
            array("int8_dataset", np.int8),
            array("int8_multipliers", np.float32),
            array("dp_norms", np.float32),
            array("dataset", np.float32),
        )
