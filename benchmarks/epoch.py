"""A whole epoch against the bare matrix products and optimizer update of its steps.

    python -m benchmarks.epoch --run.train path/to/train.tsv.xz

trains the model that `tfrs-croloss train` trains, and times in the same process what no
such step can do without: three products of the batch with the shared negatives, in the blocks that
the loss takes, and the update of the tables by the optimizer. What is left is the loss, the
embeddings' gathers and gradients, the negatives, tf.data and Python. Beside it stands the update
by Keras's own Adam.
"""

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from jsonargparse import auto_cli

from benchmarks.backends import backend
from benchmarks.loss import embeddings, three_products
from tfrs_croloss.commands.experiment.build import build_model, load_data
from tfrs_croloss.commands.experiment.options import Config
from tfrs_croloss.data import training_batches
from tfrs_croloss.retrieval.requirements import tf, tf_keras


def measure(run: Config, output: Path = Path("docs/performance-epoch.json"), epochs: int = 3):
    """Measures epochs of a run; the first, which compiles, does not count.

    Args:
        run: Data, model and training, as of `tfrs-croloss train`.
        output: JSON file to write.
        epochs: Epochs that count.
    """
    config = replace(run, epochs=epochs + 1)
    data = load_data(config)
    model = build_model(config, data)
    batches, steps = training_batches(data, config.batch_size, config.epochs, seed=config.seed)
    bare = _bare(config, data, model)
    parts = {name: [] for name in bare}
    seconds = []

    def begin(epoch, logs):
        seconds.append(-time.perf_counter())

    def end(epoch, logs):
        seconds[-1] += time.perf_counter()
        # Between epochs, so that what slows the machine down slows down both.
        for name, function in bare.items():
            parts[name].append(_median_seconds(function))

    model.fit(
        batches,
        epochs=config.epochs,
        steps_per_epoch=steps,
        callbacks=[tf_keras.callbacks.LambdaCallback(on_epoch_begin=begin, on_epoch_end=end)],
        verbose=0,
    )
    step = float(np.median(seconds[1:])) / steps
    found = {name: float(np.median(times[1:])) for name, times in parts.items()}
    found = {"step": step, **found, "ratio": step / (found["products"] + found["update"])}
    shown = {name: round(1000 * x, 1) for name, x in found.items() if name != "ratio"}
    print(f"ms: {shown}; step / (products + update) = {found['ratio']:.2f}; {steps} steps an epoch")
    output.write_text(json.dumps({"steps": steps, "seconds": found}, indent=1) + "\n")


def _bare(config, data, model):
    num_negatives = sum(part.num_negatives for part in model.negatives)
    queries, negatives = embeddings(config.batch_size, num_negatives, config.dim)
    products = backend("cpu").compiled(lambda: three_products(queries, negatives))
    tables = [tf.Variable(table) for table in model.trainable_variables]
    touched = config.batch_size, config.batch_size + num_negatives
    gradients = [
        tf.IndexedSlices(
            tf.zeros([rows, config.dim]),
            tf.random.uniform([rows], maxval=table.shape[0], dtype=tf.int32),
            table.shape,
        )
        for rows, table in zip(touched, tables, strict=True)
    ]

    def update_by(optimizer_class):
        optimizer = optimizer_class.from_config(model.optimizer.get_config())
        optimizer.build(tables)

        def update():
            optimizer.apply_gradients(zip(gradients, tables, strict=True))
            return tf.identity(optimizer.iterations)

        return backend("cpu").compiled(update)

    return {
        "products": products,
        "update": update_by(type(model.optimizer)),
        "keras_update": update_by(tf_keras.optimizers.Adam),
    }


def _median_seconds(function, calls=9):
    seconds = []
    for _ in range(calls):
        start = time.perf_counter()
        for tensor in tf.nest.flatten(function()):
            tensor.numpy()
        seconds.append(time.perf_counter() - start)
    return np.median(seconds)


if __name__ == "__main__":
    auto_cli(measure)
