"""What is done beside requests gives way to them, and nothing that stays behind does."""

import json
import os
import shutil
import signal
import sys
import threading
import time

import pytest

import shortlist
from shortlist._serving.switch import wait_until_unused

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="threads have nice values there")


def nice():
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


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


@pytest.fixture
def slow_bundle(world, tmp_path):
    """A bundle that takes some seconds to hash: its table of items is 16 GiB of holes."""
    folder = shutil.copytree(world.path, tmp_path / "slow.shortlist")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["items.arrow"]["size"] = 16 << 30
    (folder / "manifest.json").write_text(json.dumps(manifest))
    os.truncate(folder / "items.arrow", 16 << 30)
    return folder


@pytest.mark.parametrize("is_under_load", [False, True])
def test_hashing_can_be_interrupted(world, slow_bundle, is_under_load):
    class Interrupt(Exception):
        pass

    def interrupt(*_):
        raise Interrupt

    main = threading.main_thread().ident
    before = signal.signal(signal.SIGINT, interrupt)
    timer = threading.Timer(0.3, lambda: signal.pthread_kill(main, signal.SIGINT))
    began = time.process_time()
    try:
        with shortlist.load(world.path) as engine:
            timer.start()
            with pytest.raises(Interrupt):
                engine.swap(slow_bundle) if is_under_load else shortlist.load(slow_bundle)
            assert time.process_time() - began < 5  # the whole file takes longer
            engine.recommend([{"history": [1]}], 1)  # as before
    finally:
        timer.join()
        signal.signal(signal.SIGINT, before)


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
    """Swap without hashes, and say how many threads were seen to give way."""
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
