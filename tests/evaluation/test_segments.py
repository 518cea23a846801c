"""Lists from a function, and parts of users and items measured on their own."""

import numpy as np
import pytest
import scipy.sparse

from tests.evaluation.naive import measure
from tfrs_croloss.evaluation import Segment, evaluate, evaluate_lists, training_segments
from tfrs_croloss.index import ExactIndex

NUM_USERS, NUM_ITEMS, LONGEST = 40, 25, 8


@pytest.fixture
def case():
    """Lists of unlike lengths, and for each user a set of test items, some not in the catalogue."""
    rng = np.random.default_rng(1)
    lists = [rng.permutation(NUM_ITEMS)[: rng.integers(2, LONGEST + 1)] for _ in range(NUM_USERS)]
    lists = [row.tolist() for row in lists]
    targets = [
        {*rng.permutation(NUM_ITEMS)[: rng.integers(0, 6)].tolist()}
        | {f"unseen {i}" for i in range(rng.integers(0, 2))}
        for _ in range(NUM_USERS)
    ]
    targets[3], targets[4] = set(), {"unseen"}
    return lists, targets


def matrix(targets):
    dense = np.zeros((len(targets), NUM_ITEMS))
    for user, items in enumerate(targets):
        dense[user, [i for i in items if isinstance(i, int)]] = 1
    return scipy.sparse.csr_array(dense)


def function_of(lists, asked):
    def function(users, n):
        asked.extend(users.tolist())
        return np.array([(lists[user] + [-1] * n)[:n] for user in users])

    return function


@pytest.mark.parametrize("block_size", [1, 7, 1000])
def test_agrees_with_loops_on_every_segment(case, block_size):
    lists, targets = case
    rng = np.random.default_rng(2)
    some_users, some_items = rng.random(NUM_USERS) < 0.5, rng.random(NUM_ITEMS) < 0.4
    asked = []
    result = evaluate_lists(
        function_of(lists, asked),
        (matrix(targets), np.array([len(items) for items in targets])),
        top_n=(1, 3, LONGEST),
        block_size=block_size,
        segments={
            "users": Segment(users=some_users),
            "items": Segment(items=some_items, other_items=False),
            "items and others": Segment(items=some_items),
            "known": Segment(other_items=False),
            "both": Segment(some_users, some_items, other_items=False),
        },
    )
    assert asked == [user for user in range(NUM_USERS) if targets[user]]
    everyone, everything = np.ones(NUM_USERS, bool), np.ones(NUM_ITEMS, bool)
    for name, users, items, others in (
        (None, everyone, everything, True),
        ("users", some_users, everything, True),
        ("items", everyone, some_items, False),
        ("items and others", everyone, some_items, True),
        ("known", everyone, everything, False),
        ("both", some_users, some_items, False),
    ):
        part = result if name is None else result.segments[name]
        wanted = [
            {i for i in own if (others if isinstance(i, str) else items[i])} if users[user] else {}
            for user, own in enumerate(targets)
        ]
        assert part.users.tolist() == [user for user in range(NUM_USERS) if wanted[user]]
        catalogue = np.flatnonzero(items).tolist()
        expected = {}
        for n in (1, 3, LONGEST):
            per_user, means = measure(lists, wanted, n, catalogue)
            expected |= means
            for metric, values in per_user.items():
                np.testing.assert_allclose(part.per_user[metric], values)
        assert part.metrics == pytest.approx(expected)
        assert part.segments.keys() == (result.segments.keys() if name is None else set())


def test_evaluate_passes_segments_on(case):
    _, targets = case
    rng = np.random.default_rng(0)
    items, queries = rng.normal(size=(NUM_ITEMS, 4)), rng.normal(size=(NUM_USERS, 4))
    users = np.arange(NUM_USERS) < 10
    result = evaluate(
        ExactIndex(items), queries, matrix(targets), top_n=5, segments={"first": Segment(users)}
    )
    alone = evaluate(ExactIndex(items), queries[users], matrix(targets[:10]), top_n=5)
    assert result.segments["first"].metrics == pytest.approx(alone.metrics)
    assert result.metrics["recall@5"] != alone.metrics["recall@5"]


def test_a_segment_that_no_one_is_in(case):
    lists, targets = case
    empty = Segment(users=np.zeros(NUM_USERS, bool))
    result = evaluate_lists(function_of(lists, []), matrix(targets), segments={"none": empty})
    assert result.segments["none"].num_users == 0
    assert result.segments["none"].as_dict() == {"num_users": 0}


