"""upsert and remove: wrong arguments change nothing, space comes back, answers are whole."""

import threading
import time

import numpy as np
import pytest

from shortlist import Index

RANDOM = np.random.default_rng(9)
ITEMS = RANDOM.normal(size=(40, 6)).astype(np.float32)
ONE = np.ones((1, 6))
BAD_UPSERTS = [
    ([1, 2], np.array([[1] * 6, [np.nan] * 6]), ValueError, "vectors: row 1 holds a NaN"),
    ([1], np.full((1, 6), np.inf), ValueError, "vectors: row 0 holds a NaN or an inf"),
    ([1], np.full((1, 6), 1e300), ValueError, "vectors: row 0 holds a number beyond"),
    ([1], np.ones((1, 5)), ValueError, "vectors: got dim 5; the index has dim 6"),
    ([1], np.ones(6), ValueError, r"vectors: got shape \(6,\)"),
    ([1], [["a"] * 6], TypeError, "vectors: got list of dtype"),
    ([1, 2], ONE, ValueError, "item_ids: got 2 ids for 1 rows of vectors; expected one id per row"),
    ([7, 1, 7], np.ones((3, 6)), ValueError, "item_ids: got 7 twice, in rows 0 and 2"),
    (["a"], ONE, TypeError, "item_ids: got str; the item ids of this index are int64"),
    ([1.5], ONE, TypeError, "item_ids: got float 1.5 at position 0"),
    ([[1]], ONE, ValueError, r"item_ids: got \[1\] at position 0; expected one dimension"),
    ("ab", ONE, TypeError, "item_ids: got one str"),
    (np.array([2**63], np.uint64), ONE, ValueError, "item_ids: got 9223372036854775808"),
]


def state_of(index):
    hits = index.search(ITEMS[:3], top_n=50)
    return len(index), index.item_ids.tolist(), hits.item_ids.tolist(), hits.scores.tobytes()


@pytest.mark.parametrize(("ids", "rows", "error", "message"), BAD_UPSERTS)
@pytest.mark.parametrize("is_updated", [False, True])
def test_a_wrong_upsert_says_why_and_changes_nothing(ids, rows, error, message, is_updated):
    index = Index(ITEMS)
    if is_updated:
        index.upsert([1000], ONE)
    before = state_of(index)
    with pytest.raises(error, match=message):
        index.upsert(ids, rows)
    assert state_of(index) == before


@pytest.mark.parametrize(
    ("ids", "error", "message"),
    [
        ([3, 3], ValueError, "item_ids: got 3 twice"),
        (["a"], TypeError, "item_ids: got str; the item ids of this index are int64"),
        ([[1]], ValueError, r"item_ids: got \[1\] at position 0; expected one dimension"),
        (3, ValueError, r"item_ids: got shape \(\)"),
    ],
)
def test_a_wrong_remove_says_why_and_changes_nothing(ids, error, message):
    index = Index(ITEMS)
    before = state_of(index)
    with pytest.raises(error, match=message):
        index.remove(ids)
    assert state_of(index) == before


def test_integers_are_refused_where_ids_are_strings():
    index = Index(ITEMS, item_ids=[f"i{i}" for i in range(40)])
    for call in (lambda: index.upsert([1], ONE), lambda: index.remove([1])):
        with pytest.raises(TypeError, match=r"item_ids: got integers; .* are str"):
            call()


def test_rows_after_updates_are_as_documented():
    index = Index(ITEMS[:4], item_ids=["a", "b", "c", "d"])
    index.upsert(["b", "e"], 2 * ITEMS[4:6])
    assert index.rows_of(["a", "b", "c", "d", "e"]).tolist() == [0, 1, 2, 3, 4]
    assert index.remove(["b", "zz"]) == 1
    assert (len(index), index.item_ids.tolist()) == (4, ["a", "", "c", "d", "e"])
    assert index.rows_of(["b", "e"]).tolist() == [-1, 4]
    with pytest.raises(ValueError, match="rows: got 1, the row of a removed item"):
        index.vectors([1])
    index.upsert(["b"], ONE)  # comes back in a new row
    assert index.rows_of(["b"]).tolist() == [5]
    assert index.item_ids.tolist() == ["a", "", "c", "d", "e", "b"]
    assert index.search(ITEMS[:1], top_n=9).counts.tolist() == [5]


def test_empty_updates_are_no_updates():
    for ids in (None, [f"i{i}" for i in range(40)]):
        index = Index(ITEMS, item_ids=ids)
        before = state_of(index)
        index.upsert([], np.empty((0, 6)))
        assert index.remove([]) == 0
        assert state_of(index) == before


def test_everything_can_be_removed_and_added_again():
    index = Index(ITEMS)
    assert index.remove(np.arange(40)) == 40
    assert len(index) == 0
    assert (index.search(ITEMS[:2], top_n=3).item_ids == -1).all()
    index.upsert(np.arange(40), ITEMS)
    expected = Index(ITEMS).search(ITEMS, top_n=40)
    hits = index.search(ITEMS, top_n=40)
    assert np.array_equal(hits.item_ids, expected.item_ids)
    assert hits.scores.tobytes() == expected.scores.tobytes()


