"""What the service should answer, from the scores of all items."""

import numpy as np

TOLERANCE = 1e-5


class Expected:
    """The right answers, by version.

    Args:
        path: `.npz` of the ids of `users` and `items`, and `scores` `[versions, users, items]`,
            -inf for what is never returned.
        k: Items a user.
    """

    def __init__(self, path, k):
        with np.load(path) as file:
            self.users = file["users"].tolist()
            items, self._scores = file["items"], file["scores"]
        self._positions = {item: position for position, item in enumerate(items.tolist())}
        best = np.argsort(-self._scores, axis=2)[:, :, :k]
        self._best_items = items[best].tolist()
        self._best_scores = np.take_along_axis(self._scores, best, axis=2).tolist()

    def versions(self, user, items, scores):
        """The versions whose answer this is, to the user at a position; empty if it is wrong.

        The scores decide, so that items of the same score may change places.
        """
        numbers = range(len(self._scores))
        return [n + 1 for n in numbers if self._is_right(n, user, items, scores)]

    def _is_right(self, number, user, items, scores):
        best = self._best_scores[number][user]
        if len(scores) != len(best) or not _close(scores, best):
            return False
        if items == self._best_items[number][user]:
            return True
        positions = [self._positions.get(item) for item in items]
        if None in positions or len(set(positions)) < len(best):
            return False
        return _close(self._scores[number, user, positions], best)


def _close(scores, others):
    return all(abs(a - b) <= TOLERANCE for a, b in zip(scores, others, strict=True))
