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


def print_metrics(metrics, title):
    """Prints one result: a row a metric, a column a list length N."""
    sizes = sorted({int(name.split("@")[1]) for name in metrics if "@" in name})
    table = Table("", *(f"N = {n}" for n in sizes), title=title, **STYLE)
    for metric in ("recall", "ndcg", "mrr", "coverage"):
        table.add_row(metric, *(f"{metrics[f'{metric}@{n}']:.4f}" for n in sizes))
    console.print(table)


def print_table(results, title):
    """Prints Recall and NDCG, a row for each loss and kind of search, the best of a kind in bold.

    Args:
        results: From the name of a loss, to a kind of search, to lists over seeds of the metrics
            that `evaluate` gives; of several seeds mean ± deviation is shown.
        title: Over the table.
    """
    first = next(iter(results.values()))
    columns = {
        f"{letter}@{name.split('@')[1]}": name
        for letter, metric in (("R", "recall"), ("N", "ndcg"))
        for name in next(iter(first.values()))
        if name.startswith(f"{metric}@")
    }
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
