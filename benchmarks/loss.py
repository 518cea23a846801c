"""Losses from embeddings to the embeddings' gradients: time and memory against their peers.

    python -m benchmarks.loss

prints the tables of docs/performance.md, and writes them as JSON and PNG. Each round calls every
entry once, so that what disturbs the machine disturbs all of them; the figures are medians over
the rounds. Memory is measured in a process for each entry.
"""

import os

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from benchmarks.backends import backend
from benchmarks.machine import cpu, forget_peak, resident_bytes
from tfrs_croloss import CROLoss, MultiMarginLoss, embedding_loss
from tfrs_croloss.losses.blocks import into_blocks, sum_over_blocks
from tfrs_croloss.losses.engine import rows_of_a_block

DIM = 64
PEER = "TFRS default" if keras.backend.backend() == "tensorflow" else "softmax on the matrix"
FLOOR = "three products"
LOSSES = {
    "exponential (softmax)": CROLoss("exponential", temperature=0.1),
    "sigmoid": CROLoss("sigmoid", temperature=0.1),
    "hinge": CROLoss("hinge", temperature=0.1),
    "Lambda sigmoid, softplus": CROLoss("softplus", lambda_kernel="sigmoid", temperature=0.1),
    "Lambda sigmoid, exponential": CROLoss("exponential", lambda_kernel="sigmoid", temperature=0.1),
    "softplus": CROLoss("softplus", temperature=0.1),
    "MML, four margins": MultiMarginLoss(
        (-0.2, 0.0, 0.2, 0.4), (0.1, 0.2, 0.3, 0.4), negative_weight=100.0
    ),
}
SAMPLED = "Lambda sigmoid, softplus"


class Sizes(NamedTuple):
    """Queries and candidates of the tables, and how far each grows alone."""

    base: tuple = (4096, 4096)
    wide: tuple = (4096, 16384)
    large: tuple = (4096, 262_144)
    growth_base: dict = {"queries": 2048, "candidates": 8192, "width": DIM}  # noqa: RUF012
    growth: dict = {  # noqa: RUF012
        "queries": (512, 1024, 2048, 4096, 8192),
        "candidates": (4096, 8192, 16384, 32768, 65536),
        "width": (16, 32, 64, 128, 256),
    }


SMALL = Sizes(
    (64, 128),
    (64, 256),
    (64, 512),
    {"queries": 64, "candidates": 128, "width": DIM},
    {"queries": (64, 128), "candidates": (128, 256), "width": (8, 16)},
)


def unit(num_rows, dim, seed):
    x = np.random.default_rng(seed).normal(size=[num_rows, dim]).astype("float32")
    return ops.convert_to_tensor(x / np.linalg.norm(x, axis=1, keepdims=True))


def embeddings(num_queries, num_candidates, dim=DIM):
    return unit(num_queries, dim, 0), unit(num_candidates, dim, 1)


def on_matrix(loss):
    """A loss as TFRS's task calls it, on the finished score matrix."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow_recommenders as tfrs

        task = tfrs.tasks.Retrieval(loss=loss)
        return lambda q, c: task(q, c, compute_metrics=False)
    loss = loss or keras.losses.CategoricalCrossentropy(from_logits=True, reduction="sum")
    return lambda q, c: loss(ops.eye(*_shape(q, c)), ops.matmul(q, ops.transpose(c)))


def _shape(q, c):
    return ops.shape(q)[0], ops.shape(c)[0]


def with_keras_rs():
    """The softmax of keras-rs's primitives, as its retrieval example puts them together."""
    from keras_rs.layers import RemoveAccidentalHits

    remove = RemoveAccidentalHits()
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, reduction="sum")

    def function(q, c):
        labels = ops.eye(*_shape(q, c))
        scores = ops.matmul(q, ops.transpose(c))
        return loss(labels, remove(scores, labels, ops.arange(ops.shape(c)[0])))

    return function


def blocked(loss, **options):
    return lambda q, c: embedding_loss(loss, q, c, **options)


