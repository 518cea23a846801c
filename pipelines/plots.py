"""Results as plots."""

import matplotlib.pyplot as plt
import numpy as np

from tfrs_croloss._files import replaced_file


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
