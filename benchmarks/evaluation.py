"""Evaluating a test set: time and memory against the bare searches of ScaNN and TFRS.

    python -m benchmarks.evaluation --train train.tsv.xz --test test.tsv.xz \
        --user user_procid --item item_procid

writes docs/performance-evaluation.md and .json. Ours is all of an evaluation: the index is built,
the items of the training set are left out, and recall, NDCG, MRR and coverage are measured, with
segments on top in the second row. The peers only search: they leave nothing out and measure
nothing. TFRS's layers, the slowest, answer a part of the users, batch by batch, and their seconds
are counted for all. Every entry is called once a round, so that what disturbs the machine disturbs
all of them; the figures are medians over the rounds. Memory is measured in a process for each
entry, beyond what is held with all libraries, the data and the embeddings loaded.
"""

import os

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs
from jsonargparse import auto_cli
from scann.scann_ops.py import scann_ops_pybind

from benchmarks.machine import cpu, forget_peak, resident_bytes
from tfrs_croloss.data import Split, encode, read_interactions
from tfrs_croloss.evaluation import evaluate, training_segments
from tfrs_croloss.index import ExactIndex

DIM, TOP_N = 64, (20, 50, 100)
K = TOP_N[-1]
COMMAND = (
    ".venv/bin/python -m benchmarks.evaluation --train train.tsv.xz --test test.tsv.xz "
    "--user user_procid --item item_procid"
)
# The share of all queries that TFRS's layers are asked.
SHARE = 1 / 8
OURS, FLOOR = "evaluate, exact", "ScaNN brute force, search alone"
BRUTE_FORCE, STREAMING = (f"TFRS {name}, search alone" for name in ("BruteForce", "Streaming"))


def ours(data, queries, candidates, segmented=False):
    def run():
        segments = training_segments(data.train, data.test.counts) if segmented else None
        return evaluate(
            ExactIndex(candidates),
            queries,
            data.test,
            exclude=data.train,
            top_n=TOP_N,
            segments=segments,
        )

    return run


def scann_brute_force(data, queries, candidates):
    builder = scann_ops_pybind.builder(candidates, K, "dot_product")
    searcher = builder.score_brute_force().build()
    return lambda: searcher.search_batched_parallel(queries)


def tfrs_layer(layer, batch):
    """A layer of TFRS, asked in batches of the size that suits it best."""

    def prepare(data, queries, candidates):
        made = layer(k=K)
        made.index_from_dataset(tf.data.Dataset.from_tensor_slices(candidates).batch(4096))
        asked = queries[: round(len(queries) * SHARE)]

        def run():
            for start in range(0, len(asked), batch):
                made(asked[start : start + batch])[1].numpy()

        return run

    return prepare


# Functions of data, queries and candidates, each to a function that is timed.
ENTRIES = {
    OURS: ours,
    "evaluate, exact, by segments": lambda *inputs: ours(*inputs, segmented=True),
    FLOOR: scann_brute_force,
    BRUTE_FORCE: tfrs_layer(tfrs.layers.factorized_top_k.BruteForce, 512),
    STREAMING: tfrs_layer(tfrs.layers.factorized_top_k.Streaming, 2048),
}


def load(train, test, user, item):
    """The data, and random embeddings of its users and items."""
    frames = (read_interactions(path, user=user, item=item) for path in (train, test))
    train, test = frames
    data = encode(Split(train, train[:0], test))
    rng = np.random.default_rng(0)
    tables = (rng.normal(size=[len(ids), DIM]) for ids in (data.users, data.items))
    return data, *(table.astype(np.float32) for table in tables)


def seconds_of(inputs, rounds):
    """Median seconds of each entry, all called once a round."""
    functions = {name: prepare(*inputs) for name, prepare in ENTRIES.items()}
    seconds = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - start)
    shares = {BRUTE_FORCE: SHARE, STREAMING: SHARE}
    return {name: float(np.median(x)) / shares.get(name, 1) for name, x in seconds.items()}


def peak_bytes(inputs, name):
    """The most memory that an entry takes in this fresh process, its index included."""
    before = resident_bytes("VmRSS")
    forget_peak()
    ENTRIES[name](*inputs)()
    return resident_bytes("VmHWM") - before


def measure(
    train: str,
    test: str,
    user: str = "user",
    item: str = "item",
    rounds: int = 3,
    output: Path = Path("docs/performance-evaluation"),
    probe: str | None = None,
):
    """Measures evaluating a test set against the bare searches of ScaNN and TFRS.

    Args:
        train: File of training interactions, as of `tfrs-croloss train`.
        test: File of test interactions.
        user: Column of user ids.
        item: Column of item ids.
        rounds: Calls of each entry.
        output: Path of the results, without an ending; writes .json and .md.
        probe: Print the memory of this one entry, and nothing else.
    """
    if rounds < 1:
        raise ValueError(f"--rounds must be positive. Received: {rounds}")
    inputs = load(train, test, user, item)
    if probe is not None:
        print(peak_bytes(inputs, probe))
        return
    seconds = seconds_of(inputs, rounds)
    command = [sys.executable, "-m", "benchmarks.evaluation", f"--train={train}", f"--test={test}"]
    command += [f"--user={user}", f"--item={item}"]
    peaks = {
        name: int(
            subprocess.run(
                [*command, f"--probe={name}"], stdout=subprocess.PIPE, text=True, check=True
            ).stdout.split()[-1]
        )
        for name in ENTRIES
    }
    data = inputs[0]
    results = {
        "machine": cpu(),
        "rounds": rounds,
        "users": int(np.count_nonzero(data.test.counts)),
        "items": len(data.items),
        "entries": {
            name: {
                "seconds": seconds[name],
                "ratio": seconds[name] / seconds[FLOOR],
                "bytes": peaks[name],
            }
            for name in ENTRIES
        },
    }
    text = table(results)
    print(text)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    output.with_suffix(".md").write_text(text)


def table(results):
    """The results as Markdown."""
    *others, last = TOP_N
    sizes = f"N = {', '.join(map(str, others))} and {last}"
    lines = [
        "# Evaluating a test set",
        "",
        "```bash",
        COMMAND,
        "```",
        "",
        f"{results['users']:,} users × {results['items']:,} items, {sizes}, random embeddings, "
        f"float32, d = {DIM}; {results['machine']}; medians of {results['rounds']} rounds.",
        "",
        "| | s | to ScaNN brute force | peak MB |",
        "| --- | --- | --- | --- |",
    ]
    for name, found in results["entries"].items():
        cells = f"{found['seconds']:.2f} | {found['ratio']:.2f} | {found['bytes'] / 1e6:.0f}"
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    auto_cli(measure, as_positional=False)
