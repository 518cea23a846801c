"""The tools of those who work on the project: one version of each, and types on what users call."""

import ast
import os
import re
import shutil
import subprocess
import sys

import pytest

from tests.pages import ROOT, make


def test_pre_commit_refuses_what_ci_would(tmp_path):
    for name in (".pre-commit-config.yaml", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    # A hook of the run that this test is in has variables of its own, and its user a configuration.
    environment = {
        name: x for name, x in os.environ.items() if not name.startswith(("GIT_", "SKIP"))
    }
    environment |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    environment["PRE_COMMIT_HOME"] = str(tmp_path / "cache")

    def run(*command, returncode=0):
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == returncode, done.stdout + done.stderr
        return done.stdout + done.stderr

    commit = ("git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-m", "a module")
    run("git", "init")
    run(".venv/bin/pre-commit", "install")
    (tmp_path / "module.py").write_text('"""A module."""\n\nimport os\n\nwidths = {  }\n')
    run("git", "add", "module.py")
    said = run(*commit, returncode=1)
    assert re.search(r"ruff check\.+Failed", said)
    assert re.search(r"ruff format\.+Failed", said)
    # What has a safe fix is mended, and only has to be added.
    run("git", "add", "module.py")
    run(*commit)
    assert (tmp_path / "module.py").read_text() == '"""A module."""\n\nwidths = {}\n'


def public():
    """What the packages export and a caller calls: functions, and classes by their constructors."""
    for init in sorted(ROOT.glob("tfrs_croloss/*/__init__.py")):
        if init.parent.name == "commands":  # which export nothing
            continue
        names = next(
            ast.literal_eval(node.value)
            for node in ast.parse(init.read_text()).body
            if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"
        )
        for path in init.parent.glob("*.py"):
            for node in ast.parse(path.read_text()).body:
                if getattr(node, "name", None) not in names:
                    continue
                parts = node.body if isinstance(node, ast.ClassDef) else [node]
                for part in parts:
                    if isinstance(part, ast.FunctionDef) and part.name in ("__init__", node.name):
                        yield pytest.param(part, id=f"{init.parent.name}.{node.name}")


@pytest.mark.parametrize("function", list(public()))
def test_public_signatures_have_types(function):
    arguments = function.args
    named = [*arguments.args, *arguments.kwonlyargs, arguments.kwarg]
    untyped = [x.arg for x in named if x and x.arg != "self" and x.annotation is None]
    assert not untyped


@pytest.mark.parametrize(
    ("named", "environments"),
    [
        ("", {".venv", ".venv-serving", ".venv-backends"}),
        ("1 3", {".venv"}),
        ("4", {".venv", ".venv-serving"}),
        ("5", {".venv-backends"}),
    ],
)
def test_a_notebook_needs_no_environment_but_its_own(named, environments):
    done = make("--dry-run", "--always-make", "notebooks", f"ARGS={named}")
    assert done.returncode == 0, done.stderr
    assert set(re.findall(r"(\S+)/\.locked; then", done.stdout)) == environments
    assert done.stdout.count("notebooks.execute") == len(environments - {".venv-serving"})


def test_the_types_are_for_users_too():
    assert (ROOT / "tfrs_croloss" / "py.typed").exists()
