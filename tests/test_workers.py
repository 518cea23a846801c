"""The plugin that replaces the workers of pytest-xdist."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NUM_FILES, NUM_TESTS = 3, 10
HUNGRY = """
import os
import pytest

KEPT = []

@pytest.mark.parametrize("number", range(10))
def test_hungry(number):
    KEPT.append(os.urandom(20 * 2**20))
    open(f"{os.getpid()}.worker", "w").close()
    workers = [name.removesuffix(".worker") for name in os.listdir() if name.endswith(".worker")]
    # Those that are replaced end, and give their memory back; one may be about to.
    if os.environ.get("PYTEST_XDIST_WORKER_COUNT") == "1":
        assert sum(resident(pid) > 0 for pid in workers) <= 3

def resident(pid):
    try:
        return int(open(f"/proc/{pid}/statm").read().split()[1])
    except FileNotFoundError:
        return 0
"""


@pytest.fixture
def run(tmp_path):
    """Runs files of tests that each keep 20 MB, with other limits; gives exit code and output."""
    for number in range(NUM_FILES):
        (tmp_path / f"test_{number}.py").write_text(HUNGRY)

    def pytest_on_it(limit, *options):
        (tmp_path / "limits.py").write_text(
            "from tests import workers\n"
            f"workers.LIMIT, workers.FULL, workers.PART = {limit}, 120, 4\n"
        )
        command = [sys.executable, "-m", "pytest", "-p", "tests.workers", "-p", "limits"]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
        environment["PYTHONPATH"] = os.pathsep.join((str(ROOT), str(tmp_path)))
        done = subprocess.run(
            [*command, "--dist", "loadfile", "--rootdir", str(tmp_path), *options, str(tmp_path)],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout

    return pytest_on_it


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_workers_are_replaced_before_they_hold_much(run, workers):
    # All in one would hold 600 MB.
    code, said = run(400, f"-n{workers}")
    assert code == 0
    assert f"{NUM_FILES * NUM_TESTS} passed" in said.splitlines()[-1]
    peaks = [int(mb) for mb in re.findall(r"gw\d+ (\d+)", said.split("Peak memory in MB:")[1])]
    assert len(peaks) > 2
    assert max(peaks) < 400


def test_more_than_the_limit_fails(run):
    code, said = run(100, "-n1")
    assert code == 1
    assert "error: a process held more than 100 MB" in said
    assert "passed" in said.splitlines()[-1]


def test_the_process_of_a_debugger_is_not_held_to_it(run):
    code, said = run(100, "-n0")
    assert code == 0
    assert "Peak memory in MB: this process" in said
