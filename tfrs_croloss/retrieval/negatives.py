"""Negatives: the items that a positive is compared with, and how often each is to be expected.

A row's candidates come from one or more parts. Part s brings M_s items, item j with probability
p_s(j), so j stands among them E_j = Σ_s M_s·p_s(j) times on average, and for any φ

```math
E[Σ_candidates v_j · φ(x_j)] = Σ_items E_j · v_j · φ(x_j) = Σ_items φ(x_j),    v_j = 1 / E_j
```

whichever part a candidate came from: the balance heuristic of multiple importance sampling (Veach
and Guibas, SIGGRAPH 1995). Where the row's own positive is masked, its term is missing on both
sides and the sum is that over all other items; p_s need not be conditioned on it.
"""

import abc
from collections.abc import Sequence
from typing import Self

import numpy as np

from tfrs_croloss._arguments import check_count, check_non_negative
from tfrs_croloss._registration import register, resolve, serialize
from tfrs_croloss._typing import Array, Config
from tfrs_croloss.retrieval.requirements import tf

# Before the steps of draws for rows; no training has as many.
OWN_STEPS = 2**40


class Negatives(abc.ABC):
    """Base class of the parts that a row's negatives come from.

    A step's draw depends on a part's arguments and the step alone, so a resumed run draws what an
    unbroken one draws, and every replica the same.

    Attributes:
        num_items: Size of the catalogue; None if the part does not know it.
        num_negatives: Items a step, shared by all queries of a batch.
    """

    num_items: int | None = None
    num_negatives: int = 0

    @abc.abstractmethod
    def __call__(self, step: Array) -> Array:
        """Positions of items drawn with replacement, int32 `[num_negatives]`."""

    def draw(self, step: Array, number: Array) -> Array:
        """Likewise any number of items, int32 `[number]`, which `OwnNegatives` asks for."""
        raise ValueError(
            f"`part` must have a method `draw(step, number)`. Received: {type(self).__name__}"
        )

    @abc.abstractmethod
    def probability(self, items: Array) -> Array:
        """The probability of each item in one draw: int32 `[n]` to float32 `[n]`."""

    def expected_count(self, items: Array, num_positives: Array) -> Array:
        """E_j, how often the part brings each item to a row.

        Args:
            items: Positions, int32 `[n]`.
            num_positives: Rows of the batch, those of all replicas together.

        Returns:
            float32 `[n]`.
        """
        return self.num_negatives * self.probability(items)

    @abc.abstractmethod
    def get_config(self) -> Config:
        """The arguments, as plain values."""

    @classmethod
    def from_config(cls, config: Config) -> Self:
        """The part that `get_config` is of."""
        return cls(**config)


@register
class InBatchNegatives(Negatives):
    """The positives of the other rows of a batch.

    They are distributed as the training positives are: p_j is the item's share of them.

    Args:
        item_counts: `[num_items]`, how many training positives each item has. Without it the
            negatives have no known probability, and can't be weighed.

    Raises:
        ValueError: If `item_counts` is not one row of counts.

    Example:
    >>> from tfrs_croloss.retrieval import InBatchNegatives
    >>> InBatchNegatives(item_counts=[6, 3, 1, 0]).probability([0, 3]).numpy()
    array([0.6, 0. ], dtype=float32)
    """

    seed = None  # One batch, so one part.

    # Though it may be left out, the commands fill it in.
    from_data = ("item_counts",)

    def __init__(self, item_counts: Array | None = None) -> None:
        self.item_counts = None
        if item_counts is not None:
            self.item_counts = _counts(item_counts)
            self.num_items = len(self.item_counts)
            self._probability = _constant(self.item_counts / self.item_counts.sum(), tf.float32)

    def __call__(self, step: Array) -> Array:
        """No items of its own: the batch brings them."""
        return tf.zeros([0], tf.int32)

    def probability(self, items: Array) -> Array:
        if self.item_counts is None:
            raise ValueError(
                "`item_counts` of InBatchNegatives must be given for the probability of an item. "
                "Received: None"
            )
        return tf.gather(self._probability, items)

    def expected_count(self, items: Array, num_positives: Array) -> Array:
        others = tf.cast(tf.maximum(num_positives - 1, 0), tf.float32)
        return others * self.probability(items)

    def get_config(self) -> Config:
        return {"item_counts": None if self.item_counts is None else self.item_counts.tolist()}


