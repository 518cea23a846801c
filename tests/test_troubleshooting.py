"""Each error on the page about troubleshooting, provoked: its words are today's versions'."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import keras
import keras_tuner
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras

from tfrs_croloss import CROLoss, MultiMarginLoss, RetrievalLoss, SoftmaxLossAtK, embedding_loss
from tfrs_croloss.data import read_interactions
from tfrs_croloss.losses import Candidates, Channel, Softplus
from tfrs_croloss.retrieval import (
    InBatchNegatives,
    ItemTower,
    Retrieval,
    RetrievalModel,
    UserTower,
)

ROOT = Path(__file__).parent.parent
SECTION = re.compile(r"^### (.+?)\n(.*?)(?=^##|\Z)", re.MULTILINE | re.DOTALL)
QUOTE = re.compile(r"^```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGE = {
    heading: QUOTE.findall(text)
    for heading, text in SECTION.findall((ROOT / "docs" / "troubleshooting.md").read_text())
}
# In a process without the legacy Keras that conftest.py asks for, and without ScaNN.
FRESH = """
import json, importlib, tensorflow as tf

def said(do):
    try:
        do()
    except Exception as error:
        return f"{type(error).__name__}: {error}"

def op():
    graph = tf.compat.v1.GraphDef()
    graph.node.add(name="search", op="Scann>ScannSearchBatched")
    tf.graph_util.import_graph_def(graph)

imports = ["tensorflow_recommenders", "tfrs_croloss.retrieval"]
# The op first: importing TFRS would bring ScaNN.
print(json.dumps([said(op)] + [said(lambda: importlib.import_module(name)) for name in imports]))
"""


def run(*command, folder=ROOT, **environment):
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def fresh():
    return json.loads(run(sys.executable, "-c", FRESH, TF_USE_LEGACY_KERAS="").stdout)


# Two strategies on two virtual devices, which must be made before TensorFlow starts.
STRATEGIES = """
import sys, tensorflow as tf
from tfrs_croloss.retrieval import Retrieval

devices = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(devices[0], [tf.config.LogicalDeviceConfiguration()] * 2)
options = {"cross_device_ops": tf.distribute.ReductionToOneDevice()} if sys.argv[1:] else {}
for num_rows in (2, 3):
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], **options)
    with strategy.scope():
        task = Retrieval()
    step = lambda: task(tf.ones([num_rows, 4]), tf.ones([num_rows, 4]))
    try:
        found = tf.function(lambda: strategy.run(step), autograph=False)()
    except tf.errors.InvalidArgumentError as error:
        sys.exit(f"InvalidArgumentError: {error}")
