"""`where=`: Arrow or polars, one for all or one a request, inside the search, never stale."""

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from shortlist import _core
from shortlist._catalogue import items
from shortlist._catalogue.where import evaluate
from shortlist.errors import DataError
from shortlist.loading import load

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
        ("year < 1990", set(range(10))),
        ("genres = 'war'", set(range(0, 40, 2))),
        ("item_id in (100, 107, 3)", {0, 1}),
    ],
)
def test_arrow_and_polars_expressions_choose_the_same_items(engine, where, expected):
    assert allowed(engine, where) == expected


TABLE = pa.table(
    {
        "n": pa.array([1, 2, None, -4], pa.int64()),
        "x": [0.5, None, 2.0, 1e3],
        "s": ["it's", "b", None, "Müller"],
        "t": [True, False, None, True],
        "tags": [["a", "b"], [], None, ["b", None]],
        "numbers": pa.array([[1], [2, 3], [], None], pa.large_list(pa.int32())),
        "day": pa.array([0, 86_400, None, 5], pa.timestamp("s")),
        "nothing": pa.nulls(4),
        "odd name": [1, 2, 3, 4],
        "and": [1, 1, 2, 2],
    }
)


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("n = 1", [0]),
        ("n == 1 or n<>1", [0, 1, 3]),
        ("n != 1", [1, 3]),
        ("n = -4 OR x>=2e0", [2, 3]),
        ("n < +2 and x <= .5", [0]),
        ("not n = 1", [1, 3]),
        ("not (n = 1 or n = 2)", [3]),
        ("n = 1 or n = 2 and x = 7", [0]),
        ("(n = 1 or n = 2) and t = true", [0]),
        ("not n = 1 and t = TRUE", [3]),
        ("NOT NOT t = false", [1]),
        ("s = 'it''s'", [0]),
        ("s in ('b', 'Müller')", [1, 3]),
        ("s not in ('b', 'Müller')", [0]),
        ("n is null", [2]),
        ("n is not null and not (x is null)", [0, 3]),
        ("n = 9 or x is null", [1]),
        ("tags = 'b'", [0, 3]),
        ("tags != 'a'", [1, 3]),
        ("tags in ('a', 'c')", [0]),
        ("tags not in ('a', 'c')", [1, 3]),
        ("numbers = 3", [1]),
        (f"n < {'1' * 5000}", [0, 1, 3]),
        ("n in (1, 1.5, -4.0)", [0, 3]),
        ("n not in (1, 1.5)", [1, 3]),
        ("x in (2, 1000)", [2, 3]),
        ("t in (true)", [0, 3]),
        ("day in ('1970-01-01T00:00:05Z', '1970-01-02')", [1, 3]),
        ("n = 1.0", [0]),
        ("day < '1970-01-02'", [0, 3]),
        ("nothing = 1 or not nothing = 1", []),
        ("nothing is null", [0, 1, 2, 3]),
        ('"odd name" > 3', [3]),
        ('"and" = 2 and n = -4', [3]),
        ("  n=1  ", [0]),
    ],
)
@pytest.mark.parametrize("n_chunks", [1, 4])
def test_conditions_as_text(where, expected, n_chunks):
    table = TABLE if n_chunks == 1 else pa.concat_tables([TABLE.slice(i, 1) for i in range(4)])
    mask = evaluate(where, table)
    assert (mask.dtype, mask.shape) == (np.bool_, (4,))
    assert np.flatnonzero(mask).tolist() == expected


@pytest.mark.parametrize("kind", [pa.timestamp("ms", "UTC"), pa.timestamp("us"), pa.date32()])
def test_times_as_text_are_read_as_everywhere_else(kind):
    midnight = 1_777_593_600  # 2026-05-01
    column = pa.array([midnight, None, midnight + 86_400], pa.timestamp("s")).cast(kind)
    table = pa.table({"day": column})
    for text in ("2026-05-01", "2026-05-01T00:00:00Z", "2026-05-01 02:00+02:00", "20260501"):
        assert np.flatnonzero(evaluate(f"day = '{text}'", table)).tolist() == [0], text
    assert np.flatnonzero(evaluate("day > '2026-05-01 12:00'", table)).tolist() == [2]


def test_lists_whose_nulls_hide_values_are_read():
    lists = pa.array([["a"], ["b"], ["b", "c"]])
    hidden = pa.ListArray.from_arrays(
        lists.offsets, lists.values, mask=pa.array([False, True, False])
    )
    table = pa.table({"genres": hidden})
    assert np.flatnonzero(evaluate("genres = 'b'", table)).tolist() == [2]
    assert np.flatnonzero(evaluate("genres != 'b'", table)).tolist() == [0]


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("", r"expected a column at character 1, found the end; the item table has n \(int64\), x"),
        ("n", r"expected =, !=, .* at character 2, found the end"),
        ("n = ", r"expected a number, a text in single quotes, true or false at character 5"),
        ("n = s", r"expected a number, .* at character 5, found 's'"),
        (
            "n = 'x'",
            r"expected a value that 'n' \(int64\) compares with at character 5, found \"'x",
        ),
        ("s < 3", r"expected a value that 's' \(string\) compares with at character 5"),
        ("t < 1", r"expected a value that 't' \(bool\) compares with"),
        ("tags < 'a'", r"expected a value that 'tags' \(list<.*>\) compares with"),
        ("tags = 3", r"expected a value that 'tags' \(list<.*>\) compares with"),
        ("day = 'soon'", r"expected a time such as '2026-05-01' or .* at character 7, found"),
        ("day = 3", r"expected a value that 'day' \(timestamp\[s\]\) compares with"),
        ("n in (1, 'x')", r"expected a value that 'n' \(int64\) compares with at character 10"),
        (f"n = {2**70}", r"expected a value that 'n'"),
        ("n = 1 n = 2", r"expected 'and', 'or' or the end at character 7, found 'n = 2'"),
        ("(n = 1", r"expected '\)' at character 7, found the end"),
        ("n in 1", r"expected '\(' at character 6"),
        ("n in ()", r"expected a number, .* at character 7"),
        ("n not = 1", r"expected 'in' at character 7"),
        ("n is 3", r"expected 'null' at character 6"),
        ("n, 3", r"expected =, .* at character 2, found ', 3'"),
        (
            "n = 1 ; drop",
            r"cannot read '; drop' at character 7; expected a condition such as \"year",
        ),
        ("s = 'x", r"cannot read \"'x\" at character 5"),
        ("n = 3years", r"cannot read '3years' at character 5"),
        ("n = 1 and", r"expected a column at character 10, found the end"),
        ("(" * 60 + "n = 1", r"expected no more than 50 conditions inside one another"),
        ("not " * 60 + "n = 1", r"expected no more than 50 conditions inside one another"),
    ],
)
def test_what_is_no_condition_says_where(where, message):
    with pytest.raises(DataError, match=f"where: .*: {message}"):
        evaluate(where, TABLE)


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
    filters += ["year < " + "1984.5" for _ in range(50)]
    engine.recommend([{}] * 150, where=filters)
    engine.recommend([{}] * 150, where=filters)
    assert len(calls) == 3


@pytest.mark.parametrize(
    ("where", "error", "message"),
    [
        (
            "price < 2",
            DataError,
            r"where: 'price < 2': expected a column of the item table at char",
        ),
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
