"""keras-tuner's searches over any function that trains something and returns a float."""

from tfrs_croloss._extras import require

# scikit-learn, with SciPy and threadpoolctl: keras-tuner's Bayesian search.
require("tfrs_croloss.tuning", "keras_tuner", "sklearn", extra="tune")

from tfrs_croloss.tuning.importance import Importance, importances
from tfrs_croloss.tuning.space import build_space
from tfrs_croloss.tuning.tuner import (
    Assignment,
    BayesianOptimization,
    FunctionTuner,
    Hyperband,
    RandomSearch,
    process_role,
)

__all__ = [
    "Assignment",
    "BayesianOptimization",
    "FunctionTuner",
    "Hyperband",
    "Importance",
    "RandomSearch",
    "build_space",
    "importances",
    "process_role",
]
