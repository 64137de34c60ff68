"""Micro-batching: the answers of single calls, whoever they shared a run with.

Who shares with whom and when is tested without an engine in tests/cpp/test_batcher.cpp.
"""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest

import shortlist
from shortlist import FeedbackLog
from shortlist.errors import DataError, ShortlistError

NAMES = ("item_ids", "counts", "source", "stages", "indices", "titles", "version")


def slow_request():
    """A history and tags so long that they take about a second: what else comes waits."""
    return {"history": [np.full(2**24, 100)], "tags": [np.full(2**22, "b", object)]}


def check_same(found, expected):
    """Equal, but for the rounding of the graphs: a batch pads histories to the longest."""
    for name in NAMES:
        assert getattr(found, name).tolist() == getattr(expected, name).tolist(), name
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-6)


def different_requests(world, n):
    """Requests that give different columns, all of one batch."""
    rng = np.random.default_rng(2)
    columns = [
        {"city": "Köln"},
        {"tags": ["a", "b"]},
        {"tags": ["b"], "age": 33.0},
        {"user_id": next(iter(world.users))},
        {"level": 2},
        {},
    ]
    return [
        ({} if i % 4 == 0 else {"history": rng.choice(world.item_ids, i % 9).tolist()})
        | columns[i % len(columns)]
        for i in range(n)
    ]


@pytest.fixture
def one_core():
    """As on a machine of one core: one batch runs at a time."""
    before = shortlist.get_num_threads()
    shortlist.set_num_threads(1)
    yield
    shortlist.set_num_threads(before)


@pytest.fixture
def busy(world, one_core):
    """An engine that runs one batch at a time, and lets others wait long for it."""
    with shortlist.load(world.path, max_batch=8, max_wait_us=1_000_000) as engine:
        yield engine


def wait_until(condition):
    stop = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < stop
        time.sleep(0.001)


def batches(engine):
    return engine.report()["batching"]["n_batches"]


@contextmanager
def held(engine, calls):
    """Hold the engine with one slow call until all others wait; gives their futures."""
    core = engine._switch.loaded.core
    before, inside = batches(engine), core.n_inside
    with ThreadPoolExecutor(len(calls) + 1) as pool:
        slow = pool.submit(engine.recommend, slow_request(), 40)
        wait_until(lambda: batches(engine) == before + 1)
        futures = [pool.submit(call) for call in calls]
        wait_until(lambda: core.n_inside == inside + 1 + len(calls) or slow.done())
        assert batches(engine) == before + 1  # they wait
        yield futures
    assert slow.result().counts.tolist() == [39]


@pytest.mark.parametrize("which", ["world", "text_world"])
def test_many_threads_get_the_answers_of_single_calls(which, request, one_core):
    world = request.getfixturevalue(which)
    requests = different_requests(world, 60)
    with shortlist.load(world.path) as alone:
        expected = [alone.recommend([r], 5, stages=1 + i % 2) for i, r in enumerate(requests)]
    with shortlist.load(world.path, max_batch=8, max_wait_us=500) as engine:
        with ThreadPoolExecutor(16) as pool:
            found = list(
                pool.map(
                    lambda i: engine.recommend([requests[i % 60]], 5, stages=1 + i % 2), range(480)
                )
            )
        report = engine.report()["batching"]
    for i, answer in enumerate(found):
        check_same(answer, expected[i % 60])
    assert report["n_requests"] == 480 > report["n_batches"]


def test_calls_that_wait_share_one_run(busy, world):
    requests = different_requests(world, 7)
    with held(busy, [lambda r=r: busy.recommend([r]) for r in requests]) as futures:
        pass
    report = busy.report()["batching"]
    assert (report["n_requests"], report["n_batches"]) == (8, 2)
    with shortlist.load(world.path) as alone:
        for request, future in zip(requests, futures, strict=True):
            check_same(future.result(), alone.recommend([request]))


def test_a_lone_call_does_not_wait(busy):
    def seconds():
        start = time.monotonic()
        busy.recommend([{}])
        return time.monotonic() - start

    # max_wait_us is a second; on a busy machine one call may take as long for another reason.
    assert any(seconds() < 0.9 for _ in range(20))


