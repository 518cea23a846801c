"""Names for what signatures take, where the libraries have no types to name.

Arrays are of numpy, of TensorFlow, JAX or PyTorch, or nested lists: none of the libraries' types
fits all of them. The docstrings have the shapes.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

Array: TypeAlias = Any
ArrayFunction: TypeAlias = Callable[..., Array]
# What towers take: arrays by name.
Features: TypeAlias = Mapping[str, Array]
# Weights, or a function from features of rows and of candidates to them; by name, where several.
CandidateWeight: TypeAlias = Array | ArrayFunction | Mapping[str, Array | ArrayFunction] | None
# Of scipy.sparse.
SparseMatrix: TypeAlias = Any
# A name, a dtype of numpy or of a backend, or a policy of Keras.
DType: TypeAlias = Any
# Of Keras 3 or of tf_keras.
Loss: TypeAlias = Any
Model: TypeAlias = Any
StrPath: TypeAlias = str | os.PathLike[str]
