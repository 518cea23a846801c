"""Exports, loaded in fresh processes that import TensorFlow and nothing of this project."""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import tf_keras

from tfrs_croloss import CROLoss
from tfrs_croloss.data import Split, encode
from tfrs_croloss.index import ExactIndex
from tfrs_croloss.retrieval import (
    HistoryTower,
    InBatchNegatives,
    ItemTower,
    Retrieval,
    RetrievalModel,
    UserTower,
)
from tfrs_croloss.serving import export_model

NUM_USERS, NUM_ITEMS, DIM, K, LENGTH = 30, 1500, 16, 10, 6

CLIENT = """
import json, sys
import tensorflow as tf
{imports}
from tensorflow.core.protobuf import saved_model_pb2
model = tf.saved_model.load(sys.argv[1])
content = open(sys.argv[1] + "/saved_model.pb", "rb").read()
(graph,) = saved_model_pb2.SavedModel.FromString(content).meta_graphs
def as_bytes(x):
    if isinstance(x, list):
        return [as_bytes(y) for y in x]
    return x.encode("utf-8", "surrogateescape") if isinstance(x, str) else x
for line in sys.stdin:
    request = json.loads(line)
    name = request.pop("signature", "serving_default")
    serve = model.signatures[name]
    # As TensorFlow Serving does, which needs no value where the signature has one.
    defaults = graph.signature_def[name].defaults
    inputs = {{k: tf.constant(tf.make_ndarray(v)) for k, v in defaults.items()}}
    specs = serve.structured_input_signature[1]
    try:
        inputs |= {{k: tf.constant(as_bytes(v), specs[k].dtype) for k, v in request.items()}}
        found = serve(**inputs)
    except tf.errors.InvalidArgumentError as error:
        print(json.dumps({{"error": error.message}}))
        continue
    ids = found["item_ids"].numpy()
    ids = ids.astype(str) if ids.dtype == object else ids
    print(json.dumps({{"item_ids": ids.tolist(), "scores": found["scores"].numpy().tolist()}}))
forbidden = {{"tfrs_croloss", "tensorflow_recommenders", "tf_keras"}}
assert not forbidden & sys.modules.keys(), forbidden & sys.modules.keys()
"""


def ask(path, *requests, imports=""):
    """What a process with TensorFlow alone gets for each request, as arrays."""
    done = subprocess.run(
        [sys.executable, "-c", CLIENT.format(imports=imports), str(path / "1")],
        input="\n".join(map(json.dumps, requests)),
        env={**os.environ, "PYTHONPATH": "", "TF_USE_LEGACY_KERAS": ""},
        cwd=path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.strip().splitlines()]
    return [{name: np.array(value) for name, value in answer.items()} for answer in answers]


@pytest.fixture(params=["integer", "string"])
def data(request):
    rng = np.random.default_rng(0)
    users, items = rng.integers(0, NUM_USERS, 4000), rng.integers(0, NUM_ITEMS, 4000)
    frame = pd.DataFrame({"user": users + 100, "item": items + 5000}).drop_duplicates()
    frame = frame.astype(str)
    if request.param == "string":
        frame["user"] = "ü," + frame["user"]
        frame["item"] = "i " + frame["item"]
    return encode(Split(frame, frame[:0], frame[:0]))


def model_of(data, tower):
    items = ItemTower(len(data.items), DIM)
    query = UserTower(len(data.users), DIM) if tower == "id" else HistoryTower(items)
    task = Retrieval(loss=CROLoss())
    return RetrievalModel(query, items, len(data.items), task, InBatchNegatives())


def exact(data, model, queries, seen):
    found = ExactIndex(model.candidate_embeddings()).search(queries, K, seen)
    return data.items.decode(found.positions), found.scores


def test_id_tower_answers_as_the_exact_index(data, tmp_path):
    model = model_of(data, "id")
    export_model(model, data, tmp_path / "model", k=K)
    rows = np.arange(len(data.users))
    unknown = "nobody" if data.users.ids.dtype == object else 7
    known, other = ask(
        tmp_path / "model",
        {"user_ids": data.users.ids.tolist()},
        {"user_ids": [unknown, data.users.ids[3].item() if unknown == 7 else data.users.ids[3]]},
    )
    queries = model.query_embeddings({"user": rows})
    ids, scores = exact(data, model, queries, data.train)
    np.testing.assert_array_equal(known["item_ids"], ids)
    np.testing.assert_allclose(known["scores"], scores, rtol=1e-5)
    # An unknown user gets the answer to the mean of all users; nothing is seen.
    ids, _ = exact(data, model, queries.mean(axis=0, keepdims=True), None)
    np.testing.assert_array_equal(other["item_ids"][0], ids[0])
    np.testing.assert_array_equal(other["item_ids"][1], known["item_ids"][3])


