"""A loss, a tower, negatives and a callback in a file of one's own: named, trained and served."""

import json
import os
import subprocess
import sys

import pytest
import yaml

from tfrs_croloss import CROLoss
from tfrs_croloss.commands import cli
from tfrs_croloss.commands.cli import main
from tfrs_croloss.commands.experiment.classes import built, canonical, resolved, spec
from tfrs_croloss.commands.experiment.options import Config
from tfrs_croloss.retrieval import UniformNegatives

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
    assert train_options[-2] == "--optimizer.learning_rate"
    done = do(*train_options[:-2], *OWN, *note, *ADAGRAD, "--name", "mine")
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


def config_of(*words):
    """The `Config` of a command line of `train`."""
    found = cli._parsed(["train", *words])["train"].as_dict()
    return Config(**{name: x for name, x in found.items() if name != "config"})


@pytest.fixture
def files(tmp_path):
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    sgd = {"class_path": "SGD", "init_args": {"learning_rate": 0.5, "momentum": 0.9}}
    loss = {"class_path": "CROLoss", "init_args": {"alpha": 1.2, "temperature": 0.12}}
    one.write_text(yaml.safe_dump({"loss": loss, "optimizer": sgd}))
    two.write_text(yaml.safe_dump({"loss": "SoftmaxLoss", "optimizer": {"class_path": "Adam"}}))
    return str(one), str(two)


def test_a_class_has_no_arguments_of_the_one_before(files):
    one, two = files
    for words in (
        ["--config", one, "--config", two],
        [f"--config={one}", "--loss", "SoftmaxLoss", "--optimizer=Adam"],
        ["--loss", "CROLoss", f"--config={two}"],
    ):
        config = config_of(*words)
        assert config.loss["class_path"].endswith(".SoftmaxLoss")
        assert config.loss["init_args"]["temperature"] == 1.0
        assert config.optimizer["init_args"]["learning_rate"] == 0.001
    # Nor of the default, which an argument alone changes.
    assert "lambda_kernel" not in str(config_of("--loss", "BPRLoss").loss)
    assert config_of("--loss", "CROLoss").loss["init_args"]["lambda_kernel"] is None
    alone = config_of("--loss.alpha", "1.5").loss["init_args"]
    assert (alone["alpha"], alone["lambda_kernel"], alone["temperature"]) == (1.5, "sigmoid", 0.1)
    of_file = config_of("--config", one, "--loss.alpha", "1.5").loss["init_args"]
    assert (of_file["alpha"], of_file["temperature"]) == (1.5, 0.12)


def test_lists_are_begun_and_added_to():
    def names(*words):
        return [part["class_path"].rpartition(".")[2] for part in config_of(*words).negatives]

    assert names("--negatives+=AllItems") == ["UniformNegatives", "AllItems"]
    assert names("--negatives", "AllItems") == ["AllItems"]
    assert names("--negatives=AllItems", "--negatives+=InBatchNegatives") == [
        *("AllItems", "InBatchNegatives")
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--loss.alpha", "1.2", "--loss", "CROLoss"], "--loss.alpha must come after --loss"),
        (["--loss.alpha", "1.2", "--config", "{one}"], "--loss.alpha must come after --config"),
        (["--conf", "{one}"], "--config must be written out. Received: --conf"),
    ],
)
def test_an_argument_is_not_lost(words, message, files):
    with pytest.raises(ValueError, match=message):
        config_of(*(word.format(one=files[0]) for word in words))


class Options(UniformNegatives):
    """As one subclasses most often."""

    def __init__(self, num_negatives: int = 64, **options):
        super().__init__(num_negatives=num_negatives, **options)


class Sharper(CROLoss):
    def __init__(self, **options):
        options.setdefault("temperature", 0.2)
        super().__init__(**options)


def test_what_a_class_hands_on_to_its_base_is_filled_in_too():
    named = canonical("negatives", [f"{__name__}.Options"])
    (part,) = built(named, {"num_items": 50, "seed": 9})
    assert part.get_config() == {"num_items": 50, "num_negatives": 64, "seed": 9}


def test_what_is_given_is_kept_though_it_is_the_default_of_a_base():
    def temperature(**given):
        named = canonical("loss", spec(f"{__name__}.Sharper", **given))
        return built(resolved("loss", named), {}).temperature

    assert (temperature(), temperature(temperature=1.0), temperature(alpha=1.0)) == (0.2, 1.0, 0.2)


def test_a_config_has_the_defaults_of_today():
    """So that a run that is repeated is the same when they have changed."""
    arguments = Config(loss="CROLoss").loss["init_args"]
    assert (arguments["alpha"], arguments["pull"], arguments["kernel"]) == (1.0, 1.0, "softplus")
    assert "num_items" not in arguments
