"""Results as plots, each a PNG file that is written whole or not at all."""

import contextlib
import itertools
import math
import operator

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import (
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
    PercentFormatter,
    StrMethodFormatter,
)

from tfrs_croloss._files import replaced_file

# A legend of more lines has no room among them.
MOST_INSIDE = 6
# After the ten colors that everyone knows.
DARK = ("black", "navy", "darkred", "indigo", "darkgreen", "deeppink", "teal", "saddlebrown")
# A page has no room for more panels beside each other.
MOST_ABREAST = 3


def plot_recall(results, path, baseline=None, tests=None):
    """Plots Recall@N against N, a line a result.

    Args:
        results: A dict from a line's name to its metrics; a metric may be a list over seeds, whose
            mean is drawn, with its deviation as a bar.
        path: PNG file to write.
        baseline: Name of the line that a second panel shows the others' difference to.
        tests: From the other lines' names to the `significance` of their metrics.
    """
    tests = {name: tests[name] for name in results if name in (tests or {})}
    points = {name: _by_n(metrics) for name, metrics in results.items()}
    look = _looks(results)
    with _figure(path, 1 + bool(tests), results) as panels:
        axes = panels[0]
        for name, values in points.items():
            deviation = [each.std(ddof=1) if len(each) > 1 else 0 for each in values.values()]
            mean = [each.mean() for each in values.values()]
            axes.errorbar(list(values), mean, deviation, capsize=3, **look[name])
        _at_each_n(axes, list(next(iter(points.values()))))
        axes.set(ylabel="Recall@N", title="Recall@N on the test set")
        axes.set_ylim(bottom=0)
        if tests:
            _plot_differences(panels[1], tests, baseline, look)


def _plot_differences(axes, tests, baseline, look):
    """Each line's difference to the baseline, side by side at each N."""
    sizes = list(_by_n(next(iter(tests.values()))))
    # Beside each other, and no further from their N than it takes.
    reach = min(0.05 * (len(tests) - 1), 0.3)
    offsets = np.linspace(-reach, reach, len(tests))
    for offset, (name, metrics) in zip(offsets, tests.items(), strict=True):
        found = [metrics[f"recall@{n}"] for n in sizes]
        # Where the baseline finds nothing there is nothing to divide by.
        shown = [x for x, each in enumerate(found) if each.relative is not None]
        y = np.array([found[x].relative for x in shown])
        low, high = np.array([found[x].relative_interval for x in shown]).reshape(-1, 2).T
        own = {**look[name], "linestyle": "none"}
        axes.errorbar(np.array(shown) + offset, y, [y - low, high - y], capsize=3, **own)
    axes.axhline(0, color=look[baseline]["color"], linestyle=look[baseline]["linestyle"])
    axes.set_xticks(range(len(sizes)), sizes)
    axes.set_xlim(-0.5, len(sizes) - 0.5)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set(
        xlabel="N",
        ylabel=f"Recall@N relative to {baseline}",
        title="Difference, 95 % interval over users",
    )


def plot_training(histories, metric, path):
    """Plots a validation metric against epochs, and against seconds of training.

    The line is the mean over seeds, as far as all of them trained, and the band its deviation;
    thin lines go on with the seeds that trained longer.

    Args:
        histories: From the name of a loss to a list over seeds of what `Run.history` gives.
        metric: As `"recall@20"`.
        path: PNG file to write.
    """
    look = _looks(histories)
    with _figure(path, 2, histories) as panels:
        for axes, x_name in zip(panels, ("epoch", "seconds"), strict=True):
            for name, seeds in histories.items():
                shortest = min(map(len, seeds))
                for rows in (rows[shortest - 1 :] for rows in seeds if len(rows) > shortest):
                    x = [row[x_name] for row in rows]
                    y = [row[metric] for row in rows]
                    axes.plot(x, y, color=look[name]["color"], linewidth=0.6, alpha=0.6)
                x, y = (
                    np.array([[row[key] for row in rows[:shortest]] for rows in seeds])
                    for key in (x_name, metric)
                )
                x, mean = x.mean(axis=0), y.mean(axis=0)
                if len(seeds) > 1:
                    spread, color = y.std(axis=0, ddof=1), look[name]["color"]
                    axes.fill_between(x, mean - spread, mean + spread, alpha=0.15, color=color)
                axes.plot(x, mean, **{**look[name], "markersize": 3})
        panels[0].set(xlabel="epoch", title="Validation by epochs")
        panels[0].xaxis.set_major_locator(MaxNLocator(integer=True))
        # From its start, which is all compiling for a while.
        panels[1].set_xlim(left=0)
        panels[1].set(xlabel="seconds of training, with validation", title="By wall time")
        panels[0].set_ylabel(_label(metric))
        notes = ["Mean and deviation over seeds"]
        if any(len({*map(len, seeds)}) > 1 for seeds in histories.values()):
            notes.append("thin lines go on with the seeds that trained longer")
        _note(panels, "; ".join(notes))


