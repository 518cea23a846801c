"""The losses in TFRS's task under `tf.distribute`."""

import subprocess
import sys
from pathlib import Path


def test_two_replicas_step_as_the_formulas_say():
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-m", "tests.retrieval.two_replicas"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
