"""`exclude=` and `allow=` by ids, and `exclude_seen=` by kinds of events."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from worlds import STORED_ROWS, ids_of

import shortlist
from shortlist import DataError, FeedbackLog
from shortlist._core import max_batch

ALL = set(range(40))


def rows_of(engine, requests, n=None, **options):
    """Item rows that come back for each request."""
    answer = engine.recommend(requests, top_n=40, **options)
    return [set(one.tolist()) - {-1} for one in answer.indices]


def test_ids_for_all_requests_or_for_each_are_excluded_or_all_that_is_allowed(engine, world):
    ids, two = world.item_ids.tolist(), [{}, {"city": "Köln"}]
    assert rows_of(engine, two, exclude=ids[:3]) == [ALL - {0, 1, 2}] * 2
    assert rows_of(engine, two, exclude=[ids[:3], None]) == [ALL - {0, 1, 2}, ALL]
    assert rows_of(engine, two, allow=ids[:3]) == [{0, 1, 2}] * 2
    assert rows_of(engine, two, allow=[ids[:3], []]) == [{0, 1, 2}, set()]
    assert rows_of(engine, two, allow=[]) == [set(), set()]
    assert rows_of(engine, two, exclude=[], allow={ids[5], 3}) == [{5}] * 2
    assert rows_of(engine, two, allow=ids[:3], exclude=[[ids[1], 3], []]) == [{0, 2}, {0, 1, 2}]
    assert rows_of(engine, two, allow=[ids[:3], ids[2:5]], exclude=[ids[2]]) == [{0, 1}, {3, 4}]
    both = {"where": pc.field("year") < 1990, "exclude": ids[:5], "exclude_seen": False}
    assert rows_of(engine, [*two, {"user_id": 5}], **both) == [set(range(5, 10))] * 3
    assert rows_of(engine, two, where=[None, pc.field("year") < 1983], exclude=ids[:2]) == [
        ALL - {0, 1},
        {2},
    ]
    each = [pc.field("year") < 1983, None]
    assert rows_of(engine, two, where=each, allow=[ids[2:5], ids[2:5]]) == [{2}, {2, 3, 4}]


@pytest.mark.parametrize("shape", [np.array, set, tuple, pd.Series, pl.Series, pa.array])
def test_ids_for_all_come_in_any_collection(engine, world, shape):
    ids = [int(world.item_ids[3]), 1]
    assert rows_of(engine, [{}], exclude=shape(ids)) == [ALL - {3}]


def test_lists_of_ids_follow_their_requests_over_batches(engine, world):
    n = max_batch + 3
    exclude = [[int(world.item_ids[i % 40])] for i in range(n)]
    found = rows_of(engine, [{}] * n, exclude=exclude)
    assert found == [ALL - {i % 40} for i in range(n)]
    values, splits = np.concatenate(exclude), np.arange(n + 1)
    assert rows_of(engine, [{}] * n, exclude=(values, splits)) == found


def test_text_ids_are_filtered_too(text_engine, text_world):
    ids = text_world.item_ids.tolist()
    assert rows_of(text_engine, [{}], exclude=ids[:2]) == [ALL - {0, 1}]
    assert rows_of(text_engine, [{}, {}], allow=[ids[:2], [ids[3], "nothing"]]) == [{0, 1}, {3}]
    assert rows_of(text_engine, [{}, {}], allow=[[], []]) == [set(), set()]
    bought = [{"history": ids[4:6], "history_kinds": ["view", "purchase"]}]
    for exclude, left in (([[]], {5}), ([None], {5}), ([ids[:1]], {0, 5}), (ids[:1], {0, 5})):
        found = rows_of(text_engine, bought, exclude=exclude, exclude_seen=("purchase",))
        assert found == [ALL - left]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"allow": 50}, TypeError, "allow: got int; expected a list with one"),
        ({"exclude": 50}, TypeError, "exclude: got int; expected a list with one"),
        ({"exclude": ["x"]}, TypeError, "exclude: got str; the item ids of this index are int64"),
        (
            {"allow": [[1], None]},
            TypeError,
            r"allow\[1\]: got None, expected a list of ids; \[\] a",
        ),
        ({"allow": [[1]]}, ValueError, "allow: got 1 lists; expected one per request"),
        ({"allow": [1.5]}, TypeError, "allow: got float 1.5 at position 0"),
        ({"exclude_seen": ()}, TypeError, r"exclude_seen: got \(\), expected True, False, or kind"),
        ({"exclude_seen": "view"}, TypeError, r"exclude_seen: .*; for one kind: \('view',\)"),
        ({"exclude_seen": [1]}, TypeError, r"exclude_seen: got \[1\], expected True, False"),
        (
            {"exclude_seen": ("view",)},
            DataError,
            r"exclude_seen: got kinds \['view'\], but no kind",
        ),
    ],
)
def test_what_is_no_filter_is_named(engine, options, error, message):
    with pytest.raises(error, match=message):
        engine.recommend([{}, {}], **options)


def test_filters_go_with_their_requests_in_a_trial(world, engine):
    ids = world.item_ids.tolist()
    requests = [{"user_id": user} for user in range(60)]
    exclude = [[ids[i % 40]] for i in range(60)]
    with shortlist.load(world.path) as tried:
        tried.start_trial(world.path, share=0.5)
        answer = tried.recommend(requests, 40, False, exclude=exclude)
        assert set(answer.version.tolist()) == {1, 2}
    np.testing.assert_array_equal(
        answer.item_ids, engine.recommend(requests, 40, False, exclude=exclude).item_ids
    )


@pytest.fixture(scope="module")
def kinds_world(make_tiny_bundle, tmp_path_factory):
    """User 5 has viewed, bought and viewed items 0 to 2; of user 9's events no kind is stored."""
    path = tmp_path_factory.mktemp("kinds") / "tiny.shortlist"
    ids = ids_of(100 + 7 * np.arange(40), "int64")
    stored = pa.table(
        {
            "user_id": [5, 9],
            "history": [[ids[row] for row in STORED_ROWS[user]] for user in (5, 9)],
            "history_kinds": [["view", "purchase", "view"], ["", "view", "purchase", "purchase"]],
            "history_times": [[1, 2, 3], [1, 2, 3, 4]],
        }
    )
    return make_tiny_bundle(path, features=[], stored=stored, has_events=True)


