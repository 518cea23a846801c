"""The folder of a run: its config, history, checkpoints and results."""

import contextlib
import dataclasses
import json
import zipfile
from pathlib import Path

import numpy as np
import yaml

from tfrs_croloss._files import replaced_file
from tfrs_croloss.commands.experiment.classes import in_words
from tfrs_croloss.commands.experiment.options import Config

# Where a run lies and on what it is trained: it may be resumed elsewhere, and on other replicas.
MAY_CHANGE = ("name", "runs", "strategy", "replicas", "workers", "save_every")


class Run:
    """A folder `<runs>/<name>`.

    - `config.yaml`: the resolved config, which `train --config` takes as it is.
    - `history.json`: loss (mean over the batches of an epoch, each a sum over its rows),
      validation metrics and seconds of training so far of each validated epoch; a copy of what the
      checkpoints hold.
    - `checkpoints/`: `last`, to resume from, numbered by steps, and `best`, by validation,
      numbered by epochs.
    - `per_user.npz`: Recall and NDCG of each test user (`user`: rows of the vocabulary), for tests
      of significance.
    - `metrics.json`: the test metrics, wall time and memory of training, written last: without it
      the run is not complete.
    - `recall.png`, and `export/` once exported.
    """

    def __init__(self, folder):
        self.folder = Path(folder)
        self.config_path = self.folder / "config.yaml"
        self.history_path = self.folder / "history.json"
        self.metrics_path = self.folder / "metrics.json"
        self.per_user_path = self.folder / "per_user.npz"
        self.plot_path = self.folder / "recall.png"
        self.checkpoints = self.folder / "checkpoints"
        self.export = self.folder / "export"

    @classmethod
    def of(cls, config):
        """The run of a `Config`, which need not be there yet."""
        return cls(Path(config.runs) / config.name)

    @classmethod
    def create(cls, config, is_chief=True):
        """Opens the folder for `config`: a new one, or one that the same config began.

        Args:
            config: A `Config`.
            is_chief: Whether this process is the one of its cluster that writes.

        Raises:
            ValueError: If the folder holds a run of another config.
        """
        run = cls.of(config)
        if run.checkpoints.exists() and any(run.checkpoints.glob("*/checkpoint")):
            check_unchanged(
                run.folder, "run", dataclasses.asdict(run.config()), dataclasses.asdict(config)
            )
        if is_chief:
            with replaced_file(run.config_path) as path:
                path.write_text(yaml.safe_dump(dataclasses.asdict(config), sort_keys=False))
        return run

    @classmethod
    def open(cls, folder):
        """Opens the folder of a complete run.

        Raises:
            ValueError: If it is none.
        """
        run = cls(folder)
        if not run.config_path.exists():
            raise ValueError(f"{folder} is not the folder of a run: it has no config.yaml")
        if not run.is_complete:
            raise ValueError(
                f"the run in {folder} is not complete. Resume it: "
                f"tfrs-croloss train --config {run.config_path}"
            )
        return run

    @property
    def is_complete(self):
        return self.metrics_path.exists()

    def config(self):
        """The config that the run was made with."""
        with explained(self.config_path):
            options = dict(yaml.safe_load(self.config_path.read_text()))
        try:
            return Config(**options)
        except (TypeError, ValueError) as error:
            # E.g. a class that is gone.
            raise ValueError(f"{self.config_path}: {error}") from None

    def history(self):
        """A list of dicts, one for each validated epoch."""
        return read_json(self.history_path) if self.history_path.exists() else []

    def metrics(self):
        """What `write_json(run.metrics_path, …)` wrote."""
        return read_json(self.metrics_path)


def check_unchanged(folder, kind, old, new):
    """Refuses options that differ from those of what the folder holds.

    Args:
        folder: Folder of a run or a search.
        kind: What it is.
        old: Its options, by name.
        new: Those of now, of the same names.

    Raises:
        ValueError: With the options that changed.
    """
    changed = [
        f"{option} was {in_words(old[option])}, is {in_words(new[option])}"
        for option in new
        if old[option] != new[option] and option not in MAY_CHANGE
    ]
    if changed:
        raise ValueError(
            f"{folder} holds a {kind} with other options ({'; '.join(changed)}). Choose another "
            "--name, or remove the folder"
        )


def write_json(path, content):
    """Writes a JSON file, whole or not at all."""
    with replaced_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


def write_arrays(path, arrays):
    """Writes a compressed .npz file of a dict of arrays, whole or not at all."""
    with replaced_file(path) as temporary:
        np.savez_compressed(temporary, **arrays)


def read_arrays(path):
    """Reads what `write_arrays` wrote; a damaged file is a `ValueError` that names it."""
    with explained(path), np.load(path) as arrays:
        return dict(arrays)


def read_json(path):
    """Reads a JSON file; a damaged one is a `ValueError` that names it."""
    with explained(path):
        return json.loads(path.read_text())


@contextlib.contextmanager
def explained(path):
    try:
        yield
    except (ValueError, TypeError, yaml.YAMLError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
