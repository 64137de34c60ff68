"""What is done beside requests gives way to them, and nothing that stays behind does."""

import gc
import hashlib
import os
import signal
import sys
import threading
import time
import weakref

import onnxruntime
import pytest

import shortlist
from shortlist import BundleError, _core, _graphs
from shortlist._background import in_background, wait_until_unused
from shortlist.bundle import Bundle

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="threads have nice values there")


def nice():
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@linux_only
def test_work_in_the_background_gives_way_and_its_caller_does_not():
    before = nice()
    assert in_background(nice) == min(before + 10, 19)
    assert nice() == before


@linux_only
@pytest.mark.parametrize("policy", ["SCHED_BATCH", "SCHED_IDLE"])
def test_a_thread_of_a_lower_class_stays_in_it(policy):
    def give_way():
        os.sched_setscheduler(0, getattr(os, policy), os.sched_param(0))
        before = nice()
        _core.give_way()
        found.append((os.sched_getscheduler(0), nice() - before))

    found = []
    thread = threading.Thread(target=give_way)
    before = nice()
    thread.start()
    thread.join()
    assert found == [(getattr(os, policy), min(10, 19 - before))]


def test_an_error_in_the_background_comes_out_and_keeps_nothing_alive():
    class Payload:
        pass

    def fail():
        payload = Payload()
        kept.append(weakref.ref(payload))
        raise ValueError("as it was")

    kept = []
    gc.disable()
    try:
        with pytest.raises(ValueError, match="as it was"):
            in_background(fail)
        assert kept[0]() is None  # no cycle that waits for the collector
    finally:
        gc.enable()


def test_waiting_ends_when_nobody_else_has_it_or_the_time_is_over():
    held: list[object] = [object()]
    wait_until_unused(held, 60)  # at once
    kept = [held[0]]
    wait_until_unused(held, 0.01)
    threading.Timer(0.05, kept.clear).start()
    began = time.monotonic()
    wait_until_unused(held, 60)
    assert time.monotonic() - began < 30
    assert kept == []


@pytest.mark.parametrize("size", [0, 1, 64, (1 << 20) - 1, 1 << 20, (2 << 20) + 7])
def test_files_are_hashed_as_hashlib_does(tmp_path, size):
    data = os.urandom(size)
    (tmp_path / "file").write_bytes(data)
    with (tmp_path / "file").open("rb") as file:
        assert _core.hash_file(file.fileno(), "file") == hashlib.sha256(data).hexdigest()


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(BundleError, match=r"tiny/items\.index: expected a file that can be re"):
            _core.hash_file(folder, "tiny/items.index")
    finally:
        os.close(folder)


@pytest.mark.parametrize("delay", [0, 0.05])
def test_hashing_beside_requests_can_be_interrupted(world, delay):
    """The wait ends at once; the thread ends later, with the file it reads, which it closes."""

    class Interrupt(Exception):
        pass

    def interrupt(*_):
        raise Interrupt

    def slow(descriptor, where):
        descriptors.append(descriptor)
        time.sleep(delay)  # the caller starts the thread, or waits for it
        if not is_over.is_set():
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        is_over.wait(60)
        os.fstat(descriptor)  # still open
        return hashed(descriptor, where)

    descriptors, hashed, is_over = [], _core.hash_file, threading.Event()
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_core, "hash_file", slow)
            with pytest.raises(Interrupt):
                Bundle.open(world.path, under_load=True)
            assert not is_over.is_set()
            is_over.set()
            for thread in threading.enumerate():
                if thread.name == "shortlist-background":
                    thread.join()
    finally:
        signal.signal(signal.SIGINT, before)
    (descriptor,) = descriptors  # no other file is begun
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


@linux_only
@pytest.mark.parametrize(
    ("n_threads", "release", "gives_way"),
    [
        (1, "1.31.0", True),
        (1, "2.0.0.dev20270101", True),
        (2, "1.31.0", False),  # its workers would give way for good
        (1, "1.30.1", False),  # it held the interpreter: everyone would wait for the thread
    ],
)
def test_sessions_open_in_the_background_where_they_may(
    world, monkeypatch, n_threads, release, gives_way
):
    monkeypatch.setattr(onnxruntime, "__version__", release)
    found = []
    opened = _graphs.open_session

    def open_session(*arguments, **options):
        found.append(nice())
        return opened(*arguments, **options)

    monkeypatch.setattr(_graphs, "open_session", open_session)
    with shortlist.load(world.path, n_threads=n_threads) as engine:
        assert found
        assert set(found) == {nice()}  # nobody is being served yet
        found.clear()
        engine.swap(world.path)
        assert found
        assert set(found) == {min(nice() + 10, 19) if gives_way else nice()}


@linux_only
def test_a_swapped_bundle_opens_what_a_caller_waits_for_as_any_other(world, monkeypatch):
    monkeypatch.setattr(onnxruntime, "__version__", "1.31.0")
    found = {}
    opened = _graphs.open_session

    def open_session(graph, **options):
        found[graph.name] = nice()
        return opened(graph, **options)

    monkeypatch.setattr(_graphs, "open_session", open_session)
    with shortlist.load(world.path, n_threads=1) as engine:
        engine.swap(world.path)
        assert "item_encoder.onnx" not in found
        assert found.pop("user_encoder.onnx") == min(nice() + 10, 19)
        engine.encode_items([{"item_id": 5, "genres": ["war"]}])
        assert found["item_encoder.onnx"] == nice()


@linux_only
def test_the_workers_of_a_swapped_bundle_do_not_give_way(world):
    def nice_values():
        found = {}
        for thread in os.listdir("/proc/self/task"):
            try:
                found[thread] = os.getpriority(os.PRIO_PROCESS, int(thread))
            except ProcessLookupError:  # it ended meanwhile
                continue
        return found

    with shortlist.load(world.path, n_threads=3) as engine:
        before = nice_values()
        engine.swap(world.path)
        end = time.monotonic() + 30
        while True:  # the thread that hashed is over, but may have to wait for a core to go
            new = {thread: value for thread, value in nice_values().items() if thread not in before}
            if set(new.values()) == {nice()} or time.monotonic() > end:
                break
        assert new  # the new session's workers
        assert set(new.values()) == {nice()}
