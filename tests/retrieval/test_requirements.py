"""What is missing is named with its fix, in processes that miss it."""

import os
import re
import subprocess
import sys

import pytest

HIDE = (
    "import importlib.util as util; find = util.find_spec; "
    "util.find_spec = lambda name, *args: None if name == {!r} else find(name, *args); "
)


@pytest.mark.parametrize(
    ("environment", "before", "message"),
    [
        ({"TF_USE_LEGACY_KERAS": ""}, "", "TF_USE_LEGACY_KERAS=1 before TensorFlow"),
        (
            {"TF_USE_LEGACY_KERAS": "1"},
            HIDE.format("tensorflow_recommenders"),
            'needs tensorflow_recommenders.*pip install "tfrs-croloss\\[tfrs\\]"',
        ),
        (
            {"TF_USE_LEGACY_KERAS": "1"},
            HIDE.format("tf_keras"),
            'needs tf_keras.*pip install "tfrs-croloss\\[tfrs\\]"',
        ),
    ],
)
def test_missing(environment, before, message):
    run = python(f"{before}import tfrs_croloss.retrieval", environment)
    last_line = run.stderr.strip().splitlines()[-1]
    assert last_line.startswith("ImportError: ")
    assert re.search(message, last_line)


def test_the_losses_need_keras_alone():
    blocked = ["tensorflow_recommenders", "tf_keras", "pandas", "pyarrow", "scipy", "scann"]
    block = "".join(f"sys.modules[{name!r}] = None; " for name in blocked)
    code = (
        f"import sys; {block}"
        "import tfrs_croloss; import numpy as np; "
        "print(float(tfrs_croloss.CROLoss()(np.eye(2), np.eye(2))))"
    )
    run = python(code, {"TF_USE_LEGACY_KERAS": ""})
    assert run.returncode == 0, run.stderr
    assert 0 < float(run.stdout) < 1


def python(code, environment):
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
