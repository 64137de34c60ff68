"""Options of an engine: devices, and single requests that share runs."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from c_engine import CEngine, column, filter_of, lists, open_engine
from c_library import INVALID_ARGUMENT, CError

import shortlist

NO_RUNTIME = 5
CPU = b"CPUExecutionProvider"


@pytest.mark.parametrize("device", [None, b"cpu", b"auto"])
def test_a_device_that_is_not_asked_for_is_the_cpu(bundle, device):
    history = [lists("history", [bundle.item_ids[:3].tolist()], np.int64)]
    with CEngine(bundle.path) as plain, CEngine(bundle.path, device=device) as engine:
        assert engine.info().provider == CPU
        expected = plain.recommend(history, 1)
        assert engine.recommend(history, 1).scores.tobytes() == expected.scores.tobytes()


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_device_that_does_not_run_is_no_runtime_and_says_what_to_do(bundle, device):
    with pytest.raises(CError, match=f"device: got '{device}', but .* or use device='cpu'") as why:
        open_engine(bundle.path, device=device.encode())
    assert why.value.status == NO_RUNTIME


def test_wrong_options_are_named(bundle):
    for options, message in (
        ({"device": b"gpu"}, "device: got 'gpu', expected one of auto, cpu, cuda, tensorrt"),
        (
            {"max_wait_us": 1_000_001},
            r"options\.max_wait_us: got 1000001; expected at most 1000000",
        ),
    ):
        with pytest.raises(CError, match=message) as why:
            open_engine(bundle.path, **options)
        assert why.value.status == INVALID_ARGUMENT


def requests_for(world, n):
    """Single requests of every sort, as columns."""
    ids = world.item_ids.tolist()
    made = []
    for i in range(n):
        history = lists("history", [[ids[i], ids[(7 * i + 3) % 40]][: i % 3]], np.int64)
        age = column("age", np.array([20 + i if i % 4 == 1 else np.nan], np.float32))
        user = column("user_id", np.array([[*world.users, 77][i % 4]]))
        made.append([history, age, user][: 1 + i % 3])
    return made


def test_requests_that_come_at_once_share_runs_and_get_their_own_answers(bundle):
    n = 24
    asked = requests_for(bundle, n)
    asked[0] = [lists("history", [[100, 107] * 400_000], np.int64)]  # runs while others gather
    skipped = [[bundle.item_ids[(3 * i) % 40].tolist()] * (i % 2) for i in range(n)]
    with CEngine(bundle.path) as plain:
        expected = [plain.recommend(asked[i], 1, skipped=[skipped[i]]) for i in range(n)]
        assert (plain.info().n_batched_requests, plain.info().n_batches) == (0, 0)
    # Sessions of all cores: one run at a time.
    with CEngine(bundle.path, n_threads=0, max_batch=8, max_wait_us=100_000) as batched:
        barrier = threading.Barrier(n)

        def ask(i):
            barrier.wait()
            return batched.recommend(asked[i], 1, skipped=[skipped[i]])

        with ThreadPoolExecutor(n) as pool:
            for _ in range(50):  # until some have met
                check_close(list(pool.map(ask, range(n))), expected)
                info = batched.info()
                if info.n_batches < info.n_batched_requests:
                    break
    assert info.n_batched_requests % n == 0
    assert 0 < info.n_batches < info.n_batched_requests


def check_close(answers, expected):
    for found, one in zip(answers, expected, strict=True):
        assert found.item_ids.tolist() == one.item_ids.tolist()
        assert found.sources.tolist() == one.sources.tolist()
        assert found.stages.tolist() == one.stages.tolist()
        np.testing.assert_allclose(found.scores, one.scores, rtol=1e-5)


@pytest.mark.parametrize("max_batch", [0, 1])
def test_without_max_batch_every_call_goes_alone(bundle, max_batch):
    with CEngine(bundle.path, max_batch=max_batch) as engine:
        engine.recommend([], 1)
        assert engine.info().n_batches == 0


def test_calls_of_several_requests_and_with_filters_go_alone(bundle):
    with CEngine(bundle.path, max_batch=8) as engine:
        engine.recommend([], 2)
        engine.recommend([], 1, filter=filter_of(allow=[100]))
        assert engine.info().n_batched_requests == 0
        engine.recommend([], 1)
        assert engine.info().n_batched_requests == 1


def test_the_fault_of_one_request_is_not_that_of_those_it_would_share_a_run_with(bundle):
    good = [lists("history", [[100, 107]], np.int64)]
    bad = [column("age", np.array([np.inf], np.float32))]
    barrier = threading.Barrier(8)
    with CEngine(bundle.path, max_batch=8, max_wait_us=100_000) as engine:
        expected = engine.recommend(good, 1).item_ids.tolist()

        def ask(i):
            barrier.wait()
            return engine.recommend(bad if i == 3 else good, 1).item_ids.tolist()

        with ThreadPoolExecutor(8) as pool:
            futures = [pool.submit(ask, i) for i in range(8)]
        assert all(f.result() == expected for i, f in enumerate(futures) if i != 3)
        with pytest.raises(CError, match="age: got inf at position 0") as why:
            futures[3].result()
        assert why.value.status == INVALID_ARGUMENT


def test_shared_runs_go_through_updates_and_swaps(bundle, other):
    """Each answer is that of one bundle with one state of its items."""
    history = [lists("history", [bundle.item_ids[:3].tolist()], np.int64)]
    states = set()
    for world in (bundle, other):
        with CEngine(world.path) as engine:
            states.add(tuple(engine.recommend(history, 1).item_ids[0]))
            engine.remove(bundle.item_ids[20:].tolist())
            states.add(tuple(engine.recommend(history, 1).item_ids[0]))
    is_over = threading.Event()
    with CEngine(bundle.path, max_batch=4) as engine:

        def ask(_):
            seen = set()
            while not is_over.is_set():
                seen.add(tuple(engine.recommend(history, 1).item_ids[0]))
            return seen

        with ThreadPoolExecutor(8) as pool:
            answers = pool.map(ask, range(8))
            for number in range(20):
                engine.remove(bundle.item_ids[20:].tolist())
                engine.swap((other if number % 2 == 0 else bundle).path)
            is_over.set()
        seen = set().union(*answers)
    assert seen <= states
    assert len(seen) > 1


def test_python_shares_runs_by_the_same_rules(bundle):
    history = bundle.item_ids[:3].tolist()
    with (
        shortlist.load(bundle.path, max_batch=8) as engine,
        CEngine(bundle.path, max_batch=8) as c_engine,
    ):
        expected = engine.recommend({"history": [history]})
        found = c_engine.recommend([lists("history", [history], np.int64)], 1)
        assert found.scores.tobytes() == expected.scores.tobytes()
        assert engine.report()["batching"]["n_batches"] == c_engine.info().n_batches == 1
