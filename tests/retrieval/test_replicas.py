"""The task on 2 and 4 replicas: losses, steps, memories and models as of one device."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("num_replicas", [2, 4])
def test_replicas_train_as_one_device_with_the_whole_batch(num_replicas):
    check("tests.retrieval.task_on_replicas", num_replicas)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["steps", "models"])
def test_rows_and_candidates_on_replicas(kind):
    check("tests.retrieval.structures_on_replicas", 2, kind)


def check(module, num_replicas, *options):
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", module, str(num_replicas), *options]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-1000:] + done.stderr[-3000:]
