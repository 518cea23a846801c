"""The file of search spaces: what it means, and what is wrong with one."""

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest

from tests.pipelines.test_losses_of_a_run import OPTIONS
from tfrs_croloss.commands.experiment.build import build_task, facts_of
from tfrs_croloss.commands.experiment.classes import spec
from tfrs_croloss.commands.experiment.options import Config
from tfrs_croloss.commands.tuning.space import SPACES, options_of, read_space
from tfrs_croloss.data import Split, encode
from tfrs_croloss.tuning import Assignment, build_space

MARGINS = {"margins": [0.1, 0.2], "weights": [0.5, 0.5]}
CCL = {"margin": 0.5, "negative_weight": 9.0}
REQUIRED = {"MultiMarginLoss": MARGINS, "CosineContrastiveLoss": CCL}
MML = spec("MultiMarginLoss", **MARGINS)


@pytest.fixture(scope="module")
def data():
    frame = pd.DataFrame({"user": ["a", "b"] * 50, "item": [f"i{i}" for i in range(100)]})
    return encode(Split(frame, frame[:0], frame[:0]))


@pytest.mark.parametrize("loss", OPTIONS)
def test_every_loss_has_a_space_whose_trials_can_be_built(loss, data):
    # Two of them want the K that they aim at.
    k = 10 if "--threshold_k" in OPTIONS[loss] else None
    config = Config(loss=spec(loss, **REQUIRED.get(loss, {})), threshold_k=k)
    entries = read_space(None, config)
    assert {f"{loss}.temperature", f"{loss}.negative_weight"} & entries.keys()
    space = build_space(entries)
    for seed in range(20):
        values = {p.name: p.random_sample(seed + 7 * i) for i, p in enumerate(space.space)}
        options = options_of(Assignment.from_values("0", values).values, config)
        tried = dataclasses.replace(config, **options)
        build_task(tried, facts_of(tried, data))
        assert options.keys() <= set(Config.__dataclass_fields__)
        margins = tried.loss["init_args"].get("margins", [])
        assert margins == sorted(set(margins))


