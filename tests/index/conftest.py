import math

import numpy as np
import pytest
import scipy.sparse


@pytest.fixture
def naive_search():
    """The definition of a search: plain loops in float64, equal scores by lower position."""

    def search(candidates, queries, k, exclude=None):
        excluded = scipy.sparse.csr_array((len(queries), len(candidates)))
        excluded = excluded.toarray() if exclude is None else exclude.toarray()
        positions, scores = [], []
        for u, query in enumerate(queries):
            ranked = []
            for i, candidate in enumerate(candidates):
                if not excluded[u, i]:
                    score = sum(float(a) * float(b) for a, b in zip(query, candidate, strict=True))
                    ranked.append((-score, i))
            ranked.sort()
            missing = max(0, k - len(ranked))
            positions.append([i for _, i in ranked[:k]] + [-1] * missing)
            scores.append([-negated for negated, _ in ranked[:k]] + [-math.inf] * missing)
        return np.array(positions).reshape(-1, k), np.array(scores).reshape(-1, k)

    return search


@pytest.fixture
def clustered():
    """Makes candidates and queries around shared centres, as trained embeddings lie."""

    def make(num_candidates, dim, num_queries, seed=0):
        rng = np.random.default_rng(seed)
        centres = rng.normal(size=(100, dim))

        def around(size):
            return centres[rng.integers(0, 100, size)] + 0.5 * rng.normal(size=(size, dim))

        return around(num_candidates).astype(np.float32), around(num_queries).astype(np.float32)

    return make