def plot_gradient(pushes, path):
    """Plots how losses share their gradient out among a row's negatives, and among rows.

    Args:
        pushes: From the name of a loss to what `gradient_by_rank` gives.
        path: PNG file to write.
    """
    look = _looks(pushes)
    with _figure(path, 2, pushes) as panels:
        for name, push in pushes.items():
            ranks = np.arange(1, len(push.share) + 1)
            line = {**look[name], "marker": None}
            panels[0].plot(ranks, np.where(push.share > 0, push.share, np.nan), **line)
            panels[1].plot(push.rank, np.where(push.weight > 0, push.weight, np.nan), **look[name])
        panels[0].set(
            xlabel="rank of the negative in its row",
            ylabel="share in the row's gradient",
            title="Which negatives a row pushes",
        )
        panels[1].set(
            xlabel="rank of the positive among its negatives",
            ylabel="gradient of the row / mean of rows",
            title="Which rows push",
        )
        for axes in panels:
            axes.set(xscale="log", yscale="log")
            axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
            low, high = axes.get_xlim()
            if high < 100 * low:
                axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=20))
        # Within a decade a logarithmic axis has one label of its own, or too many.
        low, high = panels[1].get_ylim()
        round_ones = LogLocator(subs=(1, 1.5, 2, 3, 5, 7), numticks=20)
        panels[1].yaxis.set_major_locator(round_ones if high > 5 * low else MaxNLocator(6))
        panels[1].yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        panels[1].yaxis.set_minor_formatter(NullFormatter())
        _note(
            panels,
            "Medians over rows of a training batch, each loss on its own model's scores; "
            "a line ends where the median is 0",
        )


def plot_alpha(groups, results, path, baseline=None):
    """Plots Recall@N against CROLoss's alpha, a panel an N.

    Args:
        groups: A list of dicts from alpha to the name of a loss: entries that differ in it alone.
        results: From the name of a loss to its metrics, lists over seeds.
        path: PNG file to write.
        baseline: Name of the loss whose mean is shown beside, if it is among the results.
    """
    sizes = list(_by_n(next(iter(results.values()))))
    names = [_from_to(*list(group.values())[:: len(group) - 1]) for group in groups]
    shown = [*names, baseline] if baseline in results else names
    look = _looks(shown)
    with _figure(path, len(sizes), shown) as panels:
        for axes, n in zip(panels, sizes, strict=True):
            for name, group in zip(names, groups, strict=True):
                values = [np.array(results[loss][f"recall@{n}"]) for loss in group.values()]
                deviation = [each.std(ddof=1) if len(each) > 1 else 0 for each in values]
                mean = [each.mean() for each in values]
                axes.errorbar(list(group), mean, deviation, capsize=3, **look[name])
            if baseline in results:
                mean = np.mean(results[baseline][f"recall@{n}"])
                line = {**look[baseline], "marker": None, "linestyle": "--"}
                axes.axhline(mean, **line)
                # A line across leaves no room beyond itself.
                axes.update_datalim([(min(min(group) for group in groups), mean)])
                axes.autoscale_view()
            axes.set(xlabel="α", title=f"Recall@{n}")
            axes.set_xticks(sorted({alpha for group in groups for alpha in group}))
        _note(
            panels,
            "Test set, mean and deviation over seeds; each panel has a scale of its own, which "
            "does not begin at 0",
        )


@contextlib.contextmanager
def _figure(path, num_panels, names):
    """Gives the panels of a figure, and writes it with a legend of the names."""
    columns = min(num_panels, MOST_ABREAST)
    rows = math.ceil(num_panels / columns)
    width = 6 if num_panels == 1 else 4.5 * columns
    figure, grid = plt.subplots(
        rows, columns, figsize=(width, 4 * rows), layout="constrained", squeeze=False
    )
    panels = grid.flat[:num_panels]
    for unused in grid.flat[num_panels:]:
        unused.remove()
    try:
        yield panels
        for axes in panels:
            axes.grid(alpha=0.3)
        handles, labels = panels[0].get_legend_handles_labels()
        if len(names) > MOST_INSIDE:
            figure.legend(handles, labels, loc="outside right center")
            figure.set_figwidth(width + 1.8)
        elif names and rows == 1:
            panels[0].legend(handles, labels)
        elif names:
            # Of many panels each is small.
            figure.legend(handles, labels, loc="outside upper center", ncols=columns)
        with replaced_file(path) as temporary:
            figure.savefig(temporary, dpi=150, format="png")
    finally:
        plt.close(figure)


def _note(panels, text):
    """What a figure's reader must know, below it."""
    panels[0].figure.supxlabel(text, fontsize="small")


def _looks(names):
    """How each line looks, in all plots of the same names the same."""
    colors, markers = plt.get_cmap("tab10").colors + DARK, "osD^vPX*<>"
    styles = ("-", "--", ":", "-.")
    return {
        name: {
            "label": name,
            "color": colors[i % len(colors)],
            # After ten each marker has another place and line, too: points have no line.
            "marker": markers[(i + i // 10) % len(markers)],
            "markersize": 4,
            "linestyle": styles[i // 10 % len(styles)],
        }
        for i, name in enumerate(names)
    }


def _from_to(first, last):
    """Two names as one, without the words that the second begins with as the first does."""
    words = last.split()
    same = itertools.takewhile(
        lambda pair: operator.eq(*pair), zip(first.split(), words, strict=False)
    )
    return f"{first} … {' '.join(words[len([*same]) :]) or last}"


def _by_n(metrics):
    """From N to the recalls over seeds."""
    return {
        int(name.split("@")[1]): np.atleast_1d(value)
        for name, value in metrics.items()
        if name.startswith("recall@")
    }


def _at_each_n(axes, sizes):
    axes.set(xscale="log", xlabel="N")
    axes.set_xticks(sizes, sizes)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())


def _label(metric):
    name, n = metric.split("@")
    return f"{name.capitalize() if name == 'recall' else name.upper()}@{n} on validation"
