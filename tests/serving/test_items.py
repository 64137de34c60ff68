"""Items that come, change and go while the engine answers."""

import datetime
import threading
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import worlds
from tiny_graphs import make_feature

import shortlist.index
from shortlist import FeedbackLog
from shortlist._catalogue.filters import rows_of
from shortlist._catalogue.rows import _column
from shortlist._columns.requests import FeatureColumn
from shortlist.errors import DataError, ShortlistError
from shortlist.loading import load

NEW = {"item_id": [900, 901], "title": ["New film", None], "year": [1991, 2000],
       "genres": [["war"], ["drama", "unheard of"]]}  # fmt: skip


@pytest.fixture
def fresh(make_tiny_bundle, tmp_path):
    world = make_tiny_bundle(tmp_path / "tiny.shortlist")
    with load(world.path) as engine:
        yield engine, world


@pytest.mark.parametrize(
    "shape",
    [
        dict,
        pd.DataFrame,
        pl.DataFrame,
        pa.table,
        lambda columns: [dict(zip(columns, row, strict=True)) for row in zip(*columns.values())],  # noqa: B905
    ],
    ids=["dict", "pandas", "polars", "arrow", "dicts"],
)
def test_new_items_of_any_shape_get_their_vector_from_content_and_are_found(fresh, shape):
    engine, world = fresh
    told = engine.upsert_items(shape(NEW))
    assert told == (2, 0, 0)
    assert len(engine.index) == 42
    features = {name: NEW[name] for name in ("item_id", "genres", "year")}
    vectors = engine.encode_items(features)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    np.testing.assert_allclose(engine.index.vectors([40, 41]), unit, rtol=1e-5)
    answer = engine.recommend({"history": [world.item_ids[[3]].tolist()]}, top_n=60, stages=1)
    assert {900, 901} <= set(answer.item_ids[0].tolist())
    titles = dict(zip(answer.item_ids[0].tolist(), answer.titles[0].tolist(), strict=True))
    assert (titles[900], titles[901], titles[-1]) == ("New film", None, "")
    row = engine.items.slice(40, 1).to_pylist()[0]
    assert row == {"item_id": 900, "title": "New film", "n_events": 0, "year": 1991,
                   "genres": ["war"]}  # fmt: skip


@pytest.mark.parametrize("request_", [{"history": [100, 170]}, {}])
def test_a_quota_of_new_items_takes_the_last_places_and_the_best_of_them(fresh, request_):
    engine, world = fresh
    ids = world.item_ids.tolist()
    engine.upsert_items({"item_id": ids, "n_events": [1 + n for n in world.n_events.tolist()]})
    new = [{"item_id": 900 + i, "genres": [genre]} for i, genre in enumerate(["war", "drama"] * 3)]
    engine.upsert_items(new)
    order = engine.recommend([request_], top_n=46, stages=1)[0].item_ids.tolist()
    old, cold = ([i for i in order if (i >= 900) == is_new] for is_new in (False, True))
    assert len(cold) == 6
    answer = engine.recommend([request_], top_n=8, stages=1, at_least={"n_events = 0": 3})
    found = answer[0].item_ids.tolist()
    n_cold = max(3, sum(i >= 900 for i in order[:8]))
    assert sorted(found) == sorted(old[: 8 - n_cold] + cold[:n_cold])
    assert found == [i for i in order if i in found]
    assert answer.unmet == [{}]


def test_a_known_item_keeps_what_the_call_does_not_say(fresh):
    engine, world = fresh
    before = engine.items.slice(3, 1).to_pylist()[0]
    vector = engine.index.vectors([3])
    assert engine.upsert_items([{"item_id": int(world.item_ids[3]), "title": "Renamed"}]) == (
        0,
        1,
        0,
    )
    assert engine.items.slice(3, 1).to_pylist()[0] == before | {"title": "Renamed"}
    np.testing.assert_array_equal(engine.index.vectors([3]), vector)
    engine.upsert_items([{"item_id": int(world.item_ids[3]), "genres": ["war"]}])
    assert engine.items.slice(3, 1).to_pylist()[0]["title"] == "Renamed"
    assert np.abs(engine.index.vectors([3]) - vector).max() > 1e-3
    assert len(engine.index) == 40


