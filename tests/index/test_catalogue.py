import operator
import threading
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse

from tfrs_croloss.index import Catalogue, ExactIndex, ScaNNIndex


def made(num_items=50, dim=4, seed=0):
    ids = [f"item {i}" for i in range(num_items)]
    return ids, np.random.default_rng(seed).normal(size=(num_items, dim))


def naive(items, queries, k, exclude=None, allowed=None):
    """Items are a dict from id to embedding."""
    rows = []
    for row, query in enumerate(queries):
        scored = [
            (-sum(a * b for a, b in zip(query, embedding, strict=True)), item)
            for item, embedding in items.items()
            if (exclude is None or item not in exclude[row])
            and (allowed is None or item in allowed)
        ]
        found = [item for _, item in sorted(scored)][:k]
        rows.append(found + [None] * (k - len(found)))
    return rows


@pytest.mark.parametrize("kind", ["exact", "scann"])
def test_items_come_change_and_go(kind):
    ids, embeddings = made()
    queries = made(7, seed=1)[1]
    catalogue = Catalogue(ids, embeddings, kind)
    assert isinstance(catalogue.index, {"exact": ExactIndex, "scann": ScaNNIndex}[kind])
    items = dict(zip(ids, embeddings, strict=True))
    assert catalogue.search(queries, 5)[0].tolist() == naive(items, queries, 5)

    more = made(20, seed=2)[1]
    changed = [*ids[:10], *(f"new {i}" for i in range(10))]
    catalogue.update(changed, more)
    items |= dict(zip(changed, more, strict=True))
    assert len(catalogue) == 60
    assert catalogue.search(queries, 5)[0].tolist() == naive(items, queries, 5)

    catalogue.update(remove=["new 3", "item 4", "item 49"])
    for item in ("new 3", "item 4", "item 49"):
        del items[item]
    exclude = [["item 1", "item 4", "no item"], *([item] for item in ids[:6])]
    allowed = [*ids[:20], "no item"]
    found, scores = catalogue.search(queries, 5, exclude, allowed)
    assert found.tolist() == naive(items, queries, 5, exclude, allowed)
    expected = [[query @ items[i] for i in row] for query, row in zip(queries, found, strict=True)]
    np.testing.assert_allclose(scores, expected, rtol=1e-5)

    catalogue.replace([7, 9], [[1, 0, 0, 0], [0, 1, 0, 0]])
    found, scores = catalogue.search([[1, 2, 0, 0]], 3)
    assert found.tolist() == [[9, 7, None]]
    assert scores.tolist() == [[2.0, 1.0, -np.inf]]


def test_a_tower_embeds_in_batches():
    ids, embeddings = made(23)
    seen = []

    def tower(batch):
        seen.append(batch)
        return embeddings[[int(item.split()[1]) for item in batch]]

    catalogue = Catalogue(ids, tower, batch_size=10)
    assert [len(batch) for batch in seen] == [10, 10, 3]
    assert [item for batch in seen for item in batch] == ids
    np.testing.assert_array_equal(catalogue.index.candidates, embeddings.astype(np.float32))


def test_what_fails_changes_nothing():
    ids, embeddings = made(5)
    catalogue = Catalogue(ids, embeddings)
    with pytest.raises(ValueError, match="`embeddings` must be finite"):
        catalogue.update(["x"], [[np.nan] * 4])
    with pytest.raises(ValueError, match="one row an id.*1 rows, 2 ids"):
        catalogue.update(["x", "y"], [[1] * 4])
    with pytest.raises(ValueError, match="Received twice: 'x'"):
        catalogue.replace(["x", "x"], [[1] * 4] * 2)
    with pytest.raises(ValueError, match="`remove` must be of the catalogue. Received: 'z'"):
        catalogue.update(["new"], [[1] * 4], remove=["item 0", "z"])
    with pytest.raises(ValueError, match="at least one row"):
        catalogue.update(remove=ids)
    with pytest.raises(ValueError, match="`ids` must all be of one kind. Received: int and str"):
        catalogue.update([1], [[1] * 4])
    with pytest.raises(ValueError, match="`ids` must be strings or integers. Received: None"):
        catalogue.update([None], [[1] * 4])
    with pytest.raises(ValueError, match="one list of ids a query. Received: 1 lists, 2 queries"):
        catalogue.search(embeddings[:2], 1, exclude=[[]])
    assert catalogue.ids == ids
    assert catalogue.search(embeddings, 1)[0].shape == (5, 1)


