"""What users did counts in their next answers, and what they are shown can be recorded."""

import time

import numpy as np
import pytest

import shortlist
from shortlist import DataError, FeedbackLog
from shortlist._columns.ragged import Ragged
from shortlist._columns.requests import Columns, RequestSchema
from shortlist.feedback.acts import Acts, Dislikes, with_acts

NOON = 1_714_564_800


@pytest.fixture
def log(tmp_path):
    with FeedbackLog(tmp_path / "feedback.log") as opened:
        yield opened


def do(log, user_id, *acts, kind="click"):
    """Append (item_id[, kind]) in order, a second apart, after what the log has."""
    start = NOON + len(log)
    for second, act in enumerate(acts):
        item, what = act if isinstance(act, tuple) else (act, kind)
        log.append(user_id=user_id, item_id=item, kind=what, timestamp=start + second)


def ids_of(world):
    return world.item_ids.tolist()


@pytest.mark.parametrize("which", ["world", "text_world"])
@pytest.mark.parametrize("stages", [1, 2])
def test_events_of_the_log_follow_the_stored_history(log, which, stages, request):
    world = request.getfixturevalue(which)
    items, users = ids_of(world), list(world.users)
    do(log, users[0], items[20], items[21])
    do(log, "nobody" if which == "text_world" else 77, items[30])
    with shortlist.load(world.path) as engine:
        asked = [users[0], users[1], "x" if which == "text_world" else 123]
        found = engine.recommend(user_ids=asked, feedback=log, stages=stages)
        whole = [items[row] for row in world.users[users[0]]] + [items[20], items[21]]
        expected = engine.recommend(
            [{"user_id": users[0], "history": whole}, {"user_id": users[1]}, {}], stages=stages
        )
        new = engine.recommend(user_ids=[77 if which == "world" else "nobody"], feedback=log)
    assert found.item_ids.tolist() == expected.item_ids.tolist()
    np.testing.assert_array_equal(found.scores, expected.scores)
    assert found.source.tolist() == ["history", "stored history", "popular"]
    assert new.source.tolist() == ["history"]


def test_an_item_of_both_histories_is_kept_where_the_log_has_it(log, engine, world):
    items = ids_of(world)
    do(log, 9, items[4], items[20])  # stored: 3, 4, 5, 6
    asked = [{"user_id": 9}, {"user_id": 9, "history": [items[20], items[8]]}]
    found = engine.recommend(asked, feedback=log)
    expected = engine.recommend(
        [
            {"user_id": 9, "history": [items[row] for row in (3, 5, 6, 4, 20)]},
            {"user_id": 9, "history": [items[row] for row in (8, 4, 20)]},
        ]
    )
    assert found.item_ids.tolist() == expected.item_ids.tolist()


def test_time_orders_the_log_not_the_order_of_writing(log, engine, world):
    items = ids_of(world)
    for row, seconds in ((20, 50), (21, 10), (22, 30)):
        log.append(user_id=1, item_id=items[row], kind="view", timestamp=NOON + seconds)
    found = engine.recommend(user_ids=[1], feedback=log)
    expected = engine.recommend([{"history": [items[row] for row in (21, 22, 20)]}])
    assert found.item_ids.tolist() == expected.item_ids.tolist()


def test_each_answer_leaves_out_what_has_been_done_by_then(log, engine, world):
    for _ in range(world.item_ids.size):
        found = engine.recommend(user_ids=[5], top_n=1, feedback=log)
        if not found.counts[0]:
            break
        do(log, 5, found.item_ids[0, 0].item())
    done = log.read().column("item_id").to_pylist()
    assert len(done) == len(set(done)) == world.item_ids.size - len(world.users[5])
    again = engine.recommend(user_ids=[5], feedback=log, exclude_seen=False, top_n=40)
    assert again.counts.tolist() == [40]


