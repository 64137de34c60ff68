"""Ray as an engine: a job's parts by a pool of actors, and an actor class for Ray Data."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from shortlist import _core
from shortlist.batch.cluster import (
    RETRIES,
    START_SECONDS,
    Made,
    Tally,
    check_answers,
    not_installed,
)
from shortlist.batch.scorer import Scorer
from shortlist.batch.waiting import Waiting
from shortlist.batch.worker import Done, Failed, Task, make
from shortlist.errors import ShortlistError

if TYPE_CHECKING:
    import pyarrow as pa

_AHEAD = 2  # tasks an actor has: the next one is there when it has done one


class RayScorer:
    """A scorer as Ray Data's `map_batches` takes it: one bundle for each actor.

    Parameters
    ----------
    scorer : Scorer

    Notes
    -----
    ``requests.map_batches(RayScorer, fn_constructor_args=(scorer,), batch_format="pyarrow",
    batch_size=8192, compute=ray.data.ActorPoolStrategy(size=n))``. Leave a CPU or more of the
    cluster to reading and writing: actors keep theirs, and a pool of all of them waits forever.
    """

    def __init__(self, scorer: Scorer) -> None:
        scorer.check()
        self._scorer = scorer

    def __call__(self, requests: pa.Table) -> pa.Table:
        """Answer a batch."""
        import pyarrow as pa

        return pa.Table.from_batches([self._scorer(requests)])


class Maker:
    """Makes parts; Ray keeps it as an actor."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    def make(self, task: Task) -> tuple[Done | Failed, dict[str, float]]:
        """Make a part."""
        return make(self._scorer, task)


def run(
    scorer: Scorer,
    tasks: Sequence[Task],
    n_workers: int,
    told: Callable[[Done], None],
    address: str | None,
) -> Made:
    """Make all parts on Ray, as `EngineChoice.run`."""
    ray = _ray()
    need = "CPU" if scorer.device == "cpu" else "GPU"
    tally = Tally(told)
    with _cluster(ray, address, n_workers):
        n_workers = n_workers or max(1, int(ray.cluster_resources().get(need, 1)))
        makers = _Makers(ray, scorer, min(n_workers, len(tasks)), need)
        try:
            for result in makers.results(tasks):
                tally.take([result])
        except ray.exceptions.RayError as error:
            raise ShortlistError(
                f"engine: Ray could not run a part ({_first_line(error)}). Fix: the same Python "
                "and Shortlist on every machine of the cluster, then run the same command again"
            ) from error
        finally:
            makers.end()
    return Made(tally.failures, tally.seconds, n_workers)


def _ray() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise not_installed("ray", "ray") from error
    return ray


