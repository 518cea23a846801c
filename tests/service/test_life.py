"""How a server starts, or does not, and how it ends."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from tests.service.exports import K, data_of, exact, model_of, users_of
from tests.service.server import PREDICT, PYTHON, ROOT, serving, start
from tfrs_croloss.commands.cli import main
from tfrs_croloss.serving import export_model


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder, data = tmp_path_factory.mktemp("made"), data_of("integer")
    model = model_of(data)
    export_model(model, data, folder, k=K)
    return folder, data.users.ids.tolist(), exact(data, model, users_of(data, model), data.train)[0]


def begin(port, body):
    """A connection with a request that the server has begun: it asks for the body."""
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    connection.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
    asked = b"HTTP/1.1 100 Continue\r\n\r\n"
    if connection.recv(len(asked), socket.MSG_WAITALL) != asked:
        raise ConnectionResetError
    return connection


def finish(connection, body):
    """The items that it answers to the body."""
    with connection:
        connection.sendall(body)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status == 200
        return json.loads(answer.read())["outputs"]["item_ids"]


def test_sigterm_finishes_what_is_in_flight(made, tmp_path):
    folder, users, ids = made
    body = json.dumps({"inputs": users}).encode()
    begun, answers = [], []

    def load():
        while True:
            try:
                connection = begin(server.port, body)
            except OSError:
                return  # it begins no more
            begun.append(connection)
            answers.append(finish(connection, body))

    with serving(folder, tmp_path / "log") as server:
        clients = [threading.Thread(target=load) for _ in range(4)]
        for client in clients:
            client.start()
        idle = socket.create_connection(("127.0.0.1", server.port))
        half = begin(server.port, body)
        deadline = time.monotonic() + 60
        while len(answers) < 10:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        started = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("Waiting for connections to close")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port))
        # It was begun before the signal, so it is finished after it.
        answers.append(finish(half, body))
        assert server.process.wait(timeout=20) == 0
        assert time.monotonic() - started < 20
        for client in clients:
            client.join()
        idle.close()
    # Each that was begun, and the half one.
    assert len(answers) == len(begun) + 1
    assert all(answer == ids.tolist() for answer in answers)


def test_control_c_ends_it_quietly(made, tmp_path):
    with serving(made[0], tmp_path / "log") as server:
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(timeout=20) == 0
        assert "Traceback" not in server.log()


def test_without_a_model(tmp_path):
    server = start(tmp_path / "nothing", tmp_path / "log")
    assert server.process.wait(timeout=60) == 2
    assert server.log().splitlines()[-1] == (
        f"error: {tmp_path}/nothing: expected a folder with a version that loads, as "
        f"{tmp_path}/nothing/1/saved_model.pb. Write one with `tfrs-croloss export`"
    )


def test_where_kserve_is_missing(made):
    """This environment has none."""
    done = subprocess.run(
        [sys.executable, "-m", "pipelines.serve", "--model", str(made[0])],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "`tfrs-croloss serve` needs kserve" in done.stderr


def test_it_loads_neither_keras_nor_the_losses(made):
    """All that it imports to serve, up to the moment when it would listen."""
    code = (
        "import sys, tfrs_croloss_cli\n"
        "from kserve.protocol.rest.server import RESTServer\n"
        "from tfrs_croloss.commands import cli\n"
        "RESTServer.run = lambda server: print(*sys.modules)\n"
        f"cli.main(['serve', '--model', {str(made[0])!r}])"
    )
    done = subprocess.run(
        [PYTHON, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    modules = set(done.stdout.split())
    assert {"tensorflow", "kserve", "tfrs_croloss.commands.service.versions"} <= modules
    assert not {"keras", "tf_keras", "tfrs_croloss.losses", "scann"} & modules


@pytest.mark.parametrize(
    "option",
    [
        "--port=99999999",
        "--port=-1",
        "--max_rows=0",
        "--max_body_bytes=-1",
        "--poll_seconds=0",
        "--poll_seconds=nan",
        "--poll_seconds=inf",
        "--name=a/b",
        "--name=",
    ],
)
def test_options_out_of_their_range(option, capsys):
    name, value = option.removeprefix("--").split("=")
    with pytest.raises(SystemExit) as ended:
        main(["serve", "--model", "nowhere", option])
    assert ended.value.code == 2
    message = capsys.readouterr().err
    assert f'"{name}"' in message
    assert f"{value} does not" in message