def test_ids_that_it_never_had_are_ignored():
    for ids, unknown in (([1, 2, 3], ["1", 2**70, None, 4]), (["1", "2", "3"], [1, None, "4"])):
        catalogue = Catalogue(np.array(ids), [[1], [2], [3]])
        assert catalogue.search([[1]], 2, exclude=[unknown])[0].tolist() == [[ids[2], ids[1]]]
        found = catalogue.search([[1]], 2, exclude=[[*unknown, ids[2]]], allowed=[*unknown, *ids])
        assert found[0].tolist() == [[ids[1], ids[0]]]


def test_removed_and_added_at_once():
    catalogue = Catalogue(["a", "b"], [[1], [2]])
    catalogue.update(["c", "b"], [[3], [4]], remove=["a"])
    assert catalogue.ids == ["b", "c"] or catalogue.ids == ["c", "b"]
    assert catalogue.search([[1]], 3)[0].tolist() == [["b", "c", None]]


def test_searches_see_one_state_or_the_other_while_it_changes():
    # In state s all items are called "s/..." and score s: a mixture would show.
    def state(s):
        return [f"{s}/{i}" for i in range(200)], np.full((200, 4), s, float)

    catalogue = Catalogue(*state(1))
    mixed, states = [], set()
    stop = threading.Event()

    def search():
        while not stop.is_set():
            ids, scores = catalogue.search([[1, 1, 1, 1]], 200, exclude=[["no item"]])
            here = {int(item.split("/")[0]) for item in ids[0]}
            states.update(here)
            if len(here) > 1 or set(scores[0].tolist()) != {4.0 * s for s in here}:
                mixed.append((here, scores))

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    change = 1
    # Until the threads have seen a change: some time they will.
    while len(states) < 3:
        change += 1
        if change % 2:
            catalogue.replace(*state(change))
        else:
            catalogue.update(*state(change), remove=catalogue.ids)
    stop.set()
    for thread in threads:
        thread.join()
    assert not mixed


@pytest.mark.parametrize(
    ("ids", "own"),
    [
        ([np.int64(7), np.int64(9)], [7, 9]),
        ([np.int32(7), 9], [7, 9]),
        ((np.uint8(7), np.uint64(9)), [7, 9]),
        (np.array([7, 9], np.int16), [7, 9]),
        (np.array([np.int64(7), 9], object), [7, 9]),
        ([np.str_("7"), "9"], ["7", "9"]),
        (np.array(["7", "9"]), ["7", "9"]),
        (np.array([np.str_("7"), "9"], object), ["7", "9"]),
    ],
)
def test_ids_of_numpy_are_those_of_python(ids, own):
    catalogue = Catalogue(ids, [[1.0], [2.0]])
    assert catalogue.ids == own
    assert {type(item) for item in catalogue.ids} == {type(own[0])}
    for excluded in ([own[1]], [ids[1]], np.array([own[1]]), (own[1], None)):
        assert catalogue.search([[1.0]], 2, exclude=[excluded])[0].tolist() == [[own[0], None]]
    for allowed in ([ids[0]], np.array(own)[:1], {own[0]}):
        assert catalogue.search([[1.0]], 2, allowed=allowed)[0].tolist() == [[own[0], None]]
    catalogue.update([ids[0]], [[3.0]], remove=[ids[1]])
    assert catalogue.search([[1.0]], 2)[0].tolist() == [[own[0], None]]


@pytest.mark.parametrize(
    "strange",
    [True, np.True_, 1.0, np.float64(2.0), float("nan"), None, b"a", np.bytes_(b"a"), ["a"], ()],
)
def test_ids_that_are_none(strange):
    for ids in ([strange, strange], [strange], np.array([strange], object)):
        with pytest.raises(ValueError, match="`ids` must be strings or integers"):
            Catalogue(ids, np.ones((len(ids), 1)))
    catalogue = Catalogue([1, 2], [[1.0], [2.0]])
    with pytest.raises(ValueError, match="`remove` must be strings or integers"):
        catalogue.update(remove=[strange])
    for bad in (np.array([1.0, 2.0]), np.array([True, False]), "ab", 3):
        with pytest.raises(ValueError, match="`ids` must be"):
            Catalogue(bad, [[1.0], [2.0]])
    assert catalogue.ids == [1, 2]


@pytest.mark.parametrize(
    "exclude",
    [
        ["a"],  # its letters are no ids
        [b"a"],
        [1],
        "a",
        1,
        scipy.sparse.csr_array([[1, 0]]),
        [[True, False]],
        np.array([[True, False]]),
        np.array([[1.0, 0.0]]),
        [[float("nan")]],
        [[["a"]]],
        np.zeros((1, 1, 2), int),
    ],
)
@pytest.mark.parametrize("ids", [["a", "b"], [0, 1]])
def test_exclusions_that_are_no_lists_of_ids(ids, exclude):
    catalogue = Catalogue(ids, [[1.0], [2.0]])
    with pytest.raises(ValueError, match="`exclude` must"):
        catalogue.search([[1.0]], 2, exclude=exclude)


