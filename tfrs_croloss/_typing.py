"""Names for what signatures take, where the libraries have no types to name.

Arrays are of numpy, of TensorFlow, JAX or PyTorch, or nested lists: none of the libraries' types
fits all of them. The docstrings have the shapes.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np

Array: TypeAlias = Any
# A kernel: each entry of x on its own.
Elementwise: TypeAlias = Callable[[Array], Array]
# Of a rank weight: the rank and the number of items.
RankFunction: TypeAlias = Callable[[Array, Array], Array]
# Users and the largest N, to the positions of their best items.
Lists: TypeAlias = Callable[[np.ndarray, int], Array]
# A list of ids, to their embeddings.
Embedder: TypeAlias = Callable[[list[Any]], Array]
# What towers take: arrays by name.
Features: TypeAlias = Mapping[str, Array]
# From the features of a block's rows and those of the candidates, to `[rows, candidates]`.
Weighing: TypeAlias = Callable[[Any, Any], Array]
# By name, where a loss takes several.
CandidateWeight: TypeAlias = Array | Weighing | Mapping[str, Array | Weighing] | None
# Of scipy.sparse.
SparseMatrix: TypeAlias = Any
# A name, a dtype of numpy or of a backend, or a policy of Keras.
DType: TypeAlias = Any
# Of Keras 3 or of tf_keras.
Loss: TypeAlias = Any
# The config of a part that can be saved.
Config: TypeAlias = dict[str, Any]
StrPath: TypeAlias = str | os.PathLike[str]


class Tower(Protocol):
    """What `RetrievalModel` asks of a tower, as a Keras model has it."""

    @property
    def variables(self) -> Sequence[Any]:
        """The variables that are trained and saved."""

    def __call__(self, features: Any, /, *, training: bool | None = None) -> Array:
        """The embeddings `[num_rows, dim]` of features, each with a row for each."""