def test_history_tower_takes_a_history_or_what_it_knows(data, tmp_path):
    model = model_of(data, "history")
    export_model(model, data, tmp_path / "model", k=K, history_length=LENGTH)
    is_string = data.items.ids.dtype == object
    padding, unknown = ("", "new item") if is_string else (-1, 7)
    user = data.users.ids.tolist()[4]
    positions = [11, 500, 77, 3, 9, 12, 40, 41]
    history = data.items.decode(positions).tolist()
    rows = [
        [padding] * 9,  # nothing: what the model knows of the user
        [*history, unknown],  # the last 6 known items count, the unknown one does not
        [unknown, padding, *[padding] * 7],
    ]
    answer, left_out, one_for_all = ask(
        tmp_path / "model",
        {"user_ids": [user] * 3, "history": rows},
        {"user_ids": [user] * 2},
        {"user_ids": [user] * 2, "history": [history]},
    )
    for row in range(2):
        np.testing.assert_array_equal(left_out["item_ids"][row], answer["item_ids"][0])
        np.testing.assert_array_equal(one_for_all["item_ids"][row], answer["item_ids"][1])
    known = model.query_embeddings({"history": data.histories(LENGTH)[[4]]})
    live = model.query_embeddings({"history": np.array([positions[-LENGTH:]])})
    seen = data.train[[4]].tolil()
    ids, scores = exact(data, model, known, seen.tocsr())
    for row in (0, 2):
        np.testing.assert_array_equal(answer["item_ids"][row], ids[0])
        np.testing.assert_allclose(answer["scores"][row], scores[0], rtol=1e-4)
    seen[0, positions] = 1
    ids, scores = exact(data, model, live, seen.tocsr())
    np.testing.assert_array_equal(answer["item_ids"][1], ids[0])
    np.testing.assert_allclose(answer["scores"][1], scores[0], rtol=1e-4)
    # Items sent do not come back, those before the last 6 neither: send what was just answered.
    sent = [*answer["item_ids"][1].tolist(), *history]
    (again,) = ask(tmp_path / "model", {"user_ids": [user], "history": [sent]})
    assert not set(sent) & set(again["item_ids"][0].tolist())


@pytest.mark.parametrize("in_a_dict", [True, False])
def test_query_features_of_the_users_own(tmp_path, in_a_dict):
    """A query tower on a feature, and an item that no one has had."""
    frame = pd.DataFrame({"user": ["1", "2", "3"], "item": ["7", "8", "9"]})
    data = encode(Split(frame, frame[:0], frame[:0]), more_items=["10"])
    country = np.array([0, 1, 1])
    query = {"country": country} if in_a_dict else country

    class CountryTower(tf_keras.Model):
        def __init__(self):
            super().__init__()
            self.embedding = tf_keras.layers.Embedding(2, DIM)

        def call(self, query):
            return self.embedding(query["country"] if in_a_dict else query)

    model = RetrievalModel(
        CountryTower(),
        ItemTower(4, DIM),
        4,
        Retrieval(loss=CROLoss()),
        InBatchNegatives(),
    )
    export_model(model, data, tmp_path / "model", k=3, query=query)
    (answer,) = ask(tmp_path / "model", {"user_ids": [1, 2, 3]})
    # By hand: the export asks the model for its queries.
    queries = model.query_tower.embedding.get_weights()[0][country]
    ids, _ = exact(data, model, queries, data.train)
    np.testing.assert_array_equal(answer["item_ids"], ids[:, :3])
    assert (answer["item_ids"] == 10).any()


