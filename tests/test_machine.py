"""What a process says of its memory is its own."""

import subprocess
import sys
from pathlib import Path

import pytest

import tfrs_croloss

MACHINE = Path(tfrs_croloss.__file__).with_name("_machine.py")


def peak_of(statement):
    """The peak in MB of a Python that ran a statement, started by this one, which has more."""
    code = f"import runpy; {statement}; print(runpy.run_path({str(MACHINE)!r})['peak_memory_mb']())"
    command = [sys.executable, "-S", "-c", code]
    return float(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


def test_the_peak_is_not_that_of_the_process_that_started_it():
    bare = peak_of("pass")
    assert 1 < bare < 100
    # Freed again, and still the most that there was.
    assert peak_of("b'x' * 300_000_000") - bare == pytest.approx(300, abs=30)
