"""Results as a table and as a plot."""

import matplotlib.pyplot as plt
import numpy as np
from rich.console import Console
from rich.table import Table

from tfrs_croloss._files import replaced_file

console = Console()


def print_counts(counts):
    """Says what of the data was used, and what was left out."""
    table = Table.grid(padding=(0, 2))
    for name, number in counts.items():
        table.add_row(name.replace("_", " "), f"{number:,}")
    console.print(table)


def print_table(results, title, row_header="loss", metrics=("recall", "ndcg")):
    """Prints a table with a row a result, the best of each column in bold.

    Args:
        results: A dict from a row's name to its metrics, a dict as `evaluate` gives them.
        title: Over the table.
        row_header: What the rows are.
        metrics: Which of them to show, at every N there is.
    """
    columns = [name for name in next(iter(results.values())) if name.split("@")[0] in metrics]
    columns.sort(key=lambda name: metrics.index(name.split("@")[0]))
    table = Table(row_header, *columns, title=title, title_justify="left")
    best = {name: max(result[name] for result in results.values()) for name in columns}
    for row, result in results.items():
        cells = (_cell(result[name], result[name] == best[name]) for name in columns)
        table.add_row(row, *cells)
    console.print(table)


def _cell(value, is_best):
    if not is_best:
        return f"{value:.4f}"
    # Where there is no bold, in a log say, the stars of Markdown.
    return f"[bold]{value:.4f}[/bold]" if console.is_terminal else f"**{value:.4f}**"


def plot_recall(results, path):
    """Plots Recall@N against N, a line a result.

    Args:
        results: A dict from a line's name to its metrics; a metric may be a list over seeds, whose
            mean is drawn with its standard deviation.
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
