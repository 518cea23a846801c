"""What a run can be told: the options of `train`, and the keys of its config file.

The field docstrings are the help texts of the command line.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

MOVIELENS = "movielens"

# Losses that compare with the end of a user's top K, which is refreshed as they train.
WITH_THRESHOLDS = ("slk", "talos")

KernelName = Literal[
    "exponential", "softplus", "hinge", "multi_hinge", "sigmoid", "split_sigmoid", "sigmoid_hinge"
]


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
            and of the test are held out, nothing of them is trained on, and --tower history is
            asked with their histories (strong generalisation).
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
class LossOptions:
    """Loss: which one, and its settings.

    Args:
        loss: softmax (TFRS's default), cro (CROLoss), mml (multi-margin loss), ccl (cosine
            contrastive loss), bpr, triplet (its margin is half the temperature), ssm (sampled
            softmax), psl (pairwise softmax), bsl (bilateral softmax), slk (SL@K) or talos.
        temperature: Divides the scores (all but mml and ccl); of bsl those of the negatives, in
            talos a power. By default 2 for psl, 1 for dot products and 0.1 for cosines.
        kernel: Comparison kernel (cro).
        lambda_kernel: Kernel that estimates the rank in the Lambda method; off if null (cro).
        alpha: Exponent of the rank weight; larger aims at smaller N (cro).
        for_top_n: The N to serve: takes the alpha whose rank weight has its median there, instead
            of --alpha (cro); the K whose end the scores are compared with (slk, talos).
        pull: How hard the positive is pulled; 1 is as hard as its negatives together are pushed
            away (cro).
        scale_rank: Whether to scale the rank from the sampled negatives to the catalogue (cro).
        margins: Margins, cosines in increasing order (mml); the first is the margin of ccl.
        weights: Weight of each margin (mml).
        positive_weight: Weight of the positive (mml).
        negative_weight: Weight of the negatives (mml, ccl).
        robust_temperature: Root of the activation, the temperature to tune (psl).
        activation: Activation of the scores' differences (psl).
        positive_temperature: Divides the positive's score; by default as --temperature (bsl).
        weight_temperature: Temperature of the weight of a positive (slk).
        refresh_thresholds: Epochs after which the ends of the users' top K are searched for again
            (slk, talos). With --tower history that is the end of a user's list after the whole
            history, for each of the shorter ones, too.
    """

    loss: Literal[
        "softmax", "cro", "mml", "ccl", "bpr", "triplet", "ssm", "psl", "bsl", "slk", "talos"
    ] = "cro"
    temperature: float | None = None
    kernel: KernelName = "softplus"
    lambda_kernel: KernelName | Literal["step"] | None = "sigmoid"
    alpha: float = 1.0
    for_top_n: int | None = None
    pull: float = 1.0
    scale_rank: bool = False
    margins: list[float] = field(default_factory=lambda: [0.0, 0.2, 0.4])
    weights: list[float] = field(default_factory=lambda: [0.2, 0.3, 0.5])
    positive_weight: float = 1.0
    negative_weight: float = 100.0
    robust_temperature: float = 0.1
    activation: Literal["tanh", "relu", "atan"] = "tanh"
    positive_temperature: float | None = None
    weight_temperature: float = 1.0
    refresh_thresholds: int = 5


@dataclass(kw_only=True)
class ModelOptions:
    """Model: towers and negatives.

    Args:
        tower: Query tower: id (an embedding a user: matrix factorisation) or history (the mean of
            a user's last items through a dense layer; knows new users by their items).
        dim: Width of the embeddings.
        score: Score of a user and an item: cosine (normalised embeddings; mml and ccl take no
            other) or dot, the product.
        history_length: Items of a history (tower history).
        dropout: Rate of dropout on the query embeddings in training.
        negatives: Negatives drawn a step, shared by the batch; 0 for none.
        sampling: What they are drawn by: uniform, or popularity (an item's share of the training
            interactions, to the power --sampling_beta). Or all: nothing is drawn, --negatives does
            not count, and every item of the catalogue is a negative; for small catalogues.
        sampling_beta: Exponent of the popularity; 1 draws as the positives are distributed, less
            is flatter.
        in_batch: Whether the batch's other positives are negatives too.
        weigh: Whether each negative counts for as many items as it was drawn for, so that the loss
            is that of the whole catalogue, however the negatives were drawn.
        mask_known: Whether a user's other training items are no negatives. It takes time where
            users have many, and pays where the negatives are a large part of the catalogue.
        memory: Past positives that are kept as negatives; 0 for none.
        reverse_weight: Weight of the same loss the other way round beside it: each item is to
            find its user among those of the batch; 0 for none.
    """

    tower: Literal["id", "history"] = "id"
    dim: int = 64
    score: Literal["cosine", "dot"] = "cosine"
    history_length: int = 20
    dropout: float = 0.0
    negatives: int = 1024
    sampling: Literal["uniform", "popularity", "all"] = "uniform"
    sampling_beta: float = 0.75
    in_batch: bool = False
    weigh: bool = False
    mask_known: bool = False
    memory: int = 0
    reverse_weight: float = 0.0


@dataclass(kw_only=True)
class TrainingOptions:
    """Training and selection.

    Args:
        epochs: Epochs at most.
        batch: Interactions a step, of all replicas together.
        learning_rate: Of Adam.
        schedule: How the learning rate goes: constant, or cosine, epoch by epoch from
            --learning_rate towards 0 at the end of --epochs.
        weight_decay: Decoupled weight decay of Adam, a step; 0 for none.
        validate_every: Epochs between validations.
        patience: Validations without a better one before training stops.
        top_n: List lengths N to measure at.
        select: Validation metric by which the epoch is chosen: recall@N, ndcg@N or mrr@N. By
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
    batch: int = 1024
    learning_rate: float = 0.01
    schedule: Literal["constant", "cosine"] = "constant"
    weight_decay: float = 0.0
    validate_every: int = 2
    patience: int = 5
    top_n: list[int] = field(default_factory=lambda: [10, 50, 100])
    select: str | None = None
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
        space: YAML file of what is varied, as pipelines/spaces.yaml, which is the default.
        fix: Options that the space varies and that are to stay as they are given.
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
GROUPS = (DataOptions, LossOptions, ModelOptions, TrainingOptions)


@dataclass(kw_only=True)
class Config(TrainingOptions, ModelOptions, LossOptions, DataOptions):
    """All options of a run, checked."""

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
        for option in (
            *("dim", "history_length", "epochs", "batch", "validate_every", "patience"),
            *("replicas", "workers", "refresh_thresholds"),
        ):
            if getattr(self, option) < 1:
                raise ValueError(f"--{option} must be positive. Received: {getattr(self, option)}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"--dropout must be at least 0 and below 1. Received: {self.dropout}")
        if not self.learning_rate > 0:
            raise ValueError(f"--learning_rate must be positive. Received: {self.learning_rate}")
        if not (self.negatives or self.in_batch or self.sampling == "all"):
            raise ValueError(
                "--negatives must be positive without --in_batch true: there is nothing to compare "
                "a positive with. Received: --negatives 0"
            )
        if self.weigh and self.memory:
            raise ValueError(
                "--weigh and --memory exclude each other: how often the memory draws an item is "
                f"not known. Received: --memory {self.memory}"
            )
        for option in (
            *("negatives", "memory", "sampling_beta", "reverse_weight"),
            *("weight_decay", "save_every"),
        ):
            if getattr(self, option) < 0:
                raise ValueError(
                    f"--{option} must not be negative. Received: {getattr(self, option)}"
                )
        if self.temperature is None:
            self.temperature = {"psl": 2.0}.get(self.loss, 0.1 if self.score == "cosine" else 1.0)
        if self.loss in ("mml", "ccl"):
            if not self.margins:
                raise ValueError("--margins must hold at least one number. Received: []")
            if self.score != "cosine":
                raise ValueError(
                    f"--score must be cosine for --loss {self.loss}, whose margins are cosines. "
                    f"Received: --score {self.score}"
                )
        if self.loss != "mml" and self.positive_weight != LossOptions.positive_weight:
            raise ValueError(
                "--positive_weight is of --loss mml; how hard cro pulls the positive is --pull. "
                f"Received: --loss {self.loss} --positive_weight {self.positive_weight}"
            )
        if self.loss in WITH_THRESHOLDS and (self.for_top_n is None or self.for_top_n < 1):
            raise ValueError(
                f"--for_top_n must be given for --loss {self.loss}, a positive number: the K that "
                f"it aims at. Received: {self.for_top_n}"
            )
        if self.loss in WITH_THRESHOLDS and self.reverse_weight:
            raise ValueError(
                f"--reverse_weight must be 0 for --loss {self.loss}: thresholds are of users, and "
                f"items have none. Received: {self.reverse_weight}"
            )
        if self.for_top_n is not None and self.alpha != LossOptions.alpha:
            raise ValueError(
                "--alpha and --for_top_n exclude each other. Received: "
                f"--alpha {self.alpha} --for_top_n {self.for_top_n}"
            )
        if not self.top_n or self.top_n[0] < 1:
            raise ValueError(f"--top_n must be positive numbers. Received: {self.top_n}")
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
        if self.split == "users" and self.tower == "id":
            raise ValueError(
                "--tower must be history for --split users: the id tower knows no user who is not "
                "trained on. Received: --tower id"
            )
        if self.split == "users" and self.test is not None:
            raise ValueError(
                "--split users takes the test users from the training file: leave --test out. "
                f"Received: --test {self.test}"
            )
        if self.min_rating is not None and self.rating is None and self.train != MOVIELENS:
            raise ValueError("--min_rating needs --rating, the column of ratings")
        if not self.name or "/" in self.name or self.name in (".", ".."):
            raise ValueError(f"--name must be the name of a folder. Received: {self.name!r}")
        self.select = self.select or f"recall@{self.top_n[-1]}"
        choices = [f"{metric}@{n}" for metric in ("recall", "ndcg", "mrr") for n in self.top_n]
        if self.select not in choices:
            raise ValueError(
                f"--select must be one of {', '.join(choices)}. Received: {self.select!r}"
            )

    @property
    def validates(self):
        """Whether there is a validation set, which the epoch is chosen on."""
        return self.validation_share > 0

    @property
    def history_length_of_tower(self):
        """Items of a history that the query tower takes, 0 for a tower on users."""
        return self.history_length if self.tower == "history" else 0
