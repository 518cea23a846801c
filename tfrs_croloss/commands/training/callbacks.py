"""What happens in training beside the steps: validation, checkpoints, thresholds, the bar."""

import math

from tfrs_croloss.commands.experiment.classes import built
from tfrs_croloss.commands.training.strategy import from_chief
from tfrs_croloss.retrieval.requirements import tf_keras


class Validate(tf_keras.callbacks.Callback):
    """Counts the steps, validates, saves, and stops where validations gain no more.

    What an epoch's validation gives is in the `logs` of the callbacks after this one.

    Args:
        trainer: The `Trainer`.
    """

    def __init__(self, trainer):
        super().__init__()
        self.trainer, self.config = trainer, trainer.config
        self.checkpoints, self.steps_an_epoch = trainer.checkpoints, trainer.steps_an_epoch

    def on_epoch_begin(self, epoch, logs=None):
        # Of the epoch's batches before this fit: their number, and their mean loss.
        self.before = self.checkpoints.step % self.steps_an_epoch
        self.loss_before = float(self.checkpoints.loss.numpy()) if self.before else 0.0

    def on_train_batch_end(self, batch, logs=None):
        self.checkpoints.step += 1
        # An epoch's last step is saved with its validation.
        if self.checkpoints.step % self.steps_an_epoch:
            self._save_step()

    def on_epoch_end(self, epoch, logs=None):
        config, done = self.config, epoch + 1
        loss = self._mean_loss()
        # Each epoch: a loss that is not finite has spoilt the weights for good.
        if not math.isfinite(loss):
            raise ValueError(
                f"the loss became {loss} in epoch {done}: lower --optimizer.learning_rate, or "
                "raise the temperature"
            )
        if done % config.validate_every and done < config.epochs:
            self._save_step()
            return
        row = {"train_loss": loss}
        if config.validates:
            row.update(self.trainer.measure.validation(self.model).as_dict())
        # The last bits may differ from machine to machine, and all must stop at the same epoch.
        agreed = from_chief(self.trainer.strategy, list(row.values()))
        row = {
            name: type(own)(number) for (name, own), number in zip(row.items(), agreed, strict=True)
        }
        self.checkpoints.save_epoch({"epoch": done, **row})
        if logs is not None:
            logs.update(row)
        self.model.stop_training = self.checkpoints.is_finished

    def _save_step(self):
        if self.config.save_every and self.checkpoints.step % self.config.save_every == 0:
            self.checkpoints.save_step(self._mean_loss())

    def _mean_loss(self):
        """Mean over the epoch's batches so far; in a cluster all workers must ask for it."""
        # Not from the logs, which Keras adds up over workers and not over local replicas. The task
        # gives the metric the loss of the whole batch on each replica.
        (metric,) = (metric for metric in self.model.metrics if metric.name == "mean_loss")
        loss = float(metric.result())
        steps = (self.checkpoints.step - 1) % self.steps_an_epoch + 1
        return loss + (self.loss_before - loss) * self.before / steps


class ShowProgress(tf_keras.callbacks.Callback):
    """Shows the steps in a bar, and beside it the metric that the epoch is chosen by.

    Args:
        bar: A bar of tqdm.
        metric: The metric's name.
    """

    def __init__(self, bar, metric):
        super().__init__()
        self.bar, self.metric = bar, metric

    def on_train_batch_end(self, batch, logs=None):
        self.bar.update()

    def on_epoch_end(self, epoch, logs=None):
        if self.metric in (logs or {}):
            self.bar.set_postfix({f"validation {self.metric}": f"{logs[self.metric]:.4f}"})


class RefreshThresholds(tf_keras.callbacks.Callback):
    """Takes the model's thresholds anew before the first epoch, and every so many after it.

    Checkpoints hold them: an epoch that is resumed in its middle goes on with those it began with.

    Args:
        trainer: The `Trainer`.
    """

    def __init__(self, trainer):
        super().__init__()
        self.trainer, self.every = trainer, trainer.config.refresh_thresholds
        # Of those who are trained on alone: no others have a place in the table.
        users = slice(trainer.data.num_train_users)
        queries = trainer.measure.queries()
        self.queries = {name: rows[users] for name, rows in queries.items()}

    def on_epoch_begin(self, epoch, logs=None):
        is_resumed_within = self.trainer.checkpoints.step % self.trainer.steps_an_epoch
        if is_resumed_within or epoch % self.every:
            return
        self.model.refresh_thresholds(self.queries)
        # The last bits may differ from machine to machine, and replicas must have the same.
        values = self.model.thresholds.values
        values.assign(from_chief(self.trainer.strategy, values.numpy().tolist()))


def cosine_schedule(config):
    """Sets the learning rate of each epoch, which a resumed run finds again."""
    # Not that of the model's optimizer, which a resumed run has where the schedule had put it.
    first = float(built(config.optimizer, {}).learning_rate)
    return tf_keras.callbacks.LearningRateScheduler(
        # Epochs are counted from 0.
        lambda epoch: first * (1 + math.cos(math.pi * epoch / config.epochs)) / 2
    )