def test_k_and_exclusions_are_inputs(data, tmp_path):
    model = model_of(data, "id")
    export_model(model, data, tmp_path / "model", k=K)
    users = data.users.ids.tolist()[:3]
    padding = data.items.padding
    queries = model.query_embeddings({"user": np.arange(3)})
    everything, _ = exact(data, model, queries, data.train[:3])
    for_all = everything[0, :2].tolist()
    own = [[padding, *row] for row in everything[:, [4, 0]].tolist()]
    unknown = "no such item" if isinstance(padding, str) else -77
    few, all_items, none, without, without_own, without_unknown = ask(
        tmp_path / "model",
        {"user_ids": users, "k": 3},
        {"user_ids": users, "k": 10**9},
        {"user_ids": users, "k": 0},
        {"user_ids": users, "exclude": [for_all]},
        {"user_ids": users, "exclude": own},
        {"user_ids": users, "exclude": [[unknown, padding]]},
    )
    np.testing.assert_array_equal(few["item_ids"], everything[:, :3])
    assert all_items["item_ids"].shape == (3, len(data.items))
    assert none["item_ids"].shape == none["scores"].shape == (3, 0)
    np.testing.assert_array_equal(without_unknown["item_ids"], everything)
    seen = data.train[:3].toarray()
    for answer, rows in ((without, [for_all] * 3), (without_own, [row[1:] for row in own])):
        excluded = seen.copy()
        for row, items in zip(excluded, rows, strict=True):
            row[data.items.encode(np.array(items))] = 1
        ids, scores = exact(data, model, queries, scipy.sparse.csr_array(excluded))
        np.testing.assert_array_equal(answer["item_ids"], ids)
        np.testing.assert_allclose(answer["scores"], scores, rtol=1e-5)


def test_embeddings_and_histories_of_no_known_user(data, tmp_path):
    model = model_of(data, "history")
    export_model(model, data, tmp_path / "model", k=K, history_length=LENGTH)
    positions = np.array([[11, 500, 77], [3, 9, 12]])
    queries = model.query_embeddings({"history": positions})
    by_history, by_embedding, empty = ask(
        tmp_path / "model",
        {"signature": "by_history", "history": data.items.decode(positions).tolist()},
        {"signature": "by_embedding", "queries": queries.tolist()},
        {"signature": "by_history", "history": [[data.items.padding]]},
    )
    seen = scipy.sparse.lil_array((2, len(data.items)))
    for row, items in enumerate(positions):
        seen[row, items] = 1
    ids, scores = exact(data, model, queries, seen.tocsr())
    np.testing.assert_array_equal(by_history["item_ids"], ids)
    np.testing.assert_allclose(by_history["scores"], scores, rtol=1e-4)
    ids, _ = exact(data, model, queries, None)
    np.testing.assert_array_equal(by_embedding["item_ids"], ids)
    everyone = model.query_embeddings({"history": data.histories(LENGTH)})
    ids, _ = exact(data, model, everyone.mean(axis=0, keepdims=True), None)
    np.testing.assert_array_equal(empty["item_ids"], ids)


@pytest.mark.parametrize("kind", ["class", "functional"])
def test_histories_for_a_tower_that_makes_nothing_of_them(data, tmp_path, kind):
    """Each history would get the same answer."""
    model = model_of(data, "id")
    if kind == "functional":
        user = tf_keras.Input((), dtype="int32", name="user")
        history = tf_keras.Input((LENGTH,), dtype="int32", name="history")
        inputs = {"user": user, "history": history}
        model.query_tower = tf_keras.Model(inputs, model.query_tower({"user": user}))
    with pytest.raises(ValueError, match="`history_length` must be 0 where .*Received: 6 and a "):
        export_model(model, data, tmp_path / "model", history_length=LENGTH)
    assert not (tmp_path / "model").exists()


def test_a_history_that_may_come_back(data, tmp_path):
    model = model_of(data, "history")
    nothing = scipy.sparse.csr_array(data.train.shape)
    options = {"history_length": LENGTH, "seen": nothing, "mask_history": False}
    export_model(model, data, tmp_path / "model", k=K, **options)
    positions = np.array([[11, 500, 77], [3, 9, 12]])
    history, users = data.items.decode(positions).tolist(), data.users.ids[:2].tolist()
    own = [row[0] for row in history]
    answers = ask(
        tmp_path / "model",
        {"signature": "by_history", "history": history},
        {"user_ids": users, "history": history},
        {"user_ids": users, "history": history, "exclude": [[item] for item in own]},
    )
    queries = model.query_embeddings({"history": positions})
    first = scipy.sparse.csr_array(np.eye(len(data.items))[positions[:, 0]])
    for answer, excluded in zip(answers, (nothing[:2], nothing[:2], first), strict=True):
        ids, scores = exact(data, model, queries, excluded)
        np.testing.assert_array_equal(answer["item_ids"], ids)
        np.testing.assert_allclose(answer["scores"], scores, rtol=1e-4)


