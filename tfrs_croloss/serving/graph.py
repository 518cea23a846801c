"""The graph that is served: ids in, ids out."""

import numpy as np

from tfrs_croloss.retrieval.requirements import tf


class ServingGraph(tf.Module):
    """Functions from users, histories or query embeddings to the best items.

    Args:
        model: A trained `RetrievalModel`.
        data: The `RetrievalData` it was trained on.
        search: `ExactSearch` or `ScaNNSearch`.
        queries: The query embeddings of all users.
        history_length: Items of a history that the query tower takes; 0 for a tower on users.
        seen: `scipy.sparse.csr_array` `[num_users, num_items]`, never returned to their user.
        mask_history: Whether items of a history that is sent are not returned either.
    """

    def __init__(self, model, data, search, queries, history_length, seen, mask_history=True):
        super().__init__()
        self.search = search
        self.history_length = history_length
        self.mask_history = mask_history
        # The tower's variables alone: as a Keras model it would want to be saved as one.
        self.embed = lambda query: tf.cast(model.query_tower(query), tf.float32)
        self.variables_of_tower = list(model.query_tower.variables) if history_length else []
        # Row `num_users` stands for every unknown user.
        queries = np.asarray(queries, np.float32)
        self.queries = tf.Variable(np.vstack([queries, _mean(queries)]), trainable=False)
        self.users = _table(data.users)
        self.items = _table(data.items)
        # No signature: whoever loads the SavedModel in Python may ask it.
        user_ids = tf.TensorSpec([None], self.users.key_dtype, name="user_ids")
        self.is_known = tf.function(
            lambda user_ids: self.users.lookup(user_ids) < self.num_users,
            input_signature=[user_ids],
        )
        self.item_ids = tf.Variable(_with_padding(data.items), trainable=False)
        self.seen_items = tf.Variable(seen.indices.astype(np.int32), trainable=False)
        self.seen_starts = tf.Variable(
            np.append(seen.indptr, seen.indptr[-1]).astype(np.int64), trainable=False
        )

    @property
    def num_users(self):
        """The known users."""
        return self.queries.shape[0] - 1

    @property
    def num_items(self):
        """The items, without the padding."""
        return self.item_ids.shape[0] - 1

    def signatures(self, k):
        """Functions by the names that requests call them by.

        Args:
            k: What `k` is where a request does not say.
        """
        user_ids = tf.TensorSpec([None], self.users.key_dtype, name="user_ids")
        history = tf.TensorSpec([None, None], self.items.key_dtype, name="history")
        queries = tf.TensorSpec([None, self.queries.shape[1]], name="queries")
        functions = {"by_embedding": (self.of_embeddings, queries)}
        if self.history_length:
            functions["serving_default"] = (self.of_users_and_histories, user_ids, history)
            functions["by_history"] = (self.of_histories, history)
        else:
            functions["serving_default"] = (self.of_users, user_ids)
        return {name: self._with_options(k, *found) for name, found in functions.items()}

    def _with_options(self, k, function, *inputs):
        """A signature of `function` with the options `k` and `exclude`, and a second input."""
        options = (
            tf.TensorSpec([], tf.int32, name="k"),
            tf.TensorSpec([None, None], self.items.key_dtype, name="exclude"),
        )
        k, nothing = tf.constant(k, tf.int32), tf.zeros([1, 0], self.items.key_dtype)

        specs = [*inputs, *options]

        def checked(*given):
            # TensorFlow holds no request to the ranks of its signature, and some ops end the
            # process over a wrong one. An assertion would not do: while tracing, the rank is
            # the spec's.
            shaped = (tf.ensure_shape(x, s.shape) for x, s in zip(given, specs, strict=True))
            return function(*shaped)

        # TensorFlow takes a signature's defaults from those of the function, and knows no *args.
        if len(inputs) == 1:

            def signature(x, k=k, exclude=nothing):
                return checked(x, k, exclude)

        else:

            def signature(x, y=nothing, k=k, exclude=nothing):  # type: ignore[misc]
                return checked(x, y, k, exclude)

        return tf.function(signature, input_signature=specs)

    def of_users(self, user_ids, k, exclude):
        """The items for users as they were known at the export."""
        user = self.users.lookup(user_ids)
        return self._answer(tf.gather(self.queries, user), k, exclude, self._seen(user))

    def of_users_and_histories(self, user_ids, history, k, exclude):
        """Likewise, and for the histories of those who come with one."""
        user = self.users.lookup(user_ids)
        known = _row_for_each("history", self._known(history), user)
        never = (self._seen(user), known) if self.mask_history else (self._seen(user),)
        return self._answer(self._embedded(user, known), k, exclude, *never)

    def of_histories(self, history, k, exclude):
        """The items for histories, whosever they are."""
        user, known = tf.repeat(self.num_users, tf.shape(history)[0]), self._known(history)
        never = (known,) if self.mask_history else ()
        return self._answer(self._embedded(user, known), k, exclude, *never)

    def of_embeddings(self, queries, k, exclude):
        """The items for embeddings of the query tower, wherever they were computed."""
        return self._answer(tf.debugging.check_numerics(queries, "`queries`"), k, exclude)

    def _embedded(self, user, known):
        """The query embeddings of known histories, and of users where there is none."""
        # As in training: the last ones, oldest first, padded in front.
        length = self.history_length
        last = known[:, ::-1].to_tensor(-1, shape=[None, length])[:, ::-1]
        # The tower knows the users of the data alone.
        live = self.embed({"user": tf.minimum(user, self.num_users - 1), "history": last})
        live = tf.debugging.check_numerics(live, "the query tower's embeddings of `history`")
        has_history = (known.row_lengths() > 0)[:, tf.newaxis]
        return tf.where(has_history, live, tf.gather(self.queries, user))

    def _known(self, ids):
        """Positions of the ids that are known, ragged: padding is none of them."""
        items = self.items.lookup(ids)
        return tf.ragged.boolean_mask(items, items < self.num_items)

    def _seen(self, user):
        seen = tf.RaggedTensor.from_row_splits(self.seen_items, self.seen_starts, validate=False)
        return tf.gather(seen, user)

    def _answer(self, queries, k, exclude, *never):
        """Ids and scores of the best items that are in none of `never`, nor in `exclude`."""
        with tf.control_dependencies([tf.debugging.assert_non_negative(k, "`k` must be >= 0")]):
            k = tf.minimum(k, self.num_items)
        never = tf.concat([_row_for_each("exclude", self._known(exclude), queries), *never], axis=1)
        positions, scores = self.search(queries, never, k)
        # Position -1 is the padding, the last of the ids.
        places = tf.where(positions < 0, self.num_items, positions)
        return {"item_ids": tf.gather(self.item_ids, places), "scores": scores}


