"""Two versions side by side: who answers is a matter of the key; a shadow stays in the dark."""

import gc
import os
import threading
import time
import weakref

import numpy as np
import pytest

import shortlist
from shortlist import BundleError, DataError, ShortlistError
from shortlist._serving.switch import Switch
from shortlist._serving.trial import falls_to_candidate

HISTORY = [100, 107]


@pytest.fixture(scope="module")
def other(make_tiny_bundle, tmp_path_factory):
    """The same items with opposite vectors: no answer of one bundle is one of the other."""
    return make_tiny_bundle(tmp_path_factory.mktemp("other") / "other.shortlist", sign=-1)


@pytest.fixture
def engine(world):
    with shortlist.load(world.path) as loaded:
        yield loaded


def requests_of(n):
    return {"user_id": list(range(n)), "history": [HISTORY] * n}


def wait_for(engine, condition):
    stop = time.monotonic() + 60
    while not condition(engine.report()["trial"]):
        assert time.monotonic() < stop
        time.sleep(0.002)
    return engine.report()["trial"]


def test_each_user_falls_to_one_version_and_gets_its_answer(engine, world, other):
    requests = requests_of(300)
    expected = {}
    for number, path in ((1, world.path), (2, other.path)):
        with shortlist.load(path) as alone:
            expected[number] = alone.recommend(requests, 5)
    engine.start_trial(other.path, 0.3)
    found = engine.recommend(requests, 5)
    wanted = [2 if falls_to_candidate(user, 0.3, "") else 1 for user in range(300)]
    assert found.version.tolist() == wanted
    assert 60 < wanted.count(2) < 120
    for row, number in enumerate(wanted):
        for name in ("item_ids", "scores", "counts", "source", "stages", "titles"):
            one, same = getattr(found, name)[row], getattr(expected[number], name)[row]
            assert np.array_equal(one, same), name
    report = engine.report()["trial"]
    assert (report["n_requests"], report["n_candidate"]) == (300, wanted.count(2))
    assert engine.recommend([{"user_id": wanted.index(2)}]).version.tolist() == [2]


def test_a_larger_share_keeps_the_smaller_ones_users_and_salt_draws_others():
    def chosen(share, salt=""):
        return {key for key in range(2000) if falls_to_candidate(key, share, salt)}

    assert chosen(0.1) < chosen(0.2) < chosen(1.0)
    assert chosen(0.1) != chosen(0.1, "next")
    # Known values: the split is the same in every process, on every machine and release.
    assert sorted(chosen(0.01))[:4] == [12, 171, 186, 259]
    assert falls_to_candidate("5", 0.5, "x") == falls_to_candidate(5, 0.5, "x")


def test_keys_choose_before_user_ids_and_requests_without_either_stay(engine, other):
    engine.start_trial(other.path, 0.5)
    inside = next(k for k in range(99) if falls_to_candidate(k, 0.5, ""))
    outside = next(k for k in range(99) if not falls_to_candidate(k, 0.5, ""))
    requests = {"user_id": [inside, outside, inside, None], "history": [HISTORY] * 4}
    found = engine.recommend(requests, keys=[outside, str(inside), None, None])
    assert found.version.tolist() == [1, 2, 2, 1]
    assert engine.recommend({"history": [HISTORY]}).version.tolist() == [1]
    engine.end_trial()
    engine.start_trial(other.path, 1.0)
    assert engine.recommend({"history": [HISTORY]}).version.tolist() == [3]


def test_lists_of_filters_follow_their_requests(engine, other):
    import pyarrow.compute as pc

    engine.start_trial(other.path, 0.5)
    where = [None if i % 2 else pc.field("year") >= 2000 for i in range(40)]
    found = engine.recommend(requests_of(40), 30, where=where)
    assert set(found.version) == {1, 2}
    years = dict(zip(engine.items["item_id"].to_pylist(), engine.items["year"].to_pylist(),
                     strict=True))  # fmt: skip
    for row in range(0, 40, 2):
        ids = found.item_ids[row, : found.counts[row]].tolist()
        assert ids
        assert all(years[item_id] >= 2000 for item_id in ids)
    with pytest.raises(DataError, match="got 3 expressions for 40 requests"):
        engine.recommend(requests_of(40), where=where[:3])


def test_a_candidate_that_fails_is_replaced_and_counted(engine, world, other, monkeypatch):
    engine.start_trial(other.path, 1.0)

    def fail(*_):
        raise RuntimeError("no luck")

    monkeypatch.setattr(engine._switch.trial.candidate, "answer", fail)
    found = engine.recommend(requests_of(3))
    assert found.version.tolist() == [1, 1, 1]
    report = engine.report()["trial"]
    assert (report["n_candidate"], report["n_errors"]) == (0, 1)
    assert report["last_error"] == "RuntimeError: no luck"


def test_bad_requests_are_the_callers_errors_as_ever(engine, other):
    engine.start_trial(other.path, 1.0)
    with pytest.raises(DataError, match="unknown column 'hist'"):
        engine.recommend({"hist": [HISTORY]})
    with pytest.raises(ValueError, match="top_n: got 0"):
        engine.recommend(requests_of(1), 0)
    assert engine.report()["trial"]["n_errors"] == 0


