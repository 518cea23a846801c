"""Folders of a model's versions, as TensorFlow Serving lays them out: `<name>/<version>/`."""

from pathlib import Path


def next_version(path):
    """One more than the largest version in a folder; 1 in one without."""
    path = Path(path)
    folders = [x.name for x in path.iterdir() if x.is_dir()] if path.is_dir() else []
    versions = [int(name) for name in folders if name.isascii() and name.isdigit()]
    return max(versions, default=0) + 1
