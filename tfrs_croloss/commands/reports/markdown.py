"""The results of a comparison as a Markdown file."""

import numpy as np

from tfrs_croloss._files import replaced_file
from tfrs_croloss.commands.reports.console import STAR, columns_of, own_options


def write_markdown(results, path):
    """Writes the table of a comparison, with the command that makes it above.

    Args:
        results: The `Results`.
        path: File to write, whole or not at all.
    """
    with replaced_file(path) as temporary:
        temporary.write_text(_text(results))


def _text(results):
    losses, machine = results.losses, results.machine
    seeds = results.seeds
    columns = columns_of(results.top_n)
    has_memory = any(of.peak_memory_mb for of in losses.values())
    head = ["loss", *columns.values(), "training", *["peak memory"] * has_memory, "best epochs"]
    rows = [
        [
            name,
            *(_cell(of, losses, metric) for metric in columns.values()),
            f"{np.mean(of.seconds):,.0f} s",
            *[f"{max(of.peak_memory_mb or [0]):,.0f} MB"] * has_memory,
            ", ".join(map(str, of.best_epochs)),
            f"`{own_options(of.options)}`",
        ]
        for name, of in losses.items()
    ]
    machine = ", ".join(
        [*machine["gpus"], machine["cpu"], *(f"{x} {machine[x]}" for x in ("tensorflow", "keras"))]
    )
    parts = [
        f"```bash\n{results.command}\n```",
        f"Test set, mean ± deviation over {len(seeds)} seed{'s' * (len(seeds) > 1)}; "
        f"{_chosen_by(results)}; {machine}.",
        _table([*head, "its own options"], rows),
        f"{STAR}: differs from {results.baseline} at 5 % (paired bootstrap over users of the "
        "difference averaged over seeds; each metric on its own, without a correction for their "
        "number). The best mean is bold. Training is wall time with validation and without the "
        "test, the mean over seeds; peak memory is the most that a process of any seed had.",
        f"Common to all, where a loss has none of its own: `{own_options(results.common)}`",
    ]
    if results.failures:
        parts.append("Failed:\n\n" + _list(results.failures))
    return "\n\n".join(parts) + "\n"


def _chosen_by(results):
    if any(of.validation for of in results.losses.values()):
        return f"epochs chosen by {results.monitor} on validation"
    return "the last epoch, without a validation set"


def _cell(of, losses, metric):
    mean, deviation = of.mean[metric], of.deviation[metric]
    text = f"{mean:.4f}" + ("" if deviation is None else f" ± {deviation:.4f}")
    if mean == max(other.mean[metric] for other in losses.values()):
        text = f"**{text}**"
    return text + (f" {STAR}" if of.differs(metric) else "")


def _table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(x.replace("|", "\\|") for x in line) + " |" for line in lines
    )


def _list(reasons):
    return "\n".join(f"- {name}: {reason}" for name, reason in reasons.items())
