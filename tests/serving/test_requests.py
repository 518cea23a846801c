"""Requests that fit no signature: an error each, and a process that outlives them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import tf_keras

from tests.serving.fuzz import SHAPES
from tfrs_croloss.data import Split, encode
from tfrs_croloss.retrieval import (
    HistoryTower,
    InBatchNegatives,
    ItemTower,
    Retrieval,
    RetrievalModel,
    UserTower,
)
from tfrs_croloss.serving import export_model

DIM, LENGTH, NUM_ITEMS = 8, 2, 3
ROOT = Path(__file__).parent.parent.parent
# The shapes that the docstring of `export_model` promises, with None for any size.
INPUTS = {
    "user_ids": [None],
    "history": [None, None],
    "queries": [None, DIM],
    "k": [],
    "exclude": [None, None],
}
SIGNATURES = {
    "id": {
        "serving_default": ["user_ids", "k", "exclude"],
        "by_embedding": ["queries", "k", "exclude"],
    },
    "history": {
        "serving_default": ["user_ids", "history", "k", "exclude"],
        "by_history": ["history", "k", "exclude"],
        "by_embedding": ["queries", "k", "exclude"],
    },
}


def data_of(kind):
    frame = pd.DataFrame({"user": [1, 1, 2, 3], "item": [7, 8, 8, 9]})
    frame = "a" + frame.astype(str) if kind == "string" else frame
    return encode(Split(frame, frame[:0], frame[:0]))


def model_of(query_tower=None, dim=DIM):
    items = ItemTower(NUM_ITEMS, dim)
    query_tower = query_tower or UserTower(3, DIM)
    query_tower = HistoryTower(items) if query_tower == "history" else query_tower
    return RetrievalModel(query_tower, items, NUM_ITEMS, Retrieval(), InBatchNegatives())


def is_served(name, shape, signature):
    """Whether a request of one row may have an input of a shape."""
    spec = INPUTS[name]
    if len(shape) != len(spec) or any(b not in (None, a) for a, b in zip(shape, spec, strict=True)):
        return False
    # Beside the input of the rows: one for all.
    is_first = SIGNATURES["history"].get(signature, [None])[0] == name
    return name == "k" or is_first or shape[0] == 1


@pytest.mark.parametrize(
    ("kind", "tower", "search"),
    [
        ("integer", "id", "exact"),
        ("string", "id", "scann"),
        ("string", "history", "exact"),
        ("integer", "history", "scann"),
    ],
)
def test_a_wrong_shape_is_an_error_and_the_process_lives(kind, tower, search, tmp_path):
    length = LENGTH if tower == "history" else 0
    model = model_of("history") if tower == "history" else model_of()
    options = {"history_length": length, "search": search, "k": 2}
    folder = export_model(model, data_of(kind), tmp_path, **options)
    done = subprocess.run(
        [sys.executable, "-m", "tests.serving.fuzz", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    # What was asked last before it ended.
    assert done.returncode == 0, (answers[-1:], done.stderr[-2000:])
    asked = {(s, x) for s, inputs in SIGNATURES[tower].items() for x in inputs}
    assert {(signature, name) for signature, name, *_ in answers} == asked
    assert len(answers) == 2 * len(asked) * len(SHAPES)
    for signature, name, shape, result in answers:
        if not is_served(name, shape, signature):
            assert result == "InvalidArgumentError", (signature, name, shape)
            continue
        rows = shape[0] if name == SIGNATURES[tower][signature][0] else 1
        # Every other input is 1, or has one row, and so is `k`.
        assert result == {"item_ids": [rows, 1], "scores": [rows, 1]}, (signature, name, shape)


class SpoiltTower(tf_keras.Model):
    """NaN for histories that end in the first item, ones for others."""

    def call(self, query):
        is_first = query["history"][:, -1:] == 0
        return tf.tile(tf.where(is_first, np.nan, 1.0), [1, DIM])


def test_embeddings_of_a_request_that_are_not_finite(tmp_path):
    # The history of no user ends in the first item, 7.
    options = {"history_length": LENGTH}
    folder = export_model(model_of(SpoiltTower()), data_of("integer"), tmp_path, **options)
    model = tf.saved_model.load(str(folder))
    rest = {"k": tf.constant(2), "exclude": tf.constant([[-1]], tf.int64)}
    history = tf.constant([[8, 9], [8, 7]], tf.int64)
    for name, inputs in (
        ("by_history", {"history": history}),
        ("serving_default", {"history": history, "user_ids": tf.constant([1, 2], tf.int64)}),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match="embeddings of `history`"):
            model.signatures[name](**inputs, **rest)
    for bad in (np.nan, np.inf, -np.inf):
        queries = np.ones((2, DIM), np.float32)
        queries[1, 3] = bad
        with pytest.raises(tf.errors.InvalidArgumentError, match="`queries`"):
            model.signatures["by_embedding"](queries=tf.constant(queries), **rest)


def test_rows_that_are_not_those_of_the_request_are_named(tmp_path):
    folder = export_model(model_of("history"), data_of("integer"), tmp_path, history_length=LENGTH)
    serve = tf.saved_model.load(str(folder)).signatures["serving_default"]
    request = {
        "user_ids": tf.constant([1, 2, 3], tf.int64),
        "k": tf.constant(2),
        "history": tf.constant([[7]], tf.int64),
        "exclude": tf.constant([[9]], tf.int64),
    }
    assert serve(**request)["item_ids"].shape == (3, 2)
    for name in ("history", "exclude"):
        for rows in (0, 2, 4):
            wrong = request | {name: tf.zeros([rows, 1], tf.int64)}
            with pytest.raises(tf.errors.InvalidArgumentError, match=f"`{name}` must have one row"):
                serve(**wrong)
