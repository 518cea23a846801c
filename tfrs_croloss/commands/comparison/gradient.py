"""Where a loss pushes: at which negatives of a row, and in which rows."""

import warnings
from typing import NamedTuple

import numpy as np

from tfrs_croloss.commands.experiment.build import build_task, facts_of
from tfrs_croloss.data import training_batches
from tfrs_croloss.retrieval.requirements import tf

# A row has one dimension of its own in the probe, so that its cost grows with their square.
NUM_ROWS = 512
# Of a bin, to have a median.
LEAST_ROWS = 5


class Push(NamedTuple):
    """How a loss shares its gradient ∂loss/∂s_j out, at the negatives j of some rows.

    Attributes:
        share: The shares of a row's negatives in the sum of its |∂loss/∂s_j|, by their rank, the
            highest score first; the median over rows. `[num_negatives]`.
        rank: Ranks of the positive among its negatives, 1 the best, `[num_bins]`: those of a power
            of two and below the next are put together, and this is their median.
        weight: What the rows of that rank have of the gradient: the median of their sums, over the
            mean of all rows. `[num_bins]`.
    """

    share: np.ndarray
    rank: np.ndarray
    weight: np.ndarray


def gradient_by_rank(config, data, model):
    """The `Push` of a run's loss, as the run is trained.

    The scores are the cosines of its model in one of its training batches, and the gradient that
    of its own task.

    Args:
        config: The run's `Config`.
        data: Its `RetrievalData`.
        model: Its model, as a `TrainedRun` has it.
    """
    # Without a memory: what it holds are embeddings, which the probe has no scores of.
    task = build_task(config, facts_of(config, data), model.task.loss)
    probe = _Probe(task)
    batches, _ = training_batches(
        data,
        min(config.batch_size, NUM_ROWS),
        epochs=1,
        history_length=config.history_length_of_tower,
        seed=config.seed,
    )
    own, model.task = model.task, probe
    try:
        model.compute_loss(next(iter(batches)))
    finally:
        model.task = own
    return Push(median_share(*probe.found), *median_weight(*probe.found))


def median_share(scores, gradient, is_negative):
    """The median over rows of each rank's share in the row's gradient.

    Args:
        scores: `[num_rows, num_candidates]`.
        gradient: ∂loss/∂score, of the same shape.
        is_negative: Which candidates are negatives, bool of the same shape.

    Returns:
        An array as long as the fewest negatives of a row; ranks beyond these are left out, though
        their share counts in the others'.
    """
    size = np.where(is_negative, np.abs(gradient), 0)
    order = np.argsort(np.where(is_negative, -scores, np.inf), axis=1, kind="stable")
    size = np.take_along_axis(size, order, axis=1)
    total = size.sum(axis=1)
    has_gradient = total > 0
    if not has_gradient.any():
        return np.zeros(0)
    longest = is_negative.sum(axis=1)[has_gradient].min()
    return np.median(size[has_gradient, :longest] / total[has_gradient, np.newaxis], axis=0)


def median_weight(scores, gradient, is_negative):
    """How much of the gradient a row gets, by the rank of its positive; see `Push`.

    Args:
        scores: `[num_rows, num_candidates]`, those of the positives on the diagonal.
        gradient: ∂loss/∂score, of the same shape.
        is_negative: Which candidates are negatives, bool of the same shape.

    Returns:
        Two arrays, `rank` and `weight`; bins of fewer than `LEAST_ROWS` rows are left out.
    """
    positive = np.diagonal(scores)[:, np.newaxis]
    rank = 1 + ((scores > positive) & is_negative).sum(axis=1)
    size = np.where(is_negative, np.abs(gradient), 0).sum(axis=1)
    if not size.any():
        return np.zeros(0), np.zeros(0)
    bins = np.floor(np.log2(rank)).astype(int)
    rows = [bins == number for number in np.unique(bins) if (bins == number).sum() >= LEAST_ROWS]
    return tuple(np.array([np.median(x[row]) for row in rows]) for x in (rank, size / size.mean()))


class _Probe:
    """In place of a model's task: differentiates its loss in the scores.

    The task takes embeddings, and may forget their scores. With the rows of an identity as queries
    and the columns of the scores as candidates, the products are these scores again, and the
    gradient in the candidates is that in the scores.
    """

    def __init__(self, task):
        # What the model asks of its task.
        self.task, self.cross_replica, self.loss = task, task.cross_replica, task.loss

    def __call__(self, queries, candidates, candidate_ids, in_batch, **options):
        scores = tf.matmul(queries, candidates, transpose_b=True)
        num_rows = len(scores)
        with tf.GradientTape() as tape, warnings.catch_warnings():
            # The columns of the scores are longer than 1, though the scores are cosines.
            warnings.filterwarnings("ignore", message=".* takes cosines")
            tape.watch(scores)
            loss = self.task(
                tf.eye(num_rows),
                tf.transpose(scores),
                candidate_ids=candidate_ids,
                in_batch=in_batch,
                **options,
            )
        ids = candidate_ids.numpy()
        is_negative = ids[:num_rows, np.newaxis] != ids
        if not in_batch:
            is_negative[:, :num_rows] = False
        self.found = scores.numpy(), tape.gradient(loss, scores).numpy(), is_negative
        return loss
