"""The V2 protocol: raw requests, and KServe's own client."""

import http.client
import json
import struct
import subprocess

import numpy as np
import pytest
import scipy.sparse

from tests.service.exports import DIM, LENGTH, K, data_of, exact, model_of, users_of
from tests.service.server import NESTED, PYTHON, ROOT, as_json, serving
from tfrs_croloss.serving import export_model

INFER = "/v2/models/model/infer"
CLIENT = """
import asyncio, json, sys
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
async def ask(address, users, binary):
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    assert await client.is_server_ready(address)
    assert await client.is_model_ready(address, "model")
    own = InferInput("user_ids", [len(users)], "BYTES")
    own.set_data_from_numpy(np.array(users, object), binary_data=binary)
    request = InferRequest("model", [own], parameters={"binary_data_output": binary})
    answer = await client.infer(address, request, model_name="model")
    found = {x.name: x.as_numpy() for x in answer.outputs}
    return found["item_ids"].astype(str).tolist(), found["scores"].astype(float).tolist()
address, users = sys.argv[1], json.loads(sys.argv[2])
print(json.dumps([asyncio.run(ask(address, users, binary)) for binary in (True, False)]))
"""


@pytest.fixture(scope="module")
def integers(tmp_path_factory):
    folder, data = tmp_path_factory.mktemp("integers"), data_of("integer")
    model = model_of(data)
    export_model(model, data, folder / "model", k=K)
    with serving(folder / "model", folder / "log", "--max_rows", "50") as server:
        yield server, data, model
        # Whatever was asked.
        assert "Traceback" not in server.log()


@pytest.fixture(scope="module")
def strings(tmp_path_factory):
    folder, data = tmp_path_factory.mktemp("strings"), data_of("string")
    model = model_of(data, "history")
    export_model(model, data, folder / "model", k=K, history_length=LENGTH)
    with serving(folder / "model", folder / "log") as server:
        yield server, data, model


def tensor(name, datatype, shape, data):
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def users_tensor(users):
    return tensor("user_ids", "INT64", [len(users)], users)


def ask(server, *inputs, path=INFER, **rest):
    status, answer = server.send("POST", path, json.dumps({"inputs": inputs, **rest}))
    assert status == 200, answer
    return answer


def check(answer, ids, scores, datatype="INT64"):
    found = {output.pop("name"): output for output in answer["outputs"]}
    assert [found[name]["datatype"] for name in ("item_ids", "scores")] == [datatype, "FP32"]
    for name, expected in (("item_ids", ids), ("scores", scores)):
        assert found[name]["shape"] == list(expected.shape)
        assert len(found[name]["data"]) == expected.size
    assert found["item_ids"]["data"] == ids.ravel().tolist()
    np.testing.assert_allclose(found["scores"]["data"], scores.ravel(), rtol=1e-4, atol=1e-6)


def test_users_k_and_exclusions(integers):
    server, data, model = integers
    users = data.users.ids.tolist()[:4]
    ids, scores = exact(data, model, users_of(data, model)[:4], data.train[:4])
    answer = ask(server, users_tensor(users), id="mine")
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("mine", "model", "1")
    check(answer, ids, scores)
    for shape in ([], [1]):
        k = tensor("k", "INT32", shape, [3])
        check(ask(server, users_tensor(users), k), ids[:, :3], scores[:, :3])
    best = ids[:, :1].tolist()
    for data_of_it in (best, ids[:, 0].tolist()):  # as lists in lists, or flat
        exclude = tensor("exclude", "INT64", [4, 1], data_of_it)
        k = tensor("k", "INT32", [], [K - 1])
        check(ask(server, users_tensor(users), exclude, k), ids[:, 1:], scores[:, 1:])
    path = "/v2/models/model/versions/1/infer"
    check(ask(server, users_tensor(users), path=path), ids, scores)
    only = ask(server, users_tensor(users), outputs=[{"name": "item_ids"}])["outputs"]
    assert [output["name"] for output in only] == ["item_ids"]
    empty = ask(server, users_tensor([]))["outputs"]
    assert [output["data"] for output in empty] == [[], []]


