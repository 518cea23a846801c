"""How far a ScaNN search has to go for the recall that is wanted."""

from typing import NamedTuple

import numpy as np

# To score a candidate exactly costs as much as to score so many by their hashes: it is fetched from
# somewhere in memory. Seen with 1,000,000 candidates of 64 dimensions.
_EXACT_TO_HASHED = 35
# Candidates scored exactly for each one wanted, in the order tried: more than 8 only where 8 are
# too few, since what is dearer than the best so far is left out.
_REORDERED = (8, 16, 32, 64, 6, 4, 3, 2, 1.5, 1)
# Two float32 sums of the same products, in another order, differ by less; times both norms.
_ROUNDING = 1e-6


def cost(leaves, reordered, num_leaves, num_candidates):
    """What a search costs a query, in candidates compared by their hashes.

    Args:
        leaves: int. Leaves visited.
        reordered: int. Candidates scored exactly.
        num_leaves: int. Leaves of the tree.
        num_candidates: int. Candidates in all its leaves.
    """
    return leaves * num_candidates / num_leaves + _EXACT_TO_HASHED * reordered


class Reach(NamedTuple):
    """How far to search: as measured for two numbers of candidates, and a line through both.

    Attributes:
        depths: pair of ints. Numbers of candidates; `of` gives the first one's for fewer.
        leaves: pair of ints. Leaves to visit.
        reordered: pair of ints. Candidates to score exactly.
    """

    depths: tuple[int, int]
    leaves: tuple[int, int]
    reordered: tuple[int, int]

    def of(self, depth, maximum=max):
        """Leaves to visit and candidates to score exactly, to find the best `depth`.

        Args:
            depth: int, or a tensor.
            maximum: of two of them.
        """
        span = max(1, self.depths[1] - self.depths[0])
        beyond = maximum(depth - self.depths[0], 0)
        return tuple(
            # Rounded up.
            first + -(-beyond * max(0, last - first) // span)
            for first, last in (self.leaves, self.reordered)
        )


class Tuner:
    """Chooses the reach that is cheapest among those that find enough.

    Args:
        search: function of queries, a number k, and numbers of leaves and of candidates to score
            exactly, to float32 scores `[num_queries, k]`, NaN where there is none.
        num_candidates: int.
        num_leaves: int.
        queries: float32 array, `[num_queries, embedding_dim]`. Half of them, where there are more
            than one, serve to choose, the others to measure what was chosen.
        scores: float32 array, `[num_queries, depth]`. Those of the best candidates, best first.
        norm: float. The largest norm of a candidate.
    """

    def __init__(self, search, num_candidates, num_leaves, queries, scores, norm):
        self.search, self.queries = search, queries
        self.num_candidates, self.num_leaves = num_candidates, num_leaves
        rounding = _ROUNDING * norm * np.linalg.norm(queries, axis=1, keepdims=True)
        self.scores = scores - rounding
        half = (len(queries) + 1) // 2
        self.chosen_on, self.measured_on = slice(half), slice(half, None)
        if len(queries) == 1:
            self.measured_on = self.chosen_on

    def reach(self, k, target_recall):
        """The reach that finds `target_recall` of the best k, and of the last k of the depth.

        The last k are what is left for a query that excludes all candidates before them.

        Args:
            k: int. At most the depth of the scores.
            target_recall: float.
        """
        depths = (k, self.scores.shape[1])
        leaves, reordered = zip(
            *(self._cheapest(depth, k, target_recall) for depth in depths), strict=True
        )
        return Reach(depths, leaves, reordered)

    def recall(self, depth, k, leaves, reordered, rows=None):
        """The share found of the best candidates from place `depth - k` to place `depth`.

        A candidate that scores as high as that at a place counts as one before it, whichever it is:
        among equal scores there is no right one.

        Returns:
            float array, one a query of `rows`; by default of those not chosen on.
        """
        rows = self.measured_on if rows is None else rows
        found = self.search(self.queries[rows], depth, leaves, reordered)
        exact = self.scores[rows]

        def first(count):
            at_least = exact[:, count - 1 : count] if count else np.inf
            return np.minimum(np.sum(found >= at_least, axis=1), count)

        return (first(depth) - first(depth - k)) / k

    def _cheapest(self, depth, k, target):
        """Leaves and candidates to score exactly; all of them if nothing less finds enough."""
        best = self.num_leaves, self.num_candidates
        for factor in _REORDERED:
            reordered = int(factor * depth)
            if reordered > self.num_candidates:
                continue

            def is_enough(leaves, reordered=reordered):
                share = self.recall(depth, k, leaves, reordered, self.chosen_on)
                # What a sample just reaches, others miss half of the time; two standard errors
                # above, seldom.
                error = share.std() / np.sqrt(len(share))
                return share.mean() - 2 * error >= target

            leaves = least(is_enough, self._affordable(reordered, best))
            if leaves is not None:
                best = leaves, reordered
        return best

    def _affordable(self, reordered, best):
        """The most leaves with which a search costs less than the best so far."""
        sizes = self.num_leaves, self.num_candidates
        left = cost(*best, *sizes) - cost(0, reordered, *sizes)
        return min(self.num_leaves, int(np.ceil(left / cost(1, 0, *sizes))) - 1)


def least(is_enough, most):
    """The least number from 1 to `most` that is enough, or None.

    Args:
        is_enough: function of an int, False up to some number and True from there on.
        most: int.

    >>> least(lambda n: n >= 37, most=1_000)
    37
    >>> least(lambda n: n >= 37, most=36) is None
    True
    """
    # From below, by doubling: what is enough is cheap to try, what is far too much is not.
    low, high = 0, 1
    while high <= most and not is_enough(high):
        low, high = high, 2 * high if high == most else min(2 * high, most)
    if high > most:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high
