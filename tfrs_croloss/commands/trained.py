"""A finished run, opened: measured as its traffic gets it, and exported."""

import tempfile

from tfrs_croloss._saved_models import latest_version
from tfrs_croloss.commands.experiment.build import build_model, load_data
from tfrs_croloss.commands.experiment.measure import Measure
from tfrs_croloss.commands.experiment.runs import Run, read_json, write_json
from tfrs_croloss.commands.training.checkpoints import Checkpoints
from tfrs_croloss.evaluation import evaluate_export, training_segments
from tfrs_croloss.serving import export_model


class TrainedRun:
    """A complete run with what it was trained on, and its best model.

    Args:
        folder: Folder of the run.
        data: Its `RetrievalData`, where it is loaded already.

    Attributes:
        run: The `Run`.
        config: Its `Config`.
        data: Its `RetrievalData`.
        model: Its best model.
        measure: The `Measure` of its models.

    Raises:
        ValueError: If it is not complete, or its data has changed since.
    """

    def __init__(self, folder, data=None):
        self.run = Run.open(folder)
        self.config = self.run.config()
        self.data = load_data(self.config) if data is None else data
        self.model = build_model(self.config, self.data)
        fingerprint = self.data.fingerprint()
        Checkpoints(self.run, self.config, self.model, fingerprint).restore_best()
        self.measure = Measure(self.config, self.data)

    def evaluate(self, index=None, model=None, top_n=None, target_recall=0.99):
        """Measures the model on the test set, exactly and as it is served.

        Args:
            index: Search of the export to make, `"exact"` by default; with `model`, what its search
                must be.
            model: Folder of an export of the run, or of its versions, to measure instead.
            top_n: List lengths N; those of the run by default.
            target_recall: Share of the best that ScaNN is to find in the export to make.

        Returns:
            The path of the JSON file that was written to the run's folder, and its content.

        Raises:
            ValueError: If `model` is no export of the run.
        """
        if model is not None:
            model = latest_version(model)
            index = _search_of(model, index)
        index = index or "exact"
        # Of users who are not trained on, their histories tell the new from the old.
        known = self.data.known if len(self.data.history_users) else None
        segments = training_segments(self.data.train, self.data.test.counts, known=known)
        exact = self.measure.test(self.model, top_n, segments)
        served = self.evaluate_export(index, model, top_n, segments, target_recall)
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
        path = self.run.folder / f"evaluation-{index}.json"
        write_json(path, content)
        return path, content

    def evaluate_export(self, index, model=None, top_n=None, segments=None, target_recall=0.99):
        """The `Evaluation` of an export on the test set, or of one made for it and thrown away.

        A model on histories is sent them, as its clients do.
        """
        top_n = top_n or self.config.top_n
        with tempfile.TemporaryDirectory() as folder:
            if model is None:
                model = self.export(folder, index, k=max(top_n), target_recall=target_recall)
            return evaluate_export(
                model,
                self.data,
                history_length=self.config.history_length_of_tower,
                top_n=top_n,
                segments=segments,
            )

    def export(self, path=None, index="exact", k=100, target_recall=0.99, version=None):
        """Exports the model; returns the folder of the SavedModel.

        Args:
            path: Folder of the versions; `export` in the run's folder by default.
            index: Search of the export, exact or scann.
            k: Items to return where a request does not say.
            target_recall: Share of the k best that scann is to find.
            version: Number of this one; by default the next.
        """
        return export_model(
            self.model,
            self.data,
            self.run.export if path is None else path,
            k=k,
            history_length=self.config.history_length_of_tower,
            seen=self.measure.seen(),
            search=index,
            target_recall=target_recall,
            version=version,
            mask_history=self.config.mask_seen,
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
