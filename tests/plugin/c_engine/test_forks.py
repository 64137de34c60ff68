"""Forks beside updates of an engine: short waits, and children that find whole updates."""

import os
import threading
import warnings
from ctypes import byref

import numpy as np
import pytest
from c_engine import CEngine
from c_library import address, call, new_ids, size

N_NEW = 400_000


@pytest.fixture(autouse=True)
def _forks_beside_threads_are_meant():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 and later
        yield


def forked(work):
    """What a child's `work` says: its exit status, 99 for an error."""
    child = os.fork()
    if child == 0:
        status = 99
        try:
            status = work()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def forks_beside_an_update(engine, ids, vectors):
    """How many forks are over before the update that they ran beside."""
    is_over = threading.Event()

    def update():
        call("engine_upsert", engine.handle, byref(ids), None, size(0), address(vectors))
        is_over.set()

    thread = threading.Thread(target=update)
    thread.start()
    n_forks = 0
    while not is_over.is_set():
        assert forked(lambda: 0) == 0
        n_forks += not is_over.is_set()
    thread.join()
    return n_forks


def test_a_fork_waits_for_the_end_of_an_update_and_not_for_its_work(bundle):
    """Of forks that wait for the work, one is over before it: the one that came too early."""
    vectors = np.random.default_rng(0).standard_normal((N_NEW, 8), "f4")
    ids = new_ids(range(1000, 1000 + N_NEW))
    for _ in range(20):  # a busy machine may run no fork in the time of an update
        with CEngine(bundle.path) as engine:
            n_forks = forks_beside_an_update(engine, ids, vectors)
            assert engine.view().info.n_items == 40 + N_NEW
        if n_forks > 2:
            break
    assert n_forks > 2


def test_a_child_of_a_fork_beside_updates_goes_on_with_whole_items(bundle):
    vectors = np.eye(8, dtype=np.float32)
    new = list(range(5000, 5008))
    own = 7000
    with CEngine(bundle.path) as engine:
        known = set(bundle.item_ids.tolist())
        is_over = threading.Event()

        def update():
            while not is_over.is_set():
                engine.upsert(new, (), vectors)
                engine.remove(new)

        def child():
            engine.upsert([own], (), vectors[:1])
            answer = engine.recommend([], 1, 60)
            found = answer.item_ids[0, : answer.counts[0]].tolist()
            others = set(found) - known - {own}
            is_whole = others in (set(), set(new)) and len(found) == len(set(found))
            return 0 if is_whole and known | {own} <= set(found) else 1

        thread = threading.Thread(target=update)
        thread.start()
        try:
            assert [forked(child) for _ in range(60)] == [0] * 60
        finally:
            is_over.set()
            thread.join()
