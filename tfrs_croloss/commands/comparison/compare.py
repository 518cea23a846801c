"""Comparing losses: a run each and a seed, one after another, and what they found together."""

import collections
import os
import subprocess
import sys

from tfrs_croloss.commands.comparison.file import Comparison
from tfrs_croloss.commands.comparison.gradient import gradient_by_rank
from tfrs_croloss.commands.comparison.results import gather
from tfrs_croloss.commands.experiment.build import load_data
from tfrs_croloss.commands.experiment.runs import Run, write_json
from tfrs_croloss.commands.reports.console import (
    console,
    print_comparison,
    print_counts,
    print_last_line,
    print_verdicts,
)
from tfrs_croloss.commands.reports.markdown import write_markdown
from tfrs_croloss.commands.reports.plots import (
    plot_alpha,
    plot_gradient,
    plot_recall,
    plot_training,
)
from tfrs_croloss.commands.trained import TrainedRun
from tfrs_croloss.commands.training.cluster import COMMAND, LAUNCHER

# Of what a run wrote to stderr, kept to say why it failed.
LAST_WORDS = 8192


def compare(path, folder, command, data=None, seeds=None):
    """Trains and measures all that a file names, or what is left of it, and compares.

    Args:
        path: YAML file, as `Comparison.read` takes it.
        folder: Folder of the comparison.
        command: The command line that makes it again, for the results.
        data: Folder that relative paths of data files start from.
        seeds: Number of seeds, instead of the file's.

    Returns:
        From the name of each run that failed to the reason.

    Raises:
        ValueError: If something is wrong with the file, or the folder holds runs of other options.
    """
    comparison = Comparison.read(path, folder, data, seeds)
    # All of them first: what is wrong with the last is not to be found after hours.
    runs = [Run.create(config) for config in comparison.all_configs]
    failures = {}
    for number, run in enumerate(runs, 1):
        is_done = ", complete" if run.is_complete else ""
        console.print(f"Run {number} of {len(runs)}: {run.folder.name}{is_done}", highlight=False)
        if not run.is_complete and (reason := _train(run)):
            failures[run.folder.name] = reason
            console.print(f"{run.folder.name} failed: {reason}", markup=False, highlight=False)
    results = gather(comparison, command, failures)
    write_results(comparison, results)
    show_results(comparison, results)
    return failures


def write_results(comparison, results, data=None):
    """Writes `results.json`, `results.md` and the plots to the folder of the comparison.

    Args:
        comparison: A `Comparison`.
        results: Its `Results`.
        data: Its `RetrievalData`, where it is loaded already.
    """
    folder, losses = comparison.folder, results.losses
    write_json(folder / "results.json", results.as_dict())
    write_markdown(results, folder / "results.md")
    if not losses:
        return
    test = {name: of.test["exact"] for name, of in losses.items()}
    tests = {name: of.significance for name, of in losses.items() if of.significance}
    plot_recall(test, folder / "recall.png", results.baseline, tests)
    runs = {name: comparison.complete_runs(name) for name in losses}
    if comparison.all_configs[0].validates:
        histories = {name: [run.history() for run in of] for name, of in runs.items()}
        plot_training(histories, results.monitor, folder / "training.png")
    groups = comparison.alpha_groups(losses)
    if groups:
        plot_alpha(groups, test, folder / "alpha.png", results.baseline)
    data = load_data(comparison.all_configs[0]) if data is None else data
    pushes = {}
    for name, (first, *_) in runs.items():
        trained = TrainedRun(first.folder, data)
        pushes[name] = gradient_by_rank(trained.config, data, trained.model)
    plot_gradient(pushes, folder / "gradient.png")


def show_results(comparison, results):
    """Prints the table, the verdicts, and last of all how `ours` does at the N of `monitor`."""
    if not results.losses:
        return
    print_counts(results.data)
    print_comparison(results)
    print_verdicts(results)
    console.print(f"All of it: {comparison.folder}/", highlight=False)
    print_last_line(results)


def _train(run):
    """Runs `train` in a process of its own, which resumes; returns why it failed, or None."""
    process = subprocess.Popen(
        [*COMMAND, "--config", str(run.config_path)],
        # It ends with this process, even by kill -9: two must not train the same run.
        env={**os.environ, LAUNCHER: str(os.getpid())},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        # Ctrl-C in a terminal is for this process alone, which then ends the run.
        start_new_session=True,
    )
    words = b""
    try:
        while chunk := process.stderr.read1(65536):
            words = (words + chunk)[-LAST_WORDS:]
            sys.stderr.write(chunk.decode(errors="replace"))
            sys.stderr.flush()
        code = process.wait()
    finally:
        process.kill()
        process.wait()
    if run.is_complete:
        return None
    return _why(words.decode(errors="replace"), code)


def _why(words, code):
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return said[-1] if said else ": ".join([how, *collections.deque(lines, maxlen=1)])
