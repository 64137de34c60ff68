"""Workers on the cores of one machine: who makes which part, and what becomes of one that dies."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

from shortlist.batch.cluster import Made
from shortlist.batch.scorer import Scorer
from shortlist.batch.waiting import Waiting
from shortlist.batch.worker import STAGES, Done, Failed, Gone, Ready, Task
from shortlist.errors import ShortlistError

_AHEAD = 3  # tasks a worker has: one it reads, one it answers, one it writes
_DEATHS = 3  # of workers at the same task, before the job stops
_WORK = "import sys; from shortlist.batch.worker import main; main(int(sys.argv[1]))"


class _Process:
    """One worker process, and the tasks that it has."""

    def __init__(self, scorer: Scorer) -> None:
        self.connection, theirs = Pipe()
        # Not by multiprocessing: that would run the caller's own script again in each worker.
        paths = os.pathsep.join(path for path in sys.path if path)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", _WORK, str(theirs.fileno())],
                env=os.environ | {"PYTHONPATH": paths},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # an interrupt from the keyboard is the driver's
            )
        self.tasks: dict[int, Task] = {}
        self.is_ready = False
        self._send(scorer)

    def give(self, task: Task | None) -> None:
        """Send a task; None: there are no more."""
        if task is not None:
            self.tasks[task.number] = task
        self._send(task)

    def _send(self, message: Any) -> None:
        with contextlib.suppress(OSError):  # it is gone already, which the next wait tells
            self.connection.send(message)

    def end(self) -> int:
        """End it, and return how it ended."""
        if self.process.poll() is None:
            self.process.kill()
        self.connection.close()
        return self.process.wait()


class Pool:
    """Makes parts with several processes.

    Parameters
    ----------
    scorer : Scorer
    tasks : sequence of Task
    n_workers : int
    told : callable
        Called with each `Done`.
    """

    def __init__(
        self,
        scorer: Scorer,
        tasks: Sequence[Task],
        n_workers: int,
        told: Callable[[Done], None],
    ) -> None:
        self._scorer = scorer
        self._tasks = {task.number: task for task in tasks}
        self._waiting = Waiting(tasks)
        self._n_workers = min(n_workers, len(tasks))
        self._told = told
        self._workers: dict[Connection, _Process] = {}
        self._deaths: Counter[int] = Counter()  # by task; −1: before a worker was ready
        self._failures: dict[int, Exception] = {}
        self._seconds = dict.fromkeys(STAGES, 0.0)

    def run(self) -> Made:
        """Make all parts.

        Raises
        ------
        BundleError, OSError, …
            What makes every further part impossible.
        ShortlistError
            Workers died again and again at the same task.
        """
        try:
            for _ in range(self._n_workers):
                self._start()
            while self._waiting or any(worker.tasks for worker in self._workers.values()):
                self._hear()
                self._hand_out()
            self._part()
        finally:
            for worker in self._workers.values():
                worker.end()
        return Made(self._failures, self._seconds, self._n_workers)

    def _start(self) -> None:
        try:
            worker = _Process(self._scorer)
        except OSError as error:
            raise ShortlistError(
                f"workers: the system starts no process ({error}), expected {self._n_workers}. "
                "Fix: give fewer workers, or raise the limits of processes and open files"
            ) from error
        self._workers[worker.connection] = worker

    def _hand_out(self) -> None:
        """Give each waiting task to the worker that has the fewest, none more than its share."""
        workers = self._workers.values()
        n_left = len(self._waiting) + sum(len(worker.tasks) for worker in workers)
        share = min(_AHEAD, -(-n_left // max(1, len(workers))))
        while self._waiting:
            ready = [worker for worker in workers if worker.is_ready]
            worker = min(ready, key=lambda one: len(one.tasks), default=None)
            if worker is None or len(worker.tasks) >= share:
                return
            worker.give(self._waiting.take(worker))

    def _hear(self) -> None:
        for connection in wait(list(self._workers)):
            worker = self._workers[connection]  # type: ignore[index]
            try:
                message = worker.connection.recv()
            except (EOFError, OSError):
                self._bury(worker)
                continue
            self._take(worker, message)

    def _take(self, worker: _Process, message: Any) -> None:
        if isinstance(message, Ready):
            worker.is_ready = True
        elif isinstance(message, Done):
            del worker.tasks[message.number]
            self._told(message)
        elif isinstance(message, Failed):
            if message.is_final:
                raise message.error
            del worker.tasks[message.number]
            self._failures[message.number] = message.error
        elif isinstance(message, Gone):
            self._add(message.seconds)
            worker.end()
            del self._workers[worker.connection]

    def _add(self, seconds: Mapping[str, float]) -> None:
        for stage, n in seconds.items():
            self._seconds[stage] += n

    def _bury(self, worker: _Process) -> None:
        """Take back what a dead worker had, and start another one in its place."""
        code = worker.end()
        del self._workers[worker.connection]
        self._deaths.update(list(worker.tasks) if worker.is_ready else [-1])
        self._waiting.put_back(worker, worker.tasks.values())
        number = next((n for n, deaths in self._deaths.items() if deaths >= _DEATHS), None)
        if number is not None:
            at = "opening the bundle" if number == -1 else self._tasks[number].fragment.place
            raise ShortlistError(
                f"workers: {_DEATHS} died one after another ({_cause(code)}) at {at}; expected "
                "them to live. Finished parts stay. Fix: if memory ran out, give fewer workers; "
                "then run the same command again"
            )
        if self._waiting:
            self._start()

    def _part(self) -> None:
        """Let all workers go, and hear what they needed."""
        for worker in self._workers.values():
            worker.give(None)
        while self._workers:
            self._hear()


def _cause(code: int) -> str:
    if code >= 0:
        return f"exit status {code}"
    return f"killed by {signal.Signals(-code).name}"