@register
class UniformNegatives(Negatives):
    """Items drawn uniformly with replacement, shared by all queries of a batch.

    Args:
        num_items: Size of the catalogue.
        num_negatives: Items a step.
        seed: Of the draws.

    Raises:
        ValueError: If a number is not positive.

    Example:
    >>> from tfrs_croloss.retrieval import UniformNegatives
    >>> UniformNegatives(num_items=9066, num_negatives=4)(step=0).shape
    TensorShape([4])
    """

    num_items: int

    def __init__(self, num_items: int, num_negatives: int, seed: int = 0) -> None:
        self.num_items = check_count("num_items", num_items)
        self.num_negatives = check_count("num_negatives", num_negatives)
        self.seed = seed

    def __call__(self, step: Array) -> Array:
        return self.draw(step, self.num_negatives)

    def draw(self, step: Array, number: Array) -> Array:
        return tf.random.stateless_uniform(
            [number],
            _seed(self.seed, step),
            maxval=self.num_items,
            dtype=tf.int32,
            alg="philox",  # By default it depends on the device.
        )

    def probability(self, items: Array) -> Array:
        return tf.fill(tf.shape(items), 1 / self.num_items)

    def get_config(self) -> Config:
        return {
            "num_items": self.num_items,
            "num_negatives": self.num_negatives,
            "seed": self.seed,
        }


@register
class AllItems(Negatives):
    """Every item of the catalogue, each once: the loss is then not an estimate.

    For small catalogues: the loss of a step costs as much as that many negatives.

    Args:
        num_items: Size of the catalogue.

    Raises:
        ValueError: If it is not positive.

    Example:
    >>> from tfrs_croloss.retrieval import AllItems
    >>> AllItems(num_items=4)(step=0).numpy()
    array([0, 1, 2, 3], dtype=int32)
    """

    num_items: int
    seed = None  # Nothing is drawn.

    def __init__(self, num_items: int) -> None:
        self.num_items = self.num_negatives = check_count("num_items", num_items)

    def __call__(self, step: Array) -> Array:
        return tf.range(self.num_items)

    def probability(self, items: Array) -> Array:
        return tf.fill(tf.shape(items), 1 / self.num_items)

    def get_config(self) -> Config:
        return {"num_items": self.num_items}


@register
class PopularityNegatives(Negatives):
    """Items drawn by a power of their popularity, with replacement: p_j ∝ counts_j^β.

    β = 1 is the distribution of the training positives, β = 0 uniform over the items that have
    any; the exponent 3/4 is word2vec's (Mikolov et al., NeurIPS 2013, arXiv 1310.4546). An item
    whose count is 0 is never drawn.

    Args:
        item_counts: `[num_items]`, how many interactions each item has.
        num_negatives: Items a step.
        beta: β ≥ 0.
        seed: Of the draws.

    Raises:
        ValueError: If `item_counts` is not one row of counts, or a number out of range.

    Example:
    >>> from tfrs_croloss.retrieval import PopularityNegatives
    >>> negatives = PopularityNegatives([16, 1, 0], num_negatives=5)
    >>> negatives.probability([0, 1, 2]).numpy()  # 16^.75 = 8
    array([0.8888889 , 0.11111111, 0.        ], dtype=float32)
    >>> int(max(negatives(step=0))) < 2
    True
    """

    def __init__(
        self, item_counts: Array, num_negatives: int, beta: float = 0.75, seed: int = 0
    ) -> None:
        self.item_counts = _counts(item_counts)
        self.num_items = len(self.item_counts)
        self.num_negatives = check_count("num_negatives", num_negatives)
        self.beta = check_non_negative("beta", beta)
        self.seed = seed
        # A share of the largest count, for no power of it overflows; and 0^0 is 0 here.
        share = self.item_counts / self.item_counts.max()
        weight = np.where(share > 0, share**self.beta, 0.0)
        # float32 would give the items of a large catalogue wrong shares, and the last ones none.
        cumulative = np.cumsum(weight)
        self._cumulative = _constant(cumulative / cumulative[-1], tf.float64)
        self._probability = _constant(weight / cumulative[-1], tf.float32)

    def __call__(self, step: Array) -> Array:
        return self.draw(step, self.num_negatives)

    def draw(self, step: Array, number: Array) -> Array:
        # A negative step: otherwise the numbers would be those of UniformNegatives of this seed.
        high, low = tf.unstack(
            tf.random.stateless_uniform(
                [2, number],
                _seed(self.seed, -1 - step),
                minval=None,
                maxval=None,
                dtype=tf.uint32,
                alg="philox",
            )
        )
        # 53 bits, put together here: XLA makes other float64 numbers of a seed.
        high, low = tf.cast(high, tf.float64), tf.cast(tf.bitwise.right_shift(low, 11), tf.float64)
        uniform = (high * 2.0**21 + low) * 2.0**-53
        # The first item whose cumulative share is above; that of an item without any never is.
        return _count_up_to(self._cumulative, uniform)

    def probability(self, items: Array) -> Array:
        return tf.gather(self._probability, items)

    def get_config(self) -> Config:
        return {
            "item_counts": self.item_counts.tolist(),
            "num_negatives": self.num_negatives,
            "beta": self.beta,
            "seed": self.seed,
        }


