"""Bad input is refused with a message that names the argument; nothing changes, nothing crashes."""

import ctypes
import os
from ctypes import byref, c_int32, c_void_p

import numpy as np
import pytest
from c_library import (
    FILE_ERROR,
    INVALID_ARGUMENT,
    LIBRARY,
    OUT_OF_MEMORY,
    RUN,
    CError,
    CIndex,
    Error,
    Executor,
    Filter,
    Hits,
    Ids,
    Info,
    Options,
    Text,
    address,
    call,
    lists,
    new_ids,
    size,
    sized,
)

# A sanitizer's operator new ends the process where the usual one throws.
needs_plain_memory = pytest.mark.skipif(
    "san.so" in os.environ.get("LD_PRELOAD", ""), reason="a sanitizer ends without memory"
)
ITEMS = np.random.default_rng(4).normal(size=(6, 3)).astype(np.float32)
NUMBERS = [10, 20, 30, 40, 50, 60]
TEXTS = list("abcdef")
QUERIES = ITEMS[:2].copy()
HUGE = 2**62


def with_value(value):
    bad = ITEMS.copy()
    bad[4, 1] = value
    return bad


@pytest.fixture
def numbers():
    return CIndex(ITEMS, NUMBERS)


@pytest.fixture
def texts():
    return CIndex(ITEMS, TEXTS)


def refused(message, name, *arguments, status=INVALID_ARGUMENT):
    with pytest.raises(CError, match=message) as caught:
        call(name, *arguments)
    assert caught.value.status == status


def create(message, vectors=ITEMS, n=6, dim=3, ids=None, options=None, status=INVALID_ARGUMENT):
    handle = c_void_p(12345)
    refused(message, "index_create", None if vectors is None else address(vectors), size(n),
            size(dim), ids if ids is None else byref(ids), options if options is None else
            byref(options), byref(handle), status=status)  # fmt: skip
    assert handle.value is None


def search(view, message, queries=QUERIES, n=2, dim=3, top_n=2, filter=None, hits=None,
           status=INVALID_ARGUMENT):  # fmt: skip
    hits = sized(Hits) if hits is None else hits
    refused(message, "view_search", view.handle, None if queries is None else address(queries),
            size(n), size(dim), size(top_n), filter if filter is None else byref(filter), size(0),
            byref(hits), status=status)  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(vectors=None), r"vectors: got NULL for 6 rows; expected the address of row-major"),
        (dict(dim=0), r"vectors: got dim 0; expected at least 1"),
        (dict(n=HUGE), rf"vectors: got {HUGE} rows of 3 numbers; expected .* fits into memory"),
        (dict(n=2**31), r"vectors: got 2147483648 rows; expected at most 2147483646; split"),
        (dict(n=0, dim=2**31 + 1), r"vectors: got dim 2147483649; expected at most 2147483648"),
        (dict(vectors=with_value(np.nan)), r"vectors: row 4 holds a NaN or an infinity"),
        (dict(vectors=with_value(-np.inf)), r"vectors: row 4 holds a NaN or an infinity"),
        (dict(ids=new_ids(NUMBERS[:5])), r"item_ids: got 5 ids for 6 rows of vectors; expected"),
        (dict(ids=new_ids([1, 2, 3, 4, 5, 2])), r"item_ids: got 2 twice, in rows 1 and 5"),
        (dict(ids=new_ids([*"abcda", "f"])), r"item_ids: got 'a' twice, in rows 0 and 4"),
        (dict(ids=new_ids([1, 2, -1, 4, 5, 6])), r"item_ids: got -1 at position 2, which marks"),
        (dict(ids=new_ids(["a", "", *"cdef"])), r"item_ids: got an empty text at position 1"),
        (dict(ids=new_ids(["a\0", *"bcdef"])), r"item_ids: got bytes at position 0 that hold NUL"),
        (dict(ids=new_ids([*"abcde", b"\xff"])), r"item_ids: got bytes at position 5 .* no UTF-8"),
        (dict(ids=new_ids([b"\xed\xa0\x80", *"bcdef"])), r"item_ids: got bytes at position 0"),
        (dict(ids=Ids(n=6)), r"item_ids: got 0 arrays for 6 ids; expected one of numbers and"),
        (dict(ids=Ids(n=6, numbers=8, rows=8)), r"item_ids: got 2 arrays for 6 ids; expected one"),
        (dict(ids=new_ids(NUMBERS, as_rows=True)), r"item_ids: got rows; expected one of numbers"),
        (dict(ids=Ids(n=6, texts=(Text * 6)(Text(None, 4)))), r"item_ids: got NULL for a text of"),
        (dict(options=Options()), r"options.struct_size: got 0; expected 16, its sizeof"),
        (dict(options=Options(2**40)), r"options.struct_size: got 1099511627776; expected 16"),
        (dict(options=sized(Options, metric=3)), r"options.metric: got 3; expected SHORTLIST_CO"),
        (dict(options=sized(Options, metric=-1)), r"options.metric: got -1; expected"),
        (dict(options=sized(Options, storage=8)), r"options.storage: got 8; expected SHORTLIST_F"),
    ],
)
def test_create_refuses(arguments, message):
    create(message, **arguments)


