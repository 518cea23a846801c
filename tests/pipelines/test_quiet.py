"""The commands in a process of their own, as a person has them: nothing but our own words."""

import os
import subprocess
import sys

import pytest

INFO = "I0000 00:00:1796054324.205513   27202 device_compiler.h:196] Compiled cluster using XLA!"
ABSL = "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR"
ERROR = "E0000 00:00:1796054324.205513   27202 cuda_dnn.cc:8579] Unable to register cuDNN factory"
FATAL = "F0000 00:00:1796054324.205513   27202 tensor.cc:852] Check failed: 1 == 2"


@pytest.fixture(scope="module")
def environment():
    """Without what keeps TensorFlow quiet in tests."""
    return {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}


def stderr_of(command, environment):
    done = subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, check=True
    )
    # Of a bar that was drawn again and again, each drawing.
    return [line for line in done.stderr.replace("\r", "\n").splitlines() if line.strip()]


def test_the_commands(train_options, tmp_path, environment):
    runs = ["--runs", str(tmp_path), "--name", "quiet"]
    said = stderr_of(
        ["-m", "tfrs_croloss_cli", *train_options, "--epochs", "1", *runs], environment
    )
    assert said
    assert all(line.startswith("quiet:") for line in said)
    run = ["--run", str(tmp_path / "quiet")]
    evaluate = ["-m", "tfrs_croloss_cli", "evaluate", *run, "--index", "scann"]
    assert stderr_of(evaluate, environment) == []
    assert stderr_of(["-m", "tfrs_croloss_cli", "export", *run], environment) == []
    model = ["--model", str(tmp_path / "quiet" / "export"), "--users", "u1"]
    assert stderr_of(["-m", "tfrs_croloss_cli", "recommend", *model], environment) == []


def run_quietly(code, environment):
    """A process that runs lines of code with a quiet stderr."""
    lines = [
        "import os, sys, tfrs_croloss_cli",
        "from tfrs_croloss.commands.quiet import quiet_stderr",
        "with quiet_stderr():",
    ]
    code = "\n".join([*lines, *(f"    {line}" for line in code)])
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_errors_come_through_from_a_process_that_crashes(environment):
    lines = "\n".join((ABSL, INFO, ERROR, INFO, FATAL)) + "\n"
    done = run_quietly([f"os.write(2, {lines.encode()!r})", "os.abort()"], environment)
    assert done.returncode < 0
    assert done.stderr.splitlines() == [ERROR, FATAL]


def test_python_writes_as_before(environment):
    code = [f"print({INFO!r}, file=sys.stderr)", "os.write(2, b'of C')", "raise KeyError('ours')"]
    done = run_quietly(code, environment)
    assert done.returncode == 1
    said = done.stderr.splitlines()
    assert {INFO, "of C", "KeyError: 'ours'"} <= set(said)


def test_who_asks_for_everything_gets_it(environment):
    code = [f"os.write(2, {(INFO + chr(10)).encode()!r})"]
    done = run_quietly(code, {**environment, "TF_CPP_MIN_LOG_LEVEL": "0"})
    assert done.stderr.splitlines() == [INFO]