@register
class OwnNegatives(Negatives):
    """Items drawn for each row alone, as another part draws items that all rows share.

    So the rows of a batch have different negatives. They cost more than shared ones: each is read
    for one row, where shared ones go through one matrix product.

    Args:
        part: `UniformNegatives`, `PopularityNegatives`, or a part of one's own with a `draw`. Its
            `num_negatives` are those of a row.

    Raises:
        ValueError: If the part has no draws of its own; in a draw, if it has no `draw`.

    Example:
    >>> from tfrs_croloss.retrieval import OwnNegatives, UniformNegatives
    >>> part = OwnNegatives(UniformNegatives(num_items=9066, num_negatives=4))
    >>> part.draw_for_rows(step=0, num_rows=3).shape
    TensorShape([3, 4])
    """

    def __init__(self, part: Negatives) -> None:
        self.part = resolve(part, Negatives, {})
        if not isinstance(self.part, Negatives) or type(self.part).draw is Negatives.draw:
            raise ValueError(
                "`part` must be negatives with a method `draw(step, number)`, e.g. "
                f"UniformNegatives. Received: {self.part!r}"
            )
        self.num_items = self.part.num_items
        self.num_negatives = self.part.num_negatives
        # Parts of one kind must have different ones.
        self.seed = type(self.part).__name__, getattr(self.part, "seed", id(self.part))

    def __call__(self, step: Array) -> Array:
        """No items that all rows share."""
        return tf.zeros([0], tf.int32)

    def draw_for_rows(self, step: Array, num_rows: Array) -> Array:
        """Positions of items, int32 `[num_rows, num_negatives]`."""
        # The steps of another stream: the shared draws of this seed would be the first rows'.
        step = tf.cast(step, tf.int64) + OWN_STEPS
        return tf.reshape(
            self.part.draw(step, num_rows * self.num_negatives), [num_rows, self.num_negatives]
        )

    def probability(self, items: Array) -> Array:
        return self.part.probability(items)

    def get_config(self) -> Config:
        return {"part": serialize(self.part)}


