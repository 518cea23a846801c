import numpy as np
import pytest

from tfrs_croloss.index.reach import Reach, Tuner, least

NUM_CANDIDATES, NUM_LEAVES = 4_000, 40


def synthetic(num_queries, seed=0):
    """A search whose misses are known.

    Each query's candidates are spread over leaves by chance, near leaves first; a candidate of true
    rank r is found if its leaf is visited, and if r times its blur is among the re-ordered.
    """
    rng = np.random.default_rng(seed)
    leaf = rng.geometric(0.25, size=(num_queries, NUM_CANDIDATES))
    blurred = np.argsort(np.argsort(np.arange(NUM_CANDIDATES) * rng.uniform(0.5, 2, leaf.shape)))
    scores = np.sort(rng.normal(size=leaf.shape).astype(np.float32))[:, ::-1].copy()

    def search(queries, k, leaves, reordered):
        rows = queries[:, 0].astype(int)
        found = (leaf[rows] <= leaves) & (blurred[rows] < reordered)
        best = np.where(found, scores[rows], np.nan)
        return -np.sort(-best, axis=1)[:, :k]

    return search, np.arange(num_queries, dtype=np.float32)[:, None], scores, (leaf, blurred)


@pytest.mark.parametrize("target", [0.5, 0.9, 0.99])
def test_finds_what_is_wanted_at_both_depths_and_not_much_more(target):
    search, queries, scores, (leaf, blurred) = synthetic(200)
    tuner = Tuner(search, NUM_CANDIDATES, NUM_LEAVES, queries, scores[:, :500], norm=0.0)
    reach = tuner.reach(50, target)
    assert reach.depths == (50, 500)
    for depth in reach.depths:
        leaves, reordered = reach.of(depth)
        # The share of the ranks from depth - 50 to depth, counted one by one.
        hits = [
            leaf[query, rank] <= leaves and blurred[query, rank] < reordered
            for query in range(100, 200)
            for rank in range(depth - 50, depth)
        ]
        assert target - 0.01 <= np.mean(hits)
        assert tuner.recall(depth, 50, leaves, reordered).mean() == pytest.approx(np.mean(hits))
    # One leaf less finds too few.
    less = tuner.recall(50, 50, reach.leaves[0] - 1, reach.reordered[0], slice(100))
    assert less.mean() - 2 * less.std() / 10 < target


def test_all_there_is_if_nothing_less_will_do():
    _, queries, scores, _ = synthetic(20)

    def nothing(queries, k, leaves, reordered):
        return np.full((len(queries), k), np.nan)

    tuner = Tuner(nothing, NUM_CANDIDATES, NUM_LEAVES, queries, scores[:, :50], norm=0.0)
    assert tuner.reach(50, 0.9) == ((50, 50), (NUM_LEAVES,) * 2, (NUM_CANDIDATES,) * 2)
    assert tuner.recall(50, 50, NUM_LEAVES, 100).mean() == 0


def test_equal_scores_count_whichever_they_are():
    scores = np.array([[3, 2, 2, 2, 1]], np.float32)
    found = np.array([[2, 2, np.nan]], np.float32)  # the best missed, two of the three that tie
    tuner = Tuner(lambda *_: found, 5, 1, np.zeros((1, 1), np.float32), scores, norm=0.0)
    assert tuner.recall(2, 2, 1, 5).tolist() == [1.0]
    assert tuner.recall(3, 2, 1, 5).tolist() == [1.0]
    assert tuner.recall(4, 4, 1, 5).tolist() == [0.5]


def test_between_and_beyond_the_depths_measured():
    reach = Reach(depths=(100, 1_000), leaves=(10, 40), reordered=(300, 1_200))
    assert [reach.of(depth) for depth in (1, 100, 101, 400, 1_000, 1_900)] == [
        (10, 300),
        (10, 300),
        (11, 301),
        (20, 600),
        (40, 1_200),
        (70, 2_100),
    ]
    assert Reach((5, 5), (2, 2), (7, 7)).of(9) == (2, 7)
    assert Reach((5, 10), (4, 2), (7, 7)).of(10) == (4, 7)  # never less for more


def test_tensors_as_numbers():
    import tensorflow as tf

    reach = Reach((100, 1_000), (10, 1_000), (800, 1_000_000))
    for depth in (1, 101, 3_000, 10_000_000):
        sizes = reach.of(tf.constant(depth, tf.int64), tf.maximum)
        assert tuple(int(size) for size in sizes) == reach.of(depth)


@pytest.mark.parametrize("most", [0, 1, 5, 37, 64])
def test_least(most):
    for threshold in range(1, 70):
        tried = []
        found = least(lambda n, t=threshold, tried=tried: tried.append(n) or n >= t, most)
        assert found == (threshold if threshold <= most else None)
        assert all(1 <= n <= most for n in tried)
