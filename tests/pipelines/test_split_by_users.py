"""Runs whose validation and test users are held out: from the file to the served lists."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import yaml

from tests.evaluation.naive import measure, top
from tests.pipelines.killing import KillAtStep, Killed, calling
from tfrs_croloss.commands.cli import main
from tfrs_croloss.commands.experiment.build import build_model, facts_of, load_data
from tfrs_croloss.commands.experiment.classes import built, spec
from tfrs_croloss.commands.experiment.options import Config
from tfrs_croloss.commands.experiment.runs import Run
from tfrs_croloss.commands.recommend import ask
from tfrs_croloss.commands.trained import TrainedRun
from tfrs_croloss.data import split_users, training_batches

LENGTH, SIZES = 6, (5, 20)
KEPT = ("split", "query_tower", "history_length", "user", "item", "time", "top_n", "dim")
USERS = ["--split", "users", "--query_tower", "HistoryTower", "--history_length", str(LENGTH)]


def read(path):
    """The file by hand: who, what, when and stars."""
    rows = [line.split(",") for line in path.read_text().splitlines()[1:]]
    return [(user, item, int(time)) for user, item, time, _ in rows]


@pytest.fixture(scope="module")
def held_out(ratings):
    """The users of the validation and of the test: 6 and 12 of 60."""
    frame = pd.DataFrame(read(ratings), columns=["user", "item", "time"])
    split = split_users(frame, test=0.2, validation=0.1, seed=0)
    return {name: set(getattr(split, name)["user"]) for name in ("validation", "test")}


@pytest.fixture(scope="module")
def file(ratings, held_out, tmp_path_factory):
    """With items that no one trained on has: in each test user's history, and to be found."""
    path = tmp_path_factory.mktemp("data") / "ratings.csv"
    more = [
        f"{user},{item},{time},5\n"
        for user in sorted(held_out["test"])
        for item, time in ((5000, 100), (6000, -1))
    ]
    path.write_text(ratings.read_text() + "".join(more))
    return path


@pytest.fixture(scope="module")
def options(train_options, ratings, file):
    of_all = [str(file) if option == str(ratings) else option for option in train_options]
    return [*of_all, *USERS, "--validate_every", "1"]


@pytest.fixture(scope="module", params=["true", "false"])
def run(request, options, tmp_path_factory):
    """The folder of a complete run, with the histories masked or not."""
    runs = tmp_path_factory.mktemp("runs")
    main([*options, "--mask_seen", request.param, "--runs", str(runs), "--name", "mine"])
    return runs / "mine"


def sequence(file, user):
    return [item for who, item, _ in sorted(read(file), key=lambda row: row[2]) if who == user]


def expected(file, users, config, data, model):
    """Metrics by the definition: a user's first 80 % in, the rest to be found; by loops."""
    candidates = model.candidate_embeddings().astype(float)
    place = {str(item): position for position, item in enumerate(data.items.ids)}
    lists, wanted = [], []
    for user in sorted(users):
        items = sequence(file, user)
        num_history = int(len(items) * 0.8)
        history = [place[item] for item in items[:num_history] if item in place]
        padded = ([-1] * LENGTH + history)[-LENGTH:]
        query = model.query_embeddings({"history": np.array([padded], np.int32)})[0]
        excluded = set(history) if config.mask_seen else set()
        lists.append(top(candidates @ query.astype(float), excluded, max(SIZES)))
        wanted.append({place.get(item, item) for item in items[num_history:]})
    means = {}
    for n in SIZES:
        means |= measure(lists, wanted, n, range(len(candidates)))[1]
    return means


