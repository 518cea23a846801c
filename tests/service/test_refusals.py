"""Requests that make no sense: each gets a 4xx with its reason, and the next one its answer."""

import json
from urllib.request import Request, urlopen

import pytest

from tests.service.exports import DIM, K, data_of, model_of
from tests.service.server import NESTED, PREDICT, serving
from tfrs_croloss.serving import export_model

USER = 100
MANY = [USER] * 51


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    folder, data = tmp_path_factory.mktemp("refusals"), data_of("integer")
    export_model(model_of(data), data, folder / "model", k=K)
    limits = ("--max_body_bytes", "100000", "--max_rows", "50")
    with serving(folder / "model", folder / "log", *limits) as server:
        yield server


@pytest.fixture
def server(shared):
    yield shared
    # Whatever it was, the process lives and answers.
    assert len(shared.ask({"instances": [USER]})["predictions"]) == 1
    assert shared.process.poll() is None


def embedding(value):
    return {"inputs": {"queries": value}, "signature_name": "by_embedding"}


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        ([1], "expected a JSON object. Received: a list"),
        (None, "expected a JSON object. Received: null"),
        ({}, "expected `inputs` (columns) or `instances` (rows)"),
        ({"inputs": [USER], "instances": [USER]}, "expected `inputs` (columns) or `instances`"),
        ({"inputs": [USER], "signature": "x"}, "Received: `inputs`, `signature`"),
        ({"inputs": [USER], "signature_name": "x"}, "must be one of by_embedding, serving_default"),
        ({"inputs": [USER], "signature_name": [1]}, "`signature_name` must be one of"),
        ({"inputs": [USER], "signature_name": NESTED}, "`signature_name` must be one of"),
        ({"inputs": NESTED}, "`user_ids` must hold integers alone. Received: a list"),
        ({"inputs": {"user_id": [USER]}}, "expected the inputs `user_ids`, and maybe `exclude`"),
        ({"inputs": {"k": 3}}, "Received: `k`"),
        ({"inputs": {}}, "Received: nothing"),
        ({"inputs": {"user_ids": USER}}, "must be a list of integers. Received: an integer"),
        ({"inputs": {"user_ids": [[USER]]}}, "must hold integers alone. Received: a list"),
        ({"inputs": {"user_ids": ["1"]}}, "must hold integers alone. Received: a string"),
        ({"inputs": {"user_ids": [True]}}, "must hold integers alone. Received: a boolean"),
        ({"inputs": {"user_ids": [1.5, None]}}, "Received: a number with a fraction and null"),
        ({"inputs": {"user_ids": [{}]}}, "Received: an object"),
        ({"inputs": {"user_ids": [2**63]}}, "`user_ids` must fit int64"),
        ({"inputs": {"user_ids": [10**20]}}, "`user_ids` must fit int64. Received a larger one"),
        ({"inputs": {"user_ids": [1, -(10**30)]}}, "`user_ids` must fit int64"),
        ({"inputs": {"user_ids": [USER], "exclude": [[10**20]]}}, "`exclude` must fit int64"),
        ({"inputs": {"user_ids": [USER], "k": 10**20}}, "`k` must fit int32"),
        ({"inputs": {"user_ids": [10**20, "1"]}}, "must hold integers alone"),
        ({"inputs": {"user_ids": [USER], "k": -1}}, "`k` must be at least 0. Received: -1"),
        ({"inputs": {"user_ids": [USER], "k": 2**31}}, "`k` must fit int32"),
        ({"inputs": {"user_ids": [USER], "k": 10**9}}, "an answer may hold 1000000 items"),
        (
            {"inputs": {"user_ids": [USER], "k": [3]}},
            "`k` must hold integers alone. Received: a list",
        ),
        ({"inputs": {"user_ids": [USER], "k": "3"}}, "`k` must hold integers alone"),
        ({"inputs": {"user_ids": [USER], "exclude": [1]}}, "must be a list of lists of integers"),
        ({"inputs": {"user_ids": [USER], "exclude": [[1], 2]}}, "must be a list of lists"),
        ({"inputs": {"user_ids": [USER], "exclude": [["a"]]}}, "must hold integers alone"),
        (
            {"inputs": {"user_ids": [USER] * 3, "exclude": [[1]] * 2}},
            "`exclude` must have one row for all",
        ),
        ({"inputs": MANY}, "`user_ids` has more than 50 rows"),
        ({"instances": MANY}, "`user_ids` has more than 50 rows"),
        ({"instances": USER}, "`instances` must be a list"),
        ({"instances": [{"user_ids": USER}, USER]}, "must have the same inputs"),
        ({"instances": [USER, {"user_ids": USER}]}, "must have the same inputs"),
        ({"instances": [{"user_ids": USER}, {}]}, "must have the same inputs"),
        ({"instances": [{"user_ids": USER, "k": 3}]}, "`k` is the same for all rows: send columns"),
        ({"instances": [{"user_ids": [USER]}]}, "must hold integers alone. Received: a list"),
        ({"instances": [{"id": USER}]}, "expected the inputs `user_ids`"),
        (embedding([[0.5] * (DIM - 1)]), f"`queries` must have rows of length {DIM}"),
        (embedding([[0.5] * DIM, [0.5]]), f"`queries` must have rows of length {DIM}"),
        (embedding([[1e300] * DIM]), "`queries` : Tensor had Inf values"),
        (embedding([[None] * DIM]), "must hold numbers alone. Received: null"),
    ],
    ids=lambda value: str(value)[:60] if isinstance(value, str) else "",
)
def test_what_makes_no_sense(server, request_, reason):
    assert reason in server.refuse(request_)


