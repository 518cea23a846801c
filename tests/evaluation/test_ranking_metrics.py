import math

import numpy as np
import pytest

from tfrs_croloss.evaluation import coverage, mrr, ndcg, recall


@pytest.fixture
def ranked():
    rng = np.random.default_rng(0)
    hits = rng.random((60, 13)) < rng.random((60, 1)) * 0.6
    hits[:5] = False
    # Some users have test items that the lists miss, so the ideal list is longer than the hits.
    num_targets = hits.sum(axis=1) + rng.integers(0, 20, 60)
    return hits, np.maximum(num_targets, 1)


@pytest.mark.parametrize("n", [1, 2, 5, 13])
def test_agree_with_their_definitions(ranked, n):
    hits, num_targets = ranked
    for u, (row, targets) in enumerate(zip(hits.tolist(), num_targets.tolist(), strict=True)):
        num_hits, dcg, first = 0, 0.0, None
        for rank in range(1, n + 1):
            if row[rank - 1]:
                num_hits += 1
                dcg += 1.0 / math.log2(rank + 1)
                first = first or rank
        ideal = sum(1.0 / math.log2(rank + 1) for rank in range(1, min(n, targets) + 1))
        assert recall(hits, num_targets, n)[u] == pytest.approx(num_hits / targets)
        assert ndcg(hits, num_targets, n)[u] == pytest.approx(dcg / ideal)
        assert mrr(hits, n)[u] == pytest.approx(1.0 / first if first else 0.0)


def test_by_hand():
    hits = np.array([[False, True, False, True]])
    # Hits at ranks 2 and 4 of three test items.
    assert recall(hits, [3], 4)[0] == pytest.approx(2 / 3)
    dcg = 1 / math.log2(3) + 1 / math.log2(5)
    ideal = 1 + 1 / math.log2(3) + 1 / 2
    assert ndcg(hits, [3], 4)[0] == pytest.approx(dcg / ideal)
    assert mrr(hits, 4)[0] == 0.5
    assert mrr(hits, 1)[0] == 0.0


def test_a_perfect_list_has_full_ndcg_but_bounded_recall():
    hits = np.ones((1, 5), bool)
    assert ndcg(hits, [20], 5)[0] == pytest.approx(1.0)
    assert recall(hits, [20], 5)[0] == 0.25


def test_coverage():
    positions = np.array([[0, 1, 2], [0, 3, -1], [-1, -1, -1]])
    assert coverage(positions, 10, 1) == 0.1
    assert coverage(positions, 10, 3) == 0.4
    assert coverage(np.zeros((0, 2), int), 10, 2) == 0.0
    part = np.arange(10) % 3 == 0  # 0, 3, 6, 9
    assert coverage(positions, 10, 1, part) == 0.25
    assert coverage(positions, 10, 3, part) == 0.5
    # The end of a list is not the last item.
    assert coverage(positions, 4, 3) == 1.0
    assert coverage(positions, 5, 3, np.arange(5) == 4) == 0.0
    assert coverage(positions, 10, 3, np.zeros(10, bool)) == 0.0


def test_errors():
    hits = np.ones((2, 3), bool)
    for n in (0, 4):
        message = rf"`n` must be between 1 and the number of ranks \(3\)\. Received: {n}"
        for metric in (recall, ndcg):
            with pytest.raises(ValueError, match=message):
                metric(hits, [1, 1], n)
        with pytest.raises(ValueError, match=message):
            mrr(hits, n)
        with pytest.raises(ValueError, match=message):
            coverage(np.zeros((2, 3), int), 5, n)
    with pytest.raises(ValueError, match=r"`num_targets` must be positive.*0 for user 1"):
        recall(hits, [1, 0], 2)
    with pytest.raises(ValueError, match=r"shape \(2,\)\. Received: shape \(3,\)"):
        ndcg(hits, [1, 1, 1], 2)


@pytest.mark.parametrize("position", [-2, -5, 4, 5, 100])
def test_coverage_of_positions_that_there_are_not(position):
    """From the end of an array, or behind it, they would be other items, or none."""
    with pytest.raises(ValueError, match=r"`positions` must be below the number of items \(4\)"):
        coverage(np.array([[0, position]]), num_items=4, n=2)
    assert coverage(np.array([[0, position]]), num_items=4, n=1) == 0.25
