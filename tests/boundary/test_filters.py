"""Filters: every form, and the text of each error. Section 11's wrong answers are tests here."""

import numpy as np
import pandas as pd
import polars as pl
import pytest

from shortlist import Index

RANDOM = np.random.default_rng(2)
ITEMS = RANDOM.normal(size=(400, 12)).astype(np.float32)
QUERIES = RANDOM.normal(size=(2, 12)).astype(np.float32)
IDS = np.arange(400) * 10


@pytest.fixture(scope="module")
def index():
    return Index(ITEMS, item_ids=IDS)


def test_excluded_items_never_come_back_even_when_few_are_left(index):
    hits = index.search(QUERIES, top_n=10, exclude=[IDS[:397], IDS[3:]])
    assert hits.counts.tolist() == [3, 3]
    assert set(hits.item_ids[0, :3]) == set(IDS[397:])
    assert set(hits.item_ids[1, :3]) == set(IDS[:3])
    assert (hits.item_ids[:, 3:] == -1).all()
    assert np.isneginf(hits.scores[:, 3:]).all()


def test_exclude_forms_agree(index):
    lists = [[IDS[3], IDS[5]], None]
    expected = index.search(QUERIES, exclude=lists)
    csr = (np.array([30, 50]), np.array([0, 2, 2]))
    for form in (csr, [np.array([30, 50]), []], [(50, 30, 30, -7, 12345678), np.array([], int)]):
        hits = index.search(QUERIES, exclude=form)
        assert np.array_equal(hits.item_ids, expected.item_ids)


def test_allow_forms_agree(index):
    rows = np.arange(0, 400, 3)
    mask = np.zeros(400, bool)
    mask[rows] = True
    expected = index.search(QUERIES, top_n=200, allow=mask)
    assert (expected.counts == len(rows)).all()
    splits = np.array([0, len(rows), 2 * len(rows)])
    csr = (np.tile(IDS[rows], 2), splits)
    for form in (IDS[rows], [IDS[rows], IDS[rows][::-1]], csr, np.append(IDS[rows], [-1, 5])):
        hits = index.search(QUERIES, top_n=200, allow=form)
        assert np.array_equal(hits.item_ids, expected.item_ids)
        assert hits.scores.tobytes() == expected.scores.tobytes()


def test_nothing_allowed_gives_nothing(index):
    for allow in (np.zeros(400, bool), np.array([], int), [None, []], [[1], [2]]):
        hits = index.search(QUERIES, allow=allow)
        assert (hits.counts == 0).all()
        assert (hits.item_ids == -1).all()


def test_exclusion_wins_over_permission(index):
    hits = index.search(QUERIES, top_n=3, allow=[IDS[:3]] * 2, exclude=[IDS[:1], IDS[:2]])
    assert hits.counts.tolist() == [2, 1]


def test_string_ids_filter_by_string():
    index = Index(np.eye(3), item_ids=["a", "b", "ü"])
    hits = index.search(np.eye(3)[:1], top_n=2, exclude=[["a", "zz"]])
    assert hits.item_ids.tolist() == [["b", "ü"]]
    hits = index.search(np.eye(3)[:1], top_n=2, allow=np.array(["ü"]))
    assert hits.item_ids.tolist() == [["ü", ""]]


@pytest.mark.parametrize("name", ["exclude", "allow"])
@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (5, TypeError, "got int; expected a list with one array of ids per query"),
        ("ab", TypeError, "got str; expected a list with one array of ids per query"),
        ([[1]], ValueError, "got 1 lists; expected one per query, 2 in all"),
        ([[1], 5], TypeError, r"\[1\]: got 5; expected a 1-D array of ids or None"),
        ([["a"], [1]], TypeError, "got numbers and strings; expected ids of one kind"),
        ([["a"], ["b"]], TypeError, "got str; the item ids of this index are int64"),
        ([[1.5], []], TypeError, r"\[0\]: got float 1.5 at position 0; expected int64 or str ids"),
        ([[[1]], []], ValueError, r"\[0\]: got \[1\] at position 0; expected one dimension"),
        ([np.ones(1), []], TypeError, "got dtype float64; expected int64 or str ids"),
        ((np.arange(3), np.array([0, 2, 4])), ValueError, "got row_splits from 0 to 4"),
        ((np.arange(3), np.array([0, 5, 3])), ValueError, "expected them to ascend"),
        ((np.arange(3), np.array([0.0, 1, 3])), TypeError, "got row_splits of dtype float64"),
        ((np.arange(3), np.array([0, 3])), ValueError, "n_queries \\+ 1 = 3 row_splits"),
    ],
)
def test_bad_lists(index, name, value, error, message):
    with pytest.raises(error, match=f"^{name}.*{message}"):
        index.search(QUERIES, **{name: value})


def test_mask_of_wrong_length_shows_both(index):
    with pytest.raises(ValueError, match=r"allow: got a mask of shape \(3,\); expected \(400,\)"):
        index.search(QUERIES, allow=np.ones(3, bool))


def test_rows_of_and_vectors(index):
    assert index.rows_of([30, 31, 0]).tolist() == [3, -1, 0]
    assert index.rows_of([]).shape == (0,)
    unit = ITEMS[[3]] / np.linalg.norm(ITEMS[3].astype(np.float64))
    assert np.allclose(index.vectors([3]), unit, atol=1e-7)
    with pytest.raises(TypeError, match="ids: got str; the item ids of this index are int64"):
        index.rows_of(["a"])
    with pytest.raises(ValueError, match="rows: got 400; the index has 400 rows"):
        index.vectors([400])
    with pytest.raises(TypeError, match="rows: got dtype float64; expected integers"):
        index.vectors([0.5])


@pytest.mark.parametrize(
    "exclude",
    [
        [{10, 20}, {30}],
        [frozenset([10, 20]), {30: 0}.keys()],
        pd.Series([[10, 20], [30]]),
        pl.Series([[10, 20], [30]]),
    ],
    ids=["sets", "frozenset, keys", "pandas", "polars"],
)
def test_sets_and_columns_of_lists_exclude(index, exclude):
    expected = index.search(QUERIES, 5, exclude=[[10, 20], [30]])
    found = index.search(QUERIES, 5, exclude=exclude)
    assert found.item_ids.tolist() == expected.item_ids.tolist()


@pytest.mark.parametrize(
    "allow",
    [
        {0, 10, 20},
        range(0, 30, 10),
        {0: 1, 10: 1, 20: 1}.keys(),
        pd.Series(np.arange(400) < 3),
        pd.Series([0, 10, 20]),
        pd.Series([[0, 10, 20]] * 2),
        pl.Series([[0, 10, 20]] * 2),
    ],
)
def test_sets_ranges_and_masks_of_pandas_allow(index, allow):
    expected = index.search(QUERIES, 5, allow=[0, 10, 20])
    assert index.search(QUERIES, 5, allow=allow).item_ids.tolist() == expected.item_ids.tolist()
