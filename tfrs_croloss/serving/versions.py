"""Folders of a model's versions, as TensorFlow Serving lays them out: `<name>/<version>/`."""

from pathlib import Path


def versions(path):
    """The versions in a folder, ascending."""
    path = Path(path)
    names = [folder.name for folder in path.iterdir()] if path.is_dir() else []
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


def next_version(path):
    """One more than the largest version in a folder; 1 in an empty one."""
    return max(versions(path), default=0) + 1
