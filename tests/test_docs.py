"""The code blocks of the pages, page by page, and of docstrings.

Python blocks are run as they stand; those on a file of ratings are in test_readme.py, which also
trains and tunes on it by the commands of four pages. Of every shell block, and of the text of pages
and notebooks, each command is parsed, by what would run it: an option that is gone or a target that
make does not know fails here. Nothing is trained, installed or served.
"""

import argparse
import ast
import json
import re
import runpy
import shlex
import subprocess
import sys
import tomllib

import jsonargparse
import keras
import numpy as np
import pytest
import tensorflow_recommenders as tfrs
import yaml

import tfrs_croloss
from tests.pages import BLOCK, ON_RATINGS, PAGES, ROOT, blocks, commands, make
from tfrs_croloss.commands.cli import COMMANDS
from tfrs_croloss.commands.experiment.classes import spec
from tfrs_croloss.commands.experiment.options import Config
from tfrs_croloss.commands.tuning import space

NAMED = {"ids": lambda page: page.name}
SHELL = [page for page in PAGES if blocks(page, "bash")]
NOTEBOOKS = sorted(ROOT.glob("notebooks/*.ipynb"))
SUBCOMMANDS = tuple(command.__name__ for command in COMMANDS)
# Between single backticks: a command of ours, or only its name.
INLINE = re.compile(
    r"(?<!`)`((?:\.venv/bin/)?(?:make|curl \S|pip install|pre-commit install"
    r"|tfrs-croloss|python -m (?:pipelines|benchmarks|build))\b[^`]*"
    rf"|(?:{'|'.join(SUBCOMMANDS)}) --\w+ [^`|]+)`(?!`)"
)
# What stands in blocks and is no code.
PROSE = {"text", "math"}
# What the commands' options name must be there to be read.
FILES = {
    "tune.yaml": "loss: CROLoss\ntrials: 30\n",  # as docs/tuning.md has it
    "runs/tuned/config.yaml": "loss: CROLoss\n",
    "runs/mine/config.yaml": "loss: CROLoss\n",
    "losses.yaml": "losses: {}\n",
    "two.yaml": "losses: {}\n",
    # As docs/own-loss.md has it.
    "my_losses.py": blocks(ROOT / "docs" / "own-loss.md", "python")[-1],
}


# What make starts in any of its environments.
OURS = re.compile(r"\.venv[\w-]*/bin/(tfrs-croloss|python -m (pipelines|benchmarks))\b")


