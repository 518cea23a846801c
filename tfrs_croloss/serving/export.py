"""Exporting a trained `RetrievalModel` as a SavedModel."""

from pathlib import Path

import numpy as np

from tfrs_croloss._files import replaced_folder
from tfrs_croloss.retrieval.requirements import tf
from tfrs_croloss.serving.search import ExactSearch, ScaNNSearch

SEARCHES = ("exact", "scann")


def export_model(model, data, path, k=100, history_length=0, seen=None, search="exact", query=None):
    """Writes a SavedModel that takes user ids and returns the top items they have not seen.

    Its signature `serving_default` takes `user_ids` `[batch]`, as strings or int64 as in the data,
    and, for a tower on histories, `history` `[batch, any]`, item ids oldest first, padded with ""
    or -1. It returns `item_ids` and `scores`, both `[batch, k]`, best first.

    - A known user gets the embedding computed now. One whose `history` row holds a known item gets
      the tower's answer to that history instead, of which the last `history_length` items count;
      none of the items sent comes back (with ScaNN, at the price of answers if they are many).
    - An unknown user gets the answer to the mean of all users' embeddings: what is liked by most.
    - Where fewer than k items are unseen, the tail has the id "" or -1 and the score -inf.

    With `search="exact"` the graph holds TensorFlow's own ops alone and runs in an unmodified
    TensorFlow Serving. The folder is written whole or not at all.

    Args:
        model: A trained `RetrievalModel`.
        data: The `RetrievalData` it was trained on.
        path: Folder to write; replaced if it is there.
        k: Items to return.
        history_length: Items of a history that the query tower takes; 0 for a tower on users.
        seen: `scipy.sparse` matrix `[num_users, num_items]` of the items never to return to their
            user; the training items by default.
        search: `"exact"`, or `"scann"`, whose op must be loaded (`import scann`) with the model.
        query: Features of all users as the query tower takes them, a dict of arrays with a row a
            user; for a tower of your own. By default `data.queries(history_length)`.

    Raises:
        ValueError: If `k` is not positive, `search` unknown, the model not of this data, or the
            folder holds something else than a SavedModel.
        OSError: If the disk is full.
        ImportError: If ScaNN is asked for and missing.

    Example:
    >>> import tempfile, pandas as pd, tensorflow as tf, tensorflow_recommenders as tfrs
    >>> from tfrs_croloss.data import Split, encode
    >>> from tfrs_croloss.retrieval import InBatchNegatives, ItemTower, RetrievalModel, UserTower
    >>> from tfrs_croloss.serving import export_model
    >>> train = pd.DataFrame({"user": ["ann", "bob"], "item": ["x", "y"]})
    >>> data = encode(Split(train, train[:0], train[:0]))
    >>> towers = UserTower(num_users=2, dim=8), ItemTower(num_items=2, dim=8)
    >>> model = RetrievalModel(*towers, 2, tfrs.tasks.Retrieval(), InBatchNegatives())
    >>> path = tempfile.mkdtemp()
    >>> export_model(model, data, path, k=1)
    >>> serve = tf.saved_model.load(path).signatures["serving_default"]
    >>> serve(user_ids=tf.constant(["ann", "bob"]))["item_ids"].numpy().tolist()
    [[b'y'], [b'x']]
    """
    if k < 1:
        raise ValueError(f"`k` must be positive. Received: {k}")
    if search not in SEARCHES:
        raise ValueError(f"`search` must be one of {', '.join(SEARCHES)}. Received: {search!r}")
    if model.num_items != len(data.items):
        raise ValueError(f"`model` has {model.num_items} items, `data` has {len(data.items)}")
    path = Path(path)
    if path.exists() and not (path / "saved_model.pb").exists() and any(path.iterdir()):
        raise ValueError(f"{path} holds something else than a SavedModel: choose another folder")
    seen = data.train if seen is None else seen
    query = data.queries(history_length) if query is None else query
    module = _Server(model, data, k, history_length, seen, search, query)
    options = tf.saved_model.SaveOptions(
        namespace_whitelist=["Scann"] if search == "scann" else None
    )
    with replaced_folder(path) as folder:
        try:
            tf.saved_model.save(module, str(folder), signatures=module.signature(), options=options)
        except tf.errors.OpError as error:
            raise OSError(f"could not write to {path}: {error.message}") from error


class _Server(tf.Module):
    """The graph that is served. Row `num_users` stands for every unknown user."""

    def __init__(self, model, data, k, history_length, seen, search, query):
        super().__init__()
        self.k = k
        self.history_length = history_length
        queries = model.query_embeddings(query)
        # The tower's variables alone: as a Keras model it would want to be saved as one.
        self.embed = lambda query: model.query_tower(query)
        self.variables_of_tower = list(model.query_tower.variables) if history_length else []
        self.queries = tf.Variable(np.vstack([queries, _mean(queries)]), trainable=False)
        self.users = _table(data.users)
        self.items = _table(data.items)
        self.item_ids = tf.Variable(_with_padding(data.items), trainable=False)
        seen = seen.tocsr()
        self.seen_items = tf.Variable(seen.indices.astype(np.int32), trainable=False)
        self.seen_starts = tf.Variable(
            np.append(seen.indptr, seen.indptr[-1]).astype(np.int64), trainable=False
        )
        candidates = model.candidate_embeddings()
        if search == "exact":
            self.search = ExactSearch(candidates, k)
        else:
            most_seen = int(np.diff(seen.indptr).max(initial=0)) + history_length
            self.search = ScaNNSearch(candidates, k, most_seen)

    def signature(self):
        """The concrete function of `serving_default`."""
        inputs = [tf.TensorSpec([None], self.users.key_dtype, name="user_ids")]
        serve = self.serve
        if self.history_length:
            inputs.append(tf.TensorSpec([None, None], self.items.key_dtype, name="history"))
            serve = self.serve_history
        return tf.function(serve).get_concrete_function(*inputs)

    def serve(self, user_ids):
        user = self.users.lookup(user_ids)
        return self._answer(tf.gather(self.queries, user), self._seen(user))

    def serve_history(self, user_ids, history):
        user = self.users.lookup(user_ids)
        items = self.items.lookup(history)
        known = tf.ragged.boolean_mask(items, items < tf.size(self.item_ids) - 1)
        # As in training: the last ones, oldest first, padded in front.
        length = self.history_length
        last = known[:, ::-1].to_tensor(-1, shape=[None, length])[:, ::-1]
        # The tower knows the users of the training set alone.
        known_user = tf.minimum(user, len(self.queries) - 2)
        live = self.embed({"user": known_user, "history": last})
        has_history = (known.row_lengths() > 0)[:, tf.newaxis]
        queries = tf.where(has_history, live, tf.gather(self.queries, user))
        return self._answer(queries, tf.concat([self._seen(user), known], axis=1))

    def _seen(self, user):
        seen = tf.RaggedTensor.from_row_splits(self.seen_items, self.seen_starts, validate=False)
        return tf.gather(seen, user)

    def _answer(self, queries, seen):
        positions, scores = self.search(queries, seen)
        # To k where the catalogue has fewer items.
        beyond = [[0, 0], [0, self.k - tf.shape(positions)[1]]]
        positions = tf.pad(positions, beyond, constant_values=-1)
        scores = tf.pad(scores, beyond, constant_values=-np.inf)
        # Position -1 is the padding, the last of the ids.
        places = tf.where(positions < 0, tf.size(self.item_ids) - 1, positions)
        return {"item_ids": tf.gather(self.item_ids, places), "scores": scores}


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
