"""Finding and loading exported models, with TensorFlow alone.

`tfrs_croloss.evaluation` has a loader of its own: a client of an export imports nothing of the
library, and the library nothing of the pipelines.
"""

import re
from pathlib import Path

import tensorflow as tf


def versions(path):
    """The version folders in a folder by number, as TensorFlow Serving would see them."""
    path = Path(path)
    folders = [x for x in path.iterdir() if x.is_dir()] if path.is_dir() else []
    return {int(x.name): x for x in folders if re.fullmatch("[0-9]+", x.name)}


def load(folder):
    """Loads a SavedModel, and ScaNN's op if it wants it.

    Raises:
        ValueError: If it does not load here.
    """
    folder = str(folder)
    try:
        try:
            return tf.saved_model.load(folder)
        except (RuntimeError, tf.errors.NotFoundError) as error:
            if "Scann" not in str(error):
                raise
            import scann  # noqa: F401  registers the search op that the model wants

            return tf.saved_model.load(folder)
    except ImportError:
        raise ValueError(
            f"{folder} searches with ScaNN, which is not installed. Install the extra: pip install "
            '"tfrs-croloss[scann]", or export with --index exact'
        ) from None
    except (OSError, RuntimeError, tf.errors.OpError) as error:
        raise ValueError(
            f"{folder}: no SavedModel that loads here ({error}). Write one with "
            "`tfrs-croloss export`"
        ) from None
