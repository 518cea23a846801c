"""Where a loss pushes, against loops and closed forms."""

import numpy as np
import pytest

from tfrs_croloss.commands.comparison.gradient import gradient_by_rank, median_share, median_weight
from tfrs_croloss.commands.experiment.build import build_model, load_data
from tfrs_croloss.commands.experiment.classes import spec
from tfrs_croloss.commands.experiment.options import Config
from tfrs_croloss.data import training_batches
from tfrs_croloss.retrieval import UniformNegatives

DRAWN = spec("UniformNegatives", num_negatives=32)


@pytest.fixture(scope="module")
def options(ratings):
    return {"train": str(ratings), "user": "who", "item": "what", "time": "when", "dim": 8}


def test_median_share_agrees_with_a_loop():
    rng = np.random.default_rng(0)
    scores, gradient = rng.normal(size=(2, 9, 7))
    is_negative = rng.random((9, 7)) < 0.8
    gradient[2] = 0  # a row without any
    rows = []
    for row in range(9):
        negatives = [j for j in range(7) if is_negative[row, j]]
        total = sum(abs(gradient[row, j]) for j in negatives)
        if total > 0:
            ranked = sorted(negatives, key=lambda j, row=row: -scores[row, j])
            rows.append([abs(gradient[row, j]) / total for j in ranked])
    shortest = min(map(len, rows))
    expected = [sorted(row[rank] for row in rows) for rank in range(shortest)]
    np.testing.assert_allclose(
        median_share(scores, gradient, is_negative), [np.median(of_rank) for of_rank in expected]
    )
    assert median_share(scores, 0 * gradient, is_negative).shape == (0,)


def test_median_weight_agrees_with_a_loop():
    rng = np.random.default_rng(1)
    scores, gradient = rng.normal(size=(2, 60, 70))
    is_negative = rng.random((60, 70)) < 0.8
    np.fill_diagonal(is_negative, False)
    rows = []
    for row in range(60):
        negatives = [j for j in range(70) if is_negative[row, j]]
        rank = 1 + sum(scores[row, j] > scores[row, row] for j in negatives)
        rows.append((rank, sum(abs(gradient[row, j]) for j in negatives)))
    mean = sum(size for _, size in rows) / 60
    ranks, weights = [], []
    for low in (1, 2, 4, 8, 16, 32, 64):
        of_bin = [(rank, size / mean) for rank, size in rows if low <= rank < 2 * low]
        if len(of_bin) >= 5:
            ranks.append(np.median([rank for rank, _ in of_bin]))
            weights.append(np.median([size for _, size in of_bin]))
    assert len(ranks) >= 3
    np.testing.assert_allclose(
        median_weight(scores, gradient, is_negative), [ranks, weights], rtol=1e-12
    )
    assert [len(x) for x in median_weight(scores, 0 * gradient, is_negative)] == [0, 0]


def test_a_larger_alpha_pushes_the_rows_of_a_bad_rank_less(options):
    """The weight falls with the estimated rank as its power -alpha."""
    ratios = []
    for alpha in (0.5, 1.5):
        config = Config(
            **options,
            loss=spec("CROLoss", alpha=alpha, lambda_kernel="sigmoid", temperature=0.1),
            negatives=spec("UniformNegatives", num_negatives=256),
            batch_size=512,
        )
        data = load_data(config)
        push = gradient_by_rank(config, data, build_model(config, data))
        ratios.append(push.weight[-1] / push.weight[0])
        assert push.rank[-1] > 50 * push.rank[0]
    assert ratios[1] < 0.2 * ratios[0]


@pytest.mark.parametrize(
    "own",
    [
        {"negatives": [DRAWN]},
        {"negatives": ["InBatchNegatives", DRAWN]},
        {"negatives": [DRAWN], "query_tower": "HistoryTower", "memory_size": 16},
    ],
)
def test_the_softmax_pushes_as_its_probabilities(options, own):
    """∂loss/∂s_j = p_j / temperature: the shares are those of exp(s_j / temperature)."""
    config = Config(**options, **own, loss="SoftmaxLoss", temperature=0.3, batch_size=16)
    data = load_data(config)
    model = build_model(config, data)
    task = model.task
    found = gradient_by_rank(config, data, model).share
    assert model.task is task

    length = config.history_length_of_tower
    batches, _ = training_batches(data, 16, epochs=1, history_length=length, seed=0)
    batch = next(iter(batches))
    items = batch["item"].numpy()
    (drawn,) = (part(0).numpy() for part in model.negatives if isinstance(part, UniformNegatives))
    embeddings = model.candidate_embeddings().astype(np.float64)
    queries = model.query_tower(batch["query"]).numpy().astype(np.float64)
    rows = []
    for query, positive in zip(queries, items, strict=True):
        pool = [*drawn, *(items if model.in_batch else [])]
        scores = sorted((float(query @ embeddings[j]) for j in pool if j != positive), reverse=True)
        powers = [np.exp(score / 0.3) for score in scores]
        rows.append([power / sum(powers) for power in powers])
    shortest = min(map(len, rows))
    expected = np.median([row[:shortest] for row in rows], axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    assert found[0] > found[-1]


def test_a_hinge_pushes_none_of_those_below_its_margin(options):
    config = Config(
        **options,
        loss=spec("CosineContrastiveLoss", margin=0.2, negative_weight=100.0),
        negatives=spec("UniformNegatives", num_negatives=64),
        batch_size=16,
    )
    data = load_data(config)
    found = gradient_by_rank(config, data, build_model(config, data)).share
    # The same on each that counts, and nothing on the rest.
    assert 0 < found[0]
    assert found[-1] == 0
    counted = found[found > 0]
    assert np.all(np.diff(found) <= 1e-6)
    assert counted.sum() == pytest.approx(1, abs=0.5)
