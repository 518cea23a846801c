"""What a search found: the best trial's options, a table, and what mattered."""

import dataclasses
import io

import matplotlib.pyplot as plt
import numpy as np
import yaml
from rich import box
from rich.console import Console
from rich.table import Column, Table

from tfrs_croloss._files import replaced_file
from tfrs_croloss.commands.experiment.runs import write_json
from tfrs_croloss.commands.reports.console import STYLE, console
from tfrs_croloss.tuning import Assignment, importances

# Trials that are printed; the files have all.
NUM_SHOWN = 15
# Plots in a row.
COLUMNS = 3
VALIDATION, IMPORTANCE = "Validation, the best first", "What goes with the objective"
SELECTED = (
    "The best of many on one validation set: its number there flatters. For one to report, train "
    "these options on several seeds, and look at the test of those runs."
)


def write_report(search, trials, is_used_up):
    """Writes the best trial's options, the table, the plot and, last, `trials.json`.

    Args:
        search: The `Search`.
        trials: The tuner's, the best first.
        is_used_up: Whether the search ended early, with no combination left to try.

    Raises:
        ValueError: If no trial was completed.
    """
    rows = [_row(search, trial) for trial in trials]
    scored = [row for row in rows if row["objective"] is not None]
    if not scored:
        first = min(rows, key=lambda row: row["trial"])
        raise ValueError(
            f"all {len(rows)} trials failed, trial {first['trial']} with: {first['error']}. "
            "Change the options or the space, and tune under another --name"
        )
    found = importances(
        *([row[key] for row in scored] for key in ("values", "objective", "epochs"))
    )
    content = {
        "objective": search.config.monitor,
        "search": search.tuning.search,
        "max_trials": search.tuning.trials,
        "is_used_up": is_used_up,
        "importance": {name: measure._asdict() for name, measure in found.items()},
        "trials": rows,
    }
    _write_config(search, trials[rows.index(scored[0])], scored[0])
    _write_table(search, content)
    _plot(search, scored, found)
    for row in rows:
        search.trial(row["trial"]).clear()
    write_json(search.results_path, content)


def print_report(search, content):
    """Prints the best trials, what mattered, and what to do next."""
    console.print(_trials(content, content["trials"][:NUM_SHOWN], title=VALIDATION, **STYLE))
    if content["importance"]:
        console.print(_importance(content, title=IMPORTANCE, **STYLE))
    if content.get("is_used_up"):
        console.print(_used_up(content), soft_wrap=True, highlight=False)
    name, config = search.config.name, search.config_path
    console.print(
        f"All trials: {search.table_path}, {search.results_path}, {search.plot_path}\n"
        f"The best trial's options: {config}\n{SELECTED}\n"
        "Next: for seed in 1 2 3 4 5; do tfrs-croloss train --config "
        f"{config} --seed $seed --name {name}-$seed; done",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )


def legible(value):
    """A value of a hyperparameter as text."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _row(search, trial):
    assignment, folder = Assignment.of(trial), search.trial(trial.trial_id)
    validation = folder.validation if trial.score is not None else None
    return {
        "trial": trial.trial_id,
        "objective": validation and validation[search.config.monitor],
        "best_epoch": validation and validation["epoch"],
        "epochs": search.epochs_of(assignment),
        "continues": assignment.continues,
        "values": assignment.values,
        "validation": validation,
        "error": folder.error if validation is None else None,
    }


def _write_config(search, trial, row):
    config = dataclasses.replace(
        search.config_of(Assignment.of(trial)),
        name=f"{search.config.name}-best",
        runs=search.config.runs,
    )
    with replaced_file(search.config_path) as path:
        path.write_text(
            f"# Trial {row['trial']} of {search.folder}: {search.config.monitor} "
            f"{row['objective']:.4f} on validation.\n"
            + yaml.safe_dump(dataclasses.asdict(config), sort_keys=False)
        )


def _write_table(search, content):
    text = io.StringIO()
    # Wide enough for any table: a line is a row.
    markdown = Console(file=text, width=10_000, markup=False, highlight=False)
    markdown.print(f"# {search.config.name}\n\n{SELECTED}\n\n## {VALIDATION}")
    markdown.print(_trials(content, content["trials"], box=box.MARKDOWN))
    if content["is_used_up"]:
        markdown.print(f"{_used_up(content)}\n")
    if content["importance"]:
        markdown.print(f"## {IMPORTANCE}")
        markdown.print(_importance(content, box=box.MARKDOWN))
    for row in content["trials"]:
        if row["error"] is not None:
            markdown.print(f"Trial {row['trial']} failed: {row['error']}\n")
    with replaced_file(search.table_path) as path:
        path.write_text("\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n")


def _used_up(content):
    number = len({tuple(row["values"].items()) for row in content["trials"]})
    return f"The search space is used up: all {number} combinations of its values have been tried."


def _trials(content, rows, **style):
    names = list(content["trials"][0]["values"])
    headers = ("trial", content["objective"], "best epoch", "epochs", *names)
    table = Table(*(Column(header, overflow="fold") for header in headers), **style)
    for row in rows:
        outcome = "failed" if row["objective"] is None else f"{row['objective']:.4f}"
        cells = (row["trial"], outcome, row["best_epoch"] or "", row["epochs"])
        values = (legible(row["values"][name]) for name in names)
        table.add_row(*map(str, (*cells, *values)))
    return table


def _importance(content, **style):
    table = Table("option", "share", "p", **style)
    for name, found in content["importance"].items():
        table.add_row(name, f"{found['share']:.2f}", f"{found['p_value']:.3f}")
    return table


def _plot(search, rows, found):
    """The objective against each hyperparameter, those that matter most first."""
    names = [*found, *(name for name in search.space if name not in found)]
    lines = -(-len(names) // COLUMNS)
    figure, grid = plt.subplots(
        lines,
        min(COLUMNS, len(names)),
        figsize=(4 * min(COLUMNS, len(names)), 3 * lines),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axes in grid.flat[len(names) :]:
        axes.set_axis_off()
    epochs, objectives = ([row[key] for row in rows] for key in ("epochs", "objective"))
    for axes, name in zip(grid.flat, names, strict=False):
        values = [row["values"][name] for row in rows]
        entry = search.space[name]
        if isinstance(entry, list):
            # Evenly apart, whatever they are.
            values = [entry.index(value) for value in values]
            axes.set_xticks(range(len(entry)), [legible(choice) for choice in entry], rotation=30)
            axes.set_xlim(-0.5, len(entry) - 0.5)
        else:
            # The whole range: a best trial at its end asks for a wider one.
            ends = entry["min"], entry["max"]
            is_log = entry.get("scale") == "log"
            axes.set_xscale("log" if is_log else "linear")
            ticks = (np.geomspace if is_log else np.linspace)(*ends, 4)
            axes.set_xticks(ticks, [legible(float(tick)) for tick in ticks])
            axes.set_xticks([], minor=True)
            axes.set_xlim(ticks[0], ticks[-1])
        points = axes.scatter(values, objectives, c=epochs, s=16, alpha=0.7, clip_on=False)
        measure = found.get(name)
        axes.set_title(name + (f": share {measure.share:.2f}" if measure else ""), fontsize=10)
        axes.grid(alpha=0.3)
    for axes in grid[:, 0]:
        axes.set_ylabel(search.config.monitor)
    if len(set(epochs)) > 1:
        figure.colorbar(points, ax=grid, label="epochs")
    with replaced_file(search.plot_path) as path:
        figure.savefig(path, dpi=120, format="png")
    plt.close(figure)
