"""Micro-batching: the answers of single calls, whoever they shared a run with."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import shortlist
from shortlist._batching import join
from shortlist._opening import request_schema
from shortlist.errors import DataError
from shortlist.requests import normalise

NAMES = ("item_ids", "counts", "source", "stages", "indices", "titles", "version")


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


class Gate:
    """Lets an engine's runs begin only when it is open, and counts how many requests each has."""

    def __init__(self, engine, monkeypatch):
        self.may_go_on, self.has_begun, self.sizes = threading.Event(), threading.Event(), []
        recommender = engine._switch.version.recommender
        answer = recommender.answer

        def wait(columns, *rest):
            self.has_begun.set()
            assert self.may_go_on.wait(60)
            self.sizes.append(columns.n_requests)
            return answer(columns, *rest)

        monkeypatch.setattr(recommender, "answer", wait)


@pytest.fixture
def gated(world, monkeypatch):
    """An engine that runs one batch at a time, waiting long for others, and its gate."""
    with shortlist.load(world.path, max_batch=8, max_wait_us=1_000_000) as engine:
        engine._switch.version.batcher._n_at_once = 1
        yield engine, Gate(engine, monkeypatch)


def wait_until(condition):
    stop = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < stop
        time.sleep(0.001)


def waiting(engine):
    return sum(len(batch.parts) for batch in engine._switch.version.batcher._open.values())


def call_together(engine, gate, calls):
    """Hold the engine with one call until all others wait, then let all go; returns futures."""
    pool = ThreadPoolExecutor(len(calls) + 1)
    first = pool.submit(engine.recommend, [{}])
    assert gate.has_begun.wait(60)
    futures = [pool.submit(call) for call in calls]
    wait_until(lambda: waiting(engine) == len(calls) % 8 or not waiting(engine))
    gate.may_go_on.set()
    first.result()
    pool.shutdown()
    return futures


@pytest.mark.parametrize("which", ["world", "text_world"])
def test_many_threads_get_the_answers_of_single_calls(which, request):
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
    assert report["n_requests"] == 480 >= report["n_batches"]


def test_calls_that_wait_share_one_run(gated, world):
    engine, gate = gated
    requests = different_requests(world, 7)
    futures = call_together(engine, gate, [lambda r=r: engine.recommend([r]) for r in requests])
    assert gate.sizes == [1, 7]
    with shortlist.load(world.path) as alone:
        for request, future in zip(requests, futures, strict=True):
            check_same(future.result(), alone.recommend([request]))


def test_a_full_batch_does_not_wait_and_a_lone_call_neither(gated):
    engine, gate = gated
    gate.may_go_on.set()
    start = time.monotonic()
    engine.recommend([{}])
    assert time.monotonic() - start < 0.9  # max_wait_us is a second
    gate.may_go_on.clear()
    with ThreadPoolExecutor(9) as pool:
        gate.has_begun.clear()
        pool.submit(engine.recommend, [{}])
        assert gate.has_begun.wait(60)
        gate.has_begun.clear()
        for _ in range(8):
            pool.submit(engine.recommend, [{}])
        assert gate.has_begun.wait(0.9)  # the eighth has started them
        gate.may_go_on.set()
    assert sorted(gate.sizes) == [1, 1, 8]


def test_what_waits_too_long_runs_beside_the_others(world, monkeypatch):
    with shortlist.load(world.path, max_batch=8, max_wait_us=1) as engine:
        engine._switch.version.batcher._n_at_once = 1
        gate = Gate(engine, monkeypatch)
        with ThreadPoolExecutor(2) as pool:
            pool.submit(engine.recommend, [{}])
            assert gate.has_begun.wait(60)
            gate.has_begun.clear()
            pool.submit(engine.recommend, [{}])
            assert gate.has_begun.wait(60)
            gate.may_go_on.set()
    assert gate.sizes == [1, 1]


def test_calls_that_want_something_else_do_not_share(gated):
    engine, gate = gated
    calls = [
        lambda: engine.recommend([{}], 3),
        lambda: engine.recommend([{}], 4),
        lambda: engine.recommend([{}], 4, exclude_seen=False),
        lambda: engine.recommend([{}], 4, stages=1),
        lambda: engine.recommend([{}], 4, exclude_seen=False),
    ]
    futures = call_together(engine, gate, calls)
    assert sorted(gate.sizes) == [1, 1, 1, 1, 2]
    assert [f.result().item_ids.shape for f in futures] == [(1, 3), (1, 4), (1, 4), (1, 4), (1, 4)]


