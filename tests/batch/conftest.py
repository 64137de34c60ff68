"""Tiny bundles, and what batch jobs write."""

import contextlib
import sys
import threading
from multiprocessing import Pipe
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))

from worlds import make_world

from shortlist.batch.worker import Worker


@pytest.fixture(scope="session")
def world(tmp_path_factory):
    """Integer ids, users, four kinds of user features, a scorer."""
    return make_world(tmp_path_factory.mktemp("int") / "tiny.shortlist")


@pytest.fixture(scope="session")
def text_world(tmp_path_factory):
    """String ids, otherwise the same."""
    return make_world(tmp_path_factory.mktemp("text") / "tiny.shortlist", "string")


@pytest.fixture(scope="session")
def engine(world):
    import shortlist

    with shortlist.load(world.path) as loaded:
        yield loaded


@pytest.fixture(scope="session")
def text_engine(text_world):
    import shortlist

    with shortlist.load(text_world.path) as loaded:
        yield loaded


class WorkerInThread(Worker):
    """One that does not end its process when its driver is gone."""

    def _leave(self):
        pass


class ThreadedProcess:
    """What the pool takes for a process: a worker in a thread of this one."""

    def __init__(self, scorer):
        self.connection, theirs = Pipe()
        self.tasks = {}
        self.is_ready = False
        threading.Thread(target=WorkerInThread(theirs, scorer).run, daemon=True).start()

    def give(self, task):
        if task is not None:
            self.tasks[task.number] = task
        with contextlib.suppress(OSError):
            self.connection.send(task)

    def end(self):
        self.connection.close()
        return 0


@pytest.fixture
def in_threads(monkeypatch):
    """Let jobs start their workers in this process: no start-up, and no second bundle."""
    monkeypatch.setattr("shortlist.batch.pool._Process", ThreadedProcess)
