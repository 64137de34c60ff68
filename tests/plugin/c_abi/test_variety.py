"""Varied lists of the C ABI are those of shortlist.Index, bit for bit."""

import ctypes

import numpy as np
import pytest
from c_library import (
    INVALID_ARGUMENT,
    CError,
    CIndex,
    Filter,
    Hits,
    address,
    byref,
    call,
    lists,
    set_calibration,
    set_dampening,
    size,
    sized,
    variety_of,
)

import shortlist

RANDOM = np.random.default_rng(4)
N, DIM, Q, TOP_N = 500, 12, 6, 9
ITEMS = RANDOM.normal(size=(N, DIM)).astype(np.float32)
QUERIES = RANDOM.normal(size=(Q, DIM)).astype(np.float32)
BRAND = RANDOM.integers(-1, 20, size=N)
GENRES = (RANDOM.integers(0, 8, size=2 * N), 2 * np.arange(N + 1))
IS_NEW = RANDOM.random(N) < 0.01
GROUPS = {"brand": BRAND, "genre": GENRES, "new": IS_NEW, "never": np.zeros(N, dtype=bool)}


def search(view, variety, filter=None):
    filter = filter or sized(Filter)
    filter.variety = ctypes.pointer(variety)
    scores, rows = np.empty((Q, TOP_N), np.float32), np.empty((Q, TOP_N), np.int64)
    missing = np.full((Q, variety.n_quotas), -7, np.int64)
    hits = sized(Hits, scores=address(scores), rows=address(rows), missing=address(missing))
    call("view_search", view.handle, address(QUERIES), size(Q), size(DIM), size(TOP_N),
         byref(filter), size(1), byref(hits))  # fmt: skip
    return scores, rows, missing


@pytest.mark.parametrize("diversity", [None, 0.4])
def test_caps_quotas_and_diversity_equal_pythons(diversity):
    python, view = shortlist.Index(ITEMS), CIndex(ITEMS).view()
    columns = [(BRAND, 1), (GENRES, 3)]
    quotas = [(IS_NEW, 2), (np.zeros(N), 3)]
    excluded = [RANDOM.integers(0, N, size=30).tolist() for _ in range(Q)]
    filter = lists(excluded, Filter, "exclude")
    scores, rows, missing = search(view, variety_of(N, Q, columns, quotas, diversity), filter)
    wants = {"at_most": {"brand": 1, "genre": 3}, "at_least": {"new": 2, "never": 3}}
    hits = python.search(QUERIES, TOP_N, excluded, groups=GROUPS, diversity=diversity, **wants)
    assert rows.tolist() == hits.indices.tolist()
    assert scores.tobytes() == hits.scores.tobytes()
    assert missing.T.tolist() == [hits.unmet["new"].tolist(), hits.unmet["never"].tolist()]


def test_calibrated_and_dampened_lists_equal_pythons():
    python, view = shortlist.Index(ITEMS), CIndex(ITEMS).view()
    shares, popularity = {1: 0.25, 4: 0.75}, RANDOM.integers(0, 1000, size=N)
    made = set_calibration(variety_of(N, Q, [(BRAND, 2)]), Q, GENRES, shares, 0.6)
    scores, rows, _ = search(view, made)
    brands = {"groups": GROUPS, "at_most": {"brand": 2}}
    hits = python.search(QUERIES, TOP_N, **brands, calibrate={"genre": (shares, 0.6)})
    assert rows.tolist() == hits.indices.tolist()
    assert scores.tobytes() == hits.scores.tobytes()
    made = set_dampening(variety_of(N, Q), Q, np.log1p(popularity), 0.05)
    scores, rows, _ = search(view, made)
    hits = python.search(QUERIES, TOP_N, popularity=popularity, popularity_dampening=0.05)
    assert rows.tolist() == hits.indices.tolist()
    assert scores.tobytes() == hits.scores.tobytes()


def wrong(shares=None, strength=0.5, **numbers):
    made = variety_of(N, Q, diversity=numbers.pop("diversity", None))
    if numbers:
        return set_dampening(made, Q, numbers["terms"], numbers["weight"])
    return set_calibration(made, Q, BRAND, shares, strength)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (wrong({1: 0.5, 2: 0.4}), "calibration.shares: got a sum of 0.9.* for query 0; expected 1"),
        (wrong({1: 1.5, 2: -0.5}), "calibration.shares: got 1.5.* at position 0; expected a num"),
        (wrong({-1: 0.5, 2: 0.5}), "calibration.values: got -1 at position 0; expected 0 or more"),
        (wrong({1: 1.0}, 1.1), "calibration.strength: got 1.1.* at position 0; expected a number"),
        (wrong(), "from_history: got some; expected NULL: an index knows no histories"),
        (wrong({1: 1.0}, diversity=0.5), "variety.diversity, variety.calibration: got both for qu"),
        (wrong(terms=np.full(N, -1.0), weight=1), "variety.terms: got -1.* at position 0; expec"),
        (wrong(terms=np.ones(N), weight=-1), "variety.dampening: got -1.* at position 0; expected"),
    ],
)
def test_wrong_adjustments_are_named(made, words):
    with pytest.raises(CError, match=words):
        search(CIndex(ITEMS).view(), made)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n_rows": 3}, "variety.n_rows: got 3; expected the rows of the view, 500"),
        ({"columns": None}, "variety.columns: got NULL; expected n_columns columns"),
        ({"quotas": None}, "variety.quotas: got NULL; expected n_quotas masks"),
        ({"at_most": None}, "variety.at_most: got NULL; expected a number for each query"),
        ({"at_least": None}, "variety.at_least: got NULL"),
    ],
)
def test_missing_parts_are_named(change, words):
    made = variety_of(N, Q, [(BRAND, 1)], [(IS_NEW, 1)])
    for name, value in change.items():
        setattr(made, name, value)
    with pytest.raises(CError, match=words) as raised:
        search(CIndex(ITEMS).view(), made)
    assert raised.value.status == INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"columns": [(BRAND, -1)]}, "variety.at_most: got -1 at position 0; expected 0, for any"),
        ({"quotas": [(IS_NEW, 10)]}, "variety.at_least: got 10 at position 0; expected 0 to top_n"),
        ({"diversity": 1.5}, "variety.diversity: got 1.5.* for query 0; expected a number from 0"),
        ({"diversity": np.nan}, "variety.diversity: got .*nan"),
        ({"columns": [(BRAND[:3], 1)]}, r"columns\[0\].n: got 3; expected a value for each of 500"),
        ({"columns": [((BRAND, [0] * N + [3]), 1)]}, r"columns\[0\]_splits: got 501 splits"),
    ],
)
def test_wrong_numbers_are_named(given, words):
    with pytest.raises(CError, match=words):
        search(CIndex(ITEMS).view(), variety_of(N, Q, **given))


def test_hosts_of_version_4_have_shorter_structs():
    class Filter4(ctypes.Structure):
        _fields_ = Filter._fields_[:-1]

    class Hits4(ctypes.Structure):
        _fields_ = Hits._fields_[:-1]

    rows = np.empty((Q, TOP_N), np.int64)
    filter, hits = sized(Filter4), sized(Hits4, rows=address(rows))
    call("view_search", CIndex(ITEMS).view().handle, address(QUERIES), size(Q), size(DIM),
         size(TOP_N), byref(filter), size(1), byref(hits))  # fmt: skip
    assert rows.tolist() == shortlist.Index(ITEMS).search(QUERIES, TOP_N).indices.tolist()
