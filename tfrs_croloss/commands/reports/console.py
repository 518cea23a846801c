"""Results as tables on the console."""

import sys

import numpy as np
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tfrs_croloss.commands.experiment.classes import in_words

# A log is no terminal, and wide enough for any table.
console = Console(width=None if sys.stdout.isatty() else 140)
# Of a significant difference; Markdown takes none of it for its own.
STAR = "★"
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


def print_comparison(results):
    """Prints what the losses of a comparison found, and what each of them cost.

    Args:
        results: The `Results`.
    """
    losses = results.losses
    print_table(losses, _title(results), results.baseline)
    has_memory = any(of.peak_memory_mb for of in losses.values())
    head = ["loss", "training", *["peak memory"] * has_memory, "best epochs", "its own options"]
    table = Table(*head, **STYLE)
    for name, of in losses.items():
        memory = [f"{max(of.peak_memory_mb):,.0f} MB"] if has_memory else []
        epochs = ", ".join(map(str, of.best_epochs))
        cost = f"{np.mean(of.seconds):,.1f} s"
        table.add_row(escape(name), cost, *memory, epochs, escape(own_options(of.options)))
    console.print(table)


def print_table(losses, title, baseline):
    """Prints Recall and NDCG, a row for each loss and kind of search, the best of a kind in bold.

    Args:
        losses: From the name of a loss to its `LossResult`; of several seeds mean ± deviation is
            shown.
        title: Over the table.
        baseline: Name of the loss that those with a star differ from.
    """
    first = next(iter(losses.values())).test
    columns = _columns(next(iter(first.values())))
    caption = f"R: Recall, N: NDCG, {STAR}: differs from {baseline} at 5 % (bootstrap over users)"
    table = Table("loss", "search", *columns, title=title, caption=caption, **STYLE)
    for kind in first:
        best = {
            metric: max(np.mean(of.test[kind][metric]) for of in losses.values())
            for metric in columns.values()
        }
        for loss, of in losses.items():
            cells = (
                _cell(of.test[kind][metric], best[metric])
                # What is tested is the exact search.
                + (f" {STAR}" if kind == "exact" and of.differs(metric) else "")
                for metric in columns.values()
            )
            table.add_row(escape(loss), kind, *cells)
        table.add_section()
    console.print(table)


def print_verdicts(results):
    """Says at each N whether `ours` beats the baseline."""
    ours, baseline, losses = results.ours, results.baseline, results.losses
    tests = (losses[ours].significance or {}) if ours in losses else {}
    for n in results.top_n:
        metric = f"recall@{n}"
        if metric not in tests:
            continue
        found = tests[metric]
        before, after = (losses[name].mean[metric] for name in (baseline, ours))
        if not found.is_significant:
            verdict = "does not differ significantly from"
        else:
            verdict = "beats" if found.difference > 0 else "falls behind"
        console.print(
            f"{ours} {verdict} the {baseline} at {metric}: {after:.4f} against {before:.4f} "
            f"({_relative(found)}p = {found.p:.4f})",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


def print_last_line(results):
    """Prints Recall and NDCG of `ours` at the N that the epochs were chosen by, on one line."""
    of = results.losses.get(results.ours)
    if of is None:
        return
    n = results.monitor.split("@")[1]
    parts = []
    for label, metric in (("Recall", f"recall@{n}"), ("NDCG", f"ndcg@{n}")):
        deviation = of.deviation[metric]
        spread = "" if deviation is None else f" ± {deviation:.4f}"
        parts.append(f"{label}@{n} {of.mean[metric]:.4f}{spread}")
    seeds = len(of.seeds)
    print(*parts, f"({seeds} seed{'s' * (seeds > 1)})", sep="  ", flush=True)


def own_options(options):
    """Options on one line."""
    return ", ".join(f"{key}={in_words(value)}" for key, value in options.items())


def columns_of(sizes):
    """Recall and NDCG at each N, by short names."""
    return {
        f"{letter}@{n}": f"{metric}@{n}"
        for letter, metric in (("R", "recall"), ("N", "ndcg"))
        for n in sizes
    }


def _relative(found):
    if found.relative is None:
        return ""
    low, high = found.relative_interval
    return f"{found.relative:+.1%}, 95 % interval {low:+.1%} to {high:+.1%}, "


def _title(results):
    seeds = len(results.seeds)
    return f"Test set, {seeds} seed{'s' * (seeds > 1)}"


def _sizes(metrics):
    """The list lengths N that were measured at."""
    return sorted({int(name.split("@")[1]) for name in metrics if "@" in name})


def _columns(metrics):
    return columns_of(_sizes(metrics))


def _cell(values, best):
    mean = np.mean(values)
    text = f"{mean:.4f}"
    if len(values) > 1:
        text += f" ± {np.std(values, ddof=1):.4f}"
    if mean < best:
        return text
    # Where there is no bold, in a log say, the stars of Markdown.
    return f"[bold]{text}[/bold]" if console.is_terminal else f"**{text}**"
