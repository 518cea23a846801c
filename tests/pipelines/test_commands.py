"""The commands as a person runs them, on files that are right."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import yaml

from tfrs_croloss.commands.cli import main
from tfrs_croloss.commands.recommend import ask
from tfrs_croloss.commands.trained import TrainedRun
from tfrs_croloss.commands.training.trainer import Trainer, train
from tfrs_croloss.index import ExactIndex
from tfrs_croloss.retrieval.requirements import tf_keras
from tfrs_croloss.serving import export_model


def test_train_writes_all_it_says(run, capsys):
    files = {path.name for path in run.iterdir()}
    assert files == {
        *("config.yaml", "history.json", "checkpoints", "metrics.json", "per_user.npz"),
        "recall.png",
    }
    assert (run / "recall.png").read_bytes().startswith(b"\x89PNG")
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["data"]["train_interactions"] == 60 * 14
    assert metrics["test"]["exact"]["recall@20"] > 0.4  # at random: 20 of 66 unseen
    history = json.loads((run / "history.json").read_text())
    assert [row["epoch"] for row in history] == [2, 4]
    best = max(history, key=lambda row: row["recall@20"])
    assert metrics["best_epoch"] == best["epoch"]


def test_the_resolved_config_trains_the_same_again(run, tmp_path, capsys):
    config = run / "config.yaml"
    assert yaml.safe_load(config.read_text())["monitor"] == "recall@20"
    main(["train", "--config", str(config), "--runs", str(tmp_path), "--name", "again"])
    again = json.loads((tmp_path / "again" / "metrics.json").read_text())
    once = json.loads((run / "metrics.json").read_text())
    for metric, value in once["test"]["exact"].items():
        assert again["test"]["exact"][metric] == pytest.approx(value, abs=0.02)


def test_evaluate_measures_what_is_served_beside_what_train_measured(run, capsys):
    main(["evaluate", "--run", str(run)])
    out = capsys.readouterr().out
    assert all(word in out for word in ("coverage", "exact", "served (exact)", "tail items"))
    evaluation = json.loads((run / "evaluation-exact.json").read_text())
    trained = json.loads((run / "metrics.json").read_text())["test"]["exact"]
    assert {"num_users": evaluation["num_users"], **evaluation["exact"]} == pytest.approx(trained)
    assert evaluation["served"] == pytest.approx(evaluation["exact"])
    assert (evaluation["index"], evaluation["model"]) == ("exact", None)
    # All 60 users have 14 training interactions.
    new, old = (evaluation["segments"][name] for name in ("new users", "old users"))
    assert new["description"] == "users with at most 14 training interactions"
    assert (new["num_users"], new["num_users_left_out"]) == (60, 0)
    assert new["served"] == evaluation["served"]
    assert (old["num_users"], old["num_users_left_out"], old["served"]) == (0, 60, {})
    assert f"{evaluation['num_users']} of 60 users" in out
    (run / "evaluation-exact.json").unlink()


def test_evaluate_by_item_segments(run):
    main(["evaluate", "--run", str(run), "--top_n", "[20]"])
    content = json.loads((run / "evaluation-exact.json").read_text())
    opened = TrainedRun(run)
    data, trained, seen = opened.data, opened.model, opened.measure.seen()
    queries = trained.query_embeddings({"user": np.arange(len(data.users))})
    lists = ExactIndex(trained.candidate_embeddings()).search(queries, 20, seen)
    counts = np.bincount(data.train_items, minlength=len(data.items)).tolist()
    many = sorted(counts)[-(-len(counts) * 4 // 5) - 1]
    for name, is_in in (("head items", lambda c: c > many), ("tail items", lambda c: c <= many)):
        recalls = []
        for user, wanted in enumerate(data.test.matrix.toarray()):
            own = {item for item in np.flatnonzero(wanted) if is_in(counts[item])}
            others = data.test.counts[user] - wanted.sum() if name == "tail items" else 0
            if own or others:
                found = own & set(lists.positions[user].tolist())
                recalls.append(len(found) / (len(own) + others))
        part = content["segments"][name]
        assert part["num_users"] == len(recalls)
        assert part["served"]["recall@20"] == pytest.approx(np.mean(recalls))
        assert f"than {many} " in part["description"] or f"most {many} " in part["description"]
    (run / "evaluation-exact.json").unlink()


def test_evaluate_through_scann_at_other_sizes(run, capsys):
    main(["evaluate", "--run", str(run), "--index", "scann", "--top_n", "[3,7]"])
    assert "served (scann)" in capsys.readouterr().out
    evaluation = json.loads((run / "evaluation-scann.json").read_text())
    for metrics in (evaluation["exact"], evaluation["served"]):
        assert {"recall@3", "ndcg@7", "mrr@3", "coverage@7"} <= metrics.keys()
    # Below 1,000 items ScaNN scores them all.
    assert evaluation["served"] == pytest.approx(evaluation["exact"])
    (run / "evaluation-scann.json").unlink()


def test_evaluate_an_export_that_is_there(run, tmp_path, capsys):
    """Its answers and no others: this one leaves the validation items in."""
    trained = TrainedRun(run)
    export_model(trained.model, trained.data, tmp_path, search="scann", version=3)
    main(["evaluate", "--run", str(run), "--model", str(tmp_path)])
    assert f"Served by: {tmp_path / '3'}" in capsys.readouterr().out
    evaluation = json.loads((run / "evaluation-scann.json").read_text())
    assert evaluation["model"] == str(tmp_path / "3")
    assert evaluation["served"]["recall@20"] < evaluation["exact"]["recall@20"]
    (run / "evaluation-scann.json").unlink()
    for model, index, message in (
        (tmp_path, "exact", f"{tmp_path / '3'} searches with --index scann"),
        (run, "exact", f"{run}: no SavedModel that loads here"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(["evaluate", "--run", str(run), "--model", str(model), "--index", index])
        assert stopped.value.code == 2
        assert message in capsys.readouterr().err
    assert not list(run.glob("evaluation-*"))


def test_export_and_recommend(run, tmp_path, capsys):
    model = tmp_path / "model"
    main(["export", "--run", str(run), "--k", "10", "--output", str(model)])
    titles, seen = tmp_path / "titles.json", tmp_path / "seen.json"
    opened = TrainedRun(run)
    data, trained = opened.data, opened.model
    queries = trained.query_embeddings({"user": np.arange(len(data.users))})
    index = ExactIndex(trained.candidate_embeddings())
    found = index.search(queries, 10, opened.measure.seen())
    expected = data.items.decode(found.positions).astype(str).tolist()
    users = data.users.ids.tolist()
    assert ask(model, [*users, "nobody"], 10)[0][:-1] == expected
    titles.write_text(json.dumps({expected[0][0]: "The First"}))
    seen.write_text(json.dumps({users[0]: ["1003", "1001"]}))
    capsys.readouterr()
    main(
        [
            *("recommend", "--model", str(model), "--k", "3", "--titles", str(titles)),
            *("--seen", str(seen), "--users", users[0], users[1]),
        ]
    )
    out = capsys.readouterr().out
    assert "The First" in out
    assert out.index("1001") < out.index("1003")  # last first
    assert all(item in out for item in [*expected[0][1:3], *expected[1][:3]])
    assert expected[1][3] not in out.split(users[1])[1]
    assert "is not in the model" not in out
    main(["recommend", "--model", str(model), "--users", users[0], "nobody"])
    out = capsys.readouterr().out
    assert out.count("is not in the model") == 1
    assert "User nobody is not in the model: what follows is for the mean of all users." in out


def test_a_scann_export_is_asked_as_any_other(run, tmp_path, capfd):
    """In a process of its own, where no one has imported ScaNN before."""
    model = tmp_path / "model"
    main(["export", "--run", str(run), "--k", "5", "--index", "scann", "--output", str(model)])
    exact = tmp_path / "exact"
    main(["export", "--run", str(run), "--k", "5", "--output", str(exact)])
    command = [
        sys.executable,
        "-m",
        "tfrs_croloss_cli",
        "recommend",
        "--users",
        "u1",
        "--model",
    ]
    answers = [
        subprocess.run([*command, str(path)], capture_output=True, text=True, check=True).stdout
        for path in (model, exact)
    ]
    assert "User u1" in answers[0]
    assert answers[0] == answers[1]  # below 1,000 items ScaNN scores them all


def test_a_history_tower_from_training_to_recommendations(train_options, tmp_path, capsys):
    main([*train_options, "--query_tower", "HistoryTower", "--runs", str(tmp_path), "--name", "h"])
    main(["export", "--run", str(tmp_path / "h")])
    history = tmp_path / "history.json"
    history.write_text(json.dumps({"new user": ["1001", "1003", "1005"]}))
    model = str(tmp_path / "h" / "export")
    main(["recommend", "--model", model, "--users", "new user", "--histories", str(history)])
    main(["evaluate", "--run", str(tmp_path / "h"), "--model", model])
    evaluation = json.loads((tmp_path / "h" / "evaluation-exact.json").read_text())
    assert evaluation["served"] == pytest.approx(evaluation["exact"], abs=1e-3)
    assert "is not in the model" not in capsys.readouterr().out  # the history is what counts
    (items,), _ = ask(model, ["new user"], 100, [["1001", "1003", "1005"]])
    assert np.mean([int(item) % 2 for item in items[:10]]) > 0.8  # of the camp of the history
    assert not {"1001", "1003", "1005"} & set(items)


@pytest.mark.parametrize(
    "options",
    [
        ["--loss", "SoftmaxLoss", "--temperature", "0.1"],
        ["--loss", "tfrs_croloss.CROLoss.for_top_n", "--loss.n", "5", "--loss.temperature", "0.1"],
        ["--loss.kernel", "split_sigmoid", "--loss.lambda_kernel", "step", "--loss.alpha", "1.2"],
        ["--loss.kernel", "Hinge", "--loss.kernel.margin", "0.2"],
    ],
    ids=" ".join,
)
def test_every_loss_trains(options, train_options, tmp_path, capsys):
    main([*train_options, *options, "--runs", str(tmp_path), "--name", "one"])
    assert (tmp_path / "one" / "metrics.json").exists()
    name = options[1].rpartition(".")[2] if "--loss" in options else "CROLoss"
    assert name in capsys.readouterr().out


@pytest.mark.parametrize(
    "command", [[], ["train"], ["tune"], ["evaluate"], ["export"], ["recommend"]]
)
def test_help(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--help"])
    assert stopped.value.code == 0
    assert "usage: tfrs-croloss" in capsys.readouterr().out


def test_training_stops_when_validation_no_longer_gains(run, monkeypatch, tmp_path):
    trained = TrainedRun(run)
    config, data = trained.config, trained.data
    config.runs, config.name = str(tmp_path), "stops"
    config.epochs, config.validate_every, config.patience = 500, 1, 2
    stopped = train(config, data)
    epochs = len(stopped.history())
    assert epochs < 100
    assert stopped.metrics()["best_epoch"] == epochs - 2


def test_callbacks_see_what_an_epoch_validates(run, tmp_path):
    """Those of the trainer come first: an epoch's numbers are in the logs of the others."""

    class Note(tf_keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            noted.append(dict(logs))

    trained, noted = TrainedRun(run), []
    config = dataclasses.replace(trained.config, runs=str(tmp_path), name="noted")
    best = Trainer(config, trained.data, callbacks=[Note()]).fit()
    history = trained.run.history()
    validated = [logs for logs in noted if "recall@20" in logs]
    assert len(noted) == config.epochs
    assert len(validated) == len(history)
    for logs, row in zip(validated, history, strict=True):
        assert logs["recall@20"] == pytest.approx(row["recall@20"], abs=0.05)
        assert logs["train_loss"] == pytest.approx(row["train_loss"], rel=1e-3)
    assert best["recall@20"] == max(logs["recall@20"] for logs in validated)