def test_short_requests_for_much_memory(server):
    # 49 rows padded to the length of one.
    exclude = [[1] * 20_001, *[[]] * 49]
    request = {"inputs": {"user_ids": [USER] * 50, "exclude": exclude}}
    assert "`exclude` has more than 1000000 cells" in server.refuse(request)
    # One row for all of them, which the graph repeats.
    request = {"inputs": {"user_ids": [USER] * 50, "exclude": [[1] * 20_001]}}
    assert "`exclude` has more than 1000000 cells for 50 rows" in server.refuse(request)
    request = {"inputs": {"user_ids": [USER] * 50, "k": 20_001}}
    assert "an answer may hold 1000000 items" in server.refuse(request)


def test_a_long_answer_that_the_export_asks_for(tmp_path):
    data = data_of("integer")
    export_model(model_of(data), data, tmp_path / "model", k=len(data.items))
    users = [USER] * (1_000_000 // len(data.items) + 1)
    with serving(tmp_path / "model", tmp_path / "log", "--max_rows", "10000") as server:
        reason = server.refuse({"inputs": users})
        assert f"{len(users)} rows with `k` {len(data.items)}" in reason
        server.ask({"inputs": {"user_ids": users, "k": 1}})


@pytest.mark.parametrize("kind", ["application/json", "application/x-www-form-urlencoded"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\x00",
        b'{"inputs": ["\xff"]}',
        b'{"inputs": ["\\ud800"]}',
        b'{"inputs": [NaN]}',
        b'{"inputs": {"user_ids": [1]}} trailing',
        b"[" * 50_000,
    ],
)
def test_what_is_no_json(server, body, kind):
    status, answer = server.send("POST", PREDICT, body, headers={"Content-Type": kind})
    assert status == 400
    assert "error" in answer


@pytest.mark.parametrize("size", [100_001, 20_000_000])
def test_a_body_above_the_limit(server, size):
    message = {"error": "a body may have 100000 bytes"}
    headers = {"Content-Type": "application/json"}
    assert server.send("POST", PREDICT, b" " * size, headers=headers) == (413, message)
    # No length: the body ends when it ends.
    parts = (b" " * min(65_536, size - start) for start in range(0, size, 65_536))
    answer = server.send("POST", PREDICT, parts, headers=headers, encode_chunked=True)
    assert answer == (413, message)


def test_a_body_at_the_limit(server):
    body = json.dumps({"instances": [USER]}).encode()
    assert server.send("POST", PREDICT, body.ljust(100_000))[0] == 200


def test_what_is_not_there(server):
    status, answer = server.send("POST", "/v1/models/other:predict", '{"inputs": [1]}')
    assert status == 404
    assert "other" in answer["error"]
    status, answer = server.send("POST", "/v2/models/other/infer", "{}")
    assert (status, "other" in answer["error"]) == (404, True)
    assert server.send("PUT", PREDICT) == (405, {"error": "Method Not Allowed"})
    assert server.send("POST", "/v1/models/model", "{}")[0] == 405


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nowhere"),
        ("GET", "/openapi.json"),
        ("POST", "/v1/models/model:explain"),
        ("POST", "/v1/models/model/versions/x:predict"),
        ("POST", "/v1/models/model/labels/x:predict"),
        ("POST", "/v2/models/model/versions/x/infer"),
        ("POST", "/v2/models/model/generate"),
        ("GET", "/v2/models/model/versions/" + "1" * 5000),
        ("GET", "/openai/v1/models"),
        ("POST", "/v2/repository/models/model/load"),
        ("POST", "/v2/repository/models/model/unload"),
    ],
)
def test_what_kserve_has_beside(server, method, path):
    body = None if method == "GET" else "{}"
    headers = {"Inference-Header-Content-Length": "abc"}
    status, answer = server.send(method, path, body, headers=headers)
    assert (status, answer) in [
        (404, {"error": "Not Found"}),
        (405, {"error": "Method Not Allowed"}),
    ]


def test_headers_that_kserve_would_read(server):
    event = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "x", "ce-type": "y"}
    event["ce-contenttype"] = "application/json"
    body = json.dumps({"instances": [USER]})
    assert server.send("POST", PREDICT, body, headers=event)[0] == 200
    assert server.send("POST", PREDICT, "", headers=event)[0] == 400
    odd = {"Accept": "application/openmetrics-text;version=x"}
    with urlopen(Request(f"http://127.0.0.1:{server.port}/metrics", headers=odd)) as metrics:
        assert b"request_predict_seconds_count" in metrics.read()


def test_the_log_has_no_tracebacks_of_the_clients_faults(server):
    server.refuse({})
    server.send("POST", "/v1/models/other:predict", "{}")
    # Nor of all the tests above.
    assert "Traceback" not in server.log()
