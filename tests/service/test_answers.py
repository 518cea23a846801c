"""What a server answers, against an exact search of the model."""

import json
import os
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.sparse

from tests.pages import GUIDE, blocks, commands
from tests.service.exports import DIM, LENGTH, K, data_of, exact, model_of, users_of
from tests.service.server import serving
from tfrs_croloss.serving import export_model


@pytest.fixture(scope="module")
def integers(tmp_path_factory):
    """A server of a model on users, with its data and model."""
    folder, data = tmp_path_factory.mktemp("integers"), data_of("integer")
    model = model_of(data)
    export_model(model, data, folder / "model", k=K)
    with serving(folder / "model", folder / "log") as server:
        yield server, data, model


@pytest.fixture(scope="module")
def strings(tmp_path_factory):
    """A server of a model on histories, with its data and model."""
    folder, data = tmp_path_factory.mktemp("strings"), data_of("string")
    model = model_of(data, "history")
    export_model(model, data, folder / "model", k=K, history_length=LENGTH)
    with serving(folder / "model", folder / "log") as server:
        yield server, data, model


def check(found, ids, scores):
    np.testing.assert_array_equal(found["item_ids"], ids)
    np.testing.assert_allclose(found["scores"], scores, rtol=1e-4, atol=1e-6)


def test_columns_and_rows(integers):
    server, data, model = integers
    users = data.users.ids.tolist()
    expected = exact(data, model, users_of(data, model), data.train)
    for inputs in ({"user_ids": users}, users, {"user_ids": users, "k": K}):
        check(server.ask({"inputs": inputs})["outputs"], *expected)
    for rows in ([{"user_ids": user} for user in users], users):
        answer = server.ask({"instances": rows, "signature_name": "serving_default"})
        for row, ids, scores in zip(answer["predictions"], *expected, strict=True):
            check(row, ids, scores)


def test_k_and_exclusions(integers):
    server, data, model = integers
    users, queries = data.users.ids.tolist()[:3], users_of(data, model)[:3]
    ids, scores = exact(data, model, queries, data.train[:3])
    few = server.ask({"inputs": {"user_ids": users, "k": 3}})
    check(few["outputs"], ids[:, :3], scores[:, :3])
    # Rows of any length, padded by the server.
    own = [[], ids[1, :2].tolist(), ids[2, :1].tolist()]
    seen = data.train[:3].tolil()
    for row, items in enumerate(own):
        seen[row, data.items.encode(np.array(items, int))] = 1
    without = exact(data, model, queries, seen.tocsr())
    check(server.ask({"inputs": {"user_ids": users, "exclude": own}})["outputs"], *without)
    rows = [{"user_ids": u, "exclude": items} for u, items in zip(users, own, strict=True)]
    answer = server.ask({"instances": rows})
    for row, row_ids, row_scores in zip(answer["predictions"], *without, strict=True):
        check(row, row_ids, row_scores)


def test_the_requests_that_the_guide_shows(integers):
    server, data, model = integers
    ids, scores = exact(data, model, users_of(data, model)[:3], data.train[:3])
    shown = [words for block in blocks(GUIDE, "bash") for words in commands(block)]
    requests = [json.loads(words[-1]) for words in shown if words[0] == "curl"]
    assert len(requests) == 2
    for request in requests:
        # Its users are those of its reader's data.
        request["inputs"]["user_ids"] = data.users.ids.tolist()[:3]
        k = request["inputs"]["k"]
        check(server.ask(request)["outputs"], ids[:, :k], scores[:, :k])


def test_where_fewer_than_k_are_left_the_scores_are_null(integers):
    server, data, _ = integers
    users, num_items = data.users.ids.tolist()[:1], len(data.items)
    found = server.ask({"inputs": {"user_ids": users, "k": num_items + 5}})["outputs"]
    left = num_items - data.train[[0]].nnz
    assert len(found["item_ids"][0]) == num_items
    assert found["item_ids"][0][left:] == [-1] * (num_items - left)
    assert found["scores"][0][left:] == [None] * (num_items - left)
    assert None not in found["scores"][0][:left]


def test_an_empty_batch_has_an_empty_answer(integers, strings):
    nothing = {"item_ids": [], "scores": []}
    for server, *_ in (integers, strings):
        assert server.ask({"instances": []}) == {"predictions": []}
    assert integers[0].ask({"inputs": []}) == {"outputs": nothing}
    empty = {"user_ids": [], "history": []}
    assert strings[0].ask({"inputs": empty}) == {"outputs": nothing}
    no_embeddings = {"inputs": {"queries": []}, "signature_name": "by_embedding"}
    assert integers[0].ask(no_embeddings) == {"outputs": nothing}


def test_an_unknown_user_and_embeddings(integers):
    server, data, model = integers
    mean = users_of(data, model).mean(axis=0, keepdims=True)
    ids, _ = exact(data, model, mean, None)
    found = server.ask({"instances": [7]})
    assert found["predictions"][0]["item_ids"] == ids[0].tolist()
    request = {"inputs": {"queries": mean.tolist()}, "signature_name": "by_embedding"}
    assert server.ask(request)["outputs"]["item_ids"] == ids.tolist()
    # Whole numbers are numbers, too.
    request["inputs"]["queries"] = [[1] * DIM]
    ids, _ = exact(data, model, np.ones([1, DIM], np.float32), None)
    assert server.ask(request)["outputs"]["item_ids"] == ids.tolist()