def test_the_measures_are_those_of_held_out_users(run, file, held_out):
    trained = TrainedRun(run)
    config, data, model = trained.config, trained.data, trained.model
    metrics = Run(run).metrics()
    assert metrics["test"]["exact"].pop("num_users") == 12
    assert metrics["test"]["exact"] == pytest.approx(
        expected(file, held_out["test"], config, data, model)
    )
    # The model is that of the best epoch.
    (best,) = (row for row in Run(run).history() if row["epoch"] == metrics["best_epoch"])
    assert best["num_users"] == 6
    of_validation = expected(file, held_out["validation"], config, data, model)
    assert {name: best[name] for name in of_validation} == pytest.approx(of_validation)
    counts = metrics["data"]
    # 42 users are trained on; the test users have 22 interactions, 17 of them history.
    assert (counts["users"], counts["held_out_users"]) == (60, 18)
    assert counts["train_interactions"] == 42 * 20
    assert counts["history_interactions"] == 6 * 16 + 12 * 17
    assert (counts["validation_interactions"], counts["test_interactions"]) == (6 * 4, 12 * 5)
    assert (counts["history_unseen_items"], counts["test_unseen_items"]) == (12, 12)
    assert not {5000, 6000} & set(data.items.ids)
    # In lists that hold the history, less is found.
    assert metrics["test"]["exact"]["recall@20"] > (0.4 if config.mask_seen else 0.1)


def test_evaluate_measures_what_is_served(run, capsys):
    main(["evaluate", "--run", str(run)])
    content = json.loads((run / "evaluation-exact.json").read_text())
    test = Run(run).metrics()["test"]["exact"]
    assert {"num_users": content["num_users"], **content["exact"]} == pytest.approx(test)
    assert content["served"] == pytest.approx(content["exact"], abs=1e-3)
    new = content["segments"]["new users"]
    assert new["description"] == "users with at most 16 known interactions"
    assert new["num_users"] == 12


def test_an_export_knows_held_out_users(run, file, held_out, tmp_path, capsys):
    model = tmp_path / "model"
    main(["export", "--run", str(run), "--k", "10", "--output", str(model)])
    opened = TrainedRun(run)
    config, data, trained = opened.config, opened.data, opened.model
    user = min(held_out["test"])
    history = sequence(file, user)[:17]
    known = [item for item in history if item != "6000"]
    features = {"history": data.items.encode(known[-LENGTH:])[np.newaxis].astype(np.int32)}
    scores = trained.candidate_embeddings() @ trained.query_embeddings(features)[0]
    never = set(data.items.encode(known)) if config.mask_seen else set()
    answer = [str(data.items.ids[place]) for place in top(scores, never, 10)]
    # By what it knows of the user, and asked with the same as the history of someone unknown.
    assert ask(model, [user], 10)[0] == [answer]
    assert ask(model, ["nobody"], 10, [history])[0] == [answer]
    assert config.mask_seen != bool(set(answer) & set(known))
    main(["recommend", "--model", str(model), "--users", user, "--k", "3"])
    assert all(item in capsys.readouterr().out for item in answer[:1])


def test_nothing_is_learned_of_held_out_users(options, file, held_out, tmp_path):
    """Other items of theirs change what is measured, and nothing that is trained."""
    hidden = held_out["validation"] | held_out["test"]
    config = _config(options)
    data = load_data(config)
    swapped = tmp_path / "swapped.csv"
    header, *lines = file.read_text().splitlines()
    cells = [line.split(",") for line in lines]
    rows = [
        ",".join([user, str(2078 - int(item)) if user in hidden else item, *rest])
        for user, item, *rest in cells
    ]
    swapped.write_text("\n".join([header, *rows]) + "\n")
    other = load_data(dataclasses.replace(config, train=str(swapped)))
    assert other.fingerprint() != data.fingerprint()
    assert (other.test.matrix != data.test.matrix).nnz
    assert other.items.ids.tolist() == data.items.ids.tolist()
    np.testing.assert_array_equal(data.users.encode(sorted(hidden)) >= 42, True)
    parts = [
        list(training_batches(each, 64, epochs=1, history_length=LENGTH, known_positives=True)[0])
        for each in (data, other)
    ]
    for own, others in zip(*parts, strict=True):
        assert own["query"]["user"].numpy().max() < 42
        np.testing.assert_array_equal(own["item"], others["item"])
        np.testing.assert_array_equal(own["query"]["history"], others["query"]["history"])
        assert own["known_positives"].to_list() == others["known_positives"].to_list()
    parts = ["InBatchNegatives", spec("PopularityNegatives", num_negatives=32)]
    by_popularity = dataclasses.replace(config, negatives=parts)
    for own, others in zip(
        *(built(by_popularity.negatives, facts_of(by_popularity, x)) for x in (data, other)),
        strict=True,
    ):
        assert own.get_config() == others.get_config()
    slk = dataclasses.replace(config, loss="SoftmaxLossAtK", threshold_k=5)
    assert build_model(slk, data).thresholds.values.shape == (42,)


