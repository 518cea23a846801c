"""Recall@N and its companions, of an index and query embeddings."""

from tfrs_croloss._extras import require

require("tfrs_croloss.evaluation", "scipy")

from tfrs_croloss.evaluation.evaluate import Evaluation, evaluate
from tfrs_croloss.evaluation.metrics import coverage, mrr, ndcg, recall

__all__ = ["Evaluation", "coverage", "evaluate", "mrr", "ndcg", "recall"]
