"""Small embeddings, and the two that `embedding_loss` must equal: loops and the matrix's loss."""

import functools

import numpy as np
from keras import ops

from tests.losses.gradients import value_and_gradients
from tests.losses.naive import mean_over_positives
from tfrs_croloss import embedding_loss

NUM_QUERIES, NUM_CANDIDATES, DIM = 7, 11, 5


def unit(*shape, seed):
    """Embeddings of norm 1, so that scores are cosines."""
    x = np.random.default_rng(seed).normal(size=shape)
    return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype("float32")


QUERIES, CANDIDATES = unit(NUM_QUERIES, DIM, seed=1), unit(NUM_CANDIDATES, DIM, seed=2)
RNG = np.random.default_rng(3)
INDEX = np.array([4, 0, 10, 4, 7, -1, 2])
SEVERAL = np.array([[4, -1, 9], [0, 1, 2], [-1, -1, -1], [4, 3, -1], [7, 7, 7], [-1, 6, -1]])
SEVERAL = np.concatenate([SEVERAL, [range(3)]])
# Candidates 0 and 5 are one item, 1, 4, 8 and 10 another.
IDS = np.array([20, 11, 12, 13, 11, 20, 16, 17, 11, 19, 11])
FEW_KNOWN = np.array([[12, 13], [-1, 11], [99, -1], [-1, -1], [20, 20], [16, 5], [17, 19]])
MANY_KNOWN = np.concatenate([FEW_KNOWN, FEW_KNOWN[::-1], FEW_KNOWN + 1, FEW_KNOWN[::-1] - 1], 1)
MANY_KNOWN[3] = np.unique(IDS)[-1:]  # one item, many times
WEIGHT = RNG.uniform(0.1, 5, NUM_CANDIDATES).astype("float32")
WEIGHT[[3, 7]] = 0
WEIGHTS = RNG.uniform(0.1, 5, [NUM_QUERIES, NUM_CANDIDATES]).astype("float32")
WEIGHTS[WEIGHTS < 1] = 0
WEIGHTS[6] = 0  # no negative is left
MASK = np.arange(NUM_CANDIDATES) != 4
MASKS = RNG.uniform(size=[NUM_QUERIES, NUM_CANDIDATES]) < 0.7
MASKS[0] = False
MASKS[1] = np.arange(NUM_CANDIDATES) == 0  # the positive alone
SAMPLE_WEIGHT = np.linspace(0, 3, NUM_QUERIES).astype("float32")
OWN, SEVERAL_OWN = unit(NUM_QUERIES, DIM, seed=4), unit(NUM_QUERIES, 3, DIM, seed=5)
ALL = {
    "positive_index": SEVERAL,
    "candidate_ids": IDS,
    "known_positive_ids": MANY_KNOWN,
    "candidate_weight": WEIGHTS,
    "score_mask": MASK,
    "sample_weight": SAMPLE_WEIGHT,
}
OPTIONS = {
    "defaults": {},
    "positive in any column": {"positive_index": INDEX},
    "several positives": {"positive_index": SEVERAL},
    "accidental hits": {"candidate_ids": IDS},
    "accidental hits of several": {"candidate_ids": IDS, "positive_index": SEVERAL},
    "few known": {"candidate_ids": IDS, "known_positive_ids": FEW_KNOWN},
    "many known": {
        "candidate_ids": IDS,
        "known_positive_ids": MANY_KNOWN,
        "positive_index": INDEX,
    },
    "weight of candidates": {"candidate_weight": WEIGHT},
    "weight of scores": {"candidate_weight": WEIGHTS, "positive_index": SEVERAL},
    "mask of candidates": {"score_mask": MASK, "positive_index": INDEX},
    "mask of scores": {"score_mask": MASKS, "positive_index": SEVERAL},
    "sample weight": {"sample_weight": SAMPLE_WEIGHT[:, None]},
    "all": ALL,
    "2 hard negatives": {"num_hard_negatives": 2},
    "3 hard negatives and all": {"num_hard_negatives": 3, **ALL},
    "more hard negatives than candidates": {"num_hard_negatives": 50, "positive_index": INDEX},
    "own positives": {"positives": OWN},
    "own positives and all": {
        "positives": SEVERAL_OWN,
        "positive_ids": np.array([[11, 98, 97]] * NUM_QUERIES),
        "candidate_ids": IDS,
        "known_positive_ids": FEW_KNOWN,
        "candidate_weight": WEIGHT,
        "score_mask": MASKS,
        "num_hard_negatives": 4,
    },
    "own positives known by ids": {
        "positives": OWN,
        "positive_ids": IDS[:NUM_QUERIES],
        "candidate_ids": IDS,
    },
    "two heads": {"queries": unit(NUM_QUERIES, 2, DIM, seed=6)},
    "three heads and all": {"queries": unit(NUM_QUERIES, 3, DIM, seed=7), **ALL},
    "heads and own positives": {
        "queries": unit(NUM_QUERIES, 2, DIM, seed=6),
        "positives": SEVERAL_OWN,
        "num_hard_negatives": 2,
    },
    "fewer candidates than queries": {"candidates": CANDIDATES[:3], "positives": OWN},
    "one candidate": {"candidates": CANDIDATES[:1], "positives": OWN},
    "the positive alone": {"candidates": CANDIDATES[:1], "positive_index": np.zeros(7, int)},
}


