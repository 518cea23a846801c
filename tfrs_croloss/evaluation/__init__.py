"""Recall@N and its companions, of an index and query embeddings."""

from tfrs_croloss._extras import require

require("tfrs_croloss.evaluation", "pandas", "scipy", "threadpoolctl", extra="evaluation")

from tfrs_croloss.evaluation.evaluate import evaluate
from tfrs_croloss.evaluation.export import evaluate_export
from tfrs_croloss.evaluation.lists import Evaluation, evaluate_lists
from tfrs_croloss.evaluation.metrics import coverage, mrr, ndcg, recall
from tfrs_croloss.evaluation.segments import Segment, training_segments
from tfrs_croloss.evaluation.significance import PairedBootstrap, paired_bootstrap

__all__ = [
    "Evaluation",
    "PairedBootstrap",
    "Segment",
    "coverage",
    "evaluate",
    "evaluate_export",
    "evaluate_lists",
    "mrr",
    "ndcg",
    "paired_bootstrap",
    "recall",
    "training_segments",
]
