"""Sessions of the C ABI: Python's lists, a store that keeps its cap, and what is refused."""

import threading

import numpy as np
import pytest
from c_engine import CEngine, column, filter_of, lists, requests_of
from c_library import INVALID_ARGUMENT, CError

import shortlist


def history(*values):
    return lists("history", [list(values)], np.int64)


def check_same(found, expected):
    assert found.scores.tobytes() == expected.scores.tobytes()
    assert found.item_ids.tolist() == expected.item_ids.tolist()
    assert found.counts.tolist() == expected.counts.tolist()


def test_every_event_is_answered_as_python_answers_it(bundle):
    with CEngine(bundle.path) as engine, shortlist.load(bundle.path) as python:
        request = {"user_id": next(iter(bundle.users)), "age": 31.0}
        one = engine.session([column("user_id", [request["user_id"]]),
                              column("age", np.array([31.0], np.float32))])  # fmt: skip
        other = python.session(request)
        check_same(one.recommend(7), other.recommend(7))
        for item in bundle.item_ids[[3, 8, 20, 3]].tolist():
            one.append([item], "view", 1_000)
            other.append([item], "view", 1_000)
            check_same(one.recommend(7), other.recommend(7))
        few = bundle.item_ids[10:20].tolist()
        for session in (one, other):
            session.forget(bundle.item_ids[[8, 21]].tolist())
            session.append(bundle.item_ids[[4]].tolist(), "skip")
        given = {"stages": 1}
        check_same(one.recommend(12, filter=filter_of(allow=few), **given),
                   other.recommend(12, allow=few, **given))  # fmt: skip
        check_same(one.recommend(40, True), other.recommend(40, exclude_seen=False))
        report, said = one.report(), other.report()
        assert report.why.decode() == said["why"]
        assert report.n_items == said["n_items"]
        one.close()


def test_text_ids(text_bundle):
    ids = text_bundle.item_ids.tolist()
    with CEngine(text_bundle.path) as engine, shortlist.load(text_bundle.path) as python:
        one, other = engine.session(), python.session()
        for session in (one, other):
            session.append(ids[:3])
            session.append(["strange"])
            session.forget(ids[1:2])
        check_same(one.recommend(40), other.recommend(40))
        assert other.history == [ids[0], ids[2], "strange"]
        one.close()


def test_a_store_keeps_its_cap_whatever_sessions_grow_by(bundle):
    ids = bundle.item_ids.tolist()
    with CEngine(bundle.path) as engine:
        store = engine.sessions(6_000)
        for user in range(50):
            session = store.get(f"user {user}", [history(ids[0])])
            session.append([ids[user % 40]])
            session.close()
            assert store.report().n_bytes <= 6_000
        info = store.report()
        assert 10 < info.n_sessions < 50
        assert info.max_bytes == 6_000
        assert store.drop("user 49") == 1
        assert store.drop("user 49") == 0
        held = store.get("user 48")
        assert held.report().n_items == 2
        held.append(ids * 100)
        assert store.report().n_sessions == 1
        store.close()
        held.append(ids[:1])
        assert held.report().n_items == 4_003
        held.close()


def test_a_swap_is_seen_and_a_closed_engine_is_an_error(bundle, other):
    engine = CEngine(bundle.path)
    session, store = engine.session([history(100, 107)]), engine.sessions(1 << 20)
    before = session.recommend(5)
    engine.swap(other.path)
    after = session.recommend(5)
    expected = engine.recommend([history(100, 107)], 1, 5)
    check_same(after, expected)
    assert after.item_ids.tolist() != before.item_ids.tolist()
    engine.close()
    for ask, name in ((session.recommend, "session"), (session.report, "session"),
                      (lambda: session.append([100]), "session"),
                      (lambda: store.get("a"), "store")):  # fmt: skip
        with pytest.raises(CError, match=f"{name}: its engine is closed; expected one that") as why:
            ask()
        assert why.value.status == INVALID_ARGUMENT
    session.close()
    store.close()


def test_threads_take_turns(bundle):
    ids = bundle.item_ids.tolist()
    with CEngine(bundle.path) as engine:
        store = engine.sessions(1 << 20)
        barrier = threading.Barrier(4)

        def click(user):
            barrier.wait()
            for i in range(100):
                session = store.get("one")
                session.append([ids[(i + user) % 40]])
                if i % 10 == 0:
                    session.recommend(3)
                session.close()

        threads = [threading.Thread(target=click, args=(user,)) for user in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        session = store.get("one")
        assert session.report().n_items == 400
        session.close()
        store.close()


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda e: e.sessions(100), "max_bytes: got 100; expected room for one session, at least"),
        (lambda e: e.session([column("age", np.array([1.0, 2.0], np.float32)),
                              column("strange", [1])]), "name: got 'strange'"),
        (lambda e: e.session([history(100), lists("history_ages", [[1.0]], np.float32)]),
         "name: got 'history_ages'"),
        (lambda e: e.session().append(["a"]), "item_ids: got texts"),
        (lambda e: e.session().ask(requests_of([history(1)], 1, 3)),
         "requests: got 1 requests, 1 columns and no skipped items; expected one request without"),
        (lambda e: e.session().ask(requests_of([], 2, 3)), "requests: got 2 requests"),
        (lambda e: e.session().recommend(0), "top_n: got 0"),
        (lambda e: e.sessions(9_999).get("k" * 70_000), "key: got 70000 bytes; expected at most"),
    ],
)  # fmt: skip
def test_bad_input_is_named(bundle, ask, message):
    with CEngine(bundle.path) as engine, pytest.raises(CError, match=message) as why:
        ask(engine)
    assert why.value.status == INVALID_ARGUMENT
