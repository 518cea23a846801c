"""Bodies that are packed."""

import gzip
import json
import zlib

import pytest

from tests.service.exports import K, data_of, model_of
from tests.service.server import PREDICT, serving
from tfrs_croloss.serving import export_model

LIMIT = 100_000
REQUEST = {"instances": [100]}
BODY = json.dumps(REQUEST).encode()
TOO_LARGE = (413, {"error": f"a body may have {LIMIT} bytes"})


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder, data = tmp_path_factory.mktemp("gzip"), data_of("integer")
    export_model(model_of(data), data, folder / "model", k=K)
    with serving(folder / "model", folder / "log", "--max_body_bytes", str(LIMIT)) as server:
        yield server
        assert server.process.poll() is None


def send(server, body, encoding="gzip", **options):
    return server.send("POST", PREDICT, body, headers={"Content-Encoding": encoding}, **options)


def members(*parts):
    return b"".join(gzip.compress(part) for part in parts)


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip"])
@pytest.mark.parametrize(
    "body",
    [members(BODY), members(BODY[:7], b"", BODY[7:]), gzip.compress(BODY, compresslevel=0)],
    ids=["whole", "in members", "stored"],
)
def test_a_packed_request_is_answered_as_a_plain_one(server, body, encoding):
    answer = server.ask(REQUEST)
    assert send(server, body, encoding) == (200, answer)
    # A byte at a time.
    parts = (body[i : i + 1] for i in range(len(body)))
    assert send(server, parts, encoding, encode_chunked=True) == (200, answer)


def test_a_packed_request_of_the_v2_protocol(server):
    inputs = [{"name": "user_ids", "datatype": "INT64", "shape": [1], "data": [100]}]
    body = json.dumps({"inputs": inputs}).encode()
    path = "/v2/models/model/infer"
    plain = server.send("POST", path, body)
    assert plain[0] == 200
    headers = {"Content-Encoding": "gzip"}
    assert server.send("POST", path, gzip.compress(body), headers=headers) == plain


def test_the_bound_is_on_what_is_unpacked(server):
    assert send(server, gzip.compress(BODY.ljust(LIMIT)))[0] == 200
    assert send(server, gzip.compress(BODY.ljust(LIMIT + 1))) == TOO_LARGE
    # 20 MB unpacked, and a fifth of the bound as it is sent.
    packer = zlib.compressobj(9, wbits=31)
    bomb = packer.compress(bytes(2 * 10**7)) + packer.flush()
    assert len(bomb) < LIMIT / 4
    assert send(server, bomb) == TOO_LARGE
    assert send(server, members(*[b" " * (LIMIT // 2)] * 3)) == TOO_LARGE
    parts = (bomb[i : i + 100] for i in range(0, len(bomb), 100))
    assert send(server, parts, encode_chunked=True) == TOO_LARGE
    # Of nothing, which takes time alone: the bound is on what is sent, too.
    assert send(server, gzip.compress(b"") * (LIMIT // 20 + 1)) == TOO_LARGE
    assert server.ask(REQUEST)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (members(BODY)[:-1], "the body is not whole: its gzip ends too early"),
        (members(BODY)[:5], "the body is not whole"),
        (members(BODY) + members(BODY)[:-3], "the body is not whole"),
        (members(BODY) + b"junk", "the body is no gzip"),
        (members(BODY)[:-8] + bytes(8), "the body is no gzip"),
        (BODY, "the body is no gzip"),
        (zlib.compress(BODY), "the body is no gzip"),
        (b"", "expected JSON"),
        (members(b"{"), "expected JSON"),
    ],
    # Not the bodies, which hold the time: all workers must find the same tests.
    ids=["cut", "begun", "second cut", "junk", "sum", "plain", "zlib", "nothing", "no JSON"],
)
def test_what_is_no_gzip(server, body, reason):
    status, answer = send(server, body)
    assert status == 400
    assert reason in answer["error"]


@pytest.mark.parametrize("encoding", ["deflate", "br", "zstd", "gzip, gzip", "gzip,br", "nonsense"])
def test_other_encodings(server, encoding):
    status, answer = send(server, zlib.compress(BODY), encoding)
    assert status == 415
    assert answer["error"] == (
        f"the Content-Encoding of a body must be gzip, or none. Received: {encoding}"
    )


@pytest.mark.parametrize("encoding", ["identity", ""])
def test_an_encoding_that_is_none(server, encoding):
    assert send(server, BODY, encoding) == (200, server.ask(REQUEST))