def _row_for_each(name, ragged, rows):
    """As many rows as `rows` has; one row is that of all."""
    given, wanted = ragged.nrows(tf.int32), tf.shape(rows)[0]
    fits = (given == 1) | (given == wanted)
    words = f"`{name}` must have one row for all, or as many as the request. Received and wanted:"
    with tf.control_dependencies([tf.debugging.Assert(fits, [words, given, wanted])]):
        row = tf.broadcast_to(tf.range(given), [wanted])
    return tf.gather(ragged, row)


def _keys(vocabulary):
    ids = vocabulary.ids
    return tf.constant(ids.tolist(), tf.int64 if ids.dtype.kind == "i" else tf.string)


def _table(vocabulary):
    """From ids to positions; an unknown id gets the position after the last."""
    values = tf.range(len(vocabulary), dtype=tf.int32)
    initializer = tf.lookup.KeyValueTensorInitializer(_keys(vocabulary), values)
    return tf.lookup.StaticHashTable(initializer, default_value=len(vocabulary))


def _with_padding(vocabulary):
    keys = _keys(vocabulary)
    return tf.concat([keys, tf.constant([vocabulary.padding], keys.dtype)], 0)


def _mean(queries):
    mean = queries.mean(axis=0)
    return mean / max(np.linalg.norm(mean), 1e-12)
