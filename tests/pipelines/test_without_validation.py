"""Runs without a validation set: all is trained on, and the last epoch is the model."""

import json

import pytest

from tests.pipelines.killing import KillAfterEpoch, Killed, calling
from tfrs_croloss.commands.cli import main
from tfrs_croloss.commands.trained import TrainedRun


@pytest.fixture(scope="module")
def run(train_options, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    # Less patience than epochs: there is nothing that it could stop at.
    options = ["--validation_share", "0", "--validate_every", "1", "--patience", "1"]
    main([*train_options, *options, "--runs", str(runs), "--name", "mine"])
    return runs / "mine"


def test_all_but_the_test_is_trained_on(run):
    data = TrainedRun(run).data
    # 20 interactions a user, 4 of them the test.
    assert len(data.train_items) == 60 * 16
    assert not data.validation.counts.any()


def test_the_last_epoch_is_the_model(run):
    metrics = json.loads((run / "metrics.json").read_text())
    assert (metrics["best_epoch"], metrics["validation"]) == (4, {})
    history = json.loads((run / "history.json").read_text())
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert all(row.keys() == {"epoch", "train_loss", "seconds"} for row in history)


def test_it_resumes(run, train_options, tmp_path):
    """Killed after the second epoch, it ends as the unbroken one."""
    options = [*train_options, "--validation_share", "0", "--validate_every", "1"]
    options += ["--patience", "1", "--runs", str(tmp_path), "--name", "mine"]
    with calling(KillAfterEpoch(2)), pytest.raises(Killed):
        main(options)
    main(options)
    one, other = (json.loads((x / "metrics.json").read_text()) for x in (run, tmp_path / "mine"))
    assert one["test"] == other["test"]


def test_a_comparison_has_no_training_plot(train_options, tmp_path, ratings):
    given = dict(zip(train_options[1::2], train_options[2::2], strict=True))
    # Those of classes are left out.
    common = {name[2:]: given[name] for name in given if "." not in name and name != "--negatives"}
    common |= {"train": ratings.name, "top_n": [5, 20], "validation_share": 0, "epochs": 1}
    file = tmp_path / "losses.yaml"
    losses = {"CRO": {"loss": "CROLoss"}}
    file.write_text(json.dumps({"common": common, "seeds": 1, "losses": losses}))
    options = ["--data", str(ratings.parent), "--runs", str(tmp_path), "--name", "one"]
    main(["compare", "--config", str(file), *options])
    assert (tmp_path / "one" / "recall.png").exists()
    assert not (tmp_path / "one" / "training.png").exists()
    assert "without a validation set" in (tmp_path / "one" / "results.md").read_text()