def test_unknown_items_of_the_log_are_harmless(log, engine, world):
    do(log, 1, 999_999, world.item_ids[3].item(), 888_888, (777_777, "skip"))
    do(log, 2, 999_999)
    found = engine.recommend(user_ids=[1, 2], feedback=log)
    expected = engine.recommend([{"history": [world.item_ids[3].item()]}, {}])
    assert found.item_ids.tolist() == expected.item_ids.tolist()
    assert found.source.tolist() == ["history", "popular"]


def test_what_was_shown_is_not_seen(log, engine):
    first = engine.recommend(user_ids=[5], feedback=log, record=True)
    again = engine.recommend(user_ids=[5], feedback=log)
    assert first.item_ids.tolist() == again.item_ids.tolist()
    assert len(log) == 10


@pytest.mark.parametrize("stages", [1, 2])
def test_a_skipped_item_goes_down_and_takes_its_like_with_it(log, engine, world, stages):
    asked = {"user_ids": [5], "top_n": 40, "exclude_seen": False, "stages": stages}
    before = engine.recommend(**asked, feedback=log)
    skipped = before.item_ids[0, 6].item()
    do(log, 5, (skipped, "skip"))
    after = engine.recommend(**asked, feedback=log)
    assert after.item_ids.tolist() != before.item_ids.tolist()
    vectors = dict(zip(ids_of(world), world.vectors, strict=True))
    unit = vectors[skipped] / np.linalg.norm(vectors[skipped])
    cosines = {i: vectors[i] @ unit / np.linalg.norm(vectors[i]) for i in ids_of(world)}
    if stages == 1:
        place = after.item_ids[0].tolist().index(skipped)
        assert place > before.item_ids[0].tolist().index(skipped)
        top = [np.mean([cosines[i] for i in r.item_ids[0, :10].tolist()]) for r in (before, after)]
        assert top[1] < top[0]
    gone = engine.recommend(user_ids=[5], top_n=40, feedback=log)
    assert skipped not in gone.item_ids[0].tolist()


def test_the_push_is_the_documented_one(log, engine, world):
    items, rows = ids_of(world), [0, 1, 2]  # stored history of user 5
    do(log, 5, (items[30], "skip"), (items[31], "skip"))
    query = engine.encode_users([{"user_id": 5}])[0].astype(np.float64)
    unit = world.vectors / np.linalg.norm(world.vectors, axis=1, keepdims=True)
    query = query - 0.1 * np.linalg.norm(query) * unit[[30, 31]].astype(np.float64).mean(0)
    scores = unit @ query / np.linalg.norm(query)
    scores[[*rows, 30, 31]] = -np.inf
    found = engine.recommend(user_ids=[5], feedback=log, stages=1)
    assert found.indices[0].tolist() == np.argsort(-scores)[:10].tolist()
    np.testing.assert_allclose(found.scores[0], np.sort(scores)[::-1][:10], rtol=1e-5)


def test_the_newest_event_of_an_item_decides(log, engine, world):
    items = ids_of(world)
    do(log, 1, (items[3], "click"), items[8], (items[3], "skip"))
    do(log, 2, (items[3], "skip"), items[8], (items[3], "click"))
    do(log, 9, *[(items[row], "skip") for row in world.users[9]])
    found = engine.recommend(user_ids=[1, 2, 9], feedback=log, top_n=40)
    other = engine.recommend([{"history": [items[8]]}, {"history": [items[8], items[3]]}], top_n=40)
    assert found.item_ids[1].tolist() == other.item_ids[1].tolist()
    assert items[3] not in found.item_ids[0].tolist()
    assert found.counts.tolist() == [38, 38, 36]
    assert found.source.tolist() == ["history", "history", "features"]


@pytest.mark.parametrize("n", [1, 3])
def test_skips_alone_are_excluded_from_popular_answers(log, engine, n):
    before = engine.recommend([{}])
    do(log, 1, (before.item_ids[0, 0].item(), "skip"))
    found = engine.recommend(user_ids=[1] * n, feedback=log, top_n=9)
    assert found.item_ids.tolist() == [before.item_ids[0, 1:].tolist()] * n
    assert set(found.source) == {"popular"}


