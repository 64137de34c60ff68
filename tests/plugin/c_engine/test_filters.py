"""Filters of requests: which items each may get, as `where=` of the Python engine."""

import ctypes
from ctypes import POINTER, byref

import numpy as np
import pyarrow.compute as pc
import pytest
from c_engine import Answer, CEngine, Requests, column, filter_of, requests_of
from c_library import INVALID_ARGUMENT, CError, call
from c_requests import check_same, columns_of, random_requests

import shortlist


def is_in(item_ids):
    return pc.field("item_id").isin(item_ids)


@pytest.fixture(scope="module", params=["bundle", "text_bundle"])
def engines(request):
    world = request.getfixturevalue(request.param)
    with shortlist.load(world.path) as engine, CEngine(world.path) as c_engine:
        yield world, engine, c_engine


def test_one_list_for_all_is_a_where(engines):
    world, engine, c_engine = engines
    requests = random_requests(world, 200)
    for n_allowed in (1, 3, 25):
        allowed = world.item_ids[5 : 5 + n_allowed].tolist()
        expected = engine.recommend(requests, 7, where=is_in(allowed))
        chosen = filter_of(allow=allowed)
        check_same(c_engine.recommend(columns_of(world, requests), 200, 7, filter=chosen), expected)


def test_a_mask_and_rows_are_the_same_list(engines):
    world, engine, c_engine = engines
    requests, columns = random_requests(world, 30), None
    columns = columns_of(world, requests)
    mask = np.arange(len(world.item_ids)) % 3 == 0
    expected = engine.recommend(requests, where=is_in(world.item_ids[mask].tolist()))
    masks = np.tile(mask, (30, 1))
    rows = np.flatnonzero(mask).tolist()
    for chosen in (
        filter_of(allow_mask=mask),
        filter_of(allow_mask=masks),
        filter_of(allow=rows, as_rows=True),
        filter_of(allow=[rows] * 30, as_rows=True),
    ):
        check_same(c_engine.recommend(columns, 30, filter=chosen), expected)


def test_lists_of_each_request_go_through_batches_and_seen_items(engines):
    world, engine, c_engine = engines
    n = 1300  # cut into two batches
    requests, rng = random_requests(world, n), np.random.default_rng(2)
    kept = [
        rng.choice(world.item_ids, rng.integers(6, 30), replace=False).tolist() for _ in range(50)
    ] * 26
    wheres = [is_in(ids) for ids in kept[:50]] * 26
    columns = columns_of(world, requests)
    for exclude_seen in (True, False):
        expected = engine.recommend(requests, 8, exclude_seen, where=wheres)
        found = c_engine.recommend(columns, n, 8, not exclude_seen, filter_of(allow=kept))
        check_same(found, expected)
    expected = engine.recommend(requests, 8, where=[~where for where in wheres[:50]] * 26)
    check_same(c_engine.recommend(columns, n, 8, filter=filter_of(exclude=kept)), expected)
    both = filter_of(exclude=[ids[:5] for ids in kept], allow=kept)
    wheres = [is_in(ids[5:]) for ids in kept[:50]] * 26
    expected = engine.recommend(requests, 8, where=wheres)
    check_same(c_engine.recommend(columns, n, 8, filter=both), expected)


def test_unknown_ids_are_ignored_and_empty_lists_allow_nothing(bundle):
    with CEngine(bundle.path) as c_engine:
        assert not c_engine.recommend([], 2, 5, filter=filter_of(allow=[[], []])).counts.any()
        found = c_engine.recommend([], 1, 5, filter=filter_of(allow=[[5, 107]]))
        assert found.item_ids.tolist() == [[107, -1, -1, -1, -1]]
        assert found.counts.tolist() == [1]


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (filter_of(allow=[[100]], allow_mask=[1] * 40), "filter: got allow and allow_mask"),
        (filter_of(allow_mask=[1] * 39), r"filter.mask_size: got 39; expected n_rows = 40"),
        (filter_of(allow=["é100"]), "filter.allow: got texts; expected numbers"),
        (filter_of(exclude=[100]), "filter.exclude_splits: got NULL; expected n_queries"),
        (filter_of(exclude=[[40]], as_rows=True), "rows: got 40 at position 0; the index has 40"),
        (filter_of(allow=[[40]], as_rows=True), "got 40"),
        (filter_of(allow=[[100], [100]]), "allow_splits: got 2 splits from 0 to 1; expected"),
    ],
)  # fmt: skip
def test_a_wrong_filter_is_named(bundle, chosen, message):
    with CEngine(bundle.path) as c_engine, pytest.raises(CError, match=message) as caught:
        c_engine.recommend([], 1, filter=chosen)
    assert caught.value.status == INVALID_ARGUMENT


def test_a_host_of_the_older_header_is_served(bundle):
    requests = requests_of([column("history", [[100, 107]])], 1, 3)
    requests.struct_size = Requests.filter.offset
    requests.filter = ctypes.cast(ctypes.c_void_p(1), type(requests.filter))  # beyond its struct
    found = POINTER(Answer)()
    with CEngine(bundle.path) as c_engine:
        call("engine_recommend", c_engine.handle, byref(requests), byref(found))
        assert found.contents.counts
        requests.struct_size = 8
        with pytest.raises(CError, match=r"requests\.struct_size: got 8"):
            call("engine_recommend", c_engine.handle, byref(requests), byref(found))