def test_rows_of_removed_items_are_given_back():
    index = Index(ITEMS)
    for i in range(20_000):  # every item is new, and 40 are alive
        index.upsert([40 + i], ITEMS[i % 40][None, :])
        assert index.remove([i]) == 1
    assert len(index) == 40
    assert len(index.item_ids) < 3000
    one = Index(ITEMS)
    for _ in range(20_000):  # the same item comes and goes
        one.remove([0])
        one.upsert([0], ONE)
    assert len(one) == 40
    assert len(one.item_ids) < 3000


def test_a_view_keeps_what_it_saw():
    index = Index(ITEMS)
    index.upsert([100], ONE)
    view = index._core.view()
    ids, queries = np.array([0, 5, 100, 101], np.int64), np.ascontiguousarray(ITEMS[:2])
    before = [part.tobytes() for part in view.search(queries, 50, None, None, None, None, 1)]
    rows = view.rows_of_int64(ids).tolist()
    assert rows == [0, 5, 40, -1]
    for i in range(3000):
        index.remove([5, 100])
        index.upsert([5, 101, 100, 2000 + i], 3 * ITEMS[:4])
    after = [part.tobytes() for part in view.search(queries, 50, None, None, None, None, 1)]
    assert after == before
    assert view.rows_of_int64(ids).tolist() == rows
    assert (view.n_items, view.n_rows) == (41, 41)
    assert view.vectors(np.arange(41)).shape == (41, 6)


class Readers:
    """Threads that search until told to stop, and keep what went wrong."""

    def __init__(self, n_threads, check):
        self.errors, self.n_searches, self._stop = [], 0, threading.Event()
        self._check = check
        self._threads = [threading.Thread(target=self._run) for _ in range(n_threads)]

    def _run(self):
        last = 0
        try:
            while not self._stop.is_set():
                last = self._check(last)
                self.n_searches += 1
        except BaseException as error:
            self.errors.append(error)

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()


@pytest.mark.parametrize("kind", ["int", "str"])
@pytest.mark.parametrize("n_group", [30, 700])
def test_searches_see_whole_updates_in_order(n_group, kind):
    """The score is the version of an item: one answer must hold one version of each group."""

    def ids(first):
        return [f"i{i}" if kind == "str" else i for i in range(first, first + n_group)]

    steady, coming = ids(0), ids(10_000)
    rest = np.zeros((2000, 4), np.float32)
    rest_ids = [f"r{i}" if kind == "str" else 50_000 + i for i in range(2000)]
    index = Index(rest, item_ids=rest_ids, metric="dot")
    query = np.array([[1, 0, 0, 0]], np.float32)
    tag = np.zeros((n_group, 4), np.float32)
    tag[:, 0] = 1
    index.upsert(steady, tag)
    known = {*steady, *coming}

    def check(last):
        hits = index.search(query, top_n=2 * n_group)
        found = hits.scores[0][hits.scores[0] > 0]
        versions, counts = np.unique(found, return_counts=True)
        assert len(found) in (n_group, 2 * n_group)
        assert (counts % n_group == 0).all(), (versions, counts)
        assert known.issuperset(hits.item_ids[0, : len(found)].tolist())
        assert len(set(hits.item_ids[0, : len(found)].tolist())) == len(found)
        assert not np.isin(
            index.search(query, top_n=2, exclude=[[steady[0]]]).item_ids, steady[0]
        ).any()
        assert versions[-1] >= last
        return versions[0]

    start, version = time.monotonic(), 1
    with Readers(3, check) as readers:
        # A second of both, longer where the machine is busy; the end is there for a deadlock only.
        while not readers.errors and time.monotonic() < start + 120:
            if version > 20 and readers.n_searches > 20 and time.monotonic() > start + 1:
                break
            version += 1
            index.upsert(steady, tag * version)
            index.upsert(coming, tag * version)
            assert index.remove(coming) == n_group
            index.upsert([rest_ids[version % 2000]], np.zeros((1, 4)))
    assert not readers.errors, readers.errors[0]
    assert readers.n_searches > 20
    assert version > 20


def test_writers_take_turns():
    index = Index(ITEMS)

    def write(first):
        for i in range(300):
            index.upsert(np.arange(first + 3 * i, first + 3 * i + 3), ITEMS[:3])
            assert index.remove([first + 3 * i]) == 1

    threads = [threading.Thread(target=write, args=(10_000 * k,)) for k in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(index) == 40 + 4 * 300 * 2
    ids = np.concatenate([np.arange(10_000 * k, 10_000 * k + 900) for k in range(1, 5)])
    assert np.array_equal(index.rows_of(ids) < 0, ids % 10_000 % 3 == 0)


@pytest.mark.parametrize(
    ("storage", "number", "limit"), [("float16", 7e4, "65520"), ("bfloat16", 3.4e38, "3.39e38")]
)
def test_a_number_beyond_the_storage_is_refused_and_changes_nothing(storage, number, limit):
    message = rf"vectors: row 2 holds a number beyond the range of storage {storage}; .*{limit}"
    items = ITEMS.copy()
    items[2, 3] = -number
    with pytest.raises(ValueError, match=message):
        Index(items, metric="dot", storage=storage)
    assert len(Index(items, storage=storage)) == 40  # cosine: normalised first
    index = Index(ITEMS, metric="dot", storage=storage)
    before = state_of(index)
    with pytest.raises(ValueError, match=message):
        index.upsert([50, 1, 2, 3], items[:4])
    assert state_of(index) == before
    items[2, 3] = 65519.0 if storage == "float16" else 3.38e38
    assert len(Index(items, metric="dot", storage=storage)) == 40