class Row:
    """What the options of `embedding_loss` say of row i, candidate by candidate.

    Positives that are not among the candidates stand behind them, for their own row alone.

    Attributes:
        columns: The candidates' embeddings `[c', dim]`, then those positives.
        own: The columns of the row's positives.
        present: Which columns are there.
        weights: v_j of the columns, or None.
    """

    def __init__(
        self,
        i,
        query,
        candidates,
        positives=None,
        positive_index=None,
        candidate_ids=None,
        positive_ids=None,
        known_positive_ids=None,
        candidate_weight=None,
        score_mask=None,
        num_hard_negatives=None,
    ):
        def cell(x, j):
            return x[j] if np.ndim(x) == 1 else x[i][j]

        number = len(candidates)
        own_ids = [] if known_positive_ids is None else [k for k in known_positive_ids[i] if k >= 0]
        if positives is None:
            self.columns = candidates
            index = [i] if positive_index is None else np.ravel(positive_index[i]).tolist()
            self.own = {p for p in index if p >= 0}
            if candidate_ids is not None:
                own_ids += [candidate_ids[p] for p in self.own]
        else:
            more = positives[i].reshape(-1, candidates.shape[1])
            self.columns = np.concatenate([candidates, more])
            self.own = set(range(number, number + len(more)))
        if positive_ids is not None:
            own_ids += np.ravel(positive_ids[i]).tolist()
        self.present, weights = [], []
        for j in range(len(self.columns)):
            is_in_ids = candidate_ids is not None and j < number and candidate_ids[j] in own_ids
            is_masked = score_mask is not None and j < number and not cell(score_mask, j)
            self.present.append((j in self.own or not is_in_ids) and not is_masked)
            is_weighed = candidate_weight is not None and j < number
            weights.append(float(cell(candidate_weight, j)) if is_weighed else 1.0)
        self.weights = None if candidate_weight is None else weights
        if num_hard_negatives is not None:
            scores = self.scores(query)
            negatives = [j for j, s in enumerate(scores) if j not in self.own and s > -np.inf]
            # Python's sort is stable: of tied candidates the first are taken.
            for j in sorted(negatives, key=lambda j: -scores[j])[num_hard_negatives:]:
                self.present[j] = False

    def scores(self, query):
        """The best of the heads' scores `[c']`, in float64, -inf where a candidate is absent."""
        scores = (query.astype("float64") @ self.columns.T.astype("float64")).max(axis=0)
        for j, is_there in enumerate(self.present):
            has_weight = self.weights is None or self.weights[j] > 0 or j in self.own
            if not (is_there and has_weight):
                scores[j] = -np.inf
        return scores.tolist()


