"""The C ABI gives the answers of shortlist.Index, bit for bit."""

import ctypes
import os
import threading

import numpy as np
import pytest
from c_library import (
    INTERNAL_ERROR,
    LIBRARY,
    METRICS,
    RUN,
    STORAGES,
    TASK,
    CError,
    CIndex,
    Executor,
    Filter,
    Hits,
    address,
    byref,
    c_size_t,
    call,
    lists,
    new_ids,
    size,
    sized,
)

import shortlist

RANDOM = np.random.default_rng(8)
N, DIM = 400, 24
ITEMS = RANDOM.normal(size=(N, DIM)).astype(np.float32)
QUERIES = RANDOM.normal(size=(5, DIM)).astype(np.float32)
IDS = {
    "rows": None,
    "numbers": [int(i) for i in RANDOM.permutation(10 * N)[:N]],
    "texts": [f"item-ü-{i}" for i in range(N)],
}


def assert_same(found, hits):
    scores, rows, ids, counts = found
    assert scores.tobytes() == hits.scores.tobytes()
    assert np.array_equal(rows, hits.indices)
    assert np.array_equal(counts, hits.counts)
    assert np.array_equal(np.array(ids, dtype=hits.item_ids.dtype), hits.item_ids)


def both(kind="numbers", metric="cosine", storage="float32"):
    ids = IDS[kind]
    return (
        shortlist.Index(ITEMS, ids, metric, storage=storage),
        CIndex(ITEMS, ids, metric, storage),
    )


@pytest.mark.parametrize("kind", IDS)
@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("metric", METRICS)
def test_created_index_equals_pythons_and_saves_the_same_bytes(tmp_path, metric, storage, kind):
    python, c = both(kind, metric, storage)
    view = c.view()
    for top_n in (1, 10, N + 3):
        assert_same(view.search(QUERIES, top_n), python.search(QUERIES, top_n))
    info = view.info
    assert (info.n_items, info.n_rows, info.dim, info.version) == (N, N, DIM, 0)
    assert (METRICS[info.metric], STORAGES[info.storage]) == (metric, storage)
    assert info.has_texts == (kind == "texts")
    assert (None if np.isnan(info.recall) else info.recall) == python.recall
    rows = np.array([3, 0, 399])
    assert view.vectors(rows).tobytes() == python.vectors(rows).tobytes()
    view.save(tmp_path / "c.index")
    python.save(tmp_path / "python.index")
    assert (tmp_path / "c.index").read_bytes() == (tmp_path / "python.index").read_bytes()
    view.close()
    c.close()


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize("kind", IDS)
def test_loaded_index_equals_pythons(tmp_path, kind, mmap):
    python, _ = both(kind)
    python.save(tmp_path / "items.index")
    view = CIndex(path=tmp_path / "items.index", mmap=mmap).view()
    assert_same(view.search(QUERIES), python.search(QUERIES))


@pytest.mark.parametrize("n_items", [0, 1, 2, 101])
def test_small_indexes_equal_pythons(n_items):
    items = ITEMS[:n_items].copy()
    python, c = shortlist.Index(items, storage="int8"), CIndex(items, storage="int8")
    assert_same(c.view().search(QUERIES), python.search(QUERIES))
    recall = c.view().info.recall
    assert (None if np.isnan(recall) else recall) == python.recall


def ids_at(kind, rows):
    return [int(r) if IDS[kind] is None else IDS[kind][r] for r in rows]


@pytest.mark.parametrize("kind", IDS)
@pytest.mark.parametrize("as_rows", [False, True])
@pytest.mark.parametrize("name", ["exclude", "allow"])
def test_lists_per_query_filter_as_in_python(name, as_rows, kind):
    python, c = both(kind)
    rows = [RANDOM.integers(0, N, size=n) for n in (0, 3, 300, 1, 40)]
    ids = [ids_at(kind, part) for part in rows]
    values = [part.tolist() for part in rows] if as_rows else ids
    filter = lists(values, Filter, name, as_rows)
    expected = python.search(QUERIES, 20, **{name: ids})
    assert_same(c.view().search(QUERIES, 20, filter), expected)


@pytest.mark.parametrize("kind", IDS)
@pytest.mark.parametrize("n_allowed", [0, 3, 200])
def test_one_list_for_all_queries_filters_as_in_python(n_allowed, kind):
    python, c = both(kind)
    ids = ids_at(kind, RANDOM.permutation(N)[:n_allowed])
    filter = sized(Filter, allow=ctypes.pointer(new_ids(ids)))
    assert_same(c.view().search(QUERIES, 20, filter), python.search(QUERIES, 20, allow=ids))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_masks_filter_as_in_python(share):
    python, c = both()
    view = c.view()
    masks = RANDOM.random((len(QUERIES), N)) < share
    shared = sized(Filter, allow_mask=address(masks[0]), mask_size=N)
    assert_same(view.search(QUERIES, 20, shared), python.search(QUERIES, 20, allow=masks[0]))
    own = sized(Filter, allow_mask=address(masks), mask_size=masks.size)
    lists_of_ids = [ids_at("numbers", np.flatnonzero(mask)) for mask in masks]
    assert_same(view.search(QUERIES, 20, own), python.search(QUERIES, 20, allow=lists_of_ids))


def test_exclusion_wins_over_permission_and_unknown_ids_are_ignored():
    python, c = both("texts")
    allowed, excluded = IDS["texts"][:50], [["nobody", *IDS["texts"][:25]]] * 5
    filter = lists(excluded, Filter, "exclude")
    filter.allow = ctypes.pointer(new_ids(["unknown", *allowed]))
    expected = python.search(QUERIES, 40, exclude=excluded, allow=["unknown", *allowed])
    assert_same(c.view().search(QUERIES, 40, filter), expected)
    assert expected.counts.tolist() == [25] * 5


