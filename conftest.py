"""What must be set before TensorFlow is imported for the first time."""

import os

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # TensorFlow Recommenders is Keras 2 only.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

pytest_plugins = ["tests.workers"]
# No doctests stand there, and the service has an environment of its own.
collect_ignore = ["tfrs_croloss/commands"]
