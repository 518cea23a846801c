"""What the parts draw, with which probability, and what their weights make of a sum."""

import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfrs_croloss.retrieval import (
    AllItems,
    InBatchNegatives,
    MixedNegatives,
    Negatives,
    OwnNegatives,
    PopularityNegatives,
    UniformNegatives,
)
from tfrs_croloss.retrieval.negatives import _count_up_to, candidate_weight, parts_of

NUM_ITEMS = 50
# A long tail, and items that no one has had: the first, one in the middle and the last.
COUNTS = np.ceil(300 / np.arange(1, NUM_ITEMS + 1)).astype(int)
COUNTS[[0, 20, NUM_ITEMS - 1]] = 0


def power(beta):
    """The distribution by a naive loop."""
    weights = [float(count) ** beta if count else 0.0 for count in COUNTS]
    return np.array([weight / math.fsum(weights) for weight in weights])


UNIFORM = np.full(NUM_ITEMS, 1 / NUM_ITEMS)
DRAWN = {
    "uniform": (lambda m: UniformNegatives(NUM_ITEMS, m, seed=5), UNIFORM),
    "popularity^0": (lambda m: PopularityNegatives(COUNTS, m, beta=0.0), power(0)),
    "popularity^.75": (lambda m: PopularityNegatives(COUNTS, m), power(0.75)),
    "popularity": (lambda m: PopularityNegatives(COUNTS, m, beta=1.0), power(1)),
    "mixed": (
        lambda m: MixedNegatives(
            [UniformNegatives(NUM_ITEMS, m // 4), PopularityNegatives(COUNTS, m - m // 4)]
        ),
        0.25 * UNIFORM + 0.75 * power(0.75),
    ),
}
each_part = pytest.mark.parametrize(("make", "expected"), DRAWN.values(), ids=DRAWN)


@each_part
def test_items_are_drawn_with_the_probability_that_is_said(make, expected):
    negatives, num_steps = make(2000), 50
    items = np.concatenate([negatives(step) for step in range(num_steps)])
    assert items.dtype == np.int32
    assert len(items) == 2000 * num_steps
    probability = negatives.probability(tf.range(NUM_ITEMS)).numpy()
    assert probability.dtype == np.float32
    np.testing.assert_allclose(probability, expected, rtol=1e-6)
    counts = np.bincount(items, minlength=NUM_ITEMS)
    assert (counts[expected == 0] == 0).all()
    # χ² of k degrees of freedom has mean k and deviation √2k; in a mixture, whose parts bring
    # fixed numbers, less of it.
    occurring = expected > 0
    mean = len(items) * expected[occurring]
    degrees = occurring.sum() - 1
    square = np.sum((counts[occurring] - mean) ** 2 / mean)
    assert abs(square - degrees) < 4 * math.sqrt(2 * degrees)


@each_part
def test_a_draw_depends_on_seed_and_step_alone(make, expected):
    negatives, again = make(100), make(100)
    draw = negatives(7).numpy()
    np.testing.assert_array_equal(again(7), draw)
    np.testing.assert_array_equal(tf.function(again)(tf.Variable(7, dtype=tf.int64)), draw)
    compiled = tf.function(again, jit_compile=True)
    np.testing.assert_array_equal(compiled(tf.constant(7)), draw)
    assert np.mean(negatives(8).numpy() == draw) < 0.5
    other = negatives.from_config(
        {**negatives.get_config(), "seed": 6}
        if "seed" in negatives.get_config()
        else {"parts": [UniformNegatives(NUM_ITEMS, 100, seed=6)]}
    )
    assert np.mean(other(7).numpy() == draw) < 0.5


def test_parts_of_one_seed_draw_apart():
    """Otherwise a low number for one would be a low number for the other."""
    uniform = UniformNegatives(NUM_ITEMS, 5000, seed=3)
    popular = PopularityNegatives(np.ones(NUM_ITEMS), 5000, seed=3)
    correlation = np.corrcoef(uniform(2), popular(2))[0, 1]
    assert abs(correlation) < 4 / math.sqrt(5000)


def test_a_large_catalogue_keeps_its_tail():
    """float32's cumulative sum stands still long before a million items."""
    counts = np.append(np.full(10**6, 1000), np.ones(10**6))
    negatives = PopularityNegatives(counts, 4096, beta=1.0)
    draws = np.concatenate([negatives(step) for step in range(100)])
    share = 1 / 1001
    in_tail = np.mean(draws >= 10**6)
    assert abs(in_tail - share) < 4 * math.sqrt(share / len(draws))
    tail = draws[draws >= 10**6] - 10**6
    assert abs(tail.mean() / 10**6 - 0.5) < 4 * math.sqrt(1 / 12 / len(tail))
    np.testing.assert_allclose(negatives.probability([0]), 1000 / 1.001e9, rtol=1e-6)


def test_counts_of_any_size_and_power():
    negatives = PopularityNegatives([1e300, 1e300, 0, 1.0], 1000, beta=3.0)
    np.testing.assert_array_equal(negatives.probability(tf.range(4)), [0.5, 0.5, 0, 0])
    assert set(negatives(0).numpy()) == {0, 1}


@each_part
def test_a_saved_part_is_the_same_part(make, expected):
    negatives = make(40)
    config = json.loads(json.dumps(negatives.get_config()))
    saved = json.loads(json.dumps(keras.saving.serialize_keras_object(negatives)))
    for loaded in (negatives.from_config(config), keras.saving.deserialize_keras_object(saved)):
        assert type(loaded) is type(negatives)
        assert loaded.get_config() == negatives.get_config()
        np.testing.assert_array_equal(loaded(3), negatives(3))


def test_in_batch_negatives_are_saved_and_distributed_as_the_positives():
    negatives = InBatchNegatives(COUNTS)
    loaded = InBatchNegatives.from_config(json.loads(json.dumps(negatives.get_config())))
    for part in (negatives, loaded):
        assert part(0).shape == [0]
        np.testing.assert_allclose(part.probability(tf.range(NUM_ITEMS)), power(1), rtol=1e-6)
        for num_positives, others in ((8, 7), (1, 0), (0, 0)):
            counts = part.expected_count(tf.range(NUM_ITEMS), num_positives)
            np.testing.assert_allclose(counts, others * power(1), rtol=1e-6)
    assert InBatchNegatives().get_config() == {"item_counts": None}
    with pytest.raises(ValueError, match="`item_counts` of InBatchNegatives must be given"):
        InBatchNegatives().probability([0])


PARTS = {
    "uniform": [UniformNegatives(NUM_ITEMS, 64)],
    "popularity": [PopularityNegatives(COUNTS, 64)],
    "in-batch": [InBatchNegatives(COUNTS)],
    "mixed with in-batch": [
        InBatchNegatives(COUNTS),
        PopularityNegatives(COUNTS, 32, beta=0.5),
        UniformNegatives(NUM_ITEMS, 16),
    ],
}


@pytest.mark.parametrize("name", PARTS)
def test_weights_make_the_rank_that_of_the_catalogue(name):
    """The row's positive is a popular item, often drawn and then masked."""
    parts = PARTS[name]
    random = np.random.default_rng(0)
    num_rows, num_steps, positive = 32, 1500, 2
    # Popular items score higher, as they do in a trained model.
    x = 0.4 * np.log1p(COUNTS) + random.normal(scale=0.5, size=NUM_ITEMS)
    phi = np.log1p(np.exp(x - x[positive]))
    in_batch = isinstance(parts[0], InBatchNegatives)
    # What no part brings has no share in the rank.
    reach = np.ones(NUM_ITEMS, bool)
    if not any(isinstance(part, UniformNegatives) for part in parts):
        reach = COUNTS > 0
    others = reach & (np.arange(NUM_ITEMS) != positive)
    rank = 1 + phi[others].sum()
    draw = tf.function(lambda step: tf.concat([part(step) for part in parts], axis=0))
    weigh = tf.function(lambda items: candidate_weight(parts, items, num_rows))
    weighted, plain = [], []
    for step in range(num_steps):
        items = draw(tf.constant(step)).numpy()
        if in_batch:
            items = np.append(random.choice(NUM_ITEMS, num_rows - 1, p=power(1)), items)
        kept = items != positive
        v = weigh(tf.constant(items, tf.int32)).numpy()
        weighted.append(1 + np.sum(v[kept] * phi[items[kept]]))
        # As CROLoss has it without weights: R·Σφ, each negative for as many as any other.
        plain.append(1 + (NUM_ITEMS - 1) * np.mean(phi[items[kept]]))
    assert np.std(weighted) / math.sqrt(num_steps) < 0.01 * rank
    assert abs(np.mean(weighted) / rank - 1) < 0.03
    if name != "uniform":
        assert abs(np.mean(plain) / rank - 1) > 0.1


def test_the_weight_of_what_no_part_brings_is_nought():
    weights = candidate_weight([PopularityNegatives([4, 0], 2)], tf.constant([0, 1]), 1)
    np.testing.assert_array_equal(weights, [0.5, 0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: UniformNegatives(0, 4), "`num_items` must be a positive integer. Received: 0"),
        (lambda: UniformNegatives(10, 0), "`num_negatives` must be a positive integer"),
        (lambda: PopularityNegatives([1], 0), "`num_negatives` must be a positive integer"),
        (lambda: PopularityNegatives([1], 1, beta=-1), "`beta` must be a non-negative number"),
        (lambda: PopularityNegatives([0, 0], 1), "`item_counts` must be one row of finite"),
        (lambda: PopularityNegatives([], 1), "`item_counts` must be one row of finite"),
        (lambda: PopularityNegatives([1, -1], 1), "`item_counts` must be one row of finite"),
        (lambda: PopularityNegatives([1, np.nan], 1), "`item_counts` must be one row of finite"),
        (lambda: InBatchNegatives([[1, 2]]), "`item_counts` must be one row of finite"),
        (lambda: InBatchNegatives(["a"]), "`item_counts` must be one row of finite"),
        (lambda: MixedNegatives([]), "`parts` must hold a part such as"),
        (lambda: MixedNegatives([lambda step: step]), "`parts` must be parts such as"),
        (
            lambda: MixedNegatives([UniformNegatives(2, 1), InBatchNegatives([1, 1])]),
            "`parts` must have draws that all rows share; .* Received: InBatchNegatives",
        ),
        (
            lambda: MixedNegatives([UniformNegatives(2, 1), PopularityNegatives([1], 1)]),
            r"`parts` must be of one catalogue. Received: \[1, 2\] items",
        ),
        (
            lambda: parts_of([InBatchNegatives(), InBatchNegatives([1])]),
            "`negatives` of one kind .* Received: InBatchNegatives twice",
        ),
        (
            lambda: MixedNegatives(
                [MixedNegatives([UniformNegatives(2, 1)]), UniformNegatives(2, 3)]
            ),
            "must have different seeds, .* Received: UniformNegatives twice, seed=0",
        ),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_part_of_the_users_own():
    class FirstItems(Negatives):
        num_negatives = 3

        def __call__(self, step):
            return tf.range(3)

        def probability(self, items):
            return tf.where(items < 3, 1 / 3, 0.0)

        def get_config(self):
            return {}

    parts = [FirstItems(), UniformNegatives(10, 5)]
    weights = candidate_weight(parts, tf.constant([0, 9]), 4)
    np.testing.assert_allclose(weights, [1 / 1.5, 1 / 0.5], rtol=1e-6)


def test_all_items_are_each_a_candidate_that_counts_once():
    part = AllItems(NUM_ITEMS)
    assert part(step=7).numpy().tolist() == list(range(NUM_ITEMS))
    np.testing.assert_allclose(candidate_weight([part], part(0), 4), np.ones(NUM_ITEMS), rtol=1e-6)
    assert AllItems.from_config(part.get_config()).num_negatives == NUM_ITEMS
    with pytest.raises(ValueError, match="`num_items` must be a positive integer. Received: 0"):
        AllItems(0)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 8, 9, 1000])
def test_a_search_of_cumulative_shares(size):
    random = np.random.default_rng(size)
    ascending = np.sort(random.integers(5 * size, size=size).astype(float))  # With ties.
    values = np.concatenate([ascending, ascending + 0.5, [-1.0]])
    actual = _count_up_to(tf.constant(ascending), tf.constant(values))
    assert actual.dtype == tf.int32
    np.testing.assert_array_equal(actual, [np.sum(ascending <= value) for value in values])


def own_draws(part, num_rows=400):
    return OwnNegatives(part).draw_for_rows(3, num_rows).numpy()


def test_rows_draw_for_themselves():
    drawn = own_draws(PopularityNegatives(COUNTS, 50, beta=1.0))
    assert drawn.shape == (400, 50)
    assert drawn.dtype == np.int32
    counts, expected = np.bincount(drawn.ravel(), minlength=NUM_ITEMS), power(1)
    assert (counts[expected == 0] == 0).all()
    there = expected > 0
    distance = ((counts - 20_000 * expected)[there] ** 2 / (20_000 * expected[there])).sum()
    degrees = there.sum() - 1
    assert distance < degrees + 5 * math.sqrt(2 * degrees)
    assert len(np.unique(drawn, axis=0)) == 400
    # More rows are more draws of the same: a replica takes those of its rows.
    part = UniformNegatives(NUM_ITEMS, 4)
    np.testing.assert_array_equal(OwnNegatives(part)(step=3), [])
    assert not (own_draws(part, 1)[0] == part(step=3).numpy()).all()


def test_an_item_counts_by_all_parts_shared_and_own():
    """The mean over draws of Σ v_j·φ_j is the sum over the catalogue."""
    shared = UniformNegatives(NUM_ITEMS, 6, seed=1)
    own = OwnNegatives(PopularityNegatives(COUNTS, 9, beta=1.0))
    parts, phi = parts_of([shared, own]), np.random.default_rng(0).uniform(size=NUM_ITEMS)
    expected_count = 6 / NUM_ITEMS + 9 * power(1)
    weights = candidate_weight(parts, tf.range(NUM_ITEMS), 1).numpy()
    np.testing.assert_allclose(weights, 1 / expected_count, rtol=1e-5)
    sums = []
    for step in range(40):
        of_rows = own.draw_for_rows(step, 50).numpy()
        of_all = shared(step).numpy()
        sums += ((weights * phi)[of_rows].sum(axis=1) + (weights * phi)[of_all].sum()).tolist()
    by_step = np.reshape(sums, [40, 50]).mean(axis=1)
    error = by_step.std() / math.sqrt(40)
    assert abs(by_step.mean() - phi.sum()) < 4 * error


@pytest.mark.parametrize(
    "part", [AllItems(3), InBatchNegatives(), OwnNegatives(UniformNegatives(3, 1)), "uniform"]
)
def test_parts_that_cannot_draw_for_rows(part):
    with pytest.raises(ValueError, match="`part` must be negatives with a method `draw"):
        OwnNegatives(part)


def test_a_mixture_has_no_draws_of_rows():
    with pytest.raises(ValueError, match="`parts` must have draws that all rows share"):
        MixedNegatives([UniformNegatives(3, 1), OwnNegatives(UniformNegatives(3, 1))])