def test_a_bad_request_is_its_callers_error_alone(gated):
    engine, gate = gated
    bad, good = {"hist": [1]}, {"history": [100]}
    with pytest.raises(DataError, match="unknown column 'hist'"):
        engine.recommend([bad])
    futures = call_together(engine, gate, [lambda: engine.recommend([good])] * 3)
    assert [f.result().counts.tolist() for f in futures] == [[10]] * 3


def test_an_error_in_a_shared_run_reaches_only_the_call_at_fault(gated, monkeypatch):
    engine, gate = gated
    recommender = engine._switch.version.recommender
    answer = recommender.answer

    def fail_on_121(columns, *rest):
        if any(121 in history for history in columns.histories or ()):
            raise RuntimeError("cannot do 121")
        return answer(columns, *rest)

    monkeypatch.setattr(recommender, "answer", fail_on_121)
    histories = [[100], [121], [107]]
    futures = call_together(
        engine, gate, [lambda h=h: engine.recommend([{"history": h}]) for h in histories]
    )
    assert futures[0].result().counts.tolist() == futures[2].result().counts.tolist() == [10]
    with pytest.raises(RuntimeError, match="cannot do 121"):
        futures[1].result()


def test_closing_waits_for_calls_under_way(gated):
    engine, gate = gated
    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(engine.recommend, [{}])]
        assert gate.has_begun.wait(60)
        calls.append(pool.submit(engine.recommend, [{}]))
        wait_until(lambda: waiting(engine) == 1)
        closing = pool.submit(engine.close)
        wait_until(lambda: engine._switch.is_closed)
        assert not closing.done()
        gate.may_go_on.set()
        closing.result(60)
        assert [call.result().counts.tolist() for call in calls] == [[10], [10]]


def test_batches_go_with_a_swap(world, tmp_path, make_tiny_bundle):
    other = make_tiny_bundle(tmp_path / "other.shortlist", sign=-1)
    with shortlist.load(world.path, max_batch=4) as engine:
        engine.swap(other.path)
        assert engine.recommend([{"history": [100]}]).version.tolist() == [2]
        assert engine.report()["batching"]["n_requests"] == 1


def test_no_thread_is_started(world):
    before = threading.active_count()
    with shortlist.load(world.path, max_batch=4) as engine:
        engine.recommend([{}])
        assert threading.active_count() == before
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
        assert len(engine.recommend([])) == 0
        assert engine.report()["batching"]["n_requests"] == 0


def test_joined_requests_are_what_one_call_of_all_would_be(world):
    with shortlist.load(world.path) as engine:
        schema = request_schema(engine.bundle)
        requests = different_requests(world, 24)
        joined = join([normalise([request], schema) for request in requests], schema)
        whole = normalise(requests, schema)
        assert joined.n_requests == whole.n_requests == 24
        assert joined.ids.tolist() == whole.ids.tolist()
        same = zip(joined.histories, whole.histories, strict=True)
        assert all(one.tolist() == other.tolist() for one, other in same)
        assert joined.features.keys() == whole.features.keys()
        for name, values in joined.features.items():
            assert values.dtype == whole.features[name].dtype
            np.testing.assert_array_equal(values, whole.features[name])


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


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_does_not_wait_for_its_parents_calls(gated):
    engine, gate = gated
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(engine.recommend, [{}])]
        assert gate.has_begun.wait(60)
        calls.append(pool.submit(engine.recommend, [{}]))
        wait_until(lambda: waiting(engine) == 1)
        child = os.fork()
        if child == 0:
            gate.may_go_on.set()
            counts = engine.recommend([{}]).counts.tolist()
            engine.close()
            os._exit(0 if counts == [10] else 1)
        gate.may_go_on.set()
        assert [call.result(60).counts.tolist() for call in calls] == [[10], [10]]
    wait_until(lambda: os.waitpid(child, os.WNOHANG) == (child, 0))
