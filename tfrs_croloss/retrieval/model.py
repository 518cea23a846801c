"""The two-tower model: towers, negatives and a task."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from tfrs_croloss._arguments import check_non_negative
from tfrs_croloss._registration import register
from tfrs_croloss._typing import Array, Features, StrPath, Tower
from tfrs_croloss.losses import Candidates, RetrievalLoss
from tfrs_croloss.losses.softmax_loss_at_k import THRESHOLD
from tfrs_croloss.retrieval.foreign import check_not_foreign
from tfrs_croloss.retrieval.negatives import (
    InBatchNegatives,
    Negatives,
    OwnNegatives,
    candidate_weight,
    parts_of,
)
from tfrs_croloss.retrieval.precision import at_least_float32
from tfrs_croloss.retrieval.replicas import rows_before, summed
from tfrs_croloss.retrieval.requirements import tf, tf_keras, tfrs
from tfrs_croloss.retrieval.saving import (
    build,
    call_spec,
    check_constructor,
    config_of,
    features_config,
    features_from,
)
from tfrs_croloss.retrieval.task import Retrieval
from tfrs_croloss.retrieval.thresholds import Thresholds
from tfrs_croloss.retrieval.towers import HistoryTower

# Rows a call when embedding a whole catalogue or all users.
EMBEDDING_ROWS = 8192


@register
class RetrievalModel(tfrs.Model):
    """Two towers trained by a `Retrieval`, with negatives from the batch or beyond it.

    Args:
        query_tower: Keras model from the batch's `query` features to `[num_queries, dim]`.
        candidate_tower: Keras model from items to `[num_candidates, dim]`; it gets positions, or
            the rows of `item_features` at these positions.
        num_items: Size of the catalogue.
        task: A `Retrieval` of this package, with whichever loss. TFRS's own task goes into a
            `tfrs.Model` of your own.
        negatives: A part such as `UniformNegatives`, or a list of them. The positives of other
            rows are negatives where `InBatchNegatives` is among them. `OwnNegatives` draws for each
            row alone.
        weigh: Whether each candidate j counts for 1 / E_j items, where E_j is how often it is to
            be expected among a row's negatives, from all parts together. Sums over negatives then
            stand for sums over the catalogue, however they were drawn. Needs a task with a
            `RetrievalLoss`, with `remove_accidental_hits` and without a memory.
        item_features: For a candidate tower on features: a tensor, or a dict of tensors, whose
            rows are the items of the catalogue.
        reverse_task: A `Retrieval` of its own that has the items ask for their users, as CLIP
            (Radford et al., arXiv 2103.00020, figure 3) trains both ways: each positive is a query
            and its candidates are the batch's queries, which come with the positions of `user`.
        reverse_weight: Weight of its loss beside that of `task`, 1.
        thresholds: A `Thresholds`, for a loss with a `threshold` among its `row_inputs`. The
            batch's `query` must then have the positions of `user`, and `refresh_thresholds` must be
            called before training and every few epochs.
        query_dropout: Rate of dropout on the query embeddings in training, as the author of the
            multi-margin loss has it; drawn by the step, so that a resumed run draws the same.

    Under `tf.distribute`, regularization losses count once, and not once a replica: each replica's
    `losses` are its share of them.

    Raises:
        ValueError: If a task is not a `Retrieval`; if there are no negatives at all, or they are of
            another catalogue; if they are to be weighed and the task can't, or a part does not know
            its probabilities; if the task's loss takes no thresholds, or those are of more items
            than there are; if a loss that is no `RetrievalLoss` is to see the positives of other
            replicas; if the reverse task has a memory, or its weight is negative; or if the dropout
            is no share.

    Example:
    >>> import tensorflow as tf
    >>> from tfrs_croloss import CROLoss
    >>> from tfrs_croloss.retrieval import *
    >>> items = ItemTower(num_items=50, dim=8)
    >>> model = RetrievalModel(
    ...     UserTower(num_users=10, dim=8),
    ...     items,
    ...     num_items=50,
    ...     task=Retrieval(loss=CROLoss(temperature=0.1)),
    ...     negatives=UniformNegatives(num_items=50, num_negatives=20),
    ... )
    >>> model.compile(optimizer="adam")
    >>> batch = {"query": {"user": tf.constant([0, 1])}, "item": tf.constant([7, 31])}
    >>> history = model.fit(tf.data.Dataset.from_tensors(batch), verbose=0)
    >>> model.candidate_embeddings().shape
    (50, 8)
    """

    def __init__(
        self,
        query_tower: Tower,
        candidate_tower: Tower,
        num_items: int,
        task: Retrieval,
        negatives: Negatives | Sequence[Negatives],
        weigh: bool = False,
        item_features: Array | Features | None = None,
        thresholds: Thresholds | None = None,
        query_dropout: float = 0.0,
        reverse_task: Retrieval | None = None,
        reverse_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if not 0 <= query_dropout < 1:
            raise ValueError(
                f"`query_dropout` must be at least 0 and below 1. Received: {query_dropout}"
            )
        parts = parts_of(negatives)
        for part in parts:
            if part.num_items not in (None, num_items):
                raise ValueError(
                    f"`negatives` must be of the model's {num_items} items. Received: "
                    f"{type(part).__name__} of {part.num_items}"
                )
        in_batch = any(isinstance(part, InBatchNegatives) for part in parts)
        _check_task("task", task, in_batch)
        if any(isinstance(part, OwnNegatives) for part in parts):
            check_not_foreign("OwnNegatives", task.loss)
        if weigh:
            _check_weighed(task, parts)
        if thresholds is not None:
            _check_thresholds(task, thresholds, num_items)
        if reverse_task is not None:
            _check_task("reverse_task", reverse_task, in_batch=True)
            if reverse_task.memory_size:
                raise ValueError(
                    "`reverse_task` must have no memory, which knows no users. Received: "
                    f"memory_size={reverse_task.memory_size}"
                )
        self.query_tower = query_tower
        self.candidate_tower = candidate_tower
        self.num_items = num_items
        self.task = task
        self.negatives = parts
        self.in_batch = in_batch
        self.weigh = weigh
        self.item_features = item_features
        self.thresholds = thresholds
        self.query_dropout = query_dropout
        self.reverse_task = reverse_task
        self.reverse_weight = check_non_negative("reverse_weight", reverse_weight)
        # Of its own, and not the optimizer's, so that it does not depend on how that is wrapped.
        self.step = tf.Variable(
            0,
            trainable=False,
            dtype=tf.int64,
            name="step",
            # All replicas assign the same.
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )

    @property
    def losses(self):
        """Regularization losses; on a replica its share, for the replicas' gradients are added."""
        losses = super().losses
        if tf.distribute.in_cross_replica_context():
            return losses
        num_replicas = tf.distribute.get_strategy().num_replicas_in_sync
        return losses if num_replicas == 1 else [loss / num_replicas for loss in losses]

    def compute_loss(self, inputs, training=False):
        """The task's loss of a batch, as `tfrs.Model` asks for it.

        Args:
            inputs: A dict of `query` features, of `item` positions `[num_queries]`, and optionally
                of `sample_weight` `[num_queries]`, of `known_positives`, which are the task's
                `known_positive_ids`, and of what the loss names in `row_inputs`, `[num_queries]`
                each under its name.
            training: Whether to train.

        Returns:
            The loss, a scalar under a reduction.

        Raises:
            ValueError: If there are known positives and the task's loss can't take them, or a
                reverse task and no positions of users.
        """
        positives = tf.cast(inputs["item"], tf.int32)
        num_queries = tf.shape(positives)[0]
        items = tf.concat([positives, *(part(self.step) for part in self.negatives)], axis=0)
        own = self._own_items(num_queries)
        if training:
            # A graph that finds the data at an end would count a step all the same.
            with tf.control_dependencies([positives]):
                self.step.assign_add(1)
        is_shared = self.in_batch and self.task.cross_replica
        num_positives = tf.cast(summed(num_queries), tf.int32) if is_shared else num_queries

        def weight_of(items):
            if not self.weigh:
                return None
            return candidate_weight(self.negatives, items, num_positives)

        queries = self.query_tower(inputs["query"], training=training)
        self.built = True  # For Keras, which looks for it when it saves.
        if training and self.query_dropout:
            queries = self._dropped_out(queries)
        candidates = self.embed_items(items, training=training)
        loss = self.task(
            queries,
            candidates,
            sample_weight=inputs.get("sample_weight"),
            candidate_ids=items,
            compute_metrics=not training,
            candidate_weight=weight_of(items),
            known_positive_ids=inputs.get("known_positives"),
            in_batch=self.in_batch,
            training=training,
            row_inputs=self._row_inputs(inputs),
            own=None if own is None else self._own(own, weight_of(own), training),
        )
        if self.reverse_task is not None:
            reverse = self._reverse_loss(inputs, candidates[:num_queries], queries, training)
            loss += self.reverse_weight * reverse
        return loss

    def _row_inputs(self, inputs):
        """What the loss wants to know of the rows, from the batch or the thresholds."""
        if not isinstance(self.task.loss, RetrievalLoss):
            return None
        names = [wanted.name for wanted in self.task.loss.row_inputs]
        found = {name: inputs[name] for name in names if name in inputs}
        if self.thresholds is not None:
            found[THRESHOLD.name] = self.thresholds(inputs["query"])
        return found or None

    def _own_items(self, num_queries):
        """Positions of items that each row has of its own `[num_queries, m]`, or None."""
        parts = [part for part in self.negatives if isinstance(part, OwnNegatives)]
        if not parts:
            return None
        # Every replica draws for the rows of all, so that a row gets the same wherever it is.
        before, total = rows_before(num_queries)
        items = tf.concat([part.draw_for_rows(self.step, total) for part in parts], axis=1)
        return items[before : before + num_queries]

    def _own(self, items, weight, training):
        """The rows' own candidates; an item is embedded once, however many rows have it."""
        different, index = tf.unique(tf.reshape(items, [-1]))
        return Candidates(
            self.embed_items(different, training=training),
            tf.reshape(index, tf.shape(items)),
            ids=items,
            weight=weight,
        )

    def _reverse_loss(self, inputs, items, queries, training):
        """The loss of the items that ask for their users."""
        query = inputs["query"]
        if not isinstance(query, dict) or "user" not in query:
            received = sorted(query) if isinstance(query, dict) else type(query).__name__
            raise ValueError(
                "`query` must be a dict with the positions of `user` for a `reverse_task`. "
                f"Received: {received}"
            )
        return self.reverse_task(
            items,
            queries,
            sample_weight=inputs.get("sample_weight"),
            candidate_ids=query["user"],
            compute_metrics=not training,
        )

    def _dropped_out(self, queries):
        context = tf.distribute.get_replica_context()
        replica = 0 if context is None else context.replica_id_in_sync_group
        return tf.nn.experimental.stateless_dropout(
            queries,
            self.query_dropout,
            seed=tf.stack([tf.cast(replica, tf.int64), self.step]),
            rng_alg="philox",  # By default it depends on the device.
        )

    def embed_items(self, items, training=False):
        """Positions `[n]` to embeddings `[n, dim]`."""
        features = items
        if self.item_features is not None:
            features = tf.nest.map_structure(lambda x: tf.gather(x, items), self.item_features)
        return self.candidate_tower(features, training=training)

    def query_embeddings(self, query):
        """Embeds any number of queries, in blocks.

        Args:
            query: What the query tower takes: an array or a dict of arrays, with a row a query.

        Returns:
            A numpy array `[num_queries, dim]`, float32 at least.
        """

        def embed(rows):
            return self.query_tower(tf.nest.map_structure(lambda x: x[rows], query))

        return _in_blocks(embed, len(tf.nest.flatten(query)[0]))

    def refresh_thresholds(self, query):
        """Takes the thresholds of all users from the model as it is.

        Args:
            query: The `query` features of every user in the order of their positions, as
                `RetrievalData.queries` gives them.

        Raises:
            ValueError: If these are not as many users as there are thresholds.
        """
        self.thresholds.refresh(self.query_embeddings(query), self.candidate_embeddings())

    def candidate_embeddings(self):
        """Embeds the whole catalogue, in blocks, to a numpy array `[num_items, dim]`.

        It is float32 at least, as that of `query_embeddings`.
        """
        return _in_blocks(
            lambda rows: self.embed_items(tf.range(rows.start, rows.stop)), self.num_items
        )

    def save(
        self,
        filepath: StrPath,
        overwrite: bool = True,
        save_format: str | None = None,
        **options: Any,
    ) -> None:
        """Saves the model whole, as Keras does: architecture, weights, optimizer.

        `tf_keras.models.load_model(filepath)` gives it back, once `tfrs_croloss.retrieval` and the
        modules of your own classes are imported. A class that stands in a script or a notebook
        itself is found by `load_model(filepath, custom_objects={"MyTower": MyTower})`, or under the
        decorator `@tf_keras.saving.register_keras_serializable()`. Factorized metrics are left out.

        Args:
            filepath: A path that ends in `.keras`.
            overwrite: Whether a file that is there is replaced without asking.
            save_format: `"keras"` or None.
            **options: Further arguments of Keras's `save`.

        Raises:
            ValueError: If a part of the model has no config that it could be made of again, or the
                format is another: a SavedModel holds a `call`, which two towers have not.
        """
        is_keras = save_format == "keras" or (
            save_format is None and str(filepath).endswith(".keras")
        )
        if not is_keras and type(self).call is tf_keras.Model.call:
            raise ValueError(
                '`filepath` must end in ".keras": model.save("model.keras"). To serve the model '
                "call `tfrs_croloss.serving.export_model(model, ...)`. Received: "
                f"{str(filepath)!r}, save_format={save_format!r}"
            )
        super().save(filepath, overwrite=overwrite, save_format=save_format, **options)

    def get_config(self):
        """The arguments of the constructor, as plain values.

        Raises:
            ValueError: If a part has no config, with what to do instead.
        """
        thresholds = self.thresholds
        config = {
            name: config_of(name, getattr(self, name))
            for name in ("query_tower", "candidate_tower", "task", "reverse_task")
        }
        for name in ("query_tower", "candidate_tower"):
            # They are called instead: `build_from_config`.
            if call_spec(getattr(self, name)) is not None:
                config[name].pop("build_config", None)
        if self._shares_items():
            config["query_tower"]["config"]["item_tower"] = None
        config |= {
            "negatives": [config_of("negatives", part) for part in self.negatives],
            "item_features": features_config(self.item_features),
            "thresholds": thresholds
            and {"num_users": thresholds.values.shape[0], "k": thresholds.k},
            "num_items": self.num_items,
            "weigh": self.weigh,
            "query_dropout": self.query_dropout,
            "reverse_weight": self.reverse_weight,
        }
        if type(self).get_config is RetrievalModel.get_config:
            check_constructor("model", type(self), config)
        return config

    def _shares_items(self):
        """Whether the query tower is made of the candidate tower."""
        query_tower, candidate_tower = self.query_tower, self.candidate_tower
        if not isinstance(query_tower, HistoryTower):
            return False
        if query_tower.item_tower is candidate_tower:
            return True
        if any(
            part is query_tower.embedding for part in (candidate_tower, *candidate_tower.submodules)
        ):
            raise ValueError(
                "`query_tower` cannot be saved: its table is a part of the candidate tower, but it "
                "was made of another tower, and the loaded model would have two tables. Make it of "
                "the candidate tower: HistoryTower(candidate_tower). Received: a HistoryTower of "
                f"{query_tower.item_tower!r}"
            )
        return False

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """The model that `get_config` is of, without its weights."""

        def made(part):
            return tf_keras.saving.deserialize_keras_object(part, custom_objects)

        config = dict(config)
        candidate_tower, query_tower = made(config["candidate_tower"]), config["query_tower"]
        inner = query_tower["config"]
        if "item_tower" in inner and inner["item_tower"] is None:
            inner = {**inner, "item_tower": candidate_tower}
        thresholds = config["thresholds"]
        config |= {
            "query_tower": made({**query_tower, "config": inner}),
            "candidate_tower": candidate_tower,
            "task": made(config["task"]),
            "reverse_task": made(config["reverse_task"]),
            "negatives": [
                keras.saving.deserialize_keras_object(part) for part in config["negatives"]
            ],
            "item_features": features_from(config["item_features"]),
            "thresholds": thresholds and Thresholds(**thresholds),
        }
        return cls(**config)

    def get_build_config(self):
        """What the towers were called with."""
        return {name: call_spec(getattr(self, name)) for name in ("query_tower", "candidate_tower")}

    def build_from_config(self, config):
        """Makes the variables of the towers."""
        for name, spec in config.items():
            if spec is not None:
                build(getattr(self, name), spec)
        self.built = any(config.values())

    def save_own_variables(self, store):
        super().save_own_variables(store)
        if self.thresholds is not None:
            store["thresholds"] = self.thresholds.values.numpy()

    def load_own_variables(self, store):
        own = {name: store[name] for name in store.keys() if name != "thresholds"}  # noqa: SIM118
        super().load_own_variables(own)
        if self.thresholds is not None:
            self.thresholds.values.assign(store["thresholds"])