@pytest.mark.parametrize("search", ["exact", "scann"])
def test_what_makes_no_sense_has_an_answer_or_an_error(data, tmp_path, search):
    """All in one process, which lives on."""
    model = model_of(data, "id")
    export_model(model, data, tmp_path / "model", k=np.int64(K), search=search)
    user = data.users.ids.tolist()[0]
    odd = ["", "x" * 10**6, "\udc80"] if isinstance(user, str) else [-1, 2**62, -(2**62)]
    query = [[float("nan")] * DIM]
    *errors, empty, unknown, all_items, last = ask(
        tmp_path / "model",
        {"user_ids": [user], "k": -1},
        {"signature": "by_embedding", "queries": query},
        {"user_ids": [user] * 3, "exclude": [[data.items.padding]] * 2},
        {"user_ids": []},
        {"user_ids": odd},
        {"user_ids": [user], "k": 2**31 - 1},
        {"user_ids": [user]},
        imports="import scann" if search == "scann" else "",
    )
    for error, message in zip(
        errors, ("`k` must be >= 0", "`queries`", "`exclude` must have one row"), strict=True
    ):
        assert message in str(error["error"])
    assert len(empty["item_ids"]) == 0
    mean = model.query_embeddings({"user": np.arange(len(data.users))}).mean(axis=0, keepdims=True)
    ids, _ = exact(data, model, mean, None)
    found = unknown["item_ids"]
    np.testing.assert_array_equal(found, np.tile(found[:1], [3, 1]))
    if search == "exact":
        np.testing.assert_array_equal(found[:1], ids)
    # ScaNN may miss one that the exact search finds.
    assert found.shape == (3, K)
    assert np.isin(found[0], ids).sum() >= K - 1
    assert all_items["item_ids"].shape == (1, len(data.items))
    assert last["item_ids"].shape == (1, K)


@pytest.mark.parametrize("tower", ["id", "history"])
def test_warm_up_requests_fit_the_signatures(data, tmp_path, tower):
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    length = LENGTH if tower == "history" else 0
    folder = export_model(
        model_of(data, tower), data, tmp_path / "movies", k=K, history_length=length
    )
    model = tf.saved_model.load(str(folder))
    path = folder / "assets.extra" / "tf_serving_warmup_requests"
    served = set()
    for record in tf.data.TFRecordDataset(str(path)):
        log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
        request = log.predict_log.request
        assert request.model_spec.name == "movies"
        name = request.model_spec.signature_name
        inputs = {k: tf.constant(tf.make_ndarray(v)) for k, v in request.inputs.items()}
        found = model.signatures[name](k=tf.constant(2), **inputs)
        served.add((name, found["item_ids"].shape[0]))
    names = ["serving_default", "by_embedding", "by_history"][: 3 if length else 2]
    assert served == {(name, batch) for name in names for batch in (1, 32)}


def test_scann_on_request(data, tmp_path):
    model = model_of(data, "id")
    export_model(model, data, tmp_path / "model", k=K, search="scann")
    (answer,) = ask(
        tmp_path / "model", {"user_ids": data.users.ids.tolist()}, imports="import scann"
    )
    queries = model.query_embeddings({"user": np.arange(len(data.users))})
    ids, _ = exact(data, model, queries, data.train)
    found = [len(set(a) & set(b)) / K for a, b in zip(answer["item_ids"], ids, strict=True)]
    assert np.mean(found) > 0.99
    seen = data.train.toarray().astype(bool)
    positions = data.items.encode(answer["item_ids"].ravel()).reshape(answer["item_ids"].shape)
    assert (positions >= 0).all()
    assert not np.take_along_axis(seen, positions, axis=1).any()


def test_fewer_than_k_unseen(tmp_path):
    frame = pd.DataFrame({"user": ["1", "1", "2"], "item": ["7", "8", "9"]})
    data = encode(Split(frame, frame[:0], frame[:0]))
    export_model(model_of(data, "id"), data, tmp_path / "model", k=K)
    (answer,) = ask(tmp_path / "model", {"user_ids": [1, 2]})
    # k, K here, is at most the number of items.
    assert answer["item_ids"].tolist()[0] == [9, -1, -1]
    assert sorted(answer["item_ids"].tolist()[1]) == [-1, 7, 8]
    assert (np.isinf(answer["scores"]) == (answer["item_ids"] == -1)).all()