def test_items_that_came_later_are_excluded_and_pushed(log, make_tiny_bundle, tmp_path):
    world = make_tiny_bundle(tmp_path / "a.shortlist")
    with shortlist.load(world.path) as engine:
        engine.upsert_items({"item_id": [9001, 9002], "genres": [["war"], ["drama"]]})
        do(log, 5, 9001, (9002, "skip"))
        found = engine.recommend(user_ids=[5], top_n=50, feedback=log)
        assert not {9001, 9002} & set(found.item_ids[0].tolist())
        assert found.counts[0] == 37
        near = engine.recommend(user_ids=[5], top_n=50, feedback=log, exclude_seen=False, stages=1)
        plain = engine.recommend([{"user_id": 5}], top_n=50, exclude_seen=False, stages=1)
    places = [r.item_ids[0].tolist().index(9002) for r in (plain, near)]
    assert places[1] >= places[0]


def test_kinds_and_ages_come_with_the_items():
    acts = Acts([7, 8, 9], ["click", "skip", "rating"], [90, 95, 120], [None, None, 1.0])
    columns = Columns(
        2,
        np.array([1, 2]),
        Ragged(np.array([5, 8, 5]), np.array([0, 2, 3])),
        {"history_ages": Ragged(np.array([60, 50, np.nan], np.float32), np.array([0, 2, 3]))},
    )
    dislikes = Dislikes.of_settings({"negative_below": 2.0})

    class Nobody:
        schema = RequestSchema("user_id", "int64", (), "int64", ("history_kinds", "history_ages"))
        stored_user = staticmethod(lambda user_id: None)
        knows = staticmethod(lambda item_ids: np.ones(len(item_ids), bool))

    joined = with_acts(columns, [acts, None], Nobody, dislikes, np.full(2, 100))
    assert [h.tolist() for h in joined.histories.lists()] == [[5, 7], [5]]
    assert [s.tolist() for s in joined.skipped.lists()] == [[8, 9], []]
    assert [k.tolist() for k in joined.events["history_kinds"].lists()] == [["", "click"], [""]]
    assert joined.events["history_ages"].lists()[0].tolist() == [60, 10]
    assert Dislikes.of_settings({}) == ({"skip"}, -np.inf)


def test_the_kinds_that_training_took_for_dislike_are_skips():
    settings = {"negative_kinds": ["hide"], "negative_below": None}
    assert Dislikes.of_settings(settings).kinds == {"skip", "hide"}


def test_what_is_recorded_is_what_came_back(log, engine, world):
    explore = shortlist.Softmax(0.5, n_candidates=20, seed=1)
    shown = engine.recommend(
        user_ids=[5, 9], top_n=3, feedback=log, explore=explore, record=True, now=NOON
    )
    engine.recommend(user_ids=[5], top_n=2, feedback=log, record=True)
    told = log.read().to_pydict()
    assert told["user_id"] == [5, 5, 5, 9, 9, 9, 5, 5]
    assert told["item_id"][:6] == shown.item_ids.ravel().tolist()
    assert told["rank"] == [1, 2, 3, 1, 2, 3, 1, 2]
    assert told["score"][:6] == shown.scores.ravel().tolist()
    assert told["propensity"] == [*shown.propensities.ravel().tolist(), None, None]
    assert set(told["bundle"]) == {"tiny 2026-01-01T00:00:00+00:00"} == {engine.bundle.version}
    assert told["timestamp"][:6] == [NOON] * 6
    assert abs(told["timestamp"][6] - time.time()) < 60


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({}, TypeError, "requests, user_ids: got neither, expected one of them"),
        ({"requests": [{}], "user_ids": [5]}, TypeError, "requests, user_ids: got both"),
        ({"user_ids": ["a"]}, TypeError, "'user_id' row 0 is str 'a', expected an integer"),
        ({"user_ids": [5], "feedback": "x.log"}, TypeError, "feedback: got str, expected a Feedba"),
        ({"user_ids": [5], "explore": 0.1}, TypeError, "explore: got float, expected shortlist.Ep"),
        ({"user_ids": [5], "record": 1}, TypeError, "record: got 1, expected True or False"),
        ({"user_ids": [5], "record": True}, TypeError, "record: got True without a log"),
        ({"user_ids": [5], "now": "noon"}, DataError, "'now' row 0 is 'noon', expected ISO 8601"),
        ({"user_ids": [5], "now": float("nan")}, DataError, "now: got nan, expected a time"),
    ],
)
def test_wrong_options_are_refused(engine, asked, error, message):
    with pytest.raises(error, match=message):
        engine.recommend(**asked)


