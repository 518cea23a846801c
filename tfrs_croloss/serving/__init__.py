"""From a trained model to a SavedModel that TensorFlow Serving loads."""

from tfrs_croloss._extras import require

require("tfrs_croloss.serving", "tensorflow_serving")

from tfrs_croloss.serving.export import export_model

__all__ = ["export_model"]