@pytest.mark.parametrize("allowed", ["a", 1, [True], np.array([True, False]), [1.0], [["a"]]])
def test_allowed_that_is_no_list_of_ids(allowed):
    with pytest.raises(ValueError, match="`allowed` must"):
        Catalogue([0, 1], [[1.0], [2.0]]).search([[1.0]], 2, allowed=allowed)


@pytest.mark.parametrize("kind", ["exact", "scann"])
def test_embeddings_that_cannot_be_searched_change_nothing(kind):
    ids, embeddings = made(5)
    catalogue = Catalogue(ids, embeddings, kind)
    bad = made(8)[1]
    bad[1:, 2] = [np.nan, np.inf, -np.inf, 1e300, np.nan, np.nan, np.nan]
    names = [f"new {i}" for i in range(8)]
    for change in (catalogue.update, catalogue.replace):
        for given in (bad, lambda batch: bad[: len(batch)]):
            with pytest.raises(ValueError, match=r"`embeddings`.* 7 of 8 rows: 1, 2, 3, 4, 5, …$"):
                change(names, given)
    with pytest.raises(ValueError, match=r"`embeddings` .*dimension \(4\)\. Received: .*\(1, 3\)"):
        catalogue.update(["new"], np.ones((1, 3)))
    with pytest.raises(
        ValueError, match="`embeddings` must be an array of numbers, its rows of one"
    ):
        catalogue.update(["x", "y"], [[1.0, 2.0, 3.0, 4.0], [1.0]])
    for none in (embeddings[:0], lambda batch: embeddings[:0]):
        with pytest.raises(ValueError, match="`ids` must hold at least one id"):
            catalogue.replace([], none)
    assert catalogue.ids == ids
    with pytest.raises(ValueError, match=r"`queries` must be finite .* 7 of 8 rows: 1, 2, 3"):
        catalogue.search(bad, 1)


def test_ids_in_what_numpy_reads_as_an_array():
    class Tensor:
        """As those of TensorFlow: its elements are tensors, which have no hash."""

        __hash__ = None

        def __init__(self, array):
            self.array = np.asarray(array)

        def __array__(self, dtype=None, copy=None):
            return self.array

        def __iter__(self):
            return map(Tensor, self.array)

    catalogue = Catalogue([1, 2], [[1.0], [2.0]])
    assert catalogue.search([[1.0]], 2, exclude=Tensor([[2]]))[0].tolist() == [[1, None]]
    assert catalogue.search([[1.0]], 2, allowed=Tensor([1]))[0].tolist() == [[1, None]]
    with pytest.raises(ValueError, match="`exclude` must be strings or integers. Received: b'a'"):
        catalogue.search([[1.0]], 2, exclude=Tensor(np.array([[b"a"]], object)))


@pytest.mark.parametrize("make", ["constant", "ragged.constant"])
def test_tensors_of_tensorflow_are_lists_of_ids(make):
    tf = pytest.importorskip("tensorflow")
    exclude = operator.attrgetter(make)(tf)([[3, 2]])
    catalogue = Catalogue([1, 2, 3], [[1.0], [2.0], [3.0]])
    assert catalogue.search([[1.0]], 2, exclude=exclude)[0].tolist() == [[1, None]]
    assert catalogue.search([[1.0]], 2, exclude=[exclude[0]])[0].tolist() == [[1, None]]


@pytest.mark.parametrize(
    "strange",
    [{}, b"a", 1 + 0j, Decimal(1), Fraction(1), np.timedelta64(1), np.datetime64(1, "ns")],
)
def test_what_is_no_id_but_may_be_equal_to_one(strange):
    catalogue = Catalogue([1, 2], [[1.0], [2.0]])
    for sets in ({"exclude": [[strange]]}, {"allowed": [strange]}):
        with pytest.raises(ValueError, match="must be strings or integers"):
            catalogue.search([[1.0]], 2, **sets)


def test_exclusions_without_a_list_a_query():
    catalogue = Catalogue([1, 2], [[1.0], [2.0]])
    with pytest.raises(ValueError, match="must be one list of ids per query. Received: 'a'"):
        catalogue.search([[1.0]], 2, exclude=["a"])
    with pytest.raises(ValueError, match="`queries` must have shape"):
        catalogue.search(5, 2, exclude=[[1]])
