"""Exported models: the versions in a folder, and how one is loaded, with TensorFlow alone."""

from pathlib import Path


def versions(path):
    """The versions of a model in a folder, as TensorFlow Serving lays them out.

    Args:
        path: Folder of `<version>/` folders; there need not be one.

    Returns:
        A dict from the version, an int, to its folder.
    """
    path = Path(path)
    folders = [x for x in path.iterdir() if x.is_dir()] if path.is_dir() else []
    return {int(x.name): x for x in folders if x.name.isascii() and x.name.isdigit()}


def latest_version(path):
    """The folder that a server would load: the largest version in `path`, or `path` itself."""
    found = versions(path)
    return found[max(found)] if found else Path(path)


def load(folder):
    """Loads a SavedModel, and ScaNN's op if it wants it.

    Args:
        folder: Folder of the SavedModel.

    Returns:
        What `tf.saved_model.load` gives.

    Raises:
        ValueError: If the folder holds no SavedModel that loads here, or one that wants ScaNN's op
            where ScaNN is missing.
    """
    import tensorflow as tf

    try:
        try:
            return tf.saved_model.load(str(folder))
        except (RuntimeError, tf.errors.NotFoundError) as error:
            if "Scann" not in str(error):
                raise
            import scann  # noqa: F401  registers the search op that the model wants

            return tf.saved_model.load(str(folder))
    except ImportError:
        raise ValueError(
            f"{folder} searches with ScaNN, which is not installed. Install the extra: pip install "
            '"tfrs-croloss[scann]", or export with an exact search'
        ) from None
    except (OSError, RuntimeError, tf.errors.OpError) as error:
        raise ValueError(
            f"{folder}: no SavedModel that loads here; write one with `tfrs-croloss export` or "
            f"`tfrs_croloss.serving.export_model` ({error})"
        ) from error
