"""The replicas of a run: the strategy that trains it, and what its workers must agree on."""

import functools
import json
import os

from tfrs_croloss.retrieval.requirements import tf


def build_strategy(config):
    """The strategy that `config` names, to be built before anything else of TensorFlow runs.

    Raises:
        ValueError: If TF_CONFIG and --strategy contradict each other, or TensorFlow runs already.
    """
    num_tasks = _num_tasks()
    if config.strategy != "multiworker" and num_tasks > 1:
        raise ValueError(
            f"TF_CONFIG describes a cluster of {num_tasks} tasks, each of which would write the "
            "whole run. Add --strategy multiworker, or unset TF_CONFIG. Received: --strategy "
            f"{config.strategy}"
        )
    try:
        if config.strategy == "multiworker":
            return tf.distribute.MultiWorkerMirroredStrategy()
        if config.strategy == "mirrored":
            return tf.distribute.MirroredStrategy(_devices(config.replicas))
    except RuntimeError as error:
        raise ValueError(
            f"--strategy {config.strategy} must come before all else of TensorFlow: train in a "
            f"process of its own. TensorFlow says: {error}"
        ) from error
    return tf.distribute.get_strategy()


def is_chief(strategy):
    """Whether this process is the one that writes the run and shows its progress."""
    jobs = _jobs(strategy)
    if not jobs:
        return True
    task = strategy.cluster_resolver.task_type, strategy.cluster_resolver.task_id
    return task == ("chief" if "chief" in jobs else "worker", 0)


def from_chief(strategy, numbers):
    """The chief's numbers in place of one's own.

    All workers must call it, with lists of one length. The chief has the first replica.
    """
    if not _jobs(strategy):
        return numbers
    return _first_replicas(strategy)(tf.constant(numbers, tf.float64)).numpy().tolist()


@functools.cache
def _first_replicas(strategy):
    """A function that all workers call with a vector; it gives all of them the first replica's."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float64)])
    def first_replicas(own):
        def contribution():
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            # Not a product: 0 · NaN is NaN.
            return tf.where(tf.equal(replica, 0), own, tf.zeros_like(own))

        return strategy.reduce(tf.distribute.ReduceOp.SUM, strategy.run(contribution), axis=None)

    return first_replicas


def _jobs(strategy):
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return {}
    return strategy.cluster_resolver.cluster_spec().as_dict()


def _num_tasks():
    text = os.environ.get("TF_CONFIG") or "{}"
    try:
        return sum(map(len, json.loads(text).get("cluster", {}).values()))
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(
            "TF_CONFIG must be JSON such as "
            '{"cluster": {"worker": ["host:port", …]}, "task": {"type": "worker", "index": 0}}. '
            f"Received: {text}"
        ) from error


def _devices(num_replicas):
    """All GPUs, or as many logical CPU devices as wanted."""
    if tf.config.list_physical_devices("GPU"):
        return None
    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * num_replicas,
    )
    return [f"CPU:{number}" for number in range(num_replicas)]
