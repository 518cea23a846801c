"""A row's own candidates: time and memory against plain TensorFlow's gather and einsum.

Each row has negatives of its own, drawn from a table that is embedded once. Plain TensorFlow
gathers their vectors, a tensor of `[queries, drawn, dim]`, and the gradient is one too.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import keras
import numpy as np
import tensorflow as tf

from benchmarks.backends import backend
from benchmarks.loss import DIM, LOSSES, medians, unit
from benchmarks.machine import cpu, forget_peak, resident_bytes
from tfrs_croloss import embedding_loss
from tfrs_croloss.losses import Candidates

SOFTMAX = LOSSES["exponential (softmax)"]
LAMBDA = "Lambda sigmoid, softplus"
PEER = "gather and einsum"
SIZE, SMALL = (4096, 800, 41_000), (64, 8, 200)


def plain(queries, table, positive, drawn):
    """The softmax of each positive and its own negatives, in plain TensorFlow."""
    own = tf.gather(table, drawn)
    of_positives = tf.reduce_sum(queries * tf.gather(table, positive), axis=1, keepdims=True)
    scores = tf.concat([of_positives, tf.einsum("qd,qmd->qm", queries, own)], axis=1) / 0.1
    labels = tf.zeros(tf.shape(scores)[:1], tf.int32)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, scores)
    return tf.reduce_sum(losses)


def by_index(loss):
    def function(queries, table, positive, drawn):
        return embedding_loss(
            loss,
            queries,
            None,
            positives=tf.gather(table, positive),
            own=Candidates(table, drawn),
        )

    return function


def by_vectors(loss):
    def function(queries, table, positive, drawn):
        own = Candidates(tf.gather(table, drawn))
        positives = tf.gather(table, positive)
        return embedding_loss(loss, queries, None, positives=positives, own=own)

    return function


def functions():
    return {
        PEER: plain,
        "ours by index, softmax": by_index(SOFTMAX),
        "ours as vectors, softmax": by_vectors(SOFTMAX),
        f"ours by index, {LAMBDA}": by_index(LOSSES[LAMBDA]),
    }


def stepped(function):
    """The gradients in the queries and, as an optimizer takes it, in the table."""

    @tf.function
    def gradients(queries, table, positive, drawn):
        with tf.GradientTape() as tape:
            tape.watch((queries, table))
            value = function(queries, table, positive, drawn)
        return [tf.convert_to_tensor(x) for x in tape.gradient(value, (queries, table))]

    return gradients


def inputs_of(num_queries, num_drawn, num_items):
    rng = np.random.default_rng(0)
    return (
        unit(num_queries, DIM, 0),
        unit(num_items, DIM, 1),
        tf.constant(rng.integers(num_items, size=num_queries)),
        tf.constant(rng.integers(num_items, size=[num_queries, num_drawn]), tf.int32),
    )


def probe(name, size):
    """The peak of memory of a step beyond what it is given, in this fresh process."""
    function, wait_for = stepped(functions()[name]), backend("cpu").wait_for
    # Libraries and threads take their memory in a small call.
    wait_for(function(*inputs_of(*SMALL)))
    inputs = inputs_of(*size)
    before = resident_bytes("VmRSS")
    forget_peak()
    wait_for(function(*inputs))
    start = time.perf_counter()
    wait_for(function(*inputs))
    return {
        "seconds": time.perf_counter() - start,
        "bytes": resident_bytes("VmHWM") - before,
    }


def in_fresh_process(name, size):
    command = [sys.executable, "-m", "benchmarks.own", "--probe", name, "--size", *map(str, size)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(rounds, size, output):
    compiled = {name: stepped(function) for name, function in functions().items()}
    inputs = inputs_of(*size)
    expected = compiled[PEER](*inputs)
    for name, function in compiled.items():
        if "softmax" in name:
            for x, y in zip(function(*inputs), expected, strict=True):
                np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-4 * np.abs(y).max())
    seconds = medians(compiled, inputs, backend("cpu").wait_for, rounds)
    peaks = {name: in_fresh_process(name, size)["bytes"] for name in compiled}
    queries, drawn, items = size
    lines = ["| | ms | to plain | peak MB | to plain |", "| --- | --- | --- | --- | --- |"]
    for name in compiled:
        ratios = seconds[name] / seconds[PEER], peaks[name] / peaks[PEER]
        lines.append(
            f"| {name} | {1000 * seconds[name]:.0f} | {ratios[0]:.2f} | {peaks[name] / 1e6:.0f} "
            f"| {ratios[1]:.2f} |"
        )
    machine = f"{cpu()}; TensorFlow {tf.__version__}, Keras {keras.__version__}"
    text = (
        "# A row's own candidates\n\n"
        f"```bash\n.venv/bin/python -m benchmarks.own --rounds {rounds}\n```\n\n"
        f"{machine}; float32, d = {DIM}; medians of {rounds} rounds.\n\n"
        f"**{queries} rows with {drawn} negatives of their own, of {items} items, to the "
        "gradients**\n\n" + "\n".join(lines) + "\n"
    )
    print(text)
    output.write_text(text)


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.own", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=15, help="calls of each entry")
    parser.add_argument("--output", type=Path, default=Path("docs/performance-own.md"))
    parser.add_argument("--small", action="store_true", help="tiny sizes, to see it run")
    parser.add_argument("--probe", help="print the memory of this one entry, as JSON")
    parser.add_argument("--size", type=int, nargs=3, help="queries, drawn and items of --probe")
    chosen = parser.parse_args(arguments)
    if chosen.rounds < 1:
        parser.error(f"--rounds must be positive. Received: {chosen.rounds}")
    if chosen.probe:
        print(json.dumps(probe(chosen.probe, chosen.size or SIZE)))
        return
    measure(chosen.rounds, SMALL if chosen.small else SIZE, chosen.output)


if __name__ == "__main__":
    main()
