"""Sessions of a recurrent bundle: the state is what the whole history would give."""

import numpy as np
import polars as pl
import pytest

import shortlist
from shortlist import DataError, ShortlistError
from shortlist.cli import main

N_ITEMS, N_USERS, LENGTH = 40, 60, 10
SETTINGS = {
    "model.encoder": "gru",
    "model.n_blocks": 2,
    "model.hidden": 12,
    "model.dim": 8,
    "model.history_length": LENGTH,
    "train.epochs": 1,
    "train.batch_size": 64,
}
CLOSE = 2e-6


def train(folder, name, **more):
    users, steps = np.repeat(np.arange(N_USERS), 12), np.tile(np.arange(12), N_USERS)
    events = {
        "user_id": users,
        "item_id": (users + 3 * steps) % N_ITEMS,
        "timestamp": 1_000 + 60 * steps,
        "kind": np.where(steps % 3 == 0, "buy", "click"),
    }
    pl.DataFrame(events).write_csv(folder / "events.csv")
    people = {"user_id": range(N_USERS), "city": ["a" if u % 2 else "b" for u in range(N_USERS)]}
    pl.DataFrame(people).write_csv(folder / "users.csv")
    out = folder / f"{name}.shortlist"
    settings = [f"--set={key}={value}" for key, value in (SETTINGS | more).items()]
    data = ["--data", str(folder / "events.csv"), "--users", str(folder / "users.csv")]
    assert main(["train", *data, *settings, "--quiet", "--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sessions")
    declared = {"data.features.history": '{kind = "history"}'}
    return {
        "gru": train(folder, "gru", **declared),
        "pool": train(folder, "pool", **{"model.encoder": "pool"}),
    }


@pytest.fixture(scope="module")
def engine(bundles):
    with shortlist.load(bundles["gru"]) as loaded:
        yield loaded


def check_same(session, engine, request, top_n=10):
    """What a session answers is what the whole history gives."""
    found, whole = session.recommend(top_n), engine.recommend([request], top_n)
    assert found.scores == pytest.approx(whole.scores, abs=CLOSE)
    gaps = np.diff(whole.scores[0]) < -2 * CLOSE
    if gaps.all():
        assert found.item_ids.tolist() == whole.item_ids.tolist()
    assert found.source.tolist() == whole.source.tolist()
    assert set(found.item_ids[0].tolist()).isdisjoint(request["history"])


def test_every_click_is_answered_as_the_whole_history(engine):
    rng = np.random.default_rng(3)
    for first in ({}, {"city": "a"}, {"history": [3, 6, 9]}, {"city": "b", "history": [1]}):
        session = engine.session(first)
        request = {"history": [], **first}
        for step in range(LENGTH - len(request["history"])):
            item, kind = int(rng.integers(0, N_ITEMS)), ["click", "buy", None][step % 3]
            session.append([item], kind=kind)
            kinds = request.get("history_kinds", [None] * len(request["history"]))
            request["history_kinds"] = [*kinds, kind]
            request["history"] = [*request["history"], item]
            check_same(session, engine, request)
        assert session.report()["way"] == "state"
        assert session.report()["n_steps"] == LENGTH
        assert session.report()["n_restarts"] == 0


def test_times_between_events_count(engine):
    session, items, times = engine.session(), [3, 6, 9, 12, 5], [0, 60, 70, 9_000, 9_001]
    for n, (item, at) in enumerate(zip(items, times, strict=True), start=1):
        session.append([item], kind="click", timestamp=100_000 + at)
        ages = [float(times[n - 1] - time) for time in times[:n]]
        request = {"history": items[:n], "history_ages": ages, "history_kinds": ["click"] * n}
        check_same(session, engine, request)
    slower = engine.session()
    slower.append(items)
    assert not np.array_equal(slower.recommend().scores, session.recommend().scores)


def test_the_state_is_the_same_bits_however_it_was_reached(engine):
    items = [int(item) for item in np.random.default_rng(5).integers(0, N_ITEMS, 300)]
    one, other = engine.session(), engine.session()
    for item in items:
        one.append([item])
        one.recommend(3)
    other.append(items[:7])
    other.recommend(3)
    other.append(items[7:])
    assert one.recommend(10).scores.tobytes() == other.recommend(10).scores.tobytes()
    assert one.report()["n_steps"] == other.report()["n_steps"] == 300


def test_a_stored_user_goes_on(engine):
    session = engine.session({"user_id": 7})
    stored = engine._switch.loaded.stored_user(7)
    first = session.recommend(5)
    whole = engine.recommend(user_ids=[7], top_n=5)
    assert first.scores == pytest.approx(whole.scores, abs=CLOSE)  # with the stored city
    session.append([1])
    request = {"user_id": 7, "history": [*stored[0], 1], "history_kinds": [*stored[1], None]}
    windowed = engine.recommend([request], 5)  # it goes by the last 10 items, a session by all
    found = session.recommend(5)
    assert found.item_ids.shape == windowed.item_ids.shape
    assert set(found.item_ids[0].tolist()).isdisjoint([*stored[0], 1])


def test_what_is_forgotten_or_disliked_starts_the_state_anew(engine):
    session = engine.session({"history": [3, 6, 9, 12]})
    session.recommend()
    session.forget([9])
    found = session.recommend(10)
    whole = engine.recommend([{"history": [3, 6, 12]}], 10, exclude=[9])
    assert found.scores == pytest.approx(whole.scores, abs=CLOSE)
    assert 9 not in found.item_ids
    assert session.history == [3, 6, 12]
    session.append([6], kind="skip")
    assert session.history == [3, 12]
    assert 6 not in session.recommend(40).item_ids
    assert session.report()["n_restarts"] == 2
    session.append([9])
    assert session.history == [3, 12, 9]


def test_filters_and_popular_answers(engine):
    session = engine.session()
    assert session.recommend(3).source.tolist() == ["popular"]
    session.append([999_999])  # nobody knows it
    assert session.recommend(3).source.tolist() == ["popular"]
    session.append([4, 5])
    few = [8, 9, 10, 11]
    assert set(session.recommend(10, allow=few).item_ids[0].tolist()) == {*few, -1}
    assert not set(few) & set(session.recommend(10, exclude=few).item_ids[0].tolist())
    assert session.recommend(40, exclude_seen=False).counts.tolist() == [40]
    assert session.recommend(10, "n_events > 17").counts.tolist()[0] <= 10


def test_a_swap_makes_the_state_anew_and_may_change_the_way(bundles):
    with shortlist.load(bundles["gru"]) as engine:
        session = engine.session({"history": [3, 6]})
        before = session.recommend(5)
        engine.swap(bundles["pool"])
        assert session.report()["way"] == "recompute"
        assert "no session_encoder.onnx" in session.report()["why"]
        pool = session.recommend(5)
        whole = engine.recommend([{"history": [3, 6]}], 5)
        assert pool.scores.tobytes() == whole.scores.tobytes()
        assert pool.version.tolist() == [2]
        engine.swap(bundles["gru"])
        session.append([9])
        check_same(session, engine, {"history": [3, 6, 9]})
        assert session.report()["n_restarts"] == 1
        assert before.version.tolist() == [1]
    with pytest.raises(ShortlistError, match="it is closed"):
        session.recommend()
    with pytest.raises(ShortlistError, match="it is closed"):
        session.append([1])


def test_items_that_change_are_seen_at_once(bundles):
    with shortlist.load(bundles["gru"]) as engine:
        session = engine.session({"history": [3, 6]})
        best = int(session.recommend(1).item_ids[0, 0])
        engine.remove_items([best])
        assert int(session.recommend(1).item_ids[0, 0]) != best
        check_same(session, engine, {"history": [3, 6]})


def test_a_store_keeps_as_many_sessions_as_fit(engine):
    store = engine.sessions(max_bytes=8_000)
    for key in range(60):
        store.get(key, {"history": [3]}).recommend(3)
        store.get(0)
    assert 0 in store
    assert 59 in store
    assert 1 not in store
    assert 10 < len(store) < 40
    assert store.n_bytes <= 8_000
    assert store.get(59).history == [3]
    assert store.drop(59)
    assert not store.drop(59)
    assert store.get(59).history == []


def test_what_a_session_grows_by_is_counted_at_once(engine):
    store = engine.sessions(max_bytes=100_000)
    small = store.get("small")
    small.append([1])
    before, big = store.n_bytes, store.get("big")
    big.append([3] * 20_000)
    assert store.n_bytes >= before + 20_000
    assert "small" in store
    big.append([3] * 50_000)
    assert "small" not in store
    assert "big" in store
    assert small.history == [1]  # whoever holds it may go on
    small.append([2])
    assert len(store) == 1
    assert store.n_bytes >= big.report()["n_bytes"]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda e: e.session([{"history": [1]}]), TypeError, "request: got list, expected one req"),
        (lambda e: e.session({"histori": [1]}), DataError, "unknown column 'histori'"),
        (lambda e: e.session().append(5), TypeError, "item_ids: got 5, expected a list of ids"),
        (lambda e: e.session().append(["a"]), TypeError, "item_ids"),
        (lambda e: e.session().append([5], kind=3), TypeError, "kind: got 3, expected a text"),
        (lambda e: e.session().recommend(0), ValueError, "top_n: got 0"),
        (lambda e: e.sessions(0), ValueError, "max_bytes: got 0"),
        (lambda e: e.sessions().get((1, 2)), TypeError, "key: got (1, 2), expected a text or"),
        (lambda e: e.sessions(10), ShortlistError, "max_bytes: got 10, expected room for one"),
    ],
)
def test_bad_input_is_named(engine, call, error, message):
    with pytest.raises(error) as raised:
        call(engine)
    assert message in str(raised.value)


def test_a_step_takes_no_longer_in_a_long_session(engine):
    session = engine.session()
    session.append([int(i) for i in np.random.default_rng(1).integers(0, N_ITEMS, 3_000)])
    session.recommend(3)
    before = session.report()["n_steps"]
    session.append([5])
    session.recommend(3)
    assert session.report()["n_steps"] == before + 1
