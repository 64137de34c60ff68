"""`where=`: Arrow or polars, one for all or one a request, inside the search, never stale."""

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from shortlist import _core
from shortlist._catalogue import items
from shortlist.engine import load
from shortlist.errors import DataError

YEARS = 1980 + np.arange(40)


def allowed(engine, where):
    """Item rows that come back for a request of which nothing is known."""
    return set(engine.recommend([{}], top_n=40, where=where).indices[0].tolist()) - {-1}


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (pc.field("year") < 1990, set(range(10))),
        (pl.col("year") < 1990, set(range(10))),
        (pl.col("genres").list.contains("war"), set(range(0, 40, 2))),
        (pc.field("title").is_null(), set(range(0, 40, 5))),
        (pl.col("year") > pl.col("year").mean(), set(range(20, 40))),
        (pc.field("item_id").isin([100, 107]), {0, 1}),
        (pl.lit(False), set()),
        (pc.scalar(True), set(range(40))),
    ],
)
def test_arrow_and_polars_expressions_choose_the_same_items(engine, where, expected):
    assert allowed(engine, where) == expected


def test_null_counts_as_false_even_when_the_condition_is_turned_round(engine):
    is_five = pl.col("title") == "Film 6 ☕"
    assert allowed(engine, is_five) == {6}
    assert allowed(engine, ~is_five) == {row for row in range(40) if row % 5 and row != 6}
    arrow = pc.field("title") == "Film 6 ☕"
    assert allowed(engine, ~arrow) == {row for row in range(40) if row % 5 and row != 6}


def test_each_request_may_have_its_own_filter(engine, world):
    n = _core.max_batch + 30
    history = world.item_ids[[3, 4]].tolist()
    requests = [{"history": history} if i % 2 else {} for i in range(n)]
    filters = [
        [None, pc.field("year") < 1990, pl.col("year") < 1990, pc.field("year") >= 2010][i % 4]
        for i in range(n)
    ]
    answer = engine.recommend(requests, top_n=12, where=filters)
    for i in (0, 1, 2, 3, 5, 7, _core.max_batch - 1, _core.max_batch, n - 1):
        alone = engine.recommend([requests[i]], top_n=12, where=filters[i])
        assert alone.item_ids[0].tolist() == answer.item_ids[i].tolist()
        assert alone.counts[0] == answer.counts[i]
        assert alone.stages[0] == answer.stages[i]


def test_equal_expressions_are_evaluated_once(engine, monkeypatch):
    calls = []
    original = items.evaluate
    monkeypatch.setattr(items, "evaluate", lambda *given: calls.append(1) or original(*given))
    filters = [pl.col("year") < 1984.5 for _ in range(50)] + [pc.field("year") < 1984.5] * 50
    engine.recommend([{}] * 100, where=filters)
    engine.recommend([{}] * 100, where=filters)
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("where", "error", "message"),
    [
        (pl.col("price") < 2, DataError, r"where: .*price.*the item table has .*year \(int64\)"),
        (pl.col("year") == "x", DataError, r"where: cannot compare string with numeric"),
        (pl.col("year"), DataError, r"where: the expression gives Int64, expected true or false"),
        (pc.field("year") + 1, DataError, r"where: .*must evaluate to bool.*the item table has"),
        (pc.scalar(3), DataError, r"where: .*must evaluate to bool"),
        (3, TypeError, r"where: got int, expected an expression such as pyarrow\.compute"),
        ([None], DataError, r"where: got 1 expressions for 2 requests; expected one"),
        ([None, b"x"], TypeError, r"where: got bytes, .*entry 1 of the list"),
        ([None, pl.col("no")], DataError, r"where: .*entry 1 of the list"),
    ],
)
def test_what_is_no_filter_of_this_table_is_named(engine, where, error, message):
    with pytest.raises(error, match=message):
        engine.recommend([{}, {}], where=where)


def test_a_filter_sees_the_items_as_they_are_now(make_tiny_bundle, tmp_path):
    world = make_tiny_bundle(tmp_path / "tiny.shortlist")
    with load(world.path) as engine:
        where = pl.col("year") > 2018
        assert allowed(engine, where) == {39}
        engine.upsert_items({"item_id": [5000, int(world.item_ids[0])], "year": [2026, 2030]})
        assert allowed(engine, where) == {39, 40, 0}
        engine.remove_items([int(world.item_ids[39])])
        assert allowed(engine, where) == {40, 0}
        assert allowed(engine, pc.field("year") > 2018) == {40, 0}


def test_frames_of_requests_and_filters_of_arrow_arrays_go_together(engine, world):
    table = pa.table({"history": pa.array([[100], [107]])})
    answer = engine.recommend(table, top_n=3, where=[pc.field("year") < 1990, None])
    assert set(answer.indices[0].tolist()) <= set(range(10))
