"""Exporting a trained `RetrievalModel` as a SavedModel."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tfrs_croloss._arguments import check_choice, check_count
from tfrs_croloss._files import replaced_folder
from tfrs_croloss._saved_models import versions
from tfrs_croloss._typing import Array, Features, SparseMatrix, StrPath
from tfrs_croloss.index.membership import as_membership
from tfrs_croloss.index.validation import as_embeddings
from tfrs_croloss.losses.checks import check_shape
from tfrs_croloss.retrieval.model import RetrievalModel
from tfrs_croloss.retrieval.requirements import tf
from tfrs_croloss.serving.graph import ServingGraph
from tfrs_croloss.serving.search import ExactSearch, ScaNNSearch
from tfrs_croloss.serving.warm_up import write_warm_up

if TYPE_CHECKING:
    from tfrs_croloss.data import RetrievalData


SEARCHES = ("exact", "scann")


def export_model(
    model: RetrievalModel,
    data: "RetrievalData",
    path: StrPath,
    k: int = 100,
    history_length: int = 0,
    seen: SparseMatrix | None = None,
    search: str = "exact",
    query: Array | Features | None = None,
    version: int | None = None,
    target_recall: float = 0.99,
    mask_history: bool = True,
) -> Path:
    """Writes a SavedModel that answers with the top items, as TensorFlow Serving wants it.

    The model is `<path>/<version>`, written whole or not at all: a server that polls `path` loads
    it as it appears and drops the older ones. Its signatures:

    - `serving_default`: `user_ids` `[batch]`, as strings or int64 as in the data. For a tower on
      histories also `history` `[batch, any]` or `[1, any]`, item ids oldest first, padded with ""
      or -1.
    - `by_history`: `history` alone, of a tower on histories.
    - `by_embedding`: `queries` `[batch, dim]`, embeddings of the query tower.

    Each takes `k` `[]`, int32, how many items to return, and `exclude` `[batch, any]` or
    `[1, any]`, item ids never to return, padded likewise. Over gRPC TensorFlow Serving fills them
    in where a request leaves them out, and the `history` of users (an empty one); over REST and in
    Python all are given. Each returns
    `item_ids` and `scores` `[batch, min(k, num_items)]`, best first.

    - A known user gets the embedding computed now, and nothing that they have `seen`. One whose
      `history` row holds a known item gets the tower's answer to that history instead, of which
      the last `history_length` items count; none of the items sent comes back, unless
      `mask_history` is False.
    - An unknown user, and a history without a known item, gets the answer to the mean of all
      users' embeddings: what is liked by most.
    - Where fewer than k items are left, the tail has the id "" or -1 and the score -inf.
    - Inputs of other shapes, a negative `k`, and embeddings that are NaN or infinite are an error
      (INVALID_ARGUMENT).

    With `search="exact"` the graph holds TensorFlow's own ops alone and runs in an unmodified
    TensorFlow Serving. `assets.extra` has warm-up requests for each signature, and `index.json`:
    what the search is, and for ScaNN the recall that was measured on the users' queries.

    Args:
        model: A trained `RetrievalModel`.
        data: The `RetrievalData` it was trained on.
        path: Folder of the model's versions.
        k: Items to return where a request does not say.
        history_length: Items of a history that the query tower takes; 0 for a tower on users.
        seen: `scipy.sparse` matrix `[num_users, num_items]` of the items never to return to their
            user; by default `data.known`, the training items and those of histories.
        search: `"exact"`, or `"scann"`, whose op must be loaded (`import scann`) with the model.
        query: Features of all users as a query tower of your own takes them: an array or a dict of
            arrays, with a row a user. By default `data.queries(history_length)`.
        version: A positive integer; one more than the largest there by default. A version that is
            there is replaced, which a server that has loaded it does not notice.
        target_recall: The share of a query's k best that ScaNN is to find.
        mask_history: Whether the items of a history that a request sends are left out of its
            answer.

    Returns:
        The folder of the SavedModel.

    Raises:
        ValueError: If `k` or `version` is not positive, `search` unknown, the model not of this
            data, `seen` or `query` of another shape than its users and items, `query` not what
            the query tower takes, a `history_length` given to a tower that makes nothing of
            histories, an embedding of an item or a user NaN or infinite, or the folder
            holds something else than a SavedModel.
        TypeError: If `seen` is not sparse, or `query` holds lists or other things than arrays.
        OSError: If the disk is full.
        ImportError: If ScaNN is asked for and missing.

    Example:
    >>> import tempfile, pandas as pd, tensorflow as tf
    >>> from tfrs_croloss.data import Split, encode
    >>> from tfrs_croloss.retrieval import (
    ...     InBatchNegatives,
    ...     ItemTower,
    ...     Retrieval,
    ...     RetrievalModel,
    ...     UserTower,
    ... )
    >>> from tfrs_croloss.serving import export_model
    >>> train = pd.DataFrame({"user": ["ann", "bob"], "item": ["x", "y"]})
    >>> data = encode(Split(train, train[:0], train[:0]))
    >>> towers = UserTower(num_users=2, dim=8), ItemTower(num_items=2, dim=8)
    >>> model = RetrievalModel(*towers, 2, Retrieval(), InBatchNegatives())
    >>> path = export_model(model, data, tempfile.mkdtemp())
    >>> path.name
    '1'
    >>> serve = tf.saved_model.load(path).signatures["serving_default"]
    >>> found = serve(user_ids=tf.constant(["ann", "bob"]), k=tf.constant(1), exclude=[[""]])
    >>> found["item_ids"].numpy().tolist()
    [[b'y'], [b'x']]
    """
    k = check_count("k", k)
    check_choice("search", search, SEARCHES)
    if model.num_items != len(data.items):
        raise ValueError(f"`model` has {model.num_items} items, `data` has {len(data.items)}")
    folder = None if version is None else Path(path) / str(check_count("version", version))
    is_foreign = folder is not None and not (folder / "saved_model.pb").exists()
    if is_foreign and folder.exists() and any(folder.iterdir()):  # type: ignore[union-attr]
        raise ValueError(f"{folder} holds something else than a SavedModel: choose another folder")
    seen = data.known if seen is None else seen
    seen = as_membership("seen", seen, (len(data.users), len(data.items)))
    candidates, queries = _embeddings(model, data, history_length, query)
    if history_length and not _takes_histories(model.query_tower, history_length):
        raise ValueError(
            "`history_length` must be 0 where the query tower makes nothing of histories. "
            f"Received: {history_length} and a {type(model.query_tower).__name__}"
        )
    if search == "exact":
        index = ExactSearch(candidates)
    else:
        index = ScaNNSearch(candidates, target_recall=target_recall, sample_queries=queries, k=k)
    graph = ServingGraph(model, data, index, queries, history_length, seen, mask_history)
    signatures = graph.signatures(min(k, len(data.items)))
    options = tf.saved_model.SaveOptions(
        namespace_whitelist=["Scann"] if search == "scann" else None
    )
    # Late, so that another export that runs meanwhile is most likely seen.
    folder = folder or Path(path) / str(max(versions(path), default=0) + 1)
    with replaced_folder(folder) as temporary:
        try:
            tf.saved_model.save(graph, str(temporary), signatures=signatures, options=options)
            write_warm_up(temporary, Path(path).name, signatures)
            description = json.dumps(index.describe(), indent=2)
            (temporary / "assets.extra" / "index.json").write_text(description + "\n")
        except tf.errors.OpError as error:
            raise OSError(f"could not write to {folder}: {error.message}") from error
    return folder


def _embeddings(model, data, history_length, query):
    """Those of all items and of all users; one NaN would spoil the lists of others, too."""
    if query is None:
        query = data.queries(history_length)
    _check_query(query, len(data.users))
    candidates = as_embeddings("model.candidate_embeddings()", model.candidate_embeddings())
    queries = as_embeddings(
        "model.query_embeddings(query)", _embedded(model, query), dim=candidates.shape[1]
    )
    for name, found, wanted in (
        ("model.candidate_embeddings()", candidates, len(data.items)),
        ("model.query_embeddings(query)", queries, len(data.users)),
    ):
        check_shape(name, found, (wanted, candidates.shape[1]))
    return candidates, queries


def _embedded(model, query):
    """The tower's embeddings, or what it says of features that it can't embed."""
    try:
        return model.query_embeddings(query)
    except (
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
        tf.errors.InvalidArgumentError,
    ) as e:
        came = type(query).__name__
        if isinstance(query, Mapping):
            came = "a dict of " + ", ".join(f"`{name}`" for name in query)
        raise ValueError(
            f"`query` could not be embedded by {type(model.query_tower).__name__}: "
            f"{type(e).__name__}: {e}. Expected the features that it takes, an array or a dict of "
            f"arrays. Received: {came}"
        ) from e


def _takes_histories(tower, length):
    """Whether anything in the tower's graph takes the histories."""
    features = {
        "user": tf.TensorSpec([None], tf.int32, name="user"),
        "history": tf.TensorSpec([None, length], tf.int32, name="history"),
    }
    graph = tf.function(tower).get_concrete_function(features).graph
    return bool(graph.get_operation_by_name("history").outputs[0].consumers())


def _check_query(query, num_users):
    """Raises a ValueError unless all features have a row a user."""
    named = {"query": query}
    if isinstance(query, Mapping):
        named = {f"query[{name!r}]": features for name, features in query.items()}
        if not named:
            raise ValueError("`query` must have features. Received: an empty dict")
    for name, features in named.items():
        for feature in tf.nest.flatten(features):
            if not hasattr(feature, "shape"):
                raise TypeError(
                    f"`{name}` must be an array with a row for each of the {num_users} users, "
                    f"e.g. `numpy.asarray(…)`. Received: {type(features).__name__}"
                )
            shape = tuple(feature.shape)
            if shape[:1] != (num_users,):
                raise ValueError(
                    f"`{name}` must be an array with a row for each of the {num_users} users, "
                    f"shape {(num_users, *shape[1:])}. Received: shape {shape}"
                )
