"""Forks beside threads that write; full disks; values that no column holds."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from shortlist import DataError, FeedbackLog, ShortlistError, _forks

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
EVENT = {"user_id": 1, "item_id": 2, "kind": "click", "timestamp": 3}


def forked(work):
    """Whether a forked child does some work well, within some seconds."""
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(30)
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("how", ["file", "sqlalchemy"])
@pytest.mark.parametrize("is_closed_by", ["the parent", "another process"])
def test_a_child_loses_nothing_though_others_close_the_log(tmp_path, how, is_closed_by):
    place = tmp_path / "log"
    if how == "sqlalchemy":
        pytest.importorskip("sqlalchemy")
        place = f"sqlite:///{place}"
    log = FeedbackLog(place)
    assert log.append(**EVENT)
    began, ended = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(60)
            os.write(began[1], b"x" if log.append(**EVENT | {"item_id": 9}) else b"-")
            os.read(ended[0], 1)
            for item in range(5):
                assert log.append(**EVENT | {"item_id": 10 + item})
            os._exit(0)
        finally:
            os._exit(1)
    assert os.read(began[0], 1) == b"x"
    if is_closed_by == "another process":
        code = (
            "import sys, shortlist; log = shortlist.FeedbackLog(sys.argv[1]); len(log); log.close()"
        )
        subprocess.run([sys.executable, "-c", code, str(place)], check=True)
    log.close()
    os.write(ended[1], b"x")
    assert os.waitpid(child, 0)[1] == 0
    with FeedbackLog(place) as again:
        assert len(again) == 7


@pytest.mark.parametrize("how", ["file", "sqlalchemy"])
def test_children_write_on_though_other_threads_were_writing_at_the_fork(tmp_path, how):
    place = tmp_path / "log"
    if how == "sqlalchemy":
        pytest.importorskip("sqlalchemy")
        place = f"sqlite:///{place}"
    n_forks, is_over, errors = 25, threading.Event(), []
    with FeedbackLog(place) as log:

        def write():
            try:
                while not is_over.is_set():
                    log.append(**EVENT)
                    log.acts([1])
            except Exception as error:
                errors.append(error)

        def child():
            assert log.append(**EVENT | {"kind": "child"})
            assert log.acts([1])[0].kinds.count("child") >= 1
            log.close()

        threads = [threading.Thread(target=write) for _ in range(3)]
        for thread in threads:
            thread.start()
        done = [forked(child) for _ in range(n_forks)]
        is_over.set()
        for thread in threads:
            thread.join()
        assert done == [True] * n_forks
        assert errors == []
        kinds = log.read().column("kind").to_pylist()
        assert kinds.count("child") == n_forks
        assert kinds.count("click") > 0


def test_a_child_that_ends_as_usual_leaves_its_parents_file_alone(tmp_path):
    """Python destroys what is left at its end: the parent's connections must not be closed."""
    with FeedbackLog(tmp_path / "log") as log:
        log.append(**EVENT)

        def child():
            log.append(**EVENT)
            code = "import gc; gc.collect()"
            exec(code)
            log._store._writer.close()
            del log._store._writer._connection

        assert forked(child)
        assert (tmp_path / "log-wal").exists()
        assert log.append(**EVENT)
        assert len(log) == 3


def test_a_fork_waits_for_a_call_under_way_and_calls_wait_for_a_fork(tmp_path, monkeypatch):
    order = []
    with FeedbackLog(tmp_path / "log") as log:
        real = log._store._writer.get

        def slow():
            time.sleep(0.3)
            order.append("append")
            return real()

        monkeypatch.setattr(log._store._writer, "get", slow)
        thread = threading.Thread(target=lambda: log.append(**EVENT))
        thread.start()
        time.sleep(0.1)
        monkeypatch.undo()
        assert forked(lambda: log.append(**EVENT))
        order.append("fork")
        thread.join()
        assert order == ["append", "fork"]
        assert len(log) == 2


def test_calls_go_on_while_a_fork_waits_for_an_erasure(tmp_path, monkeypatch):
    order, is_inside = [], threading.Event()
    with FeedbackLog(tmp_path / "log") as log:
        log.append(**EVENT)
        erase = log._store._delete_inside

        def slow(*values):
            is_inside.set()
            time.sleep(1.0)
            order.append("erased")
            return erase(*values)

        def others():
            is_inside.wait()
            time.sleep(0.3)  # the fork waits by now
            log.append(**EVENT | {"user_id": 2})
            order.append(len(log))

        monkeypatch.setattr(log._store, "_delete_inside", slow)
        calls = [threading.Thread(target=call) for call in (lambda: log.erase_user(1), others)]
        for call in calls:
            call.start()
        is_inside.wait()
        assert forked(lambda: log.append(**EVENT))
        order.append("fork")
        for call in calls:
            call.join()
        assert order == [2, "erased", "fork"]
        assert len(log) == 2