def test_create_says_what_storage_int8_and_float16_take():
    wide = np.zeros((1, 70_000), np.float32)
    create(r"vectors: got dim 70000; storage int8 takes at most", wide, 1, 70_000,
           options=sized(Options, storage=3))  # fmt: skip
    create(
        r"vectors: row 4 .*float16", with_value(1e30), options=sized(Options, metric=1, storage=1)
    )


@needs_plain_memory
def test_an_index_too_large_for_the_memory_is_an_error():
    create(r"out of memory: the data does not fit", n=2**28, dim=2**31, status=OUT_OF_MEMORY)


def test_null_handles_are_refused(numbers):
    none, ids, view = None, byref(new_ids([1])), numbers.view().handle
    refused(r"index: got NULL; expected the address of a shortlist_index pointer", "index_create",
            address(ITEMS), size(6), size(3), none, none, none)  # fmt: skip
    refused(r"index: got NULL; expected the address", "index_load", b"x", c_int32(1), none)
    refused(r"view: got NULL; expected the address", "index_view", numbers.handle, none)
    refused(r"index: got NULL; expected an index of", "index_view", none, byref(c_void_p()))
    refused(r"index: got NULL; expected an index of", "index_remove", none, ids, none)
    refused(r"index: got NULL; expected an index of", "index_upsert", none, ids, none, size(3))
    refused(r"item_ids: got NULL", "index_upsert", numbers.handle, none, none, size(3))
    refused(r"item_ids: got NULL", "index_remove", numbers.handle, none, none)
    for name, rest in (
        ("view_info", [byref(sized(Info))]),
        ("view_rows_of", [ids, none]),
        ("view_ids_of", [none, size(0), none, none]),
        ("view_vectors", [none, size(0), none]),
        ("view_save", [b"x"]),
    ):
        refused(r"view: got NULL; expected a view of shortlist_index_view", name, none, *rest)
    refused(r"info: got NULL", "view_info", view, none)
    refused(r"ids: got NULL", "view_rows_of", view, none, none)
    refused(r"rows: got NULL; expected room for", "view_rows_of", view, ids, none)
    refused(r"rows: got NULL", "view_ids_of", view, none, size(1), none, none)
    refused(r"numbers: got NULL", "view_ids_of", view, address(np.zeros(1, np.int64)), size(1),
            none, none)  # fmt: skip
    refused(r"rows: got NULL", "view_vectors", view, none, size(1), none)
    refused(r"vectors: got NULL", "view_vectors", view, address(np.zeros(1, np.int64)), size(1),
            none)  # fmt: skip
    refused(r"path: got NULL; expected the name", "view_save", view, none)
    refused(r"path: got NULL; expected the name", "index_load", none, c_int32(1),
            byref(c_void_p()))  # fmt: skip
    refused(r"n_threads: got NULL", "get_num_threads", none)
    refused(r"level: got NULL", "get_simd_level", none)
    hits = byref(sized(Hits))
    refused(r"view: got NULL", "view_search", none, address(QUERIES), size(2), size(3), size(1),
            none, size(0), hits)  # fmt: skip
    refused(r"hits: got NULL", "view_search", view, address(QUERIES), size(2), size(3), size(1),
            none, size(0), none)  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(queries=None), r"queries: got NULL for 2 rows"),
        (dict(dim=2), r"queries: got dim 2; the index has dim 3; encode queries with the model"),
        (dict(dim=0), r"queries: got dim 0; expected at least 1"),
        (dict(n=HUGE), r"queries: got \d+ rows of 3 numbers; expected a matrix that fits"),
        (dict(queries=with_value(np.nan), n=6), r"queries: row 4 holds a NaN or an infinity"),
        (dict(top_n=0), r"top_n: got 0; expected at least 1"),
        (dict(top_n=HUGE), rf"top_n: got {HUGE} for 2 queries; expected .* the index has 6 rows"),
        (dict(hits=Hits()), r"hits.struct_size: got 0; expected 56, its sizeof"),
        (dict(filter=Filter()), r"filter.struct_size: got 0; expected 64, its sizeof"),
        (dict(hits=sized(Hits, texts=(Text * 4)())), r"texts: got an array; the ids of this index"),
    ],
)
def test_search_refuses(numbers, arguments, message):
    search(numbers.view(), message, **arguments)


