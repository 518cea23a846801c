"""The file of a comparison: what is taken, and what is refused with the key that is wrong."""

import json
import textwrap
from argparse import Namespace

import pytest

from tfrs_croloss.commands.cli import main
from tfrs_croloss.commands.comparison.file import Comparison
from tfrs_croloss.commands.comparison.results import significance_of
from tfrs_croloss.commands.demo import SETTINGS
from tfrs_croloss.commands.experiment.classes import spec
from tfrs_croloss.commands.reports.console import print_last_line

GOOD = """\
common: {epochs: 2, top_n: [5, 10]}
losses:
  softmax: {loss: SoftmaxLoss}
  CRO 1: {loss: {class_path: CROLoss, init_args: {alpha: 1.0}}}
  CRO 1.4: {loss: {class_path: CROLoss, init_args: {alpha: 1.4}}, temperature: 1e-1}
"""


@pytest.fixture
def comparison_of(tmp_path):
    def read(text, **options):
        path = tmp_path / "losses.yaml"
        path.write_text(textwrap.dedent(text))
        return Comparison.read(path, tmp_path / "out", **options)

    return read


def test_what_is_left_out(comparison_of):
    found = comparison_of(GOOD)
    assert (found.baseline, found.ours) == ("softmax", "CRO 1.4")
    assert [config.name for config in found.configs["CRO 1"]] == ["CRO 1-0", "CRO 1-1", "CRO 1-2"]
    # PyYAML's own would make a string of 1e-1.
    assert found.configs["CRO 1.4"][0].temperature == 0.1
    assert found.all_configs[0].train == "movielens"
    found = comparison_of(GOOD.replace("softmax:", "first:") + "seeds: 2\nours: first\n")
    assert (found.baseline, found.ours) == ("first", "first")
    assert len(found.all_configs) == 6
    assert len(comparison_of(GOOD + "seeds: 2\n", seeds=1).all_configs) == 3


def test_entries_that_differ_in_alpha_alone(comparison_of):
    losses = {
        "a": {"loss": spec("CROLoss", alpha=1.4)},
        "b": {"loss": spec("CROLoss", alpha=0.7)},
        "c": {"loss": spec("CROLoss", alpha=1.0, temperature=0.2)},
        "d": {"loss": "CROLoss"},
        "e": {"loss": spec("CROLoss", alpha=1.0, kernel="hinge")},
        "f": {"loss": spec("CROLoss", alpha=1.2, kernel="hinge")},
    }
    found = comparison_of(json.dumps({"losses": losses}))
    assert found.alpha_groups("abcdef") == [{0.7: "b", 1.0: "d", 1.4: "a"}, {1.0: "e", 1.2: "f"}]
    assert found.alpha_groups("abce") == [{0.7: "b", 1.4: "a"}]
    assert list(found.alpha_groups("abd")[0]) == [0.7, 1.0, 1.4]


def test_files_are_looked_for_in_the_data_folder(comparison_of, tmp_path, ratings):
    text = GOOD.replace("{epochs", f"{{train: {ratings.name}, epochs")
    found = comparison_of(text, data=ratings.parent)
    assert found.all_configs[0].train == str(ratings)
    with pytest.raises(ValueError, match=r"common\.train: there is no file .*starts from --data"):
        comparison_of(text, data=tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("losses:", "losses: ["), "losses.yaml, line 4: expected YAML: "),
        (("  CRO 1.4", "  CRO 1"), "losses.yaml, line 5: expected YAML: the key 'CRO 1' is given"),
        (("common", "shared"), "losses.yaml: shared: expected one of the keys common, losses"),
        (("epochs: 2", "epochs: two"), "common.epochs: expected an option of `train`"),
        (("epochs: 2", "epoch: 2"), "common.epoch: expected an option of `train`"),
        (("epochs: 2", "epochs: 0"), "losses.softmax: --epochs must be positive. Received: 0"),
        (("epochs: 2", "seed: 2"), "common.seed: expected no such key: it comes from --seeds"),
        (("epochs: 2", "config: x.yaml"), "common.config: expected an option of `train`"),
        (("alpha: 1.0", "alpha: big"), "losses.CRO 1.loss: expected an option of `train`"),
        (("loss: SoftmaxLoss", "loss: best"), "losses.softmax.loss: expected an option of `train`"),
        (("loss: SoftmaxLoss", "loss: SoftmaxLos"), "SoftmaxLos. Near it: SoftmaxLoss"),
        (("CRO 1:", "a/b:"), "losses.a/b: --name must be the name of a folder"),
        (("CRO 1:", "1:"), "losses: expected names that are strings. Received: 1"),
        (
            ("{loss: SoftmaxLoss}", "softmax"),
            "losses.softmax: expected options of `train`",
        ),
        (("common:", "seeds: 0\ncommon:"), "seeds: expected a positive integer. Received: 0"),
        (("common:", "ours: none\ncommon:"), "ours: expected one of the losses softmax, CRO 1,"),
        (("common:", "baseline: x\ncommon:"), "baseline: expected one of the losses softmax"),
    ],
)
def test_a_bad_file(change, message, comparison_of):
    with pytest.raises(ValueError, match=r"losses\.yaml") as refused:
        comparison_of(GOOD.replace(*change))
    assert message in str(refused.value)