@pytest.mark.parametrize("kind", IDS)
def test_updates_equal_pythons_and_a_view_stays_what_it_is(kind):
    python, c = both(kind)
    before, expected = c.view(), python.search(QUERIES)
    new = ["neu-ä", "neu-b"] if kind == "texts" else [10**6, 10**6 + 1]
    changed = [*ids_at(kind, [7, 8, 9]), *new]
    vectors = RANDOM.normal(size=(5, DIM)).astype(np.float32)
    gone = [*ids_at(kind, range(20, 60)), "x" if kind == "texts" else -77]
    python.upsert(changed, vectors)
    c.upsert(changed, vectors)
    assert c.remove(gone) == python.remove(gone) == 40
    after = c.view()
    assert_same(after.search(QUERIES, 50), python.search(QUERIES, 50))
    assert_same(before.search(QUERIES), expected)
    assert (after.info.n_items, after.info.n_rows) == (N - 38, N + 2)
    assert after.info.version > before.info.version == 0
    some = [*changed, *gone]
    assert np.array_equal(after.rows_of(some), python.rows_of(some))
    assert after.ids_of([0, 25, N, -1]) == [
        ids_at(kind, [0])[0],
        *([("", -1)[kind != "texts"]]),
        new[0],
        ("", -1)[kind != "texts"],
    ]


def test_a_view_outlives_its_index():
    python, c = both("texts")
    view = c.view()
    c.close()
    assert_same(view.search(QUERIES), python.search(QUERIES))


def test_places_that_are_not_wanted_are_left_out():
    python, c = both()
    counts = np.empty(5, np.int64)
    hits = sized(Hits, counts=address(counts))
    call("view_search", c.view().handle, address(QUERIES), size(5), size(DIM), size(500), None,
         size(0), byref(hits))  # fmt: skip
    assert counts.tolist() == [N] * 5
    assert len(python) == N


def test_no_queries_are_no_error():
    _, c = both()
    scores, _, _, counts = c.view().search(QUERIES[:0])
    assert (scores.shape, counts.shape) == ((0, 10), (0,))


def test_the_error_is_optional():
    handle = ctypes.c_void_p()
    status = LIBRARY.shortlist_index_load(b"/nowhere", 1, byref(handle), None)
    assert (status, handle.value) == (2, None)
    LIBRARY.shortlist_index_free(None)
    LIBRARY.shortlist_view_free(None)


def test_threads_are_those_of_the_python_package():
    call("set_num_threads", size(3))
    assert shortlist.get_num_threads() == 3
    shortlist.set_num_threads(2)
    n_threads = c_size_t()
    call("get_num_threads", byref(n_threads))
    assert n_threads.value == 2


def test_simd_level_is_that_of_the_python_package():
    level = ctypes.c_char_p()
    call("get_simd_level", byref(level))
    assert level.value.decode() == shortlist.simd_level()


def test_searches_run_on_the_hosts_executor_with_the_same_answer():
    items = RANDOM.normal(size=(40_000, 64)).astype(np.float32)
    queries = items[:40].copy()
    view = CIndex(items).view()
    expected = view.search(queries, n_threads=1)
    n_tasks_seen, thread_ids = [], set()

    @RUN
    def run(context, n_tasks, task, task_context):
        n_tasks_seen.append((context, n_tasks))
        function = TASK(task)

        def work(i):
            thread_ids.add(threading.get_ident())
            function(task_context, i)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(n_tasks)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    call("set_executor", byref(sized(Executor, context=99, run=run, n_threads=4)))
    try:
        assert shortlist.get_num_threads() == 4
        found = view.search(queries)
    finally:
        call("set_executor", None)
    assert n_tasks_seen
    assert all(context == 99 for context, _ in n_tasks_seen)
    assert threading.get_ident() not in thread_ids
    for a, b in zip(found, expected, strict=True):
        assert np.array_equal(a, b)
    assert shortlist.get_num_threads() != 4


def test_an_executor_that_skips_tasks_is_an_error_and_not_a_wrong_answer():
    items = RANDOM.normal(size=(40_000, 64)).astype(np.float32)
    view = CIndex(items).view()
    run = RUN(lambda context, n_tasks, task, task_context: None)
    call("set_executor", byref(sized(Executor, run=run, n_threads=4)))
    try:
        with pytest.raises(CError, match=r"executor: ran 0 of \d+ tasks; expected each") as caught:
            view.search(items[:40].copy())
    finally:
        call("set_executor", None)
    assert caught.value.status == INTERNAL_ERROR


@pytest.mark.skipif(
    "libtsan" in os.environ.get("LD_PRELOAD", ""), reason="ThreadSanitizer ends forked children"
)
def test_a_forked_child_goes_on_searching():
    items = RANDOM.normal(size=(40_000, 64)).astype(np.float32)
    view = CIndex(items).view()
    call("set_num_threads", size(2))
    expected = view.search(items[:40].copy())[1].tobytes()
    child = os.fork()
    if child == 0:
        os._exit(0 if view.search(items[:40].copy())[1].tobytes() == expected else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_many_threads_search_one_index_while_another_changes_it():
    _, c = both()
    base = c.view().search(QUERIES)
    n_wrong, stop = [], threading.Event()
    vectors = np.zeros((1, DIM), np.float32)

    def read():
        while not stop.is_set():
            view = c.view()
            scores, *_ = view.search(QUERIES)
            if scores.tobytes() != base[0].tobytes():
                n_wrong.append(1)
            view.close()

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for i in range(300):  # zero rows, that cosine scores 0: never among the best
        c.upsert([10**7 + i], vectors)
        c.remove([10**7 + i])
    stop.set()
    for thread in threads:
        thread.join()
    assert not n_wrong
