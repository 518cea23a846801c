"""Top-N evaluation of an exported model: of what its traffic gets."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tfrs_croloss._arguments import check_count
from tfrs_croloss._saved_models import latest_version, load
from tfrs_croloss._typing import SparseMatrix, StrPath
from tfrs_croloss.evaluation.lists import Evaluation, evaluate_lists, matrix_and_counts
from tfrs_croloss.evaluation.segments import Segment
from tfrs_croloss.index.membership import as_membership

if TYPE_CHECKING:
    from tfrs_croloss.data import RetrievalData, Targets


def evaluate_export(
    path: StrPath,
    data: "RetrievalData",
    targets: "Targets | SparseMatrix | None" = None,
    exclude: SparseMatrix | None = None,
    history_length: int = 0,
    top_n: int | Sequence[int] = (10, 50, 100),
    batch_size: int = 256,
    segments: Mapping[str, Segment] | None = None,
) -> Evaluation:
    """Asks an exported model for each user's items and scores its answers by the test items.

    This is the path that is served and no model of it: the SavedModel looks the users up, leaves
    out what it knows they have seen, searches, and gives ids, all in its own graph.

    What an approximate search finds depends on the batch, since all of a batch are given the
    effort of its user who has seen most. Users with as many known interactions are therefore
    asked for together, so that each gets about what a request of its own would; `batch_size=1`
    makes these requests.

    Args:
        path: Folder of a SavedModel of `tfrs_croloss.serving.export_model`, or of its versions,
            of which the latest is asked, as a server would load it.
        data: the `tfrs_croloss.data.RetrievalData` that it was exported with.
        targets: the users' test items, as in `evaluate`; `data.test` by default. The
            export must have been told what these users have seen by then: for the test set that
            is training and validation items, if those of the validation are to be left out.
        exclude: scipy.sparse matrix, `[num_users, num_items]`. Items to send with each request as
            not to be returned, as a server's clients may: what was seen since the export, say.
        history_length: int. For a tower on histories, how many of a user's last known items
            to send as the `history`, as its clients do. With 0 the history is empty, and a user
            gets the embedding computed at the export.
        top_n: int or sequence of ints. The list lengths N to measure at.
        batch_size: int. Users a request, which bounds the memory.
        segments: dict from names to `Segment`s, to be measured on their own as well.

    Returns:
        An `Evaluation`.

    Raises:
        TypeError: if the matrix of `targets` or `exclude` is not sparse.
        ValueError: if the folder holds no such SavedModel, or one of other data, it wants ScaNN's
            op and ScaNN is missing, it takes no history and one is to be sent, its scores are NaN,
            or as `evaluate`.

    >>> import tempfile
    >>> import pandas as pd
    >>> from tfrs_croloss.data import Split, encode
    >>> from tfrs_croloss.retrieval import *
    >>> from tfrs_croloss.serving import export_model
    >>> train = pd.DataFrame({"user": ["ann", "bob"], "item": ["x", "y"]})
    >>> test = pd.DataFrame({"user": ["ann", "bob"], "item": ["y", "z"]})
    >>> data = encode(Split(train, train[:0], test))
    >>> towers = UserTower(num_users=2, dim=8), ItemTower(num_items=2, dim=8)
    >>> model = RetrievalModel(*towers, 2, Retrieval(), InBatchNegatives())
    >>> folder = tempfile.mkdtemp()
    >>> _ = export_model(model, data, folder)
    >>> evaluate_export(folder, data, top_n=1).metrics["recall@1"]  # no one can find "z"
    0.5
    """
    shape = (len(data.users), len(data.items))
    matrix, counts = matrix_and_counts(data.test if targets is None else targets)
    targets = as_membership("targets", matrix, shape), counts
    if exclude is not None:
        exclude = as_membership("exclude", exclude, shape)
    client = _Client(path, data, exclude, history_length, check_count("batch_size", batch_size))
    return evaluate_lists(client.lists, targets, top_n=top_n, segments=segments)


class _Client:
    """Asks the signature `serving_default`: positions of users in, positions of items out."""

    def __init__(self, path, data, exclude, history_length, batch_size):
        import tensorflow as tf  # not before an export is asked: indexes need none of it

        self.tf, self.data, self.batch_size = tf, data, batch_size
        # The signature alone would not keep the model's variables.
        self.folder = latest_version(path)
        self.model = load(self.folder)
        self.serve = self.model.signatures.get("serving_default")
        self.dtypes = self._dtypes()
        self.exclude = exclude
        if history_length and "history" not in self.dtypes:
            raise ValueError(
                f"`history_length` must be 0: {self.folder} takes no history. "
                f"Received: {history_length}"
            )
        self.histories = data.histories(history_length) if "history" in self.dtypes else None
        # The last one is the padding, which position -1 finds.
        self.item_ids = np.append(data.items.ids, data.items.padding)
        keys = tf.constant(self.item_ids, self.dtypes["exclude"])
        values = tf.constant([*range(len(data.items)), -1], tf.int32)
        initializer = tf.lookup.KeyValueTensorInitializer(keys, values)
        self.positions = tf.lookup.StaticHashTable(initializer, default_value=-2)

    def lists(self, users, n):
        """The top n of each user, `[len(users), n]`, -1 where a list has ended."""
        found = np.full((len(users), n), -1, np.int32)
        order = np.argsort(np.diff(self.data.known.indptr)[users], kind="stable")
        for start in range(0, len(users), self.batch_size):
            rows = order[start : start + self.batch_size]
            answer = self._ask(users[rows], n)
            found[rows, : answer.shape[1]] = answer
        return found

    def _ask(self, users, n):
        exclude = np.empty((1, 0), int) if self.exclude is None else _padded(self.exclude[users])
        features = {
            "user_ids": self.tf.constant(self.data.users.ids[users], self.dtypes["user_ids"]),
            "exclude": self.tf.constant(self.item_ids[exclude], self.dtypes["exclude"]),
        }
        if self.histories is not None:
            history = self.item_ids[self.histories[users]]
            features["history"] = self.tf.constant(history, self.dtypes["history"])
        answer = self.serve(**features, k=self.tf.constant(n, self.tf.int32))
        if np.isnan(answer["scores"]).any():
            raise ValueError(
                f"`path` must be an export of finite embeddings. {self.folder} has scores of NaN: "
                "export it again, which says what is NaN"
            )
        item_ids = answer["item_ids"]
        positions = self.positions.lookup(item_ids).numpy()
        if (positions == -2).any():
            raise ValueError(
                f"`data` must be the data that {self.folder} was exported with. Received: other "
                f"items, without {item_ids.numpy()[positions == -2][0]!r}"
            )
        return positions

    def _dtypes(self):
        """The inputs of the signature, checked against the ids of the data."""
        inputs = {} if self.serve is None else self.serve.structured_input_signature[1]
        dtypes = {name: spec.dtype for name, spec in inputs.items()}
        if not {"user_ids", "k", "exclude"} <= dtypes.keys():
            raise ValueError(
                f"`path` must be an export of tfrs_croloss.serving.export_model. {self.folder} "
                f"has no signature of its kind. Received: inputs {sorted(dtypes)}"
            )
        for vocabulary, name in ((self.data.users, "user_ids"), (self.data.items, "exclude")):
            own = self.tf.int64 if vocabulary.ids.dtype.kind == "i" else self.tf.string
            if dtypes[name] != own:
                raise ValueError(
                    f"`data` must be the data that {self.folder} was exported with: its `{name}` "
                    f"are {dtypes[name].name}. Received: {own.name} ids"
                )
        return dtypes


def _padded(members):
    """The columns of each row, `[num_rows, longest]`, padded with -1."""
    lengths = np.diff(members.indptr)
    is_there = np.arange(lengths.max(initial=0)) < lengths[:, np.newaxis]
    padded = np.full(is_there.shape, -1)
    padded[is_there] = members.indices
    return padded
