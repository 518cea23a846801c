"""A server in a process and an environment of its own, and how to ask it."""

import contextlib
import http.client
import json
import os
import subprocess
import time
from pathlib import Path

from tfrs_croloss.commands.training.cluster import free_ports

ROOT = Path(__file__).parent.parent.parent
PYTHON = ROOT / ".venv-serving" / "bin" / "python"
PREDICT = "/v1/models/model:predict"
# Stands in a request for lists in lists, which Python's own encoder would not write.
NESTED = "nested"


class Server:
    """What the tests know of a server: its process, its port and its log."""

    def __init__(self, process, port, log):
        self.process = process
        self.port = port
        self._log = log

    def send(self, method, path, body=None, **options):
        """The status and the JSON of an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, body, **options)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read(), parse_constant=_refuse)

    def ask(self, request):
        """The answer to a request that makes sense."""
        status, answer = self.send("POST", PREDICT, json.dumps(request))
        assert status == 200, answer
        return answer

    def refuse(self, request):
        """What is wrong with a request that makes none."""
        status, answer = self.send("POST", PREDICT, as_json(request))
        assert status == 400, answer
        assert answer.keys() == {"error"}
        return answer["error"]

    def log(self):
        return self._log.read_text()

    def wait_for(self, text, times=1):
        """Waits until the log has a text."""
        deadline = time.monotonic() + 60
        while self.log().count(text) < times:
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < deadline, self.log()
            time.sleep(0.05)


def as_json(request):
    """The text of a request, with what `NESTED` stands for."""
    return json.dumps(request).replace(json.dumps(NESTED), "[" * 1000 + "1" + "]" * 1000)


def start(model, log, *options, port=None):
    """A process that serves, or does not."""
    port = port or free_ports(1)[0]
    command = [PYTHON, "-m", "tfrs_croloss_cli", "serve", "--model", model]
    command += ["--port", str(port), *options]
    with log.open("w") as file:
        # This environment's settings are not the server's.
        environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=file, stderr=subprocess.STDOUT
        )
    return Server(process, port, log)


@contextlib.contextmanager
def serving(model, log, *options):
    """A server that answers, for as long as the block takes."""
    server = start(model, log, *options)
    try:
        server.wait_for("Uvicorn running on")
        yield server
    finally:
        server.process.kill()
        server.process.wait()


def _refuse(constant):
    raise ValueError(f"{constant} is no JSON")