def _in_blocks(embed, num_rows):
    starts = range(0, num_rows, EMBEDDING_ROWS)
    blocks = [slice(start, min(start + EMBEDDING_ROWS, num_rows)) for start in starts]
    # A tower in half precision gives embeddings whose products are not to be rounded again.
    return np.concatenate([at_least_float32(embed(rows)).numpy() for rows in blocks])


def _check_task(name, task, in_batch):
    """Raises a ValueError unless the model can train by the task, in the present strategy."""
    if not isinstance(task, Retrieval):
        raise ValueError(
            f"`{name}` must be a Retrieval of tfrs_croloss.retrieval. Received: {task!r}. "
            "Retrieval(loss=...) takes every loss that TFRS's task takes; TFRS's task itself goes "
            "into a tfrs.Model of your own"
        )
    if task.memory is not None and task.memory.feature_specs:
        raise ValueError(
            f"`{name}` must have no `memory_features`: a RetrievalModel gives it no features. "
            f"Received: {', '.join(task.memory.feature_specs)}"
        )
    if in_batch and task.cross_replica and tf.distribute.get_strategy().num_replicas_in_sync > 1:
        check_not_foreign("cross_replica=True", task.loss)


def _check_weighed(task, parts):
    """Raises a ValueError unless candidates can be weighed by their expected counts."""
    check_not_foreign("weigh", task.loss)
    if not task.remove_accidental_hits:
        raise ValueError(
            "`task` must have `remove_accidental_hits=True` for `weigh=True`: drawn again, "
            "a row's positive would be a negative of its own. Received: False"
        )
    if task.memory_size:
        raise ValueError(
            "`weigh` must be False with a task that has a memory: how often it draws an "
            f"item is not known. Received: memory_size={task.memory_size}"
        )
    candidate_weight(parts, tf.constant([0]), 1)  # A part without probabilities says so.


def _check_thresholds(task, thresholds, num_items):
    """Raises a ValueError unless there can be such thresholds, and the loss can take them."""
    check_not_foreign("thresholds", task.loss)
    if THRESHOLD.name not in [wanted.name for wanted in task.loss.row_inputs]:
        raise ValueError(
            f"`thresholds` must be None for {type(task.loss).__name__}, which wants none. "
            f"Received: {thresholds!r}"
        )
    if thresholds.k > num_items:
        raise ValueError(
            f"`thresholds` must be of a k of at most the model's {num_items} items. "
            f"Received: k={thresholds.k}"
        )
