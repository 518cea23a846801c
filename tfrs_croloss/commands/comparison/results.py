"""What the runs of a comparison found, put together: means, deviations, significance."""

import dataclasses
import platform
from dataclasses import dataclass

import numpy as np

from tfrs_croloss._machine import cpu
from tfrs_croloss.commands.comparison.file import GIVEN
from tfrs_croloss.commands.experiment.runs import read_arrays
from tfrs_croloss.evaluation import paired_bootstrap

LEVEL = 0.05


@dataclass(frozen=True)
class Difference:
    """How a metric of a loss differs from the baseline's: a paired bootstrap over users.

    Attributes:
        seeds: Those that both have: the differences are averaged over them.
        difference: The mean over users.
        interval: Its 95 % interval, low and high.
        relative: The difference relative to the baseline's mean, None if that is 0.
        relative_interval: The interval likewise.
        p: Of the test that there is none.
    """

    seeds: list
    difference: float
    interval: list
    relative: float | None
    relative_interval: list | None
    p: float

    @property
    def is_significant(self):
        """Whether it is more than its users' luck."""
        return self.p < LEVEL


@dataclass(kw_only=True)
class LossResult:
    """What the runs of a loss found; lists are over seeds.

    Attributes:
        options: Its own options.
        config: All of them.
        seeds: Seeds of its complete runs.
        test: From a kind of search (`exact`) to a metric to a list.
        mean: Of each metric of the exact search.
        deviation: Likewise, of a sample (ddof=1); None for a single seed.
        best_epochs: The epochs that were chosen.
        validation: From the metric that they were chosen by to a list.
        seconds: Wall time of training.
        peak_memory_mb: The most memory that a process of it had; None where it had none of its own.
        significance: From a metric to the `Difference` to the baseline; None for the baseline.
    """

    options: dict
    config: dict
    seeds: list
    test: dict
    mean: dict
    deviation: dict
    best_epochs: list
    validation: dict
    seconds: list
    peak_memory_mb: list | None = None
    significance: dict | None = None

    def differs(self, metric):
        """Whether the metric differs significantly from the baseline's."""
        found = (self.significance or {}).get(metric)
        return found is not None and found.is_significant

    def as_dict(self):
        """For JSON, without what it has not."""
        content = dataclasses.asdict(self)
        return {name: value for name, value in content.items() if value is not None}


@dataclass(kw_only=True)
class Results:
    """What a comparison found.

    Attributes:
        command: The command line that makes it again.
        machine: What it ran on.
        common: The options that the file gives all losses.
        monitor: The metric that epochs were chosen by.
        top_n: List lengths N.
        seeds: All seeds.
        baseline: Name of the loss that the others are measured against.
        ours: Name of the loss that the verdict is on.
        data: Counts of the data.
        losses: From the name of each loss that has a complete run to its `LossResult`.
        failures: From the name of a run that failed to the reason.
    """

    command: str
    machine: dict
    common: dict
    monitor: str
    top_n: list
    seeds: list
    baseline: str
    ours: str
    data: dict
    losses: dict
    failures: dict

    def as_dict(self):
        """For JSON."""
        losses = {name: of.as_dict() for name, of in self.losses.items()}
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)} | {
            "losses": losses
        }