def test_promoting_puts_the_candidate_in_place_and_ending_keeps_the_present(engine, other):
    engine.start_trial(other.path, 0.5)
    assert engine.end_trial()["version"] == 2
    assert engine.recommend(requests_of(50)).version.tolist() == [1] * 50
    assert engine.report()["trial"] is None
    engine.start_trial(other.path, 0.5)
    engine.end_trial(promote=True)
    assert engine.bundle.path == other.path
    assert engine.recommend(requests_of(50)).version.tolist() == [3] * 50
    assert engine.report()["version"] == 3


def test_a_swap_counts_versions_too_and_waits_for_the_end_of_a_trial(engine, world, other):
    engine.swap(other.path)
    assert engine.recommend(requests_of(2)).version.tolist() == [2, 2]
    engine.start_trial(world.path)
    for call in (engine.swap, engine.start_trial):
        with pytest.raises(ShortlistError, match="trial: one is running; end it first"):
            call(world.path)
    engine.end_trial()
    with pytest.raises(ShortlistError, match="trial: none is running"):
        engine.end_trial()


def test_items_change_in_both(engine, other):
    engine.start_trial(other.path, 1.0)
    engine.upsert_items([{"item_id": 5, "genres": ["war"], "n_events": 3}])
    engine.remove_items([100])
    for version in (engine._switch.loaded, engine._switch.trial.candidate):
        assert 5 in version.state.ids
        assert 100 not in version.state.ids


def test_a_candidate_may_take_other_columns_of_the_same_kinds(
    plain_world, world, text_world, make_tiny_bundle, tmp_path
):
    requests = {"user_id": list(range(40)), "history": [HISTORY] * 40, "age": [30.0] * 40}
    with shortlist.load(plain_world.path) as engine:
        with pytest.raises(DataError, match="unknown column 'age'"):
            engine.recommend(requests)
        engine.start_trial(world.path, 0.5)
        found = engine.recommend(requests)
        assert set(found.version) == {1, 2}
        engine.end_trial()
        with pytest.raises(BundleError, match="item ids are string"):
            engine.start_trial(text_world.path)
        assert engine.report()["trial"] is None


def test_columns_of_another_kind_are_refused(engine, other, monkeypatch):
    from dataclasses import replace

    from shortlist._columns.requests import RequestSchema

    init = RequestSchema.__init__

    def with_other_age(self, id_name, id_dtype, features=(), *rest):
        if id_name == "user_id":
            features = [replace(f, kind="text", dtype="string") if f.name == "city" else f
                        for f in features]  # fmt: skip
        init(self, id_name, id_dtype, features, *rest)

    monkeypatch.setattr(RequestSchema, "__init__", with_other_age)
    with pytest.raises(BundleError, match="'city' as text string, the running bundle as categori"):
        engine.start_trial(other.path)


def test_a_shadow_is_counted_and_never_seen(engine, world, other):
    requests = requests_of(20)
    expected = engine.recommend(requests, 5)
    for path, overlap in ((world.path, 1.0), (other.path, None)):
        engine.start_trial(path, 1.0, shadow=True)
        found = engine.recommend(requests, 5)
        assert found.item_ids.tolist() == expected.item_ids.tolist()
        assert found.version.tolist() == [1] * 20
        report = wait_for(engine, lambda told: told["n_candidate"] == 20)
        report = wait_for(engine, lambda told: told["overlap"] is not None)
        assert report["n_errors"] == report["n_dropped"] == 0
        assert report["overlap"] == overlap if overlap else report["overlap"] < 0.9
        engine.end_trial()
    assert not [t for t in threading.enumerate() if t.name == "shortlist-shadow"]


def test_a_shadow_that_fails_or_is_too_slow_is_counted(engine, other, monkeypatch):
    engine.start_trial(other.path, 1.0, shadow=True)
    may_go_on = threading.Event()

    def fail(*_):
        may_go_on.wait(60)
        raise RuntimeError("in the dark")

    monkeypatch.setattr(engine._switch.trial.candidate, "answer", fail)
    for _ in range(300):
        assert engine.recommend(requests_of(1)).version.tolist() == [1]
    assert engine.report()["trial"]["n_dropped"] >= 300 - 257
    may_go_on.set()
    report = wait_for(engine, lambda told: told["n_errors"] + told["n_dropped"] == 300)
    assert report["last_error"] == "RuntimeError: in the dark"
    assert report["n_candidate"] == 0


def test_a_shadow_reads_the_requests_as_they_were(engine, other, monkeypatch):
    engine.start_trial(other.path, 1.0, shadow=True)
    answer = engine._switch.trial.candidate.answer
    may_go_on, seen = threading.Event(), []

    def record(columns, *rest):
        may_go_on.wait(60)
        seen.append(columns.histories.values.tolist())
        return answer(columns, *rest)

    monkeypatch.setattr(engine._switch.trial.candidate, "answer", record)
    history = np.array(HISTORY)
    engine.recommend({"history": [history]})
    history[:] = 0
    may_go_on.set()
    wait_for(engine, lambda told: told["n_candidate"] == 1)
    assert seen == [HISTORY]


