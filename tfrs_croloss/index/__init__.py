"""Indexes over candidate embeddings: arrays in, ids out."""

from tfrs_croloss._extras import require

require("tfrs_croloss.index", "pandas", "scipy", "threadpoolctl", extra="evaluation")

from tfrs_croloss.index.base import Index, Neighbors
from tfrs_croloss.index.build import build_index
from tfrs_croloss.index.catalogue import Catalogue
from tfrs_croloss.index.exact import ExactIndex
from tfrs_croloss.index.scann import ScaNNIndex

__all__ = ["Catalogue", "ExactIndex", "Index", "Neighbors", "ScaNNIndex", "build_index"]
