"""Asking an exported model, with TensorFlow alone: what a client in production would do."""

import json
import re
from pathlib import Path

import tensorflow as tf
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tfrs_croloss._saved_models import latest_version, load


def recommend(path, users, k=10, histories=None, titles=None, seen=None):
    """Prints the top k items of each user, beside what they have seen if told.

    Args:
        path: Folder of the SavedModel, or of its versions, of which the latest is asked.
        users: User ids, as strings.
        k: Items a user.
        histories: JSON file from user id to item ids, for a model with a history tower.
        titles: JSON file from item id to title.
        seen: JSON file from user id to item ids.

    Raises:
        ValueError: If the folder holds no SavedModel, or an id is not of the model's kind.
    """
    _check_folder(Path(path))
    if k < 1:
        raise ValueError(f"--k must be positive. Received: {k}")
    titles, seen, histories = (
        _read_json(titles),
        _read_json(seen, list),
        _read_json(histories, list),
    )
    rows = [histories.get(user, []) for user in users] if histories else None
    items, is_known = ask(path, users, k, rows)
    console = Console(markup=False)  # brackets in titles are brackets
    for user, known, found in zip(users, is_known, items, strict=True):
        if not (known or histories.get(user)):
            said = f"User {user} is not in the model: what follows is for the mean of all users."
            console.print(said, highlight=False, soft_wrap=True)
        table = Table(title=Text(f"User {user}"), title_justify="left", box=box.SIMPLE_HEAD)
        columns = {f"top {k}": found}
        if user in seen:
            columns["has seen, last first"] = seen[user][::-1][:k]
        for header in columns:
            table.add_column(header, ratio=1)
        for row in range(max(map(len, columns.values()))):
            cells = (str(ids[row]) if row < len(ids) else "" for ids in columns.values())
            table.add_row(*(str(titles.get(item, item)) for item in cells))
        console.print(table)


def ask(path, users, k, histories=None):
    """The items of each user, best first, as lists of strings, and whether each user is known.

    Args:
        path: Folder of the SavedModel, or of its versions, of which the latest is asked.
        users: User ids, as strings.
        k: Items a user.
        histories: A list of item ids for each user, for a model with a history tower.
    """
    model = load(latest_version(path))
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
    nothing = tf.zeros([1, 0], inputs["exclude"].dtype)
    found = serve(**features, k=tf.constant(k), exclude=nothing)
    items = [
        [_text(item) for item, score in zip(*row, strict=True) if score > -float("inf")]
        for row in zip(found["item_ids"].numpy(), found["scores"].numpy(), strict=True)
    ]
    if not hasattr(model, "is_known"):  # An export of an earlier release can't say.
        return items, [True] * len(users)
    return items, model.is_known(features["user_ids"]).numpy().tolist()


def _check_folder(path):
    """Refuses what is no export and no folder of exports, with what it is instead."""
    if (path / "config.yaml").exists():
        export = path / "export"
        fix = f"Make its export: tfrs-croloss export --run {path}"
        if export.exists():
            fix = f"Ask its export: --model {export}"
        raise ValueError(f"{path}: no SavedModel, but the folder of a run. {fix}")
    if not path.is_dir():
        raise ValueError(
            f"{path}: no SavedModel: there is no such folder. `tfrs-croloss export` writes "
            "one, to runs/<name>/export"
        )


def _read_json(path, kind=object):
    """A dict from ids to values of a kind; an empty one for None."""
    if path is None:
        return {}
    try:
        content = json.loads(Path(path).read_text())
    except ValueError as error:
        raise ValueError(f"{path}: expected JSON ({error})") from None
    if not isinstance(content, dict) or not all(isinstance(v, kind) for v in content.values()):
        what = "lists" if kind is list else "values"
        raise ValueError(f"{path}: expected a JSON object from ids to {what}")
    return content


def _ids(ids, dtype, kind):
    ids = [str(i) for i in ids]
    if dtype == tf.string:
        return tf.constant(ids, dtype)
    # "007" is no integer here, as it is none in the data.
    if wrong := [i for i in ids if not re.fullmatch("0|-?[1-9][0-9]{0,18}", i)]:
        raise ValueError(f"the {kind} ids of this model are integers. Received: {wrong}")
    return tf.constant([int(i) for i in ids], dtype)


def _text(item):
    return item.decode() if isinstance(item, bytes) else str(item)
