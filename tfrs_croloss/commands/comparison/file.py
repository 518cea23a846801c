"""What is compared: the file of a comparison, checked."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import jsonargparse
import yaml

from tfrs_croloss.commands.experiment.classes import ROLES, canonical
from tfrs_croloss.commands.experiment.options import GROUPS, MOVIELENS, Config
from tfrs_croloss.commands.experiment.runs import Run

SEEDS = 3
KEYS = ("common", "losses", "seeds", "baseline", "ours")
# What a loss may have of its own, the score too: BPR is meant for products. All else is the same
# for all: the data, the towers, the epochs and how one of them is chosen.
ITS_OWN = (
    *("loss", "temperature", "score", "threshold_k", "refresh_thresholds"),
    *("negatives", "weigh", "mask_known", "memory_size", "reverse_weight", "dropout"),
    *("optimizer", "batch_size", "schedule"),
)
# What the comparison gives each of its runs.
GIVEN = {"seed": "--seeds", "name": "--name", "runs": "--runs"}
SPLIT_SEED = 0


@dataclass(frozen=True)
class Comparison:
    """One config, several losses, several seeds.

    Attributes:
        folder: Where all is written to; the run of a loss and a seed in `<loss>-<seed>/`.
        common: The options that the file gives all losses.
        files: Of these the data files, as the file names them: results do not say where they lay.
        own: From the name of a loss to the options that the file gives it alone.
        configs: From the name of a loss to a `Config` a seed.
        baseline: Name of the loss that the others are measured against.
        ours: Name of the loss that the verdict is on.
    """

    folder: Path
    common: dict
    files: dict
    own: dict
    configs: dict
    baseline: str
    ours: str

    @classmethod
    def read(cls, path, folder, data=None, seeds=None):
        """Reads the YAML file of a comparison.

        Args:
            path: The file: `common` and `losses`, and maybe `seeds`, `baseline` and `ours`.
            folder: Folder of the comparison.
            data: Folder that relative paths of data files start from; by default the current one.
            seeds: Number of seeds; by default what the file says, or else 3.

        Raises:
            ValueError: With the file, the line or key, and what was expected.
            OSError: If the file can't be read.
        """
        path, folder = Path(path), Path(folder)
        content = _load(path)

        def check(is_right, key, expected, found):
            if not is_right:
                raise ValueError(f"{path}: {key}: expected {expected}. Received: {found!r}")

        for key in content:
            check(key in KEYS, key, f"one of the keys {', '.join(KEYS)}", key)
        common = content.get("common") or {}
        check(isinstance(common, dict), "common", "options of `train`", common)
        losses = content.get("losses")
        check(isinstance(losses, dict) and losses, "losses", "a name and options a loss", losses)
        for name, own in losses.items():
            check(isinstance(name, str), "losses", "names that are strings", name)
            check(isinstance(own or {}, dict), f"losses.{name}", "options of `train`", own)
        baseline = content.get("baseline", "softmax" if "softmax" in losses else next(iter(losses)))
        ours = content.get("ours", list(losses)[-1])
        for key, name in (("baseline", baseline), ("ours", ours)):
            check(name in losses, key, f"one of the losses {', '.join(losses)}", name)
        if seeds is None:
            seeds = content.get("seeds", SEEDS)
            check(type(seeds) is int and seeds > 0, "seeds", "a positive integer", seeds)
        elif seeds < 1:
            raise ValueError(f"--seeds must be positive. Received: {seeds}")

        common = _typed(path, "common", common)
        for key, option in GIVEN.items():
            check(key not in common, f"common.{key}", f"no such key: it comes from {option}", key)
        files = {key: common[key] for key in ("train", "test") if key in common}
        for key in files:
            if common[key] not in (None, MOVIELENS):
                common[key] = str(Path(data or ".") / common[key])
                if not Path(common[key]).exists():
                    raise ValueError(
                        f"{path}: common.{key}: there is no file {common[key]}. A relative path "
                        "starts from --data"
                    )
        # One split for all seeds.
        common.setdefault("split_seed", SPLIT_SEED)
        own = {name: _own(path, name, options or {}) for name, options in losses.items()}
        configs = {
            name: [
                _config(path, name, folder, {**common, **options, "seed": seed})
                for seed in range(seeds)
            ]
            for name, options in own.items()
        }
        return cls(folder, common, files, own, configs, baseline, ours)

    @property
    def all_configs(self):
        """The configs of all runs, a list."""
        return [config for configs in self.configs.values() for config in configs]

    def complete_runs(self, name):
        """The `Run`s of a loss that are complete, in the order of the seeds."""
        runs = (Run(self.folder / config.name) for config in self.configs[name])
        return [run for run in runs if run.is_complete]

    def alpha_groups(self, names):
        """Of the losses of these names, those that differ in `alpha` alone.

        Returns:
            A list of dicts from alpha, ascending, to the name of a loss; each has two at least.
        """
        groups = []
        for name in names:
            config = self.configs[name][0]
            rest = {**dataclasses.asdict(config), "name": None}
            alpha = rest["loss"]["init_args"].pop("alpha", 1.0)
            group = next((found for other, found in groups if other == rest), None)
            if group is None:
                groups.append((rest, group := {}))
            group.setdefault(alpha, name)
        return [dict(sorted(group.items())) for _, group in groups if len(group) > 1]


def _load(path):
    try:
        content = yaml.load(path.read_text(), Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else str(path)
        raise ValueError(
            f"{where}: expected YAML: {getattr(error, 'problem', None) or error}"
        ) from None
    except (FileNotFoundError, IsADirectoryError):
        raise ValueError(
            f"--config {path}: no such file. It is a YAML file of losses, as the demo's"
        ) from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected YAML in UTF-8: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected the keys {', '.join(KEYS)}. Received: {content!r}")
    return content


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML's own takes the last and says nothing."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key) for key, _ in node.value]
        for number, (key, _) in enumerate(node.value):
            if keys[number] in keys[:number]:
                raise yaml.constructor.ConstructorError(
                    problem=f"the key {keys[number]!r} is given twice", problem_mark=key.start_mark
                )
        return super().construct_mapping(node, deep)


def _own(path, name, options):
    options = _typed(path, f"losses.{name}", options)
    for key in options:
        if key not in ITS_OWN:
            raise ValueError(
                f"{path}: losses.{name}.{key}: expected it under common: it must be the same for "
                f"all losses, or they could not be compared. What a loss may have of its own: "
                f"{', '.join(ITS_OWN)}"
            )
    return options


def _typed(path, where, options):
    """The options, as `train` takes them from a command line."""
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    for group in GROUPS:
        parser.add_class_arguments(group)
    typed = {}
    for key, value in options.items():
        try:
            if key in ROLES:
                typed[key] = canonical(key, value)
                continue
            # One at a time: jsonargparse does not always say which of them is wrong.
            typed[key] = getattr(parser.parse_object({key: value}), key)
        except (jsonargparse.ArgumentError, TypeError, AttributeError, ValueError) as error:
            said = " ".join(str(error).split())
            raise ValueError(
                f"{path}: {where}.{key}: expected an option of `train` and its kind of value "
                f"(tfrs-croloss train --help). Received: {value!r} ({said})"
            ) from None
    return typed


def _config(path, name, folder, options):
    try:
        return Config(**options, name=f"{name}-{options['seed']}", runs=str(folder))
    except ValueError as error:
        raise ValueError(f"{path}: losses.{name}: {error}") from None
