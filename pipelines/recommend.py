"""Asking an exported model, with TensorFlow alone: what a client in production would do."""

import json
from pathlib import Path

import tensorflow as tf
from rich.console import Console
from rich.table import Table


def recommend(path, users, k=10, histories=None, titles=None, seen=None):
    """Prints the top k items of each user, beside what they have seen if told.

    Args:
        path: Folder of the SavedModel.
        users: User ids, as strings.
        k: Items a user.
        histories: JSON file from user id to item ids, for a model with a history tower.
        titles: JSON file from item id to title.
        seen: JSON file from user id to item ids.

    Raises:
        ValueError: If the folder holds no SavedModel, or an id is not of the model's kind.
    """
    titles, seen, histories = map(_read_json, (titles, seen, histories))
    items = ask(path, users, [histories.get(user, []) for user in users] if histories else None)
    console = Console()
    for user, found in zip(users, items, strict=True):
        table = Table(title=f"User {user}", title_justify="left")
        columns = {f"top {k}": found[:k]}
        if user in seen:
            columns["has seen, last first"] = seen[user][::-1][:k]
        for header in columns:
            table.add_column(header, ratio=1)
        for row in range(max(map(len, columns.values()))):
            cells = (ids[row] if row < len(ids) else "" for ids in columns.values())
            table.add_row(*(titles.get(item, item) for item in cells))
        console.print(table)


def ask(path, users, histories=None):
    """The items of each user, best first, as lists of strings.

    Args:
        path: Folder of the SavedModel.
        users: User ids, as strings.
        histories: A list of item ids for each user, for a model with a history tower.
    """
    try:
        model = tf.saved_model.load(str(path))
    except (OSError, tf.errors.NotFoundError) as error:
        raise ValueError(
            f"{path}: no SavedModel that loads here ({error}). Write one with `python -m pipelines "
            "export`; one with ScaNN's op needs ScaNN"
        ) from None
    serve = model.signatures["serving_default"]
    inputs = serve.structured_input_signature[1]
    features = {"user_ids": _ids(users, inputs["user_ids"].dtype, "user")}
    if "history" in inputs:
        dtype = inputs["history"].dtype
        rows = [_ids(items, dtype, "item") for items in histories or [[]] * len(users)]
        padding = tf.constant("" if dtype == tf.string else -1, dtype)
        features["history"] = tf.ragged.stack(rows).to_tensor(padding)
    elif histories:
        raise ValueError("--histories: the model has no history tower")
    found = serve(**features)
    return [
        [_text(item) for item, score in zip(*row, strict=True) if score > -float("inf")]
        for row in zip(found["item_ids"].numpy(), found["scores"].numpy(), strict=True)
    ]


def _read_json(path):
    if path is None:
        return {}
    try:
        return json.loads(Path(path).read_text())
    except ValueError as error:
        raise ValueError(f"{path}: expected a JSON object from ids to values ({error})") from None


def _ids(ids, dtype, kind):
    try:
        return tf.constant([int(i) if dtype == tf.int64 else str(i) for i in ids], dtype)
    except ValueError:
        raise ValueError(f"the {kind} ids of this model are integers. Received: {ids}") from None


def _text(item):
    return item.decode() if isinstance(item, bytes) else str(item)
