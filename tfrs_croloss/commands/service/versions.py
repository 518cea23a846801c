"""The newest version of an exported model, kept up to date while it serves."""

import gc
import threading
from typing import NamedTuple

import tensorflow as tf
from google.protobuf import json_format
from kserve.logging import logger
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from tfrs_croloss._saved_models import load, versions
from tfrs_croloss.commands.service.signature import Signature

# As in TensorFlow Serving.
WARM_UP = "assets.extra/tf_serving_warmup_requests"


class Version(NamedTuple):
    """A version that is loaded.

    Attributes:
        number: The version.
        signatures: A `Signature` by the name of each.
        definitions: What TensorFlow Serving says of the signatures, as it says it in JSON.
    """

    number: int
    signatures: dict
    definitions: dict


class Versions:
    """The largest version in a folder that loads.

    A version that is added, or replaced, or is the largest after one was deleted, is loaded beside
    the one that serves and takes over when it is warm. Requests that hold the old one finish on it.
    The one that serves gives way to an older one only when its folder is gone.

    Args:
        path: Folder of the versions.

    Raises:
        ValueError: If none loads.

    Attributes:
        serving: The `Version` that serves. Replaced as a whole: hold on to what you read for as
            long as a request lasts.
    """

    def __init__(self, path):
        self._path = path
        self._loaded = None
        self._failed = {}
        self.serving = None
        self.refresh()
        if self.serving is None:
            raise ValueError(
                f"{path}: expected a folder with a version that loads, as {path}/1/saved_model.pb. "
                "Write one with `tfrs-croloss export`"
            )

    def refresh(self):
        """Takes the largest version that loads, and says which did not."""
        for number, folder in sorted(versions(self._path).items(), reverse=True):
            state = _state(folder)
            if (number, state) == self._loaded:
                return
            # What failed is tried again when its files have changed: it was still being copied.
            if self._failed.get(number) != state:
                try:
                    self.serving = Version(number, *_load(folder))
                # Whatever is wrong with a new version, the old one goes on.
                except Exception as error:
                    self._failed[number] = state
                    logger.error("version %d does not load: %s", number, error)
                else:
                    self._loaded = number, state
                    logger.info("version %d serves", number)
                    # The old one is full of cycles, and would lie about for several versions.
                    gc.collect()
                    return
            # Damaged where it lies, it goes on from memory: no one asked for an older one.
            if self.serving and self.serving.number == number:
                return

    def watch(self, seconds):
        """Refreshes every so many seconds, in a thread that ends with the process."""
        ticks = threading.Event()

        def poll():
            while not ticks.wait(seconds):
                try:
                    self.refresh()
                except OSError as error:
                    logger.error("looking for a new version: %s", error)

        threading.Thread(target=poll, name="versions", daemon=True).start()


def _state(folder):
    """What changes when anything in a folder does."""
    files = [(path, path.stat()) for path in folder.rglob("*")]
    return frozenset((path, stat.st_size, stat.st_mtime_ns) for path, stat in files)


def _load(folder):
    """The signatures of a SavedModel by name, warm, and their definitions."""
    model = load(folder)
    content = (folder / "saved_model.pb").read_bytes()
    # The loader drops the defaults of the inputs; the file has them.
    (graph,) = saved_model_pb2.SavedModel.FromString(content).meta_graphs
    signatures = {
        name: Signature(model, function, graph.signature_def[name].defaults)
        for name, function in model.signatures.items()
    }
    if (folder / WARM_UP).exists():
        for record in tf.data.TFRecordDataset(str(folder / WARM_UP)):
            log = prediction_log_pb2.PredictionLog.FromString(record.numpy())
            request = log.predict_log.request
            inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
            signatures[request.model_spec.signature_name](inputs)
    return signatures, _definitions(graph)


def _definitions(graph):
    found = {}
    for name, definition in graph.signature_def.items():
        shown = type(definition)()
        shown.CopyFrom(definition)
        # Values, which TensorFlow Serving's clients know nothing of.
        shown.ClearField("defaults")
        found[name] = json_format.MessageToDict(
            shown, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
    return {"signature_def": found}
