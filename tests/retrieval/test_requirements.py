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
# JAX need not be there: what Keras says of its backend is enough.
JAX = "import os; os.environ['KERAS_BACKEND'] = 'tensorflow'; import keras; "
JAX += "keras.backend.backend = lambda: 'jax'; "


@pytest.mark.parametrize(
    ("part", "environment", "before", "message"),
    [
        ("retrieval", {"TF_USE_LEGACY_KERAS": ""}, "", "TF_USE_LEGACY_KERAS=1 before TensorFlow"),
        (
            "retrieval",
            {"TF_USE_LEGACY_KERAS": "1"},
            HIDE.format("tensorflow_recommenders"),
            'needs tensorflow_recommenders.*pip install "tfrs-croloss\\[tfrs\\]"',
        ),
        (
            "retrieval",
            {"TF_USE_LEGACY_KERAS": "1"},
            HIDE.format("tf_keras"),
            'needs tf_keras.*pip install "tfrs-croloss\\[tfrs\\]"',
        ),
        ("data", {}, HIDE.format("pandas"), 'tfrs_croloss.data needs pandas.*"tfrs-croloss'),
        ("tuning", {}, HIDE.format("keras_tuner"), 'tuning needs keras_tuner.*"tfrs-croloss.tune.'),
        ("index", {}, HIDE.format("scipy"), 'tfrs_croloss.index needs scipy.*"tfrs-croloss'),
        ("retrieval", {"KERAS_BACKEND": "jax"}, JAX, "KERAS_BACKEND=tensorflow before Keras"),
    ],
)
def test_missing(part, environment, before, message):
    run = python(f"{before}import tfrs_croloss.{part}", environment)
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