def test_the_other_signatures(strings):
    server, data, model = strings
    positions = np.array([[11, 400, 77], [3, 5, 8]])
    history = data.items.decode(positions).tolist()
    queries = model.query_embeddings({"history": positions})
    seen = np.zeros((2, len(data.items)))
    np.put_along_axis(seen, positions, 1, axis=1)
    expected = exact(data, model, queries, scipy.sparse.csr_array(seen))
    by_history = {"parameters": {"signature_name": "by_history"}}
    answer = ask(server, tensor("history", "BYTES", [2, 3], history), **by_history)
    check(answer, *expected, "BYTES")
    by_embedding = {"parameters": {"signature_name": "by_embedding"}}
    answer = ask(server, tensor("queries", "FP32", [2, DIM], queries.tolist()), **by_embedding)
    check(answer, *exact(data, model, queries, None), "BYTES")


def test_tensors_in_binary(strings):
    server, data, model = strings
    users = [data.users.ids.tolist()[4], "nobody"]
    packed = [word.encode() for word in users]
    raw = b"".join(struct.pack("<I", len(word)) + word for word in packed)
    k = struct.pack("<i", 600)  # more than there are
    own = {"name": "user_ids", "datatype": "BYTES", "shape": [2]}
    many = {"name": "k", "datatype": "INT32", "shape": []}
    inputs = [
        own | {"parameters": {"binary_data_size": len(raw)}},
        many | {"parameters": {"binary_data_size": len(k)}},
    ]
    outputs = [
        {"name": "scores", "parameters": {"binary_data": True}},
        {"name": "item_ids", "parameters": {"binary_data": True}},
    ]
    head = json.dumps({"inputs": inputs, "outputs": outputs}).encode()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    headers = {"Inference-Header-Content-Length": str(len(head))}
    connection.request("POST", INFER, head + raw + k, headers)
    answer = connection.getresponse()
    assert answer.status == 200
    assert answer.getheader("Content-Type") == "application/octet-stream"
    body, length = answer.read(), int(answer.getheader("Inference-Header-Content-Length"))
    connection.close()
    described = json.loads(body[:length])["outputs"]
    num_items = len(data.items)
    assert [(x["name"], x["shape"]) for x in described] == [
        ("scores", [2, num_items]),
        ("item_ids", [2, num_items]),
    ]
    sizes = [x["parameters"]["binary_data_size"] for x in described]
    assert len(body) == length + sum(sizes)
    scores = np.frombuffer(body[length : length + sizes[0]], "<f4").reshape(2, num_items)
    known = model.query_embeddings({"history": data.histories(LENGTH)[[4]]})
    ids, expected = exact(data, model, known, data.train[[4]], num_items)
    # Of the first user some have been seen: their place is at the end, with -inf.
    np.testing.assert_allclose(scores[0], expected[0], rtol=1e-4, atol=1e-6)
    assert np.isneginf(scores[0, -1])
    cells, rest = [], body[length + sizes[0] :]
    while rest:
        (size,) = struct.unpack("<I", rest[:4])
        cells.append(rest[4 : 4 + size].decode())
        rest = rest[4 + size :]
    left = num_items - data.train[[4]].nnz
    assert cells[:num_items] == ids[0, :left].tolist() + [""] * (num_items - left)


