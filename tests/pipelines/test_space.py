"""The file of search spaces: what it means, and what is wrong with one."""

import dataclasses
import re

import numpy as np
import pytest

from tfrs_croloss.commands.experiment.build import build_task
from tfrs_croloss.commands.experiment.options import Config, LossOptions
from tfrs_croloss.commands.tuning.space import SPACES, options_of, read_space
from tfrs_croloss.tuning import Assignment, build_space

LOSSES = LossOptions.__dataclass_fields__["loss"].type.__args__


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_has_a_space_whose_trials_can_be_built(loss):
    entries = read_space(None, loss)
    # Two of them want the K that they aim at.
    config = Config(loss=loss, for_top_n=10 if loss in ("slk", "talos") else None)
    space = build_space(entries)
    for seed in range(20):
        values = {p.name: p.random_sample(seed + 7 * i) for i, p in enumerate(space.space)}
        options = options_of(Assignment.from_values("0", values).values, config)
        tried = dataclasses.replace(config, **options)
        build_task(tried, num_candidates=100)
        assert options.keys() <= set(Config.__dataclass_fields__)
        assert list(tried.margins) == sorted(set(tried.margins))


def test_a_section_of_the_loss_changes_the_common_one(tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text(
        "common:\n  batch: [64, 128]\n  weight_decay: 1e-4\n  negatives: {min: 8, max: 64}\n"
        "cro:\n  batch: [32]\n  lambda_kernel: [null, step]\nsoftmax:\n  dim: [8]\n"
    )
    assert read_space(path, "cro") == {
        "batch": [32],
        "weight_decay": [1e-4],
        "negatives": {"min": 8, "max": 64},
        "lambda_kernel": [None, "step"],
    }
    assert read_space(path, "softmax", fix=["batch", "weight_decay"]) == {
        "negatives": {"min": 8, "max": 64},
        "dim": [8],
    }


def test_margins_and_weights_by_their_parts():
    values = {"margins.number": 3, "margins.first": -0.1, "margins.last": 0.5}
    values |= {"weights.growth": 2.0, "negative_weight": 5.0}
    options = options_of(values, Config(loss="mml"))
    assert options["margins"] == [-0.1, 0.2, 0.5]
    np.testing.assert_allclose(options["weights"], [1 / 7, 2 / 7, 4 / 7], atol=1e-6)
    assert options["negative_weight"] == 5.0
    assert options_of({"margins.number": 1, "margins.first": 0.3}, Config())["margins"] == [0.3]
    # As many weights as margins, where these are not varied.
    weights = options_of({"weights.growth": 1.0}, Config(margins=[0.1, 0.2]))["weights"]
    assert weights == [0.5, 0.5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "space.yaml: the file is empty"),
        ("cro: [\n", "space.yaml: expected YAML."),
        ("- cro\n", "space.yaml, line 1: expected the sections, each with a colon"),
        ("cro: 3\n", "space.yaml, line 1: expected the options of cro"),
        ("cor:\n  batch: [1]\n", "space.yaml, line 1: expected one of common, softmax, cro"),
        ("cro:\n  epochs: [1]\n", "space.yaml, line 2: 'epochs' is no option that can be tuned"),
        ("cro:\n  alhpa: [1]\n", "space.yaml, line 2: 'alhpa' is no option that can be tuned"),
        ("cro:\n  batch: [1]\n  batch: [2]\n", "space.yaml, line 3: 'batch' stands there twice"),
        ("cro:\n\n  batch: [1, x]\n", "space.yaml, line 3: batch: Expected a <class 'int'>"),
        ("cro:\n  batch: {min: 1.5, max: 3}\n", "line 2: batch: Expected a <class 'int'>"),
        ("cro:\n  kernel: [sotfplus]\n", "line 2: kernel: Expected a Literal['exponential', "),
        ("cro:\n  alpha: {min: 1}\n", "line 2: alpha: expected a range with `min`, `max`"),
        ("cro:\n  alpha: {min: 2, max: 1}\n", "line 2: alpha: expected `min` to be less"),
        ("cro:\n  alpha: []\n", "line 2: alpha: expected a list of values, or a range"),
        ("mml:\n  margins: [1, 2]\n", "line 2: expected the parts of margins, number, first, last"),
        ("mml:\n  margins: {number: 2, first: 0}\n", "line 2: margins: expected last, too"),
        ("mml:\n  margins: {count: 2}\n", "line 2: 'margins.count' is no option"),
        (
            "mml:\n  margins: {number: 2, first: {min: 0, max: 0.5}, last: [0.4]}\n",
            "line 2: margins: expected every `last` to be more than every `first`",
        ),
        ("softmax:\n  batch: [1]\n", "space.yaml: nothing is left to vary for"),
    ],
)
def test_a_bad_file(text, message, tmp_path):
    path = tmp_path / "space.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)):
        read_space(path, "mml" if text.startswith("mml") else "cro")


def test_fix_must_be_in_the_space():
    with pytest.raises(ValueError, match="--fix must name options that .*Received: dim"):
        read_space(SPACES, "cro", fix=["dim", "batch"])