print(*(float(x) for x in strategy.experimental_local_results(found)))
"""


def make_a_second_strategy():
    done = run(sys.executable, "-c", STRATEGIES, TF_USE_LEGACY_KERAS="1")
    assert done.returncode == 1
    raise tf.errors.InvalidArgumentError(None, None, done.stderr)


def test_strategies_that_reduce_to_one_device_may_be_several():
    done = run(sys.executable, "-c", STRATEGIES, "fix", TF_USE_LEGACY_KERAS="1")
    # Three rows of two replicas, each against six candidates of equal score.
    np.testing.assert_allclose(
        [float(x) for x in done.stdout.split()], [3 * np.log(6)] * 2, rtol=1e-5
    )


def model_of(task):
    towers = UserTower(num_users=3, dim=4), ItemTower(num_items=3, dim=4)
    return RetrievalModel(*towers, 3, task, InBatchNegatives())


# Each is its own best.
ITEMS = 10 * tf.eye(4, 8)


def embeddings(seed, num=4):
    return tf.random.stateless_normal([num, 8], [seed, 0])


def call(task, **arguments):
    return task(embeddings(0), embeddings(1), **arguments)


def import_without_tensorflow():
    code = (
        "from importlib.machinery import PathFinder; find = PathFinder.find_spec; "
        "PathFinder.find_spec = lambda name, *more: "
        "None if name == 'tensorflow' else find(name, *more); "
        "import tfrs_croloss.losses"
    )
    raise OSError(run(sys.executable, "-c", code, KERAS_BACKEND="tensorflow").stderr)


def hidden_scipy(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "scipy" else find(name)
    )
    monkeypatch.delitem(sys.modules, "tfrs_croloss.index", raising=False)
    importlib.import_module("tfrs_croloss.index")


def other_backend(monkeypatch):
    from tfrs_croloss.retrieval import requirements

    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    requirements._check()


def scann_that_does_not_load(monkeypatch):
    def not_found(name, *arguments, **more):
        if name == "tensorflow_recommenders":
            raise tf.errors.NotFoundError(None, None, "_scann_ops.so: undefined symbol")
        return original(name, *arguments, **more)

    original = __import__
    source = (ROOT / "tfrs_croloss" / "retrieval" / "requirements.py").read_text()
    scope = {"__name__": "requirements", "__builtins__": {**vars(__import__("builtins"))}}
    scope["__builtins__"]["__import__"] = not_found
    exec(compile(source, "requirements.py", "exec"), scope)


def make_with_no_python(tmp_path):
    for name in ("Makefile", "requirements.lock"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    done = run("make", "install", "PYTHON=/bin/false", folder=tmp_path)
    assert done.returncode == 2
    raise OSError(done.stderr)


def measure_by_ids(candidates, ids, within=lambda call: call):
    metric = tfrs.metrics.FactorizedTopK(tf.data.Dataset.from_tensors(candidates), ks=(1,))
    task = tfrs.tasks.Retrieval(metrics=metric)
    within(lambda: task(ITEMS, ITEMS, candidate_ids=tf.constant(ids)))()
    return float(metric.result()[0])


def mean_under_a_strategy():
    loss = tf_keras.losses.CategoricalCrossentropy(from_logits=True)
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        call(tfrs.tasks.Retrieval(loss=loss))


def tune_a_model_of_keras_2(tmp_path):
    def build(values):
        return tf_keras.Sequential([tf_keras.layers.Dense(1)])

    tuner = keras_tuner.RandomSearch(build, "loss", 1, directory=tmp_path)
    tuner.search(np.ones([2, 2]), np.ones([2, 1]))


class Unregistered(RetrievalLoss):
    def compare(self, row):
        raise NotImplementedError

    def aggregate(self, totals, row):
        raise NotImplementedError


def load_what_is_not_registered():
    config = keras.saving.serialize_keras_object(Unregistered())
    config["module"] = None  # as in another process, which has not imported it
    keras.saving.deserialize_keras_object(config)


def search(layer, **options):
    index = getattr(tfrs.layers.factorized_top_k, layer)(k=6, **options)
    index.index_from_dataset(tf.data.Dataset.from_tensors(embeddings(0)))
    return index(embeddings(1))


def mine_in_half_precision():
    task = tfrs.tasks.Retrieval(num_hard_negatives=2)
    return task(tf.cast(embeddings(0), tf.float16), tf.cast(embeddings(1), tf.float16))


def save_an_index_that_was_not_called(tmp_path):
    index = tfrs.layers.factorized_top_k.BruteForce(k=2)
    index.index(embeddings(0))
    index.save(str(tmp_path / "index"))


def save_a_model_with_metrics(tmp_path):
    class Model(tfrs.Model):
        def __init__(self):
            super().__init__()
            self.items = tf_keras.layers.Embedding(10, 4)
            candidates = tf.data.Dataset.range(10).batch(5).map(self.items)
            metrics = tfrs.metrics.FactorizedTopK(candidates=candidates)
            self.task = tfrs.tasks.Retrieval(metrics=metrics)

        def compute_loss(self, inputs, training=False):
            return self.task(self.items(inputs), self.items(inputs))

    model = Model()
    model.compile("sgd")
    model.fit(tf.data.Dataset.range(8).batch(4), verbose=0)
    tf.saved_model.save(model, str(tmp_path / "model"))


def save_a_tower_without_config():
    class Tower(tf_keras.Model):
        def __init__(self, table):
            super().__init__()
            self.table = table

        def call(self, query):
            return self.table(query["user"])

    model = RetrievalModel(
        Tower(tf_keras.layers.Embedding(3, 4)), ItemTower(3, 4), 3, Retrieval(), InBatchNegatives()
    )
    model.save("model.keras")


def read_without_the_column(tmp_path):
    (tmp_path / "ratings.csv").write_text("a,b\n1,2\n")
    read_interactions(tmp_path / "ratings.csv", user="u", item="b")


def read(tmp_path, text):
    (tmp_path / "ratings.csv").write_bytes(text.encode("latin-1"))
    read_interactions(tmp_path / "ratings.csv")


def read_a_stray_quote(tmp_path):
    read(tmp_path, 'user,item,title\nann,7,"lo-fi\nbob,8,12" mix"\n')


def read_floats(tmp_path):
    read(tmp_path, "user,item\n1.0,7\n2.0,8\n")


def read_latin_1(tmp_path):
    read(tmp_path, "user,item\nJosé,7\n")


def export_no_run(tmp_path):
    done = run(sys.executable, "-m", "pipelines", "export", "--run", str(tmp_path))
    assert done.returncode == 2
    raise OSError(done.stderr)


def no_cosines():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MultiMarginLoss(margins=(0.5,), weights=(1.0,))([[1, 0]], [[5.0, 0.0]])


def fit_with_a_matrix():
    model = keras.Sequential([keras.layers.Dense(3)])
    model.compile(loss=CROLoss())
    model.fit(np.ones([2, 4]), np.eye(2, 3), sample_weight=np.ones([2, 3]), verbose=0)


class SumOverRows(RetrievalLoss):
    def compare(self, row):
        return Channel(Softplus())

    def aggregate(self, totals, row):
        return keras.ops.sum(totals[0])


# What provokes each quotation of a section, in their order: a function, or the place in `fresh`.
PROVOKED = {
    "TFRS wants Keras 2": [1, 2],
    "Keras has no backend": [import_without_tensorflow],
    "An extra is missing": [hidden_scipy],
    "Keras runs on another backend": [other_backend],
    "ScaNN and TensorFlow do not fit": [scann_that_does_not_load],
    "No Python 3.11": [make_with_no_python],
    "The loss is a class": [lambda: call(tfrs.tasks.Retrieval(loss=CROLoss))],
    "Scores that are NaN": [lambda: CROLoss()([[1, 0]], [[np.nan, 0.0]])],
    "Labels other than 0 and 1": [lambda: CROLoss()([[0.9, 0.1]], [[1.0, 0.0]])],
    "More positives than one": [lambda: CROLoss()([[1, 1, 0]], [[1.0, 0.0, 0.0]])],
    "Shapes that are no matrix of scores": [lambda: CROLoss()([0, 1], [0.3, 0.7])],
    "Scores that are no cosines": [no_cosines],
    "A threshold is missing": [lambda: SoftmaxLossAtK()([[1, 0]], [[1.0, 0.0]])],
    "A threshold that the loss does not want": [
        lambda: CROLoss()([[1, 0]], [[1.0, 0.0]], threshold=[0.5])
    ],
    "A matrix as sample_weight": [fit_with_a_matrix],
    "Weights of the shared candidates alone": [
        lambda: embedding_loss(
            CROLoss(),
            embeddings(0),
            embeddings(1),
            candidate_weight=np.ones(4),
            own=Candidates(embeddings(2), index=[[0], [1], [2], [3]]),
        )
    ],
    "A loss of one's own that sums over rows": [lambda: SumOverRows()([[1, 0]], [[1.0, 0.0]])],
    "No candidate ids": [
        lambda: call(tfrs.tasks.Retrieval(remove_accidental_hits=True)),
        lambda: call(Retrieval(loss=CROLoss(), remove_accidental_hits=True)),
    ],
    "Metrics that know no ids": [
        lambda: measure_by_ids(ITEMS, [*"abcd"], within=tf.function),
        lambda: measure_by_ids(ITEMS, [*"abcd"]),
    ],
    "Fewer candidates than queries": [
        lambda: embedding_loss(CROLoss(), embeddings(0), embeddings(1, 2))
    ],
    "The mean, under a distribution strategy": [mean_under_a_strategy],
    "A second strategy in one process": [make_a_second_strategy],
    "Too few hard negatives": [
        lambda: call(tfrs.tasks.Retrieval(num_hard_negatives=-3)),
        lambda: Retrieval(num_hard_negatives=0),
    ],
    "Hard negatives in half precision": [mine_in_half_precision],
    "keras-tuner refuses the model": [tune_a_model_of_keras_2],
    "A class of one's own is not found": [load_what_is_not_registered],
    "A task of TFRS's in a RetrievalModel": [lambda: model_of(tfrs.tasks.Retrieval())],
    "A loss that is no RetrievalLoss": [
        lambda: Retrieval(
            tf_keras.losses.CategoricalCrossentropy(from_logits=True), memory_size=100
        )
    ],
    "A model that cannot be saved whole": [
        save_a_tower_without_config,
        lambda: model_of(Retrieval()).save("model", save_format="tf"),
    ],
    "A kernel of one's own cannot be saved": [
        lambda: CROLoss(kernel=lambda x: keras.ops.exp(x)).get_config()
    ],
    "TFRS's index has no items": [
        lambda: tfrs.layers.factorized_top_k.BruteForce()(embeddings(0)),
    ],
    "More asked for than there are items": [
        lambda: search("BruteForce"),
        lambda: search("Streaming", handle_incomplete_batches=False),
    ],
    "TFRS's index was never called": [save_an_index_that_was_not_called],
    "Metrics that block saving": [save_a_model_with_metrics],
    "ScaNN's op is not registered": [0],
    "A file without the column": [read_without_the_column],
    "A quote where a .csv has none": [read_a_stray_quote],
    "Ids that have become floats": [read_floats],
    "Text that is not UTF-8": [read_latin_1],
    "No run to export": [export_no_run],
}


def test_every_quotation_is_provoked():
    assert {heading: len(quotes) for heading, quotes in PAGE.items()} == {
        heading: len(provoked) for heading, provoked in PROVOKED.items()
    }


@pytest.mark.parametrize("heading", PROVOKED)
def test_the_words_are_those_of_the_error(heading, request):
    for quote, provoke in zip(PAGE[heading], PROVOKED[heading], strict=True):
        if isinstance(provoke, int):
            said = request.getfixturevalue("fresh")[provoke]
        else:
            names = provoke.__code__.co_varnames[: provoke.__code__.co_argcount]
            with pytest.raises(Exception) as caught:  # noqa: PT011
                provoke(*map(request.getfixturevalue, names))
            said = f"{caught.type.__name__}: {caught.value}"
        parts = [re.escape(" ".join(part.split())) for part in quote.split("…")]
        assert re.search(" ?.*".join(parts), " ".join(said.split())), said


def test_metrics_want_pairs_of_id_and_embedding_and_say_nothing_of_int32():
    assert measure_by_ids((tf.constant([*"abcd"]), ITEMS), [*"abcd"]) == 1
    assert measure_by_ids(ITEMS, [3, 2, 1, 0]) == 0


def test_tfrs_says_nothing_of_no_hard_negatives():
    for number in (0, -1):
        assert call(tfrs.tasks.Retrieval(num_hard_negatives=number)) == 0


def test_ours_mines_in_half_precision():
    task = Retrieval(loss=CROLoss(), num_hard_negatives=2)
    half = [tf.cast(embeddings(seed), tf.float16) for seed in (0, 1)]
    raised = [tf.cast(x, tf.float32) for x in half]
    np.testing.assert_allclose(task(*half), task(*raised), rtol=1e-6)
