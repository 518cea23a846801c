"""Real exports, asked as their clients do, against loops over the towers' embeddings."""

import dataclasses
import sys

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import tensorflow as tf
import tf_keras

from tests.evaluation.naive import measure, top
from tfrs_croloss.data import Split, encode
from tfrs_croloss.evaluation import evaluate_export, export, training_segments
from tfrs_croloss.retrieval import (
    HistoryTower,
    InBatchNegatives,
    ItemTower,
    Retrieval,
    RetrievalModel,
    UserTower,
)
from tfrs_croloss.serving import export_model

NUM_USERS, NUM_ITEMS, DIM, LENGTH, TOP_N = 25, 70, 8, 4, (3, 10, 100)


def split(kind):
    """Interactions at random, some test items in no training set; ids integers or strings."""
    rng = np.random.default_rng(0)
    name = {"integer": lambda x: str(3 * x + 1), "string": lambda x: f"é{x}"}[kind]
    parts = {"train": [], "validation": [], "test": []}
    for user in range(NUM_USERS):
        items = rng.permutation(NUM_ITEMS)
        cuts = np.cumsum([rng.integers(2, 12), 1, rng.integers(1, 9)])
        for part, chosen in zip(parts.values(), np.split(items, cuts), strict=False):
            part += [(name(user), name(item)) for item in chosen]
    parts["test"] += [(name(user), name(NUM_ITEMS + user)) for user in range(0, NUM_USERS, 3)]
    return Split(*(pd.DataFrame(rows, columns=["user", "item"]) for rows in parts.values()))


@pytest.fixture(scope="module", params=["integer", "string"])
def data(request):
    return encode(split(request.param))


def model_of(data, tower="id"):
    tf_keras.utils.set_random_seed(0)
    items = ItemTower(len(data.items), DIM)
    users = UserTower(len(data.users), DIM) if tower == "id" else HistoryTower(items)
    return RetrievalModel(users, items, len(data.items), Retrieval(), InBatchNegatives())


def seen_of(data):
    return data.train + data.validation.matrix


def expected(data, queries, candidates, exclude, n, users=None, items=None):
    """Metrics from loops over float64 scores."""
    scores = queries.astype(float) @ candidates.astype(float).T
    exclude, targets = exclude.toarray(), data.test.matrix.toarray()
    lists, wanted = [], []
    for u in range(len(data.users)):
        lists.append(top(scores[u], set(np.flatnonzero(exclude[u])), n))
        own = set(np.flatnonzero(targets[u]).tolist())
        others = {f"unseen {i}" for i in range(data.test.counts[u] - len(own))}
        if items is not None:
            own, others = {i for i in own if items[i]}, set()
        wanted.append(own | others if users is None or users[u] else set())
    catalogue = range(len(data.items)) if items is None else np.flatnonzero(items).tolist()
    return measure(lists, wanted, n, catalogue)


@pytest.mark.parametrize("search", ["exact", "scann"])
def test_agrees_with_loops(data, search, tmp_path):
    model = model_of(data)
    seen = seen_of(data)
    export_model(model, data, tmp_path, seen=seen, search=search, k=5)
    segments = training_segments(data.train, data.test.counts)
    result = evaluate_export(tmp_path, data, top_n=TOP_N, batch_size=4, segments=segments)
    embeddings = model.query_embeddings(data.queries()), model.candidate_embeddings()
    assert result.users.tolist() == np.flatnonzero(data.test.counts).tolist()
    for n in TOP_N:
        per_user, means = expected(data, *embeddings, seen, n)
        for name, values in per_user.items():
            np.testing.assert_allclose(result.per_user[name], values)
        assert {name: result.metrics[name] for name in means} == pytest.approx(means)
        for name in ("new users", "old users", "head items"):
            part = {"users": segments[name].users, "items": segments[name].items}
            _, means = expected(data, *embeddings, seen, n, **part)
            own = result.segments[name].metrics
            assert {name: own[name] for name in means} == pytest.approx(means)
    # What is excluded makes a difference, which is seen above.
    _, without = expected(data, *embeddings, data.train, 10)
    assert result.metrics["recall@10"] != pytest.approx(without["recall@10"])