def test_answers_to_nobody_are_not_recorded(engine, log):
    for requests in ([{}], [{"user_id": 5}, {"history": [100]}]):
        with pytest.raises(DataError, match="record: a request has no user_id"):
            engine.recommend(requests, feedback=log, record=True)
    assert len(log) == 0


def test_a_log_of_other_ids_is_refused(engine, text_engine, log):
    do(log, 5, 100)
    with pytest.raises(DataError, match="feedback: its user_id is int64, but this bundle's is str"):
        text_engine.recommend(user_ids=["a"], feedback=log)
    assert engine.recommend(user_ids=[None, 5], feedback=log).source[0] == "popular"


def test_readers_do_not_wait_for_a_writer(log, engine):
    do(log, 5, 100)
    with log._store._writing() as connection:
        connection.execute("DELETE FROM events")
        assert len(log) == 1
        assert engine.recommend(user_ids=[5], feedback=log).source[0] == "history"


def test_a_trial_joins_explores_and_records_by_version(log, make_tiny_bundle, tmp_path):
    world = make_tiny_bundle(tmp_path / "a.shortlist")
    other = make_tiny_bundle(tmp_path / "b.shortlist", sign=-1)
    users = list(range(40))
    for user in users:
        do(log, user, world.item_ids[20].item())
    asked = {"user_ids": users, "feedback": log, "record": True, "now": NOON + 1000}
    with shortlist.load(world.path) as engine, shortlist.load(other.path) as second:
        expected = [e.recommend(user_ids=users, feedback=log) for e in (engine, second)]
        engine.start_trial(other.path, share=0.5)
        mixed = engine.recommend(**asked, explore=shortlist.Epsilon(0.0))
        engine.end_trial()
        for row, version in enumerate((mixed.version - 1).tolist()):
            wanted = expected[version].item_ids[row].tolist()
            assert mixed.item_ids[row].tolist() == wanted
            assert world.item_ids[20] not in wanted
        told = log.read(since=NOON + 1000)
        names = dict(zip(*(told.column(n).to_pylist() for n in ("user_id", "bundle")), strict=True))
        assert [names[user][0] for user in users] == ["ab"[v - 1] for v in mixed.version.tolist()]
        assert set(mixed.version) == {1, 2}
        assert mixed.propensities.shape == (40, 10)
        engine.start_trial(other.path, share=1.0, shadow=True)
        engine.recommend(**asked)
        for _ in range(200):
            if engine.report()["trial"]["n_candidate"] == 40:
                break
            time.sleep(0.05)
        assert engine.report()["trial"]["n_errors"] == 0
        engine.end_trial()
    assert len(log) == 40 + 400 + 400


def test_requests_of_one_call_keep_what_the_log_says_of_each(log, engine, world):
    for user in range(30):
        do(log, user, world.item_ids[user].item(), (world.item_ids[39 - user].item(), "skip"))
    users = list(range(0, 60, 7))
    whole = engine.recommend(user_ids=users, feedback=log, now=NOON, stages=1)
    for row, user in enumerate(users):
        alone = engine.recommend(user_ids=[user], feedback=log, now=NOON, stages=1)
        assert whole.item_ids[row].tolist() == alone.item_ids[0].tolist()
        assert whole.source[row] == alone.source[0]