def test_search_asks_an_index_of_texts_for_texts(texts):
    room = np.empty(4, np.int64)
    search(texts.view(), r"numbers: got an array; the ids of this index are text; ask for texts",
           hits=sized(Hits, numbers=address(room)))  # fmt: skip


@needs_plain_memory
def test_an_answer_too_large_for_the_memory_is_an_error(numbers):
    search(numbers.view(), r"out of memory: .*a smaller top_n", top_n=2**57, status=OUT_OF_MEMORY)


def bad_filter(name, values, splits, as_rows=False):
    filter = lists([values, []], Filter, name, as_rows)
    array = None if splits is None else np.array(splits, dtype=np.int64)
    setattr(filter, f"{name}_splits", None if array is None else address(array))
    filter.keep_too = array
    return filter


@pytest.mark.parametrize("name", ["exclude", "allow"])
@pytest.mark.parametrize(
    ("values", "splits", "as_rows", "message"),
    [
        ([10, 20], [0, 2, 1], False, r"_splits: got 3 splits from 0 to 1; expected .* to filter"),
        ([10, 20], [0, 3, 2], False, r"_splits: got 3 splits from 0 to 2"),
        ([10, 20], [1, 1, 2], False, r"_splits: got 3 splits from 1 to 2"),
        ([10, 20], [0, -5, 2], False, r"_splits: got 3 splits from 0 to 2"),
        ([10, 20], [0, 1, 2**62], False, r"_splits: got 3 splits from 0 to 4611686018427387904"),
        (["a"], [0, 1, 1], False, r"filter.\w+: got texts; expected numbers: the ids of this"),
        ([6], [0, 1, 1], True, r": got row 6; the index has 6 rows"),
        ([2**62], [0, 1, 1], True, r": got row 4611686018427387904; the index has 6 rows"),
    ],
)
def test_filters_per_query_are_checked(numbers, name, values, splits, as_rows, message):
    search(numbers.view(), f"{name}.*{message}" if message[0] == "_" else message,
           filter=bad_filter(name, values, splits, as_rows))  # fmt: skip


