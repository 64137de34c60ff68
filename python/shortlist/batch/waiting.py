"""Which task a worker gets: the one after its last, as that begins where the last one was read."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable, Sequence

from shortlist.batch.worker import Task


class Waiting:
    """Tasks that wait for a worker.

    Each worker goes along a run of tasks. One whose run is over begins where nobody is, else in the
    middle of the longest run that is left.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks = list(tasks)
        self._runs = [[0, len(tasks)]] if tasks else []  # first place, and the one after the last
        self._again: deque[Task] = deque()  # of workers that died
        self._next: dict[Hashable, int] = {}  # by worker

    def __len__(self) -> int:
        """Return the number of tasks."""
        return len(self._again) + sum(end - first for first, end in self._runs)

    def take(self, worker: Hashable) -> Task:
        """Take a task for a worker; there must be one."""
        if self._again:
            return self._again.popleft()
        goal = self._next.get(worker)
        run = next((run for run in self._runs if run[0] == goal), None) or self._new_run()
        at = run[0]
        self._next[worker] = run[0] = at + 1
        if run[0] == run[1]:
            self._runs.remove(run)
        return self._tasks[at]

    def _new_run(self) -> list[int]:
        followed = set(self._next.values())
        run = max(self._runs, key=lambda run: (run[1] - run[0]) / (1 + (run[0] in followed)))
        if run[0] in followed and run[1] - run[0] > 1:
            middle = (run[0] + run[1]) // 2
            self._runs.append([middle, run[1]])
            run[1] = middle
            run = self._runs[-1]
        return run

    def put_back(self, worker: Hashable, tasks: Iterable[Task]) -> None:
        """Take back what a worker had, which takes no more; it goes out again first."""
        self._next.pop(worker, None)
        self._again.extend(tasks)
