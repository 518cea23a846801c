"""Which loss a config names; each trains, and thresholds are those that the config asks for."""

import json

import numpy as np
import pytest
import tensorflow as tf

from tests.pipelines.killing import KillAtStep, Killed, calling
from tfrs_croloss.commands.cli import main
from tfrs_croloss.commands.experiment.build import build_model, load_data
from tfrs_croloss.commands.experiment.classes import spec
from tfrs_croloss.commands.experiment.options import Config
from tfrs_croloss.commands.training.callbacks import RefreshThresholds
from tfrs_croloss.commands.training.trainer import Trainer

# 60 users have 14 training interactions each, and a batch has 64 of them.
STEPS_AN_EPOCH = 14
COSINES = ["--loss.temperature", "0.1"]
REFRESHED = ["--threshold_k", "5", "--refresh_thresholds", "2"]
OPTIONS = {
    "SoftmaxLoss": ["--temperature", "0.1"],
    "BPRLoss": ["--score", "dot", *COSINES],
    "TripletLoss": [],
    "CROLoss": COSINES,
    "MultiMarginLoss": [
        *("--loss.margins", "[0.0,0.2,0.4]", "--loss.weights", "[0.2,0.3,0.5]"),
        *("--loss.negative_weight", "1"),
    ],
    "CosineContrastiveLoss": ["--loss.margin", "0.2", "--loss.negative_weight", "1"],
    "SampledSoftmaxLoss": COSINES,
    "PairwiseSoftmaxLoss": [],
    "BilateralSoftmaxLoss": COSINES,
    "SoftmaxLossAtK": [*COSINES, *REFRESHED, "--epochs", "8"],
    "TalosLoss": [*COSINES, *REFRESHED],
}


@pytest.mark.parametrize("loss", OPTIONS)
def test_each_trains(loss, train_options, tmp_path, capsys):
    options = [*train_options, "--loss", loss, *OPTIONS[loss], "--name", loss]
    main([*options, "--runs", str(tmp_path)])
    metrics = json.loads((tmp_path / loss / "metrics.json").read_text())
    assert metrics["loss"] == loss
    assert metrics["test"]["exact"]["recall@20"] > 0.4  # at random: 20 of 66 unseen
    history = json.loads((tmp_path / loss / "history.json").read_text())
    assert history[-1]["train_loss"] < history[0]["train_loss"]


@pytest.mark.parametrize(("score", "is_unit"), [("cosine", True), ("dot", False)])
@pytest.mark.parametrize("tower", ["UserTower", "HistoryTower"])
def test_scores_are_cosines_or_products(score, is_unit, tower, ratings):
    config = config_of(ratings, score=score, query_tower=tower)
    data = load_data(config)
    model = build_model(config, data)
    queries = data.queries(config.history_length_of_tower)
    for vectors in (model.query_embeddings(queries), model.candidate_embeddings()):
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4) == is_unit


def config_of(ratings, **options):
    columns = {"user": "who", "item": "what", "time": "when"}
    negatives = spec("UniformNegatives", num_negatives=32)
    return Config(train=str(ratings), dim=8, negatives=negatives, **columns, **options)


def test_thresholds_are_refreshed_every_so_many_epochs(ratings):
    options = {"threshold_k": 7, "refresh_thresholds": 2, "batch_size": 64}
    config = config_of(ratings, loss="SoftmaxLossAtK", **options)
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
    options = [*train_options, "--loss", "SoftmaxLossAtK", *COSINES, *REFRESHED]
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
