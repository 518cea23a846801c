"""One small score matrix for the tests of every loss, the positives in any column."""

import numpy as np

NUM_QUERIES, NUM_CANDIDATES = 6, 9
SCORES = np.random.default_rng(0).uniform(-1, 1, [NUM_QUERIES, NUM_CANDIDATES])
POSITIVES = (0, 1, 5, 8, 3, 3)
ONE_HOT = np.eye(NUM_CANDIDATES)[list(POSITIVES)]


def naive_rows(naive_loss, scores=SCORES, **options):
    """A naive loss on every row: values `[num_queries]`, gradients like `scores`."""
    rows = [
        naive_loss(row.tolist(), p, **options) for row, p in zip(scores, POSITIVES, strict=True)
    ]
    return np.array([value for value, _ in rows]), np.array([gradient for _, gradient in rows])
