"""Who may ask a server, and from where."""

import http.client
import json
import os
import socket
import ssl
import subprocess
import time

import pytest

from tests.service.exports import K, data_of, model_of
from tests.service.server import PREDICT, PYTHON, serving, start
from tfrs_croloss.serving import export_model

BODY = json.dumps({"instances": [100]})
CERTIFICATE = """
import datetime, ipaddress, sys
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
folder, password = sys.argv[1:]
key = ec.generate_private_key(ec.SECP256R1())
name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
start = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)
address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
end = start + datetime.timedelta(days=3000)
made = x509.CertificateBuilder(name, name, key.public_key(), 1, start, end)
made = made.add_extension(x509.SubjectAlternativeName([address]), False).sign(key, hashes.SHA256())
pem = serialization.Encoding.PEM
locked = serialization.BestAvailableEncryption(password.encode())
for file, how in (("key", serialization.NoEncryption()), ("locked", locked)):
    with open(f"{folder}/{file}.pem", "wb") as out:
        out.write(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, how))
with open(f"{folder}/cert.pem", "wb") as out:
    out.write(made.public_bytes(pem))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder, data = tmp_path_factory.mktemp("access") / "model", data_of("integer")
    export_model(model_of(data), data, folder, k=K)
    return folder


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Folders, each with a certificate and its key."""
    folders = [tmp_path_factory.mktemp("certificate") for _ in range(2)]
    for folder in folders:
        subprocess.run([PYTHON, "-c", CERTIFICATE, folder, "word"], check=True)
    return folders


def with_key(key, scheme="Bearer"):
    return {"headers": {"Authorization": f"{scheme} {key}"}}


def test_loopback_alone_unless_it_is_told_otherwise(model, tmp_path):
    # Another address of this machine, if it has one.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
            own = probe.getsockname()[0]
        except OSError:
            own = None
    with serving(model, tmp_path / "log") as server:
        assert server.send("GET", "/")[0] == 200
        assert f"Uvicorn running on http://127.0.0.1:{server.port}" in server.log()
        assert "may ask" not in server.log()
        if own:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((own, server.port), timeout=10)
    with serving(model, tmp_path / "open", "--host", "0.0.0.0") as server:
        assert server.send("GET", "/")[0] == 200
        assert "whoever reaches 0.0.0.0" in server.log()
        if own:
            socket.create_connection((own, server.port), timeout=10).close()