def test_saved_model_cli_runs_it(data, tmp_path):
    model = model_of(data, "id")
    folder = export_model(model, data, tmp_path / "model", k=K)
    inputs = {"user_ids": data.users.ids[:2].tolist(), "exclude": [[data.items.padding]], "k": 3}
    expressions = ";".join(f"{name}={value!r}" for name, value in inputs.items())
    done = subprocess.run(
        [
            *(f"{sys.prefix}/bin/saved_model_cli", "run", "--dir", str(folder)),
            *("--tag_set", "serve", "--signature_def", "serving_default"),
            *("--input_exprs", expressions),
            *("--outdir", str(tmp_path)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    queries = model.query_embeddings({"user": np.arange(2)})
    ids, scores = exact(data, model, queries, data.train[:2])
    found = np.load(tmp_path / "item_ids.npy", allow_pickle=True)
    assert [[x.decode() if isinstance(x, bytes) else x for x in row] for row in found] == (
        ids[:, :3].tolist()
    )
    np.testing.assert_allclose(np.load(tmp_path / "scores.npy"), scores[:, :3], rtol=1e-5)


def test_scann_without_its_op_says_which_is_missing(tmp_path):
    frame = pd.DataFrame({"user": ["1", "1", "2"], "item": ["7", "8", "9"]})
    data = encode(Split(frame, frame[:0], frame[:0]))
    folder = export_model(model_of(data, "id"), data, tmp_path / "model", search="scann")
    script = "import sys, tensorflow as tf; tf.saved_model.load(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)], capture_output=True, text=True, check=False
    )
    # TensorFlow's own words, which docs/serving.md explains.
    assert done.returncode == 1
    assert "Op type not registered 'Scann>" in done.stderr
    described = json.loads((folder / "assets.extra" / "index.json").read_text())
    assert described["needs"] == "import scann"


def test_what_was_chosen_for_the_search_is_written_beside_it(data, tmp_path):
    model = model_of(data, "id")
    folder = export_model(model, data, tmp_path / "model", k=K, search="scann", target_recall=0.9)
    described = json.loads((folder / "assets.extra" / "index.json").read_text())
    assert described["search"] == "scann"
    assert described["num_candidates"] == len(data.items)
    assert described["target_recall"] == 0.9
    # Of the half of the 30 users that nothing was chosen on: a share of 150, to four deviations.
    assert 0.8 <= described[f"measured_recall@{K}"] <= 1
    folder = export_model(model, data, tmp_path / "model", k=K)
    described = json.loads((folder / "assets.extra" / "index.json").read_text())
    assert described == {"search": "exact", "num_candidates": len(data.items)}


def test_two_versions_with_scann_in_one_process(data, tmp_path):
    """As when a server takes over the second: ScaNN's op holds its searcher by a name."""
    models = [model_of(data, "id") for _ in range(2)]
    for model in models:
        export_model(model, data, tmp_path / "model", k=K, search="scann")
    script = """
import json, sys, scann
import tensorflow as tf
answers = []
loaded = [tf.saved_model.load(f"{sys.argv[1]}/{version}") for version in (1, 2)]
users, nothing = json.loads(sys.argv[2])
for model in (loaded[0], loaded[1], loaded[0]):
    serve = model.signatures["serving_default"]
    specs = serve.structured_input_signature[1]
    found = serve(
        user_ids=tf.constant(users, specs["user_ids"].dtype),
        k=tf.constant(10),
        exclude=tf.constant([[nothing]], specs["exclude"].dtype),
    )
    ids = found["item_ids"].numpy()
    answers.append((ids.astype(str) if ids.dtype == object else ids).tolist())
print(json.dumps(answers))
"""
    users = data.users.ids.tolist()
    done = subprocess.run(
        [
            *(sys.executable, "-c", script, str(tmp_path / "model")),
            json.dumps([users, data.items.padding]),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers = [np.array(answer) for answer in json.loads(done.stdout.strip().splitlines()[-1])]
    for answer, model in zip(answers, [*models, models[0]], strict=True):
        queries = model.query_embeddings({"user": np.arange(len(data.users))})
        ids, _ = exact(data, model, queries, data.train)
        found = [len(set(a) & set(b)) / K for a, b in zip(answer, ids, strict=True)]
        assert np.mean(found) > 0.99


def test_only_ops_of_tensorflow_itself(tmp_path):
    from tensorflow.core.protobuf import saved_model_pb2
    from tensorflow.python.framework import op_def_registry

    frame = pd.DataFrame({"user": ["1", "1", "2"], "item": ["7", "8", "9"]})
    data = encode(Split(frame, frame[:0], frame[:0]))
    export_model(model_of(data, "history"), data, tmp_path / "model", history_length=2)
    saved = saved_model_pb2.SavedModel.FromString(
        (tmp_path / "model" / "1" / "saved_model.pb").read_bytes()
    )
    graph = saved.meta_graphs[0].graph_def
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    functions = {f.signature.name for f in graph.library.function}
    ops = {node.op for node in nodes} - functions
    assert "TopKV2" in ops
    assert all(op_def_registry.get(op) is not None for op in ops)
    assert not [op for op in ops if op.startswith("Scann")]


def test_written_whole_or_not_at_all(tmp_path, monkeypatch):
    import tensorflow as tf

    frame = pd.DataFrame({"user": ["1", "2"], "item": ["7", "8"]})
    data = encode(Split(frame, frame[:0], frame[:0]))
    model = model_of(data, "id")
    export_model(model, data, tmp_path / "model", k=1)
    before = (tmp_path / "model" / "1" / "saved_model.pb").read_bytes()
    save = tf.saved_model.save

    def disk_full(module, folder, **kwargs):
        save(module, folder, **kwargs)
        raise OSError("No space left on device")

    monkeypatch.setattr(tf.saved_model, "save", disk_full)
    for version in (1, None):
        with pytest.raises(OSError, match="No space left"):
            export_model(model, data, tmp_path / "model", k=2, version=version)
        assert (tmp_path / "model" / "1" / "saved_model.pb").read_bytes() == before
        assert os.listdir(tmp_path / "model") == ["1"]
    monkeypatch.setattr(tf.saved_model, "save", save)
    for version, expected in ((1, "1"), (None, "2"), (10, "10"), (None, "11")):
        folder = export_model(model, data, tmp_path / "model", k=2, version=version)
        assert folder == tmp_path / "model" / expected
    assert sorted(os.listdir(tmp_path / "model")) == ["1", "10", "11", "2"]
    assert (tmp_path / "model" / "1" / "saved_model.pb").read_bytes() != before


def test_wrong_arguments_are_named(tmp_path):
    frame = pd.DataFrame({"user": ["1", "2"], "item": ["7", "8"]})
    data = encode(Split(frame, frame[:0], frame[:0]))
    more = encode(Split(frame, frame[:0], frame[:0]), more_items=["9"])
    with pytest.raises(ValueError, match="`model` has 2 items, `data` has 3"):
        export_model(model_of(data, "id"), more, tmp_path / "model")
    (tmp_path / "mine" / "7").mkdir(parents=True)
    (tmp_path / "mine" / "7" / "thesis.txt").write_text("precious")
    with pytest.raises(ValueError, match="7 holds something else than a SavedModel"):
        export_model(model_of(data, "id"), data, tmp_path / "mine", version=7)
    assert (tmp_path / "mine" / "7" / "thesis.txt").read_text() == "precious"
    with pytest.raises(ValueError, match="`version` must be a positive integer. Received: 0"):
        export_model(model_of(data, "id"), data, tmp_path / "mine", version=0)
    with pytest.raises(ValueError, match="`k` must be a positive integer. Received: 0"):
        export_model(None, None, tmp_path, k=0)
    with pytest.raises(ValueError, match="`search` must be one of exact, scann. Received: 'fast'"):
        export_model(None, None, tmp_path, search="fast")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("search", ["exact", "scann"])
@pytest.mark.parametrize("side", ["candidate", "query"])
def test_embeddings_that_are_not_finite_are_refused(tmp_path, bad, search, side):
    frame = pd.DataFrame({"user": range(7), "item": range(7)})
    data = encode(Split(frame, frame[:0], frame[:0]))
    model = model_of(data, "id")
    model.query_embeddings(data.queries()), model.candidate_embeddings()  # makes the tables
    table = getattr(model, f"{side}_tower").embedding
    weights = table.get_weights()[0]
    weights[1:, 2] = bad
    table.set_weights([weights])
    # The first few of them.
    message = rf"{side}_embeddings\(.*\)` must be finite .* in 6 of 7 rows: 1, 2, 3, 4, 5, …"
    with pytest.raises(ValueError, match=message):
        export_model(model, data, tmp_path / "model", search=search)
    assert not (tmp_path / "model").exists()


def test_features_of_the_users_own_that_give_nan(tmp_path):
    frame = pd.DataFrame({"user": [1, 2, 3], "item": [7, 8, 9]})
    data = encode(Split(frame, frame[:0], frame[:0]))
    tower = tf_keras.Sequential([tf_keras.layers.Dense(DIM)])
    items = ItemTower(3, DIM)
    model = RetrievalModel(tower, items, 3, Retrieval(), InBatchNegatives())
    ages = np.array([[30.0], [np.nan], [50.0]], np.float32)
    with pytest.raises(ValueError, match=r"query_embeddings\(query\)` .* in 1 of 3 rows: 1$"):
        export_model(model, data, tmp_path / "model", query=ages)


def test_seen_of_another_shape_is_refused(tmp_path):
    frame = pd.DataFrame({"user": [1, 1, 2], "item": [7, 8, 9]})
    data = encode(Split(frame, frame[:0], frame[:0]))
    model = model_of(data, "id")
    for shape in ((3, 2), (1, 3), (3, 3), (2, 2), (2, 4)):
        message = rf"`seen` must .* shape \(2, 3\)\. Received: shape \({shape[0]}, {shape[1]}\)"
        with pytest.raises(ValueError, match=message):
            export_model(model, data, tmp_path / "model", seen=scipy.sparse.csr_array(shape))
    for dense in (data.train.toarray(), data.train.toarray().tolist(), [7, 8]):
        with pytest.raises(TypeError, match=r"`seen` must be a scipy\.sparse .* shape \(2, 3\)"):
            export_model(model, data, tmp_path / "model", seen=dense)
    assert not (tmp_path / "model").exists()


def test_query_of_another_shape_is_refused(tmp_path):
    frame = pd.DataFrame({"user": [1, 2, 3], "item": [7, 8, 9]})
    data = encode(Split(frame, frame[:0], frame[:0]))
    model = model_of(data, "id")
    user = np.arange(3)
    for query, name, shape in (
        ({"user": user[:2]}, r"query\['user'\]", r"\(2,\)"),
        ({"user": np.append(user, 0)}, r"query\['user'\]", r"\(4,\)"),
        ({"user": user, "age": np.ones((1, 2))}, r"query\['age'\]", r"\(1, 2\)"),
        (user[:2], "query", r"\(2,\)"),
    ):
        with pytest.raises(ValueError, match=rf"`{name}` .* the 3 users.* Received: shape {shape}"):
            export_model(model, data, tmp_path / "model", query=query)

    class Pooled(tf_keras.Model):
        def call(self, query):
            return tf_keras.backend.ones([1, DIM])

    class Narrow(tf_keras.Model):
        def call(self, query):
            return tf_keras.backend.ones([len(query["user"]), DIM - 1])

    items = ItemTower(3, DIM)
    for tower, shape in ((Pooled(), (1, DIM)), (Narrow(), (3, DIM - 1))):
        model = RetrievalModel(tower, items, 3, Retrieval(), InBatchNegatives())
        with pytest.raises(ValueError, match=rf"query_embeddings.*Received: shape \({shape[0]}, "):
            export_model(model, data, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_query_that_the_tower_does_not_take(tmp_path):
    frame = pd.DataFrame({"user": ["1", "2", "3"], "item": ["7", "8", "9"]})
    data = encode(Split(frame, frame[:0], frame[:0]))
    model, user = model_of(data, "id"), np.arange(3)
    for query, error, message in (
        (user, ValueError, "`query` could not be embedded by UserTower: .* Received: ndarray"),
        ({}, ValueError, "`query` must have features"),
        ({"id": user}, ValueError, "`query` could not .*KeyError.* Received: a dict of `id`"),
        (pd.DataFrame({"user": user}), ValueError, "`query` could not .* Received: DataFrame"),
        ({"user": user + 1}, ValueError, "`query` could not be embedded by UserTower"),
        ({"user": [0, 1, 2]}, TypeError, r"`query\['user'\]` must be an array.* Received: list"),
        ([0, 1, 2], TypeError, "`query` must be an array.* Received: list"),
        ("abc", TypeError, "`query` must be an array.* Received: str"),
    ):
        with pytest.raises(error, match=f"(?s)^{message}"):
            export_model(model, data, tmp_path / "model", query=query)