def test_filters_say_what_is_missing_or_too_much(numbers, texts):
    view = numbers.view()
    search(view, r"filter.exclude_splits: got NULL; expected n_queries \+ 1 splits",
           filter=bad_filter("exclude", [10], None))  # fmt: skip
    allow = lists([[10], []], Filter, "allow")
    allow.allow_mask = address(np.ones(6, np.uint8))
    search(view, r"filter: got allow and allow_mask; expected at most one", filter=allow)
    for n_bytes in (0, 5, 7, 18):
        mask = sized(Filter, allow_mask=address(np.ones(18, np.uint8)), mask_size=n_bytes)
        search(view, rf"filter.mask_size: got {n_bytes}; expected n_rows = 6", filter=mask)
    both = Ids(n=1, numbers=8, rows=8)
    search(view, r"filter.allow: got 2 arrays for 1 ids; expected one of numbers, texts and rows",
           filter=sized(Filter, allow=ctypes.pointer(both)))  # fmt: skip
    search(view, r"filter.allow: got n = 4611686018427387904; expected so many ids as fit",
           filter=sized(Filter, allow=ctypes.pointer(Ids(n=HUGE, numbers=8))))  # fmt: skip
    search(texts.view(), r"filter.allow: got numbers; expected texts: the ids of this index are",
           filter=sized(Filter, allow=ctypes.pointer(new_ids([1]))))  # fmt: skip
    no_bytes = Ids(n=1, texts=(Text * 1)(Text(None, 3)))
    search(texts.view(), r"filter.allow: got NULL for a text of 3 bytes at position 0",
           filter=sized(Filter, allow=ctypes.pointer(no_bytes)))  # fmt: skip


class NewerFilter(ctypes.Structure):
    _fields_ = [("known", Filter), ("unknown", ctypes.c_int64)]


def test_a_newer_hosts_struct_is_taken_while_its_new_fields_are_zero(numbers):
    view = numbers.view()
    newer = NewerFilter()
    newer.known.struct_size = ctypes.sizeof(newer)
    counts = np.empty(2, np.int64)
    call("view_search", view.handle, address(QUERIES), size(2), size(3), size(2), byref(newer),
         size(0), byref(sized(Hits, counts=address(counts))))  # fmt: skip
    assert counts.tolist() == [2, 2]
    newer.unknown = 1
    search(view, r"filter: got a field that this library does not know; expected zeros",
           filter=newer)  # fmt: skip


def test_updates_refuse_and_change_nothing(numbers, texts):
    before = numbers.view()
    vectors = ITEMS[:2].copy()
    for message, ids, rows, dim in (
        (r"vectors: got dim 2; the index has dim 3", new_ids([1, 2]), vectors, 2),
        (r"vectors: got NULL for 2 rows", new_ids([1, 2]), None, 3),
        (r"item_ids: got 7 twice, in rows 0 and 1", new_ids([7, 7]), vectors, 3),
        (r"item_ids: got -1 at position 1", new_ids([7, -1]), vectors, 3),
        (r"item_ids: got texts; expected numbers: the ids of", new_ids(["a", "b"]), vectors, 3),
        (r"item_ids: got 0 arrays for 2 ids", Ids(n=2), vectors, 3),
        (r"vectors: row 4 holds a NaN", new_ids(NUMBERS), with_value(np.nan), 3),
    ):
        refused(message, "index_upsert", numbers.handle, byref(ids),
                rows if rows is None else address(rows), size(dim))  # fmt: skip
    refused(r"item_ids: got numbers; expected texts", "index_upsert", texts.handle,
            byref(new_ids([1, 2])), address(vectors), size(3))  # fmt: skip
    refused(r"item_ids: got an empty text", "index_upsert", texts.handle, byref(new_ids(["a", ""])),
            address(vectors), size(3))  # fmt: skip
    refused(r"item_ids: got 10 twice", "index_remove", numbers.handle, byref(new_ids([10, 10])),
            None)  # fmt: skip
    refused(r"item_ids: got texts", "index_remove", numbers.handle, byref(new_ids(["a"])), None)
    refused(r"item_ids: got rows", "index_remove", numbers.handle,
            byref(new_ids([0], as_rows=True)), None)  # fmt: skip
    assert numbers.view().info.version == before.info.version == 0


