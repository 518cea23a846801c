"""Thresholds of a run: refreshed at epochs that its config names."""

from tfrs_croloss.commands.training.strategy import from_chief
from tfrs_croloss.retrieval.requirements import tf_keras


class RefreshThresholds(tf_keras.callbacks.Callback):
    """Takes the model's thresholds anew before the first epoch, and every so many after it.

    Checkpoints hold them: an epoch that is resumed in its middle goes on with those it began with.

    Args:
        config: The run's `Config`.
        data: Its `RetrievalData`.
        state: What knows the `step` that the run has reached.
        strategy: The strategy that trains it.
        batches_an_epoch: Steps of an epoch.
    """

    def __init__(self, config, data, state, strategy, batches_an_epoch):
        super().__init__()
        self.every, self.state, self.strategy = config.refresh_thresholds, state, strategy
        self.batches_an_epoch = batches_an_epoch
        # Of those who are trained on alone: no others have a place in the table.
        queries = data.queries(config.history_length_of_tower)
        self.queries = {name: rows[: data.num_train_users] for name, rows in queries.items()}

    def on_epoch_begin(self, epoch, logs=None):
        is_resumed_within = self.state.step % self.batches_an_epoch
        if is_resumed_within or epoch % self.every:
            return
        self.model.refresh_thresholds(self.queries)
        # The last bits may differ from machine to machine, and replicas must have the same.
        values = self.model.thresholds.values
        values.assign(from_chief(self.strategy, values.numpy().tolist()))
