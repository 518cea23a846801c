"""A drop-in for `tfrs.tasks.Retrieval` that never holds the score matrix."""

from typing import Any, Literal

import keras

from tfrs_croloss._arguments import check_count, check_positive
from tfrs_croloss._registration import register, serialize
from tfrs_croloss._typing import Loss
from tfrs_croloss.losses import RetrievalLoss, SoftmaxLoss, embedding_loss
from tfrs_croloss.losses.checks import by_name
from tfrs_croloss.losses.differentiation import traced_as_written
from tfrs_croloss.retrieval.arguments import as_metrics, as_specs
from tfrs_croloss.retrieval.batch_metrics import BatchMetrics
from tfrs_croloss.retrieval.foreign import check_not_foreign, without_positives_of_others
from tfrs_croloss.retrieval.known_positives import into_mask
from tfrs_croloss.retrieval.memory import Memory
from tfrs_croloss.retrieval.pool import Pool
from tfrs_croloss.retrieval.precision import at_least_float32
from tfrs_croloss.retrieval.replicas import num_replicas, summed
from tfrs_croloss.retrieval.requirements import tf, tf_keras, tfrs
from tfrs_croloss.retrieval.step import as_step, check_sizes
from tfrs_croloss.retrieval.structures import mapped
from tfrs_croloss.retrieval.updates import after, updated