def test_keys(model, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("first-key\r\n\n  second-key  \n")
    options = ("--api_key_file", str(keys), "--host", "0.0.0.0")
    with serving(model, tmp_path / "log", *options) as server:
        assert "whoever reaches" not in server.log()
        assert "keys travel to 0.0.0.0" in server.log()
        for key in ("first-key", "second-key"):
            for scheme in ("Bearer", "bearer"):
                assert server.send("POST", PREDICT, BODY, **with_key(key, scheme))[0] == 200
        message = {"error": "expected a key of this server: Authorization: Bearer <key>"}
        for wrong in (
            {},
            with_key(""),
            with_key("first"),
            with_key("first-key2"),
            with_key("FIRST-KEY"),
            with_key("first-key second-key"),
            with_key("first-key", "Basic"),
            with_key("é"),
            {"headers": {"Authorization": "first-key"}},
            {"headers": {"X-Api-Key": "first-key"}},
        ):
            assert server.send("POST", PREDICT, BODY, **wrong) == (401, message)
        # For probes.
        for path in ("/", "/v2/health/live", "/v2/health/ready"):
            assert server.send("GET", path)[0] == 200
            assert server.send("POST", path, "{}")[0] == 401
        # All else, of what is there and what is not.
        for path in (
            *("/metrics", "/v1/models", "/v1/models/model", "/v1/models/model/metadata"),
            *("/v2", "/v2/models", "/v2/models/model", "/v2/models/model/ready"),
            *("/nowhere", "/docs", "/openapi.json", "//", "/v2/health/live/"),
        ):
            assert server.send("GET", path) == (401, message)
        for path in ("/v2/models/model/infer", "/v1/models/model/versions/1:predict", "/x"):
            assert server.send("POST", path, BODY) == (401, message)
        # Before the body: none is read of whoever has no key.
        large = b" " * 2_000_000
        assert server.send("POST", PREDICT, large) == (401, message)
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("GET", "/v1/models")
        assert connection.getresponse().getheader("WWW-Authenticate") == "Bearer"
        connection.close()


def test_keys_come_and_go_without_a_restart(model, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("old")

    def statuses(server):
        return [server.send("POST", PREDICT, BODY, **with_key(k))[0] for k in ("old", "new")]

    with serving(model, tmp_path / "log", "--api_key_file", str(keys)) as server:
        assert statuses(server) == [200, 401]
        keys.write_text("old\nnew\n")
        assert statuses(server) == [200, 200]
        (tmp_path / "next").write_text("new\n")
        (tmp_path / "next").rename(keys)
        assert statuses(server) == [401, 200]
        # What makes no sense changes nothing, and neither does a file that is gone.
        keys.write_text("")
        assert statuses(server) == [401, 200]
        keys.unlink()
        assert statuses(server) == [401, 200]
        assert server.log().count("the keys stay as they were") == 2
        keys.write_text("old")
        assert statuses(server) == [200, 401]
        assert "old" not in server.log().replace("keys stay as they were", "")


def test_https(model, tmp_path, certificates):
    first, second = certificates
    for file in ("cert.pem", "key.pem"):
        (tmp_path / file).write_bytes((first / file).read_bytes())
    files = ("--tls_cert", str(tmp_path / "cert.pem"), "--tls_key", str(tmp_path / "key.pem"))
    with serving(model, tmp_path / "log", *files) as server:
        trusted = ssl.create_default_context(cafile=first / "cert.pem")
        connection = http.client.HTTPSConnection(
            "127.0.0.1", server.port, context=trusted, timeout=60
        )
        connection.request("POST", PREDICT, BODY)
        answer = connection.getresponse()
        assert answer.status == 200
        assert len(json.loads(answer.read())["predictions"]) == 1
        connection.close()
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            server.send("GET", "/")
        other = ssl.create_default_context(cafile=second / "cert.pem")
        with pytest.raises(ssl.SSLCertVerificationError):
            http.client.HTTPSConnection("127.0.0.1", server.port, context=other).connect()
        # A new certificate needs no restart.
        for file in ("key.pem", "cert.pem"):
            (tmp_path / file).write_bytes((second / file).read_bytes())
        deadline = time.monotonic() + 60
        while True:
            connection = http.client.HTTPSConnection("127.0.0.1", server.port, context=other)
            try:
                connection.connect()
                break
            except ssl.SSLError:
                assert time.monotonic() < deadline, server.log()
                time.sleep(0.1)
        connection.close()


def test_options_that_make_no_sense(model, tmp_path, certificates):
    """Each before the model is loaded, so that it costs no time."""
    cert, key = certificates[0] / "cert.pem", certificates[0] / "key.pem"
    empty, two_words, binary = (tmp_path / name for name in ("empty", "words", "binary"))
    empty.write_text("\n \n")
    two_words.write_text("good\ntwo words\n")
    binary.write_bytes(b"\xff\xfe\x00")
    gone = tmp_path / "gone"
    cases = [
        (["--api_key_file", gone], f"--api_key_file {gone}: No such file or directory"),
        (["--api_key_file", tmp_path], f"--api_key_file {tmp_path}: Is a directory"),
        (["--api_key_file", empty], f"--api_key_file {empty}: expected a key a line"),
        (["--api_key_file", two_words], f"--api_key_file {two_words}, line 2: a key must be"),
        (["--api_key_file", binary], f"--api_key_file {binary}, line 1: a key must be"),
        (["--tls_cert", cert], "--tls_cert and --tls_key belong together"),
        (["--tls_key", key], "--tls_cert and --tls_key belong together"),
        (["--tls_cert", gone, "--tls_key", key], f"--tls_cert {gone}: No such file"),
        (["--tls_cert", cert, "--tls_key", tmp_path], f"--tls_key {tmp_path}: Is a directory"),
        (["--tls_cert", cert, "--tls_key", certificates[1] / "key.pem"], "expected a certificate"),
        (["--tls_cert", cert, "--tls_key", certificates[0] / "locked.pem"], "without a password"),
        (["--tls_cert", empty, "--tls_key", key], "expected a certificate and its private key"),
    ]
    if os.geteuid():  # root reads what it likes
        secret = tmp_path / "secret"
        secret.write_text("key")
        secret.chmod(0)
        cases.append((["--api_key_file", secret], f"--api_key_file {secret}: Permission denied"))
    for options, reason in cases:
        server = start(tmp_path / "nothing", tmp_path / "log", *map(str, options))
        assert server.process.wait(timeout=60) == 2, options
        assert f"error: {reason}" in server.log() or reason in server.log().splitlines()[-1]
        assert "Traceback" not in server.log()
