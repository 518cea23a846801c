"""TensorFlow, tf_keras and TFRS, or the reason why they can't be had and the fix."""

import os

import keras

from tfrs_croloss._extras import require


def _check():
    require("tfrs_croloss.retrieval", "tensorflow", "tf_keras", "tensorflow_recommenders")
    if keras.backend.backend() != "tensorflow":
        raise ImportError(
            "tfrs_croloss.retrieval needs Keras 3 on the TensorFlow backend, beside the Keras 2 of "
            f"TensorFlow Recommenders; it runs on {keras.backend.backend()!r}. Set the environment "
            "variable KERAS_BACKEND=tensorflow before Keras is imported"
        )
    if os.environ.get("TF_USE_LEGACY_KERAS", "").lower() not in ("1", "true"):
        raise ImportError(
            "TensorFlow Recommenders needs Keras 2. Set the environment variable "
            "TF_USE_LEGACY_KERAS=1 before TensorFlow (or tfrs_croloss, or Keras) is imported"
        )


_check()

import tensorflow as tf  # noqa: E402
import tf_keras  # noqa: E402

try:
    import tensorflow_recommenders as tfrs
except tf.errors.NotFoundError as error:
    # TFRS imports ScaNN where it is there, and ScaNN's op is built for one TensorFlow release.
    raise ImportError(
        "ScaNN's op does not load in this TensorFlow, and takes TensorFlow Recommenders down with "
        f"it (TensorFlow {tf.__version__}). Install versions that belong together: "
        'pip install "tfrs-croloss[tfrs,scann]"'
    ) from error

__all__ = ["tf", "tf_keras", "tfrs"]
