"""An index by name, for configurations and command lines."""

from typing import Any

from tfrs_croloss._arguments import check_choice
from tfrs_croloss._typing import Array
from tfrs_croloss.index.base import Index
from tfrs_croloss.index.exact import ExactIndex
from tfrs_croloss.index.scann import ScaNNIndex

_KINDS = {"exact": ExactIndex, "scann": ScaNNIndex}


def build_index(candidates: Array, kind: str = "exact", **options: Any) -> Index:
    """Builds an index of the kind named.

    Args:
        candidates: array-like of numbers, `[num_candidates, embedding_dim]`.
        kind: str. `"exact"` for `ExactIndex`, `"scann"` for `ScaNNIndex`.
        **options: further arguments of that class.

    Returns:
        An `Index`.

    Raises:
        ValueError: if there is no such kind.

    >>> index = build_index([[1.0, 0.0], [0.0, 1.0]], kind="exact", block_bytes=2**20)
    >>> index.search([[0.2, 0.8]], k=1).positions.tolist()
    [[1]]
    """
    return _KINDS[check_choice("kind", kind, _KINDS)](candidates, **options)