def test_kserves_own_client(strings):
    server, data, model = strings
    users = data.users.ids.tolist()[:3]
    done = subprocess.run(
        [PYTHON, "-c", CLIENT, f"http://127.0.0.1:{server.port}", json.dumps(users)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    queries = model.query_embeddings({"history": data.histories(LENGTH)[:3]})
    ids, scores = exact(data, model, queries, data.train[:3])
    for found in json.loads(done.stdout.splitlines()[-1]):
        assert found[0] == ids.tolist()
        np.testing.assert_allclose(found[1], scores, rtol=1e-4, atol=1e-6)


OWN = tensor("user_ids", "INT64", [1], [100])


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        ([], "expected the inputs `user_ids`"),
        ([tensor("user", "INT64", [1], [1])], "expected the inputs `user_ids`"),
        ([OWN, OWN], "`inputs` must have each input once"),
        (
            [tensor("user_ids", "INT32", [1], [1])],
            "must have the datatype INT64. Received: 'INT32'",
        ),
        ([tensor("user_ids", "BYTES", [1], ["1"])], "must have the datatype INT64"),
        ([tensor("user_ids", "INT64", [1], [1.5])], "must hold integers alone"),
        ([tensor("user_ids", "INT64", [1], ["1"])], "must hold integers alone. Received: a string"),
        ([tensor("user_ids", "INT64", [1], [None])], "must hold integers alone. Received: null"),
        ([tensor("user_ids", "INT64", [1], [True])], "must hold integers alone"),
        ([tensor("user_ids", "INT64", [1], [10**20])], "`user_ids` must fit int64"),
        ([tensor("user_ids", "INT64", [], [1])], "must have the shape [any], and as many data"),
        ([tensor("user_ids", "INT64", [1, 1], [1])], "Received: shape [1, 1] and 1 data"),
        ([tensor("user_ids", "INT64", [2], [1])], "Received: shape [2] and 1 data"),
        ([tensor("user_ids", "INT64", [-1], [1])], "must have a shape of integers. Received: [-1]"),
        ([tensor("user_ids", "INT64", "x", [1])], "must have a shape of integers. Received: 'x'"),
        ([tensor("user_ids", "INT64", [51], [1] * 51)], "has more than 50 rows"),
        ([OWN, tensor("k", "INT32", [2], [1, 2])], "`k` must have the shape []"),
        ([OWN, tensor("k", "INT32", [], [-1])], "`k` must be at least 0. Received: -1"),
        ([OWN, tensor("exclude", "INT64", [10**12, 0], [])], "`exclude` has more than 50 rows"),
        ([OWN, tensor("exclude", "INT64", [2, 1], [1, 2])], "`exclude` must have one row for all"),
        ([{"name": "user_ids"}], "expected a request of the V2 protocol"),
        ([{**OWN, "parameters": {"binary_data_size": 8}, "data": None}], "the V2 protocol"),
        ([tensor("user_ids", "INT64", [1], NESTED)], "integers alone. Received: a list"),
        ([OWN, tensor("exclude", "INT64", [1, 1], NESTED)], "Received: a list"),
        ([tensor("user_ids", "INT64", NESTED, [1])], "a shape of integers. Received: [[[["),
        ([tensor("user_ids", NESTED, [1], [1])], "expected a request of the V2 protocol"),
        ("x", "expected a request of the V2 protocol"),
        (None, "expected a request of the V2 protocol"),
    ],
    ids=lambda value: value[:50] if isinstance(value, str) else "",
)
def test_what_makes_no_sense(integers, inputs, reason):
    server, *_ = integers
    status, answer = server.send("POST", INFER, as_json({"inputs": inputs}))
    assert status == 400
    assert reason in answer["error"]
    ask(server, OWN)


@pytest.mark.parametrize(
    ("rest", "reason"),
    [
        ({"outputs": [{"name": "x"}]}, "`outputs` must be of item_ids, scores. Received: 'x'"),
        ({"outputs": [{"name": 1}]}, "`name` must be a string"),
        ({"outputs": [{"name": "scores", "parameters": 1.5}]}, "the V2 protocol"),
        ({"outputs": 3}, "expected a request of the V2 protocol"),
        ({"parameters": 3}, "expected a request of the V2 protocol"),
        ({"id": NESTED}, "`id` must be a string"),
        ({"parameters": {"signature_name": NESTED}}, "must be one of by_embedding"),
        ({"parameters": {"signature_name": "x"}}, "must be one of by_embedding, serving_default"),
    ],
)
def test_what_makes_no_sense_beside_the_inputs(integers, rest, reason):
    server, *_ = integers
    status, answer = server.send("POST", INFER, as_json({"inputs": [OWN], **rest}))
    assert status == 400
    assert reason in answer["error"]


@pytest.mark.parametrize("length", ["abc", "-1", "1e3", "", "9" * 30, "0", "7"])
def test_a_length_of_json_that_is_none(integers, length):
    server, *_ = integers
    headers = {"Inference-Header-Content-Length": length}
    body = json.dumps({"inputs": [OWN]})
    status, answer = server.send("POST", INFER, body, headers=headers)
    assert status == 400
    assert "error" in answer
