"""A cluster on this machine: workers are started, watched, and started again when one dies.

Where something else starts the workers (Kubernetes, Vertex AI), it does all this, and sets
TF_CONFIG.
"""

import contextlib
import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

COMMAND = [sys.executable, "-m", "tfrs_croloss_cli", "train"]
# The process that started a worker, in the worker's environment.
LAUNCHER = "PIPELINES_LAUNCHER"
# For each worker to import TensorFlow and listen on its port; reading the data comes after.
STARTUP_SECONDS = 300
# Starts in a row that brought no new checkpoint.
MAX_STARTS = 4
# For worker 0 to find the error that another has found in the options or the data.
LAST_WORDS_SECONDS = 5
# Exit codes of an error that starting again does not mend, and of the rest.
MENDABLE_BY_THE_READER, OTHER = 2, 1


def launch(config):
    """Trains what `config` says with `config.workers` processes; returns the complete `Run`.

    Worker 0 shows its progress and prints the results. When a worker dies, the collectives of the
    others fail or hang: all are ended, and started again from the last checkpoint.

    Raises:
        SystemExit: With the exit code, where the workers can't end the run; what they said of it
            is on stderr.
    """
    # This import is a heavy one, and a worker asks for `end_with_launcher` before any such.
    from tfrs_croloss.commands.experiment.runs import Run

    run = Run.create(config)
    fruitless = 0
    with _signals() as received:
        while True:
            saved = _last_checkpoint(run)
            dead = _start_all(run, config.workers, received)
            if dead is None:
                return run
            code = dead.process.returncode
            if code == MENDABLE_BY_THE_READER:
                dead.say_last_words()
                sys.exit(code)
            reason = f"worker {dead.index} of {config.workers} {dead.how_it_ended()}"
            fruitless = 0 if _last_checkpoint(run) != saved else fruitless + 1
            if fruitless == MAX_STARTS:
                dead.say_last_words()
                print(
                    f"error: {reason}, and {MAX_STARTS} starts in a row brought no new checkpoint."
                    " Mend what it says above; if there is too little time between two failures, "
                    "lower --save_every",
                    file=sys.stderr,
                )
                sys.exit(OTHER)
            print(f"\n{reason}; all start again from the last checkpoint", file=sys.stderr)


def end_with_launcher():
    """Ends this process when the launcher that started it ends, even by kill -9."""
    launcher = os.environ.get(LAUNCHER)
    if launcher is None:
        return
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != int(launcher):  # It ended before we asked.
        os.kill(os.getpid(), signal.SIGKILL)


@contextlib.contextmanager
def _signals():
    """A list of the signals to stop by that came.

    They raise nothing: in the middle of a start or an end, that would leave a worker behind.
    """
    received = []
    before = {
        number: signal.signal(number, lambda number, _: received.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _start_all(run, num_workers, received):
    """Runs the workers until all end well, which gives None, or until one dies: that one."""
    ports = free_ports(num_workers)
    gpus = _gpus()
    each = len(gpus) // num_workers
    workers = []
    try:
        for index in range(num_workers):
            own = gpus[index * each : (index + 1) * each]
            workers.append(_Worker(index, ports, run.config_path, own))
        return _first_dead(workers, received)
    finally:
        for worker in workers:
            worker.end()


def _first_dead(workers, received):
    deadline = time.monotonic() + STARTUP_SECONDS
    starting = list(workers)
    while any(worker.process.poll() != 0 for worker in workers):
        if signal.SIGINT in received:
            raise KeyboardInterrupt
        if received:
            sys.exit(128 + received[0])
        dead = [worker for worker in workers if worker.process.poll()]
        if any(worker.process.poll() == MENDABLE_BY_THE_READER for worker in dead):
            return _mendable(workers)
        if dead:
            # Of several the one that was killed: the others failed for want of it.
            return min(dead, key=lambda worker: worker.process.returncode)
        starting = [worker for worker in starting if not worker.listens()]
        if starting and time.monotonic() > deadline:
            starting[0].is_late = True
            return starting[0]
        time.sleep(0.1)
    return None


def _mendable(workers):
    """The worker whose error the reader can mend; if all have it worker 0, who has shown it."""
    deadline = time.monotonic() + LAST_WORDS_SECONDS
    while time.monotonic() < deadline and workers[0].process.poll() is None:
        time.sleep(0.1)
    return next(w for w in workers if w.process.poll() == MENDABLE_BY_THE_READER)


class _Worker:
    """A process of the cluster, and the last of what it wrote to stderr."""

    def __init__(self, index, ports, config_path, gpus):
        self.index, self.port = index, ports[index]
        self.is_late = False
        cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
        task = {"type": "worker", "index": index}
        self.process = subprocess.Popen(
            [*COMMAND, "--config", str(config_path)],
            env={
                **os.environ,
                "TF_CONFIG": json.dumps({"cluster": cluster, "task": task}),
                "CUDA_VISIBLE_DEVICES": ",".join(gpus),
                LAUNCHER: str(os.getpid()),
            },
            stdin=subprocess.DEVNULL,
            stdout=None if index == 0 else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            # Ctrl-C in a terminal is for the launcher alone, which then ends the workers.
            start_new_session=True,
        )
        self._words = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def listens(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def end(self):
        # Nothing is lost that a checkpoint has not: these are written whole or not at all.
        self.process.kill()
        self.process.wait()
        self._reader.join()

    def how_it_ended(self):
        if self.is_late:
            return f"did not start within {STARTUP_SECONDS} s"
        code = self.process.returncode
        return f"died of signal {-code}" if code < 0 else f"died with exit code {code}"

    def say_last_words(self):
        """Writes what it said last to stderr; worker 0 has said it there already."""
        if self.index != 0:
            sys.stderr.write(self._words.decode(errors="replace"))

    def _read(self):
        while chunk := self.process.stderr.read1(65536):
            self._words = (self._words + chunk)[-8192:]
            if self.index == 0:
                sys.stderr.write(chunk.decode(errors="replace"))
                sys.stderr.flush()


def free_ports(number):
    # All are open at once, so that no two are the same.
    sockets = [socket.socket() for _ in range(number)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _gpus():
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [gpu for gpu in visible.split(",") if gpu]
    return sorted(re.findall(r"\d+", " ".join(p.name for p in Path("/dev").glob("nvidia[0-9]*"))))


def _last_checkpoint(run):
    """Changes with every checkpoint: TensorFlow's note of the latest, with its time."""
    note = run.checkpoints / "last" / "checkpoint"
    return note.read_bytes() if note.exists() else None
