"""The demo: three losses on MovieLens, compared, exported and asked for titles."""

import subprocess
import sys
import time
from importlib.resources import files

from tfrs_croloss.commands.comparison.compare import write_results
from tfrs_croloss.commands.comparison.file import Comparison
from tfrs_croloss.commands.comparison.results import gather
from tfrs_croloss.commands.experiment.build import load_data, movielens
from tfrs_croloss.commands.experiment.runs import read_json, write_json
from tfrs_croloss.commands.reports.console import (
    console,
    print_comparison,
    print_counts,
    print_verdicts,
)
from tfrs_croloss.commands.trained import TrainedRun
from tfrs_croloss.commands.training.trainer import train

SETTINGS = files(__package__) / "demo.yaml"
NUM_SHOWN_USERS = 3


def demo(folder, command, seeds):
    """Runs the demo, or what is left of it.

    It is a comparison, trained in this process, where TensorFlow is loaded once; and its model
    exported.

    Args:
        folder: Folder that all is written to.
        command: The command line that makes it again, for the results.
        seeds: Number of seeds.

    Raises:
        ValueError: If `seeds` is not positive.
    """
    started = time.perf_counter()
    comparison = Comparison.read(SETTINGS, folder, seeds=seeds)
    folder = comparison.folder
    console.rule("1. The data")
    data = load_data(comparison.all_configs[0])
    print_counts(data.counts)

    console.rule("2. Training")
    for config in comparison.all_configs:
        train(config, data)

    console.rule("3. Top-N recall on the test set")
    results = gather(comparison, command, has_own_processes=False)
    for name, configs in comparison.configs.items():
        served = [_measure(folder, config, data) for config in configs]
        results.losses[name].test["scann"] = {
            metric: [each[metric] for each in served] for metric in served[0]
        }
    write_results(comparison, results, data)
    print_comparison(results)
    print_verdicts(results)

    console.rule(f"4. The {comparison.ours} model, served")
    best = folder / comparison.configs[comparison.ours][0].name
    saved_model = TrainedRun(best, data).export(folder / "export", version=1)
    _recommend(folder, saved_model, data)

    console.rule("5. What next")
    console.print(
        f"Done in {time.perf_counter() - started:.0f} s. In {folder}/:\n"
        "  results.md, results.json   the table, and all behind it; recall.png and other plots\n"
        "  <loss>-<seed>/             each run: config, history, metrics, checkpoints\n"
        "  export/                    the SavedModel, by version\n\n"
        "On your own interactions (.csv, .tsv, .parquet; `train --help` has all options):\n"
        "  tfrs-croloss train --train FILE --user COLUMN --item COLUMN "
        "--time COLUMN --name mine\n"
        "  tfrs-croloss export --run runs/mine\n"
        "  tfrs-croloss recommend --model runs/mine/export --users ID ...\n"
        "Several losses on them, as here: `compare --help`.",
        soft_wrap=True,
        highlight=False,
    )


def _measure(folder, config, data):
    """Test metrics of a complete run's ScaNN export, measured once."""
    path = folder / "served" / f"{config.name}.json"
    if not path.exists():
        found = TrainedRun(folder / config.name, data).evaluate_export("scann")
        write_json(path, found.as_dict())
    return read_json(path)


def _recommend(folder, saved_model, data):
    """Asks for titles in a process of its own: of the two libraries it imports TensorFlow alone."""
    titles, seen = folder / "titles.json", folder / "seen.json"
    write_json(titles, movielens()[1])
    users = data.users.ids[:NUM_SHOWN_USERS]
    rows = [slice(*data.row_starts[[user, user + 1]]) for user in range(NUM_SHOWN_USERS)]
    watched = [data.items.decode(data.train_items[row]).tolist() for row in rows]
    write_json(seen, dict(zip(map(str, users), [list(map(str, w)) for w in watched], strict=True)))
    command = [
        sys.executable,
        "-m",
        "tfrs_croloss_cli",
        "recommend",
        "--model",
        str(saved_model),
    ]
    command += ["--titles", str(titles), "--seen", str(seen), "--users", *map(str, users)]
    subprocess.run(command, check=True)