def test_closing_ends_a_trial(world, other):
    engine = shortlist.load(world.path)
    engine.start_trial(other.path, shadow=True)
    engine.close()
    assert not [t for t in threading.enumerate() if t.name == "shortlist-shadow"]
    with pytest.raises(ShortlistError, match="engine: it is closed"):
        engine.start_trial(other.path)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"share": 0}, ValueError, "share: got 0, expected a number above 0 and at most 1"),
        ({"share": 1.5}, ValueError, "share: got 1.5"),
        ({"share": float("nan")}, ValueError, "share: got nan"),
        ({"share": True}, TypeError, "share: got True"),
        ({"share": "10%"}, TypeError, "share: got '10%'"),
        ({"shadow": 1}, TypeError, "shadow: got 1, expected True or False"),
        ({"salt": 3}, TypeError, "salt: got 3, expected a text"),
    ],
)
def test_wrong_arguments_are_refused(engine, other, arguments, error, message):
    with pytest.raises(error, match=message):
        engine.start_trial(other.path, **arguments)
    assert engine.report()["trial"] is None


@pytest.mark.parametrize("in_trial", [False, True])
@pytest.mark.parametrize(
    ("keys", "error", "message"),
    [
        (["a"], DataError, "keys: got 1 keys for 2 requests"),
        ("ab", TypeError, "keys: got 'ab', expected a list of texts or integers"),
        (["a", 1.5], TypeError, "keys: entry 1 is 1.5, expected a text, an integer or None"),
        ([True, "a"], TypeError, "keys: entry 0 is True"),
    ],
)
def test_wrong_keys_are_refused(engine, other, in_trial, keys, error, message):
    if in_trial:
        engine.start_trial(other.path)
    with pytest.raises(error, match=message):
        engine.recommend(requests_of(2), keys=keys)


def test_what_goes_wrong_for_the_caller_is_not_the_candidates_error(engine, world, other):
    import pyarrow.compute as pc

    engine.start_trial(other.path, 1.0)
    with pytest.raises(DataError):
        engine.recommend(requests_of(2), where=pc.field("nope") > 1)
    with pytest.raises(ValueError, match="top_n"):
        engine.recommend(requests_of(2), 10**9)
    assert engine.report()["trial"]["n_errors"] == 0
    found = engine.recommend(requests_of(2), 5, keys=[np.int64(1), np.int64(2)])
    assert found.version.tolist() == [2, 2]


def test_a_call_that_fails_records_nothing_of_either_version(engine, world, other, tmp_path):
    import pyarrow.compute as pc

    users = [next(u for u in range(99) if falls_to_candidate(u, 0.5, "") is theirs)
             for theirs in (True, False)]  # fmt: skip
    engine.start_trial(other.path, 0.5)
    with shortlist.FeedbackLog(tmp_path / "feedback.log") as log:
        with pytest.raises(DataError, match="no user_id"):
            engine.recommend([{"user_id": users[0]}, {"history": [100]}], feedback=log, record=True)
        bad = [None, pc.field("nope") > 1]
        with pytest.raises(DataError):
            engine.recommend(user_ids=users, where=bad, feedback=log, record=True)
        assert len(log) == 0
        shown = engine.recommend(user_ids=users, top_n=3, feedback=log, record=True)
        written = log.read().to_pydict()
    assert shown.version.tolist() == [2, 1]
    assert sorted(written["user_id"]) == sorted(users * 3)
    assert len(set(zip(written["user_id"], written["bundle"], strict=True))) == 2
    assert sorted(written["item_id"]) == sorted(shown.item_ids.ravel().tolist())


def test_an_ended_shadow_leaves_nothing_even_without_the_collector(engine, other):
    gc.collect()
    gc.disable()
    try:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            engine.start_trial(other.path, 1.0, shadow=True)
            engine.recommend(requests_of(3), 5)
            candidate = weakref.ref(engine._switch.trial.candidate)
            engine.end_trial()
            assert candidate() is None
        assert len(os.listdir("/proc/self/fd")) == before
    finally:
        gc.enable()


def test_one_request_of_several_may_fall_to_the_candidate(engine, other):
    requests = {"user_id": [0, 1, 2], "history": [HISTORY[:1], HISTORY, HISTORY[1:]]}
    shares = set()
    for share in np.linspace(0.1, 0.9, 9):
        engine.start_trial(other.path, share)
        shares.add(int((engine.recommend(requests).version > 1).sum()))
        engine.end_trial()
    assert 1 in shares


def test_a_shadow_ends_where_the_engine_closes_while_the_trial_starts(world, other, monkeypatch):
    engine = shortlist.load(world.path)
    load = Switch._load

    def load_and_close(self, *args):
        loaded = load(self, *args)
        self.is_closed = True
        return loaded

    monkeypatch.setattr(Switch, "_load", load_and_close)
    with pytest.raises(ShortlistError, match="closed"):
        engine.start_trial(other.path, 1.0, shadow=True)
    assert not [t for t in threading.enumerate() if t.name == "shortlist-shadow"]
