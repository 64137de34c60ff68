"""Ray as an engine: a job's parts by a pool of actors, and an actor class for Ray Data."""

from __future__ import annotations

import logging
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
    """Makes parts; Ray keeps it as an actor, and starts it again where it dies."""

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
        actor = ray.remote(
            num_cpus=1,
            num_gpus=int(need == "GPU"),
            max_restarts=-1,  # a constructor does nothing, so it ends with a task's retries
            max_task_retries=RETRIES,
        )(Maker)
        actors = [actor.remote(scorer) for _ in range(min(n_workers, len(tasks)))]
        try:
            _await_one(ray, actors, need)
            for result in _results(ray, actors, tasks):
                tally.take([result])
        except ray.exceptions.RayActorError as error:
            raise ShortlistError(
                f"workers: {RETRIES + 1} of Ray's died one after another at the same part "
                f"({_first_line(error)}); expected them to live. Finished parts stay. Fix: if "
                "memory ran out, give fewer workers; then run the same command again"
            ) from error
        except ray.exceptions.RayError as error:
            raise ShortlistError(
                f"engine: Ray could not run a part ({_first_line(error)}). Fix: the same Python "
                "and Shortlist on every machine of the cluster, then run the same command again"
            ) from error
        finally:
            for one in actors:
                ray.kill(one)
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


def _await_one(ray: Any, actors: Sequence[Any], need: str) -> None:
    ready, _ = ray.wait([one.__ray_ready__.remote() for one in actors], timeout=START_SECONDS)
    if not ready:
        raise ShortlistError(
            f"workers: Ray had no free {need} for {START_SECONDS:.0f} seconds, expected one at "
            "least. Fix: wait for other jobs, or add machines"
        )


def _results(ray: Any, actors: Sequence[Any], tasks: Sequence[Task]) -> Iterator[Any]:
    """Give each task to the actor that has the fewest, and its result when it comes."""
    waiting, doing = deque(tasks), dict[Any, Any]()
    n_of = Counter(dict.fromkeys(actors, 0))
    while waiting or doing:
        while waiting and (actor := min(n_of, key=n_of.__getitem__)) and n_of[actor] < _AHEAD:
            doing[actor.make.remote(waiting.popleft())] = actor
            n_of[actor] += 1
        done, _ = ray.wait(list(doing))
        for one in done:
            n_of[doing.pop(one)] -= 1
            yield ray.get(one)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