def gather(comparison, command, failures=None, has_own_processes=True):
    """Reads the complete runs of a comparison.

    Args:
        comparison: A `Comparison`.
        command: The command line that makes it again.
        failures: From the name of a run that failed to the reason.
        has_own_processes: Whether each run had a process of its own, whose memory is then the
            run's.

    Returns:
        Its `Results`.

    Raises:
        ValueError: If a run was trained on other data, or has no metrics of its users.
    """
    runs = {name: comparison.complete_runs(name) for name in comparison.configs}
    runs = {name: complete for name, complete in runs.items() if complete}
    per_user = {name: {_seed(run): _per_user(run) for run in runs[name]} for name in runs}
    users = [arrays["user"] for of_loss in per_user.values() for arrays in of_loss.values()]
    if any(not np.array_equal(own, users[0]) for own in users):
        raise ValueError(
            f"the runs in {comparison.folder} were measured on different users: the data has "
            "changed since. Choose another --name"
        )
    tests = significance_of(per_user, comparison.baseline)
    losses = {
        name: LossResult(
            options=comparison.own[name],
            config={
                key: comparison.files.get(key, value)
                for key, value in vars(comparison.configs[name][0]).items()
                if key not in GIVEN
            },
            significance=tests.get(name),
            **_over_seeds([run.metrics() for run in runs[name]], has_own_processes),
        )
        for name in runs
    }
    first = comparison.all_configs[0]
    return Results(
        command=command,
        machine=_machine(),
        common={
            key: comparison.files.get(key, value)
            for key, value in vars(first).items()
            if key in comparison.common
        },
        monitor=first.monitor,
        top_n=first.top_n,
        seeds=[config.seed for config in comparison.configs[comparison.baseline]],
        baseline=comparison.baseline,
        ours=comparison.ours,
        data=next((run.metrics()["data"] for of in runs.values() for run in of), {}),
        losses=losses,
        failures=failures or {},
    )


def significance_of(per_user, baseline):
    """Compares each loss with the baseline: a paired bootstrap over users of the difference.

    Args:
        per_user: From the name of a loss, to a seed, to the arrays of `per_user.npz`.
        baseline: One of the names; if it is none of them, there is nothing to compare with.

    Returns:
        For each other loss, from a metric to its `Difference`.
    """
    theirs = per_user.get(baseline, {})
    tests = []
    for name, ours in per_user.items():
        seeds = sorted(ours.keys() & theirs.keys())
        if name != baseline and seeds:
            for metric in (key for key in ours[seeds[0]] if key != "user"):
                after, before = (
                    np.mean([of[seed][metric] for seed in seeds], axis=0, dtype=np.float64)
                    for of in (ours, theirs)
                )
                tests.append((name, metric, seeds, before.mean(), after - before))
    if not tests:
        return {}
    # All at once, for the resamples are what takes time.
    test = paired_bootstrap(np.stack([differences for *_, differences in tests], axis=1))
    found = {}
    for i, (name, metric, seeds, before, _) in enumerate(tests):
        interval = [float(test.low[i]), float(test.high[i])]
        found.setdefault(name, {})[metric] = Difference(
            seeds=seeds,
            difference=float(test.difference[i]),
            interval=interval,
            relative=float(test.difference[i] / before) if before else None,
            relative_interval=[float(x / before) for x in interval] if before else None,
            p=float(test.p[i]),
        )
    return found


def _over_seeds(metrics, has_own_processes):
    """From the `metrics.json` a seed to lists over seeds, means and deviations."""
    test = {
        name: [each["test"]["exact"][name] for each in metrics]
        for name in metrics[0]["test"]["exact"]
    }
    several = len(metrics) > 1
    found = {
        "seeds": [each["seed"] for each in metrics],
        "test": {"exact": test},
        "mean": {name: float(np.mean(values)) for name, values in test.items()},
        "deviation": {
            name: float(np.std(values, ddof=1)) if several else None
            for name, values in test.items()
        },
        "best_epochs": [each["best_epoch"] for each in metrics],
        "validation": {
            name: [each["validation"][name] for each in metrics]
            for name in metrics[0]["validation"]
        },
        "seconds": [each["seconds"] for each in metrics],
    }
    if has_own_processes:
        found["peak_memory_mb"] = [each["peak_memory_mb"] for each in metrics]
    return found


def _seed(run):
    return run.metrics()["seed"]


def _per_user(run):
    if not run.per_user_path.exists():
        raise ValueError(
            f"{run.folder} has no {run.per_user_path.name}: an older version trained it. Remove "
            "the folder, or choose another --name"
        )
    return read_arrays(run.per_user_path)


def _machine():
    import keras
    import tensorflow as tf

    return {
        "cpu": cpu(),
        "gpus": [
            tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
            for gpu in tf.config.list_physical_devices("GPU")
        ],
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
    }