def test_training_segments_by_counting():
    rng = np.random.default_rng(3)
    train = rng.random((61, 53)) < rng.random((61, 1)) * rng.random(53) ** 2
    num_targets = rng.integers(0, 3, 61)
    segments = training_segments(scipy.sparse.csr_array(train), num_targets)
    of_user = [sum(row) for row in train.tolist()]
    evaluated = sorted(of_user[u] for u in range(61) if num_targets[u])
    few = evaluated[-(-len(evaluated) // 4) - 1]  # so many that a quarter have no more
    assert segments["new users"].users.tolist() == [count <= few for count in of_user]
    assert segments["old users"].users.tolist() == [count > few for count in of_user]
    assert segments["new users"].description == f"users with at most {few} training interactions"
    of_item = [sum(row[i] for row in train.tolist()) for i in range(53)]
    many = sorted(of_item)[-(-53 * 4 // 5) - 1]
    assert segments["head items"].items.tolist() == [count > many for count in of_item]
    assert segments["tail items"].items.tolist() == [count <= many for count in of_item]
    assert 0 < segments["head items"].items.sum() <= 53 / 5
    assert (segments["head items"].other_items, segments["tail items"].other_items) == (False, True)
    assert f"more than {many} training" in segments["head items"].description


def test_segments_of_users_who_are_not_trained_on():
    """By what is known of them; the items by the training set all the same."""
    train = scipy.sparse.csr_array([[1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]])
    known = scipy.sparse.csr_array([[1, 1, 0], [1, 0, 0], [1, 1, 0], [0, 0, 1]])
    num_targets = np.array([0, 0, 1, 1])
    segments = training_segments(train, num_targets, known=known)
    assert segments["new users"].users.tolist() == [False, True, False, True]
    assert segments["new users"].description == "users with at most 1 known interaction"
    assert segments["old users"].users.tolist() == [True, False, True, False]
    for name in ("head items", "tail items"):
        alone = training_segments(train, num_targets)[name]
        np.testing.assert_array_equal(segments[name].items, alone.items)
        assert segments[name].description == alone.description
    with pytest.raises(TypeError, match="`known` must be a scipy"):
        training_segments(train, num_targets, known=known.toarray())


def test_training_segments_of_other_shares():
    train = scipy.sparse.csr_array(np.tril(np.ones((10, 10))))
    segments = training_segments(train, np.ones(10, int), new_users=0.5, head_items=0.5)
    assert segments["new users"].users.tolist() == [True] * 5 + [False] * 5
    assert segments["head items"].items.tolist() == [True] * 5 + [False] * 5


def test_all_alike_are_new_and_tail():
    segments = training_segments(scipy.sparse.csr_array(np.eye(4)), np.ones(4, int))
    assert segments["new users"].users.all()
    assert not segments["old users"].users.any()
    assert segments["tail items"].items.all()
    assert not segments["head items"].items.any()


def test_errors(case):
    lists, targets = case
    targets, of_users_as_items = matrix(targets), Segment(items=np.ones(NUM_USERS, bool))
    for bad, received in (
        (np.ones(NUM_USERS - 1, bool), r"bool of shape \(39,\)"),
        (np.arange(NUM_USERS), r"int64 of shape \(40,\)"),
        ([True] * NUM_USERS, r"list of shape \(40,\)"),
    ):
        with pytest.raises(ValueError, match=rf"`segments\['x'\]\.users` must be.*{received}"):
            evaluate_lists(function_of(lists, []), targets, segments={"x": Segment(users=bad)})
    with pytest.raises(ValueError, match=r"`segments\['x'\]\.items` must be booleans.*\(25,\)"):
        evaluate_lists(function_of(lists, []), targets, segments={"x": of_users_as_items})
    for bad, message in (
        (np.zeros((1, 3), int), r"integers of shape \(.*, 10\).*int64 of shape \(1, 3\)"),
        (np.zeros((1, 10)), r"integers of shape.*float64"),
        (np.full((1, 10), NUM_ITEMS), rf"below the number of items \(25\).*Received: {NUM_ITEMS}"),
        (np.full((1, 10), -2), r"or -1.*Received: -2"),
    ):
        with pytest.raises(ValueError, match=message):
            evaluate_lists(lambda users, n, bad=bad: bad, targets, top_n=10, block_size=1)
    with pytest.raises(TypeError, match=r"`targets` must be a scipy\.sparse"):
        evaluate_lists(function_of(lists, []), targets.toarray())
    with pytest.raises(TypeError, match=r"`train` must be a scipy\.sparse"):
        training_segments([[1]], np.ones(1))
    for options in ({"new_users": 1.5}, {"head_items": -0.1}):
        with pytest.raises(ValueError, match=f"`{next(iter(options))}` must be a share"):
            training_segments(targets, np.ones(NUM_USERS), **options)
    for bad in (np.ones(3), np.zeros(NUM_USERS)):
        with pytest.raises(ValueError, match="`num_targets` must (have shape|not all be 0)"):
            training_segments(targets, bad)