@pytest.mark.parametrize("text", ["", "- a\n", "common: {}\n", "losses: {}\n", "losses: [a]\n"])
def test_no_losses_at_all(text, comparison_of):
    with pytest.raises(ValueError, match=r"losses\.yaml: .*expected .*(losses|a name and options)"):
        comparison_of(text)


@pytest.mark.parametrize(
    "unfair",
    [
        *("train: movielens", "split: random", "test_share: 0.3", "min_rating: 4", "split_seed: 1"),
        *("mask_validation: false", "dim: 128", "query_tower: HistoryTower"),
        *("epochs: 9", "validate_every: 1", "patience: 9", "top_n: [5]", "monitor: recall@5"),
        *("seed: 1", "runs: elsewhere", "name: other", "strategy: mirrored"),
    ],
)
def test_what_would_not_be_fair_is_refused(unfair, comparison_of):
    key = unfair.split(":")[0]
    with pytest.raises(ValueError, match=rf"losses\.CRO 1\.{key}: expected it under common"):
        comparison_of(GOOD.replace("CRO 1: {", f"CRO 1: {{{unfair}, "))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--config", "nowhere.yaml"], "nowhere.yaml"),
        (["--config", str(SETTINGS), "--seeds", "0"], "--seeds must be positive"),
    ],
)
def test_the_command(options, message, capsys, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        main(["compare", *options, "--runs", str(tmp_path)])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_last_line_of_one_seed(capsys):
    mean = {"recall@10": 0.25, "ndcg@10": 0.125, "recall@20": 0.5, "ndcg@20": 0.3}
    of = Namespace(mean=mean, deviation=dict.fromkeys(mean), seeds=[0])
    print_last_line(Namespace(losses={"mine": of}, ours="mine", monitor="mrr@10"))
    assert capsys.readouterr().out == "Recall@10 0.2500  NDCG@10 0.1250  (1 seed)\n"


def test_significance_of_the_seeds_that_both_have():
    def arrays(*recall):
        return {"user": [0, 1, 2, 3], "recall@5": recall}

    per_user = {
        "softmax": {0: arrays(0.5, 0, 0.5, 0), 1: arrays(0, 0.5, 0, 1), 2: arrays(1, 1, 1, 1)},
        "ours": {0: arrays(0.5, 0.5, 1, 0), 1: arrays(0.5, 0.5, 0.5, 1), 3: arrays(0, 0, 0, 0)},
        "elsewhere": {7: arrays(1, 1, 1, 1)},
    }
    found = significance_of(per_user, "softmax")
    assert found.keys() == {"ours"}
    (of,) = found["ours"].values()
    assert of.seeds == [0, 1]
    # Users' means over seeds: .5 .5 .75 .5 against .25 .25 .25 .5.
    assert of.difference == pytest.approx((0.25 + 0.25 + 0.5 + 0) / 4)
    assert of.relative == pytest.approx(0.25 / 0.3125)
    assert of.relative_interval == pytest.approx([x / 0.3125 for x in of.interval])
    assert significance_of(per_user, "none of them") == {}
    nothing = {"softmax": {0: arrays(0, 0, 0, 0)}, "ours": {0: arrays(0, 0, 0, 1)}}
    assert significance_of(nothing, "softmax")["ours"]["recall@5"].relative is None
