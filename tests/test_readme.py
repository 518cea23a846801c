"""The code blocks of the README and of its guide, run as they stand on a small file of ratings.

And commands of two other pages on the same file: those that they begin with, and those of several
seeds, processes and machines, which are this one.
"""

import ast
import json
import os
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import yaml

from tests import pages
from tests.pages import GUIDE, ROOT
from tfrs_croloss.commands.training.cluster import free_ports


def blocks(language):
    return [block for page in pages.ON_RATINGS for block in pages.blocks(page, language)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return with_ratings(tmp_path_factory.mktemp("readme"))


def with_ratings(folder):
    """Users who take items of their own kind: each user and item is of one of four."""
    rng = np.random.default_rng(0)
    users = rng.integers(1, 101, 2500)
    items = 4 * rng.integers(0, 50, 2500) + users % 4
    times = rng.permutation(2500)
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


def run(folder, *arguments):
    """What `tfrs-croloss` says."""
    return python(folder, "-m", "tfrs_croloss_cli", *arguments)


def test_the_commands_on_ones_own_interactions_and_the_exported_model(folder):
    commands = next(block for block in blocks("bash") if "--train ratings.csv" in block)
    install, *commands = pages.commands(commands)
    assert install == ["make", "install"]
    for program, *arguments in commands:
        assert program == ".venv/bin/tfrs-croloss"
        quick = ["--epochs", "2"] if "train" in arguments else []
        out = run(folder, *arguments, *quick)
    assert "User 1" in out
    (again,) = re.findall(r"`(train --config runs/mine/\S+ --name again)`", GUIDE.read_text())
    run(folder, *again.split())
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
    batch = "import tensorflow as tf\nqueries = candidates = tf.eye(4)\nids = tf.range(4)\n"
    batch += "batch_size, p = 4, tf.constant([0.4, 0.3, 0.2, 0.1])\n"
    python(folder, "-c", f"{one_line}{batch}{task}assert 0 < float(loss) < 10")
    out = python(folder, "-c", library)
    searched, served = (ast.literal_eval(line) for line in out.splitlines() if line.startswith("{"))
    for metrics in (searched, served):
        # Ten of the four kinds' items at random have a twentieth, of the user's own a fifth.
        assert metrics["recall@10"] > 0.15
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
    for program, *arguments in pages.commands(block):
        assert program == ".venv/bin/tfrs-croloss"
        run(folder, *arguments, *quick)
        name = arguments[arguments.index("--name") + 1]
        assert (folder / "runs" / name / last_file).exists()


def block_of(page, mark):
    (block,) = (x for x in pages.blocks(ROOT / "docs" / f"{page}.md", "bash") if mark in x)
    return block


def replaced(text, changes):
    """The text with what only the page's machines have exchanged for what is here."""
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, str(new))
    return text


def run_together(folder, scripts):
    """Runs shell scripts of a page side by side, until all have ended well."""
    command = folder / ".venv" / "bin" / "tfrs-croloss"
    command.parent.mkdir(parents=True)
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m tfrs_croloss_cli "$@"\n')
    command.chmod(0o755)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    started = [
        subprocess.Popen(["bash", "-ec", script], cwd=folder, env=environment) for script in scripts
    ]
    try:
        assert [process.wait(timeout=900) for process in started] == [0] * len(started)
    finally:
        for process in started:
            process.kill()


@pytest.mark.slow
def test_the_winner_of_a_search_on_several_seeds(tmp_path):
    folder = with_ratings(tmp_path)
    names = ["--user", "userId", "--item", "movieId", "--time", "timestamp", "--epochs", "1"]
    run(folder, "train", "--train", "ratings.csv", *names, "--name", "tuned")
    block = replaced(block_of("tuning", "for seed in"), {"in 1 2 3 4 5;": "in 1 2;"})
    run_together(folder, [block])
    assert all((folder / "runs" / f"tuned-{seed}" / "metrics.json").exists() for seed in (1, 2))


@pytest.mark.slow
def test_the_chief_and_the_workers_of_a_search(tmp_path):
    folder = with_ratings(tmp_path)
    options = {"train": "ratings.csv", "user": "userId", "item": "movieId", "loss": "CROLoss"}
    options |= {"trials": 2, "epochs": 1, "name": "tuned"}
    (folder / "tune.yaml").write_text(yaml.safe_dump(options))
    here = {"10.0.0.1": "127.0.0.1", "8000": free_ports(1)[0]}
    export, *processes = replaced(block_of("tuning", "chief"), here).splitlines()
    assert len(processes) == 3
    run_together(folder, [f"{export}\n{process}" for process in processes])
    assert (folder / "runs" / "tuned" / "config.yaml").exists()


@pytest.mark.slow
def test_the_workers_of_two_machines(tmp_path):
    folder = with_ratings(tmp_path)
    a, b = free_ports(2)
    here = {"a:2222": f"127.0.0.1:{a}", "b:2222": f"127.0.0.1:{b}", "/shared": folder}
    first = replaced(block_of("scaling-out", "TF_CONFIG"), here).rstrip() + " --epochs 1"
    run_together(folder, [first, replaced(first, {'"index": 0': '"index": 1'})])
    assert (folder / "runs" / "mine" / "metrics.json").exists()
