"""The README's code blocks, run as they stand on a small file of ratings.

And the commands that two other pages begin with, on the same file.
"""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from tests import pages
from tests.pages import ROOT

README = ROOT / "README.md"


def blocks(language):
    return pages.blocks(README, language)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return with_ratings(tmp_path_factory.mktemp("readme"))


def with_ratings(folder):
    rng = np.random.default_rng(0)
    users, items = rng.integers(1, 50, 2000), rng.integers(1, 200, 2000)
    times = rng.permutation(2000)
    frame = pd.DataFrame({"userId": users, "movieId": items, "timestamp": times})
    frame.to_csv(folder / "ratings.csv", index=False)
    return folder


def test_each_python_block_is_run_below():
    marks = ("was: tfrs.tasks.Retrieval()", "was: tfrs.tasks.Retrieval(...)")
    marks += ("saved_model.load", "build_index")
    assert [sum(mark in block for mark in marks) for block in blocks("python")] == [1] * len(marks)


def python(folder, *arguments):
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_USE_LEGACY_KERAS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_commands_on_ones_own_interactions_and_the_exported_model(folder):
    commands = next(block for block in blocks("bash") if "--train ratings.csv" in block)
    install, *commands = commands.strip().splitlines()
    assert install == "make install"
    for command in commands:
        interpreter, *arguments = command.split()
        assert interpreter == ".venv/bin/python"
        quick = ["--epochs", "2"] if "train" in arguments else []
        out = python(folder, *arguments, *quick)
    assert "User 1" in out
    (again,) = re.findall(r"`(train --config runs/mine/\S+ --name again)`", README.read_text())
    python(folder, "-m", "pipelines", *again.split())
    metrics = [folder / "runs" / name / "metrics.json" for name in ("mine", "again")]
    first, second = (json.loads(path.read_text())["test"] for path in metrics)
    assert first == second
    served = next(block for block in blocks("python") if "saved_model.load" in block)
    shape = python(folder, "-c", served + "\nprint(found['item_ids'].shape, found['scores'].shape)")
    assert shape.strip() == "(3, 100) (3, 100)"


def test_the_one_line_and_the_library(folder):
    one_line, task, library = (
        next(block for block in blocks("python") if marker in block)
        for marker in (
            "was: tfrs.tasks.Retrieval()",
            "was: tfrs.tasks.Retrieval(...)",
            "build_index",
        )
    )
    python(folder, "-c", one_line + task)
    out = python(folder, "-c", library)
    assert "recall@100" in out
    assert (folder / "export" / "1" / "saved_model.pb").exists()


@pytest.mark.parametrize(
    ("page", "quick", "last_file"),
    [
        ("tuning", ["--trials", "2", "--epochs", "2"], "trials.md"),
        ("scaling-out", ["--epochs", "1"], "metrics.json"),
    ],
)
def test_what_a_page_begins_with(page, quick, last_file, tmp_path):
    folder = with_ratings(tmp_path)
    block = pages.blocks(ROOT / "docs" / f"{page}.md", "bash")[0]
    for interpreter, *arguments in pages.commands(block):
        assert interpreter == ".venv/bin/python"
        python(folder, *arguments, *quick)
        name = arguments[arguments.index("--name") + 1]
        assert (folder / "runs" / name / last_file).exists()


@pytest.mark.slow
def test_the_winner_of_a_search_on_several_seeds(tmp_path):
    folder = with_ratings(tmp_path)
    block = next(x for x in pages.blocks(ROOT / "docs" / "tuning.md", "bash") if "for seed" in x)
    names = ["--user", "userId", "--item", "movieId", "--time", "timestamp", "--epochs", "1"]
    train = ["-m", "pipelines", "train", "--train", "ratings.csv", *names]
    python(folder, *train, "--name", "tuned")
    (folder / ".venv").symlink_to(sys.prefix)
    assert "in 1 2 3 4 5;" in block
    subprocess.run(
        ["bash", "-e"],
        input=block.replace("in 1 2 3 4 5;", "in 1 2;"),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        check=True,
    )
    assert all((folder / "runs" / f"tuned-{seed}" / "metrics.json").exists() for seed in (1, 2))
