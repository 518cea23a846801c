"""Files and folders that are there whole or not at all."""

import contextlib
import os
import tempfile
from pathlib import Path


@contextlib.contextmanager
def replaced_file(path):
    """Gives a temporary path, and moves it to `path` when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder: a move within a file system is atomic.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as folder:
        temporary = Path(folder) / path.name
        yield temporary
        os.replace(temporary, path)


@contextlib.contextmanager
def replaced_folder(path):
    """Gives a temporary folder, and puts it in place of `path` when the block ends well."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as folder:
        temporary = Path(folder) / path.name
        yield temporary
        # A folder can't be replaced in one move: the old one stands until the new one is whole.
        replaced = Path(folder) / "replaced"
        if path.exists():
            path.rename(replaced)
        try:
            temporary.rename(path)
        except OSError:
            if replaced.exists():
                replaced.rename(path)
            raise