def test_each_dict_of_a_list_changes_only_the_columns_it_has(fresh):
    engine, world = fresh
    first, second = (int(item_id) for item_id in world.item_ids[[3, 4]])
    before = engine.items.slice(3, 2).to_pylist()
    engine.upsert_items(
        [
            {"item_id": first, "title": "Renamed"},
            {"item_id": second, "genres": ["war"], "year": None},
            {"item_id": 900, "year": 1991},
        ]
    )
    after = engine.items.slice(3, 2).to_pylist()
    assert after[0] == before[0] | {"title": "Renamed"}
    assert after[1] == before[1] | {"genres": ["war"], "year": None}
    assert engine.items.slice(40, 1).to_pylist()[0]["year"] == 1991
    assert engine.items.slice(40, 1).to_pylist()[0]["title"] is None


def test_items_of_unknown_content_are_counted(fresh):
    engine, _ = fresh
    told = engine.upsert_items([{"item_id": 1, "genres": ["unheard of"]}, {"item_id": 2}])
    assert told.n_added == 2
    assert engine.recommend([{}], top_n=50).counts.tolist() == [42]


def test_a_new_item_in_a_history_is_excluded_and_says_nothing(fresh):
    engine, world = fresh
    engine.upsert_items(NEW)
    known = world.item_ids[[3]].tolist()
    answer = engine.recommend({"history": [[*known, 900], known, [900], []]}, top_n=50, stages=1)
    assert answer.source.tolist() == ["history", "history", "popular", "popular"]
    assert answer.counts.tolist() == [40, 41, 41, 42]
    assert 900 not in answer.item_ids[[0, 2]]
    first = answer.item_ids[1][answer.item_ids[1] != 900]
    np.testing.assert_array_equal(answer.item_ids[0][:40], first[:40])


def test_a_removed_item_is_gone_but_still_counts_in_histories(fresh):
    engine, world = fresh
    request = {"history": [world.item_ids[[3, 8]].tolist()]}
    before = engine.recommend(request, top_n=40, stages=1)
    gone = [int(world.item_ids[8]), int(before.item_ids[0, 0]), 123456]
    assert engine.remove_items(gone) == 2
    after = engine.recommend(request, top_n=40, stages=1)
    np.testing.assert_array_equal(after.item_ids[0, :36], before.item_ids[0, 1:37])
    np.testing.assert_array_equal(after.scores[0, :36], before.scores[0, 1:37])
    assert len(engine.index) == 38
    assert not set(gone) & set(engine.recommend([{}], top_n=50).item_ids[0].tolist())
    assert engine.remove_items(gone) == 0


@pytest.mark.parametrize("one", [50, np.int64(50), np.array(50), 5.0, None])
def test_one_id_in_place_of_a_list_is_refused_with_the_fix(fresh, one):
    with pytest.raises(
        TypeError, match=r"item_ids: got \w+ .*, expected a list of ids; for one ite"
    ):
        fresh[0].remove_items(one)
    assert fresh[0].remove_items({100}) == 1


def test_one_text_is_no_list_of_letters(make_tiny_bundle, tmp_path):
    world = make_tiny_bundle(tmp_path / "tiny.shortlist", "string", numbers=[*range(1, 41)])
    with load(world.path) as engine:
        with pytest.raises(TypeError, match=r"got str 'é1', .* for one item: \['é1'\]"):
            engine.remove_items("é1")
        assert len(engine.index) == 40


def test_text_ids_come_and_go_too(make_tiny_bundle, tmp_path):
    world = make_tiny_bundle(tmp_path / "tiny.shortlist", "string")
    with load(world.path) as engine:
        engine.upsert_items({"item_id": ["新", "é100"], "genres": [["war"], ["drama"]]})
        answer = engine.recommend({"history": [["新", str(world.item_ids[2])]]}, top_n=50)
        assert answer.counts.tolist() == [39]
        assert "新" in engine.recommend([{}], top_n=50).item_ids[0].tolist()
        assert engine.remove_items(["新", "nothing"]) == 1
        assert "新" not in engine.recommend([{}], top_n=50).item_ids[0].tolist()


