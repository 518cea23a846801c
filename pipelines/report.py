"""Results as a table and as a plot."""

import sys

import matplotlib.pyplot as plt
import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from tfrs_croloss._files import replaced_file

# A log is no terminal, and wide enough for any table.
console = Console(width=None if sys.stdout.isatty() else 140)
STYLE = {"box": box.SIMPLE_HEAD, "title_justify": "left", "caption_justify": "left"}


def print_counts(counts):
    """Says what of the data was used, and what was left out."""
    table = Table.grid(padding=(0, 2))
    for name, number in counts.items():
        table.add_row(name.replace("_", " "), f"{number:,}")
    console.print(table)


def print_metrics(results, title):
    """Prints results of one model: a row a metric and kind of search, a column a list length N.

    Args:
        results: From a kind of search to the metrics that `evaluate` gives.
        title: Over the table.
    """
    sizes = _sizes(next(iter(results.values())))
    table = Table("", "search", *(f"N = {n}" for n in sizes), title=title, **STYLE)
    for metric in ("recall", "ndcg", "mrr", "coverage"):
        for search, metrics in results.items():
            table.add_row(metric, search, *(f"{metrics[f'{metric}@{n}']:.4f}" for n in sizes))
    console.print(table)


def print_evaluation(content, title):
    """Prints what `evaluate_run` found: exact and served, of all users and of each segment."""
    searches = {"exact": "exact", "served": f"served ({content['index']})"}
    print_metrics({label: content[search] for search, label in searches.items()}, title)
    columns = _columns(content["exact"])
    table = Table("", "search", *columns, caption="R: Recall, N: NDCG", **STYLE)
    for name, part in content["segments"].items():
        for search, label in searches.items():
            # There is nothing of a segment that no one is in.
            cells = (part[search].get(metric) for metric in columns.values())
            table.add_row(name, label, *("" if x is None else f"{x:.4f}" for x in cells))
        table.add_section()
    console.print(table)
    notes = Table.grid(padding=(0, 2))
    for name, part in content["segments"].items():
        users = f"{part['num_users']:,} of {content['num_users']:,} users"
        notes.add_row(name, users, part["description"])
    console.print(notes)


def print_table(results, title):
    """Prints Recall and NDCG, a row for each loss and kind of search, the best of a kind in bold.

    Args:
        results: From the name of a loss, to a kind of search, to lists over seeds of the metrics
            that `evaluate` gives; of several seeds mean ± deviation is shown.
        title: Over the table.
    """
    first = next(iter(results.values()))
    columns = _columns(next(iter(first.values())))
    caption = "R: Recall, N: NDCG"
    table = Table("loss", "search", *columns, title=title, caption=caption, **STYLE)
    for kind in first:
        best = {
            name: max(np.mean(result[kind][name]) for result in results.values())
            for name in columns.values()
        }
        for loss, result in results.items():
            cells = (_cell(result[kind][name], best[name]) for name in columns.values())
            table.add_row(loss, kind, *cells)
        table.add_section()
    console.print(table)


def _sizes(metrics):
    """The list lengths N that were measured at."""
    return sorted({int(name.split("@")[1]) for name in metrics if "@" in name})


def _columns(metrics):
    """Recall and NDCG at each N, by short names."""
    return {
        f"{letter}@{n}": f"{metric}@{n}"
        for letter, metric in (("R", "recall"), ("N", "ndcg"))
        for n in _sizes(metrics)
    }


def _cell(values, best):
    mean = np.mean(values)
    text = f"{mean:.4f}"
    if len(values) > 1:
        text += f" ± {np.std(values, ddof=1):.4f}"
    if mean < best:
        return text
    # Where there is no bold, in a log say, the stars of Markdown.
    return f"[bold]{text}[/bold]" if console.is_terminal else f"**{text}**"


def plot_recall(results, path):
    """Plots Recall@N against N, a line a result.

    Args:
        results: A dict from a line's name to its metrics; a metric may be a list over seeds, whose
            mean is drawn, with its deviation as a bar.
        path: PNG file to write, whole or not at all.
    """
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, metrics in results.items():
        points = {
            int(metric.split("@")[1]): np.atleast_1d(value)
            for metric, value in metrics.items()
            if metric.startswith("recall@")
        }
        axes.errorbar(
            list(points),
            [values.mean() for values in points.values()],
            yerr=[values.std(ddof=1) if len(values) > 1 else 0 for values in points.values()],
            marker="o",
            capsize=3,
            label=name,
        )
    axes.set(xlabel="N", ylabel="Recall@N", title="Recall@N on the test set")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    with replaced_file(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png")
    plt.close(figure)