def test_a_section_of_a_class_changes_the_common_one(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text(
        "common:\n  batch_size: [64, 128]\n  dropout: 1e-4\n"
        "UniformNegatives:\n  num_negatives: {min: 8, max: 64}\n"
        "CROLoss:\n  batch_size: [32]\n  lambda_kernel: [null, step]\nSoftmaxLoss:\n  dim: [8]\n"
    )
    assert read_space(path, Config(loss="CROLoss")) == {
        "batch_size": [32],
        "dropout": [1e-4],
        "UniformNegatives.num_negatives": {"min": 8, "max": 64},
        "CROLoss.lambda_kernel": [None, "step"],
    }
    softmax = Config(loss="SoftmaxLoss")
    assert read_space(path, softmax, fix=["batch_size", "dropout"]) == {
        "UniformNegatives.num_negatives": {"min": 8, "max": 64},
        "dim": [8],
    }


def test_a_section_with_a_module_is_of_that_class_alone(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text(
        "tfrs_croloss.CROLoss:\n  alpha: [1.0, 1.2]\n"
        "tfrs_croloss.losses.presets.SoftmaxLoss:\n  temperature: [1.0]\n"
    )
    assert read_space(path, Config(loss="CROLoss")) == {"CROLoss.alpha": [1.0, 1.2]}
    path.write_text("tfrs_crolos.CROLoss:\n  alpha: [1.0, 1.2]\n")
    with pytest.raises(ValueError, match="tfrs_crolos.CROLoss can't be imported"):
        read_space(path, Config(loss="CROLoss"))


def test_a_class_that_is_named_twice_is_not_varied(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text("UniformNegatives:\n  num_negatives: [8, 16]\n")
    twice = [spec("UniformNegatives", num_negatives=n) for n in (4, 5)]
    with pytest.raises(ValueError, match="UniformNegatives: expected a class that the run names"):
        read_space(path, Config(negatives=twice))


def test_arguments_go_where_their_class_stands():
    config = Config(negatives=["InBatchNegatives", spec("UniformNegatives", num_negatives=9)])
    values = {"UniformNegatives.num_negatives": 4, "FusedAdam.learning_rate": 0.5, "dim": 3}
    tried = dataclasses.replace(config, **options_of(values, config))
    first, second = tried.negatives
    assert (first["init_args"], second["init_args"]) == ({}, {"num_negatives": 4})
    assert tried.optimizer["init_args"]["learning_rate"] == 0.5
    assert (tried.dim, tried.loss) == (3, config.loss)
    # The config itself stays as it was.
    assert config.negatives[1]["init_args"] == {"num_negatives": 9}


def test_lists_by_their_parts():
    parts = {"margins.number": 3, "margins.first": -0.1, "margins.last": 0.5}
    parts |= {"weights.growth": 2.0, "weights.like": "margins", "negative_weight": 5.0}

    def loss_of(values, **arguments):
        config = Config(loss=spec("MultiMarginLoss", **{**MARGINS, **arguments}))
        values = {f"MultiMarginLoss.{name}": value for name, value in values.items()}
        return options_of(values, config)["loss"]["init_args"]

    found = loss_of(parts)
    assert found["margins"] == [-0.1, 0.2, 0.5]
    np.testing.assert_allclose(found["weights"], [1 / 7, 2 / 7, 4 / 7], atol=1e-6)
    assert found["negative_weight"] == 5.0
    assert loss_of({"margins.number": 1, "margins.first": 0.3})["margins"] == [0.3]
    # As many weights as margins, where these are not varied.
    growing = {"weights.growth": 1.0, "weights.like": "margins"}
    assert loss_of(growing, margins=[0.1, 0.2, 0.3])["weights"] == [0.333333] * 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "space.yaml: the file is empty"),
        ("CROLoss: [\n", "space.yaml: expected YAML."),
        ("- CROLoss\n", "space.yaml, line 1: expected the sections, each with a colon"),
        ("CROLoss: 3\n", "space.yaml, line 1: expected the options of CROLoss"),
        (
            "CROLos:\n  batch_size: [1]\n",
            "line 1: 'CROLos' is neither common nor a class. Near",
        ),
        ("CROLoss:\n  epochs: [1]\n", "line 2: 'epochs' is no option that can be tuned, and no"),
        ("CROLoss:\n  alhpa: [1]\n", "line 2: 'alhpa' is no option that can be tuned, and no"),
        ("common:\n  alpha: [1]\n", "line 2: 'alpha' is no option that can be tuned"),
        ("CROLoss:\n  alpha: [1]\n  alpha: [2]\n", "line 3: 'alpha' stands there twice"),
        ("CROLoss:\n\n  batch_size: [1, x]\n", "line 3: batch_size: Expected a <class 'int'>"),
        ("common:\n  batch_size: {min: 1.5, max: 3}\n", "batch_size: Expected a <class 'int'>"),
        ("CROLoss:\n  alpha: [big]\n", "line 2: --loss: Problem with given class_path"),
        ("CROLoss:\n  alpha: {min: 1}\n", "CROLoss.alpha: expected a range with `min`, `max`"),
        ("CROLoss:\n  alpha: {min: 2, max: 1}\n", "CROLoss.alpha: expected `min` to be less"),
        ("CROLoss:\n  alpha: []\n", "CROLoss.alpha: expected a list of values, or a range"),
        ("MultiMarginLoss:\n  margins: {number: 2, first: 0}\n", "or the parts of a list: number,"),
        ("MultiMarginLoss:\n  margins: {count: 2}\n", "or the parts of a list: number, first"),
        (
            "MultiMarginLoss:\n  margins: {number: 2, first: {min: 0, max: 0.5}, last: [0.4]}\n",
            "MultiMarginLoss.margins: expected every `last` to be more than every `first`",
        ),
        ("SoftmaxLoss:\n  batch_size: [1]\n", "space.yaml: nothing is left to vary, in common or"),
    ],
)
def test_a_bad_file(text, message, tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text(text)
    config = Config(loss=MML if text.startswith("Multi") else "CROLoss")
    with pytest.raises(ValueError, match=re.escape(message)):
        read_space(path, config)


def test_fix_must_be_in_the_space():
    with pytest.raises(ValueError, match="--fix must name what .*Received: dim"):
        read_space(SPACES, Config(), fix=["dim", "batch_size"])