def test_rows_and_table_stay_together_through_many_updates_and_renumbering(fresh):
    engine, world = fresh
    rng, n_added = np.random.default_rng(0), 0
    years = dict(zip(world.item_ids.tolist(), (1980 + np.arange(40)).tolist(), strict=True))
    for turn in range(60):
        ids = np.unique(rng.integers(1, 3000, 120)).tolist()
        new = {int(i): int(rng.integers(1900, 2030)) for i in ids}
        n_added += engine.upsert_items({"item_id": list(new), "year": list(new.values())}).n_added
        years |= new
        gone = rng.choice(list(years), 60 if turn < 40 else 110, replace=False).tolist()
        assert engine.remove_items(gone) == len(gone)
        years = {i: year for i, year in years.items() if i not in set(gone)}
    rows = engine.index.rows_of(np.array(list(years)))
    table = engine.items
    assert table.num_rows < 40 + n_added, "no renumbering happened, so nothing was tested"
    assert table.num_rows == len(engine.index.item_ids)
    assert table.column("item_id").to_numpy()[rows].tolist() == list(years)
    assert table.column("year").to_numpy()[rows].tolist() == list(years.values())
    where = pl.col("year") < 1960
    answer = engine.recommend({"history": [[100, 107]]}, top_n=5000, where=where, stages=1)
    found = answer.item_ids[0, : answer.counts[0]].tolist()
    seen = {100, 107}
    assert set(found) == {i for i, year in years.items() if year < 1960} - seen


def test_answers_under_way_see_all_of_an_update_or_nothing(fresh):
    engine, world = fresh
    request = {"history": [world.item_ids[[3]].tolist()] * 3, "user_id": [None, 5, None]}
    stop, wrong = threading.Event(), []

    def ask():
        while not stop.is_set():
            answer = engine.recommend(request, top_n=60, stages=1)
            ids = answer.item_ids[0, : answer.counts[0]].tolist()
            pair = {900, 901} & set(ids)
            titles = dict(zip(answer.item_ids[0].tolist(), answer.titles[0].tolist(), strict=True))
            if pair not in (set(), {900, 901}) or (pair and titles[900] != "New film"):
                wrong.append(pair)

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(60):
        engine.upsert_items(NEW)
        engine.remove_items([900, 901])
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    ("items", "error", "message"),
    [
        ({"item_id": [1], "yaer": [3]}, DataError, r"unknown column 'yaer'; did you mean 'year'\?"),
        ({"title": ["x"]}, DataError, r"items: got columns \['title'\], expected 'item_id'"),
        ({"item_id": [1, 1]}, DataError, r"item_id 1 is in row 0 and row 1; give it once"),
        ({"item_id": [1, None]}, DataError, r"'item_id' row 1 is missing"),
        ({"item_id": ["a"]}, TypeError, r"'item_id' row 0 is str 'a', expected an integer"),
        (
            {"item_id": [1], "year": ["x"]},
            TypeError,
            r"items: 'year' row 0 is str 'x', expected a number",
        ),
        (
            {"item_id": [1, 2], "year": [None, 1999.5]},
            DataError,
            r"items: column 'year': row 1 is 1999.5, expected a whole number",
        ),
        (
            {"item_id": [1], "genres": ["war"]},
            TypeError,
            r"items: 'genres' row 0 is 'war', expected",
        ),
        (
            {"item_id": [1], "genres": [["\ud800"]]},
            DataError,
            r"items: 'genres' row 0 holds half a",
        ),
        (
            pd.DataFrame({"item_id": [12], "year": [3]}).set_index("item_id"),
            DataError,
            r"items: 'item_id' is the frame's index, expected a column; call frame.reset_index",
        ),
        ({"item_id": 12}, TypeError, r"items: column 'item_id' is the single value 12, expected a"),
        ({"item_id": [1], "year": [1, 2]}, DataError, r"'year' has 2 entries but 'item_id' has 1"),
        ([3], TypeError, r"items: row 0 is int, expected a dict"),
        (3, TypeError, r"items: got int, expected a dict of columns"),
    ],
)
def test_items_that_are_not_as_described_change_nothing(fresh, items, error, message):
    engine, _ = fresh
    with pytest.raises(error, match=message):
        engine.upsert_items(items)
    assert len(engine.index) == 40
    assert engine.upsert_items([]) == engine.upsert_items({"item_id": []}) == (0, 0, 0)


