"""Which loss a config names; each trains, and thresholds are those that the config asks for."""

import json
import typing

import numpy as np
import pytest
import tensorflow as tf

from tests.pipelines.killing import KillAtStep, Killed, calling
from tfrs_croloss.commands.cli import main
from tfrs_croloss.commands.experiment.build import build_model, load_data
from tfrs_croloss.commands.experiment.losses import LOSSES, build_loss
from tfrs_croloss.commands.experiment.options import Config, LossOptions
from tfrs_croloss.commands.training.callbacks import RefreshThresholds
from tfrs_croloss.commands.training.trainer import Trainer

# 60 users have 14 training interactions each, and a batch has 64 of them.
STEPS_AN_EPOCH = 14
OPTIONS = {
    "mml": ["--negative_weight", "1"],
    "ccl": ["--negative_weight", "1", "--margins", "[0.2]"],
    "bpr": ["--score", "dot"],
    "triplet": ["--temperature", "1"],
    "slk": ["--for_top_n", "5", "--refresh_thresholds", "2", "--epochs", "8"],
    "talos": ["--for_top_n", "5", "--refresh_thresholds", "2"],
}


def test_every_choice_is_a_loss():
    assert set(typing.get_args(LossOptions.__annotations__["loss"])) == set(LOSSES)


@pytest.mark.parametrize("loss", LOSSES)
def test_each_trains(loss, train_options, tmp_path, capsys):
    options = [*train_options, *OPTIONS.get(loss, ()), "--loss", loss, "--name", loss]
    main([*options, "--runs", str(tmp_path)])
    metrics = json.loads((tmp_path / loss / "metrics.json").read_text())
    assert metrics["loss"] == loss
    assert metrics["test"]["exact"]["recall@20"] > 0.4  # at random: 20 of 66 unseen
    history = json.loads((tmp_path / loss / "history.json").read_text())
    assert history[-1]["train_loss"] < history[0]["train_loss"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"loss": "cro"}, {"pull": 1.0}),
        ({"loss": "cro", "pull": 0.8}, {"pull": 0.8}),
        ({"loss": "mml", "positive_weight": 2.0}, {"positive_weight": 2.0}),
        ({"loss": "ssm"}, {"temperature": 0.1}),
        ({"loss": "ssm", "score": "dot"}, {"temperature": 1.0}),
        (
            {"loss": "psl"},
            {"temperature": 2.0, "robust_temperature": 0.1, "activation": "tanh"},
        ),
        (
            {"loss": "psl", "temperature": 3.0, "robust_temperature": 0.3, "activation": "atan"},
            {"temperature": 3.0, "robust_temperature": 0.3, "activation": "atan"},
        ),
        ({"loss": "bsl"}, {"temperature": 0.1, "positive_temperature": 0.1}),
        (
            {"loss": "bsl", "temperature": 0.2, "positive_temperature": 0.3},
            {"temperature": 0.2, "positive_temperature": 0.3},
        ),
        (
            {"loss": "slk", "for_top_n": 20, "temperature": 0.2, "weight_temperature": 2.5},
            {"temperature": 0.2, "weight_temperature": 2.5, "threshold": None},
        ),
        ({"loss": "talos", "for_top_n": 20}, {"temperature": 0.1, "threshold": None}),
        ({"loss": "bpr"}, {"alpha": 0.0, "temperature": 0.1, "lambda_kernel": None}),
        ({"loss": "triplet", "temperature": 0.5}, {"alpha": 0.0, "temperature": 0.5}),
    ],
)
def test_options_reach_the_loss(options, expected):
    config = build_loss(Config(**options), num_items=100).get_config()
    assert {name: config[name] for name in expected} == expected


@pytest.mark.parametrize(("score", "is_unit"), [("cosine", True), ("dot", False)])
@pytest.mark.parametrize("tower", ["id", "history"])
def test_scores_are_cosines_or_products(score, is_unit, tower, ratings):
    config = config_of(ratings, loss="ssm", score=score, tower=tower)
    data = load_data(config)
    model = build_model(config, data)
    queries = data.queries(config.history_length_of_tower)
    for vectors in (model.query_embeddings(queries), model.candidate_embeddings()):
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4) == is_unit


def config_of(ratings, **options):
    columns = {"user": "who", "item": "what", "time": "when"}
    return Config(train=str(ratings), dim=8, negatives=32, **columns, **options)


def test_thresholds_are_refreshed_every_so_many_epochs(ratings):
    config = config_of(ratings, loss="slk", for_top_n=7, refresh_thresholds=2, batch=64)
    data = load_data(config)
    trainer = Trainer(config, data)
    model, callback = trainer.model, RefreshThresholds(trainer)
    callback.set_model(model)
    random = np.random.default_rng(0)

    def after(epoch, step):
        """Whether the thresholds are those of the model, which changed since the last time."""
        table = model.query_tower.embedding.embeddings
        table.assign(random.normal(size=table.shape))
        trainer.checkpoints.step = step
        callback.on_epoch_begin(epoch)
        scores = model.query_embeddings(data.queries()) @ model.candidate_embeddings().T
        seventh = [sorted(row)[-7] for row in scores.tolist()]
        return np.allclose(model.thresholds.values, seventh, atol=1e-5)

    assert after(0, 0)
    assert not after(1, STEPS_AN_EPOCH)
    assert not after(2, 2 * STEPS_AN_EPOCH + 3)  # an epoch that goes on
    assert after(2, 2 * STEPS_AN_EPOCH)


def variables(run):
    path = tf.train.latest_checkpoint(run / "checkpoints" / "last")
    names = [name for name, _ in tf.train.list_variables(path)]
    return {
        name: tf.train.load_variable(path, name)
        for name in names
        if any(part in name for part in ("embedding", "thresholds", "optimizer"))
    }


@pytest.fixture(scope="module")
def slk_options(train_options, tmp_path_factory):
    """Of a run whose thresholds are taken before the epochs 0 and 2, and that run."""
    runs = tmp_path_factory.mktemp("slk")
    options = [*train_options, "--loss", "slk", "--for_top_n", "5", "--refresh_thresholds", "2"]
    options += ["--save_every", "6", "--runs", str(runs)]
    main([*options, "--name", "unbroken"])
    return options, runs


@pytest.mark.parametrize(("killed_at", "resumed_at"), [(29, 28), (33, 30)])
def test_a_resumed_run_has_the_thresholds_of_an_unbroken_one(
    killed_at, resumed_at, slk_options, monkeypatch, capsys
):
    """Where an epoch begins that takes new ones, and in its middle, where it must not."""
    options, runs = slk_options
    name = f"killed-{killed_at}"
    with calling(KillAtStep(killed_at)), pytest.raises(Killed):
        main([*options, "--name", name])
    last = tf.train.latest_checkpoint(runs / name / "checkpoints" / "last")
    assert last.endswith(f"ckpt-{resumed_at}")
    main([*options, "--name", name])
    actual, expected = (variables(runs / run) for run in (name, "unbroken"))
    assert actual.keys() == expected.keys()
    assert any("thresholds" in key for key in actual)
    for key, value in expected.items():
        np.testing.assert_allclose(actual[key], value, rtol=1e-4, atol=1e-6, err_msg=key)
