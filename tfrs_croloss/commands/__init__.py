"""The commands a person runs: `tfrs-croloss --help`."""

import os

# Before TensorFlow is imported for the first time: TensorFlow Recommenders is Keras 2 only, and
# the losses are Keras 3 on whichever backend is set.
os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
