"""A loss, a tower, negatives and a callback in a file of one's own: named, trained and served."""

import json
import os
import subprocess
import sys

import pytest
import yaml

from tfrs_croloss.commands.cli import main

MODULE = '''
"""Classes that the package does not know."""

import tf_keras
from keras import ops

from tfrs_croloss.losses import Channel, Hinge, RetrievalLoss
from tfrs_croloss.retrieval import UniformNegatives


class Triplet(RetrievalLoss):
    """Each negative is to stay a margin below the positive.

    Args:
        margin: Of the scores.
        num_items: Size of the catalogue.
    """

    def __init__(self, margin: float, num_items: int, **options):
        super().__init__(**options)
        self.margin, self.num_items = margin, num_items

    def compare(self, row):
        return Channel(Hinge(self.margin))

    def aggregate(self, totals, row):
        return totals[0] * ops.log(float(self.num_items)) / row.count

    def get_config(self):
        return {**super().get_config(), "margin": self.margin, "num_items": self.num_items}


class TwoTables(tf_keras.Model):
    """The sum of two embeddings of a user."""

    def __init__(self, num_users: int, dim: int, scale: float = 1.0):
        super().__init__()
        self.tables = [tf_keras.layers.Embedding(num_users, dim) for _ in range(2)]
        self.scale = scale

    def call(self, query):
        return self.scale * sum(table(query["user"]) for table in self.tables)


class FewNegatives(UniformNegatives):
    """As many as the square root of the catalogue."""

    def __init__(self, num_items: int, seed: int = 0):
        super().__init__(num_items, round(num_items**0.5), seed)

    def get_config(self):
        return {"num_items": self.num_items, "seed": self.seed}


class Note(tf_keras.callbacks.Callback):
    """Writes down the epochs that have ended."""

    def __init__(self, path: str):
        super().__init__()
        self.path = path

    def on_epoch_end(self, epoch, logs=None):
        with open(self.path, "a") as file:
            file.write(f"{epoch}\\n")
'''
ADAGRAD = ["--optimizer", "Adagrad", "--optimizer.learning_rate", "0.3"]
OWN = [
    *("--loss", "classes_of_mine.Triplet", "--loss.margin", "0.3", "--score", "dot"),
    *("--query_tower", "classes_of_mine.TwoTables", "--query_tower.scale", "0.5"),
    *("--negatives", "classes_of_mine.FewNegatives"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mine")
    (folder / "classes_of_mine.py").write_text(MODULE)
    return folder


@pytest.fixture(scope="module")
def do(folder):
    """Runs a command in a process of its own, in the folder of the module."""
    environment = {name: x for name, x in os.environ.items() if name != "PYTHONPATH"}
    environment["PYTHONPATH"] = os.getcwd()

    def run(*command):
        return subprocess.run(
            [sys.executable, "-m", "tfrs_croloss_cli", *command],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture(scope="module")
def trained(do, folder, train_options):
    note = ["--callbacks+=classes_of_mine.Note", "--callbacks.path", str(folder / "epochs")]
    done = do(*train_options, *OWN, *note, *ADAGRAD, "--name", "mine")
    assert done.returncode == 0, done.stderr
    return folder / "runs" / "mine"


def test_it_trains(trained, folder):
    metrics = json.loads((trained / "metrics.json").read_text())
    assert metrics["loss"] == "Triplet"
    assert metrics["test"]["exact"]["recall@20"] > 0.35  # at random: 20 of 66 unseen
    config = yaml.safe_load((trained / "config.yaml").read_text())
    assert config["loss"] == {
        "class_path": "classes_of_mine.Triplet",
        "init_args": {"margin": 0.3},
    }
    assert config["query_tower"]["init_args"] == {"scale": 0.5}
    assert config["optimizer"]["class_path"].endswith(".Adagrad")
    assert (folder / "epochs").read_text() == "0\n1\n2\n3\n"


def test_it_is_evaluated_and_exported(trained, do):
    done = do("evaluate", "--run", "runs/mine")
    assert done.returncode == 0, done.stderr
    content = json.loads((trained / "evaluation-exact.json").read_text())
    assert content["served"] == pytest.approx(content["exact"])
    done = do("export", "--run", "runs/mine")
    assert done.returncode == 0, done.stderr
    assert "User u1" in do("recommend", "--model", "runs/mine/export", "--users", "u1").stdout


def test_it_is_compared_and_tuned(do, folder, train_options, ratings):
    columns = {"train": str(ratings), "user": "who", "item": "what", "time": "when"}
    common = {**columns, "dim": 8, "epochs": 1, "score": "dot", "top_n": [20]}
    loss = {"class_path": "classes_of_mine.Triplet", "init_args": {"margin": 0.3}}
    losses = {"softmax": {"loss": "SoftmaxLoss"}, "mine": {"loss": loss}}
    (folder / "two.yaml").write_text(yaml.safe_dump({"common": common, "losses": losses}))
    done = do("compare", "--config", "two.yaml", "--seeds", "1")
    assert done.returncode == 0, done.stderr
    assert "loss=Triplet(margin=0.3)" in (folder / "runs" / "two" / "results.md").read_text()
    (folder / "space.yaml").write_text("classes_of_mine.Triplet:\n  margin: [0.1, 0.4]\n")
    options = [*train_options[1:], *OWN, "--epochs", "1", "--validate_every", "1"]
    done = do("tune", *options, "--space", "space.yaml", "--trials", "2", "--name", "tuned")
    assert done.returncode == 0, done.stderr
    best = yaml.safe_load((folder / "runs" / "tuned" / "config.yaml").read_text())
    assert best["loss"]["init_args"]["margin"] in (0.1, 0.4)


def test_help_is_from_the_docstring(do):
    done = do("train", "--loss.help", "classes_of_mine.Triplet")
    assert "--loss.margin MARGIN" in done.stdout
    assert "Of the scores." in done.stdout
    # What the data decides is not asked for.
    assert "num_items" not in done.stdout


def test_a_run_whose_class_is_gone_says_which(trained, folder, capsys):
    """Here, in another folder, the module is not found."""
    for command in (["evaluate", "--run", str(trained)], ["export", "--run", str(trained)]):
        with pytest.raises(SystemExit) as stopped:
            main(command)
        assert stopped.value.code == 2
        err = capsys.readouterr().err
        assert "config.yaml" in err
        assert "classes_of_mine" in err
        assert "damaged" not in err
    with pytest.raises(SystemExit):
        main(["train", "--config", str(trained / "config.yaml"), "--runs", str(folder / "runs")])
    assert "classes_of_mine" in capsys.readouterr().err


def test_the_help_of_a_command_imports_no_tensorflow():
    script = """
import sys
import tfrs_croloss_cli
sys.argv[1:] = ["train", "--help"]
try:
    tfrs_croloss_cli.main()
except SystemExit:
    pass
assert not {"tensorflow", "keras", "jax", "torch"} & sys.modules.keys()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for role in ("--loss CLASS", "--query_tower CLASS", "--negatives CLASS", "--callbacks CLASS"):
        assert role in done.stdout
