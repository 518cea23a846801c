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


def print_table(results, title, metrics=("recall", "ndcg")):
    """Prints a table, a row for each loss and kind of search, the best of each kind in bold.

    Args:
        results: From the name of a loss, to a kind of search, to metrics as `evaluate` gives them;
            a metric may be a list over seeds, shown as mean ± deviation.
        title: Over the table.
        metrics: Which of the metrics to show, at every N there is.
    """
    kinds = list(next(iter(results.values())))
    names = next(iter(results.values()))[kinds[0]]
    columns = [name for metric in metrics for name in names if name.startswith(f"{metric}@")]
    table = Table("loss", "search", *columns, title=title, title_justify="left")
    for kind in kinds:
        best = {
            column: max(np.mean(result[kind][column]) for result in results.values())
            for column in columns
        }
        for loss, result in results.items():
            cells = (_cell(result[kind][column], best[column]) for column in columns)
            table.add_row(loss, kind, *cells)
        table.add_section()
    console.print(table)


def _cell(values, best):
    values = np.atleast_1d(values)
    text = f"{values.mean():.4f}"
    if len(values) > 1:
        text += f" ± {values.std(ddof=1):.4f}"
    if values.mean() < best:
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