@register
class MixedNegatives(Negatives):
    """The draws of several parts together: p_j = Σ_s M_s·p_s(j) / Σ_s M_s.

    Args:
        parts: `Negatives` with draws of their own.

    Raises:
        ValueError: If there are no parts, one has no draws, or two would draw alike.

    Example:
    >>> from tfrs_croloss.retrieval import MixedNegatives, PopularityNegatives, UniformNegatives
    >>> negatives = MixedNegatives(
    ...     [UniformNegatives(2, num_negatives=30), PopularityNegatives([9, 1], 10, beta=1.0)]
    ... )
    >>> negatives.num_negatives, negatives.probability([0, 1]).numpy()
    (40, array([0.6, 0.4], dtype=float32))
    """

    def __init__(self, parts: Sequence[Negatives]) -> None:
        self.parts = parts_of([resolve(part, Negatives, {}) for part in parts], "parts")
        for part in self.parts:
            if not part.num_negatives or isinstance(part, OwnNegatives):
                raise ValueError(
                    "`parts` must have draws that all rows share; give others to the model beside "
                    f"the mixture, in a list. Received: {type(part).__name__}"
                )
        self.num_items = self.parts[0].num_items
        self.num_negatives = sum(part.num_negatives for part in self.parts)

    def __call__(self, step: Array) -> Array:
        return tf.concat([part(step) for part in self.parts], axis=0)

    def probability(self, items: Array) -> Array:
        counts = [part.num_negatives * part.probability(items) for part in self.parts]
        return tf.add_n(counts) / self.num_negatives

    def get_config(self) -> Config:
        return {"parts": [serialize(part) for part in self.parts]}


def parts_of(negatives, name="negatives"):
    """The parts of `negatives`, a part or a list of them, as a flat tuple.

    Raises:
        ValueError: If there are none, one is something else, they disagree about the catalogue, or
            two of them would draw alike.
    """
    parts = []
    for part in negatives if isinstance(negatives, (list, tuple)) else [negatives]:
        if part is not None and not isinstance(part, Negatives):
            raise ValueError(f"`{name}` must be parts such as UniformNegatives. Received: {part!r}")
        parts += part.parts if isinstance(part, MixedNegatives) else [part]
    if not parts or None in parts:
        raise ValueError(
            f"`{name}` must hold a part such as UniformNegatives or InBatchNegatives: there is "
            f"nothing else to compare a positive with. Received: {negatives!r}"
        )
    sizes = {part.num_items for part in parts} - {None}
    if len(sizes) > 1:
        raise ValueError(f"`{name}` must be of one catalogue. Received: {sorted(sizes)} items")
    kinds = [(type(part).__name__, getattr(part, "seed", id(part))) for part in parts]
    for kind, seed in kinds:
        if kinds.count((kind, seed)) > 1:
            raise ValueError(
                f"`{name}` of one kind must have different seeds, or they are the same items "
                f"twice. Received: {kind} twice, seed={seed}"
            )
    return tuple(parts)


def candidate_weight(parts, items, num_positives):
    """v_j = 1 / E_j of each candidate, whichever part it came from.

    Args:
        parts: `Negatives`, all those of a row.
        items: Positions of the candidates, int32 `[num_candidates]`.
        num_positives: Rows of the batch, those of all replicas together.

    Returns:
        float32 `[num_candidates]`; 0 for an item that no part brings, such as a row's own positive
        may be.
    """
    counts = tf.add_n([part.expected_count(items, num_positives) for part in parts])
    return tf.math.reciprocal_no_nan(counts)


def _counts(item_counts):
    counts = np.asarray(item_counts)
    is_numeric = counts.ndim == 1 and np.issubdtype(counts.dtype, np.number)
    if not (is_numeric and np.isfinite(counts).all() and (counts >= 0).all() and counts.any()):
        raise ValueError(
            "`item_counts` must be one row of finite numbers, none negative and not all 0. "
            f"Received: {item_counts!r}"
        )
    return counts


def _constant(value, dtype):
    # Outside of any graph that a part may be made in, for all of them to use.
    with tf.init_scope():
        return tf.constant(value, dtype)


def _count_up_to(ascending, values):
    """How many entries of `ascending` are up to each value, int32.

    As `tf.searchsorted` from the right, which under XLA compares each value with each entry.
    """
    size = ascending.shape[0]
    count = tf.zeros(tf.shape(values), tf.int32)
    for bit in reversed(range(size.bit_length())):
        more = count + 2**bit
        is_up_to = tf.gather(ascending, tf.minimum(more, size) - 1) <= values
        count = tf.where((more <= size) & is_up_to, more, count)
    return count


def _seed(seed, step):
    return tf.stack([tf.cast(seed, tf.int64), tf.cast(step, tf.int64)])