def test_histories_of_strings(strings):
    server, data, model = strings
    positions = [[11, 400, 77], [3]]
    history = [data.items.decode(row).tolist() for row in positions]
    # As the tower takes them: padded in front.
    padded = np.array([[-1] * (LENGTH - len(row)) + row for row in positions])
    seen = scipy.sparse.lil_array((2, len(data.items)))
    for row, items in enumerate(positions):
        seen[row, items] = 1
    expected = exact(data, model, model.query_embeddings({"history": padded}), seen.tocsr())
    for inputs in ({"history": history}, history):
        answer = server.ask({"inputs": inputs, "signature_name": "by_history"})
        check(answer["outputs"], *expected)
    user = data.users.ids.tolist()[4]
    known = model.query_embeddings({"history": data.histories(LENGTH)[[4]]})
    ids, scores = exact(data, model, known, data.train[[4]])
    # Without a history, as in the guide: what the model knows of the user.
    (left_out,) = server.ask({"instances": [user]})["predictions"]
    (empty,) = server.ask({"instances": [{"user_ids": user, "history": []}]})["predictions"]
    assert left_out == empty
    rows = [{"user_ids": user, "history": items} for items in ([], history[0])]
    first, second = server.ask({"instances": rows})["predictions"]
    check(first, ids[0], scores[0])
    assert second["item_ids"] != first["item_ids"]


def test_many_at_once_each_get_their_own(integers):
    server, data, model = integers
    users = data.users.ids.tolist()
    ids, _ = exact(data, model, users_of(data, model), data.train)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda user: server.ask({"instances": [user]}), users * 20))
    found = [answer["predictions"][0]["item_ids"] for answer in answers]
    assert found == ids.tolist() * 20
    # Each that is being computed takes memory.
    (threads,) = re.findall(r"answers in (\d+) threads", server.log())
    assert int(threads) <= os.cpu_count()


def test_scann(tmp_path):
    data = data_of("integer")
    model = model_of(data)
    export_model(model, data, tmp_path / "model", k=K, search="scann")
    with serving(tmp_path / "model", tmp_path / "log") as server:
        found = server.ask({"instances": data.users.ids.tolist()})
        assert server.ask({"instances": []}) == {"predictions": []}
    ids, _ = exact(data, model, users_of(data, model), data.train)
    shares = [
        len(set(row["item_ids"]) & set(best.tolist())) / K
        for row, best in zip(found["predictions"], ids, strict=True)
    ]
    assert np.mean(shares) > 0.99


def test_what_kserve_says_of_it(integers, strings):
    server, *_ = strings
    assert server.send("GET", "/v1/models/model") == (200, {"name": "model", "ready": True})
    assert server.send("GET", "/") == (200, {"status": "alive"})
    assert server.send("GET", "/v1/models") == (200, {"models": ["model"]})
    assert server.send("GET", "/v2")[0] == 200
    assert server.send("GET", "/v2/health/live") == (200, {"live": True})
    assert server.send("GET", "/v2/health/ready") == (200, {"ready": True})
    assert server.send("GET", "/v2/models") == (200, {"models": ["model"]})
    ready = {"name": "model", "ready": True}
    assert server.send("GET", "/v2/models/model/ready") == (200, ready)
    assert server.send("GET", "/v2/models/model/versions/1/ready") == (200, ready)
    assert server.send("GET", "/v2/models/model")[1]["versions"] == ["1"]
    one = server.send("GET", "/v2/models/model/versions/1")
    assert one == server.send("GET", "/v2/models/model")
    inputs = server.send("GET", "/v2/models/model")[1]["inputs"]
    assert {"name": "user_ids", "datatype": "BYTES", "shape": [-1]} in inputs
    assert {"name": "k", "datatype": "INT32", "shape": []} in inputs
    outputs = integers[0].send("GET", "/v2/models/model")[1]["outputs"]
    assert {"name": "item_ids", "datatype": "INT64", "shape": [-1, -1]} in outputs


def test_a_version_by_its_number(integers):
    server, data, model = integers
    users = data.users.ids.tolist()
    body = json.dumps({"inputs": users})
    status, answer = server.send("POST", "/v1/models/model/versions/1:predict", body)
    assert status == 200
    check(answer["outputs"], *exact(data, model, users_of(data, model), data.train))
    for path in ("/v1/models/model/versions/2:predict", "/v2/models/model/versions/2/infer"):
        other = {"error": "version 2 of model is not served: 1 is"}
        assert server.send("POST", path, body) == (404, other)
    for path in ("/v1/models/model/versions/0/metadata", "/v2/models/model/versions/12/ready"):
        assert server.send("GET", path)[0] == 404


def test_what_tensorflow_serving_says_of_it(strings):
    server, *_ = strings
    for path in ("/v1/models/model/metadata", "/v1/models/model/versions/1/metadata"):
        status, answer = server.send("GET", path)
        assert status == 200
        assert answer["model_spec"] == {"name": "model", "signature_name": "", "version": "1"}
        signatures = answer["metadata"]["signature_def"]["signature_def"]
        assert {"serving_default", "by_history", "by_embedding"} <= signatures.keys()
        default = signatures["serving_default"]
        assert default["method_name"] == "tensorflow/serving/predict"
        dtypes = {name: info["dtype"] for name, info in default["inputs"].items()}
        assert dtypes == {
            "user_ids": "DT_STRING",
            "history": "DT_STRING",
            "exclude": "DT_STRING",
            "k": "DT_INT32",
        }
        queries = signatures["by_embedding"]["inputs"]["queries"]["tensor_shape"]
        assert queries["dim"] == [{"size": "-1", "name": ""}, {"size": str(DIM), "name": ""}]
        assert not queries["unknown_rank"]
        assert default["outputs"]["scores"]["dtype"] == "DT_FLOAT"