def test_columns_that_are_no_features_are_not_bent_into_shape():
    lists = pa.field("sizes", pa.list_(pa.string()))
    with pytest.raises(DataError, match="items: column 'sizes': row 1 is 'abc', expected a list"):
        _column(lists, [None, "abc"], None)
    times = pa.field("when", pa.timestamp("us"))
    with pytest.raises(DataError, match="'when': row 0 is the number 17, whose unit is not known"):
        _column(times, [17], None)
    noon = datetime.datetime(2024, 5, 1, 12, 0, 0, 5)
    assert _column(times, [noon, None], None).to_pylist() == [noon, None]
    numbers = pa.field("price", pa.float64())
    column = _column(numbers, pl.Series([1.0, float("nan")]), None)
    assert column.to_pylist() == [1.0, None]
    prices = [Decimal("2.5"), None, float("nan")]
    assert _column(numbers, prices, None).to_pylist() == [2.5, None, None]


@pytest.mark.parametrize(
    "kind", [pa.timestamp("us"), pa.timestamp("ms", "Asia/Tokyo"), pa.date32()]
)
def test_times_of_new_items_mean_what_the_feature_takes_them_for(kind):
    field = pa.field("added", kind)
    midnight = datetime.datetime(2024, 5, 1, tzinfo=datetime.UTC)
    values = [midnight.timestamp(), "2024-05-01", midnight, midnight.date(), None]
    column = _column(field, values, FeatureColumn("added", "timestamp", "int64").read(values))
    assert column.type == kind
    expected = pa.array([midnight] * 4 + [None], pa.timestamp("s", "UTC")).cast(kind)
    assert column.to_pylist() == expected.to_pylist()
    days = pl.Series([midnight.replace(tzinfo=None), None])
    assert _column(field, days, None).to_pylist() == expected[3:].to_pylist()


def test_an_index_that_was_changed_directly_is_refused(fresh):
    engine, _ = fresh
    engine.index.remove([100])
    with pytest.raises(ShortlistError, match="its index was changed directly"):
        engine.upsert_items(NEW)


def test_the_report_counts_the_items_of_now(fresh):
    engine, _ = fresh
    engine.upsert_items(NEW)
    assert engine.report()["n_items"] == 42
    assert isinstance(engine.index, shortlist.index.Index)


def test_errors_of_encode_items_name_its_argument(fresh):
    engine, _ = fresh
    with pytest.raises(TypeError, match=r"^table: 'year' row 0 is str 'x', expected a number"):
        engine.encode_items({"item_id": [1], "year": ["x"]})


def test_an_empty_catalogue_answers_nothing_and_fills_again(world):
    with load(world.path) as engine:
        assert engine.remove_items(world.item_ids) == 40
        requests = [{"history": world.item_ids[:2].tolist()}, {}, {"user_id": 5}]
        assert engine.recommend(requests).counts.tolist() == [0, 0, 0]
        engine.upsert_items([{"item_id": 107}, {"item_id": 999, "genres": ["war"]}])
        found = engine.recommend(requests)
        assert found.counts.tolist() == [1, 2, 1]  # 107 is in both histories
        assert found.item_ids[[0, 2], 0].tolist() == [999, 999]


def test_a_feature_may_be_called_like_the_history(tmp_path, monkeypatch):
    extra = make_feature("history_score", "numeric", "float32", [], 3.0, 1.0, side="item")
    monkeypatch.setattr(worlds, "ITEM_FEATURES", [*worlds.ITEM_FEATURES, extra])
    own = make_feature("history_level", "numeric", "float32", [], 3.0, 1.0)
    features = [*worlds.USER_FEATURES, own]
    world = worlds.make_world(tmp_path / "w.shortlist", features=features, with_users=False)
    with load(world.path) as engine:
        assert engine.encode_items({"item_id": [1], "history_score": [2.0]}).shape == (1, 8)
        requests = {"history_level": [2.0, -1.0], "history": [[100, 107, 114], [121]]}
        assert engine.recommend(requests).source.tolist() == ["history", "history"]


def test_skipped_items_are_those_of_the_items_that_are_searched(world, tmp_path, monkeypatch):
    skipped = [int(item_id) for item_id in world.item_ids[:3]]
    with load(world.path) as engine, FeedbackLog(tmp_path / "feedback.log") as log:
        for item_id in skipped:
            log.append(user_id=77, item_id=item_id, kind="skip", timestamp=1_714_564_800)

        def first_of_all(*filters):
            engine.upsert_items([{"item_id": 5000 + i} for i in range(3)])
            return rows_of(*filters)

        monkeypatch.setattr("shortlist._serving.loaded_bundle.rows_of", first_of_all)
        found = engine.recommend(user_ids=[77], top_n=40, feedback=log)
        assert not set(found.item_ids[0].tolist()) & set(skipped)
