"""What is done beside requests gives way to them, and nothing that stays behind does."""

import gc
import hashlib
import os
import signal
import sys
import threading
import time
import weakref

import pytest

import shortlist
from shortlist import BundleError, _core
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


class Watch:
    """Looks all the time at how the process's threads give way, beside what the test does."""

    def __enter__(self):
        self._is_over = threading.Event()
        self._before = set(os.listdir("/proc/self/task"))
        self._seen = {}
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._is_over.set()
        self._thread.join()
        self._seen.pop(str(self._thread.native_id), None)

    def _run(self):
        while not self._is_over.is_set():
            for thread in set(os.listdir("/proc/self/task")) - self._before:
                try:
                    value = os.getpriority(os.PRIO_PROCESS, int(thread))
                except ProcessLookupError:  # it ended meanwhile
                    continue
                self._seen.setdefault(thread, []).append(value)

    def values(self):
        """Nice values of the threads that were new, each as it was last."""
        return [values[-1] for values in self._seen.values()]


def low():
    return min(nice() + 10, 19)


def n_giving_way(engine, world):
    """Swap, without a thread that hashes, and say how many threads were seen to give way."""
    with Watch() as watch:
        engine.swap(world.path, verify=False)
    assert set(watch.values()) <= {nice(), low()}
    return watch.values().count(low())


@linux_only
@pytest.mark.parametrize(
    ("device", "n_threads", "gives_way"),
    [
        ("auto", 1, True),
        ("cpu", 1, True),
        ("cpu", 2, False),  # its workers would give way for good
    ],
)
def test_sessions_open_in_the_background_where_they_may(world, device, n_threads, gives_way):
    with shortlist.load(world.path, device, n_threads) as engine:
        with Watch() as watch:
            shortlist.load(world.path, device, n_threads).close()
        assert set(watch.values()) <= {nice()}  # nobody is being served yet
        before = nice()
        # A thread may be over before it is seen; a few swaps leave no doubt.
        seen = [n_giving_way(engine, world) for _ in range(5)]
        assert max(seen) == (1 if gives_way else 0)
        assert nice() == before  # the caller does not


@linux_only
def test_a_swapped_bundle_opens_what_a_caller_waits_for_as_any_other(world):
    with shortlist.load(world.path, n_threads=1) as engine:
        engine.swap(world.path, verify=False)
        assert "item_encoder" not in engine.report()["providers"]
        with Watch() as watch:
            engine.encode_items([{"item_id": 5, "genres": ["war"]}])
        assert "item_encoder" in engine.report()["providers"]
        assert low() not in watch.values()
        seen = 0
        for _ in range(50):
            seen = max(seen, n_giving_way(engine, world))
            assert "item_encoder" in engine.report()["providers"]  # so that nobody waits for it
            if seen == 2:
                break
        assert seen == 2


@linux_only
def test_the_workers_of_a_swapped_bundle_do_not_give_way(world):
    with shortlist.load(world.path, n_threads=3) as engine:
        before = set(os.listdir("/proc/self/task"))
        engine.swap(world.path)
        new = set(os.listdir("/proc/self/task")) - before
        end = time.monotonic() + 30
        while True:  # the thread that hashed is over, but may have to wait for a core to go
            values = {thread: nice_value(thread) for thread in new}
            if set(values.values()) <= {nice(), None} or time.monotonic() > end:
                break
        assert nice() in values.values()  # the new session's workers
        assert set(values.values()) <= {nice(), None}


def nice_value(thread):
    try:
        return os.getpriority(os.PRIO_PROCESS, int(thread))
    except ProcessLookupError:
        return None
