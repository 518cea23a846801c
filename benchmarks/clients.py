"""The clients of `benchmarks.serving`: they start a server, load it, and check every answer.

Run in the server's environment, which has what a client needs; `benchmarks.serving` does.
"""

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import aiohttp
import numpy as np
import orjson
import psutil

from benchmarks.expected import Expected
from tfrs_croloss.commands.training.cluster import free_ports

CONCURRENCIES = (1, 2, 4, 8, 16, 32)
# For the swap, the long run and the end.
BUSY = 8
UNANSWERED = (aiohttp.ClientConnectionError, ConnectionError)


class Load:
    """Clients that each wait for an answer before they ask again.

    Args:
        session: An `aiohttp.ClientSession`.
        address: Of the model.
        expected: `Expected`.
        k: Items a user.
    """

    def __init__(self, session, address, expected, k):
        self._session = session
        self._address = f"{address}:predict"
        self._expected = expected
        self._bodies = [
            orjson.dumps({"inputs": {"user_ids": [user], "k": k}}) for user in expected.users
        ]
        order = np.random.default_rng(0).permutation(len(self._bodies)).tolist()
        self._next = itertools.cycle(order)
        self.answers = 0
        # Of which refused: not sent, for want of a connection.
        self.failures = 0
        self.refused = 0
        self.wrong = 0
        self.version = 1

    async def run(self, clients, until):
        """The seconds of each answer, and of all of them, until a function says so."""
        seconds, start = [], time.perf_counter()
        await asyncio.gather(*(self._client(seconds, until) for _ in range(clients)))
        return np.array(seconds), time.perf_counter() - start

    async def _client(self, seconds, until):
        while not until():
            user = next(self._next)
            start = time.perf_counter()
            try:
                async with self._session.post(self._address, data=self._bodies[user]) as got:
                    content = await got.read()
            except UNANSWERED as error:
                self.failures += 1
                self.refused += isinstance(error, aiohttp.ClientConnectorError)
                continue
            seconds.append(time.perf_counter() - start)
            self.answers += 1
            self._check(user, got.status, content)

    def _check(self, user, status, content):
        if status != 200:
            self.failures += 1
            return
        found = orjson.loads(content)["outputs"]
        versions = self._expected.versions(user, found["item_ids"][0], found["scores"][0])
        self.wrong += not versions
        # Where both answer the same, it tells nothing of the new one.
        self.version = min(versions, default=self.version)


async def measure(folder, k, seconds, requests):
    """All measurements, as a dict."""
    model = folder / "model"
    expected = Expected(folder / "expected.npz", k)
    (port,) = free_ports(1)
    address = f"http://127.0.0.1:{port}/v1/models/model"
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "pipelines", "serve", "--model", model, "--port", str(port)],
            stdout=log,
            stderr=log,
        )
    connector = aiohttp.TCPConnector(limit=0)
    try:
        async with aiohttp.ClientSession(connector=connector) as session:
            ready = await _ready(session, address, server, folder / "log")
            load = Load(session, address, expected, k)
            await load.run(BUSY, _after(seconds=1))
            results = {
                "versions": {name: version(name) for name in ("kserve", "tensorflow", "uvicorn")},
                "users": len(expected.users),
                "k": k,
                "busy": BUSY,
                "ready_seconds": ready,
                "load": [await _level(load, clients, seconds) for clients in CONCURRENCIES],
                "swap": await _swap(load, model, folder / "next"),
                "memory": await _memory(load, server, requests),
            }
            results |= {"answers": load.answers, "failed": load.failures, "wrong": load.wrong}
            results["end"] = await _end(load, server)
            return results
    finally:
        server.kill()


async def _ready(session, address, server, log):
    start = time.perf_counter()
    while True:
        try:
            async with session.get(address) as got:
                if got.status == 200:
                    return time.perf_counter() - start
        except UNANSWERED:
            if server.poll() is not None:
                raise RuntimeError(log.read_text()) from None
        await asyncio.sleep(0.05)


async def _level(load, clients, seconds):
    """Latency and throughput with so many clients."""
    found, elapsed = await load.run(clients, _after(seconds))
    row = {"clients": clients, "requests_per_second": len(found) / elapsed, **_percentiles(found)}
    _say(f"{clients:3} clients: {row['requests_per_second']:.0f}/s, p99 {row['p99_ms']:.1f} ms")
    return row


async def _swap(load, model, after):
    """A new version under load: what fails, and how long the old one still answers."""
    failed, wrong = load.failures, load.wrong
    start = time.perf_counter()
    after.rename(model / "2")
    taken = []

    def is_over():
        if load.version == 2 and not taken:
            taken.append(time.perf_counter() - start)
        return time.perf_counter() - start > (taken[0] + 1 if taken else 60)

    found, _ = await load.run(BUSY, is_over)
    row = {
        "requests": len(found),
        "failed": load.failures - failed,
        "wrong": load.wrong - wrong,
        "seconds": taken[0] if taken else None,
        **_percentiles(found),
    }
    _say(f"new version: {row}")
    return row


async def _memory(load, server, requests):
    """The server's memory every tenth of the requests that are left of so many."""
    process, rows = psutil.Process(server.pid), []
    step = max(requests - load.answers, 10) // 10
    for _ in range(11):
        rows.append({"requests": load.answers, "mib": process.memory_info().rss / 2**20})
        _say(f"{load.answers} requests: {rows[-1]['mib']:.0f} MiB")
        if len(rows) < 11:
            target = load.answers + step
            await load.run(BUSY, lambda target=target: load.answers >= target)
    return rows


async def _end(load, server):
    """SIGTERM under load: who was waiting for an answer, and got one."""
    answers, failures, sent = load.answers, load.failures, []
    unanswered = load.failures - load.refused

    def is_over():
        if not sent and load.answers - answers > 100:
            server.send_signal(signal.SIGTERM)
            sent.append((time.perf_counter(), load.answers))
        # Each client goes on until it is refused.
        return load.failures - failures >= BUSY

    await load.run(BUSY, is_over)
    code = await asyncio.to_thread(server.wait, 60)
    row = {
        "seconds": time.perf_counter() - sent[0][0],
        "exit_code": code,
        "answered": load.answers - sent[0][1],
        "sent_and_unanswered": load.failures - load.refused - unanswered,
        "wrong": load.wrong,
    }
    _say(f"SIGTERM: {row}")
    return row


def _after(seconds):
    end = time.perf_counter() + seconds
    return lambda: time.perf_counter() > end


def _percentiles(seconds):
    return {f"p{p}_ms": 1e3 * float(np.percentile(seconds, p)) for p in (50, 95, 99)}


def _say(line):
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    path, k, seconds, requests = sys.argv[1:]
    found = asyncio.run(measure(Path(path), int(k), float(seconds), int(requests)))
    print(json.dumps(found | {"cpus": len(os.sched_getaffinity(0))}))