def test_items_of_some_kinds_stay_out_and_others_come_back(kinds_world):
    ids = kinds_world.item_ids.tolist()
    own = {"history": ids[10:13], "history_kinds": ["view", "purchase", None]}
    requests = [{"user_id": 5}, {"user_id": 9}, own, {**own, "user_id": 5}, {}]
    with shortlist.load(kinds_world.path) as engine:
        found = rows_of(engine, requests, exclude_seen=("purchase",))
        assert found == [ALL - {1}, ALL - {3, 5, 6}, ALL - {11, 12}, ALL - {1, 11, 12}, ALL]
        found = rows_of(engine, requests[:1], exclude_seen={"purchase", "view"})
        assert found == rows_of(engine, requests[:1])
        found = rows_of(engine, requests[:1], exclude_seen=["purchase"], exclude=[[ids[7]]])
        assert found == [ALL - {1, 7}]


def test_kinds_of_the_log_and_of_requests_count_where_the_bundle_has_none(engine, world, tmp_path):
    ids = world.item_ids.tolist()
    own = {"history": ids[10:12], "history_kinds": ["view", "purchase"]}
    assert rows_of(engine, [own], exclude_seen=("purchase",)) == [ALL - {11}]
    with pytest.raises(DataError, match="unknown column 'history_kinds'"):
        engine.recommend([own])
    with FeedbackLog(tmp_path / "log") as log:
        log.append_many(
            {"user_id": [77] * 4, "item_id": [ids[row] for row in (20, 21, 22, 20)],
             "kind": ["view", "purchase", "skip", "purchase"], "timestamp": [1, 2, 3, 4]}
        )  # fmt: skip
        requests = [{"user_id": 77}, {"user_id": 5}, {}]
        found = rows_of(engine, requests, exclude_seen=("purchase",), feedback=log)
        # Of user 5's stored events no kind is known.
        assert found == [ALL - {20, 21, 22}, ALL - {0, 1, 2}, ALL]
        shown = engine.recommend(
            user_ids=[77], exclude_seen=("purchase",), feedback=log, record=True,
            explore=shortlist.Epsilon(0.5, seed=1),
        )  # fmt: skip
        assert shown.propensities is not None
        assert log.read().column("propensity").null_count == len(log)  # cannot be asked again


@pytest.mark.parametrize("n_ids", [0, 1, 2, 3])
@pytest.mark.parametrize("name", ["exclude", "allow"])
@pytest.mark.parametrize("in_trial", [False, True])
def test_a_recorded_call_takes_filters(world, tmp_path, n_ids, name, in_trial):
    ids = world.item_ids.tolist()[:n_ids]
    with (
        shortlist.load(world.path, n_threads=1) as engine,
        FeedbackLog(tmp_path / "feedback.log") as log,
    ):
        if in_trial:
            engine.start_trial(world.path, share=0.5)
        answer = engine.recommend(
            user_ids=[5, 9], top_n=40, feedback=log, record=True, **{name: ids}
        )
        assert log.read().num_rows == answer.counts.sum()
        shown = {item for one in answer for item in one.item_ids.tolist()}
        assert shown <= set(ids) if name == "allow" else not shown & set(ids)


def test_ids_for_many_requests_are_excluded_by_a_mask_as_one_by_one(engine, world):
    ids = world.item_ids.tolist()[:3]
    assert rows_of(engine, [{}] * 600, exclude=ids) == [ALL - {0, 1, 2}] * 600


def test_wrong_choices_are_named(engine):
    with pytest.raises(ValueError, match=r"unknown: got array\(\[1, 2\]\), expected 'ignore'"):
        engine.recommend([{}], unknown=np.array([1, 2]))
    with pytest.raises(TypeError, match=r"exclude_seen: got \[\['buy'\]\], expected True, False"):
        engine.recommend([{}], exclude_seen=[["buy"]])
    with pytest.raises(ValueError, match="exclude: got 2 lists; expected one per request, 1 in al"):
        engine.recommend([{}], exclude=[[1], [2]])