def test_rows_and_ids_are_checked(numbers, texts):
    view = numbers.view()
    numbers.remove([30])
    rows = np.array([0, 6], dtype=np.int64)
    room, floats, room_for_texts = np.empty(2, np.int64), np.empty(6, np.float32), (Text * 2)()
    refused(r"rows: got 6 at position 1; the index has 6 rows", "view_ids_of", view.handle,
            address(rows), size(2), address(room), None)  # fmt: skip
    refused(r"texts: got an array", "view_ids_of", view.handle, address(rows), size(2), None,
            room_for_texts)  # fmt: skip
    refused(r"rows: got 6 at position 1", "view_vectors", view.handle, address(rows), size(2),
            address(floats))  # fmt: skip
    rows[:] = 0, -1
    refused(r"rows: got -1 at position 1, not the row of an item", "view_vectors", view.handle,
            address(rows), size(2), address(floats))  # fmt: skip
    rows[:] = 2, 1
    refused(r"rows: got 2 at position 0, not the row of an item", "view_vectors",
            numbers.view().handle, address(rows), size(2), address(floats))  # fmt: skip
    refused(r"ids: got texts; expected numbers", "view_rows_of", view.handle,
            byref(new_ids(["a"])), address(room))  # fmt: skip
    refused(r"ids: got rows; expected numbers or texts", "view_rows_of", view.handle,
            byref(new_ids([1], as_rows=True)), address(room))  # fmt: skip
    assert texts.view().rows_of([b"\xff\xfe", "b"]).tolist() == [-1, 1]


def test_files_are_checked(tmp_path, numbers):
    handle = c_void_p(1)
    for data, message in ((None, "cannot open"), (b"short", "size"), (b"x" * 4096, "magic")):
        path = tmp_path / "bad.index"
        if data is not None:
            path.write_bytes(data)
        refused(rf"bad.index: {message}.*expected .*, found ", "index_load", str(path).encode(),
                c_int32(1), byref(handle), status=FILE_ERROR)  # fmt: skip
        assert handle.value is None
    refused(r"cannot create: .*expected a writable place", "view_save", numbers.view().handle,
            str(tmp_path / "none" / "x").encode(), status=FILE_ERROR)  # fmt: skip


def test_threads_and_executors_are_checked():
    refused(r"n_threads: got 257; expected 0 to 256", "set_num_threads", size(257))
    refused(r"executor.struct_size: got 0", "set_executor", byref(Executor()))
    refused(r"executor.run: got NULL", "set_executor", byref(sized(Executor, n_threads=2)))
    run = RUN(lambda *_: None)
    for n_threads in (0, 257):
        refused(rf"n_threads: got {n_threads}; expected 1 to 256", "set_executor",
                byref(sized(Executor, run=run, n_threads=n_threads)))  # fmt: skip


def test_a_long_message_is_cut_between_characters(tmp_path):
    for fill in range(3):
        path = f"{tmp_path}/{'x' * fill}" + "ü/" * 700
        with pytest.raises(CError) as caught:
            call("index_load", path.encode(), c_int32(1), byref(c_void_p()))
        text = str(caught.value).encode()
        assert 1015 <= len(text) <= 1019


def test_success_clears_an_old_error(numbers):
    error = Error(status=3, message=b"old")
    view = c_void_p()
    assert LIBRARY.shortlist_index_view(numbers.handle, byref(view), byref(error)) == 0
    assert (error.status, error.message) == (0, b"")
    LIBRARY.shortlist_view_free(view)
