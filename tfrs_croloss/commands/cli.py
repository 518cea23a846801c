"""The command line. Heavy imports wait until a command runs, so that `--help` is quick."""

import os
import shlex
import sys
from dataclasses import fields
from typing import Literal

import jsonargparse

from tfrs_croloss.commands.experiment import classes, options
from tfrs_croloss.commands.extras import check_extras
from tfrs_croloss.commands.service.serve import serve

DESCRIPTION = """From interactions to a served top-N: train a two-tower model with a loss of your
choice, measure its Recall@N, export it, ask it for items."""


def train(**chosen):
    """Trains a model and measures its top-N recall on the test set.

    Everything goes to the folder <runs>/<name>: the resolved config, the history of the
    validations, checkpoints, the test metrics and a plot. A run that was killed resumes with the
    same command.
    """
    from tfrs_croloss.commands.training import cluster

    cluster.end_with_launcher()
    config = options.Config(**chosen)
    if config.strategy == "multiworker" and not os.environ.get("TF_CONFIG"):
        cluster.launch(config)
        return

    from tfrs_croloss.commands.reports.console import print_counts, print_metrics
    from tfrs_croloss.commands.training.trainer import train as train_run

    run = train_run(config)
    if run is None:
        return
    metrics = run.metrics()
    print_counts(metrics["data"])
    print_metrics(metrics["test"], f"Test set, {metrics['loss']}")
    print(f"Config, metrics, plot and checkpoints: {run.folder}/")
    print(f"Next: tfrs-croloss export --run {run.folder}")


def tune(**chosen):
    """Searches for the options of a loss that validate best.

    What the search space does not vary is as the options of `train` have it. Each trial is
    validated, by --monitor, and never tested. Everything goes to the folder <runs>/<name>: the best
    trial's options as config.yaml, for `train --config`, a table, a plot and the trials. A search
    that was killed resumes with the same command. Several processes run it with keras-tuner's
    chief and workers: see docs/tuning.md.
    """
    names = {field.name for field in fields(options.TuningOptions)} & chosen.keys()
    tuning = options.TuningOptions(**{name: chosen.pop(name) for name in names})
    config = options.Config(**{"name": "tune", **chosen})

    from tfrs_croloss.commands.tuning.tune import tune as run_search

    run_search(config, tuning)


def evaluate(
    run: str,
    index: Literal["exact", "scann"] | None = None,
    model: str | None = None,
    top_n: list[int] | None = None,
    target_recall: float = 0.99,
):
    """Measures a trained run on its test set as it is served: what its export answers.

    Beside it stands the exact search of the model, and both again for new and old users, head
    and tail items. Printed, and written to the run's folder as evaluation-<index>.json.

    Args:
        run: Folder of the run.
        index: Search of the export that is made to be measured, as of `export`: exact (the
            default) or scann.
        model: Folder of an export of the run, or of its versions, of which the latest is measured
            instead; --index may then be left out.
        top_n: List lengths N, as in [20,50]; those of the run by default.
        target_recall: Share of the best that scann is to find, as of `export`.
    """
    from tfrs_croloss.commands.reports.console import print_evaluation
    from tfrs_croloss.commands.trained import TrainedRun

    path, content = TrainedRun(run).evaluate(index, model, top_n, target_recall)
    print_evaluation(content, "Test set")
    print(f"Served by: {content['model'] or 'an export made for this, and thrown away'}")
    print(f"Metrics: {path}")


def export(
    run: str,
    index: Literal["exact", "scann"] = "exact",
    k: int = 100,
    target_recall: float = 0.99,
    output: str | None = None,
    version: int | None = None,
):
    """Exports a trained run as a SavedModel: user ids in, item ids and scores out.

    What the run masks in the test is left out: items of a user's training set or history, and of
    the validation set.

    Args:
        run: Folder of the run.
        index: exact runs in an unmodified TensorFlow Serving; scann needs ScaNN's op there.
        k: Items to return where a request does not say.
        target_recall: Share of the k best that scann is to find; what it found of users' is written
            to the SavedModel's assets.extra/index.json.
        output: Folder of the versions, each a SavedModel; <run>/export by default.
        version: Number of this one, to replace it if it is there; by default the next.
    """
    from tfrs_croloss.commands.trained import TrainedRun

    path = TrainedRun(run).export(output, index, k, target_recall, version)
    print(f"SavedModel: {path}")
    print(f"Next: tfrs-croloss recommend --model {path.parent} --users ID ...")


def recommend(
    model: str,
    users: list[str],
    k: int = 10,
    histories: str | None = None,
    titles: str | None = None,
    seen: str | None = None,
):
    """Asks an exported model for items, with nothing but TensorFlow.

    Args:
        model: Folder of the SavedModel, or of its versions, of which the latest is asked.
        users: User ids.
        k: Items a user.
        histories: JSON file from user id to item ids, oldest first, for a model with a history
            tower; users who are not in it get what the model knows of them.
        titles: JSON file from item id to title.
        seen: JSON file from user id to item ids, to show beside.
    """
    from tfrs_croloss.commands.recommend import recommend as print_items

    print_items(model, users, k, histories, titles, seen)


