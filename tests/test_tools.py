"""The tools of those who work on the project: one version of each, and types on what users call."""

import ast
import os
import re
import subprocess

import pytest
import yaml

from tests.pages import ROOT


def version_of(package, path):
    (version,) = re.findall(rf'^\W*{package}==([^\s",]+)', (ROOT / path).read_text(), re.MULTILINE)
    return version


def test_pre_commit_has_the_ruff_of_ci():
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"].endswith("/ruff-pre-commit")
    version = repository["rev"].removeprefix("v")
    assert version == version_of("ruff", "setup.py") == version_of("ruff", "requirements.lock")


def public():
    """What the packages export and a caller calls: functions, and classes by their constructors."""
    for init in sorted(ROOT.glob("tfrs_croloss/*/__init__.py")):
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
    done = subprocess.run(
        ["make", "--dry-run", "--always-make", "notebooks", f"ARGS={named}"],
        cwd=ROOT,
        # Make's own flags of the run that this test is in are not meant for it.
        env={name: value for name, value in os.environ.items() if "MAKE" not in name},
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(re.findall(r"(\S+)/\.locked; then", done.stdout)) == environments
    assert done.stdout.count("notebooks.execute") == len(environments - {".venv-serving"})


def test_the_types_are_for_users_too():
    assert (ROOT / "tfrs_croloss" / "py.typed").exists()
