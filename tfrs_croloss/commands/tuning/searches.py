"""The folder of a search: its settings, trials and results."""

import dataclasses
import shutil
from pathlib import Path

import yaml

from tfrs_croloss._files import replaced_file, replaced_folder
from tfrs_croloss.commands.experiment.options import Config
from tfrs_croloss.commands.experiment.runs import (
    Run,
    check_unchanged,
    explained,
    read_json,
    write_json,
)
from tfrs_croloss.commands.tuning.space import options_of


class Search:
    """A folder `<runs>/<name>`.

    - `search.yaml`: the options that are the same for all trials, the space, and the data.
    - `keras-tuner/`: which trials there are, as keras-tuner keeps it.
    - `trials/<trial>/`: a run each, without a test; `validation.json`, the best epoch, is written
      last. Checkpoints are removed when they are of no more use.
    - `config.yaml`: the options of the best trial, for `train --config`.
    - `trials.md`, `importance.png`, and `trials.json`, written last.

    Args:
        config: A `Config`, of all that is not varied.
        tuning: A `TuningOptions`.
        space: What `read_space` gave.
        fingerprint: Of the data.
    """

    def __init__(self, config, tuning, space, fingerprint):
        self.config, self.tuning, self.space, self.fingerprint = config, tuning, space, fingerprint
        self.folder = Path(config.runs) / config.name
        self.settings_path = self.folder / "search.yaml"
        self.state = self.folder / "keras-tuner"
        self.config_path = self.folder / "config.yaml"
        self.table_path = self.folder / "trials.md"
        self.plot_path = self.folder / "importance.png"
        self.results_path = self.folder / "trials.json"

    def check(self):
        """Refuses a folder that holds something else.

        Raises:
            ValueError: If it holds a run, or a search with other settings or on other data.
        """
        if not self.settings_path.exists():
            if self.config_path.exists():
                raise ValueError(f"{self.folder} holds a run. Choose another --name for the search")
            return
        with explained(self.settings_path):
            settings = yaml.safe_load(self.settings_path.read_text())
            # Options that have come since are as they were.
            old = dataclasses.asdict(Config(**settings["options"]))
            old |= settings["search"] | {"space": settings["space"]}
            data = settings["data"]
        new = {**dataclasses.asdict(self.config), **self._search(), "space": self.space}
        check_unchanged(self.folder, "search", old, new)
        if data != self.fingerprint:
            raise ValueError(
                f"the data is not what {self.folder} was tuned on: its file, or the package it "
                "comes from, has changed since. Tune anew under another --name"
            )

    def write(self):
        """Writes the settings, for `check`."""
        content = {
            "search": self._search(),
            "options": dataclasses.asdict(self.config),
            "space": self.space,
            "data": self.fingerprint,
        }
        with replaced_file(self.settings_path) as path:
            path.write_text(yaml.safe_dump(content, sort_keys=False))

    def _search(self):
        # More trials may be asked for at any time.
        return {"search": self.tuning.search, "factor": self.tuning.factor}

    @property
    def is_complete(self):
        """Whether as many trials as are asked for have been run, and reported on."""
        return (
            self.results_path.exists()
            and read_json(self.results_path)["max_trials"] == self.tuning.trials
        )

    def trial(self, trial_id):
        """The `Trial` of that name."""
        return Trial(self.folder / "trials" / trial_id)

    def epochs_of(self, assignment):
        """Epochs that a trial is granted, from the tuner's `Assignment`."""
        # Hyperband counts in validations: what has not been validated it can't judge.
        granted = assignment.epochs and assignment.epochs * self.config.validate_every
        return min(granted or self.config.epochs, self.config.epochs)

    def config_of(self, assignment):
        """The `Config` of a trial.

        Raises:
            ValueError: If its options contradict each other.
        """
        return dataclasses.replace(
            self.config,
            **options_of(assignment.values, self.config),
            epochs=self.epochs_of(assignment),
            name=assignment.trial_id,
            runs=str(self.folder / "trials"),
        )


class Trial(Run):
    """The folder of a trial: a run that is not tested."""

    def __init__(self, folder):
        super().__init__(folder)
        self.validation_path = self.folder / "validation.json"
        self.error_path = self.folder / "error.txt"

    @property
    def validation(self):
        """The best epoch's row of the history, or None before the trial has ended."""
        return read_json(self.validation_path) if self.validation_path.exists() else None

    @property
    def error(self):
        """Why it failed, or None."""
        return self.error_path.read_text() if self.error_path.exists() else None

    def begin(self, config, parent):
        """Opens the folder, with the checkpoints of `parent` where it goes on from one."""
        Run.create(config)
        # They are gone in a search that has been reported on; then it trains from nothing.
        if parent is not None and parent.checkpoints.exists() and not self.checkpoints.exists():
            with replaced_folder(self.checkpoints) as copy:
                shutil.copytree(parent.checkpoints, copy)

    def end(self, row, is_continued):
        """Keeps the best epoch's row; with `is_continued` the checkpoints, too."""
        write_json(self.validation_path, row)
        if not is_continued:
            self.clear()

    def fail(self, message):
        """Keeps why it failed: keras-tuner does not send it to the chief."""
        with replaced_file(self.error_path) as path:
            path.write_text(message)

    def clear(self):
        """Removes the checkpoints."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)