def test_a_full_batch_does_not_wait(busy, world):
    requests = different_requests(world, 8)
    with ThreadPoolExecutor(9) as pool:
        slow = pool.submit(busy.recommend, slow_request(), 40)
        wait_until(lambda: batches(busy) == 1)
        found = list(pool.map(lambda r: busy.recommend([r]), requests))
        assert not slow.done()
    assert batches(busy) == 2
    with shortlist.load(world.path) as alone:
        for request, answer in zip(requests, found, strict=True):
            check_same(answer, alone.recommend([request]))


def test_calls_that_want_something_else_do_not_share(busy):
    calls = [
        lambda: busy.recommend([{}], 3),
        lambda: busy.recommend([{}], 4),
        lambda: busy.recommend([{}], 4, exclude_seen=False),
        lambda: busy.recommend([{}], 4, stages=1),
        lambda: busy.recommend([{}], 4, exclude_seen=False),
    ]
    with held(busy, calls) as futures:
        pass
    assert busy.report()["batching"]["n_batches"] == 1 + 4
    assert [f.result().item_ids.shape for f in futures] == [(1, 3), (1, 4), (1, 4), (1, 4), (1, 4)]


def test_calls_on_either_side_of_a_change_of_items_do_not_share(busy):
    def change():
        wait_until(lambda: busy._switch.loaded.core.n_inside == 2)
        busy.upsert_items([{"item_id": 5, "genres": ["war"]}])
        return busy.recommend([{}], 60)

    with held(busy, [lambda: busy.recommend([{}], 60), change]) as futures:
        pass
    assert [f.result().counts.tolist() for f in futures] == [[40], [41]]
    assert batches(busy) == 3


def test_single_requests_that_share_a_run_keep_what_the_log_says(busy, world, tmp_path):
    noon, items = 1_714_564_800, world.item_ids.tolist()
    users = [*world.users, 77, 78]
    with FeedbackLog(tmp_path / "feedback.log") as log:
        for i, user in enumerate(users[1:]):
            for row, kind in ((20 + i, "click"), (30 + i, "skip")):
                log.append(user_id=user, item_id=items[row], kind=kind, timestamp=noon)

        def ask(engine, user):
            return engine.recommend(user_ids=[user], feedback=log, now=noon, stages=1)

        with held(busy, [lambda u=u: ask(busy, u) for u in users]) as futures:
            pass
        assert batches(busy) == 2
        with shortlist.load(world.path) as alone:
            for user, future in zip(users, futures, strict=True):
                check_same(future.result(), ask(alone, user))


def test_a_bad_request_is_its_callers_error_alone(busy):
    bad, good = {"hist": [1]}, {"history": [100]}
    with pytest.raises(DataError, match="unknown column 'hist'"):
        busy.recommend([bad])
    with (
        held(busy, [lambda: busy.recommend([good])] * 3) as futures,
        pytest.raises(DataError, match="unknown column 'hist'"),
    ):
        busy.recommend([bad])
    assert [f.result().counts.tolist() for f in futures] == [[10]] * 3


def test_an_error_in_a_shared_run_reaches_only_the_call_at_fault(busy):
    """A number that requests cannot have, put past the checks: it is found as the batch is made."""
    loaded = busy._switch.loaded

    def call(age):
        column = ("age", np.array([age], np.float32), None)
        return loaded.core.recommend(loaded.state.core, 1, [column], 10, True, 2)

    calls = [lambda age=age: call(age) for age in (30.0, np.inf, 20.0)]
    with held(busy, calls) as futures:
        pass
    assert batches(busy) == 2
    for future, age in ((futures[0], 30.0), (futures[2], 20.0)):
        assert future.result()[1].tolist() == busy.recommend([{"age": age}]).indices.tolist()
    with pytest.raises(ValueError, match="age: got inf at position 0; expected a finite number"):
        futures[1].result()


def test_closing_waits_for_calls_under_way(busy):
    core = busy._switch.loaded.core
    with held(busy, [lambda: busy.recommend([{}])]) as futures, ThreadPoolExecutor(1) as pool:
        closing = pool.submit(busy.close)
        wait_until(lambda: busy._switch.is_closed)
        assert not closing.done()
        closing.result(60)
        assert core.n_inside == 0
    assert futures[0].result().counts.tolist() == [10]