@contextmanager
def _cluster(ray: Any, address: str | None, n_workers: int) -> Iterator[None]:
    """Connect to a cluster, or start one here, for a block; the caller's own one is used."""
    if ray.is_initialized():
        yield
        return
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        n_cpus = n_workers or _core.num_threads()
        options |= {"address": "local", "num_cpus": n_cpus, "include_dashboard": False}
    else:
        check_answers(address, "Ray")
        _check_health(address)
        options |= {"address": address}
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, TimeoutError, ValueError) as error:
        raise ShortlistError(
            f"address: Ray cannot be reached at {address or 'this machine'} "
            f"({_first_line(error)}), expected a cluster. Fix: start it, or correct the address"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _check_health(address: str) -> None:
    """Ask a cluster's head, in a process of its own: Ray ends one that it cannot connect."""
    if address.startswith("ray://"):  # a client's errors can be caught
        return
    named = [] if address == "auto" else ["--address", address]
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", *named]
    try:
        code = subprocess.run(command, capture_output=True, timeout=START_SECONDS / 2).returncode
    except subprocess.TimeoutExpired:
        code = 1
    if code != 0:
        raise ShortlistError(
            f"address: what answers at {address} is no healthy Ray, expected the head of a "
            "cluster. Fix: start it, or correct the address; without one, the job runs on this "
            "machine"
        )


class _Makers:
    """Actors that make parts; one that dies is replaced, and what it had is made again.

    Ray's own restarts are not used: it starts an actor without end that dies before its task.
    Tasks go to actors that live alone: a cluster may never have room for some of them.
    """

    def __init__(self, ray: Any, scorer: Scorer, n: int, need: str) -> None:
        self._ray = ray
        self._need = need
        self._new = partial(
            ray.remote(num_cpus=1, num_gpus=int(need == "GPU"))(Maker).remote, scorer
        )
        self._n_tasks: dict[Any, int] = {}  # by actor that is ready
        self._starting: dict[Any, Any] = {}  # by what comes when it is
        self._deaths: Counter[int] = Counter()  # by task; −1: before it was ready
        for _ in range(n):
            self._start()

    def results(self, tasks: Sequence[Task]) -> Iterator[tuple[Done | Failed, dict[str, float]]]:
        """Give each task to the actor that has the fewest, and its result when it comes."""
        waiting, doing = Waiting(tasks), dict[Any, tuple[Any, Task]]()
        while waiting or doing:
            n_actors = len(self._n_tasks) + len(self._starting)
            share = min(_AHEAD, -(-(len(waiting) + len(doing)) // n_actors))
            while waiting and self._n_tasks:
                actor = min(self._n_tasks, key=self._n_tasks.__getitem__)
                if self._n_tasks[actor] >= share:
                    break
                task = waiting.take(actor)
                doing[actor.make.remote(task)] = (actor, task)
                self._n_tasks[actor] += 1
            call = self._first([*doing, *self._starting])
            if call in self._starting:
                self._take_in(call)
                continue
            actor, task = doing.pop(call)
            try:
                result = self._ray.get(call)
            except self._ray.exceptions.RayActorError as error:
                self._bury(actor, task.number, f" at {task.fragment.place}", error)
                waiting.put_back(actor, [task])
                continue
            if actor in self._n_tasks:  # else it died after that
                self._n_tasks[actor] -= 1
            yield result

    def end(self) -> None:
        """End all actors."""
        for one in [*self._n_tasks, *self._starting.values()]:
            self._ray.kill(one)

    def _start(self) -> None:
        actor = self._new()
        self._starting[actor.__ray_ready__.remote()] = actor

    def _first(self, calls: Sequence[Any]) -> Any:
        """Wait for one of some calls, and return it."""
        done, _ = self._ray.wait(calls, timeout=None if self._n_tasks else START_SECONDS)
        if not done:
            raise ShortlistError(
                f"workers: Ray gave none that lived for {START_SECONDS:.0f} seconds: no "
                f"{self._need} was free, or they died as they started; expected one at least. "
                "Finished parts stay. Fix: wait for other jobs, or add machines"
            )
        return done[0]

    def _take_in(self, call: Any) -> None:
        """Let an actor that has started take tasks."""
        actor = self._starting.pop(call)
        try:
            self._ray.get(call)
        except self._ray.exceptions.RayActorError as error:
            self._bury(actor, -1, " as they started", error)
            self._start()
        else:
            self._deaths.pop(-1, None)
            self._n_tasks[actor] = 0

    def _bury(self, actor: Any, number: int, where: str, error: Exception) -> None:
        """Put another actor in the place of a dead one."""
        self._deaths[number] += 1
        if self._deaths[number] > RETRIES:
            raise ShortlistError(
                f"workers: {RETRIES + 1} of Ray's died one after another ({_first_line(error)})"
                f"{where}; expected them to live. Finished parts stay. Fix: if memory ran out, "
                "give fewer workers; then run the same command again"
            ) from error
        if self._n_tasks.pop(actor, None) is not None:  # its other task may have told already
            self._ray.kill(actor)
            self._start()


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
