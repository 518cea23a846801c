"""The root of the package: the losses at once, but for the command."""

import subprocess
import sys

import pytest

import tfrs_croloss
from tests.pages import ROOT


def said(code):
    """What a process says that has imported nothing yet."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.mark.parametrize("names", ["tfrs_croloss, keras", "keras, tfrs_croloss"])
def test_a_saved_model_finds_its_losses(names):
    """Nothing of the package is asked for by name there."""
    code = (
        f"import {names}; found = keras.saving.get_registered_object\n"
        "print(found('tfrs_croloss>CROLoss').__name__, found('tfrs_croloss>PowerLaw').__name__)"
    )
    assert said(code) == "CROLoss PowerLaw"


def test_in_the_command_keras_comes_with_the_first_loss():
    code = (
        "import tfrs_croloss_cli, tfrs_croloss, sys; print('keras' in sys.modules, end=' ')\n"
        "loss = tfrs_croloss.CROLoss\n"
        "import keras; print(keras.saving.get_registered_object('tfrs_croloss>CROLoss') is loss)"
    )
    assert said(code) == "False True"


def test_its_names():
    for name in tfrs_croloss.__all__:
        assert getattr(tfrs_croloss, name) is getattr(tfrs_croloss.losses, name)
    assert {*tfrs_croloss.__all__, "losses", "__version__"} <= set(dir(tfrs_croloss))
    for first in ("sys", "tfrs_croloss_cli"):
        code = f"import {first}; from tfrs_croloss import *; print(CROLoss.__name__)"
        assert said(code) == "CROLoss"
    with pytest.raises(AttributeError, match="module 'tfrs_croloss' has no attribute 'CroLoss'"):
        _ = tfrs_croloss.CroLoss