def test_closing_while_threads_call_gives_each_an_answer_or_says_so(world, one_core):
    with shortlist.load(world.path, max_batch=4) as engine:

        def call(_):
            try:
                return engine.recommend([{"history": [100]}]).counts.tolist()
            except ShortlistError as error:
                return str(error)

        with ThreadPoolExecutor(8) as pool:
            calls = [pool.submit(call, i) for i in range(400)]
            wait_until(lambda: calls[40].done())
            engine.close()
            found = [future.result(60) for future in calls]
    assert found[0] == [10]
    assert "closed" in found[-1]
    assert all(answer == [10] or "closed" in answer for answer in found)


def test_batches_go_with_a_swap(world, tmp_path, make_tiny_bundle):
    other = make_tiny_bundle(tmp_path / "other.shortlist", sign=-1)
    with shortlist.load(world.path, max_batch=4) as engine:
        engine.swap(other.path)
        assert engine.recommend([{"history": [100]}]).version.tolist() == [2]
        assert engine.report()["batching"]["n_requests"] == 1


def test_no_thread_is_started(world):
    before = threading.active_count(), len(os.listdir("/proc/self/task"))
    with shortlist.load(world.path, max_batch=4) as engine:
        engine.recommend([{}])
        assert (threading.active_count(), len(os.listdir("/proc/self/task"))) == before
        assert engine.report()["batching"] == {
            "max_batch": 4, "max_wait_us": 200, "n_requests": 1, "n_batches": 1,
        }  # fmt: skip
    with shortlist.load(world.path) as engine:
        assert engine.report()["batching"] is None


def test_calls_of_several_requests_or_with_filters_go_alone(world):
    import pyarrow.compute as pc

    with shortlist.load(world.path, max_batch=4) as engine:
        assert len(engine.recommend([{}, {}])) == 2
        engine.recommend([{}], where=pc.field("year") >= 2000)
        engine.recommend([{}], where=[pc.field("year") >= 2000])
        assert len(engine.recommend([])) == 0
        assert engine.report()["batching"]["n_requests"] == 0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"max_batch": 0}, ValueError, "max_batch: got 0; expected an int >= 1"),
        ({"max_batch": 2.0}, TypeError, "max_batch: got 2.0 of type float"),
        ({"max_wait_us": -1}, ValueError, "max_wait_us: got -1; expected an int >= 0"),
        ({"max_wait_us": 2_000_000}, ValueError, "max_wait_us: got 2000000; expected microsecon"),
        ({"max_wait_us": None}, TypeError, "max_wait_us: got None"),
    ],
)
def test_wrong_options_are_refused(world, arguments, error, message):
    with pytest.raises(error, match=message):
        shortlist.load(world.path, **arguments)


def run_in_child(work):
    """Fork, let the child do its work, and say whether it gave true within a minute."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if work() else 2
        finally:
            os._exit(status)
    ended = []
    wait_until(lambda: ended.append(os.waitpid(child, os.WNOHANG)) or ended[-1][0] == child)
    return ended[-1][1] == 0


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_does_not_wait_for_its_parents_calls(busy):
    """It does not answer here: the slow call may hold locks of ONNX Runtime's own."""

    def leave():
        began = busy.report()["batching"]["n_requests"]
        busy.close()
        return began == 0

    with held(busy, [lambda: busy.recommend([{}])]) as futures:
        assert run_in_child(leave)
    assert futures[0].result(60).counts.tolist() == [10]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_shares_runs_as_its_parent_does(busy, world):
    with held(busy, [lambda: busy.recommend([{}])] * 3):
        pass

    def answer():
        calls = [lambda r=r: busy.recommend([r]) for r in different_requests(world, 5)]
        with held(busy, calls) as futures:
            pass
        report = busy.report()["batching"]
        found = [future.result().counts.tolist() for future in futures]
        return found == [[10]] * 5 and (report["n_requests"], report["n_batches"]) == (6, 2)

    assert run_in_child(answer)
    assert busy.report()["batching"]["n_requests"] == 4