@register
class Retrieval(tfrs.tasks.Retrieval):
    """The retrieval task, with the loss straight from embeddings and negatives from everywhere.

    It takes what `tfrs.tasks.Retrieval` takes and gives the same loss for the same arguments, with
    these exceptions: ids that are floats, a matrix of sampling probabilities and fewer candidates
    than queries are refused, and so are embeddings and row weights that are NaN, or negative
    weights, in an eager call; a row whose positive is masked has a loss of 0. Beyond that:

    - The score matrix is never held: its rows are computed, compared and forgotten a block at a
      time, in less time and memory (`embedding_loss`).
    - Under a `tf.distribute` strategy the positives of every replica are negatives for all, so a
      model trains as on one device with the whole batch.
    - Embeddings of past batches can be negatives too (`memory_size`).
    - A user's other positives are left out of the negatives (`known_positive_ids`), candidates have
      weights (`candidate_weight`), and a row may have candidates of its own (`own`), with hard
      negatives as without.
    - A loss may ask for inputs of the rows (`row_inputs`), e.g. thresholds.
    - The metrics of a training step are those of the weights before it. In TFRS's task a
      `FactorizedTopK` over the model's own tower reads them in the middle of the update.

    **Reduction under replicas.** Each replica returns its share of the loss: their sum is the loss
    of the whole batch, and so is the sum of their gradients that an optimizer takes. A loss with
    reduction `"sum"` sums over the rows of all replicas, one with a mean divides by the number of
    all. So the learning rate means the same for any number of replicas and for a short last batch.
    `loss_metrics` are given the loss of the whole batch. L2 losses are the model's:
    `RetrievalModel` counts them once, a `tfrs.Model` of your own should give them to
    `tf.nn.scale_regularization_loss`, or each replica counts them.

    Args:
        loss: A `RetrievalLoss`; None is the softmax cross-entropy, TFRS's default. Any other loss
            is called on the whole matrix, by TFRS's own task. Then only TFRS's options and
            `in_batch` may be used.
        metrics: As in TFRS: factorized metrics of the whole catalogue, one or a list. As the
            attribute `factorized_metrics` they can be set later, likewise the two below.
        batch_metrics: As in TFRS: Keras metrics of labels and scores, of this replica's batch
            without the memory, a block of rows at a time. One or a list.
        loss_metrics: As in TFRS: Keras metrics of the loss, one or a list.
        temperature: Divides the scores.
        num_hard_negatives: Compare with this many negatives of the highest scores alone, ≥ 1.
        remove_accidental_hits: Whether candidates with the id of a row's positive are left out of
            its negatives; needs `candidate_ids`.
        name: Name of the task.
        block_size: Rows of scores at a time: `"auto"`, a number, or None for all.
        cross_replica: Whether the positives of other replicas are negatives. Extra candidates stay
            on their replica: have the same on each, as `RetrievalModel` does.
        memory_size: How many embeddings of past positives are kept as negatives, the newest first
            and within a batch replica by replica. They are saved in checkpoints.
        memory_features: Which `candidate_features` are kept with them, for weights that are
            functions: a dict from their names to a `tf.TensorSpec` of one candidate's, e.g.
            `{"price": tf.TensorSpec([], tf.float32)}`.

    Raises:
        ValueError: If an argument is out of range, or needs a `RetrievalLoss`.

    Example:

    >>> import tensorflow as tf
    >>> from tfrs_croloss import CROLoss
    >>> from tfrs_croloss.retrieval import Retrieval
    >>> task = Retrieval(loss=CROLoss(lambda_kernel="sigmoid"), remove_accidental_hits=True)
    >>> users, items = tf.eye(2, 4), tf.eye(3, 4)  # item 2 is an extra negative
    >>> loss = task(users, items, candidate_ids=tf.constant(["a", "b", "c"]))
    >>> round(float(loss), 4)  # 2 · ln(1 + 2 · σ(-1))
    0.8608
    """

    def __init__(
        self,
        loss: Loss | None = None,
        metrics: Any = None,
        batch_metrics: list[Any] | None = None,
        loss_metrics: list[Any] | None = None,
        temperature: float | None = None,
        num_hard_negatives: int | None = None,
        remove_accidental_hits: bool = False,
        name: str | None = None,
        block_size: int | Literal["auto"] | None = "auto",
        cross_replica: bool = True,
        memory_size: int = 0,
        memory_features: dict[str, Any] | None = None,
    ) -> None:
        if loss is not None and (not callable(loss) or isinstance(loss, type)):
            hint = f". Make one: {loss.__name__}()" if isinstance(loss, type) else ""
            raise ValueError(f"`loss` must be a Keras loss, or None. Received: {loss!r}{hint}")
        # A variable, a learned temperature, has no value to look at yet.
        if temperature is not None and not tf.is_tensor(temperature):
            check_positive("temperature", temperature)
        if num_hard_negatives is not None:
            num_hard_negatives = check_count("num_hard_negatives", num_hard_negatives)
        if block_size is not None and block_size != "auto":
            block_size = check_count("block_size", block_size)
        if memory_size:
            memory_size = check_count("memory_size", memory_size)
        memory_features = as_specs("memory_features", memory_features, memory_size)
        super().__init__(
            loss=SoftmaxLoss() if loss is None else loss,
            metrics=as_metrics("metrics", metrics),
            batch_metrics=as_metrics("batch_metrics", batch_metrics),
            loss_metrics=as_metrics("loss_metrics", loss_metrics),
            temperature=temperature,
            num_hard_negatives=num_hard_negatives,
            remove_accidental_hits=remove_accidental_hits,
            name=name,
        )
        # The loss is computed in float32 at least: embeddings are not to be rounded before.
        self._autocast = False
        self.block_size = block_size
        self.cross_replica = cross_replica
        self.memory_size = memory_size
        self.memory = Memory(memory_size, memory_features) if memory_size else None
        if self.memory is not None:
            check_not_foreign("memory_size", self.loss)

    # TFRS's task keeps its arguments under private names. They are named here and nowhere else.

    @property
    def loss(self):
        """The loss; the softmax cross-entropy where none was given."""
        return self._loss

    @property
    def temperature(self):
        """What divides the scores, or None."""
        return self._temperature

    @property
    def num_hard_negatives(self):
        """With how many negatives of the highest scores a positive is compared; None for all."""
        return self._num_hard_negatives

    @property
    def remove_accidental_hits(self):
        """Whether candidates with the id of a row's positive are left out of its negatives."""
        return self._remove_accidental_hits

    @property
    def factorized_metrics(self):
        """The metrics of the whole catalogue: set one, a list or None."""
        return self._factorized_metrics

    @factorized_metrics.setter
    def factorized_metrics(self, metrics):
        self._set_metrics("factorized_metrics", metrics)

    @property
    def batch_metrics(self):
        """The metrics of labels and scores: set one, a list or None."""
        return self._batch_metrics

    @batch_metrics.setter
    def batch_metrics(self, metrics):
        self._set_metrics("batch_metrics", metrics)

    @property
    def loss_metrics(self):
        """The metrics of the loss: set one, a list or None."""
        return self._loss_metrics

    @loss_metrics.setter
    def loss_metrics(self, metrics):
        self._set_metrics("loss_metrics", metrics)

    def _set_metrics(self, name, metrics):
        metrics, before = as_metrics(name, metrics), getattr(self, f"_{name}")
        # Keras would go on to report the metrics that an attribute once held.
        self._metrics[:] = [x for x in self._metrics if all(x is not y for y in before)]
        setattr(self, f"_{name}", metrics)

    def call(
        self,
        query_embeddings,
        candidate_embeddings,
        sample_weight=None,
        candidate_sampling_probability=None,
        candidate_ids=None,
        compute_metrics=True,
        compute_batch_metrics=True,
        score_mask=None,
        candidate_weight=None,
        known_positive_ids=None,
        in_batch=True,
        training=None,
        row_inputs=None,
        own=None,
        query_features=None,
        candidate_features=None,
    ):
        """Computes the loss, as `tfrs.tasks.Retrieval.call`, and updates the metrics.

        Args:
            query_embeddings: `[num_queries, dim]`, or `[num_queries, num_heads, dim]`: the score
                is then the best of the heads'.
            candidate_embeddings: `[num_candidates, dim]`: the positives of the queries in their
                order, then any number of extra negatives.
            sample_weight: Weights of the rows, `[num_queries]`, `[num_queries, 1]` or a number.
            candidate_sampling_probability: `[num_candidates]`, `[1, num_candidates]` or a number,
                for TFRS's log-Q correction, which shifts the positive's score too.
                `candidate_weight` does not. A matrix of them, one a score, is refused.
            candidate_ids: `[num_candidates]`, integers or strings. Floats are refused, where TFRS's
                task compares them.
            compute_metrics: Whether to update the factorized metrics.
            compute_batch_metrics: Whether to update the batch metrics.
            score_mask: Bool `[num_queries, num_candidates]`, or what broadcasts to that, as
                `[num_candidates]` and `[num_queries, 1]`: False where a candidate is absent. A row
                whose positive is absent has no loss.
            candidate_weight: v_j ≥ 0, `[num_candidates]`: how many items each stands for. Also
                `[num_queries, num_candidates]`, where no candidates come from other replicas or
                from a memory. Or a function from two dicts to `[block, all candidates]`, the most
                that is ever held. The first dict has the `embedding` of a block of rows and the
                `query_features`. The second has the `embedding` of all candidates, their `id` if
                there are `candidate_ids`, and the `candidate_features`. Or a dict of such weights
                by name: see `embedding_loss`.
            known_positive_ids: `[num_queries, num_known]`, ids to exclude from the row's negatives:
                a matrix padded with an id that no item has, e.g. -1 or "", or a `tf.RaggedTensor`.
                The latter is faster where numbers differ, and takes a mask, a byte a score.
            in_batch: Whether the positives of other rows are negatives. Otherwise these are extra
                candidates, the memory and `own`.
            training: Whether the memory takes in the positives; must be given where there is one,
                or those of the validation would enter it.
            row_inputs: A dict of what the loss wants to know of the rows, `[num_queries]` each, by
                the names in its `row_inputs`, e.g. `threshold`. Those that are scores are in units
                of the products of the embeddings, and are divided by the `temperature` as these
                are. See `Thresholds`.
            own: `tfrs_croloss.losses.Candidates` that each row has of its own. They stay on their
                replica, do not enter the memory, and batch metrics do not see them. If they have
                ids, `candidate_ids` must be given: they are compared with those of the positives.
                By index they must have ids with `remove_accidental_hits`. A weight that is a
                function gets their `embedding` beside their features, which must be a dict.
            query_features: A dict of tensors `[num_queries, ...]`, for weights that are functions.
            candidate_features: Likewise `[num_candidates, ...]`, sent to all replicas. A memory
                keeps those that are among its `memory_features`.

        Returns:
            The loss, under replicas this one's share; `[num_queries]` if the loss has no reduction.

        Raises:
            ValueError: If ids or inputs of the rows are missing, ids are floats, a shape does not
                fit, or there are no negatives.
        """
        embeddings = query_embeddings, candidate_embeddings
        ours = {
            "candidate_weight": candidate_weight,
            "known_positive_ids": known_positive_ids,
            "row_inputs": row_inputs,
            "own": own,
            "query_features": query_features,
            "candidate_features": candidate_features,
        }
        if not isinstance(self.loss, RetrievalLoss):
            self._check_foreign(ours, in_batch)
            updates = self._update_factorized(
                compute_metrics, *embeddings, candidate_ids, sample_weight
            )
            return super().call(
                *after(updates, *embeddings),
                sample_weight=sample_weight,
                candidate_sampling_probability=candidate_sampling_probability,
                candidate_ids=candidate_ids,
                compute_metrics=False,
                compute_batch_metrics=compute_batch_metrics,
                score_mask=self._foreign_mask(score_mask, *embeddings, in_batch),
            )
        self._check_training(training)
        rows, candidates = as_step(
            self,
            *embeddings,
            in_batch=in_batch,
            sample_weight=sample_weight,
            probability=candidate_sampling_probability,
            candidate_ids=candidate_ids,
            mask=score_mask,
            **ours,
        )
        updates = self._update_factorized(compute_metrics, *embeddings, candidate_ids, rows.weight)
        if compute_batch_metrics and self.batch_metrics:
            updates.append(self._update_batch(rows, candidates, in_batch))
        rows, candidates = _after(updates, rows, candidates)
        loss = self._loss_of(rows, candidates, in_batch, training)
        return after(self._update_of_loss(loss), loss)[0]

    def _check_training(self, training):
        """Raises where it is not known whether the memory is to take in the positives."""
        if self.memory is not None and training is None:
            raise ValueError(
                "`training` must be given to a task with a memory: True in training, False in "
                "evaluation, as `tfrs.Model.compute_loss` gets it. Received: None"
            )

    def _update_of_loss(self, loss):
        """Updates the metrics of the loss, which is that of all replicas."""
        if not self.loss_metrics:
            return []
        of_loss = loss if loss.shape.rank else summed(loss)
        return [updated(metric, of_loss) for metric in self.loss_metrics]

    def _check_foreign(self, ours, in_batch):
        """Raises where a loss that is not ours would have to do what ours alone can."""
        wanted = [name for name, x in ours.items() if x is not None]
        if in_batch and self.cross_replica and num_replicas() > 1:
            wanted.append("cross_replica=True")
        for name in wanted:
            check_not_foreign(name, self.loss)

    def _foreign_mask(self, mask, queries, candidates, in_batch):
        """The mask for TFRS's task, in which the positives of other rows are always candidates."""
        sizes = (tf.convert_to_tensor(x).shape[0] for x in (queries, candidates))
        check_sizes(self, *sizes, in_batch)
        if in_batch:
            return mask
        return without_positives_of_others(mask, tf.shape(queries)[0], tf.shape(candidates)[0])

    def _removes_hits(self, rows):
        """Whether shared candidates with the id of a positive of the row are not its negatives."""
        return self.remove_accidental_hits or rows.known_ids is not None

    def _update_factorized(self, is_wanted, queries, candidates, ids, sample_weight):
        """Updates the metrics of the whole catalogue, of queries without heads."""
        if not (is_wanted and self.factorized_metrics):
            return []
        queries, candidates = (at_least_float32(x) for x in (queries, candidates))
        # TFRS itself passes the ids of extra candidates too, which its metrics refuse.
        own = slice(tf.shape(queries)[0])
        if ids is not None:
            ids = tf.convert_to_tensor(ids)[own]
            ids = ids if ids.shape.rank is not None else tf.ensure_shape(ids, [None])

        def update():
            return [
                updated(
                    metric,
                    queries,
                    candidates[own],
                    true_candidate_ids=ids,
                    sample_weight=sample_weight,
                )
                for metric in self.factorized_metrics
            ]

        if queries.shape.rank is not None:
            return update() if queries.shape.rank == 2 else []
        nothing = tf.constant(0)
        return [
            *tf.cond(tf.rank(queries) < 3, lambda: after(update(), nothing), lambda: (nothing,))
        ]

    def _update_batch(self, rows, candidates, in_batch):
        """Updates the metrics of the batch."""
        metrics = BatchMetrics(self.batch_metrics, self.block_size, self.num_hard_negatives)
        ids = candidates.ids if self._removes_hits(rows) else None
        own = tf.range(tf.shape(rows.queries)[0])
        return metrics.update(
            self._scaled(rows.queries, candidates),
            candidates.shifted(),
            ids,
            in_batch,
            rows.weight,
            *into_mask(rows.known_ids, rows.mask, ids, own),
        )

    # Without a condition on a tensor, this and `as_step` need no conversion by AutoGraph,
    # which would take longer than all else of a first step. What is of the user's own, metrics, is
    # converted.

    @traced_as_written
    def _loss_of(self, rows, candidates, in_batch, training):
        """The loss of the rows against the candidates of all sources."""
        pool = self._pool(rows, candidates, in_batch)
        known_ids, mask = into_mask(
            rows.known_ids, pool.mask(rows.mask), pool.candidates.ids, pool.positive_index
        )
        row_weight = rows.weight
        if not in_batch and rows.mask is not None:
            row_weight = self._weight_of_present(rows)
        ids = pool.candidates.ids if self._removes_hits(rows) else None
        positive_ids = None
        if (ids is not None and not in_batch) or (
            rows.own is not None and rows.own.ids is not None
        ):
            positive_ids = pool.positives.ids
        loss = embedding_loss(
            self.loss,
            self._scaled(rows.queries, candidates),
            pool.candidates.shifted(),
            positive_index=pool.positive_index,
            positives=None if in_batch else pool.positives.shifted(),
            positive_ids=positive_ids,
            candidate_ids=ids,
            known_positive_ids=known_ids,
            candidate_weight={**pool.candidates.weights, **pool.weights(rows.weights)},
            sample_weight=row_weight,
            score_mask=mask,
            num_hard_negatives=self.num_hard_negatives,
            block_size=self.block_size,
            own=rows.own,
            reduction=None if self.loss.reduction in ("none", None) else "sum",
            **self._features(rows, pool.candidates),
            **rows.inputs,
        )
        loss = self._reduced(loss, rows)
        if self.memory is not None and training:
            # In a graph of TensorFlow 1 nothing else has the loss read it before.
            with tf.control_dependencies([loss]):
                pushed = self.memory.push(pool.everyone)
            (loss,) = after([pushed], loss)
        return loss

    def _weight_of_present(self, rows):
        """Weights of rows whose positives are no candidates: without its positive a row has 0."""
        is_present = rows.mask
        if is_present.shape.rank == 1:
            is_present = is_present[: tf.shape(rows.queries)[0]]
        else:
            is_present = tf.linalg.diag_part(is_present)
        return tf.cast(is_present, self.loss.dtype) * (1 if rows.weight is None else rows.weight)

    def _pool(self, rows, candidates, in_batch):
        """The candidates of all sources, or a ValueError where they don't fit together."""
        replicas = num_replicas()
        if self.memory is not None and replicas > 1 and not self.cross_replica:
            raise ValueError(
                "`memory_size` must be 0 with `cross_replica=False` on several replicas, which "
                f"would not agree on the memory. Received: {self.memory_size}"
            )
        has_others = self.memory is not None or (replicas > 1 and self.cross_replica and in_batch)
        for weight in rows.weights.values() if has_others else ():
            if not callable(weight):
                raise ValueError(
                    "`candidate_weight` must have shape [num_candidates], or be a function, where "
                    "there are candidates of other replicas or of the memory. Received: shape "
                    f"{tuple(weight.shape)}"
                )
        num_queries = tf.shape(rows.queries)[0]
        return Pool(candidates, num_queries, in_batch, self.cross_replica, self.memory)

    def _features(self, rows, candidates):
        """What functions of weights are called with; nothing if there are none."""
        of_own = {} if rows.own is None else by_name(rows.own.weight)
        if not any(map(callable, [*rows.weights.values(), *of_own.values()])):
            return {}
        of_candidates = {"embedding": candidates.embeddings, **candidates.features}
        if candidates.ids is not None:
            of_candidates = {"id": candidates.ids, **of_candidates}
        of_rows = {"embedding": rows.queries, **(rows.features or {})}
        return {
            "row_features": mapped(tf.stop_gradient, of_rows),
            "candidate_features": mapped(tf.stop_gradient, of_candidates),
        }

    def _reduced(self, loss, rows):
        """The loss under a mean, which is over the rows of all replicas."""
        num_queries = tf.shape(rows.queries)[0]
        if self.loss.reduction in ("mean", "sum_over_batch_size"):
            total = num_queries
        elif self.loss.reduction == "mean_with_sample_weight":
            total = num_queries if rows.weight is None else tf.reduce_sum(rows.weight)
        else:
            return loss
        return tf.math.divide_no_nan(loss, tf.cast(summed(total), loss.dtype))

    def _scaled(self, queries, candidates):
        """The queries whose products with the `shifted` candidates are the scores."""
        queries = self.over_temperature(queries)
        if candidates.probability is not None:
            # The log-Q correction, as one more dimension.
            queries = tf.concat([queries, tf.ones_like(queries[..., :1])], axis=-1)
        return queries

    def over_temperature(self, x):
        """Scores, or what makes them, over the temperature."""
        return x if self.temperature is None else x / self.temperature

    def build(self, input_shape):
        if self.memory is not None:
            shape = tf.TensorShape(input_shape)
            dim = shape[-1] if shape.rank else None
            if dim is None:
                raise ValueError(
                    "`query_embeddings` must have a known last dimension for a memory: give them "
                    "one, tf.ensure_shape(query_embeddings, [None, dim]). Received: shape "
                    f"{shape}"
                )
            self.memory.build(dim)
        super().build(input_shape)

    def save_own_variables(self, store):
        super().save_own_variables(store)
        if self.memory is not None and self.built:
            for name, variable in self.memory.state().items():
                store[name] = variable.numpy()

    def load_own_variables(self, store):
        state = {}
        if self.memory is not None and self.built:
            state = self.memory.state()
            for name, variable in state.items():
                variable.assign(store[name])
        own = {name: store[name] for name in store.keys() if name not in state}  # noqa: SIM118
        super().load_own_variables(own)

    def get_config(self):
        """The config, without `metrics`: set `factorized_metrics` again, which hold candidates.

        Raises:
            ValueError: If nothing would find the loss or a metric again.
        """
        return {
            "loss": (
                serialize(self.loss)
                if isinstance(self.loss, RetrievalLoss)
                else tf_keras.losses.serialize(self.loss)
            ),
            "batch_metrics": [tf_keras.metrics.serialize(metric) for metric in self.batch_metrics],
            "loss_metrics": [tf_keras.metrics.serialize(metric) for metric in self.loss_metrics],
            "temperature": self.temperature,
            "num_hard_negatives": self.num_hard_negatives,
            "remove_accidental_hits": self.remove_accidental_hits,
            "name": self.name,
            "block_size": self.block_size,
            "cross_replica": self.cross_replica,
            "memory_size": self.memory_size,
            "memory_features": {
                name: {"shape": spec.shape.as_list(), "dtype": spec.dtype.name}
                for name, spec in (self.memory.feature_specs if self.memory else {}).items()
            },
        }

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        loss = config.pop("loss")
        found = keras.saving.get_registered_object(loss["registered_name"])
        if isinstance(found, type) and issubclass(found, RetrievalLoss):
            loss = keras.saving.deserialize_keras_object(loss)
        else:
            loss = tf_keras.losses.deserialize(loss)
        config["memory_features"] = {
            name: tf.TensorSpec(**spec) for name, spec in config.get("memory_features", {}).items()
        }
        for name in ("batch_metrics", "loss_metrics"):
            config[name] = [tf_keras.metrics.deserialize(metric) for metric in config[name]]
        return cls(loss=loss, **config)


def _after(updates, rows, candidates):
    """Both structures, once the updates are done."""
    queries, embedded = after(updates, rows.queries, candidates.embeddings)
    return rows._replace(queries=queries), candidates._replace(embeddings=embedded)