def test_what_is_sent_to_be_excluded_is(data, tmp_path):
    model = model_of(data)
    export_model(model, data, tmp_path)  # without what was seen in the validation
    embeddings = model.query_embeddings(data.queries()), model.candidate_embeddings()
    for exclude, seen in ((None, data.train), (data.validation.matrix, seen_of(data))):
        result = evaluate_export(tmp_path, data, exclude=exclude, top_n=10)
        assert result.metrics == pytest.approx(expected(data, *embeddings, seen, 10)[1])


def test_users_who_have_seen_as_much_share_a_request(data, tmp_path, monkeypatch):
    """So that none is given the effort of another, which a request of its own would not get."""
    export_model(model_of(data), data, tmp_path)
    requests, ask = [], export._Client._ask

    def spy(client, users, n):
        requests.append(users.tolist())
        return ask(client, users, n)

    monkeypatch.setattr(export._Client, "_ask", spy)
    result = evaluate_export(tmp_path, data, batch_size=4)
    asked = [user for users in requests for user in users]
    assert sorted(asked) == result.users.tolist()
    assert [len(users) for users in requests[:-1]] == [4] * (len(requests) - 1)
    num_seen = [int((data.train_users == user).sum()) for user in asked]
    assert num_seen == sorted(num_seen)
    assert len(set(num_seen)) > 3


def test_other_targets(data, tmp_path):
    model = model_of(data)
    export_model(model, data, tmp_path)
    result = evaluate_export(tmp_path, data, data.validation, top_n=10)
    swapped = dataclasses.replace(data, test=data.validation)
    embeddings = model.query_embeddings(data.queries()), model.candidate_embeddings()
    assert result.metrics == pytest.approx(expected(swapped, *embeddings, data.train, 10)[1])


def test_a_history_tower_with_and_without_histories(data, tmp_path):
    model = model_of(data, "history")
    seen = seen_of(data)
    export_model(model, data, tmp_path, history_length=LENGTH, seen=seen)
    candidates = model.candidate_embeddings()
    queries = model.query_embeddings(data.queries(LENGTH))
    _, means = expected(data, queries, candidates, seen, 10)
    for length in (0, LENGTH):
        found = evaluate_export(tmp_path, data, history_length=length, top_n=10)
        assert found.metrics == pytest.approx(means)
    # A shorter one sent is another history: what is sent is what counts.
    shorter = data.queries(LENGTH)
    shorter["history"][:, : LENGTH - 1] = -1
    _, of_shorter = expected(data, model.query_embeddings(shorter), candidates, seen, 10)
    found = evaluate_export(tmp_path, data, history_length=1, top_n=10)
    assert found.metrics == pytest.approx(of_shorter)
    assert found.metrics["ndcg@10"] != pytest.approx(means["ndcg@10"])


@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("search", ["exact", "scann"])
def test_held_out_users(mask, search, tmp_path):
    """Each fourth user has a history in place of training interactions."""
    whole = split("string")
    user = whole.train["user"].str[1:].astype(int)
    is_history = user % 4 == 0
    parts = (
        whole.train[~is_history],
        whole.train[:0],
        whole.test[whole.test["user"].isin(whole.train["user"][is_history])],
    )
    data = encode(Split(*parts, whole.train[is_history]))
    assert len(data.users) - data.num_train_users == (NUM_USERS + 3) // 4
    model = model_of(data, "history")
    # By default what is known of them is never returned.
    seen = None if mask else scipy.sparse.csr_array(data.known.shape)
    options = {"history_length": LENGTH, "seen": seen, "mask_history": mask, "search": search}
    export_model(model, data, tmp_path, **options)
    queries, candidates = model.query_embeddings(data.queries(LENGTH)), model.candidate_embeddings()
    known = data.known if mask else scipy.sparse.csr_array(data.known.shape)
    _, means = expected(data, queries, candidates, known, 10)
    for length in (0, LENGTH):
        found = evaluate_export(tmp_path, data, history_length=length, top_n=10, batch_size=2)
        assert (found.users >= data.num_train_users).all()
        assert found.metrics == pytest.approx(means)


def test_the_latest_version_is_asked_or_the_one_named(data, tmp_path):
    first, last = model_of(data), model_of(data)
    last.candidate_tower.set_weights([-x for x in last.candidate_tower.get_weights()])
    folders = [export_model(first, data, tmp_path, version=9), export_model(last, data, tmp_path)]
    assert folders[1].name == "10"
    by_path = [evaluate_export(path, data).metrics for path in (tmp_path, *folders)]
    assert by_path[0] == by_path[2] != by_path[1]


