"""Top-N metrics, one number a user, from which ranks were hits.

`hits[u, r]` says whether the item at rank r (from 0, best first) of user u's list is one of the
user's test items. `num_targets[u]` counts all of the user's test items, including those that no
list can hold because they are not in the catalogue: leaving these out would reward a model for
not knowing an item.
"""

import numpy as np

from tfrs_croloss._typing import Array
from tfrs_croloss.losses.checks import check_shape


def recall(hits: Array, num_targets: Array, n: int) -> np.ndarray:
    """Recall@N: the share of a user's test items that stand in the top N.

        Recall@N = hits in the top N / num_targets

    The divisor is never cut to N, so with more than N test items a perfect list stays below 1.

    Args:
        hits: bool array, `[num_users, max_n]`.
        num_targets: int array, `[num_users]`, all positive.
        n: int from 1 to `max_n`.

    Returns:
        float64 array, `[num_users]`.

    Raises:
        ValueError: if `n` is out of range, the shapes don't fit, or a user has no test item.

    >>> recall(np.array([[True, False, True]]), np.array([4]), n=3).tolist()
    [0.5]
    """
    top, num_targets = _top(hits, n), _positive(hits, num_targets)
    return top.sum(axis=1) / num_targets


def ndcg(hits: Array, num_targets: Array, n: int) -> np.ndarray:
    """NDCG@N with binary gains: like recall, but an earlier hit counts more.

        DCG@N  = sum over hits in the top N of 1 / log2(rank + 1), rank from 1
        NDCG@N = DCG@N / the DCG@N of min(N, num_targets) hits in the first ranks

    Args:
        hits: bool array, `[num_users, max_n]`.
        num_targets: int array, `[num_users]`, all positive.
        n: int from 1 to `max_n`.

    Returns:
        float64 array, `[num_users]`.

    Raises:
        ValueError: if `n` is out of range, the shapes don't fit, or a user has no test item.

    >>> ndcg(np.array([[True, True, False]]), np.array([2]), n=3).tolist()
    [1.0]
    """
    top, num_targets = _top(hits, n), _positive(hits, num_targets)
    discounts = 1.0 / np.log2(np.arange(2, n + 2))
    ideal = np.cumsum(discounts)[np.minimum(n, num_targets) - 1]
    return top @ discounts / ideal


def mrr(hits: Array, n: int) -> np.ndarray:
    """Reciprocal rank of a user's first hit in the top N, 0 without one; its mean is MRR@N.

    Args:
        hits: bool array, `[num_users, max_n]`.
        n: int from 1 to `max_n`.

    Returns:
        float64 array, `[num_users]`.

    Raises:
        ValueError: if `n` is out of range.

    >>> mrr(np.array([[False, True, True], [False, False, False]]), n=3).tolist()
    [0.5, 0.0]
    """
    top = _top(hits, n)
    return np.where(top.any(axis=1), 1.0 / (top.argmax(axis=1) + 1), 0.0)


def coverage(positions: Array, num_items: int, n: int, items: Array | None = None) -> float:
    """The share of the catalogue, or of a part of it, that stands in any user's top N.

    Args:
        positions: int array, `[num_users, max_n]`. Items, best first; -1 where a list has ended.
        num_items: int. The number of items in the catalogue.
        n: int from 1 to `max_n`.
        items: bool array, `[num_items]`. The part of the catalogue; all of it by default.

    Returns:
        float; 0 for an empty part.

    Raises:
        ValueError: if `n` is out of range, or a position is neither -1 nor one of the catalogue.

    >>> coverage(np.array([[0, 1], [0, -1]]), num_items=4, n=2)
    0.5
    """
    top = _top(positions, n)
    if top.size and not -1 <= top.min() <= top.max() < num_items:
        raise ValueError(
            f"`positions` must be below the number of items ({num_items}), or -1. "
            f"Received: {top.min()} to {top.max()}"
        )
    # One place more, which position -1 means: quicker than leaving the ends of lists out.
    shown = np.zeros(num_items + 1, bool)
    shown[top] = True
    shown = shown[:num_items] if items is None else shown[:num_items][items]
    return float(shown.mean()) if shown.size else 0.0


def _top(ranked, n):
    max_n = ranked.shape[1]
    if not 1 <= n <= max_n:
        raise ValueError(f"`n` must be between 1 and the number of ranks ({max_n}). Received: {n}")
    return ranked[:, :n]


def _positive(hits, num_targets):
    num_targets = np.asarray(num_targets)
    check_shape("num_targets", num_targets, hits.shape[:1])
    if (num_targets < 1).any():
        raise ValueError(
            "`num_targets` must be positive: leave out users without test items. "
            f"Received: {num_targets.min()} for user {num_targets.argmin()}"
        )
    return num_targets
