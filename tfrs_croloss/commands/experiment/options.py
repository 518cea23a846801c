"""What a run can be told: the options of `train`, and the keys of its config file.

The field docstrings are the help texts of the command line.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tfrs_croloss.commands.experiment.classes import (
    ROLES,
    canonical,
    class_of,
    resolved,
    short_name,
)

MOVIELENS = "movielens"


@dataclass(kw_only=True)
class DataOptions:
    """Data: interactions, and how they are split.

    Args:
        train: File of interactions (.csv, .tsv or .txt, plain, .gz or .xz; .parquet, or a folder
            of such parts), or 'movielens', the embedded data. Without --test it is split into
            train, validation and test.
        test: File of test interactions, as the training file.
        user: Column of user ids.
        item: Column of item ids.
        time: Column of times to order by, numbers or ISO 8601 dates.
        rating: Column of ratings, for --min_rating.
        min_rating: Least rating that counts as an interaction.
        split: How to split. Each user on its own: by time (ties and data without times in the
            order of the file), at random, or the last interaction out; with --test it says how
            the validation set is taken from the training file. Or users: those of the validation
            and of the test are held out, nothing of them is trained on, and a query tower
            is asked with their histories (strong generalisation).
        split_seed: Of the random split, and of that of the users; --seed by default. With one for
            several seeds these are measured on the same split.
        test_share: Share of a user's interactions for the test, unless there is a test file; with
            --split users the share of the users.
        validation_share: Share for validation, of a user's interactions in the training file; with
            --split users of the users. 0 for none: the last of --epochs is tested, for a number of
            epochs that was found before.
        history_share: Share of a held-out user's interactions, the oldest, that are the history;
            the rest is to be found (split users).
        mask_seen: Whether a user's training items, or those of the history, are masked in
            validation, test and export. If not, nothing is, whatever --mask_validation says.
        mask_validation: Whether a user's validation items are masked in the test and the export,
            too.
    """

    train: str = MOVIELENS
    test: str | None = None
    user: str = "user"
    item: str = "item"
    time: str | None = None
    rating: str | None = None
    min_rating: float | None = None
    split: Literal["time", "random", "last", "users"] = "time"
    split_seed: int | None = None
    test_share: float = 0.2
    validation_share: float = 0.1
    history_share: float = 0.8
    mask_seen: bool = True
    mask_validation: bool = True


@dataclass(kw_only=True)
class ModelOptions:
    """Model: what the classes below share.

    Args:
        dim: Width of the embeddings.
        score: Score of a user and an item: cosine (normalised embeddings; losses whose margins are
            cosines take no other) or dot, the product.
        temperature: Divides the scores before the loss; a loss may have one of its own.
        history_length: Items of a history, for a query tower that takes one.
        dropout: Rate of dropout on the query embeddings in training.
        weigh: Whether each negative counts for as many items as it was drawn for, so that the loss
            is that of the whole catalogue, however the negatives were drawn.
        mask_known: Whether a user's other training items are no negatives. It takes time where
            users have many, and pays where the negatives are a large part of the catalogue.
        memory_size: Past positives that are kept as negatives; 0 for none.
        reverse_weight: Weight of the same loss the other way round beside it: each item is to
            find its user among those of the batch; 0 for none.
        threshold_k: The K whose end a user's scores are compared with, for a loss with thresholds
            (SoftmaxLossAtK, TalosLoss).
        refresh_thresholds: Epochs after which the ends of the users' top K are searched for again.
            With histories that is the end of a user's list after the whole history, for each of the
            shorter ones, too.
    """

    dim: int = 64
    score: Literal["cosine", "dot"] = "cosine"
    temperature: float | None = None
    history_length: int = 20
    dropout: float = 0.0
    weigh: bool = False
    mask_known: bool = False
    memory_size: int = 0
    reverse_weight: float = 0.0
    threshold_k: int | None = None
    refresh_thresholds: int = 5


@dataclass(kw_only=True)
class TrainingOptions:
    """Training and selection.

    Args:
        epochs: Epochs at most.
        batch_size: Interactions a step, of all replicas together.
        schedule: How the learning rate goes: constant, or cosine, epoch by epoch from that of the
            optimizer towards 0 at the end of --epochs.
        validate_every: Epochs between validations.
        patience: Validations without a better one before training stops.
        top_n: List lengths N to measure at.
        monitor: Validation metric by which the epoch is chosen: recall@N, ndcg@N or mrr@N. By
            default the recall at the largest N.
        seed: Of the initial weights, the order and the negatives, and of the random split.
        strategy: none (one device), mirrored (the GPUs of this machine, or --replicas) or
            multiworker (the cluster that the environment variable TF_CONFIG describes, or
            --workers).
        replicas: Logical CPU devices that mirrored trains on where there is no GPU.
        workers: Processes on this machine that multiworker starts where TF_CONFIG is not set;
            they share its GPUs out evenly.
        save_every: Steps between checkpoints; 0 for checkpoints at validations only.
        name: Folder under --runs that the run writes to, and resumes from after a kill.
        runs: Folder of all runs.
    """

    epochs: int = 50
    batch_size: int = 1024
    schedule: Literal["constant", "cosine"] = "constant"
    validate_every: int = 2
    patience: int = 5
    top_n: list[int] = field(default_factory=lambda: [10, 50, 100])
    monitor: str | None = None
    seed: int = 0
    strategy: Literal["none", "mirrored", "multiworker"] = "none"
    replicas: int = 2
    workers: int = 2
    save_every: int = 0
    name: str = "train"
    runs: str = "runs"


@dataclass(kw_only=True)
class TuningOptions:
    """Search: how the options of a loss are tuned.

    Args:
        search: random, bayesian (keras-tuner's, a Gaussian process on the trials so far) or
            hyperband (many trials for few epochs, the best of them for more).
        trials: Trials in all; 30, or with hyperband what its brackets have. More may be asked for
            later.
        space: YAML file of what is varied, as the package's spaces.yaml, which is the default.
        fix: What the space varies and is to stay as it is given, as in [batch_size,CROLoss.alpha].
        factor: Hyperband keeps about one trial of so many and trains it so many times as long.
    """

    search: Literal["random", "bayesian", "hyperband"] = "random"
    trials: int | None = None
    space: str | None = None
    fix: list[str] = field(default_factory=list)
    factor: int = 3

    def __post_init__(self):
        """Refuses what no type says.

        Raises:
            ValueError: With the option and what it must be.
        """
        if self.trials is None and self.search != "hyperband":
            self.trials = 30
        if self.trials is not None and self.trials < 1:
            raise ValueError(f"--trials must be positive. Received: {self.trials}")
        if self.factor < 2:
            raise ValueError(f"--factor must be at least 2. Received: {self.factor}")


# In the order of the help.
GROUPS = (DataOptions, ModelOptions, TrainingOptions)


@dataclass(kw_only=True)
class Config(TrainingOptions, ModelOptions, DataOptions):
    """All options of a run, checked.

    A class is given as its name or path, or as a dict of `class_path` and `init_args`, and kept as
    such a dict with its full path; by default that of `ROLES`.
    """

    loss: Any = None
    query_tower: Any = None
    candidate_tower: Any = None
    negatives: Any = None
    optimizer: Any = None
    callbacks: Any = None

    def __post_init__(self):
        """Refuses what no type says.

        Raises:
            ValueError: With the option and what it must be.
        """
        # A run is opened again from wherever one stands.
        if self.train != MOVIELENS:
            self.train = str(Path(self.train).resolve())
        if self.test is not None:
            self.test = str(Path(self.test).resolve())
        self.top_n = sorted(set(self.top_n))
        for name, role in ROLES.items():
            named = getattr(self, name)
            named = canonical(name, role.default if named is None else named)
            setattr(self, name, resolved(name, named))
        self._check_numbers()
        self._check_loss()
        self._check_data()
        self._check_training()

    def _check_numbers(self):
        for option in (
            *("dim", "history_length", "epochs", "batch_size", "validate_every", "patience"),
            *("replicas", "workers", "refresh_thresholds"),
        ):
            if getattr(self, option) < 1:
                raise ValueError(f"--{option} must be positive. Received: {getattr(self, option)}")
        for option in ("memory_size", "reverse_weight", "save_every"):
            if getattr(self, option) < 0:
                raise ValueError(
                    f"--{option} must not be negative. Received: {getattr(self, option)}"
                )
        for option in ("temperature", "threshold_k"):
            if getattr(self, option) is not None and not getattr(self, option) > 0:
                raise ValueError(f"--{option} must be positive. Received: {getattr(self, option)}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"--dropout must be at least 0 and below 1. Received: {self.dropout}")

    def _check_loss(self):
        if not self.negatives:
            raise ValueError(
                "--negatives must name one part at least: there is nothing to compare a positive "
                "with. Received: none"
            )
        if self.weigh and self.memory_size:
            raise ValueError(
                "--weigh and --memory_size exclude each other: how often the memory draws an item "
                f"is not known. Received: --memory_size {self.memory_size}"
            )
        if class_of(self.loss).takes_cosines and self.score != "cosine":
            raise ValueError(
                f"--score must be cosine for --loss {self.loss_name}, whose margins are cosines. "
                f"Received: --score {self.score}"
            )
        if self.wants_thresholds and self.threshold_k is None:
            raise ValueError(
                f"--threshold_k must be given for --loss {self.loss_name}, a positive number: the "
                "K that it aims at. Received: None"
            )
        if self.wants_thresholds and self.reverse_weight:
            raise ValueError(
                f"--reverse_weight must be 0 for --loss {self.loss_name}: thresholds are of users, "
                f"and items have none. Received: {self.reverse_weight}"
            )

    def _check_data(self):
        if not 0 <= self.validation_share < 1:
            raise ValueError(
                "--validation_share must be at least 0 and below 1. Received: "
                f"{self.validation_share}"
            )
        if not 0 < self.history_share < 1:
            raise ValueError(
                "--history_share must be between 0 and 1: held-out users are asked with some items "
                f"for the others. Received: {self.history_share}"
            )
        if self.split == "users" and not self.takes_history:
            raise ValueError(
                "--query_tower must take histories for --split users, e.g. HistoryTower: "
                f"{short_name(self.query_tower)} knows no user who is not trained on. Received: "
                f"--query_tower {short_name(self.query_tower)}"
            )
        if self.split == "users" and self.test is not None:
            raise ValueError(
                "--split users takes the test users from the training file: leave --test out. "
                f"Received: --test {self.test}"
            )
        if self.min_rating is not None and self.rating is None and self.train != MOVIELENS:
            raise ValueError("--min_rating needs --rating, the column of ratings")

    def _check_training(self):
        if not self.top_n or self.top_n[0] < 1:
            raise ValueError(f"--top_n must be positive numbers. Received: {self.top_n}")
        if not self.name or "/" in self.name or self.name in (".", ".."):
            raise ValueError(f"--name must be the name of a folder. Received: {self.name!r}")
        self.monitor = self.monitor or f"recall@{self.top_n[-1]}"
        choices = [f"{metric}@{n}" for metric in ("recall", "ndcg", "mrr") for n in self.top_n]
        if self.monitor not in choices:
            raise ValueError(
                f"--monitor must be one of {', '.join(choices)}. Received: {self.monitor!r}"
            )

    @property
    def validates(self):
        """Whether there is a validation set, which the epoch is chosen on."""
        return self.validation_share > 0

    @property
    def loss_name(self):
        """The name of the loss's class."""
        return short_name(self.loss)

    @property
    def wants_thresholds(self):
        """Whether the loss wants to know the ends of the users' lists."""
        return "threshold" in [wanted.name for wanted in class_of(self.loss).row_inputs]

    @property
    def takes_history(self):
        """Whether the query tower is asked with histories."""
        return getattr(class_of(self.query_tower), "takes_history", False)

    @property
    def history_length_of_tower(self):
        """Items of a history that the query tower takes, 0 for a tower on users."""
        return self.history_length if self.takes_history else 0