def three_products(q, c):
    """The floor: scores and two gradients in the same blocks of rows, and no loss."""
    rows = rows_of_a_block("auto", *_shape(q, c))

    def block(q):
        scores = ops.matmul(q, ops.transpose(c))
        return (ops.matmul(ops.transpose(q), scores),), (ops.matmul(scores, c),)

    blocks = into_blocks(q, rows, -(-ops.shape(q)[0] // rows))
    (by_candidate,), (by_query,) = sum_over_blocks(
        block, (blocks,), (ops.zeros_like(ops.transpose(c)),), num_kept=1
    )
    return by_candidate, by_query[0]


def sampled_softmax(num_sampled):
    """TensorFlow's sampled softmax over a table of candidates, uniform sampling."""
    import tensorflow as tf

    def function(q, c):
        return tf.reduce_sum(
            tf.nn.sampled_softmax_loss(
                c,
                tf.zeros([c.shape[0]]),
                tf.range(q.shape[0], dtype=tf.int64)[:, tf.newaxis],
                q,
                num_sampled,
                c.shape[0],
                sampled_values=tf.random.uniform_candidate_sampler(
                    tf.range(q.shape[0], dtype=tf.int64)[:, tf.newaxis],
                    1,
                    num_sampled,
                    unique=False,
                    range_max=c.shape[0],
                ),
            )
        )

    return function


def sampled(loss, num_sampled):
    """Our loss over as many candidates drawn from the table."""
    seeds = keras.random.SeedGenerator(0)

    def function(q, c):
        num_queries, num_candidates = _shape(q, c)
        drawn = keras.random.randint([num_sampled], 0, num_candidates, seed=seeds)
        ids = ops.concatenate([ops.arange(num_queries), drawn])
        rows = ops.take(c, ids, axis=0)
        return embedding_loss(
            loss,
            q,
            rows[num_queries:],
            positives=rows[:num_queries],
            positive_ids=ids[:num_queries],
            candidate_ids=ids[num_queries:],
        )

    return function


def peers(num_sampled):
    """Others' ways to a softmax, and ours; the sampled ones from a table of all candidates."""
    functions = {PEER: on_matrix(None), "keras-rs primitives": with_keras_rs()}
    functions["ours, exponential"] = blocked(LOSSES["exponential (softmax)"])
    if keras.backend.backend() == "tensorflow":
        functions[f"tf.nn.sampled_softmax_loss, {num_sampled}"] = sampled_softmax(num_sampled)
    functions[f"ours, {SAMPLED}, {num_sampled} sampled"] = sampled(LOSSES[SAMPLED], num_sampled)
    return functions


def medians(functions, inputs, wait_for, rounds):
    """Median seconds of each function, all called once a round."""
    for function in functions.values():
        wait_for(function(*inputs))
    seconds = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            wait_for(function(*inputs))
            seconds[name].append(time.perf_counter() - start)
    return {name: float(np.median(times)) for name, times in seconds.items()}


def time_all(run, size, functions, rounds, mode=None):
    """Median seconds of value and gradients, and of the floor, in one mode."""
    mode = mode or run.modes[0]
    compiled = {name: run.gradients_of(function, mode) for name, function in functions.items()}
    compiled[FLOOR] = run.compiled(three_products, mode)
    return medians(compiled, embeddings(*size), run.wait_for, rounds)


def blocked_and_peer():
    return {PEER: on_matrix(None)} | {name: blocked(loss) for name, loss in LOSSES.items()}


def on_the_matrix():
    return {PEER: on_matrix(None)} | {name: on_matrix(loss) for name, loss in LOSSES.items()}


def probe(run, name, size):
    """Seconds of a call and the peak of memory beyond the embeddings, in this fresh process."""
    functions = blocked_and_peer() | {FLOOR: None}
    inputs = embeddings(*size)
    function = run.compiled(three_products) if name == FLOOR else run.gradients_of(functions[name])
    # Libraries and threads take their memory in a small call.
    run.wait_for(function(*(x[:256] for x in inputs)))
    before = resident_bytes("VmRSS")
    forget_peak()
    run.wait_for(function(*inputs))  # compiles
    start = time.perf_counter()
    run.wait_for(function(*inputs))
    seconds = time.perf_counter() - start
    peak = run.peak_bytes()
    return {
        "seconds": seconds,
        "bytes": resident_bytes("VmHWM") - before if peak is None else peak,
    }


def in_fresh_process(device, name, size):
    """`probe` there; None where it ran out of memory."""
    command = [sys.executable, "-m", "benchmarks.loss", "--device", device]
    command += ["--probe", name, "--size", *map(str, size)]
    done = subprocess.run(command, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None


def growth(run, rounds, base, points):
    """Seconds against queries, candidates and width, the others held at `base`."""
    found = {}
    for axis, values in points.items():
        found[axis] = []
        for value in values:
            size = (base | {axis: value}).values()
            functions = {
                "ours": run.gradients_of(blocked(LOSSES[SAMPLED])),
                FLOOR: run.compiled(three_products),
            }
            seconds = medians(functions, embeddings(*size), run.wait_for, rounds)
            found[axis].append({axis: value} | seconds)
    return found


def table(seconds):
    """Milliseconds and ratios as Markdown."""
    lines = [f"| | ms | to {PEER} | to {FLOOR} |", "| --- | --- | --- | --- |"]
    for name, x in seconds.items():
        peer, floor = x / seconds[PEER], x / seconds[FLOOR]
        lines.append(f"| {name} | {1000 * x:.1f} | {peer:.2f} | {floor:.2f} |")
    return "\n".join(lines) + "\n"


def plot(found, path):
    """Time against each size, with a line of slope 1 through the first point."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, StrMethodFormatter

    figure, panels = plt.subplots(1, len(found), figsize=(12, 4), layout="constrained")
    for panel, (axis, rows) in zip(panels, found.items(), strict=True):
        points = [row[axis] for row in rows]
        for name in ("ours", FLOOR):
            label = SAMPLED if name == "ours" else name
            panel.plot(points, [1000 * row[name] for row in rows], "o-", label=label)
        linear = [1000 * rows[0]["ours"] * point / points[0] for point in points]
        panel.plot(points, linear, ":", color="gray", label="linear")
        panel.set(xscale="log", yscale="log", xlabel=axis, ylabel="ms")
        panel.set_xticks(points, points)
        panel.minorticks_off()
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        panel.grid(alpha=0.3)
        panel.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def machine(run, device):
    """What the figures are of."""
    name = cpu()
    if device == "gpu":
        name = f"{run.device_name()}, {name}"
    return f"{name}; {run.name}, Keras {keras.__version__}; float32, d = {DIM}"


def measure(device, rounds, sizes, output):
    """Measures all, prints it and writes it to `output` with the endings .json, .md and .png."""
    run = backend(device)
    results = {"machine": machine(run, device), "rounds": rounds, "ms": {}, "memory": {}}
    parts = [
        "# Every loss\n",
        f"```bash\n.venv/bin/python -m benchmarks.loss --device {device} --rounds {rounds}\n```\n",
        f"{results['machine']}; medians of {rounds} rounds.\n",
    ]

    def add(title, seconds):
        results["ms"][title] = {name: 1000 * x for name, x in seconds.items()}
        parts.append(f"**{title}**\n\n{table(seconds)}")
        print(parts[-1], flush=True)

    for size in (sizes.base, sizes.wide):
        title = f"{size[0]} x {size[1]}, from embeddings"
        add(title, time_all(run, size, blocked_and_peer(), rounds))
    for mode in run.modes:
        title = f"{sizes.base[0]} x {sizes.base[1]}, on the matrix, {mode}"
        add(title, time_all(run, sizes.base, on_the_matrix(), rounds, mode))
    title = f"{sizes.wide[0]} x {sizes.wide[1]}, against peers"
    add(title, time_all(run, sizes.wide, peers(sizes.base[1]), rounds))

    lines = ["| | size | s | peak MB |", "| --- | --- | --- | --- |"]
    wanted = [(sizes.wide, name) for name in (PEER, SAMPLED)]
    wanted += [(sizes.large, name) for name in (FLOOR, "exponential (softmax)", SAMPLED)]
    for size, name in wanted:
        found = in_fresh_process(device, name, size)
        results["memory"][f"{name}, {size[0]} x {size[1]}"] = found
        cells = f"{found['seconds']:.2f} | {found['bytes'] / 1e6:.0f}" if found else "fails | "
        lines.append(f"| {name} | {size[0]} x {size[1]} | {cells} |")
    parts.append("**Memory beyond the embeddings**\n\n" + "\n".join(lines) + "\n")
    print(parts[-1], flush=True)

    results["growth"] = growth(run, rounds, sizes.growth_base, sizes.growth)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    output.with_suffix(".md").write_text("\n".join(parts))
    try:
        plot(results["growth"], output.with_suffix(".png"))
    except ImportError:
        print("no plot: matplotlib is not installed", file=sys.stderr)


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.loss", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--device", choices=["cpu", "gpu"], default="cpu")
    parser.add_argument("--rounds", type=int, default=15, help="calls of each entry")
    parser.add_argument("--output", type=Path, default=Path("docs/performance-loss"))
    parser.add_argument("--small", action="store_true", help="tiny sizes, to see it run")
    parser.add_argument("--probe", help="print the memory of this one entry, as JSON")
    parser.add_argument("--size", type=int, nargs=2, help="queries and candidates of --probe")
    chosen = parser.parse_args(arguments)
    if chosen.rounds < 1:
        parser.error(f"--rounds must be positive. Received: {chosen.rounds}")
    if chosen.probe:
        print(json.dumps(probe(backend(chosen.device), chosen.probe, chosen.size)))
        return
    measure(chosen.device, chosen.rounds, SMALL if chosen.small else Sizes(), chosen.output)


if __name__ == "__main__":
    main()