def test_bad_folders(data, tmp_path):
    with pytest.raises(ValueError, match=r"nowhere: no SavedModel that loads here; write one with"):
        evaluate_export(tmp_path / "nowhere", data)
    (tmp_path / "3").mkdir()
    with pytest.raises(ValueError, match=r"/3: no SavedModel that loads here"):
        evaluate_export(tmp_path, data)
    module = tf.Module()
    module.f = tf.function(lambda x: {"y": x}, input_signature=[tf.TensorSpec([], name="x")])
    for path, signatures in (("none", None), ("other", {"serving_default": module.f})):
        tf.saved_model.save(module, str(tmp_path / path), signatures=signatures)
        with pytest.raises(ValueError, match=rf"`path` must be an export of .*{path}"):
            evaluate_export(tmp_path / path, data)


def test_bad_arguments(data, tmp_path):
    export_model(model_of(data), data, tmp_path)
    with pytest.raises(ValueError, match=r"`history_length` must be 0: .* takes no history"):
        evaluate_export(tmp_path, data, history_length=3)
    with pytest.raises(ValueError, match=r"`batch_size` must be a positive integer"):
        evaluate_export(tmp_path, data, batch_size=0)
    with pytest.raises(ValueError, match=r"`top_n` must be a positive integer"):
        evaluate_export(tmp_path, data, top_n=0)
    with pytest.raises(TypeError, match=r"`exclude` must be a scipy\.sparse"):
        evaluate_export(tmp_path, data, exclude=[[1]])
    users, items = data.train.shape
    for name in ("exclude", "targets"):
        for shape in ((1, 1), (items, users), (users - 1, items), (users, items + 1)):
            other = {name: scipy.sparse.csr_array(np.ones(shape))}
            message = (
                rf"`{name}` .*\({users}, {items}\)\. Received: shape \({shape[0]}, {shape[1]}\)"
            )
            with pytest.raises(ValueError, match=message):
                evaluate_export(tmp_path, data, **other)
        with pytest.raises(TypeError, match=rf"`{name}` must be a scipy\.sparse matrix of shape"):
            evaluate_export(tmp_path, data, **{name: data.train.toarray()})
    pair = data.test.matrix[:3], data.test.counts[:3]
    with pytest.raises(ValueError, match=r"`targets` must have one row a query"):
        evaluate_export(tmp_path, data, pair)


def test_an_export_whose_scores_are_nan(data, tmp_path):
    """One that was made before these were refused, or not by this library."""
    folder = export_model(model_of(data), data, tmp_path)
    model = tf.saved_model.load(str(folder))
    model.search.candidates.assign(tf.fill(model.search.candidates.shape, np.nan))
    spoilt = tmp_path / "spoilt"
    tf.saved_model.save(model, str(spoilt), signatures=dict(model.signatures))
    with pytest.raises(ValueError, match=r"`path` must be .* finite .*spoilt has scores of NaN"):
        evaluate_export(spoilt, data)


def test_an_export_of_other_data(data, tmp_path):
    export_model(model_of(data), data, tmp_path)
    renamed = split("integer" if data.items.ids.dtype.kind == "i" else "string")
    for part in renamed:
        part["item"] = "9" + part["item"]
    with pytest.raises(ValueError, match=r"`data` must be the data that .* other items, without"):
        evaluate_export(tmp_path, encode(renamed))
    other_kind = encode(split("string" if data.items.ids.dtype.kind == "i" else "integer"))
    with pytest.raises(ValueError, match=r"`data` must be the data .*`user_ids` are \w+\. Recei"):
        evaluate_export(tmp_path, other_kind)


def test_scann_that_is_missing(data, tmp_path, monkeypatch):
    folder = export_model(model_of(data), data, tmp_path, search="scann")
    monkeypatch.setitem(sys.modules, "scann", None)

    def without_op(path):
        raise tf.errors.NotFoundError(None, None, "Op type not registered 'Scann>ScannSearch'")

    monkeypatch.setattr(tf.saved_model, "load", without_op)
    with pytest.raises(ValueError, match=r'with ScaNN, .* pip install "tfrs-croloss\[scann'):
        evaluate_export(folder, data)
