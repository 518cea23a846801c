"""The test set through the export of a run: the numbers that its traffic gets."""

import tempfile

from tfrs_croloss._saved_models import latest_version
from tfrs_croloss.commands.experiment.runs import read_json, write_json
from tfrs_croloss.commands.training.trainer import evaluate_exactly, export, open_run
from tfrs_croloss.evaluation import evaluate_export, training_segments


def evaluate_run(folder, index=None, model=None, top_n=None, target_recall=0.99):
    """Measures a complete run's best model, exactly and as it is served.

    Args:
        folder: Folder of the run.
        index: Search of the export to make, `"exact"` by default; with `model`, what its search
            must be.
        model: Folder of an export of the run, or of its versions, to measure instead.
        top_n: List lengths N; those of the run by default.
        target_recall: Share of the best that ScaNN is to find in the export to make.

    Returns:
        The path of the JSON file that was written to the run's folder, and its content.

    Raises:
        ValueError: If the run is not complete, or `model` is no export of it.
    """
    run, config, data, trained = open_run(folder)
    if model is not None:
        model = latest_version(model)
        index = _search_of(model, index)
    index = index or "exact"
    # Of users who are not trained on, their histories tell the new from the old.
    known = data.known if len(data.history_users) else None
    segments = training_segments(data.train, data.test.counts, known=known)
    exact = evaluate_exactly(config, data, trained, top_n, segments)
    served = evaluate_served(config, data, trained, index, model, top_n, segments, target_recall)
    content = {
        "index": index,
        "model": None if model is None else str(model),
        "num_users": exact.num_users,
        "exact": exact.metrics,
        "served": served.metrics,
        "segments": {
            name: {
                "description": segment.description,
                "num_users": exact.segments[name].num_users,
                "num_users_left_out": exact.num_users - exact.segments[name].num_users,
                "exact": exact.segments[name].metrics,
                "served": served.segments[name].metrics,
            }
            for name, segment in segments.items()
        },
    }
    path = run.folder / f"evaluation-{index}.json"
    write_json(path, content)
    return path, content


def evaluate_served(
    config, data, trained, index, model=None, top_n=None, segments=None, target_recall=0.99
):
    """The `Evaluation` of a run's export on the test set, or of one made for it and thrown away.

    A model on histories is sent them, as its clients do.
    """
    top_n = top_n or config.top_n
    with tempfile.TemporaryDirectory() as folder:
        options = {"k": max(top_n), "target_recall": target_recall}
        return evaluate_export(
            model or export(config, data, trained, folder, index, **options),
            data,
            history_length=config.history_length_of_tower,
            top_n=top_n,
            segments=segments,
        )


def _search_of(model, index):
    """The search of an export, which must be `index` if that is given."""
    path = model / "assets.extra" / "index.json"
    search = read_json(path)["search"] if path.exists() else index
    if index not in (None, search):
        raise ValueError(
            f"{model} searches with --index {search}. Leave --index out, or export another. "
            f"Received: --index {index}"
        )
    return search
