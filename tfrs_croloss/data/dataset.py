"""A split, encoded: what training, evaluation and serving work on."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import sparse

from tfrs_croloss.data.columns import DataError
from tfrs_croloss.data.frames import checked_frame, checked_ids
from tfrs_croloss.data.splits import Split
from tfrs_croloss.data.vocabulary import Vocabulary


class Targets(NamedTuple):
    """Held-out items of each user.

    Attributes:
        matrix: `scipy.sparse.csr_array` `[num_users, num_items]`, an entry for each held-out item
            of the catalogue.
        counts: `[num_users]`, the number of held-out items, those outside the catalogue included:
            they are misses, whatever is retrieved.
    """

    matrix: sparse.csr_array
    counts: np.ndarray


@dataclass(frozen=True)
class RetrievalData:
    """Interactions in positions, users and items counted from 0.

    Attributes:
        users: Users of the training set, and after them those who are held out: not trained on,
            but known by a history.
        items: Items of the training set: the catalogue that is retrieved from.
        train_users: `[num_train]` positions of users, in ascending order.
        train_items: `[num_train]` positions of items; within a user in time, where there is one,
            else in the order of the file.
        validation: `Targets`.
        test: `Targets`.
        counts: What was left out or can't be hit, by name, for the reader of the results.
        history_users: `[num_history]` positions of held-out users, in ascending order: all of them
            come after those of `train_users`.
        history_items: `[num_history]` positions of their items, in the order of `train_items`.
    """

    users: Vocabulary
    items: Vocabulary
    train_users: np.ndarray
    train_items: np.ndarray
    validation: Targets
    test: Targets
    counts: dict
    history_users: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    history_items: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def num_train_users(self):
        """The number of users who are trained on: the first of `users`."""
        return int(self.train_users[-1]) + 1

    @cached_property
    def train(self):
        """The training set as a `scipy.sparse.csr_array` `[num_users, num_items]`."""
        return _matrix(self.train_users, self.train_items, len(self.users), len(self.items))

    @cached_property
    def known(self):
        """What is known of each user, as `train`: the training set and the histories."""
        return _matrix(self._known_users, self._known_items, len(self.users), len(self.items))

    @cached_property
    def row_starts(self):
        """`[num_users + 1]`: user u's rows are `row_starts[u]` to `row_starts[u+1]`.

        Rows are counted over the training set, and on over the histories.
        """
        return np.searchsorted(self._known_users, np.arange(len(self.users) + 1))

    # A user has rows in one of the two, and held-out users come last: so these are in order, too.
    @cached_property
    def _known_users(self):
        return np.append(self.train_users, self.history_users)

    @cached_property
    def _known_items(self):
        return np.append(self.train_items, self.history_items)

    def histories(self, length):
        """The last `length` known items of each user, `[num_users, length]`, padded with -1."""
        places = self.row_starts[1:, None] - length + np.arange(length)
        return np.where(
            places >= self.row_starts[:-1, None], self._known_items[np.maximum(places, 0)], -1
        )

    def queries(self, history_length=0):
        """The features of every user, as a batch has them under `query`.

        Args:
            history_length: Items of a history; 0 for none.

        Returns:
            A dict of `user` `[num_users]` and, with a history, the last known items of each
            user as `history` `[num_users, history_length]`; int32.
        """
        features = {"user": np.arange(len(self.users), dtype=np.int32)}
        if history_length:
            features["history"] = self.histories(history_length).astype(np.int32)
        return features

    def fingerprint(self):
        """A digest of users, items and all interactions: equal ones mean the same data."""
        digest = hashlib.sha256()
        for part in (self.users.ids, self.items.ids):
            digest.update("\n".join(map(str, part)).encode())
        parts = [self.train_users, self.train_items]
        for targets in (self.validation, self.test):
            parts += [targets.matrix.indptr, targets.matrix.indices, targets.counts]
        parts += [self.history_users, self.history_items]
        for part in parts:
            digest.update(np.ascontiguousarray(part, "<i8").tobytes())
        return digest.hexdigest()


def encode(split: Split, more_items: Iterable[Any] = ()) -> RetrievalData:
    """Encodes a `Split` as `RetrievalData`.

    The catalogue is the items of the training set. Held-out items that are not in it stay as
    misses; such items of a history are left out of it. Held-out interactions of users who are in
    neither the training set nor the histories are left out, and so are those that repeat an
    interaction of these or, in the test, of the validation set. `counts` says how many of each
    there were.

    Args:
        split: A `Split` of interactions.
        more_items: Ids of items for the catalogue that no one in the training set has: for a
            candidate tower on features, which knows them all the same.

    Returns:
        `RetrievalData`.

    Raises:
        DataError: If there is nothing to train on, or a row of a frame, or one of `more_items`,
            holds what the readers would refuse.
        ValueError: If a user has both training interactions and a history, or `more_items` is one
            string.

    Example:
    >>> import pandas as pd
    >>> from tfrs_croloss.data import Split, encode
    >>> train = pd.DataFrame({"user": ["a", "a", "b"], "item": ["x", "y", "x"]})
    >>> test = pd.DataFrame({"user": ["a", "b", "c"], "item": ["z", "y", "x"]})
    >>> data = encode(Split(train, test[:0], test))
    >>> data.test.counts, data.test.matrix.toarray()
    (array([1, 1]), array([[0, 0],
           [0, 1]]))
    >>> data.counts["test_unknown_users"], data.counts["test_unseen_items"]
    (1, 1)
    """
    if isinstance(more_items, str | bytes):
        raise ValueError(f"`more_items` must be a list of ids. Received: {more_items!r}")
    parts = {name: checked_frame(getattr(split, name), f"split.{name}") for name in Split._fields}
    if parts["train"].empty:
        raise DataError("training set", "no interactions are left to train on")
    users = Vocabulary.of(pd.concat([parts["train"]["user"], parts["history"]["user"]]))
    more_items = checked_ids(list(more_items), "item", "more_items")
    items = Vocabulary.of(pd.concat([parts["train"]["item"], more_items]))
    train, history = (_ordered(parts[name], users, items) for name in ("train", "history"))
    in_both = history["user"].isin(train["user"])
    if in_both.any():
        raise ValueError(
            "`split.history` must be of users who are not in `split.train`. Received: "
            f"{users.decode(history['user'][in_both].iloc[0])!r} in both"
        )
    counts = {
        "users": len(users),
        "items": len(items),
        "train_interactions": len(train),
    }
    if len(history):
        is_unseen = history["item"] < 0
        counts |= {
            "held_out_users": history["user"].nunique(),
            "history_interactions": len(history),
            "history_unseen_items": int(is_unseen.sum()),
        }
        history = history[~is_unseen]
    known = _keys(pd.concat([train, history]), items)
    targets = {}
    for name in ("validation", "test"):
        targets[name], part_counts = _targets(parts[name], users, items, known)
        known = pd.concat([known, _keys(_positions(parts[name], users, items), items)])
        counts |= {f"{name}_{what}": number for what, number in part_counts.items()}
    rows = {
        f"{name}_{kind}s": part[kind].to_numpy()
        for name, part in (("train", train), ("history", history))
        for kind in ("user", "item")
    }
    return RetrievalData(users, items, counts=counts, **rows, **targets)


def _ordered(frame, users, items):
    """Positions by user, and within a user in time."""
    positions = _positions(frame, users, items)
    if "time" in frame:
        positions = positions.assign(time=frame["time"].to_numpy())
        return positions.sort_values(["user", "time"], kind="stable")
    return positions.sort_values("user", kind="stable")


def _positions(frame, users, items):
    return pd.DataFrame({"user": users.encode(frame["user"]), "item": items.encode(frame["item"])})


def _keys(frame, items):
    """A number for each pair of a user and an item of the catalogue."""
    frame = frame[frame["item"] >= 0]
    return frame["user"] * len(items) + frame["item"]


def _targets(frame, users, items, known):
    held_out = _positions(frame, users, items)
    unknown_user = held_out["user"] < 0
    # Items outside the catalogue all have position -1: their ids tell them apart.
    twice = frame.duplicated(["user", "item"]).to_numpy()
    is_known = _keys(held_out, items).isin(known).reindex(held_out.index, fill_value=False)
    repeated = ~unknown_user & (twice | is_known)
    kept = held_out[~unknown_user & ~repeated]
    hittable = kept[kept["item"] >= 0]
    targets = Targets(
        _matrix(hittable["user"], hittable["item"], len(users), len(items)),
        np.bincount(kept["user"], minlength=len(users)),
    )
    return targets, {
        "users": kept["user"].nunique(),
        "interactions": len(kept),
        "unseen_items": len(kept) - len(hittable),
        "unknown_users": int(unknown_user.sum()),
        "repeated": int(repeated.sum()),
    }


def _matrix(users, items, num_users, num_items):
    entries = np.ones(len(users), np.int64)
    return sparse.csr_array((entries, (users, items)), shape=(num_users, num_items))