class Parsed(Exception):
    """Raised in place of what would follow a parsed command line."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.fixture
def parse_only(monkeypatch):
    """Ends every program once its command line is parsed."""

    def ending(parse):
        def parse_args(*arguments, **options):
            parse(*arguments, **options)
            raise Parsed

        return parse_args

    # jsonargparse's parser calls argparse's by another name, so that each is ended by its own.
    for parser in (argparse.ArgumentParser, jsonargparse.ArgumentParser):
        monkeypatch.setattr(parser, "parse_args", ending(parser.parse_args))


def check_make(arguments, monkeypatch):
    done = make("--dry-run", *arguments)
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        if OURS.match(line):
            check(shlex.split(re.sub(r"^\S*/", "", line)), monkeypatch)


def check_python(arguments, monkeypatch):
    flag, module, *arguments = arguments
    assert flag == "-m"
    wants_help = any(word in ("--help", "--loss.help") for word in arguments)
    monkeypatch.setattr(sys, "argv", [module, *arguments])
    with pytest.raises(SystemExit if wants_help else Parsed) as ended:
        runpy.run_module(module, run_name="__main__")
    assert not wants_help or ended.value.code == 0


def check_tfrs_croloss(arguments, monkeypatch):
    check_python(["-m", "tfrs_croloss_cli", *arguments], monkeypatch)


def check_pre_commit(arguments, monkeypatch):
    check_python(["-m", "pre_commit", *arguments], monkeypatch)


def check_pip(arguments, monkeypatch):
    assert arguments[0] == "install"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extras in re.findall(r"\[(.*)\]", " ".join(arguments)):
        assert set(extras.split(",")) <= project["optional-dependencies"].keys()


def check_uv(arguments, monkeypatch):
    *install, group = arguments
    assert install == ["pip", "install", "--group"]
    assert group in tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]


def check_curl(arguments, monkeypatch):
    address, *header, flag, body = arguments
    assert header in ([], ["-H", "Authorization: Bearer $(cat keys)"])
    assert flag == "-d"
    inputs = json.loads(body)["inputs"]
    if address.endswith("/infer"):
        assert address == "localhost:8501/v2/models/model/infer"
        inputs = {tensor["name"]: tensor["data"] for tensor in inputs}
    else:
        assert re.fullmatch(r"(https://)?localhost:8501/v1/models/\w+:predict", address)
    assert "user_ids" in inputs
    assert inputs.keys() <= {"user_ids", "k", "exclude"}


def check_openssl(arguments, monkeypatch):
    assert arguments == ["rand", "-hex", "32", ">", "keys"]


def check_docker(arguments, monkeypatch):
    """What the command asks of TensorFlow Serving's image, which CI has no Docker to run."""
    run, port, ports, volume, mount, variable, name, image = arguments
    assert (run, port, volume, variable) == ("run", "-p", "-v", "-e")
    assert image == "tensorflow/serving"
    # Inside, REST is on 8501, and the model in /models/$MODEL_NAME.
    assert ports == "8501:8501"
    folder, inside = mount.split(":")
    assert folder.endswith("/runs/mine/export")
    assert inside == name.replace("MODEL_NAME=", "/models/")


CHECKS = {
    "make": check_make,
    "python": check_python,
    "tfrs-croloss": check_tfrs_croloss,
    "pre-commit": check_pre_commit,
    "pip": check_pip,
    "uv": check_uv,
    "curl": check_curl,
    "openssl": check_openssl,
    "docker": check_docker,
}


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page not in ON_RATINGS and blocks(page, "python")],
    **NAMED,
)
def test_python_blocks_run(page):
    names = {}
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), names)


