"""The demo: three losses on MovieLens, compared, exported and asked for titles."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import yaml

from pipelines.build import load_data, movielens
from pipelines.options import Config
from pipelines.report import console, plot_recall, print_counts, print_table
from pipelines.runs import read_json, write_json
from pipelines.served import evaluate_served
from pipelines.training import export_run, open_run, train

SETTINGS = Path(__file__).with_name("demo.yaml")
BASELINE, EXPORTED = "softmax", "CROLoss"
NUM_SHOWN_USERS = 3


def demo(name, seeds, runs):
    """Runs the demo, or what is left of it.

    Args:
        name: Folder under `runs` that all is written to.
        seeds: Number of seeds.
        runs: Folder of all runs.

    Raises:
        ValueError: If `seeds` is not positive.
    """
    if seeds < 1:
        raise ValueError(f"--seeds must be positive. Received: {seeds}")
    started = time.perf_counter()
    folder = Path(runs) / name
    settings = yaml.safe_load(SETTINGS.read_text())
    configs = {
        loss: [
            Config(**settings["common"], **own, seed=seed, name=f"{loss}-{seed}", runs=str(folder))
            for seed in range(seeds)
        ]
        for loss, own in settings["losses"].items()
    }
    console.rule("1. The data")
    data = load_data(configs[BASELINE][0])
    print_counts(data.counts)

    console.rule("2. Training")
    for of_loss in configs.values():
        for config in of_loss:
            train(config, data)

    console.rule("3. Top-N recall on the test set")
    results = {
        loss: _over_seeds([_measure(folder, config) for config in of_loss])
        for loss, of_loss in configs.items()
    }
    write_json(folder / "results.json", results)
    plot_recall({loss: result["exact"] for loss, result in results.items()}, folder / "recall.png")
    print_table(results, f"MovieLens, {seeds} seed{'s' * (seeds > 1)}")
    _say_who_wins(results)

    console.rule(f"4. The {EXPORTED} model, served")
    best = folder / configs[EXPORTED][0].name
    saved_model = export_run(best, output=folder / "export", version=1)
    _recommend(folder, saved_model, data)

    console.rule("5. What next")
    console.print(
        f"Done in {time.perf_counter() - started:.0f} s. In {folder}/:\n"
        "  results.json, recall.png   the table, and Recall@N against N\n"
        "  <loss>-<seed>/             each run: config, history, metrics, checkpoints\n"
        "  export/                    the SavedModel, by version\n\n"
        "On your own interactions (.csv, .tsv, .parquet; `train --help` has all options):\n"
        "  .venv/bin/python -m pipelines train --train FILE --user COLUMN --item COLUMN "
        "--time COLUMN --name mine\n"
        "  .venv/bin/python -m pipelines export --run runs/mine\n"
        "  .venv/bin/python -m pipelines recommend --model runs/mine/export --users ID ...",
        soft_wrap=True,
        highlight=False,
    )


def _measure(folder, config):
    """Test metrics of a complete run: exactly, and those of a ScaNN export, measured once."""
    path = folder / "served" / f"{config.name}.json"
    if not path.exists():
        _, config, data, model = open_run(folder / config.name)
        write_json(path, evaluate_served(config, data, model, "scann").as_dict())
    exact = read_json(folder / config.name / "metrics.json")["test"]["exact"]
    return {"exact": exact, "scann": read_json(path)}


def _over_seeds(measured):
    """From a result a seed to a list over seeds for each metric."""
    return {
        kind: {metric: [result[kind][metric] for result in measured] for metric in metrics}
        for kind, metrics in measured[0].items()
    }


def _say_who_wins(results):
    baseline, ours = results[BASELINE]["exact"], results[EXPORTED]["exact"]
    for metric in (metric for metric in baseline if metric.startswith("recall@")):
        before, after = np.mean(baseline[metric]), np.mean(ours[metric])
        verdict = "beats" if after > before else "does not beat"
        console.print(
            f"{EXPORTED} {verdict} the {BASELINE} at {metric}: {after:.4f} against {before:.4f} "
            f"({after / before - 1:+.1%})"
        )


def _recommend(folder, saved_model, data):
    """Asks for titles in a process of its own: of the two libraries it imports TensorFlow alone."""
    titles, seen = folder / "titles.json", folder / "seen.json"
    write_json(titles, movielens()[1])
    users = data.users.ids[:NUM_SHOWN_USERS]
    rows = [slice(*data.row_starts[[user, user + 1]]) for user in range(NUM_SHOWN_USERS)]
    watched = [data.items.decode(data.train_items[row]).tolist() for row in rows]
    write_json(seen, dict(zip(map(str, users), [list(map(str, w)) for w in watched], strict=True)))
    command = [sys.executable, "-m", "pipelines", "recommend", "--model", str(saved_model)]
    command += ["--titles", str(titles), "--seen", str(seen), "--users", *map(str, users)]
    subprocess.run(command, check=True)
