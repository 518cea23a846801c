"""Runs notebooks from top to bottom, each in a kernel of its own.

    make notebooks

writes their outputs into them.
"""

import argparse
import os
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parent
# What Keras 3 runs on, where it is not TensorFlow: such notebooks have an environment of their own.
BACKENDS = {"5-keras-3-and-jax.ipynb": "jax"}
# An interpreter beside the kernel's that a notebook starts, made by make's target of the folder.
NEEDS = {"4-from-model-to-service.ipynb": FOLDER.parent / ".venv-serving" / "bin" / "python"}
# Of a cell; a notebook takes one to three minutes.
TIMEOUT = 900


def notebooks(backend=None):
    """The paths of the notebooks in their order: all, or those for a backend of Keras 3."""
    paths = sorted(FOLDER.glob("*.ipynb"))
    return [path for path in paths if backend in (None, BACKENDS.get(path.name, "tensorflow"))]


def execute(path):
    """Runs a notebook in its folder, as Jupyter does.

    Args:
        path: The notebook's; the file stays as it is.

    Returns:
        The notebook with its new outputs, and what it wrote to stderr: logs and warnings are for
        whoever runs it, and do not stay.

    Raises:
        nbclient.exceptions.CellExecutionError: If a cell fails.
        nbclient.exceptions.CellTimeoutError: If a cell takes too long.
    """
    notebook = nbformat.read(path, as_version=4)
    # What the notebook needs it sets itself.
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("KERAS_BACKEND", "TF_USE_LEGACY_KERAS")
    }
    environment["TF_CPP_MIN_LOG_LEVEL"] = "3"
    resources = {"metadata": {"path": str(path.parent)}}
    client = NotebookClient(notebook, timeout=TIMEOUT, resources=resources, record_timing=False)
    client.execute(env=environment)
    # Which Python it was would be noise.
    notebook.metadata["language_info"] = {"name": "python"}
    errors = []
    for cell in notebook.cells:
        outputs = cell.get("outputs", [])
        errors += [output.text for output in outputs if output.get("name") == "stderr"]
        if outputs:
            cell.outputs = [output for output in outputs if output.get("name") != "stderr"]
    return notebook, "".join(errors)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("only", nargs="*", help="numbers of notebooks; all by default")
    chosen = tuple(parser.parse_args().only) or ("",)
    for path in notebooks(os.environ.get("KERAS_BACKEND", "tensorflow")):
        if path.name.startswith(chosen):
            started = time.perf_counter()
            notebook, errors = execute(path)
            nbformat.write(notebook, path)
            print(f"{errors}{path.name}: {time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