def docstring_blocks():
    for path in sorted((ROOT / "tfrs_croloss").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                found = BLOCK.findall(ast.get_docstring(node) or "")
                name = getattr(node, "name", path.stem)
                yield from (pytest.param(text, id=name) for kind, text in found if kind == "python")


DOCSTRING_BLOCKS = [*docstring_blocks()]


@pytest.mark.parametrize("block", DOCSTRING_BLOCKS)
def test_blocks_of_docstrings_run(block):
    """What stands in a fence there needs a model, which is here; the rest is doctest's."""
    cosines = np.random.default_rng(0).uniform(-0.9, 0.9, [4, 10])
    users, items, negatives = np.arange(3), np.arange(3), np.arange(3, 6)
    given = {
        "model": keras.Sequential([keras.layers.Dense(2)]),
        "cosines": cosines,
        "users": users,
        "items": items,
        "negatives": negatives,
        "user_tower": keras.layers.Embedding(3, 4),
        "item_tower": keras.layers.Embedding(6, 4),
        "ops": keras.ops,
        "tfrs": tfrs,
    }
    ours = {name: getattr(tfrs_croloss, name) for name in tfrs_croloss.__all__}
    exec(block, {**ours, **given})


def test_docstrings_have_blocks():
    assert DOCSTRING_BLOCKS


@pytest.mark.parametrize("page", SHELL, **NAMED)
def test_shell_blocks_are_shell(page):
    for block in blocks(page, "bash"):
        subprocess.run(["bash", "-n"], input=block, text=True, check=True)


def check(words, monkeypatch):
    program, *arguments = words
    program = program.removeprefix(".venv/bin/")
    if program in SUBCOMMANDS:
        program, arguments = "tfrs-croloss", [program, *arguments]
    CHECKS[program](arguments, monkeypatch)


@pytest.mark.parametrize("page", SHELL, **NAMED)
def test_commands_parse(page, folder, parse_only, monkeypatch):
    for block in blocks(page, "bash"):
        for words in commands(block):
            check(words, monkeypatch)


def inline(page):
    """The commands in a page's text, or in that of a notebook, without what is left out."""
    text = page.read_text()
    if page in NOTEBOOKS:
        cells = json.loads(text)["cells"]
        text = "\n".join("".join(x["source"]) for x in cells if x["cell_type"] == "markdown")
    for command in INLINE.findall(BLOCK.sub("", text)):
        yield [word for word in shlex.split(command) if word != "…"]


@pytest.mark.parametrize("page", [x for x in (*PAGES, *NOTEBOOKS) if [*inline(x)]], **NAMED)
def test_commands_in_the_text_parse(page, folder, parse_only, monkeypatch):
    for words in inline(page):
        # Named alone, a command lacks what it must be given.
        is_name = "-m" in words or words[0].endswith("tfrs-croloss")
        is_name = is_name and not any(word.startswith("--") for word in words)
        check([*words, "--help"] if is_name else words, monkeypatch)


# As docstrings have them, in lines of their own.
INDENTED = re.compile(r"^    ((?:make|python -m) (?:.*\\\n)*.*)$", re.MULTILINE)
TOLD_HOW = {
    path: INDENTED.findall(ast.get_docstring(ast.parse(path.read_text())) or "")
    for folder in ("benchmarks", "notebooks", "pipelines", "tests/packaging")
    for path in sorted((ROOT / folder).glob("*.py"))
}


@pytest.mark.parametrize("module", [path for path, found in TOLD_HOW.items() if found], **NAMED)
def test_commands_of_modules_parse(module, folder, parse_only, monkeypatch):
    for text in TOLD_HOW[module]:
        for words in commands(text):
            check(words, monkeypatch)


def test_an_option_that_is_gone_is_noticed(folder, parse_only, monkeypatch):
    modules = ("tfrs_croloss_cli train", "pipelines train", "benchmarks.loss")
    for command in (f"{module} --no_such_option 1" for module in modules):
        with pytest.raises(SystemExit):
            check_python(["-m", *command.split()], monkeypatch)
    with pytest.raises(AssertionError):
        check_make(["no-such-target"], monkeypatch)
    with pytest.raises(SystemExit):
        check_make(["demo", "ARGS=--no_such_option 1"], monkeypatch)
    with pytest.raises(SystemExit):
        check_make(["serve", "ARGS=--no_such_option 1"], monkeypatch)
    with pytest.raises(AssertionError):
        check_tfrs_croloss(["no-such-command", "--help"], monkeypatch)


def test_the_search_space_of_the_tuning_page(folder):
    (block,) = blocks(ROOT / "docs" / "tuning.md", "yaml")
    (folder / "space.yaml").write_text(block)
    required = {
        "MultiMarginLoss": {"margins": [0.0], "weights": [1.0]},
        "my_losses.Triplet": {"margin": 0.2},
    }
    losses = set(yaml.safe_load(block)) - {"common", "FusedAdam"}
    assert losses == {"CROLoss", *required}
    for loss in losses:
        config = Config(loss=spec(loss, **required.get(loss, {})))
        found = space.read_space(folder / "space.yaml", config)
        assert {"batch_size", "FusedAdam.learning_rate"} < found.keys()
        assert any(name.startswith(f"{loss.rpartition('.')[2]}.") for name in found)


def test_every_block_is_of_a_kind_that_is_looked_at():
    found = {name for page in PAGES for name, _ in BLOCK.findall(page.read_text())}
    assert found <= {"python", "bash", "yaml"} | PROSE
