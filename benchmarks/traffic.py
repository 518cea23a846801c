"""What two workers of a cluster send each other a step, as the loopback interface counts it.

    python -m benchmarks.traffic --items 1000000

trains the model of `tfrs-croloss train` on made-up ids, for a catalogue of any size.
"""

import os

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

from tfrs_croloss.commands.training.cluster import free_ports

WORKERS, USERS, DIM, WARM_UP, STEPS = 2, 100_000, 64, 3, 10


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.traffic", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--items", type=int, default=1_000_000, help="size of the catalogue")
    parser.add_argument("--batch", type=int, default=4096, help="of both workers together")
    parser.add_argument("--negatives", type=int, default=1024, help="drawn a step")
    parser.add_argument("--in_batch", action="store_true", help="positives are negatives, too")
    chosen = parser.parse_args(arguments)
    if "TF_CONFIG" in os.environ:
        train(chosen)
        return
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(WORKERS)]}
    command = [sys.executable, "-m", "benchmarks.traffic", *(arguments or sys.argv[1:])]
    workers = [
        subprocess.Popen(
            command,
            env={
                **os.environ,
                "TF_CONFIG": json.dumps(
                    {"cluster": cluster, "task": {"type": "worker", "index": index}}
                ),
            },
        )
        for index in range(WORKERS)
    ]
    sys.exit(max(worker.wait() for worker in workers))


def train(chosen):
    """One worker: steps of training, of which the first, which trace, do not count."""
    from tfrs_croloss import CROLoss
    from tfrs_croloss.retrieval import (
        InBatchNegatives,
        ItemTower,
        Retrieval,
        RetrievalModel,
        UniformNegatives,
        UserTower,
    )
    from tfrs_croloss.retrieval.requirements import tf, tf_keras

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    worker = strategy.cluster_resolver.task_id
    negatives = [UniformNegatives(chosen.items, chosen.negatives)]
    with strategy.scope():
        model = RetrievalModel(
            UserTower(USERS, DIM),
            ItemTower(chosen.items, DIM),
            chosen.items,
            Retrieval(CROLoss(temperature=0.1), remove_accidental_hits=True),
            negatives=[*negatives, InBatchNegatives()] if chosen.in_batch else negatives,
        )
        model.compile(tf_keras.optimizers.Adam(0.01))

    def batch(step):
        def ids(seed, maxval):
            return tf.random.stateless_uniform(
                [chosen.batch // WORKERS], [step, seed], maxval=maxval, dtype=tf.int32
            )

        return {"query": {"user": ids(worker, USERS)}, "item": ids(WORKERS + worker, chosen.items)}

    marks = {}

    def mark(step, logs):
        marks[step] = _bytes_sent(), time.perf_counter()

    model.fit(
        strategy.distribute_datasets_from_function(
            lambda context: tf.data.Dataset.range(WARM_UP + STEPS).map(batch)
        ),
        steps_per_epoch=WARM_UP + STEPS,
        callbacks=[tf_keras.callbacks.LambdaCallback(on_batch_end=mark)],
        verbose=0,
    )
    if worker == 0:
        (sent, start), (sent_at_end, end) = marks[WARM_UP - 1], marks[WARM_UP + STEPS - 1]
        # What one sends the other is all there is on this interface.
        each = (sent_at_end - sent) / STEPS / WORKERS
        print(f"{each:,.0f} bytes a worker and step; {(end - start) / STEPS:.2f} s a step")


def _bytes_sent():
    """Bytes that the loopback interface has sent so far."""
    lines = Path("/proc/net/dev").read_text().splitlines()
    (loopback,) = (line for line in lines if line.strip().startswith("lo:"))
    return int(loopback.split()[9])


if __name__ == "__main__":
    main()