def compare(
    config: str,
    data: str | None = None,
    seeds: int | None = None,
    name: str | None = None,
    runs: str = "runs",
):
    """Trains several losses on one split with several seeds, all else the same, and compares.

    Each run is a process of its own. To the folder <runs>/<name> go results.json, results.md with
    the table, plots, and the run of each loss and seed. The same command resumes what was killed;
    what is complete is not redone. A run that fails does not end the others: it is named at the
    end, and the exit code is 1.

    Args:
        config: YAML file as the demo's: `common`, options of `train`; `losses`, a name and
            its own options a loss; and maybe `seeds`, `baseline` (what the others are measured
            against: softmax, or else the first) and `ours` (the last).
        data: Folder that relative paths of data files in it start from; by default the current one.
        seeds: Number of seeds, instead of the file's, which by default are 3.
        name: Folder under --runs that all is written to; the name of the file by default.
        runs: Folder of all runs.
    """
    from pathlib import Path

    from tfrs_croloss.commands.comparison.compare import compare as run_comparison

    folder = Path(runs) / (Path(config).stem if name is None else name)
    chosen = {"config": config, "data": data, "seeds": seeds, "name": name, "runs": runs}
    failures = run_comparison(config, folder, _command("compare", chosen), data, seeds)
    for run, reason in failures.items():
        print(f"error: {run}: {reason}", file=sys.stderr)
    if failures:
        sys.exit(1)


def demo(name: str = "demo", seeds: int = 1, runs: str = "runs"):
    """Trains softmax, CROLoss and the multi-margin loss on MovieLens, compares and exports.

    Args:
        name: Folder under --runs that all is written to; what is complete there is not redone.
        seeds: Number of seeds; with several, the table gives mean and deviation.
        runs: Folder of all runs.
    """
    from pathlib import Path

    from tfrs_croloss.commands.demo import demo as run_demo

    chosen = {"name": name, "seeds": seeds, "runs": runs}
    run_demo(Path(runs) / name, _command("demo", chosen), seeds)


# No word of a command line can hold it.
MARK = "\0"
COMMANDS = (train, tune, evaluate, export, recommend, compare, demo, serve)


def _command(name, chosen):
    """The command line of what was chosen."""
    words = [word for x, value in chosen.items() if value is not None for word in (f"--{x}", value)]
    return shlex.join(["tfrs-croloss", name, *map(str, words)])


def main(args=None):
    """Runs a command; exits with 2 and a message where the reader can mend what is wrong."""
    args = _with_ids_marked(sys.argv[1:] if args is None else args)
    try:
        arguments = _parsed(args)
        command = {command.__name__: command for command in COMMANDS}[arguments.subcommand]
        chosen = arguments[arguments.subcommand].as_dict()
        if command is not compare:
            chosen.pop("config", None)
        if command is recommend:
            chosen["users"] = [user.removeprefix(MARK) for user in chosen["users"]]
        check_extras(command.__name__)
        command(**chosen)
    except (ValueError, OSError, ImportError) as error:
        # The data, the options, the disk and missing packages say their own fix. Anything else is
        # a fault of ours and keeps its traceback.
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stopped; the same command resumes", file=sys.stderr)
        sys.exit(130)


def _with_ids_marked(args):
    """The words of a command, with a mark before each user id that would be taken for an option.

    These are the ones that begin with a minus: no option but -h has only one.
    """
    marked, is_id = [], False
    for word in args:
        if word.startswith("--") or word == "-h":
            is_id = word == "--users"
        elif is_id and word.startswith("-"):
            word = f"{MARK}{word}"
        marked.append(word)
    return marked


def _parsed(args):
    """The arguments; a `ValueError` where a class, or what it takes, is wrong."""
    name = next((word for word in args if not word.startswith("-")), None)
    # Help that shows no class need not import any: that takes seconds.
    light = name not in ("train", "tune") or "--help" in args or "-h" in args
    if light:
        return _parser().parse_args(args)
    check_extras(name)
    try:
        return _parser(name).parse_args(classes.with_classes(args), defaults=False)
    except jsonargparse.ArgumentError as error:
        raise ValueError(classes.explained(str(error))) from None


def _parser(of_classes=None):
    """The parser of all commands, that of one with the classes that it takes."""
    # What is wrong with a class is said in words of our own.
    on_error = {"exit_on_error": of_classes is None}
    parser = jsonargparse.ArgumentParser(prog="tfrs-croloss", description=DESCRIPTION, **on_error)
    subcommands = parser.add_subcommands()
    for command in COMMANDS:
        name, doc = command.__name__, command.__doc__
        subparser = jsonargparse.ArgumentParser(
            usage=f"tfrs-croloss {name} [options]",
            description=doc.split("Args:")[0],
            **on_error,
        )
        if command is not compare:
            subparser.add_argument("--config", action="config", help="YAML file of these options.")
        if command in (train, tune):
            for group in options.GROUPS:
                subparser.add_class_arguments(group)
            classes.add_roles(subparser, light=name != of_classes)
            if command is tune:
                subparser.add_class_arguments(options.TuningOptions)
        else:
            # jsonargparse reads list items as YAML, which would make a number of the id "007".
            if command is recommend:
                subparser.add_argument(
                    "--users",
                    nargs="+",
                    type=str,
                    required=True,
                    help="User ids; one alone that begins with two minuses as in --users=--id.",
                )
            subparser.add_function_arguments(command, as_group=False, skip={"users"})
        subcommands.add_subcommand(name, subparser, help=doc.splitlines()[0])
    return parser
