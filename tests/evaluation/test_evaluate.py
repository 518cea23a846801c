import dataclasses
import json

import numpy as np
import pytest
import scipy.sparse

from tests.evaluation.naive import measure, top
from tfrs_croloss.evaluation import evaluate, evaluate_lists
from tfrs_croloss.index import ExactIndex

NUM_USERS, NUM_ITEMS, DIM = 17, 12, 4


@pytest.fixture
def case():
    """Whole-number embeddings, so that scores are exact and many are tied."""
    rng = np.random.default_rng(0)
    items = rng.integers(-3, 4, (NUM_ITEMS, DIM))
    queries = rng.integers(-3, 4, (NUM_USERS, DIM))
    targets = rng.random((NUM_USERS, NUM_ITEMS)) < 0.25
    targets[:, 0] |= ~targets.any(axis=1)
    targets[[2, 9]] = False
    exclude = (rng.random((NUM_USERS, NUM_ITEMS)) < 0.3) & ~targets
    exclude[4] = ~targets[4]
    unseen = rng.integers(0, 3, NUM_USERS)
    unseen[2] = 0
    unseen[9] = 1  # Its only test item is not in the catalogue.
    return items, queries, targets, exclude, targets.sum(axis=1) + unseen


def sparse(dense):
    return scipy.sparse.csr_array(dense)


def naive(items, queries, targets, exclude, num_targets, n):
    lists, wanted = [], []
    for u in range(len(queries)):
        scores = [sum(item * queries[u]) for item in items]
        lists.append(top(scores, np.flatnonzero(exclude[u]), n))
        own = {*np.flatnonzero(targets[u]).tolist()}
        wanted.append(own | {f"unseen {i}" for i in range(num_targets[u] - len(own))})
    return measure(lists, wanted, n, range(len(items)))


@pytest.mark.parametrize("block_size", [1, 5, 1024])
def test_agrees_with_loops(case, block_size):
    items, queries, targets, exclude, num_targets = case
    result = evaluate(
        ExactIndex(items),
        queries,
        (sparse(targets), num_targets),
        sparse(exclude),
        top_n=(1, 5, 20),
        block_size=block_size,
    )
    assert result.users.tolist() == [u for u in range(NUM_USERS) if u != 2]
    assert result.num_users == NUM_USERS - 1
    expected = {}
    for n in (1, 5, 20):
        per_user, means = naive(*case, n)
        expected |= means
        for name, values in per_user.items():
            np.testing.assert_allclose(result.per_user[name], values)
    assert result.metrics == pytest.approx(expected)


def test_defaults(case):
    items, queries, targets, _, _ = case
    result = evaluate(ExactIndex(items), queries, sparse(targets))
    assert set(result.metrics) == {
        f"{name}@{n}" for name in ("recall", "ndcg", "mrr", "coverage") for n in (10, 50, 100)
    }
    # Without unseen test items or exclusions, a list of the whole catalogue finds everything.
    assert result.metrics["recall@50"] == result.metrics["coverage@50"] == 1.0
    assert result.num_users == NUM_USERS - 2


def test_top_n_is_sorted_and_counted_once(case):
    items, queries, targets, _, _ = case
    index = ExactIndex(items)
    result = evaluate(index, queries, sparse(targets), top_n=[5, np.int64(2), 5])
    assert [name for name in result.metrics if name.startswith("recall")] == [
        "recall@2",
        "recall@5",
    ]
    single = evaluate(index, queries, sparse(targets), top_n=2)
    assert single.metrics["ndcg@2"] == result.metrics["ndcg@2"]


def test_evaluation_is_frozen_and_goes_into_json(case):
    items, queries, targets, _, _ = case
    result = evaluate(ExactIndex(items), queries, sparse(targets), top_n=3)
    assert json.loads(json.dumps(result.as_dict())) == {"num_users": 15, **result.metrics}
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.metrics = {}


def test_an_excluded_test_item_counts_but_cannot_be_hit():
    only = sparse(np.array([[1, 0]]))
    result = evaluate(ExactIndex(np.eye(2)), [[1.0, 0.0]], only, exclude=only, top_n=2)
    assert result.metrics["recall@2"] == 0.0


def test_errors(case):
    items, queries, targets, exclude, num_targets = case
    index, targets, exclude = ExactIndex(items), sparse(targets), sparse(exclude)
    for bad in (0, (5, -1), (1.5,), "10"):
        with pytest.raises(ValueError, match="`top_n` must be a positive integer"):
            evaluate(index, queries, targets, top_n=bad)
    with pytest.raises(ValueError, match="`top_n` must name at least one list length"):
        evaluate(index, queries, targets, top_n=())
    with pytest.raises(ValueError, match=r"`block_size` must be a positive integer"):
        evaluate(index, queries, targets, block_size=0)
    with pytest.raises(ValueError, match=r"`targets` must have one row a query .*\(16, 12\)"):
        evaluate(index, queries, targets[:-1])
    with pytest.raises(ValueError, match=r"`exclude` must have one row a query .*\(16, 12\)"):
        evaluate(index, queries, targets, exclude[:-1])
    with pytest.raises(TypeError, match=r"`targets` must be a scipy\.sparse"):
        evaluate(index, queries, targets.toarray())
    with pytest.raises(ValueError, match=r"`queries` must have the candidates' embedding"):
        evaluate(index, queries[:, :2], targets)
    with pytest.raises(
        TypeError, match=r"`exclude` must be a scipy\.sparse .* \(17, 12\).* ndarray"
    ):
        evaluate(index, queries, targets, exclude.toarray())
    for bad in (np.nan, np.inf):
        spoilt = queries.astype(float)
        spoilt[[3, 9]] = bad
        with pytest.raises(ValueError, match=r"`queries` must be finite .* in 2 of 17 rows: 3, 9$"):
            evaluate(index, spoilt, targets)
    short = num_targets.copy()
    short[6] = targets[[6]].nnz - 1
    with pytest.raises(ValueError, match=rf"at least the stored .*: {short[6]} for user 6"):
        evaluate(index, queries, (targets, short))
    for bad in (num_targets[:-1], num_targets.astype(float)):
        with pytest.raises(ValueError, match="`targets` must have integers as counts, of shape"):
            evaluate(index, queries, (targets, bad))
    with pytest.raises(ValueError, match="`targets` must hold a test item for at least one user"):
        evaluate(index, queries, sparse(np.zeros((NUM_USERS, NUM_ITEMS))))


def test_an_item_twice_is_no_list():
    targets = sparse(np.eye(3))
    with pytest.raises(ValueError, match="each item once a user. Received: 2 more than once"):
        evaluate_lists(lambda users, n: np.array([[0, 1], [2, 2], [-1, -1]]), targets, top_n=2)