def naive_of(
    naive_loss,
    queries,
    candidates,
    positives=None,
    sample_weight=None,
    threshold=None,
    **options,
):
    """A naive loss on every row: values `[q]`, and gradients of their sum like the embeddings."""
    inputs = [x for x in (queries, candidates, positives) if x is not None]
    values, gradients = [], [np.zeros(x.shape) for x in inputs]
    for i, query in enumerate(queries):
        heads = query.reshape(-1, query.shape[-1])
        row = Row(i, heads, candidates, positives, **options)
        weight = 1.0 if sample_weight is None else float(np.ravel(sample_weight)[i])
        own = {} if threshold is None else {"threshold": float(np.ravel(threshold)[i])}
        value, slopes = mean_over_positives(
            functools.partial(naive_loss, weights=row.weights, **own),
            row.scores(heads),
            row.own,
        )
        values.append(weight * value)
        by_query = np.zeros(heads.shape)
        for j, slope in enumerate(slopes):
            best = (heads.astype("float64") @ row.columns[j]).argmax()
            by_query[best] += weight * slope * row.columns[j]
            by_column = weight * slope * heads[best].astype("float64")
            if j < len(candidates):
                gradients[1][j] += by_column
            else:
                gradients[2][i].reshape(-1, heads.shape[1])[j - len(candidates)] += by_column
        gradients[0][i] = by_query.reshape(query.shape)
    return np.array(values), gradients


def matrix_of(
    make, queries, candidates, positives=None, sample_weight=None, threshold=None, **options
):
    """The same by the loss of a score matrix, differentiated by the backend."""
    number, width = len(candidates), 0 if positives is None else positives[0].size // DIM
    shape = len(queries), number + width * len(queries)
    labels, present = np.zeros(shape, "float32"), np.zeros(shape, bool)
    weights = np.ones(shape, "float32")
    for i, query in enumerate(queries):
        row = Row(i, query.reshape(-1, DIM), candidates, positives, **options)
        own = np.arange(width) + number + i * width
        for j, column in enumerate([*range(number), *own]):
            labels[i, column], present[i, column] = j in row.own, row.present[j]
            weights[i, column] = 1.0 if row.weights is None else row.weights[j]
    loss = make(reduction=None, max_positives=max(1, int(labels.sum(axis=1).max())))

    def function(queries, candidates, *positives):
        columns = ops.concatenate([candidates, *(ops.reshape(x, (-1, DIM)) for x in positives)])
        scores = ops.matmul(queries, ops.transpose(columns))
        scores = ops.max(scores, axis=1) if len(scores.shape) == 3 else scores
        scores = ops.where(ops.convert_to_tensor(present), scores, -np.inf)
        weighed = None if options.get("candidate_weight") is None else weights
        flat = None if sample_weight is None else np.ravel(sample_weight)
        given = {} if threshold is None else {"threshold": threshold}
        return loss(labels, scores, sample_weight=flat, candidate_weight=weighed, **given)

    inputs = [x for x in (queries, candidates, positives) if x is not None]
    return value_and_gradients(function, inputs)


def engine_of(loss, queries, candidates, positives=None, mode="eager", upstream=None, **options):
    """Value and gradients of `embedding_loss`."""
    inputs = [x for x in (queries, candidates, positives) if x is not None]

    def function(queries, candidates, positives=None):
        return embedding_loss(loss, queries, candidates, positives=positives, **options)

    return value_and_gradients(function, inputs, mode, upstream)


def assert_close(actual, expected, tolerance=1e-5):
    (value, gradients), (expected_value, expected_gradients) = actual, expected
    np.testing.assert_allclose(value, expected_value, rtol=tolerance, atol=tolerance)
    assert len(gradients) == len(expected_gradients)
    for gradient, one in zip(gradients, expected_gradients, strict=True):
        size = np.abs(one).max(initial=1)
        np.testing.assert_allclose(gradient, one, rtol=tolerance, atol=tolerance * size)