def _config(options):
    """The options of a command line, as a `Config`, but for those of classes."""
    pairs = zip(options[1::2], options[2::2], strict=True)
    plain = {name[2:]: value for name, value in pairs if "." not in name and name != "--negatives"}
    return Config(**{name: yaml.safe_load(value) for name, value in plain.items()})


@pytest.mark.parametrize(
    "more",
    [
        [
            *("--loss", "SoftmaxLossAtK", "--threshold_k", "5", "--refresh_thresholds", "1"),
            *("--mask_known", "true"),
        ],
        [
            *("--negatives", "InBatchNegatives", "--negatives+=PopularityNegatives"),
            *("--negatives.num_negatives", "32", "--weigh", "true"),
        ],
    ],
    ids=" ".join,
)
def test_every_kind_of_negatives_trains(more, options, tmp_path):
    main([*options, *more, "--epochs", "2", "--runs", str(tmp_path), "--name", "one"])
    assert Run(tmp_path / "one").metrics()["test"]["exact"]["num_users"] == 12


@pytest.mark.parametrize("run", ["false"], indirect=True)
def test_a_killed_run_resumes(run, options, tmp_path, monkeypatch):
    command = [*options, "--mask_seen", "false", "--save_every", "5", "--runs", str(tmp_path)]
    command += ["--name", "killed"]
    # Of 13 steps an epoch, that is in the middle of the third.
    with calling(KillAtStep(34)), pytest.raises(Killed):
        main(command)
    before = Run(tmp_path / "killed").history()
    assert [row["epoch"] for row in before] == [1, 2]
    main(command)
    after, unbroken = Run(tmp_path / "killed").history(), Run(run).history()
    assert after[:2] == before
    assert [row["epoch"] for row in after] == [1, 2, 3, 4]
    for row, other in zip(after, unbroken, strict=True):
        assert row["train_loss"] == pytest.approx(other["train_loss"], rel=1e-3)
        assert row["recall@20"] == pytest.approx(other["recall@20"], abs=0.05)


@pytest.mark.slow
def test_tune_and_compare(options, file, tmp_path, capsys):
    space = tmp_path / "space.yaml"
    space.write_text("FusedAdam:\n  learning_rate: [0.01, 0.03]\n")
    search = ["--trials", "2", "--space", str(space), "--runs", str(tmp_path), "--name", "search"]
    main(["tune", *options[1:], "--epochs", "1", *search])
    trials = json.loads((tmp_path / "search" / "trials.json").read_text())["trials"]
    assert all(trial["objective"] > 0 for trial in trials)

    common = {
        option: value
        for option, value in dataclasses.asdict(_config(options)).items()
        if option in KEPT
    }
    common |= {"train": str(file), "mask_seen": False, "epochs": 1, "batch_size": 64}
    comparison = {
        "common": {**common, "validate_every": 1},
        "losses": {"softmax": {"loss": "SoftmaxLoss"}, "cro": {"loss": "CROLoss"}},
        "seeds": 2,
    }
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(comparison))
    main(["compare", "--config", str(tmp_path / "two.yaml"), "--runs", str(tmp_path)])
    results = json.loads((tmp_path / "two" / "results.json").read_text())
    assert not results["failures"]
    assert results["data"]["held_out_users"] == 18
    # One split for all seeds.
    users = [run.read_bytes() for run in (tmp_path / "two").glob("*/config.yaml")]
    assert len(users) == 4
    rows = [np.load(path)["user"].tolist() for path in (tmp_path / "two").glob("*/per_user.npz")]
    assert rows == [rows[0]] * 4
    assert len(rows[0]) == 12