def test_a_fork_gives_up_its_wait_and_lets_others_in_again(tmp_path, monkeypatch):
    monkeypatch.setattr("shortlist._forks._INSIDE_SECONDS", 0.3)
    with FeedbackLog(tmp_path / "log") as log:
        is_over = threading.Event()
        monkeypatch.setattr(log._store, "_delete_inside", lambda *_: is_over.wait() and 0)
        call = threading.Thread(target=log.erase_user, args=[1])
        call.start()
        began = time.monotonic()
        assert forked(lambda: None)
        assert time.monotonic() - began >= 0.3
        assert log.append(**EVENT)
        is_over.set()
        call.join()


def test_a_full_disk_in_a_large_append_is_named_and_the_log_goes_on(tmp_path):
    with FeedbackLog(tmp_path / "log") as log:
        log.append(**EVENT)
        connection = log._store._writer.get()
        connection.execute("PRAGMA cache_size = 10")  # spills, as batches larger than it do
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages + 20}")
        many = [EVENT | {"key": f"{i:0100d}"} for i in range(5_000)]
        for _ in range(2):
            with pytest.raises(ShortlistError, match=r"log: the disk is full .* nothing of this c"):
                log.append_many(many)
            assert len(log) == 1
        connection.execute("PRAGMA max_page_count = 1000000")
        assert log.append_many(many) == 5_000


def test_a_commit_that_fails_is_undone(tmp_path, monkeypatch):
    class Full:
        def __init__(self, connection):
            self.connection = connection

        def execute(self, statement, *values):
            if statement == "COMMIT":
                error = sqlite3.OperationalError("database or disk is full")
                error.sqlite_errorcode = sqlite3.SQLITE_FULL
                raise error
            return self.connection.execute(statement, *values)

        def __getattr__(self, name):
            return getattr(self.connection, name)

    with FeedbackLog(tmp_path / "log") as log:
        real = log._store._writer.get()
        monkeypatch.setattr(log._store._writer, "get", lambda: Full(real))
        with pytest.raises(ShortlistError, match="the disk is full"):
            log.append(**EVENT)
        monkeypatch.undo()
        assert len(log) == 0
        assert log.append(**EVENT)


@pytest.mark.parametrize("how", ["file", "sqlalchemy"])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"value": 10**400}, r"'value' row 0 is an integer of 1329 bits, too large for a number"),
        ({"value": -(10**5000)}, r"'value' row 0 is an integer of 16610 bits"),
        ({"user_id": "a\0b"}, r"'user_id' row 0 is 'a\\x00b', expected text without NUL"),
        ({"item_id": "\0"}, r"'item_id' row 0 is '\\x00', expected text without NUL"),
        ({"kind": "a\0"}, r"'kind' row 0 is 'a\\x00', expected text, not empty, without NUL"),
        ({"key": "\0k"}, r"'key' row 0 is '\\x00k', expected text, not empty, without NUL"),
        ({"user_id": 2**63}, r"'user_id' row 0 is 9223372036854775808, expected a 64-bit"),
        ({"timestamp": 10**400}, r"'timestamp' row 0 is 10+, expected a time"),
    ],
)
def test_values_that_no_column_holds_are_refused_by_name(tmp_path, how, changes, message):
    place = tmp_path / "log"
    if how == "sqlalchemy":
        pytest.importorskip("sqlalchemy")
        place = f"sqlite:///{place}"
    with FeedbackLog(place) as log:
        with pytest.raises(DataError, match=f"events: {message}"):
            log.append(**EVENT | changes)
        with pytest.raises(DataError, match=r"'rank' row 0 is .*, expected a place from 1 on"):
            log.append_many([EVENT | {"kind": "impression", "rank": 2**31}])
        assert len(log) == 0


@pytest.mark.parametrize("after", [2**63, -1, 10**400])
def test_a_sequence_out_of_range_is_refused(tmp_path, after):
    with FeedbackLog(tmp_path / "log") as log:
        log.append(**EVENT)
        with pytest.raises(DataError, match=r"after: got .*, expected a whole number from 0 to"):
            log.read(after=after)
        with pytest.raises(TypeError, match=r"after: got str 'x', expected a whole number"):
            log.read(after="x")
        assert log.read(after=np.int64(0)).num_rows == 1
        assert log.read(after=2**63 - 1).num_rows == 0


def test_an_id_with_nul_is_no_other_users(tmp_path):
    """SQLite's JSON cuts text at NUL: the id would be that of the user before it."""
    with FeedbackLog(tmp_path / "log") as log:
        log.append(**EVENT | {"user_id": "a"})
        nobody, known = log.acts(["a\0b", "a"])
        assert nobody is None
        assert known.item_ids == [2]
        with pytest.raises(DataError, match=r"user_id: .*row 0 is 'a\\x00b', expected text with"):
            log.erase_user("a\0b")
        assert len(log) == 1


def test_an_interrupt_while_a_fork_waits_leaves_no_lock_held(monkeypatch):
    locks = [_forks.ForkLock(is_awaited=True) for _ in range(3)]
    calls = []

    def hold(self, seconds):
        calls.append(self)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return self._lock.acquire(timeout=1)

    with monkeypatch.context() as patch:
        patch.setattr(_forks, "_locks", locks)
        patch.setattr(_forks.ForkLock, "hold", hold)
        with pytest.raises(KeyboardInterrupt):
            _forks._before()
        _forks._in_parent()  # as after any fork
    assert not [lock for lock in locks if lock._lock.locked()]
